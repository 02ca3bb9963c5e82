//! Peak-hour windows in civil time.

use std::fmt;

use jiff::civil::{Date, DateTime, Time, Weekday};

use super::DateRange;
use crate::units::{DisplayName, Multiplier, UnitError, ZoneName, malformed};

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

    fn of(time: Time) -> Self {
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

/// A window `[start, end)` in civil time. One that wraps midnight belongs to the day on which it
/// starts: `days` and `dates` are asked about that day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    name: DisplayName,
    start: Minute,
    end: Minute,
    zone: Option<ZoneName>,
    days: DaySet,
    dates: Vec<DateRange>,
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
    pub fn holds(&self, civil: DateTime) -> bool {
        let (date, minute) = (civil.date(), Minute::of(civil.time()));
        if self.start < self.end {
            return self.start <= minute && minute < self.end && self.starts_on(date);
        }
        let since_today = self.start <= minute && self.starts_on(date);
        let since_yesterday = minute < self.end
            && date
                .yesterday()
                .is_ok_and(|yesterday| self.starts_on(yesterday));
        since_today || since_yesterday
    }

    /// Start and end of the occurrence that starts on `date`, in civil time, if there is one.
    pub(super) fn edges(&self, date: Date) -> impl Iterator<Item = DateTime> {
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
        let starts = self.starts_on(date);
        edges.into_iter().flatten().filter(move |_| starts)
    }

    fn starts_on(&self, date: Date) -> bool {
        self.days.contains(date.weekday())
            && (self.dates.is_empty() || self.dates.iter().any(|range| range.contains(date)))
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
