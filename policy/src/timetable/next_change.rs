//! When the calendar's answer changes next. Only a few instants can be a change: the edges of windows
//! and festivals, and changes of the clocks. They are looked at in order.

use jiff::{SignedDuration, Timestamp, civil::Date};

use super::{Festival, Timetable, Window};
use crate::{time::WallTime, units::ZoneName};

/// Windows repeat weekly wherever no range of dates begins or ends. So a change either comes within
/// two weeks (and a day, for a window that wraps) of now or of such a date, or not at all.
const WEEKLY_PERIOD_DAYS: i32 = 16;

/// Where windows name days of the month: the 31st is the same day of the week again after 609 days at
/// most, and no other day of a month, nor a last business day, takes longer. And two weeks, as above.
const MONTHLY_PERIOD_DAYS: i32 = 625;

/// So many days are looked at in one piece: tomorrow's end lies in the first.
const PIECE_DAYS_LEAST: i32 = 4;
const PIECE_DAYS_MOST: i32 = 64;

/// Not by a span of the calendar library, which panics at bad numbers: its words on errors alone are a
/// third of the filter.
fn plus_days(date: Date, days: i32) -> Date {
    date.saturating_add(SignedDuration::from_secs(i64::from(days) * 24 * 60 * 60))
}

/// Days in a row, both ends included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Days {
    first: Date,
    last: Date,
}

impl Days {
    /// The days around `date`: a day more on either side covers windows that wrap and clocks that are
    /// set back over midnight.
    pub(super) fn around(date: Date, after: i32) -> Self {
        Self {
            first: plus_days(date, -2),
            last: plus_days(date, after),
        }
    }
    /// All days from one to another, with a margin before them.
    pub(super) fn from_to(first: Date, last: Date) -> Self {
        let around = Self::around(first, 2);
        Self {
            last: around.last.max(plus_days(last, 2)),
            ..around
        }
    }

    fn iter(self) -> impl Iterator<Item = Date> {
        let next = |day: &Date| day.tomorrow().ok();
        std::iter::successors(Some(self.first), next).take_while(move |day| *day <= self.last)
    }

    /// The same days in pieces, each of which begins so early that it knows all that comes after the
    /// one before. They grow, since most answers lie near.
    pub(super) fn pieces(self) -> impl Iterator<Item = Self> {
        let piece = move |first: Date, days: i32| Self {
            first,
            last: self.last.min(plus_days(first, days)),
        };
        let next = move |(before, days): &(Self, i32)| {
            let days = PIECE_DAYS_MOST.min(days * 2);
            let overlapping = || piece(plus_days(before.last, -2), days);
            (before.last < self.last).then(|| (overlapping(), days))
        };
        let first = (piece(self.first, PIECE_DAYS_LEAST), PIECE_DAYS_LEAST);
        std::iter::successors(Some(first), next).map(|(piece, _)| piece)
    }
}

/// Some windows and festivals of a timetable.
pub(super) struct Selection<'t> {
    pub(super) timetable: &'t Timetable,
    pub(super) windows: Vec<&'t Window>,
    pub(super) festivals: Vec<&'t Festival>,
}

impl Timetable {
    /// The first instant after `wall` at which state, window or festival differ from now; none when
    /// nothing changes any more.
    pub fn next_change(&self, wall: WallTime, node_zone: Option<&ZoneName>) -> Option<WallTime> {
        let mut pieces = self
            .days_of_interest(wall)
            .into_iter()
            .flat_map(Days::pieces);
        pieces.find_map(|days| self.change_within(days, wall, node_zone))
    }

    /// As [`next_change`](Self::next_change), but surely only within the next 24 hours.
    pub(super) fn change_within_a_day(
        &self,
        wall: WallTime,
        node_zone: Option<&ZoneName>,
    ) -> Option<WallTime> {
        let today = self.zone.civil(wall).date();
        self.change_within(Days::around(today, 2), wall, node_zone)
    }

