//! JSON -> [`FilterConfig`].

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::{FilterConfig, ServiceConfig, ServiceSource, VERSION};
use crate::{
    breaker::BreakerPlan,
    limit::FleetSize,
    reader::{ObjectReader, Problem, Problems, Reader},
    shapes::{self, text},
    time::CivilZone,
    timetable::Timetable,
    traffic_class::TrafficClass,
    units::{ClassName, UnitError, ZoneName, malformed},
};

/// Services are numbered with 16 bits.
const SERVICES_MAX: usize = 10_000;
const TEXT_MAX: usize = 255;

impl FilterConfig {
    /// Reads a configuration. No bytes at all are one without services and windows: that is what Istio makes of
    /// a plugin that is given none.
    ///
    /// # Errors
    /// Every problem found; nothing of the configuration counts when there is one.
    pub fn parse(bytes: &[u8]) -> Result<Self, Vec<Problem>> {
        const NOTHING: &[u8] = b"{\"version\": 1}";
        let bytes = if bytes.is_empty() { NOTHING } else { bytes };
        let value = parse_json(bytes).map_err(|problem| vec![problem])?;
        let problems = Problems::new();
        let config = read_config(&Reader::root(&value, &problems));
        let found = problems.into_vec();
        match config {
            Some(config) if found.is_empty() => Ok(config),
            _ => Err(found),
        }
    }
}

fn parse_json(bytes: &[u8]) -> Result<Value, Problem> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Problem {
            path: String::new(),
            message: "the configuration is blank".into(),
            hint: Some("the least one is {\"version\": 1, \"services\": []}".into()),
        });
    }
    super::json::read(bytes)
}

fn read_config(root: &Reader<'_>) -> Option<FilterConfig> {
    let mut config = root.object()?;
    if let Some(version) = config.required("version") {
        version.integer(VERSION..=VERSION);
    }
    let zone = text(&mut config, "zone", ZoneName::new);
    let region = text(&mut config, "region", short_text);
    let timezone = match config.optional("timezone") {
        Some(timezone) => read_timezone(&timezone),
        None => Some(CivilZone::utc()),
    };
    let before = root.found();
    let windows = config
        .optional("peak_hours")
        .map_or_else(Vec::new, shapes::read_peak_hours);
    let festivals = config
        .optional("festivals")
        .map_or_else(Vec::new, shapes::read_festivals);
    let holidays = config
        .optional("holidays")
        .map_or_else(Vec::new, shapes::read_holidays);
    let calendar_is_whole = root.found() == before;
    let timetable = timezone
        .map(|timezone| Timetable::new(timezone, windows, festivals).with_holidays(holidays));
    let names = timetable.as_ref().filter(|_| calendar_is_whole);
    let traffic_classes = config
        .optional("traffic_classes")
        .map_or_else(Vec::new, |classes| read_classes(&classes));
    let services = config
        .optional("services")
        .map_or_else(Vec::new, |services| read_services(&services, names));
    let trust_canary_header = config
        .optional("trust_canary_header")
        .and_then(|trust| trust.boolean())
        .unwrap_or(false);
    let debug_headers = config
        .optional("debug_headers")
        .and_then(|debug| debug.boolean())
        .unwrap_or(false);
    let service_from = text(&mut config, "service_from", service_source).unwrap_or_default();
    let most = i64::from(FleetSize::MAX.get());
    let fleet_size = config
        .optional("fleet_size")
        .and_then(|proxies| proxies.integer(1..=most))
        .and_then(|proxies| usize::try_from(proxies).ok());
    config.finish();
    for (index, class) in traffic_classes.iter().enumerate() {
        let path = format!("traffic_classes[{index}]");
        if let Some(names) = names {
            shapes::check_shed_names(root, &path, class, names);
        }
    }
    Some(FilterConfig {
        zone,
        region,
        timetable: timetable?,
        traffic_classes,
        services,
        trust_canary_header,
        debug_headers,
        service_from,
        fleet_size: fleet_size.map_or(FleetSize::ONE, FleetSize::new),
    })
}

fn service_source(text: &str) -> Result<ServiceSource, UnitError> {
    let mut all = ServiceSource::ALL.into_iter();
    let known = all.find(|source| source.as_str() == text);
    known.ok_or_else(|| malformed("route, cluster or authority", text))
}

