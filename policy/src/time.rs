//! Instants of two clocks, civil time without a time zone database, and durations as people write
//! them.

mod rfc3339;

use std::{fmt::Write as _, time::Duration};

use jiff::{
    Timestamp,
    civil::DateTime,
    tz::{Offset, TimeZone},
};

pub use rfc3339::{format_instant, parse_instant};

use crate::units::{UnitError, malformed, no_unit, time_zone};

/// An instant of the wall clock: milliseconds since 1970-01-01T00:00Z. For calendars only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(i64);

impl WallTime {
    /// From milliseconds since the epoch.
    pub fn from_unix_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// From whole seconds since the epoch.
    pub fn from_unix_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Milliseconds since the epoch.
    pub fn unix_millis(self) -> i64 {
        self.0
    }

    /// Later by `duration`, or the last instant there is.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// Time from here to `later`; zero when that lies behind.
    pub fn until(self, later: Self) -> Duration {
        let millis = later.0.saturating_sub(self.0);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }

    /// The calendar's instant; beyond the years -9999 to 9999 the nearest one inside.
    pub(crate) fn timestamp(self) -> Timestamp {
        Timestamp::from_millisecond(self.0).unwrap_or(if self.0 < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        })
    }

    /// Nothing in a calendar is finer than a second, so no precision is lost.
    pub(crate) fn of(timestamp: Timestamp) -> Self {
        Self(timestamp.as_millisecond())
    }
}

/// An instant of a clock that never goes back: nanoseconds since an arbitrary start. For durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonoTime(u64);

impl MonoTime {
    /// From nanoseconds since the clock's start.
    pub fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's start.
    pub fn nanos(self) -> u64 {
        self.0
    }

    /// Later by `duration`, or the last instant there is.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// Time gone by since `earlier`; zero when that lies ahead.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// One instant on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For the calendar.
    pub wall: WallTime,
    /// For durations.
    pub mono: MonoTime,
}

/// A time zone by its POSIX TZ rule, which holds for ever and needs no database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CivilZone {
    name: Box<str>,
    posix: Box<str>,
    rule: TimeZone,
}

impl CivilZone {
    /// A zone's IANA name (shown to people) and its rule, e.g. `Asia/Kolkata` and `IST-5:30`.
    ///
    /// # Errors
    /// When `posix` is no POSIX TZ rule, or the name is empty, too long or unprintable.
    pub fn new(name: &str, posix: &str) -> Result<Self, UnitError> {
        let printable = name.bytes().all(|byte| byte.is_ascii_graphic());
        if !printable || !(1..=100).contains(&name.len()) {
            return Err(malformed(
                "the name of a time zone such as Asia/Kolkata",
                name,
            ));
        }
        if posix.len() > 100 {
            return Err(time_zone(posix));
        }
        let rule = TimeZone::posix(posix).map_err(|_| time_zone(posix))?;
        Ok(Self {
            name: name.into(),
            posix: posix.into(),
            rule,
        })
    }

    /// Coordinated universal time.
    pub fn utc() -> Self {
        Self {
            name: "UTC".into(),
            posix: "UTC0".into(),
            // The same kind of zone as the parser makes, so that equal zones are equal.
            rule: TimeZone::posix("UTC0").unwrap_or(TimeZone::UTC),
        }
    }

    /// The IANA name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The POSIX TZ rule.
    pub fn posix(&self) -> &str {
        &self.posix
    }

    /// What clocks on the wall show at that instant.
    pub fn civil(&self, at: WallTime) -> DateTime {
        self.rule.to_datetime(at.timestamp())
    }

    /// Seconds east of UTC at that instant.
    pub fn offset(&self, at: WallTime) -> i32 {
        self.rule.to_offset(at.timestamp()).seconds()
    }

    /// RFC 3339 with the zone's offset, to the second: `2026-11-08T18:30:00+05:30`.
    pub fn rfc3339(&self, at: WallTime) -> String {
        let offset = self.offset(at);
        let (sign, east) = if offset < 0 {
            ('-', offset.unsigned_abs())
        } else {
            ('+', offset.unsigned_abs())
        };
        let civil = self.civil(at);
        let (hours, minutes) = (east / 3600, east / 60 % 60);
        format!(
            "{}{sign}{hours:02}:{minutes:02}",
            civil.strftime("%Y-%m-%dT%H:%M:%S")
        )
    }

    /// Every instant at which clocks on the wall show `civil`, in order: none in the hour that a
    /// change of the clocks skips, two in the hour that it repeats.
    pub(crate) fn instants(&self, civil: DateTime) -> impl Iterator<Item = Timestamp> {
        let ambiguous = self.rule.to_ambiguous_timestamp(civil).offset();
        let offsets: [Option<Offset>; 2] = match ambiguous {
            jiff::tz::AmbiguousOffset::Unambiguous { offset } => [Some(offset), None],
            jiff::tz::AmbiguousOffset::Gap { .. } => [None, None],
            jiff::tz::AmbiguousOffset::Fold { before, after } => [Some(before), Some(after)],
        };
        offsets
            .into_iter()
            .flatten()
            .filter_map(move |offset| offset.to_timestamp(civil).ok())
    }

