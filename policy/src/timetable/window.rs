//! Peak-hour windows in civil time.

use jiff::civil::{Date, DateTime};

use super::{BusinessDays, DateRange, DaySet, Minute, MonthDays};
use crate::units::{DisplayName, Multiplier, UnitError, ZoneName, malformed};

/// A window `[start, end)` in civil time. One that wraps midnight belongs to the day on which it
/// starts: its days and dates are asked about that day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    name: DisplayName,
    start: Minute,
    end: Minute,
    zone: Option<ZoneName>,
    days: DaySet,
    dates: Vec<DateRange>,
    monthly: MonthDays,
    except_holidays: bool,
    multiplier: Multiplier,
}

impl Window {
    /// A window of every day for every zone, with multiplier 1.
    ///
    /// # Errors
    /// When it begins at its own end, or at `24:00`.
    pub fn new(name: DisplayName, start: Minute, end: Minute) -> Result<Self, UnitError> {
        if start == end {
            return Err(malformed(
                "a window whose start differs from its end (00:00-24:00 for all day)",
                &format!("{start}-{end}"),
            ));
        }
        if start == Minute::END_OF_DAY {
            return Err(malformed(
                "a window that starts before 24:00 (00:00 is the next day's start)",
                &format!("{start}-{end}"),
            ));
        }
        Ok(Self {
            name,
            start,
            end,
            zone: None,
            days: DaySet::ALL,
            dates: Vec::new(),
            monthly: MonthDays::ANY,
            except_holidays: false,
            multiplier: Multiplier::ONE,
        })
    }

    /// Only for nodes of `zone`, and for nodes without one.
    #[must_use]
    pub fn with_zone(mut self, zone: Option<ZoneName>) -> Self {
        self.zone = zone;
        self
    }

    /// Only when it starts on one of `days`.
    #[must_use]
    pub fn with_days(mut self, days: DaySet) -> Self {
        self.days = days;
        self
    }

    /// Only when it starts within one of `dates`; empty means any date.
    #[must_use]
    pub fn with_dates(mut self, dates: Vec<DateRange>) -> Self {
        self.dates = dates;
        self
    }

    /// Only when it starts on one of these days of a month.
    #[must_use]
    pub fn with_monthly(mut self, monthly: MonthDays) -> Self {
        self.monthly = monthly;
        self
    }

    /// Not when it would start on a holiday.
    #[must_use]
    pub fn with_except_holidays(mut self, except_holidays: bool) -> Self {
        self.except_holidays = except_holidays;
        self
    }

    /// How much more traffic it brings.
    #[must_use]
    pub fn with_multiplier(mut self, multiplier: Multiplier) -> Self {
        self.multiplier = multiplier;
        self
    }

    /// What people call it.
    pub fn name(&self) -> &DisplayName {
        &self.name
    }

    /// Its first minute.
    pub fn start(&self) -> Minute {
        self.start
    }

    /// The minute after its last one; before [`start`](Self::start) when it wraps midnight.
    pub fn end(&self) -> Minute {
        self.end
    }

    /// The zone it is for; none means all.
    pub fn zone(&self) -> Option<&ZoneName> {
        self.zone.as_ref()
    }

    /// The days on which it starts.
    pub fn days(&self) -> DaySet {
        self.days
    }

    /// The dates on which it starts; empty means any.
    pub fn dates(&self) -> &[DateRange] {
        &self.dates
    }

    /// The days of a month on which it starts.
    pub fn monthly(&self) -> MonthDays {
        self.monthly
    }

    /// Whether it does not start on holidays.
    pub fn except_holidays(&self) -> bool {
        self.except_holidays
    }

    /// Whether holidays change when it starts.
    pub fn asks_for_holidays(&self) -> bool {
        self.except_holidays || self.monthly.has_last_business_day()
    }

    /// How much more traffic it brings.
    pub fn multiplier(&self) -> Multiplier {
        self.multiplier
    }

    /// Whether nodes of a zone see it; a node without a zone sees every window.
    pub fn applies_to(&self, node_zone: Option<&ZoneName>) -> bool {
        match (&self.zone, node_zone) {
            (Some(zone), Some(node_zone)) => zone == node_zone,
            (None, _) | (_, None) => true,
        }
    }

    /// Whether it holds when clocks on the wall show `civil`.
    pub(super) fn holds(&self, civil: DateTime, business: &BusinessDays) -> bool {
        let (date, minute) = (civil.date(), Minute::of(civil.time()));
        if self.start < self.end {
            return self.start <= minute && minute < self.end && self.starts_on(date, business);
        }
        let since_today = self.start <= minute && self.starts_on(date, business);
        let since_yesterday = minute < self.end
            && date
                .yesterday()
                .is_ok_and(|yesterday| self.starts_on(yesterday, business));
        since_today || since_yesterday
    }

    /// Start and end of the occurrence that starts on `date`, in civil time, if there is one.
    pub(super) fn edges(
        &self,
        date: Date,
        business: &BusinessDays,
    ) -> impl Iterator<Item = DateTime> + use<> {
        let wraps = self.end < self.start;
        let end_date = if wraps {
            date.tomorrow().ok()
        } else {
            Some(date)
        };
        let edges = [
            self.start.on(date),
            end_date.and_then(|end_date| self.end.on(end_date)),
        ];
        let starts = self.starts_on(date, business);
        edges.into_iter().flatten().filter(move |_| starts)
    }

    /// Whether an occurrence starts on `date`.
    pub(super) fn starts_on(&self, date: Date, business: &BusinessDays) -> bool {
        self.days.contains(date.weekday())
            && (self.dates.is_empty() || self.dates.iter().any(|range| range.contains(date)))
            && self.monthly.contains(date, business)
            && !(self.except_holidays && business.is_holiday(date))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_ends_where_it_starts_is_refused_with_the_fix() {
        let minute = |text: &str| Minute::parse(text).unwrap();
        let window = |start: &str, end: &str| {
            Window::new(DisplayName::new("w").unwrap(), minute(start), minute(end))
        };
        let error = window("07:00", "07:00").unwrap_err().to_string();
        assert!(error.contains("00:00-24:00 for all day"), "{error}");
        assert!(window("24:00", "07:00").is_err());
        assert!(window("00:00", "24:00").is_ok());
    }
}
