//! Stretches of time in which something holds, or does not.

use std::ops::Range;

use jiff::civil::{Date, DateTime};

use super::{
    Festival, Timetable, Window,
    next_change::{Days, Selection},
};
use crate::time::WallTime;

impl Timetable {
    /// The stretches from `from` to `until` in which a window holds, in order and apart, each with its
    /// first instant and the first one after it. Occurrences that touch are one.
    pub fn window_holds<'t>(
        &'t self,
        window: &'t Window,
        from: WallTime,
        until: WallTime,
    ) -> impl Iterator<Item = Range<WallTime>> + use<'t> {
        let selection = Selection {
            timetable: self,
            windows: vec![window],
            festivals: Vec::new(),
        };
        selection.stretches(true, from, until)
    }

    /// As [`window_holds`](Self::window_holds), of a festival.
    pub fn festival_holds<'t>(
        &'t self,
        festival: &'t Festival,
        from: WallTime,
        until: WallTime,
    ) -> impl Iterator<Item = Range<WallTime>> + use<'t> {
        let selection = Selection {
            timetable: self,
            windows: Vec::new(),
            festivals: vec![festival],
        };
        selection.stretches(true, from, until)
    }

    /// When the occurrence of a window that starts on `date` holds: nothing where none starts, in pieces
    /// where the clocks are changed within it.
    pub fn occurrence<'t>(
        &'t self,
        window: &'t Window,
        date: Date,
    ) -> impl Iterator<Item = Range<WallTime>> + use<'t> {
        let mut edges = window.edges(date, &self.business);
        let start = edges.next().and_then(|start| self.zone.earliest(start));
        let end = edges.next().and_then(|end| self.zone.latest(end));
        let held = start
            .zip(end)
            .map(|(from, until)| self.window_holds(window, from, until));
        held.into_iter().flatten()
    }
}

impl<'t> Selection<'t> {
    /// The stretches from `from` to `until` in which something of it holds, or in which nothing does.
    pub(super) fn stretches(
        self,
        holds: bool,
        from: WallTime,
        until: WallTime,
    ) -> impl Iterator<Item = Range<WallTime>> + use<'t> {
        let zone = &self.timetable.zone;
        let days = Days::from_to(zone.civil(from).date(), zone.civil(until).date());
        let since = (self.holds(zone.civil(from)) == holds).then_some(from);
        // Of a selection of nothing there are no instants either.
        let empty = self.windows.is_empty() && self.festivals.is_empty();
        Stretches {
            selection: self,
            holds,
            pieces: days.pieces().take_while(move |_| !empty),
            instants: Vec::new().into_iter(),
            seen: from,
            since,
            until,
        }
    }

    fn holds(&self, civil: DateTime) -> bool {
        let date = civil.date();
        let mut windows = self.windows.iter();
        let mut festivals = self.festivals.iter();
        windows.any(|window| window.holds(civil, &self.timetable.business))
            || festivals.any(|festival| festival.dates.contains(date))
    }
}

/// Walks from one instant at which something may change to the next.
struct Stretches<'t, P> {
    selection: Selection<'t>,
    /// Whether it is to hold, or nothing of it.
    holds: bool,
    /// Days that are still to be looked at.
    pieces: P,
    /// Of the days that are looked at.
    instants: std::vec::IntoIter<WallTime>,
    seen: WallTime,
    /// The stretch that has begun.
    since: Option<WallTime>,
    until: WallTime,
}

