//! `traffic_classes` and limits.

use super::{is_removed, number, read_sticky_by, text};
use crate::{
    limit::{Limit, PER_SECOND_MAX, Scope},
    reader::{ObjectReader, Reader, shown},
    timetable::Timetable,
    traffic_class::{PathMatch, RefusalBody, RequestMatch, Shed, ShedWhen, TrafficClass},
    units::{BasisPoints, ClassName, DisplayName, HeaderName, UnitError, malformed},
};

/// Most classes of one list: each costs a look at every request.
pub const CLASSES_MAX: usize = 64;

/// The class of payments: it is never shed.
const GOLD: &str = "gold";
const BODY_BYTES_MAX: usize = 4096;

/// Reads one class of the filter's list, which names itself: `{name: bronze, match: […], …}`.
pub fn read_listed_class(reader: &Reader<'_>) -> Option<TrafficClass> {
    let mut class = reader.object()?;
    let name = class
        .required("name")
        .and_then(|name| name.parsed(ClassName::new));
    read_fields(name, class)
}

/// Reads one class of the mesh file, whose name is its key: `{match: [{path_prefix: /upi}], limit: {…}, shed_during: {festival: 50}, …}`.
pub fn read_traffic_class(name: &str, reader: &Reader<'_>) -> Option<TrafficClass> {
    let name = ClassName::new(name)
        .map_err(|error| reader.problem(format!("name: {error}"), None))
        .ok();
    read_fields(name, reader.object()?)
}

fn read_fields(name: Option<ClassName>, mut class: ObjectReader<'_>) -> Option<TrafficClass> {
    let matches = class.optional("match").map_or_else(Vec::new, |list| {
        list.array().iter().filter_map(read_match).collect()
    });
    let limit = class.optional("limit").and_then(|limit| read_limit(&limit));
    let sticky_by = class.optional("sticky_by").and_then(read_sticky_by);
    let observe = read_mode(&mut class);
    let during = class
        .optional("shed_during")
        .map_or_else(Vec::new, |during| read_during(&during));
    if name.as_ref().is_some_and(|name| name.as_str() == GOLD) && !during.is_empty() {
        class.problem(
            "shed_during",
            "gold is never shed",
            Some("give the class another name, or leave it out".into()),
        );
    }
    let refusal = class
        .optional("refusal")
        .and_then(|refusal| read_refusal(&refusal));
    class.finish();
    Some(TrafficClass {
        name: name?,
        matches,
        limit,
        shed: (!during.is_empty()).then_some(Shed {
            during,
            sticky_by,
            observe,
        }),
        refusal,
    })
}

/// Reports names in a class's `shed_during` that are neither a window nor a festival. `path` is the
/// class's own.
pub fn check_shed_names(
    root: &Reader<'_>,
    path: &str,
    class: &TrafficClass,
    timetable: &Timetable,
) {
    let shed = class.shed.iter();
    for name in shed.flat_map(|shed| shed.unknown_names(timetable)) {
        root.problem_at(
            &format!("{path}.shed_during.{name}"),
            "is neither a window of peak_hours nor a festival",
            Some("use one of their names, or normal, peak, festival".into()),
        );
    }
}

/// `mode: observe` decides and counts, and refuses nothing.
pub(super) fn read_mode(object: &mut ObjectReader<'_>) -> bool {
    let Some(mode) = object.optional("mode") else {
        return false;
    };
    match mode.string() {
        Some("observe") => true,
        Some("enforce") | None => false,
        Some(other) => {
            mode.problem(format!("must be enforce or observe, not {other:?}"), None);
            false
        }
    }
}

fn read_match(reader: &Reader<'_>) -> Option<RequestMatch> {
    let before = reader.found();
    let mut matched = reader.object()?;
    let found = read_conditions(&mut matched);
    for (name, _) in found.headers.iter().filter(|(name, _)| is_removed(name)) {
        matched.problem(
            &format!("header.{name}"),
            "is ours: a client's copy is removed before anything reads it, so no request matches",
            Some("name a header that clients set".into()),
        );
    }
    matched.finish();
    // What was given and could not be read is told already.
    if found == RequestMatch::default() && reader.found() == before {
        reader.problem(
            "must name path_prefix, path, method, header or grpc_service",
            Some("path_prefix: / is every request".into()),
        );
    }
    Some(found)
}

/// Reads `{path_prefix: /upi, method: POST, header: {x-initiated-by: system}}` of an object that may
/// have further fields: its reader finishes it.
pub fn read_conditions(matched: &mut ObjectReader<'_>) -> RequestMatch {
    let prefix = matched.optional("path_prefix");
    let exact = matched.optional("path");
    if prefix.is_some() && exact.is_some() {
        matched.problem(
            "path",
            "at most one of path_prefix and path may be given",
            Some("leave one of them out".into()),
        );
    }
    let prefix = prefix.and_then(|path| path.parsed(path_prefix));
    let exact = exact.and_then(|path| path.parsed(absolute_path));
    let method = text(matched, "method", method);
    let headers = matched.optional("header").map_or_else(Vec::new, |headers| {
        let entries = headers.sorted_entries().into_iter();
        entries
            .filter_map(|(name, value)| read_header(&name, &value))
            .collect()
    });
    let grpc_service = text(matched, "grpc_service", grpc_service);
    let path = match (prefix, exact) {
        (Some(prefix), _) => Some(PathMatch::Prefix(prefix)),
        (None, Some(exact)) => Some(PathMatch::Exact(exact)),
        (None, None) => None,
    };
    RequestMatch {
        path,
        method,
        headers,
        grpc_service,
    }
}

