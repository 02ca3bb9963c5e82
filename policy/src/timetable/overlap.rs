//! Windows that hold at the same time. Only one of them is a request's: the higher multiplier wins, then
//! the name.

use jiff::civil::Date;

use super::{Timetable, Window};
use crate::time::WallTime;

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
    /// from an instant on. A window never overlaps itself: it is shorter than a day.
    pub fn overlaps(&self, from: WallTime, days: u16) -> Vec<Overlap> {
        let today = self.zone.civil(from).date();
        let dates = std::iter::successors(Some(today), |date| date.tomorrow().ok());
        let mut overlaps: Vec<Overlap> = Vec::new();
        let mut running = Vec::new();
        for date in dates.take(days.into()) {
            // Those of yesterday that wrap are still running.
            running.retain(|(_, _, end)| *end > date.at(0, 0, 0, 0));
            for (index, window) in self.windows.iter().enumerate() {
                let mut edges = window.edges(date, &self.business);
                let (Some(start), Some(end)) = (edges.next(), edges.next()) else {
                    continue;
                };
                for (other, other_start, other_end) in &running {
                    let zone = self.windows.get(*other).map(Window::zone);
                    let apart = *other_start >= end || start >= *other_end;
                    if apart || *other == index || zone != Some(window.zone()) {
                        continue;
                    }
                    let overlap = Overlap {
                        first: index.min(*other),
                        second: index.max(*other),
                        date: start.max(*other_start).date(),
                    };
                    let pair = |of: &Overlap| (of.first, of.second);
                    if !overlaps.iter().any(|known| pair(known) == pair(&overlap)) {
                        overlaps.push(overlap);
                    }
                }
                running.push((index, start, end));
            }
        }
        overlaps
    }
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
        let found = timetable.overlaps(from, 400);
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
}
