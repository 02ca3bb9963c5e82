//! Fields that several parts of the file have.

use std::fmt::Display;

use policy::reader::{ObjectReader, Reader};

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

pub(super) fn named<T, E: Display>(
    reader: &Reader<'_>,
    name: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Option<T> {
    parse(name)
        .map_err(|error| reader.problem(format!("name {name:?}: {error}"), None))
        .ok()
}
