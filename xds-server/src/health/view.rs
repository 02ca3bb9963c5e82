//! Services and their endpoints as people look at them.

use policy::{
    canary::Weight,
    time::{CivilZone, WallTime, format_duration},
    units::ServiceName,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{State, known::Known};
use crate::{
    callers::Breakers,
    mesh::{
        Endpoint, HealthCheck, HealthCheckKind, Mesh, Protocol, Service as MeshService, Standing,
    },
    page::{Listed, Page, Paged},
};

/// Which services are shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ServicesQuery")]
pub struct Wanted {
    /// This one only.
    pub service: Option<String>,
    /// Those whose names come after this one: the `next` of an earlier page.
    pub after: Option<String>,
    /// At most so many.
    pub limit: Option<usize>,
}

impl Paged for Wanted {
    fn limit(&self) -> Option<usize> {
        self.limit
    }
}

impl Wanted {
    fn wants(&self, name: &ServiceName) -> bool {
        let name = name.as_str();
        let is_it = self.service.as_deref().is_none_or(|wanted| wanted == name);
        is_it && self.after.as_deref().is_none_or(|after| name > after)
    }
}

/// A service with its endpoints.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Service {
    name: String,
    /// The traffic class of requests that match no other.
    class: String,
    /// `http1` or `http2`.
    protocol: &'static str,
    /// Whether its endpoints stand behind sidecars.
    sidecar: bool,
    /// `strict`, `permissive` or `off`.
    mtls: &'static str,
    canary: Option<Canary>,
    /// What somebody says of it until a time.
    #[serde(rename = "override")]
    overridden: Option<Override>,
    health_check: Option<Check>,
    /// Those of callers without a proxy, as this server keeps them; none where no such caller asked.
    breaker: Option<Breakers>,
    endpoints: Vec<Instance>,
    /// What somebody should look at.
    alarm: Option<String>,
}

impl Listed for Service {
    type Key = String;
    const NAME: &'static str = "services";

    fn key(&self) -> String {
        self.name.clone()
    }
}

/// A canary in force.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ServiceCanary")]
struct Canary {
    /// The label of its endpoints.
    version: String,
    /// Percent of the users, now.
    weight: f64,
}

/// What somebody says of a service until a time.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ServiceOverride")]
struct Override {
    /// `bypass`, `observe`, `peak` or `normal`.
    kind: &'static str,
    /// When it ends.
    until: String,
}

/// How endpoints are asked whether they are well.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ServiceHealthCheck")]
struct Check {
    /// By HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// By gRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_service: Option<String>,
    /// By a connection alone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    tcp: bool,
    interval: String,
    timeout: String,
    unhealthy_threshold: u32,
    healthy_threshold: u32,
}

/// An endpoint, and what is known of it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ServiceEndpoint")]
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
    breaker: impl Fn(&ServiceName) -> Option<Breakers>,
) -> Page<Service> {
    let services = mesh.services.iter();
    let services = services.filter(|(name, _)| wanted.wants(name));
    Page::of(services, wanted.size(), |(name, service)| {
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
        Canary {
            version: canary.version.to_string(),
            weight: weight.percent(),
        }
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
        mtls: service.mtls.as_str(),
        canary,
        overridden: overridden.map(|said| Override {
            kind: said.kind.as_str(),
            until: mesh.timetable.zone().rfc3339(said.until),
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

fn question(check: &HealthCheck) -> Check {
    let mut shown = Check {
        path: None,
        grpc_service: None,
        tcp: false,
        interval: format_duration(check.interval),
        timeout: format_duration(check.timeout),
        unhealthy_threshold: check.unhealthy_threshold,
        healthy_threshold: check.healthy_threshold,
    };
    match &check.kind {
        HealthCheckKind::Http { path } => shown.path = Some(path.to_string()),
        HealthCheckKind::Grpc { service } => shown.grpc_service = Some(service.to_string()),
        HealthCheckKind::Tcp => shown.tcp = true,
    }
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