fn read_classes(reader: &Reader<'_>) -> Vec<TrafficClass> {
    let elements = reader.array();
    let mut classes: Vec<TrafficClass> = Vec::with_capacity(elements.len());
    if elements.len() > shapes::CLASSES_MAX {
        let most = shapes::CLASSES_MAX;
        reader.problem(
            format!("must be at most {most}, not {}", elements.len()),
            None,
        );
        return classes;
    }
    for element in &elements {
        let Some(class) = shapes::read_listed_class(element) else {
            continue;
        };
        if classes.iter().any(|known| known.name == class.name) {
            element.problem(format!("class {} is listed twice", class.name), None);
        }
        classes.push(class);
    }
    classes
}

fn read_timezone(reader: &Reader<'_>) -> Option<CivilZone> {
    let mut timezone = reader.object()?;
    // Each by itself, so that what is wrong has its own path.
    let legal_name = |name: &str| CivilZone::new(name, "UTC0").map(|_| name.to_owned());
    let legal_posix = |posix: &str| CivilZone::new("UTC", posix).map(|_| posix.to_owned());
    let name = timezone.required("name");
    let name = name.and_then(|name| name.parsed(legal_name));
    let posix = timezone.required("posix");
    let posix = posix.and_then(|posix| posix.parsed(legal_posix));
    timezone.finish();
    CivilZone::new(&name?, &posix?).ok()
}

/// `names` are those of windows and festivals, if they could be read.
fn read_services(reader: &Reader<'_>, names: Option<&Timetable>) -> Vec<ServiceConfig> {
    let elements = reader.array();
    if elements.len() > SERVICES_MAX {
        reader.problem(
            format!(
                "must be at most {SERVICES_MAX} services, not {}",
                elements.len()
            ),
            None,
        );
        return Vec::new();
    }
    let mut seen = BTreeMap::new();
    let mut authorities: BTreeMap<String, String> = BTreeMap::new();
    let mut services = Vec::with_capacity(elements.len());
    for element in &elements {
        let Some(service) = read_service(element) else {
            continue;
        };
        for cluster in std::iter::once(service.name.as_str())
            .chain(service.clusters.iter().map(String::as_str))
        {
            if let Some(first) = seen.insert(cluster.to_string(), element.path().to_string()) {
                element.problem(
                    format!("{cluster:?} is the name or cluster of {first} too"),
                    None,
                );
            }
        }
        for authority in &service.authorities {
            let path = element.path().to_string();
            match authorities.insert(authority.to_ascii_lowercase(), path) {
                Some(first) if first != element.path() => element.problem(
                    format!("{authority:?} is an authority of {first} too"),
                    Some("a host names one service".into()),
                ),
                _ => {}
            }
        }
        if let (Some(canary), Some(names)) = (&service.canary, names) {
            let path = format!("{}.canary.freeze_during", element.path());
            shapes::check_freeze_names(element, &path, &canary.freeze_during, names);
        }
        services.push(service);
    }
    services
}

fn read_service(reader: &Reader<'_>) -> Option<ServiceConfig> {
    let mut service = reader.object()?;
    let name = service
        .required("name")
        .and_then(|name| shapes::read_service_name(&name));
    let class = text(&mut service, "class", ClassName::new);
    let clusters = read_texts(&mut service, "clusters");
    let authorities = read_texts(&mut service, "authorities");
    let timeout = service
        .optional("timeout")
        .and_then(|timeout| read_timeout(&timeout));
    let breaker = service.optional("circuit_breaker").map_or_else(
        || BreakerPlan::default_for(timeout),
        |rules| shapes::read_circuit_breaker(rules, timeout),
    );
    let canary = service.optional("canary").and_then(shapes::read_canary);
    let limit = service
        .optional("limit")
        .and_then(|limit| shapes::read_limit(&limit));
    let overridden = service
        .optional("override")
        .and_then(|said| shapes::read_override(&said));
    service.finish();
    Some(ServiceConfig {
        name: name?,
        class: class.unwrap_or_default(),
        clusters,
        authorities,
        breaker,
        timeout,
        limit,
        canary,
        overridden,
    })
}

fn read_timeout(reader: &Reader<'_>) -> Option<Duration> {
    let timeout = shapes::any_duration(reader)?;
    if timeout.is_zero() {
        reader.problem("must be longer than 0, not 0s", None);
    }
    Some(timeout)
}

fn read_texts(object: &mut ObjectReader<'_>, field: &str) -> Vec<String> {
    let elements = object
        .optional(field)
        .map_or_else(Vec::new, |list| list.array());
    elements
        .iter()
        .filter_map(|element| element.parsed(short_text))
        .collect()
}

fn short_text(text: &str) -> Result<String, UnitError> {
    if (1..=TEXT_MAX).contains(&text.len()) && !text.chars().any(char::is_control) {
        Ok(text.to_string())
    } else {
        Err(malformed("1 to 255 bytes without control characters", text))
    }
}
