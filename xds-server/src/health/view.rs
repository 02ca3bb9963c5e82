//! Services and their endpoints as people look at them.

use policy::{
    canary::Weight,
    time::{CivilZone, WallTime, format_duration},
    units::ServiceName,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{State, known::Known};
use crate::mesh::{
    Endpoint, HealthCheck, HealthCheckKind, Mesh, MutualTls, Protocol, Service as MeshService,
    Standing,
};

/// Which services are shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// This one only.
    pub service: Option<String>,
    /// Those whose names come after this one: the `next` of an earlier page.
    pub after: Option<String>,
    /// At most so many; [`Wanted::LIMIT`] when left out.
    pub limit: Option<usize>,
}

impl Wanted {
    /// Services of a page, when nobody says how many.
    pub const LIMIT: usize = 1_000;
    /// Services of the largest page.
    pub const LIMIT_MAX: usize = 10_000;

    fn wants(&self, name: &ServiceName) -> bool {
        let name = name.as_str();
        let is_it = self.service.as_deref().is_none_or(|wanted| wanted == name);
        is_it && self.after.as_deref().is_none_or(|after| name > after)
    }
}

/// Services in the order of their names.
#[derive(Debug, Serialize)]
pub struct Page {
    services: Vec<Service>,
    /// How many come after them.
    left_off: usize,
    /// What to give as `after` for the next page, where there is one.
    next: Option<String>,
}

#[derive(Debug, Serialize)]
struct Service {
    name: String,
    class: String,
    protocol: &'static str,
    sidecar: bool,
    mtls: &'static str,
    canary: Option<Value>,
    /// What somebody says of it until a time.
    #[serde(rename = "override")]
    overridden: Option<Value>,
    health_check: Option<Value>,
    /// Those of callers without a proxy, as this server keeps them; none where no such caller asked.
    breaker: Option<Value>,
    endpoints: Vec<Instance>,
    /// What somebody should look at.
    alarm: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Instance {
    id: String,
    host: String,
    port: u16,
    app_port: Option<u16>,
    weight: u32,
    region: Option<String>,
    zone: Option<String>,
    version: Option<String>,
    /// `file` or `registered`.
    source: &'static str,
    /// `up`, `draining`, or `vanished` with too many others at once.
    state: &'static str,
    /// `healthy`, `unhealthy` or `unknown`.
    health: &'static str,
    /// Since when that is known.
    since: Option<String>,
    /// When anybody last spoke of it.
    last_heard: Option<String>,
    /// `node.id` of those whose word counts.
    reported_by: Vec<String>,
}

/// The services that are wanted, with times as clocks of this zone show them. `with` gives what is known
/// for as long as one service is looked at.
pub(super) fn page(
    mesh: &Mesh,
    wanted: &Wanted,
    zone: &CivilZone,
    now: WallTime,
    with: impl Fn(&mut dyn FnMut(&State) -> Vec<Instance>) -> Vec<Instance>,
    breaker: impl Fn(&ServiceName) -> Option<Value>,
) -> Page {
    let limit = wanted.limit.unwrap_or(Wanted::LIMIT);
    let mut services = mesh.services.iter();
    let mut services = services.by_ref().filter(|(name, _)| wanted.wants(name));
    let shown: Vec<Service> = services
        .by_ref()
        .take(limit)
        .map(|(name, service)| {
            let endpoints = with(&mut |state| {
                let endpoints = service.endpoints.iter();
                endpoints
                    .map(|one| instance(state, name, one, zone))
                    .collect()
            });
            Service {
                breaker: breaker(name),
                ..shown(mesh, name, service, endpoints, now)
            }
        })
        .collect();
    let left_off = services.count();
    let last = shown.last().filter(|_| left_off > 0);
    Page {
        next: last.map(|last| last.name.clone()),
        services: shown,
        left_off,
    }
}

fn shown(
    mesh: &Mesh,
    name: &ServiceName,
    service: &MeshService,
    endpoints: Vec<Instance>,
    now: WallTime,
) -> Service {
    let canary = service.canary.as_ref().map(|canary| {
        let weight = match &canary.weight {
            Weight::Fixed(weight) => *weight,
            Weight::Ramp(ramp) => ramp
                .schedule(&canary.freeze_during, &mesh.timetable)
                .at(now),
        };
        json!({"version": canary.version.as_str(), "weight": weight.percent()})
    });
    let overridden = service.overridden.filter(|said| said.acts(now));
    Service {
        name: name.to_string(),
        class: service.class.to_string(),
        protocol: match service.protocol {
            Protocol::Http1 => "http1",
            Protocol::Http2 => "http2",
        },
        sidecar: service.sidecar,
        mtls: match service.mtls {
            MutualTls::Strict => "strict",
            MutualTls::Permissive => "permissive",
            MutualTls::Off => "off",
        },
        canary,
        overridden: overridden.map(|said| {
            let until = mesh.timetable.zone().rfc3339(said.until);
            json!({"kind": said.kind.as_str(), "until": until})
        }),
        health_check: service.health_check.as_ref().map(question),
        breaker: None,
        endpoints,
        alarm: alarm(name, service),
    }
}

fn alarm(name: &ServiceName, service: &MeshService) -> Option<String> {
    let endpoints = service.endpoints.iter();
    let vanished = endpoints.filter(|one| one.standing == Standing::Vanished);
    let count = vanished.count();
    (count > 0).then(|| {
        format!(
            "{count} instances fell silent at once and stay as unhealthy: mumbai-mesh instance release --service \
             {name} lets them go"
        )
    })
}

fn question(check: &HealthCheck) -> Value {
    let mut shown = match &check.kind {
        HealthCheckKind::Http { path } => json!({"path": path}),
        HealthCheckKind::Grpc { service } => json!({"grpc_service": service}),
        HealthCheckKind::Tcp => json!({"tcp": true}),
    };
    shown["interval"] = json!(format_duration(check.interval));
    shown["timeout"] = json!(format_duration(check.timeout));
    shown["unhealthy_threshold"] = json!(check.unhealthy_threshold);
    shown["healthy_threshold"] = json!(check.healthy_threshold);
    shown
}

fn instance(
    state: &State,
    service: &ServiceName,
    endpoint: &Endpoint,
    zone: &CivilZone,
) -> Instance {
    let known = state.known(service, &endpoint.id);
    let by = known.map(Known::by).unwrap_or_default();
    Instance {
        id: endpoint.id.clone(),
        host: endpoint.host.to_string(),
        port: endpoint.port,
        app_port: endpoint.app_port,
        weight: endpoint.weight,
        region: endpoint.region.clone(),
        zone: endpoint.zone.as_ref().map(ToString::to_string),
        version: endpoint.version.as_ref().map(ToString::to_string),
        source: match endpoint.standing {
            Standing::File => "file",
            _ => "registered",
        },
        state: match endpoint.standing {
            Standing::File | Standing::Registered => "up",
            Standing::Draining => "draining",
            Standing::Vanished => "vanished",
        },
        health: known.map_or("unknown", |known| known.verdict.name()),
        since: known.map(|known| zone.rfc3339(known.since)),
        last_heard: known
            .and_then(|known| known.last_heard)
            .map(|at| zone.rfc3339(at)),
        reported_by: by.iter().map(ToString::to_string).collect(),
    }
}
