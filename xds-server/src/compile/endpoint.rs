//! Endpoints of each cluster, grouped by locality.

use std::collections::BTreeMap;

use policy::units::ServiceName;
use serde_json::{Value, json};

use super::{Draft, cluster_names, socket_address};
use crate::{
    mesh::{Endpoint, Service},
    resource::ResourceType,
};

pub(super) fn assignments(name: &ServiceName, service: &Service) -> Vec<Draft> {
    cluster_names(name, service)
        .into_iter()
        .map(|(cluster, version)| {
            let endpoints = by_locality(service.endpoints_of(version.as_ref()));
            let body = json!({"cluster_name": &cluster, "endpoints": endpoints});
            Draft::new(ResourceType::ClusterLoadAssignment, cluster, body)
        })
        .collect()
}

fn by_locality<'m>(endpoints: impl Iterator<Item = &'m Endpoint>) -> Vec<Value> {
    let mut localities: BTreeMap<(&str, &str), Vec<Value>> = BTreeMap::new();
    for endpoint in endpoints {
        let region = endpoint.region.as_deref().unwrap_or_default();
        let zone = endpoint.zone.as_ref().map_or("", |zone| zone.as_str());
        localities.entry((region, zone)).or_default().push(json!({
            "endpoint": {"address": socket_address(endpoint.host, endpoint.port)},
            "load_balancing_weight": endpoint.weight,
        }));
    }
    localities
        .into_iter()
        .map(|((region, zone), endpoints)| {
            json!({"locality": {"region": region, "zone": zone}, "lb_endpoints": endpoints})
        })
        .collect()
}