impl<P: Iterator<Item = Days>> Iterator for Stretches<'_, P> {
    type Item = Range<WallTime>;

    fn next(&mut self) -> Option<Range<WallTime>> {
        loop {
            let Some(instant) = self.instants.next() else {
                match self.pieces.next() {
                    Some(days) => {
                        let instants = self.selection.instants_within(days, self.seen);
                        self.instants = instants.into_iter();
                        continue;
                    }
                    None => return self.since.take().map(|since| since..self.until),
                }
            };
            self.seen = instant;
            if instant >= self.until {
                self.pieces.by_ref().for_each(drop);
                self.instants = Vec::new().into_iter();
                continue;
            }
            let civil = self.selection.timetable.zone.civil(instant);
            match (self.since, self.selection.holds(civil) == self.holds) {
                (Some(since), false) => {
                    self.since = None;
                    return Some(since..instant);
                }
                (None, true) => self.since = Some(instant),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        time::{CivilZone, parse_instant},
        timetable::{DateRange, DaySet, Minute, parse_date},
        units::{DisplayName, Multiplier},
    };

    fn window(start: &str, end: &str) -> Window {
        let minute = |text: &str| Minute::parse(text).unwrap();
        Window::new(DisplayName::new("w").unwrap(), minute(start), minute(end)).unwrap()
    }

    fn timetable(zone: CivilZone, window: Window) -> Timetable {
        let festival = Festival {
            name: DisplayName::new("Diwali").unwrap(),
            dates: DateRange::new(
                parse_date("2026-11-08").unwrap(),
                parse_date("2026-11-09").unwrap(),
            )
            .unwrap(),
            factor: Multiplier::ONE,
            holiday: false,
            source: None,
        };
        Timetable::new(zone, vec![window], vec![festival])
    }

    fn kolkata() -> CivilZone {
        CivilZone::new("Asia/Kolkata", "IST-5:30").unwrap()
    }

    fn new_york() -> CivilZone {
        CivilZone::new("America/New_York", "EST5EDT,M3.2.0,M11.1.0").unwrap()
    }

    fn shown(
        timetable: &Timetable,
        stretches: impl Iterator<Item = Range<WallTime>>,
    ) -> Vec<String> {
        let zone = timetable.zone();
        stretches
            .map(|stretch| {
                let (from, until) = (zone.rfc3339(stretch.start), zone.rfc3339(stretch.end));
                format!("{from} {until}")
            })
            .collect()
    }

    fn instant(text: &str) -> WallTime {
        parse_instant(text).unwrap()
    }

    #[test]
    fn a_window_and_a_festival_hold_from_their_first_instant_to_their_last() {
        let monday = DaySet::NONE.with(jiff::civil::Weekday::Monday);
        let timetable = timetable(kolkata(), window("22:00", "02:00").with_days(monday));
        let (from, until) = (
            instant("2026-11-03T01:00+05:30"),
            instant("2026-11-16T23:00+05:30"),
        );
        assert_eq!(
            shown(
                &timetable,
                timetable.window_holds(&timetable.windows()[0], from, until)
            ),
            [
                // It holds already, and it holds still.
                "2026-11-03T01:00:00+05:30 2026-11-03T02:00:00+05:30",
                "2026-11-09T22:00:00+05:30 2026-11-10T02:00:00+05:30",
                "2026-11-16T22:00:00+05:30 2026-11-16T23:00:00+05:30",
            ]
        );
        assert_eq!(
            shown(
                &timetable,
                timetable.festival_holds(&timetable.festivals()[0], from, until)
            ),
            ["2026-11-08T00:00:00+05:30 2026-11-10T00:00:00+05:30"]
        );
    }

    #[test]
    fn a_day_has_the_occurrences_that_start_on_it() {
        let of = |zone: CivilZone, start: &str, end: &str, date: &str| {
            let timetable = timetable(zone, window(start, end));
            let held = timetable.occurrence(&timetable.windows()[0], parse_date(date).unwrap());
            shown(&timetable, held)
        };
        assert_eq!(
            of(kolkata(), "22:00", "02:00", "2026-11-30"),
            ["2026-11-30T22:00:00+05:30 2026-12-01T02:00:00+05:30"]
        );
        // All day, every day: each day has its own.
        assert_eq!(
            of(kolkata(), "00:00", "24:00", "2026-11-30"),
            ["2026-11-30T00:00:00+05:30 2026-12-01T00:00:00+05:30"]
        );
        // An hour that comes twice, and one that never comes.
        assert_eq!(
            of(new_york(), "01:30", "02:30", "2026-11-01"),
            [
                "2026-11-01T01:30:00-04:00 2026-11-01T01:00:00-05:00",
                "2026-11-01T01:30:00-05:00 2026-11-01T02:30:00-05:00",
            ]
        );
        assert_eq!(
            of(new_york(), "02:30", "04:00", "2027-03-14"),
            ["2027-03-14T03:00:00-04:00 2027-03-14T04:00:00-04:00"]
        );
        assert_eq!(of(new_york(), "02:15", "02:45", "2027-03-14"), [""; 0]);
    }
}