fn absolute_path(path: &str) -> Result<Box<str>, UnitError> {
    let clean = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
    if !path.starts_with('/') || !path.bytes().all(clean) {
        let rule = "a path that begins with / and holds no spaces, ? or #";
        return Err(malformed(rule, path));
    }
    Ok(path.into())
}

/// `/upi/` and `/upi` are one prefix: whole segments are matched.
fn path_prefix(path: &str) -> Result<Box<str>, UnitError> {
    let path = absolute_path(path)?;
    let trimmed = path.trim_end_matches('/');
    Ok(if trimmed.is_empty() { "/" } else { trimmed }.into())
}

fn method(method: &str) -> Result<Box<str>, UnitError> {
    if (1..=20).contains(&method.len()) && method.bytes().all(|byte| byte.is_ascii_uppercase()) {
        Ok(method.into())
    } else {
        Err(malformed(
            "a method in capital letters, such as POST",
            method,
        ))
    }
}

fn grpc_service(service: &str) -> Result<Box<str>, UnitError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_');
    if (1..=255).contains(&service.len()) && service.bytes().all(legal) {
        Ok(service.into())
    } else {
        let rule = "the full name of a gRPC service, such as upi.v1.Payments";
        Err(malformed(rule, service))
    }
}

fn read_header(name: &str, value: &Reader<'_>) -> Option<(HeaderName, Box<str>)> {
    let name = HeaderName::new(name)
        .map_err(|error| value.problem(format!("name: {error}"), None))
        .ok();
    let text = value.string()?;
    if !is_header_value(text) {
        value.problem(
            format!(
                "{:?} is no header's value: no request can carry it",
                shown(text)
            ),
            Some("take out line breaks, other control characters and spaces at its ends".into()),
        );
    }
    Some((name?, text.into()))
}

/// RFC 9110, section 5.5.
fn is_header_value(text: &str) -> bool {
    text.trim_matches([' ', '\t']) == text
        && !text
            .chars()
            .any(|byte| byte.is_ascii_control() && byte != '\t')
}

fn read_during(reader: &Reader<'_>) -> Vec<(ShedWhen, BasisPoints)> {
    reader
        .sorted_entries()
        .into_iter()
        .filter_map(|(when, percent)| {
            let share = number(&percent, BasisPoints::from_percent);
            let when = match when.as_str() {
                "normal" => ShedWhen::Normal,
                "peak" | "peak_hour" => ShedWhen::Peak,
                "festival" => ShedWhen::Festival,
                name => ShedWhen::Named(
                    DisplayName::new(name)
                        .map_err(|error| percent.problem(error.to_string(), None))
                        .ok()?,
                ),
            };
            Some((when, share?))
        })
        .collect()
}

fn read_refusal(reader: &Reader<'_>) -> Option<RefusalBody> {
    let mut refusal = reader.object()?;
    let content_type = refusal.required("content_type").and_then(|kind| {
        kind.parsed(|kind| {
            let legal = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
            if (1..=100).contains(&kind.len()) && kind.bytes().all(legal) {
                Ok(Box::<str>::from(kind))
            } else {
                let rule = "a media type of at most 100 characters, such as application/json";
                Err(malformed(rule, kind))
            }
        })
    });
    let body = refusal.required("body").and_then(|body| {
        let text = body.string()?;
        if text.len() > BODY_BYTES_MAX {
            let size = text.len();
            body.problem(
                format!("must be at most {BODY_BYTES_MAX} bytes, not {size}"),
                None,
            );
        }
        Some(text.into())
    });
    refusal.finish();
    Some(RefusalBody {
        content_type: content_type?,
        body: body?,
    })
}

/// Reads `{per_second: 3000, at_peak: 800, at_festival: 400, burst: 100, mode: enforce, scope: envoy}`.
pub fn read_limit(reader: &Reader<'_>) -> Option<Limit> {
    let mut limit = reader.object()?;
    let per_second = limit
        .required("per_second")
        .and_then(|rate| read_rate(&rate, 0));
    let at_peak = limit
        .optional("at_peak")
        .and_then(|rate| read_rate(&rate, 0));
    let at_festival = limit
        .optional("at_festival")
        .and_then(|rate| read_rate(&rate, 0));
    let burst = limit
        .optional("burst")
        .and_then(|burst| read_rate(&burst, 1));
    let observe = read_mode(&mut limit);
    let scope = text(&mut limit, "scope", |scope| {
        let mut all = Scope::ALL.into_iter();
        let known = all.find(|known| known.as_str() == scope);
        known.ok_or_else(|| malformed("envoy or fleet", scope))
    });
    limit.finish();
    Some(Limit {
        per_second: per_second?,
        at_peak,
        at_festival,
        burst,
        observe,
        scope: scope.unwrap_or_default(),
    })
}

fn read_rate(reader: &Reader<'_>, least: i64) -> Option<u32> {
    u32::try_from(reader.integer(least..=PER_SECOND_MAX.into())?).ok()
}