    /// Stretches of days in which a change may lie, in order and apart.
    fn days_of_interest(&self, wall: WallTime) -> Vec<Days> {
        let today = self.zone.civil(wall).date();
        let monthly = self.windows.iter().any(|window| !window.monthly().is_any());
        let period = match monthly {
            true => MONTHLY_PERIOD_DAYS,
            false => WEEKLY_PERIOD_DAYS,
        };
        let mut stretches = vec![Days::around(today, period)];
        let holidays = match self.windows.iter().any(Window::asks_for_holidays) {
            true => self.business.holidays(),
            false => &[],
        };
        let dates = self.windows.iter().flat_map(|window| window.dates());
        for range in dates.chain(holidays) {
            stretches.push(Days::around(range.start(), period));
            stretches.push(Days::around(range.end(), period));
        }
        for festival in &self.festivals {
            stretches.push(Days::around(festival.dates.start(), 2));
            stretches.push(Days::around(festival.dates.end(), 2));
        }
        let begun = Days::around(today, 0).first;
        stretches.retain(|days| begun <= days.last);
        stretches.sort_by_key(|days| days.first);
        stretches.dedup_by(|next, previous| {
            // The edges of two stretches that touch could come in the wrong order.
            let touches = next.first <= plus_days(previous.last, 2);
            if touches {
                previous.last = previous.last.max(next.last);
            }
            touches
        });
        stretches
    }

    fn change_within(
        &self,
        days: Days,
        wall: WallTime,
        node_zone: Option<&ZoneName>,
    ) -> Option<WallTime> {
        let now = self.active(wall, node_zone);
        let windows = self.windows.iter();
        let selection = Selection {
            timetable: self,
            windows: windows
                .filter(|window| window.applies_to(node_zone))
                .collect(),
            festivals: self.festivals.iter().collect(),
        };
        let candidates = selection.instants_within(days, wall);
        candidates
            .into_iter()
            .find(|candidate| self.active(*candidate, node_zone) != now)
    }
}

impl Selection<'_> {
    /// Every instant after `wall`, up to the end of those days, at which something of it may begin or
    /// end, in order.
    pub(super) fn instants_within(&self, days: Days, wall: WallTime) -> Vec<WallTime> {
        let zone = &self.timetable.zone;
        let mut instants: Vec<WallTime> = self
            .edges(days)
            .map(WallTime::of)
            // Beyond the last day not every edge is among them, so none may be believed.
            .filter(|instant| *instant > wall && zone.civil(*instant).date() <= days.last)
            .collect();
        instants.sort_unstable();
        instants.dedup();
        instants
    }

    /// Every instant of those days at which something may begin or end, in no order.
    fn edges(&self, days: Days) -> impl Iterator<Item = Timestamp> {
        let business = &self.timetable.business;
        let windows = days.iter().flat_map(move |day| {
            let windows = self.windows.iter();
            windows.flat_map(move |window| window.edges(day, business))
        });
        let festivals = self.festivals.iter().flat_map(move |festival| {
            let after = festival.dates.end().tomorrow().ok();
            [Some(festival.dates.start()), after]
                .into_iter()
                .flatten()
                .filter(move |day| days.first <= *day && *day <= days.last)
                .map(|day| day.to_datetime(jiff::civil::Time::midnight()))
        });
        windows
            .chain(festivals)
            .flat_map(|civil| self.timetable.zone.instants(civil))
            .chain(self.clock_changes(days))
    }

    /// Changes of the clocks in those days: they may skip an edge or repeat one.
    fn clock_changes(&self, days: Days) -> impl Iterator<Item = Timestamp> {
        // Civil days as UTC, with more than the largest offset (26 h) to spare.
        let margin = SignedDuration::from_hours(48);
        let instant = |day: Date| {
            let midnight = day.to_datetime(jiff::civil::Time::midnight());
            jiff::tz::Offset::UTC.to_timestamp(midnight).ok()
        };
        let from = instant(days.first)
            .and_then(|first| first.checked_sub(margin).ok())
            .unwrap_or(Timestamp::MIN);
        let until = instant(days.last)
            .and_then(|last| last.checked_add(margin).ok())
            .unwrap_or(Timestamp::MAX);
        let changes = self.timetable.zone.changes_after(from);
        changes.take_while(move |change| *change <= until)
    }
}
