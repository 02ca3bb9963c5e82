//! The mesh file's YAML -> [`Mesh`], or *all* its problems, each with path, legal range and fix.
//! What the file shares with the filter's configuration is read by policy's own code.

mod fields;
mod gateways;
mod proxies;
mod registration;
mod services;
mod upstream;

use std::collections::BTreeMap;

pub(super) use gateways::UNREAD;
pub use registration::Registration;

use self::{fields::text, gateways::read_gateways, proxies::read_proxies, services::read_services};
use super::{
    TrustDomain,
    document::{Document, INCLUDE, MeshFile, include_problem, includes},
    model::{CertificateDays, ChangeFreeze, FrozenFiles, Gateway, Mesh, Service},
    zone,
};
use policy::{
    breaker::BreakerRules,
    reader::{ObjectReader, Problem, Reader},
    shapes,
    time::CivilZone,
    timetable::Timetable,
    traffic_class::TrafficClass,
    units::{ServiceName, ZoneName},
};

/// What holds where the file is silent: the environment's word, else the built-in default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// `REGION`.
    pub region: String,
    /// `TIMEZONE`, an IANA name.
    pub timezone: String,
    /// `PEAK_HOURS`, e.g. `7-11,17-22`. Absent means no window.
    pub peak_hours: Option<String>,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            region: "mumbai".into(),
            timezone: "Asia/Kolkata".into(),
            peak_hours: None,
        }
    }
}

/// Reads the text of a mesh file that includes no other.
///
/// # Errors
/// Every problem found; nothing of the file counts when there is one.
pub fn read(text: &str, defaults: &Defaults) -> Result<Mesh, Vec<Problem>> {
    let file = MeshFile {
        name: "mesh".into(),
        text: text.into(),
    };
    if let Some(include) = includes(text).first() {
        let message = format!("{include:?}: a text without a file can include none");
        return Err(vec![include_problem(&file, 0, message, None).problem]);
    }
    Document::new(&[file], &[])
        .mesh(defaults)
        .map_err(|problems| problems.into_iter().map(|placed| placed.problem).collect())
}

/// The mesh of a server that was given no file: no services, the environment's calendar.
///
/// # Errors
/// When the environment itself is wrong (`REGION`, `TIMEZONE`, `PEAK_HOURS`).
pub fn empty(defaults: &Defaults) -> Result<Mesh, Vec<Problem>> {
    read("{}", defaults)
}

/// Reads the tree of all files together, and compares its parts.
#[cfg(test)]
pub(crate) fn read_mesh(root: &Reader<'_>, defaults: &Defaults) -> Option<Mesh> {
    let mesh = read_fields(root, defaults)?;
    super::check::check(root, &mesh, super::Labels::OfFile);
    Some(mesh)
}

/// Reads the tree of all files together, each field by itself: [`check`](super::check) compares them.
pub(super) fn read_fields(root: &Reader<'_>, defaults: &Defaults) -> Option<Mesh> {
    let mut file = root.object()?;
    file.not_supported(&["debug_headers"]);
    let general = read_general(&mut file, defaults);
    // Whoever reads the files has followed it: it is never in the tree, and a known field all the same.
    let _ = file.optional(INCLUDE);
    let timetable = read_timetable(&mut file, defaults);
    let freeze = file
        .optional("freeze")
        .map_or_else(ChangeFreeze::default, |freeze| read_change_freeze(&freeze));
    let traffic_classes = read_classes(&mut file);
    let proxies = read_proxies(&mut file);
    let mut services = read_services(&mut file);
    let gateways = read_gateways(&mut file);
    file.finish();
    heed_routes(&mut services, &gateways);
    Some(Mesh {
        name: general.name,
        region: Some(general.region),
        trust_domain: general.trust_domain,
        certificates: general.certificates,
        timetable,
        freeze,
        traffic_classes,
        proxies,
        services: services.into_iter().collect(),
        gateways,
    })
}

/// What the gateways' routes to a service mean for all of its callers.
fn heed_routes(
    services: &mut BTreeMap<ServiceName, Service>,
    gateways: &BTreeMap<ServiceName, Gateway>,
) {
    for forward in gateways.values().flat_map(Gateway::calls) {
        let Some(service) = services.get_mut(&forward.service) else {
            continue;
        };
        if forward.retries.is_some() && service.thresholds.max_retries.is_none() {
            service.retry_budget.get_or_insert_default();
        }
        let default = BreakerRules::DEFAULT_ROUTE_TIMEOUT;
        let longest = service.longest_timeout.unwrap_or(default);
        if let Some(timeout) = forward.timeout.filter(|timeout| *timeout > longest) {
            let rules = &mut service.breaker.rules;
            rules.lease = BreakerRules::lease_for(rules.open_for, Some(timeout));
            service.longest_timeout = Some(timeout);
        }
    }
}

/// What `mesh:` says.
struct General {
    name: String,
    region: String,
    trust_domain: TrustDomain,
    certificates: CertificateDays,
}

