//! Times of a day, days of a week, days of a month.

use std::fmt;

use jiff::civil::{Date, DateTime, Time, Weekday};

use super::BusinessDays;
use crate::units::{UnitError, malformed};

/// Minutes in a day.
const DAY: u16 = 24 * 60;

/// A minute of the day, `0..=1440`; 1440 is the day's end, `24:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Minute(u16);

impl Minute {
    /// The first minute of a day.
    pub const MIDNIGHT: Self = Self(0);
    /// `24:00`.
    pub const END_OF_DAY: Self = Self(DAY);

    /// From hours `0..=24` and minutes `0..=59`, at most `24:00`.
    ///
    /// # Errors
    /// Outside that range.
    pub fn new(hours: u16, minutes: u16) -> Result<Self, UnitError> {
        match hours
            .checked_mul(60)
            .and_then(|hours| hours.checked_add(minutes))
        {
            Some(sum) if minutes < 60 && sum <= DAY => Ok(Self(sum)),
            _ => Err(UnitError::OutOfRange {
                range: "a time of day from 00:00 to 24:00",
                found: format!("{hours}:{minutes:02}"),
            }),
        }
    }

    /// From `7`, `07:00` or `24:00`.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let wrong = || malformed("a time of day from 00:00 to 24:00, such as 07:30", text);
        let number = |digits: &str| {
            let plain =
                (1..=2).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
            if plain {
                digits.parse::<u16>().ok()
            } else {
                None
            }
        };
        let (hours, minutes) = text.split_once(':').unwrap_or((text, "00"));
        if minutes.len() != 2 {
            return Err(wrong());
        }
        let (hours, minutes) = number(hours).zip(number(minutes)).ok_or_else(wrong)?;
        Self::new(hours, minutes).map_err(|_| wrong())
    }

    /// Minutes since the day's beginning, `0..=1440`.
    pub fn get(self) -> u16 {
        self.0
    }

    /// The civil time at which a day reaches this minute; `24:00` is the next day's beginning. None
    /// on the calendar's last day only.
    pub(super) fn on(self, date: Date) -> Option<DateTime> {
        if self.0 == DAY {
            return Some(date.tomorrow().ok()?.to_datetime(Time::midnight()));
        }
        let (hours, minutes) = (
            i8::try_from(self.0 / 60).ok()?,
            i8::try_from(self.0 % 60).ok()?,
        );
        Some(date.to_datetime(Time::new(hours, minutes, 0, 0).ok()?))
    }

    pub(super) fn of(time: Time) -> Self {
        let minute = |part: i8| u16::try_from(part).unwrap_or_default();
        Self(minute(time.hour()) * 60 + minute(time.minute()))
    }
}

impl fmt::Display for Minute {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// Days of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DaySet(u8);

impl DaySet {
    /// The whole week.
    pub const ALL: Self = Self(0b111_1111);
    /// No day yet.
    pub const NONE: Self = Self(0);

    const NAMES: [(Weekday, &'static str); 7] = [
        (Weekday::Monday, "mon"),
        (Weekday::Tuesday, "tue"),
        (Weekday::Wednesday, "wed"),
        (Weekday::Thursday, "thu"),
        (Weekday::Friday, "fri"),
        (Weekday::Saturday, "sat"),
        (Weekday::Sunday, "sun"),
    ];

    /// The day that `mon` … `sun` names.
    ///
    /// # Errors
    /// Any other word.
    pub fn parse_day(name: &str) -> Result<Weekday, UnitError> {
        Self::NAMES
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(day, _)| *day)
            .ok_or_else(|| malformed("mon, tue, wed, thu, fri, sat or sun", name))
    }

    /// These days and `day`.
    #[must_use]
    pub fn with(self, day: Weekday) -> Self {
        Self(self.0 | Self::bit(day))
    }

    /// Whether `day` is one of them.
    pub fn contains(self, day: Weekday) -> bool {
        self.0 & Self::bit(day) != 0
    }

    /// `mon` … `sun`, from Monday on.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .into_iter()
            .filter(move |(day, _)| self.contains(*day))
            .map(|(_, name)| name)
    }

    fn bit(day: Weekday) -> u8 {
        1 << day.to_monday_zero_offset()
    }
}

/// Days of the month; empty means every day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MonthDays {
    /// Bit 1 is the first, bit 31 the thirty-first.
    numbers: u32,
    last_business_day: bool,
}

impl MonthDays {
    /// Every day.
    pub const ANY: Self = Self {
        numbers: 0,
        last_business_day: false,
    };
    /// The format's word for the last day of a month from Monday to Friday that is no holiday.
    pub const LAST_BUSINESS_DAY: &'static str = "last-business-day";
    /// The last number that a day of a month has.
    pub const LAST: u8 = 31;

    /// These days and the one of that number, `1..=31`; another number is no day.
    #[must_use]
    pub fn with(mut self, number: u8) -> Self {
        if (1..=Self::LAST).contains(&number) {
            self.numbers |= 1 << number;
        }
        self
    }

    /// These days and the month's last business day.
    #[must_use]
    pub fn with_last_business_day(mut self) -> Self {
        self.last_business_day = true;
        self
    }

    /// Whether every day is meant.
    pub fn is_any(self) -> bool {
        self == Self::ANY
    }

    /// Numbers of days, in order.
    pub fn numbers(self) -> impl Iterator<Item = u8> {
        (1..=Self::LAST).filter(move |number| self.numbers & (1 << number) != 0)
    }

    /// Whether the last business day is one of them.
    pub fn has_last_business_day(self) -> bool {
        self.last_business_day
    }

    /// Whether `date` is one of them.
    pub fn contains(self, date: Date, business: &BusinessDays) -> bool {
        self.is_any()
            || self.numbers & (1 << date.day()) != 0
            || (self.last_business_day && business.is_last_of_its_month(date))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_day_are_hours_or_hours_and_minutes() {
        let minutes = |text: &str| Minute::parse(text).map(Minute::get).ok();
        assert_eq!(minutes("7"), Some(420));
        assert_eq!(minutes("07:30"), Some(450));
        assert_eq!(minutes("24:00"), Some(1440));
        assert_eq!(minutes("24"), Some(1440));
        for wrong in [
            "", "24:01", "7:5", "25", "-1", "7:60", "7:000", "+7", "x", "٧",
        ] {
            assert_eq!(minutes(wrong), None, "{wrong}");
        }
        assert_eq!(Minute::parse("7").unwrap().to_string(), "07:00");
    }

    #[test]
    fn days_have_short_names() {
        let weekend = DaySet::NONE.with(Weekday::Sunday).with(Weekday::Saturday);
        assert_eq!(weekend.names().collect::<Vec<_>>(), ["sat", "sun"]);
        assert_eq!(DaySet::ALL.names().count(), 7);
        assert!(DaySet::parse_day("funday").is_err());
    }

    #[test]
    fn days_of_a_month_are_numbers_and_the_last_business_day() {
        let business = BusinessDays::default();
        let date = |text: &str| crate::timetable::parse_date(text).unwrap();
        assert!(MonthDays::ANY.contains(date("2026-11-02"), &business));
        let days = MonthDays::ANY.with(31).with(1).with(32);
        assert_eq!(days.numbers().collect::<Vec<_>>(), [1, 31]);
        assert!(days.contains(date("2026-10-31"), &business));
        assert!(!days.contains(date("2026-11-30"), &business));
        let last = MonthDays::ANY.with_last_business_day();
        assert!(
            last.contains(date("2026-10-30"), &business),
            "the 31st is a Saturday"
        );
        assert!(!last.contains(date("2026-10-29"), &business));
    }
}
