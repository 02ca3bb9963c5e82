//! Who checks which endpoints: a sidecar the application of its own, gateways those without a sidecar and,
//! where the sidecar is silent, whether there is anybody at all.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
};

use policy::units::ServiceName;
use xxhash_rust::xxh64::xxh64;

use crate::{
    compile::{NodeSpec, application},
    mesh::{HealthCheck, HealthCheckKind, Host, Mesh, Protocol, Service},
    resource::NodeKey,
};

/// Gateways that check one endpoint.
const PER_ENDPOINT: usize = 3;
/// Gateways among which those are chosen. More would only make the choice dear.
const GATEWAYS_MAX: usize = 64;
/// Endpoints that one gateway checks: its report must fit into a message.
const PER_GATEWAY_MAX: usize = 10_000;

/// All that one Envoy is asked to check, by service.
pub type Task = BTreeMap<ServiceName, Group>;

/// What it is asked to check of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What is asked.
    pub question: Question,
    /// What the endpoints speak.
    pub protocol: Protocol,
    /// How it is asked.
    pub check: HealthCheck,
    /// The ids of the endpoints at each address.
    pub targets: BTreeMap<SocketAddr, Vec<String>>,
}

/// What an Envoy is to find out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Whether the application is well: the mesh file's own check.
    Health,
    /// Whether a connection is taken where callers connect. Who takes none is dead; who takes one may be well or
    /// not.
    Reach,
}

impl Group {
    fn of(service: &Service, question: Question) -> Option<Self> {
        let mut check = service.health_check.clone()?;
        if question == Question::Reach {
            check.kind = HealthCheckKind::Tcp;
        }
        Some(Self {
            question,
            protocol: service.protocol,
            check,
            targets: BTreeMap::new(),
        })
    }
}

/// What a sidecar is asked: about the application of its own endpoint, and nothing else.
pub(super) fn own(mesh: &Mesh, node: &NodeKey) -> Task {
    let spec = NodeSpec::of(mesh, node);
    let Some((name, service, address)) = application(mesh, &spec) else {
        return Task::new();
    };
    let group = Group::of(service, Question::Health);
    let (Some(mut group), Some(id)) = (group, spec.endpoint_id) else {
        return Task::new();
    };
    group.targets.insert(address, vec![id]);
    Task::from([(name.clone(), group)])
}

/// What gateways are asked: each endpoint without a sidecar, or with one that is silent, by at most three of
/// them, who stay the same whoever else comes and goes (rendezvous hashing). They are named by their streams.
pub(super) fn by_gateways(
    mesh: &Mesh,
    gateways: &[(u64, &NodeKey)],
    is_silent: impl Fn(&ServiceName, &str) -> bool,
) -> BTreeMap<u64, Task> {
    let mut tasks: BTreeMap<u64, Task> = gateways
        .iter()
        .map(|(stream, _)| (*stream, Task::new()))
        .collect();
    let chosen = chosen(gateways);
    let mut counts: HashMap<u64, usize> = HashMap::new();
    for (name, service) in &mesh.services {
        let question = match service.sidecar {
            true => Question::Reach,
            false => Question::Health,
        };
        let Some(empty) = Group::of(service, question) else {
            continue;
        };
        let endpoints = service.endpoints.iter();
        let asked = endpoints.filter(|one| !service.sidecar || is_silent(name, &one.id));
        for endpoint in asked {
            // Envoy's HDS takes addresses only.
            let Host::Address(ip) = endpoint.host else {
                continue;
            };
            let seed = xxh64(name.as_str().as_bytes(), 0);
            let place = xxh64(endpoint.id.as_bytes(), seed);
            let mut order: Vec<(u64, u64, u64)> = chosen
                .iter()
                .map(|(before, hash, stream)| (*before, xxh64(&hash.to_le_bytes(), place), *stream))
                .collect();
            order.sort_unstable();
            let mut askers = 0;
            for (_, _, stream) in order {
                let count = counts.entry(stream).or_default();
                if *count >= PER_GATEWAY_MAX {
                    continue;
                }
                *count += 1;
                askers += 1;
                let group = tasks
                    .entry(stream)
                    .or_default()
                    .entry(name.clone())
                    .or_insert_with(|| empty.clone());
                let ids = group.targets.entry((ip, endpoint.port).into());
                ids.or_default().push(endpoint.id.clone());
                if askers == PER_ENDPOINT {
                    break;
                }
            }
        }
    }
    tasks
}

/// Those who may be asked, each with a number of its own, and how many of its name came before it: who opens
/// many streams is not to be several voices while there are others.
fn chosen(gateways: &[(u64, &NodeKey)]) -> Vec<(u64, u64, u64)> {
    let mut of_name: HashMap<&str, u64> = HashMap::new();
    let mut numbered: Vec<(u64, u64, u64)> = gateways
        .iter()
        .map(|(stream, node)| {
            let count = of_name.entry(&node.id).or_default();
            let before = *count;
            *count += 1;
            (before, xxh64(node.id.as_bytes(), before), *stream)
        })
        .collect();
    numbered.sort_unstable();
    numbered.truncate(GATEWAYS_MAX);
    numbered
}
