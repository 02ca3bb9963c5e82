//! Holidays, and the days on which business is done.

use jiff::civil::{Date, Weekday};

use super::DateRange;
use crate::units::DisplayName;

/// Days on which banks rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holiday {
    /// What people call it.
    pub name: DisplayName,
    /// Its days, both ends included, in the mesh's own time zone.
    pub dates: DateRange,
    /// Where its date comes from, for people.
    pub source: Option<String>,
}

/// Business is done from Monday to Friday, but for holidays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BusinessDays {
    /// In order, and apart.
    holidays: Vec<DateRange>,
}

impl BusinessDays {
    /// With these holidays, which may overlap.
    pub fn new(holidays: impl IntoIterator<Item = DateRange>) -> Self {
        let mut apart: Vec<DateRange> = Vec::new();
        for mut range in holidays {
            // Those that it overlaps become part of it.
            let first = apart.partition_point(|known| known.end() < range.start());
            let after = apart.partition_point(|known| known.start() <= range.end());
            for known in apart.drain(first..after.max(first)) {
                range = range.joined_with(known);
            }
            apart.insert(first, range);
        }
        Self { holidays: apart }
    }

    /// Holidays in order, none overlapping another.
    pub fn holidays(&self) -> &[DateRange] {
        &self.holidays
    }

    /// Whether `date` is a holiday.
    pub fn is_holiday(&self, date: Date) -> bool {
        let begun = self.holidays.partition_point(|range| range.start() <= date);
        let last = begun
            .checked_sub(1)
            .and_then(|last| self.holidays.get(last));
        last.is_some_and(|range| range.contains(date))
    }

    /// Whether business is done on `date`.
    pub fn is_business_day(&self, date: Date) -> bool {
        let weekend = matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday);
        !weekend && !self.is_holiday(date)
    }

    /// Whether `date` is the last of its month on which business is done.
    pub fn is_last_of_its_month(&self, date: Date) -> bool {
        let later = std::iter::successors(date.tomorrow().ok(), |day| day.tomorrow().ok())
            .take_while(|day| day.month() == date.month());
        self.is_business_day(date) && !later.into_iter().any(|day| self.is_business_day(day))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timetable::parse_date;

    fn date(text: &str) -> Date {
        parse_date(text).unwrap()
    }

    fn range(first: &str, last: &str) -> DateRange {
        DateRange::new(date(first), date(last)).unwrap()
    }

    #[test]
    fn overlapping_holidays_are_one() {
        let business = BusinessDays::new(vec![
            range("2026-11-09", "2026-11-10"),
            range("2026-11-06", "2026-11-09"),
            range("2026-11-07", "2026-11-07"),
        ]);
        assert_eq!(business.holidays(), [range("2026-11-06", "2026-11-10")]);
        assert!(!business.is_holiday(date("2026-11-05")));
        assert!(business.is_holiday(date("2026-11-06")));
        assert!(business.is_holiday(date("2026-11-10")));
        assert!(!business.is_holiday(date("2026-11-11")));
    }

    #[test]
    fn the_last_business_day_comes_before_weekends_and_holidays() {
        let plain = BusinessDays::default();
        assert!(plain.is_last_of_its_month(date("2026-11-30")), "a Monday");
        assert!(
            plain.is_last_of_its_month(date("2026-05-29")),
            "before a weekend"
        );
        assert!(!plain.is_last_of_its_month(date("2026-05-31")));
        let holiday = BusinessDays::new(vec![range("2026-11-27", "2026-12-01")]);
        assert!(holiday.is_last_of_its_month(date("2026-11-26")));
        assert!(!holiday.is_last_of_its_month(date("2026-11-30")));
        // A month without business has no last day of it.
        let closed = BusinessDays::new(vec![range("2026-11-01", "2026-11-30")]);
        let november = (1..=30).map(|day| Date::new(2026, 11, day).unwrap());
        assert!(
            november
                .into_iter()
                .all(|day| !closed.is_last_of_its_month(day))
        );
    }
}
