//! What the files write, readable or not: who refers to something that could not be read is not told that it
//! is unknown.

use std::collections::BTreeSet;

use policy::{
    reader::Reader,
    timetable::{DateRange, Festival, Minute, Timetable, Window, parse_date},
    units::{DisplayName, Multiplier, ServiceName, VersionLabel},
};
use serde_json::Value;

use crate::mesh::model::Service;

/// Whether a service is written under this name.
pub(super) fn is_service(root: &Reader<'_>, name: &ServiceName) -> bool {
    let services = root.value().get("services").and_then(Value::as_object);
    services.is_some_and(|services| services.contains_key(name.as_str()))
}

/// Whether services are written, and no map of names: nobody knows what they are called.
pub(super) fn services_are_unread(root: &Reader<'_>) -> bool {
    let services = root.value().get("services");
    services.is_some_and(|services| !services.is_null() && !services.is_object())
}

fn endpoints<'v>(root: &Reader<'v>, name: &ServiceName) -> Option<&'v Value> {
    let service = root.value().get("services")?.get(name.as_str())?;
    service.get("endpoints").filter(|list| !list.is_null())
}

/// Whether all endpoints that are written could be read.
pub(super) fn endpoints_are_read(root: &Reader<'_>, name: &ServiceName, service: &Service) -> bool {
    endpoints(root, name).is_none_or(|written| {
        let written = written.as_array();
        written.is_some_and(|written| written.len() == service.endpoints.len())
    })
}

/// Whether an endpoint is written that has this version, or one that cannot be read.
pub(super) fn may_have_version(
    root: &Reader<'_>,
    name: &ServiceName,
    label: &VersionLabel,
) -> bool {
    let Some(Value::Array(written)) = endpoints(root, name) else {
        return true;
    };
    written.iter().any(|endpoint| match endpoint {
        Value::Object(fields) => match fields.get("version") {
            None | Some(Value::Null) => false,
            Some(Value::String(version)) => version == label.as_str(),
            Some(_) => true,
        },
        _ => true,
    })
}

/// The timetable, and besides it by name what of windows and festivals could not be read.
pub(super) fn timetable(root: &Reader<'_>, read: &Timetable) -> Timetable {
    let mut windows = read.windows().to_vec();
    let mut festivals = read.festivals().to_vec();
    if let Some(Value::Object(written)) = root.value().get("peak_hours") {
        let known = read.windows().iter().map(|window| window.name().as_str());
        let known: BTreeSet<&str> = known.collect();
        let unread = written.keys().filter(|name| !known.contains(name.as_str()));
        windows.extend(unread.filter_map(|name| any_window(DisplayName::new(name).ok()?)));
    }
    if let Some(Value::Array(written)) = root.value().get("festivals") {
        let known = read
            .festivals()
            .iter()
            .map(|festival| festival.name.as_str());
        let known: BTreeSet<&str> = known.collect();
        let names = written
            .iter()
            .filter_map(|festival| festival.get("name")?.as_str());
        let unread = names.filter(|name| !known.contains(name));
        festivals.extend(unread.filter_map(|name| any_festival(DisplayName::new(name).ok()?)));
    }
    Timetable::new(read.zone().clone(), windows, festivals)
}

fn any_window(name: DisplayName) -> Option<Window> {
    let (start, end) = (Minute::parse("00:00").ok()?, Minute::parse("24:00").ok()?);
    Window::new(name, start, end).ok()
}

fn any_festival(name: DisplayName) -> Option<Festival> {
    let date = parse_date("2026-01-01").ok()?;
    Some(Festival {
        name,
        dates: DateRange::new(date, date).ok()?,
        factor: Multiplier::ONE,
        holiday: false,
        source: None,
    })
}
