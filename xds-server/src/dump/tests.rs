use serde_json::json;

use super::*;
use crate::compile::Encoder;

fn read(page: &Value) -> Dump {
    let redactor = Redactor::new(Encoder::new().unwrap().descriptors());
    Dump::read(page, &redactor).unwrap()
}

fn of(kind: &str, fields: &Value) -> Value {
    let mut dump = fields.clone();
    dump["@type"] = json!(format!("type.googleapis.com/envoy.admin.v3.{kind}"));
    dump
}

#[test]
fn what_is_in_force_what_waits_and_what_was_rejected_are_told_apart() {
    let dump = read(&json!({"configs": [
        of("ClustersConfigDump", &json!({
            "static_clusters": [{"cluster": {"@type": "x/envoy.config.cluster.v3.Cluster", "name": "xds"}}],
            "dynamic_active_clusters": [
                {"version_info": "v1", "cluster": {"name": "pay"}, "last_updated": "2026-11-08T13:00:00Z"},
            ],
            "dynamic_warming_clusters": [{"version_info": "v2", "cluster": {"name": "stock"}}],
        })),
        of("ListenersConfigDump", &json!({"dynamic_listeners": [{
            "name": "edge",
            "active_state": {"version_info": "v1", "listener": {"name": "edge"}},
            "error_state": {"version_info": "v2", "details": "address in use"},
        }]})),
    ]}));
    let shown = |kind| -> Vec<(&str, &str, &str)> {
        let held = dump.held(kind).iter();
        held.map(|one| (one.name.as_str(), one.version.as_str(), one.state.name()))
            .collect()
    };
    assert_eq!(
        shown(ResourceType::Cluster),
        [
            ("xds", "", "STATIC"),
            ("pay", "v1", "ACTIVE"),
            ("stock", "v2", "WARMING")
        ]
    );
    assert_eq!(
        shown(ResourceType::Listener),
        [("edge", "v1", "ACTIVE"), ("edge", "v2", "REJECTED")]
    );
    assert_eq!(
        dump.held(ResourceType::Listener)[1].error.as_deref(),
        Some("address in use")
    );
    let in_force: Vec<&str> = dump
        .in_force(ResourceType::Cluster)
        .map(|(name, _)| name)
        .collect();
    assert_eq!(in_force, ["xds", "pay"]);
}

#[test]
fn keys_that_an_envoy_left_in_are_taken_out_and_what_is_no_dump_is_refused() {
    let secret = |field: &str| {
        json!({"name": "own", "secret": {"name": "own", "tls_certificate": {
        field: {"inline_string": "known-canary"}}}})
    };
    let dump = read(&json!({"configs": [of("SecretsConfigDump", &json!({
        "dynamic_active_secrets": [secret("private_key"), secret("no_such_field")],
    }))]}));
    let shown = dump.to_json().to_string();
    assert!(
        shown.contains("[redacted]") && !shown.contains("canary"),
        "{shown}"
    );
    let redactor = Redactor::new(Encoder::new().unwrap().descriptors());
    assert!(Dump::read(&json!({"stats": []}), &redactor).is_err());
}

#[test]
fn an_endpoints_health_is_told_in_words() {
    let host = |health: Value| {
        let address = json!({"socket_address": {"address": "10.0.0.1", "port_value": 80}});
        let status = json!({"address": address, "weight": 7, "health_status": health});
        let page = json!({"cluster_statuses": [{"name": "pay", "host_statuses": [status]}]});
        hosts(&page).remove(0)
    };
    let well = host(json!({"eds_health_status": "HEALTHY"}));
    assert_eq!(
        (well.health.as_str(), well.is_healthy, well.weight),
        ("healthy", true, 7)
    );
    let ejected = host(json!({"failed_outlier_check": true, "failed_active_health_check": true}));
    assert_eq!(
        ejected.health,
        "failed its health check, ejected (outlier detection)"
    );
    assert!(ejected.ejected && !ejected.is_healthy);
    let draining = host(json!({"eds_health_status": "DRAINING"}));
    assert_eq!(draining.health, "its server says DRAINING");
    let degraded = host(json!({"eds_health_status": "DEGRADED"}));
    assert!(degraded.is_healthy && degraded.health == "degraded");
}

#[test]
fn gauges_are_found_by_service_and_version() {
    let stable = "wasmcustom.service.=.pay;.mumbai_mesh_circuit_breaker_state";
    let canary = "wasmcustom.service.=.pay;.version.=.v2;.mumbai_mesh_canary_breaker_state";
    let gauges = Gauges::read(&json!({"stats": [
        {"name": stable, "value": 1}, {"name": canary, "value": 2}, {"histograms": {}},
    ]}));
    use policy::breaker::BreakerState;
    assert_eq!(gauges.worst("pay", None), Some(BreakerState::Open));
    assert_eq!(
        gauges.worst("pay", Some("v2")),
        Some(BreakerState::HalfOpen)
    );
    assert_eq!(gauges.worst("stock", None), None);
}
