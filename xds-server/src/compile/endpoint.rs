//! Endpoints of each cluster, grouped by priority and locality: which of them a caller prefers depends
//! on the zone in which it stands.

use std::collections::{BTreeMap, BTreeSet};

use policy::units::{ServiceName, VersionLabel};
use serde_json::Value;

use super::{Draft, cluster_names, host_address};
use crate::{
    mesh::{Endpoint, Service, Standing},
    resource::ResourceType,
};

/// EDS; a service found by name has its endpoints in its clusters. Callers send nothing to those whose ids
/// are among `unhealthy`.
pub(super) fn assignments(
    name: &ServiceName,
    service: &Service,
    zone: &str,
    unhealthy: &BTreeSet<String>,
) -> Vec<Draft> {
    if service.found_by_name() {
        return Vec::new();
    }
    cluster_names(name, service)
        .into_iter()
        .map(|(cluster, version)| {
            let body = assignment(&cluster, service, version.as_ref(), zone, unhealthy);
            Draft::new(ResourceType::ClusterLoadAssignment, cluster, body)
        })
        .collect()
}

/// The endpoints of one version, as a caller in `zone` prefers them.
pub(crate) fn assignment(
    cluster: &str,
    service: &Service,
    version: Option<&VersionLabel>,
    zone: &str,
    unhealthy: &BTreeSet<String>,
) -> Value {
    // Priorities must count up from 0 without a gap.
    let endpoints: Vec<Value> = (0_u32..)
        .zip(priorities(service, version, zone))
        .flat_map(|(priority, step)| {
            step.into_iter().map(move |(locality, weight, endpoints)| {
                lb_endpoints(priority, locality, weight, &endpoints, unhealthy)
            })
        })
        .collect();
    tree!({"cluster_name": cluster, "endpoints": endpoints})
}

/// The endpoints of one version by the priorities in which a caller in `zone` uses them, the first one first.
pub(crate) fn priorities<'m>(
    service: &'m Service,
    version: Option<&'m VersionLabel>,
    zone: &str,
) -> Vec<Step<'m>> {
    let mut groups: BTreeMap<usize, Localities<'_>> = BTreeMap::new();
    for endpoint in service.endpoints_of(version) {
        let localities = groups.entry(preference(service, endpoint)).or_default();
        let locality = Locality::of(endpoint);
        localities.entry(locality).or_default().push(endpoint);
    }
    let own_zone = (service.placement.zone_aware && !zone.is_empty()).then_some(zone);
    groups
        .into_values()
        .flat_map(|localities| steps(localities, own_zone))
        .collect()
}

/// What callers are told of an endpoint to which they are to send nothing new.
pub(crate) fn left_out(endpoint: &Endpoint, unhealthy: &BTreeSet<String>) -> Option<&'static str> {
    match endpoint.standing {
        Standing::Draining => Some("DRAINING"),
        Standing::Vanished => Some("UNHEALTHY"),
        Standing::File | Standing::Registered => {
            unhealthy.contains(&endpoint.id).then_some("UNHEALTHY")
        }
    }
}

/// Region and zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Locality<'m> {
    region: &'m str,
    zone: &'m str,
}

impl<'m> Locality<'m> {
    fn of(endpoint: &'m Endpoint) -> Self {
        Self {
            region: endpoint.region.as_deref().unwrap_or_default(),
            zone: endpoint.zone.as_ref().map_or("", |zone| zone.as_str()),
        }
    }
}

type Localities<'m> = BTreeMap<Locality<'m>, Vec<&'m Endpoint>>;

/// Endpoints of one priority, each locality with its weight.
pub(crate) type Step<'m> = Vec<(Locality<'m>, u64, Vec<&'m Endpoint>)>;

/// The place of an endpoint's region in the order of failover; regions that are not named come last.
fn preference(service: &Service, endpoint: &Endpoint) -> usize {
    let order = &service.placement.failover;
    let region = endpoint.region.as_deref();
    let place = order
        .iter()
        .position(|known| region == Some(known.as_str()));
    place.unwrap_or(order.len())
}

/// Callers are taken to be spread evenly over the zones in which there are endpoints. A zone whose
/// endpoints carry at least its even share serves its own callers alone, and all others stand in for it;
/// a smaller one serves as many of them as it can carry, and the others the rest.
fn steps<'m>(localities: Localities<'m>, own_zone: Option<&str>) -> Vec<Step<'m>> {
    let weigh = |endpoints: &[&Endpoint]| -> u64 {
        endpoints
            .iter()
            .map(|endpoint| u64::from(endpoint.weight))
            .sum()
    };
    let step: Step<'m> = localities
        .into_iter()
        .map(|(locality, endpoints)| (locality, weigh(&endpoints), endpoints))
        .collect();
    let is_own = |locality: &Locality<'_>| own_zone == Some(locality.zone);
    let total: u64 = step.iter().map(|(_, weight, _)| weight).sum();
    let own: u64 = step
        .iter()
        .filter(|(locality, ..)| is_own(locality))
        .map(|(_, weight, _)| weight)
        .sum();
    let zones = step.len() as u64;
    if own == 0 || own == total {
        return vec![step];
    }
    if own * zones >= total {
        let (own, others) = step
            .into_iter()
            .partition(|(locality, ..)| is_own(locality));
        return vec![own, others];
    }
    let others = total - own;
    let weighted = step.into_iter().map(|(locality, weight, endpoints)| {
        // Of `total` parts, the own zone carries `own * zones`.
        let (parts, of) = match is_own(&locality) {
            true => (own * zones, own),
            false => (total - own * zones, others),
        };
        let share = basis_points(weight, of, parts, total);
        (locality, share, endpoints)
    });
    vec![weighted.collect()]
}

/// `weight / of` of `parts / total`; at least 1, since nothing at all would be no endpoint.
fn basis_points(weight: u64, of: u64, parts: u64, total: u64) -> u64 {
    let wide = |number: u64| u128::from(number.max(1));
    let share = 10_000 * wide(weight) * u128::from(parts) / (wide(of) * wide(total));
    u64::try_from(share).unwrap_or(10_000).max(1)
}

fn lb_endpoints(
    priority: u32,
    locality: Locality<'_>,
    weight: u64,
    endpoints: &[&Endpoint],
    unhealthy: &BTreeSet<String>,
) -> Value {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|endpoint| {
            let mut body = tree!({
                "endpoint": {"address": host_address(&endpoint.host, endpoint.port)},
                "load_balancing_weight": endpoint.weight,
            });
            if let Some(status) = left_out(endpoint, unhealthy) {
                body["health_status"] = tree!(status);
            }
            body
        })
        .collect();
    let mut body = tree!({
        "locality": {"region": locality.region, "zone": locality.zone},
        "lb_endpoints": endpoints,
        "load_balancing_weight": weight,
    });
    if priority > 0 {
        body["priority"] = tree!(priority);
    }
    body
}
