//! Clusters: one for a service's stable version, one for its canary.

use std::collections::BTreeSet;

use policy::units::{ServiceName, VersionLabel};
use serde_json::Value;

use super::{
    Asked, Draft, ads, cluster_names, duration, endpoint::assignment, protocol_options, tls,
};
use crate::{
    mesh::{
        HealthCheck, HealthCheckKind, Mesh, OutlierDetection, Placement, Protocol, RetryBudget,
        Service, Thresholds,
    },
    resource::ResourceType,
};

/// `zone` is the caller's.
pub(super) fn clusters(
    mesh: &Mesh,
    name: &ServiceName,
    service: &Service,
    zone: &str,
) -> Vec<Draft> {
    cluster_names(name, service)
        .into_iter()
        .map(|(cluster, version)| {
            let body = self::cluster(mesh, &cluster, name, service, version.as_ref(), zone);
            Draft::new(ResourceType::Cluster, cluster, body)
        })
        .collect()
}

fn cluster(
    mesh: &Mesh,
    cluster: &str,
    name: &ServiceName,
    service: &Service,
    version: Option<&VersionLabel>,
    zone: &str,
) -> Value {
    let mut body = tree!({
        "name": cluster,
        "connect_timeout": "1s",
        "common_lb_config": load_balancing(&service.placement),
        "typed_extension_protocol_options": protocol_options(&mesh.proxies, service.protocol),
        // Who left the mesh is gone, whatever health checks say of it.
        "ignore_health_on_host_removal": true,
    });
    if service.found_by_name() {
        body["type"] = tree!("STRICT_DNS");
        body["dns_lookup_family"] = tree!("V4_PREFERRED");
        // What the server knows of health would change the cluster, and Envoy warm it anew.
        body["load_assignment"] = assignment(cluster, service, version, zone, &BTreeSet::new());
    } else {
        body["type"] = tree!("EDS");
        body["eds_cluster_config"] = tree!({"eds_config": ads()});
    }
    if let Some(socket) = tls::upstream(&mesh.trust_domain, name, service) {
        body["transport_socket"] = socket;
    }
    if let Some(check) = &service.health_check {
        body["health_checks"] = tree!([health_check(name, service.protocol, check)]);
    }
    if let Some(outlier) = &service.outlier_detection {
        body["outlier_detection"] = outlier_detection(outlier);
    }
    if let Some(thresholds) = circuit_breakers(&service.thresholds, service.retry_budget) {
        body["circuit_breakers"] = thresholds;
    }
    body
}

fn load_balancing(placement: &Placement) -> Value {
    let mut common = tree!({"locality_weighted_lb_config": {}});
    let differs = |percent: &u32| *percent != Placement::ENVOYS_PANIC_THRESHOLD;
    if let Some(percent) = placement.panic_threshold.filter(differs) {
        common["healthy_panic_threshold"] = tree!({"value": percent});
    }
    common
}

pub(super) fn health_check(name: &ServiceName, protocol: Protocol, check: &HealthCheck) -> Value {
    let mut body = tree!({
        "interval": duration(check.interval),
        // Envoy's own is a minute: an endpoint would be found dead by its first requests.
        "no_traffic_interval": duration(check.interval),
        "interval_jitter_percent": 10,
        "timeout": duration(check.timeout),
        "unhealthy_threshold": check.unhealthy_threshold,
        // One that has failed once is looked at again sooner: all in all no more than one interval later.
        "unhealthy_edge_interval": duration(Asked::of(check).every),
        "healthy_threshold": check.healthy_threshold,
    });
    match &check.kind {
        HealthCheckKind::Http { path } => {
            body["http_health_check"] = tree!({"host": name.as_str(), "path": path.as_str()});
            if protocol == Protocol::Http2 {
                body["http_health_check"]["codec_client_type"] = tree!("HTTP2");
            }
        }
        HealthCheckKind::Grpc { service } => {
            body["grpc_health_check"] =
                tree!({"service_name": service.as_str(), "authority": name.as_str()});
        }
        HealthCheckKind::Tcp => body["tcp_health_check"] = tree!({}),
    }
    body
}

fn outlier_detection(outlier: &OutlierDetection) -> Value {
    let mut body = tree!({
        "consecutive_5xx": outlier.consecutive_5xx,
        "interval": duration(outlier.interval),
        "base_ejection_time": duration(outlier.base_ejection_time),
        "max_ejection_time": duration(outlier.max_ejection_time),
        "max_ejection_percent": outlier.max_ejection_percent,
        "always_eject_one_host": true,
        // Envoy's own rule by statistics is not what anybody asked for.
        "enforcing_success_rate": 0,
    });
    if let Some(failures) = outlier.consecutive_gateway_failures {
        body["consecutive_gateway_failure"] = tree!(failures);
        body["enforcing_consecutive_gateway_failure"] = tree!(100);
    }
    body
}

/// The same limits for each of Envoy's two priorities: what others have under way never takes gold's
/// share.
fn circuit_breakers(thresholds: &Thresholds, budget: Option<RetryBudget>) -> Option<Value> {
    if *thresholds == Thresholds::default() && budget.is_none() {
        return None;
    }
    let limits = [
        ("max_connections", thresholds.max_connections),
        ("max_pending_requests", thresholds.max_pending_requests),
        ("max_requests", thresholds.max_requests),
        ("max_retries", thresholds.max_retries),
    ];
    let of = |priority: &str| {
        let mut body = tree!({"priority": priority});
        for (field, limit) in limits {
            if let Some(limit) = limit {
                body[field] = tree!(limit);
            }
        }
        if let Some(RetryBudget(share)) = budget {
            body["retry_budget"] = tree!({
                "budget_percent": {"value": share.percent()},
                "min_retry_concurrency": RetryBudget::ALWAYS_ALLOWED,
            });
        }
        body
    };
    Some(tree!({"thresholds": [of("DEFAULT"), of("HIGH")]}))
}
