//! Fields that several parts of the file have.

use std::{ops::RangeInclusive, time::Duration};

use policy::{reader::ObjectReader, shapes};

pub(super) fn port(object: &mut ObjectReader<'_>, field: &str) -> Option<u16> {
    let number = object.optional(field)?.integer(1..=65535)?;
    u16::try_from(number).ok()
}

pub(super) fn text<T>(
    object: &mut ObjectReader<'_>,
    field: &str,
    parse: impl FnOnce(&str) -> Result<T, policy::units::UnitError>,
) -> Option<T> {
    object.optional(field)?.parsed(parse)
}

/// `true` or `false`; `default` where the field is absent.
pub(super) fn switch(object: &mut ObjectReader<'_>, field: &str, default: bool) -> bool {
    let value = object.optional(field).and_then(|value| value.boolean());
    value.unwrap_or(default)
}

/// A whole number within `range`.
pub(super) fn count(
    object: &mut ObjectReader<'_>,
    field: &str,
    range: RangeInclusive<u32>,
) -> Option<u32> {
    let range = i64::from(*range.start())..=i64::from(*range.end());
    let number = object.optional(field)?.integer(range)?;
    u32::try_from(number).ok()
}

pub(super) fn duration(
    object: &mut ObjectReader<'_>,
    field: &str,
    range: RangeInclusive<Duration>,
) -> Option<Duration> {
    shapes::duration(&object.optional(field)?, range)
}

/// How long a whole request may take, retries included.
pub(super) fn timeout(object: &mut ObjectReader<'_>) -> Option<Duration> {
    let timeout = object.optional("timeout")?;
    let parsed = shapes::any_duration(&timeout)?;
    if parsed.is_zero() {
        timeout.problem(
            "must be longer than 0",
            Some("write for example 2s, or leave it out for 15s".into()),
        );
    }
    Some(parsed)
}

/// A path as a client would send it, without query and fragment.
pub(super) fn absolute_path(text: &str) -> Result<String, &'static str> {
    let clean = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
    if text.starts_with('/') && text.bytes().all(clean) {
        Ok(text.into())
    } else {
        Err(
            "must begin with / and hold printable ASCII without spaces, ? and #, as clients send it (other letters are \
             percent-encoded)",
        )
    }
}

/// A DNS name, in lower case.
pub(super) fn dns_name(text: &str) -> Option<String> {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(inside)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // `10.0.1` is an address with a slip of the pen, and no name.
    let last = text.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit());
    let legal = text.len() <= 253 && text.split('.').all(label) && !numeric;
    legal.then(|| text.to_ascii_lowercase())
}
