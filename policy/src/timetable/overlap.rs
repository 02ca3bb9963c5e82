//! Windows that hold at the same time. Only one of them is a request's: the higher multiplier wins, then
//! the name.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::{Date, DateTime};

use super::{Timetable, Window};
use crate::{time::WallTime, units::ZoneName};

/// Two windows of a timetable, by index, and the first day on which both hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap {
    /// The one whose name comes first.
    pub first: usize,
    /// The other one.
    pub second: usize,
    /// When the later of the two starts.
    pub date: Date,
}

impl Timetable {
    /// Windows that are for the same zone, or both for all zones, and share a minute within `days` days
    /// from an instant on: the first `most` pairs. A window never overlaps itself: it is shorter than a day.
    pub fn overlaps(&self, from: WallTime, days: u16, most: usize) -> Vec<Overlap> {
        let today = self.zone.civil(from).date();
        let dates = std::iter::successors(Some(today), |date| date.tomorrow().ok());
        let mut overlaps = Vec::new();
        let mut known = BTreeSet::new();
        // Of each zone, those that hold; also those of yesterday that wrap.
        let mut running: BTreeMap<Option<&ZoneName>, Vec<Running>> = BTreeMap::new();
        for date in dates.take(days.into()) {
            for (start, end, index) in self.occurrences(date) {
                let zone = self.windows.get(index).and_then(Window::zone);
                let running = running.entry(zone).or_default();
                running.retain(|other| other.end > start);
                for other in running.iter().filter(|other| other.index != index) {
                    let (first, second) = (index.min(other.index), index.max(other.index));
                    if known.insert((first, second)) {
                        overlaps.push(Overlap {
                            first,
                            second,
                            date: start.date(),
                        });
                    }
                    if overlaps.len() >= most {
                        return overlaps;
                    }
                }
                running.push(Running { index, end });
            }
        }
        overlaps
    }

    /// Start, end and index of each window that starts on a day, in the order of their starts.
    fn occurrences(&self, date: Date) -> Vec<(DateTime, DateTime, usize)> {
        let windows = self.windows.iter().enumerate();
        let occurrences = windows.filter_map(|(index, window)| {
            let mut edges = window.edges(date, &self.business);
            Some((edges.next()?, edges.next()?, index))
        });
        let mut occurrences: Vec<_> = occurrences.collect();
        occurrences.sort_unstable_by_key(|(start, _, index)| (*start, *index));
        occurrences
    }
}

/// A window that has started.
struct Running {
    index: usize,
    end: DateTime,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        reader::{Problems, Reader},
        shapes::read_peak_hours,
        time::{CivilZone, parse_instant},
    };

    fn overlaps(windows: &Value) -> Vec<String> {
        let problems = Problems::new();
        let windows = read_peak_hours(Reader::root(windows, &problems));
        assert_eq!(problems.into_vec(), []);
        let timetable = Timetable::new(CivilZone::utc(), windows, Vec::new());
        let from = parse_instant("2026-11-25T12:00Z").unwrap();
        let found = timetable.overlaps(from, 400, 100);
        let name = |index: usize| timetable.windows()[index].name();
        found
            .iter()
            .map(|overlap| {
                let (first, second) = (name(overlap.first), name(overlap.second));
                format!("{first} {second} {}", overlap.date)
            })
            .collect()
    }

    #[test]
    fn windows_that_meet_or_are_for_other_zones_or_days_do_not_overlap() {
        let apart = json!({
            "a": {"start": 7, "end": 11},
            "b": {"start": 11, "end": 12},
            "c": {"start": 8, "end": 9, "zone": "mumbai-west"},
            "d": {"start": 13, "end": 15, "days": ["mon"]},
            "e": {"start": 14, "end": 16, "days": ["tue"]},
            "f": {"start": 20, "end": 24},
            "g": {"start": 0, "end": 7},
        });
        assert_eq!(overlaps(&apart), [""; 0]);
    }

    #[test]
    fn the_first_shared_minute_counts_across_midnight_too() {
        let night = json!({
            "night": {"start": 22, "end": 6, "days": ["sat"]},
            "early": {"start": 5, "end": 7, "days": ["sun", "mon"]},
            "late": {"start": 21, "end": "22:30", "dates": ["2026-12-05"]},
        });
        // Saturday the 28th runs into Sunday.
        assert_eq!(
            overlaps(&night),
            ["early night 2026-11-29", "late night 2026-12-05"]
        );
        let salary = json!({
            "salary-day": {"start": 9, "end": 12, "monthly": ["last-business-day"]},
            "tuesday": {"start": 11, "end": 13, "days": ["tue"]},
        });
        assert_eq!(overlaps(&salary), ["salary-day tuesday 2027-08-31"]);
    }

    #[test]
    fn no_more_pairs_than_wanted_are_found() {
        let all_day = || json!({"start": 0, "end": 24});
        let names = [
            "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o",
        ];
        let windows = names.map(|name| (name.to_string(), all_day()));
        let found = overlaps(&Value::Object(windows.into_iter().collect()));
        // Of 105.
        assert_eq!(found.len(), 100);
    }
}
