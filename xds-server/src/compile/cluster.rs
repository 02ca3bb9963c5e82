//! Clusters: one for a service's stable version, one for its canary.

use policy::units::ServiceName;
use serde_json::json;

use super::{Draft, ads, cluster_names};
use crate::{mesh::Service, resource::ResourceType};

pub(super) fn clusters(name: &ServiceName, service: &Service) -> Vec<Draft> {
    cluster_names(name, service)
        .into_iter()
        .map(|(cluster, _)| {
            let body = json!({
                "name": &cluster,
                "type": "EDS",
                "eds_cluster_config": {"eds_config": ads()},
                "connect_timeout": "1s",
            });
            Draft::new(ResourceType::Cluster, cluster, body)
        })
        .collect()
}
