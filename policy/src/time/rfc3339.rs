//! Instants as people write them. A parser of our own: the calendar library's brings its whole grammar
//! into the filter.

use jiff::civil::Time;

use super::{CivilZone, WallTime};
use crate::{
    timetable::parse_date,
    units::{UnitError, malformed},
};

const RULE: &str = "an RFC 3339 time with an offset, such as 2026-11-08T18:30+05:30";
const MINUTE_MILLIS: i64 = 60_000;

/// Reads RFC 3339 in the years 1900 to 2999; seconds may be left out, an offset may not.
///
/// # Errors
/// Anything else, with an example.
pub fn parse_instant(text: &str) -> Result<WallTime, UnitError> {
    instant(text).ok_or_else(|| malformed(RULE, text))
}

/// Writes what [`parse_instant`] reads, in UTC: `2026-11-08T13:00:00Z`, with milliseconds where there
/// are any.
pub fn format_instant(at: WallTime) -> String {
    let text = CivilZone::utc().rfc3339(at);
    let text = text.strip_suffix("+00:00").unwrap_or(&text);
    match at.unix_millis().rem_euclid(1000) {
        0 => format!("{text}Z"),
        millis => format!("{text}.{millis:03}Z"),
    }
}

fn instant(text: &str) -> Option<WallTime> {
    let (date, rest) = text.split_at_checked("2026-11-08".len())?;
    let date = parse_date(date).ok()?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (time, offset) = rest.split_at_checked(rest.find(['Z', 'z', '+', '-'])?)?;
    let (clock, fraction) = match time.split_once('.') {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (time, None),
    };
    let mut parts = clock.split(':').map(two_digits);
    let (hours, minutes) = (parts.next()??, parts.next()??);
    let seconds = match parts.next() {
        Some(seconds) => seconds?,
        None if fraction.is_none() => 0,
        None => return None,
    };
    if parts.next().is_some() {
        return None;
    }
    let civil = date.to_datetime(Time::new(hours, minutes, seconds, 0).ok()?);
    let utc = jiff::tz::Offset::UTC.to_timestamp(civil).ok()?;
    let millis = fraction.map_or(Some(0), milliseconds)?;
    let east = offset_minutes(offset)?;
    let millis = utc.as_millisecond() + millis - east * MINUTE_MILLIS;
    Some(WallTime::from_unix_millis(millis))
}

fn two_digits(text: &str) -> Option<i8> {
    let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// Of a fraction of a second; what is finer is cut off.
fn milliseconds(fraction: &str) -> Option<i64> {
    let digits =
        (1..=9).contains(&fraction.len()) && fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !digits {
        return None;
    }
    format!("{fraction:0<3}").get(..3)?.parse().ok()
}

/// `Z`, `+05:30`, `-04:00`: minutes east of UTC.
fn offset_minutes(offset: &str) -> Option<i64> {
    if matches!(offset, "Z" | "z") {
        return Some(0);
    }
    let (sign, size) = match offset.strip_prefix('-') {
        Some(size) => (-1, size),
        None => (1, offset.strip_prefix('+')?),
    };
    let (hours, minutes) = size.split_once(':')?;
    let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
    let legal = hours < 24 && minutes < 60;
    legal.then(|| sign * (i64::from(hours) * 60 + i64::from(minutes)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn seconds_may_be_left_out_and_an_offset_may_not() {
        let diwali = WallTime::from_unix_seconds(1_794_142_800);
        for text in [
            "2026-11-08T18:30+05:30",
            "2026-11-08T18:30:00+05:30",
            "2026-11-08T18:30:00.0009+05:30",
            "2026-11-08T13:00Z",
            "2026-11-08t13:00:00z",
            "2026-11-08T08:00:00-05:00",
            "2026-11-09T00:15:00+11:15",
        ] {
            assert_eq!(parse_instant(text), Ok(diwali), "{text}");
        }
        let later = WallTime::from_unix_millis(1_794_142_800_250);
        assert_eq!(parse_instant("2026-11-08T18:30:00.25+05:30"), Ok(later));
        for text in [
            "",
            "noon",
            "2026-11-08",
            "2026-11-08T18:30",
            "2026-11-08T18+05:30",
            "2026-11-08T25:30Z",
            "2026-11-08T18:30:60Z",
            "2026-11-08T18:30.5Z",
            "2026-11-08T18:30:00.Z",
            "2026-11-08T18:30:00:00Z",
            "2026-11-08T18:30+0530",
            "2026-11-08T18:30+24:00",
            "2026-11-08T18:30Zulu",
            "2026-02-29T18:30Z",
            "2026-11-08é18:30Z",
            "2026-11-0é",
        ] {
            let problem = parse_instant(text).unwrap_err().to_string();
            assert!(
                problem.contains("such as 2026-11-08T18:30+05:30"),
                "{problem}"
            );
        }
    }

    proptest! {
        #[test]
        fn written_instants_are_read_back(millis in -2_000_000_000_000_i64..32_000_000_000_000) {
            let at = WallTime::from_unix_millis(millis);
            prop_assert_eq!(parse_instant(&format_instant(at)), Ok(at));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,30}") {
            let _ = parse_instant(&text);
        }
    }
}
