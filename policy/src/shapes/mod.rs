//! The shapes that the mesh file and the filter's configuration share, read by one code: a rule means
//! the same in both. Whatever is wrong is reported to the reader's problems, and something usable is
//! given back all the same, so that the reading goes on and finds the rest.
#![expect(
    clippy::needless_pass_by_value,
    reason = "a reader is a cursor that is read once, as in `.and_then(read_canary)`"
)]

mod calendar;
mod class;
mod overrides;
mod service;

use std::{fmt::Display, ops::RangeInclusive, time::Duration};

pub use calendar::{parse_peak_hours_env, read_festivals, read_holidays, read_peak_hours};
pub use class::{
    CLASSES_MAX, check_shed_names, read_conditions, read_limit, read_listed_class,
    read_traffic_class,
};
pub use overrides::read_override;
pub use service::{
    check_freeze_names, check_service_name, read_breaker_plan, read_canary, read_circuit_breaker,
    read_freeze, read_service_name,
};
use service::{is_removed, read_sticky_by};

use serde_json::Value;

use crate::{
    reader::{ObjectReader, Reader},
    time::{format_duration, parse_duration},
};

/// A field whose text `parse` understands.
pub(crate) fn text<T, E: Display>(
    object: &mut ObjectReader<'_>,
    field: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Option<T> {
    object.optional(field)?.parsed(parse)
}

/// A number that `parse` finds legal.
pub fn number<T, E: Display>(
    reader: &Reader<'_>,
    parse: impl FnOnce(f64) -> Result<T, E>,
) -> Option<T> {
    parse(reader.number(f64::MIN..=f64::MAX)?)
        .map_err(|error| reader.problem(error.to_string(), None))
        .ok()
}

/// A duration as it is written, with its unit.
pub fn any_duration(reader: &Reader<'_>) -> Option<Duration> {
    if let Value::Number(number) = reader.value() {
        reader.problem(
            format!("must be a text, not the number {number}"),
            Some(format!(
                "durations carry their unit, such as {number}ms or {number}s"
            )),
        );
        return None;
    }
    reader.parsed(parse_duration)
}

/// A duration within `range`.
pub fn duration(reader: &Reader<'_>, range: RangeInclusive<Duration>) -> Option<Duration> {
    let written = any_duration(reader)?;
    if range.contains(&written) {
        return Some(written);
    }
    let (start, end) = (
        format_duration(*range.start()),
        format_duration(*range.end()),
    );
    let found = format_duration(written);
    reader.problem(format!("must be from {start} to {end}, not {found}"), None);
    None
}

#[cfg(test)]
mod tests;