    /// The first instant at which clocks may show `civil`; within a skipped hour, one before it.
    pub(crate) fn earliest(&self, civil: DateTime) -> Option<WallTime> {
        let instant = self.rule.to_ambiguous_timestamp(civil).earlier().ok()?;
        Some(WallTime::of(instant))
    }

    /// The last one; within a skipped hour, one after it.
    pub(crate) fn latest(&self, civil: DateTime) -> Option<WallTime> {
        let instant = self.rule.to_ambiguous_timestamp(civil).later().ok()?;
        Some(WallTime::of(instant))
    }

    /// Changes of the clocks after an instant, in order.
    pub(crate) fn changes_after(&self, at: Timestamp) -> impl Iterator<Item = Timestamp> {
        self.rule.following(at).map(|change| change.timestamp())
    }
}

/// Units of a written duration, the longest first, in nanoseconds.
const UNITS: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

const DURATION_RULE: &str = "a duration such as 250ms, 5s, 1m30s or 1h";

/// Reads `250ms`, `5s`, `1m30s`, `1h`: whole numbers, each with its unit, the longest unit first.
///
/// # Errors
/// Anything else, and more than 584 years.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let wrong = || malformed(DURATION_RULE, text);
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut nanos: u64 = 0;
    if text.is_empty() {
        return Err(wrong());
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(no_unit(text));
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at_checked(digits).ok_or_else(wrong)?;
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at_checked(letters).ok_or_else(wrong)?;
        // Taking from one iterator makes each unit come at most once, and in order.
        let (_, scale) = units.find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        nanos = number
            .checked_mul(*scale)
            .and_then(|part| nanos.checked_add(part))
            .ok_or_else(wrong)?;
        rest = tail;
    }
    Ok(Duration::from_nanos(nanos))
}

/// Writes what [`parse_duration`] reads: `1m30s`, and `0s` for nothing.
pub fn format_duration(duration: Duration) -> String {
    let mut nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    if nanos == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for (unit, scale) in UNITS {
        let count = nanos / scale;
        nanos %= scale;
        if count > 0 {
            // Writing to a String cannot fail.
            let _ = write!(text, "{count}{unit}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_whole_numbers_with_units() {
        let millis = |text: &str| parse_duration(text).map(|duration| duration.as_millis());
        assert_eq!(millis("250ms"), Ok(250));
        assert_eq!(millis("1m30s"), Ok(90_000));
        assert_eq!(millis("1h"), Ok(3_600_000));
        for wrong in [
            "",
            "5",
            "s",
            "5 s",
            "-1s",
            "1.5s",
            "1s1m",
            "5s5s",
            "5x",
            "99999999999999999999s",
            "5é",
        ] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn written_durations_are_read_back(nanos: u64) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,12}") {
            let _ = parse_duration(&text);
            let _ = CivilZone::new("Any", &text);
        }
    }

    #[test]
    fn civil_time_follows_the_rule() {
        let kolkata = CivilZone::new("Asia/Kolkata", "IST-5:30").unwrap();
        let at = WallTime::from_unix_seconds(1_794_142_800); // 2026-11-08T13:00Z
        assert_eq!(kolkata.rfc3339(at), "2026-11-08T18:30:00+05:30");
        assert_eq!(kolkata.offset(at), 19_800);
        let new_york = CivilZone::new("America/New_York", "EST5EDT,M3.2.0,M11.1.0").unwrap();
        assert_eq!(new_york.rfc3339(at), "2026-11-08T08:00:00-05:00");
        assert!(CivilZone::new("Nowhere", "XYZ").is_err());
        assert_eq!(CivilZone::new("UTC", "UTC0"), Ok(CivilZone::utc()));
    }

    #[test]
    fn instants_far_outside_the_calendar_are_its_ends() {
        for millis in [i64::MIN, i64::MAX] {
            CivilZone::utc().civil(WallTime::from_unix_millis(millis));
        }
    }

    #[test]
    fn the_clock_of_durations_never_goes_back() {
        let (early, late) = (MonoTime::from_nanos(5), MonoTime::from_nanos(9));
        assert_eq!(late.saturating_since(early), Duration::from_nanos(4));
        assert_eq!(early.saturating_since(late), Duration::ZERO);
        assert_eq!(
            late.saturating_add(Duration::MAX),
            MonoTime::from_nanos(u64::MAX)
        );
    }
}