fn read_general(file: &mut ObjectReader<'_>, defaults: &Defaults) -> General {
    let mut general = General {
        name: "mesh".into(),
        region: defaults.region.clone(),
        trust_domain: TrustDomain::default(),
        certificates: CertificateDays::default(),
    };
    let Some(mut mesh) = file.optional("mesh").and_then(|mesh| mesh.object()) else {
        check_region_variable(file, defaults);
        return general;
    };
    if let Some(name) = text::<ServiceName>(&mut mesh, "name", ServiceName::new) {
        general.name = name.to_string();
    }
    match mesh.optional("region") {
        Some(region) => {
            if let Some(region) = region.parsed(ZoneName::new) {
                general.region = region.to_string();
            }
        }
        None => check_region_variable(file, defaults),
    }
    let trust_domain = mesh.optional("trust_domain");
    if let Some(domain) = trust_domain.and_then(|domain| domain.parsed(TrustDomain::new)) {
        general.trust_domain = domain;
    }
    let mut days = |field: &str| {
        let days = mesh.optional(field)?.integer(1..=36_500)?;
        u32::try_from(days).ok()
    };
    general.certificates = CertificateDays {
        ca: days("ca_cert_validity_days"),
        service: days("service_cert_validity_days"),
    };
    mesh.finish();
    general
}

/// Where the file is silent, the environment's word is held to the same rule.
fn check_region_variable(file: &ObjectReader<'_>, defaults: &Defaults) {
    if let Err(error) = ZoneName::new(&defaults.region) {
        file.problem(
            "mesh.region",
            format!("{error} (from REGION in the environment)"),
            Some("use a name such as mumbai".into()),
        );
    }
}

fn read_zone(file: &mut ObjectReader<'_>, defaults: &Defaults) -> Option<CivilZone> {
    match file.optional("timezone") {
        Some(reader) => {
            let name = reader.string()?;
            match zone::civil_zone(name) {
                Ok(zone) => Some(zone),
                Err(error) => {
                    let hint = zone::closest_name(name).map_or_else(
                        || "use an IANA name such as Asia/Kolkata".into(),
                        |closest| format!("did you mean {closest:?}?"),
                    );
                    reader.problem(error.to_string(), Some(hint));
                    None
                }
            }
        }
        None => match zone::civil_zone(&defaults.timezone) {
            Ok(zone) => Some(zone),
            Err(error) => {
                file.problem(
                    "timezone",
                    format!("{error} (from TIMEZONE in the environment)"),
                    Some("use an IANA name such as Asia/Kolkata".into()),
                );
                None
            }
        },
    }
}

fn read_timetable(file: &mut ObjectReader<'_>, defaults: &Defaults) -> Timetable {
    // With a wrong zone the rest is read all the same, to tell all that is wrong with it.
    let zone = read_zone(file, defaults).unwrap_or_else(CivilZone::utc);
    let windows = match (file.optional("peak_hours"), &defaults.peak_hours) {
        (Some(reader), _) => shapes::read_peak_hours(reader),
        (None, Some(hours)) => match shapes::parse_peak_hours_env(hours) {
            Ok(windows) => windows,
            Err(problem) => {
                file.problem("peak_hours", problem.to_string(), problem.hint);
                Vec::new()
            }
        },
        (None, None) => Vec::new(),
    };
    let festivals = file
        .optional("festivals")
        .map_or_else(Vec::new, shapes::read_festivals);
    let holidays = file
        .optional("holidays")
        .map_or_else(Vec::new, shapes::read_holidays);
    Timetable::new(zone, windows, festivals).with_holidays(holidays)
}

/// Reads `{during: [peak, festival], files: hold}`.
fn read_change_freeze(reader: &Reader<'_>) -> ChangeFreeze {
    let Some(mut freeze) = reader.object() else {
        return ChangeFreeze::default();
    };
    let during = freeze.required("during");
    let files = freeze.optional("files").and_then(|files| {
        files.parsed(|text| {
            let mut kinds = FrozenFiles::ALL.into_iter();
            kinds
                .find(|kind| kind.as_str() == text)
                .ok_or_else(|| format!("must be apply or hold, not {text:?}"))
        })
    });
    freeze.finish();
    ChangeFreeze {
        during: during.map_or_else(Default::default, |during| shapes::read_freeze(&during)),
        files: files.unwrap_or_default(),
    }
}

/// In the file's order: the first class that matches a request counts.
fn read_classes(file: &mut ObjectReader<'_>) -> Vec<TrafficClass> {
    let Some(classes) = file.optional("traffic_classes") else {
        return Vec::new();
    };
    let entries = classes.entries();
    if entries.len() > shapes::CLASSES_MAX {
        let most = shapes::CLASSES_MAX;
        classes.problem(
            format!("must be at most {most}, not {}", entries.len()),
            None,
        );
    }
    entries
        .into_iter()
        .filter_map(|(name, reader)| shapes::read_traffic_class(&name, &reader))
        .collect()
}
