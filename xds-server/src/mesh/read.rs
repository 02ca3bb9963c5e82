//! The mesh file's YAML -> [`Mesh`], or *all* its problems, each with path, legal range and fix.
//! What the file shares with the filter's configuration is read by policy's own code.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use super::{
    check::check,
    document::{Document, MeshFile, include_problem, includes},
    model::{ClientOptions, Endpoint, Gateway, Mesh, PathMatch, Route, Service},
    name::service_name,
    zone,
};
use policy::{
    breaker::BreakerPlan,
    reader::{ObjectReader, Problem, Reader},
    shapes,
    time::parse_duration,
    timetable::Timetable,
    traffic_class::TrafficClass,
    units::{ClassName, ServiceName, VersionLabel, ZoneName},
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
/// When the environment itself is wrong (`TIMEZONE`, `PEAK_HOURS`).
pub fn empty(defaults: &Defaults) -> Result<Mesh, Vec<Problem>> {
    read("{}", defaults)
}

/// Reads the tree of all files together.
pub(super) fn read_mesh(root: &Reader<'_>, defaults: &Defaults) -> Option<Mesh> {
    let mut file = root.object()?;
    file.not_supported(&["freeze", "debug_headers"]);
    let (name, region) = read_identity(&mut file, defaults);
    let timetable = read_timetable(&mut file, defaults);
    let traffic_classes = read_classes(&mut file);
    let services = read_services(&mut file);
    let gateways = read_gateways(&mut file);
    file.finish();
    let mesh = Mesh {
        name,
        region: Some(region),
        timetable: timetable?,
        traffic_classes,
        services,
        gateways,
    };
    check(root, &mesh);
    Some(mesh)
}

fn read_identity(file: &mut ObjectReader<'_>, defaults: &Defaults) -> (String, String) {
    let mut name = None;
    let mut region = None;
    if let Some(mut mesh) = file.optional("mesh").and_then(|mesh| mesh.object()) {
        name = text::<ServiceName>(&mut mesh, "name", ServiceName::new);
        region = text::<ZoneName>(&mut mesh, "region", ZoneName::new);
        mesh.not_supported(&["trust_domain"]);
        mesh.finish();
    }
    (
        name.map_or_else(|| "mesh".into(), |name| name.to_string()),
        region.map_or_else(|| defaults.region.clone(), |region| region.to_string()),
    )
}

fn read_timetable(file: &mut ObjectReader<'_>, defaults: &Defaults) -> Option<Timetable> {
    let zone = match file.optional("timezone") {
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
    };
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
    Some(Timetable::new(zone?, windows, festivals).with_holidays(holidays))
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

fn read_services(file: &mut ObjectReader<'_>) -> BTreeMap<ServiceName, Service> {
    let Some(services) = file.optional("services") else {
        return BTreeMap::new();
    };
    services
        .entries()
        .into_iter()
        .filter_map(|(name, reader)| {
            let name = service_name(&reader, &name);
            let service = read_service(&reader);
            Some((name?, service?))
        })
        .collect()
}

fn read_service(reader: &Reader<'_>) -> Option<Service> {
    let mut service = reader.object()?;
    service.not_supported(&[
        "retries",
        "health_check",
        "uses",
        "mtls",
        "failover",
        "stable_version",
        "traffic_classes",
    ]);
    let port = port(&mut service, "port");
    let sidecar = service
        .optional("sidecar")
        .and_then(|sidecar| sidecar.boolean())
        .unwrap_or(true);
    let endpoints = service.optional("endpoints").map_or_else(Vec::new, |list| {
        list.array()
            .into_iter()
            .filter_map(|endpoint| read_endpoint(&endpoint))
            .collect()
    });
    let class = text(&mut service, "class", ClassName::new);
    let timeout = service.optional("timeout").and_then(|timeout| {
        let parsed = timeout.parsed(parse_duration)?;
        if parsed.is_zero() {
            timeout.problem(
                "must be longer than 0",
                Some("write for example 2s, or leave it out for 15s".into()),
            );
        }
        Some(parsed)
    });
    let breaker = service.optional("circuit_breaker").map_or_else(
        || BreakerPlan::default_for(timeout),
        |rules| shapes::read_circuit_breaker(rules, timeout),
    );
    let canary = service.optional("canary").and_then(shapes::read_canary);
    let limit = service
        .optional("limit")
        .and_then(|limit| shapes::read_limit(&limit));
    service.finish();
    Some(Service {
        port,
        sidecar,
        endpoints,
        class: class.unwrap_or_default(),
        timeout,
        breaker,
        limit,
        canary,
    })
}

fn read_endpoint(reader: &Reader<'_>) -> Option<Endpoint> {
    let mut endpoint = reader.object()?;
    let host = endpoint.required("host").and_then(|host| {
        let text = host.string()?;
        let parsed = IpAddr::from_str(text).ok();
        if parsed.is_none() {
            host.problem(
                format!("{text:?} is no IP address; DNS names are not supported yet"),
                Some("write an IPv4 or IPv6 address such as 10.0.1.10".into()),
            );
        }
        parsed
    });
    let port_number = endpoint
        .required("port")
        .and_then(|port| port.integer(1..=65535));
    let app_port = port(&mut endpoint, "app_port");
    let weight = endpoint
        .optional("weight")
        .and_then(|weight| weight.integer(1..=65535));
    let region = text(&mut endpoint, "region", ZoneName::new);
    let az = text(&mut endpoint, "az", ZoneName::new);
    let zone = text(&mut endpoint, "zone", ZoneName::new);
    let version = text(&mut endpoint, "version", VersionLabel::new);
    let id = text(&mut endpoint, "id", ServiceName::new);
    endpoint.finish();
    let (host, port) = (host?, u16::try_from(port_number?).ok()?);
    let zone = zone.or_else(|| {
        let joined = format!("{}-{}", region.as_ref()?, az.as_ref()?);
        ZoneName::new(&joined).ok()
    });
    Some(Endpoint {
        id: id.map_or_else(|| format!("{host}:{port}"), |id| id.to_string()),
        host,
        port,
        app_port,
        weight: weight
            .and_then(|weight| u32::try_from(weight).ok())
            .unwrap_or(100),
        region: region.map(|region| region.to_string()),
        zone,
        version,
    })
}

fn read_gateways(file: &mut ObjectReader<'_>) -> BTreeMap<ServiceName, Gateway> {
    let Some(gateways) = file.optional("gateways") else {
        return BTreeMap::new();
    };
    gateways
        .entries()
        .into_iter()
        .filter_map(|(name, reader)| {
            let name = service_name(&reader, &name);
            let gateway = read_gateway(&reader);
            Some((name?, gateway?))
        })
        .collect()
}

fn read_gateway(reader: &Reader<'_>) -> Option<Gateway> {
    let mut gateway = reader.object()?;
    gateway.not_supported(&["hosts", "tls"]);
    let listen = gateway.required("listen").and_then(|listen| {
        listen.parsed(|text| {
            text.parse::<SocketAddr>()
                .ok()
                .filter(|address| address.port() != 0)
                .ok_or("must be ADDRESS:PORT with a port from 1 to 65535, such as 0.0.0.0:10000")
        })
    });
    let mut switch = |field: &str| {
        let value = gateway.optional(field).and_then(|value| value.boolean());
        value.unwrap_or(false)
    };
    let clients = ClientOptions {
        trust_canary_header: switch("trust_canary_header"),
        debug_headers: switch("debug_headers"),
    };
    let routes = gateway.optional("routes").map_or_else(Vec::new, |list| {
        list.array()
            .into_iter()
            .filter_map(|route| read_route(&route))
            .collect()
    });
    gateway.finish();
    Some(Gateway {
        listen: listen?,
        clients,
        routes,
    })
}

fn read_route(reader: &Reader<'_>) -> Option<Route> {
    let mut route = reader.object()?;
    route.not_supported(&["redirect", "rewrite", "timeout", "retries", "hosts"]);
    let path = route
        .required("match")
        .and_then(|matched| read_match(&matched));
    let service = route
        .required("service")
        .and_then(|service| service.parsed(ServiceName::new));
    route.finish();
    Some(Route {
        path: path?,
        service: service?,
    })
}

fn read_match(reader: &Reader<'_>) -> Option<PathMatch> {
    let mut matched = reader.object()?;
    matched.not_supported(&["header", "headers", "method", "grpc_service", "hosts"]);
    let prefix = matched.optional("path_prefix");
    let exact = matched.optional("path");
    let given = (prefix.is_some(), exact.is_some());
    let prefix = prefix.and_then(|path| path.parsed(absolute_path));
    let exact = exact.and_then(|path| path.parsed(absolute_path));
    matched.finish();
    match (given, prefix, exact) {
        ((true, false), Some(prefix), None) => {
            Some(PathMatch::Prefix(without_trailing_slash(prefix)))
        }
        ((false, true), None, Some(exact)) => Some(PathMatch::Exact(exact)),
        ((true, true) | (false, false), _, _) => {
            reader.problem(
                "exactly one of path_prefix and path must be given",
                Some("for example {path_prefix: /orders}".into()),
            );
            None
        }
        // Told already.
        _ => None,
    }
}

fn absolute_path(text: &str) -> Result<String, &'static str> {
    let clean = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
    if text.starts_with('/') && text.bytes().all(clean) {
        Ok(text.to_string())
    } else {
        Err("must begin with / and hold no spaces, ? or #")
    }
}

/// `/orders/` and `/orders` are one prefix: whole segments are matched.
fn without_trailing_slash(mut prefix: String) -> String {
    while prefix.len() > 1 && prefix.ends_with('/') {
        prefix.pop();
    }
    prefix
}

fn port(object: &mut ObjectReader<'_>, field: &str) -> Option<u16> {
    let number = object.optional(field)?.integer(1..=65535)?;
    u16::try_from(number).ok()
}

fn text<T>(
    object: &mut ObjectReader<'_>,
    field: &str,
    parse: impl FnOnce(&str) -> Result<T, policy::units::UnitError>,
) -> Option<T> {
    object.optional(field)?.parsed(parse)
}
