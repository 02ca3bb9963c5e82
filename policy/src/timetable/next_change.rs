//! When the calendar's answer changes next. Only a few instants can be a change: the edges of windows
//! and festivals, and changes of the clocks. They are looked at in order.

use jiff::{SignedDuration, Timestamp, ToSpan, civil::Date};

use super::Timetable;
use crate::{time::WallTime, units::ZoneName};

/// Windows repeat weekly wherever no range of dates begins or ends. So a change either comes within
/// two weeks (and a day, for a window that wraps) of now or of such a date, or not at all.
const PERIOD_DAYS: i32 = 16;

/// Days in a row, both ends included.
#[derive(Debug, Clone, Copy)]
struct Days {
    first: Date,
    last: Date,
}

impl Days {
    /// The days around `date`: a day more on either side covers windows that wrap and clocks that are
    /// set back over midnight.
    fn around(date: Date, after: i32) -> Self {
        Self {
            first: date.saturating_add((-2).days()),
            last: date.saturating_add(after.days()),
        }
    }

    fn iter(self) -> impl Iterator<Item = Date> {
        let next = |day: &Date| day.tomorrow().ok();
        std::iter::successors(Some(self.first), next).take_while(move |day| *day <= self.last)
    }
}

impl Timetable {
    /// The first instant after `wall` at which state, window or festival differ from now; none when
    /// nothing changes any more.
    pub fn next_change(&self, wall: WallTime, node_zone: Option<&ZoneName>) -> Option<WallTime> {
        self.days_of_interest(wall)
            .into_iter()
            .find_map(|days| self.change_within(days, wall, node_zone))
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
        let mut stretches = vec![Days::around(today, PERIOD_DAYS)];
        for range in self.windows.iter().flat_map(|window| window.dates()) {
            stretches.push(Days::around(range.start(), PERIOD_DAYS));
            stretches.push(Days::around(range.end(), PERIOD_DAYS));
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
            let touches = next.first <= previous.last.saturating_add(2.days());
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
        let mut candidates: Vec<WallTime> = self
            .edges(days, node_zone)
            .map(WallTime::of)
            // Beyond the last day not every edge is among them, so none may be believed.
            .filter(|candidate| {
                *candidate > wall && self.zone.civil(*candidate).date() <= days.last
            })
            .collect();
        candidates.sort_unstable();
        candidates.dedup();
        candidates
            .into_iter()
            .find(|candidate| self.active(*candidate, node_zone) != now)
    }

    /// Every instant of those days at which something may begin or end, in no order.
    fn edges(&self, days: Days, node_zone: Option<&ZoneName>) -> impl Iterator<Item = Timestamp> {
        let windows = days.iter().flat_map(move |day| {
            self.windows
                .iter()
                .filter(move |window| window.applies_to(node_zone))
                .flat_map(move |window| window.edges(day))
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
            .flat_map(|civil| self.zone.instants(civil))
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
        self.zone
            .changes_after(from)
            .take_while(move |change| *change <= until)
    }
}
