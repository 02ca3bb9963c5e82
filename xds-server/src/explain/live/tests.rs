//! An Envoy that took everything that its mesh says answers as the mesh does.

use policy::time::WallTime;
use serde_json::{Value, json};

use super::*;
use crate::{
    compile::{Draft, Encoder, FilterCode, NodeSpec, Unhealthy, compile},
    dump::hosts,
    explain::{differences, explain},
    mesh::{Defaults, Mesh, read},
    redact::Redactor,
    resource::{NodeKey, ResourceType},
};

const MESH: &str = "\
mesh: {name: test, region: mumbai}
timezone: Asia/Kolkata
peak_hours: {evening: {start: 17, end: 22, multiplier: 1.5, zone: mumbai-west}}
festivals: [{name: Diwali, date: 2026-11-08, factor: 2}]
traffic_classes:
  gold: {match: [{path_prefix: /pay}]}
  bronze: {match: [{method: DELETE}], limit: {per_second: 5, at_peak: 0}}
services:
  order-service:
    sidecar: false
    retries: {attempts: 1}
    endpoints:
      - {id: pay-1, host: 10.0.0.1, port: 80, zone: mumbai-west, version: v1}
      - {id: pay-2, host: 10.0.0.2, port: 80, zone: mumbai-central, version: v1}
      - {id: pay-3, host: 10.0.0.3, port: 80, version: v2}
    canary: {version: v2, weight: 10, sticky_by: {header: x-user-id}}
gateways:
  edge:
    listen: 127.0.0.1:1
    hosts: [x.in]
    routes:
      - {match: {path: /old}, redirect: {path: /new, status: 308}}
      - {match: {path_prefix: /pay}, service: order-service}
      - {match: {method: DELETE}, service: order-service}
";

fn mesh(text: &str) -> Mesh {
    read(text, &Defaults::default()).unwrap()
}

/// The pages of an Envoy that took all that the mesh says.
fn page(mesh: &Mesh, cluster: &str, zone: &str) -> Value {
    let node = NodeKey {
        id: cluster.into(),
        cluster: cluster.into(),
        zone: zone.into(),
        ..NodeKey::default()
    };
    let code = FilterCode::new(bytes::Bytes::from_static(b"code"));
    let drafts = compile(
        mesh,
        &NodeSpec::of(mesh, &node),
        &code,
        &Unhealthy::default(),
    );
    let of = |kind: ResourceType, field: &str| -> Vec<Value> {
        let drafts = drafts.iter().filter(|draft| draft.kind == kind);
        let entry = |draft: &Draft| json!({"version_info": "v1", field: draft.body});
        drafts.map(entry).collect()
    };
    let listeners = drafts
        .iter()
        .filter(|draft| draft.kind == ResourceType::Listener);
    let listeners: Vec<Value> = listeners
        .map(|draft| json!({"name": draft.name, "active_state": {"listener": draft.body}}))
        .collect();
    let dump = |kind: &str, list: &str, entries: Vec<Value>| json!({"@type": format!("type.googleapis.com/envoy.admin.v3.{kind}"), list: entries});
    let node = json!({"id": cluster, "cluster": cluster, "locality": {"zone": zone}});
    json!({"configs": [
        {"@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump", "bootstrap": {"node": node}},
        dump("ClustersConfigDump", "dynamic_active_clusters", of(ResourceType::Cluster, "cluster")),
        dump("EndpointsConfigDump", "dynamic_endpoint_configs",
            of(ResourceType::ClusterLoadAssignment, "endpoint_config")),
        dump("ListenersConfigDump", "dynamic_listeners", listeners),
        dump("RoutesConfigDump", "dynamic_route_configs",
            of(ResourceType::RouteConfiguration, "route_config")),
        dump("EcdsConfigDump", "ecds_filters", of(ResourceType::ExtensionConfig, "ecds_filter")),
    ]})
}

struct Envoy {
    dump: Dump,
    hosts: Vec<Host>,
}

impl Envoy {
    fn of(mesh: &Mesh, cluster: &str, zone: &str) -> Self {
        let redactor = Redactor::new(Encoder::new().unwrap().descriptors());
        let dump = Dump::read(&page(mesh, cluster, zone), &redactor).unwrap();
        let mut statuses: Vec<Value> = Vec::new();
        for (name, assignment) in dump.in_force(ResourceType::ClusterLoadAssignment) {
            for one in endpoints::read(assignment) {
                let (host, port) = one.address.rsplit_once(':').unwrap();
                let port: u16 = port.parse().unwrap();
                let address = json!({"socket_address": {"address": host, "port_value": port}});
                let status = json!({
                    "address": address, "priority": one.priority, "weight": one.weight,
                    "locality": {"region": one.region, "zone": one.zone},
                });
                statuses.push(json!({"name": name, "host_statuses": [status]}));
            }
        }
        let hosts = hosts(&json!({"cluster_statuses": statuses}));
        Self { dump, hosts }
    }

    fn asked(&self, question: &Question, gauges: Option<&Gauges>) -> LiveExplanation {
        let live = Live {
            dump: &self.dump,
            hosts: &self.hosts,
            gauges,
        };
        explain_live(&live, question, WallTime::from_unix_millis(0)).unwrap()
    }
}

fn question(path: &str, at: &str, user: &str) -> Question {
    Question {
        gateway: Some("edge".into()),
        at: Some(at.into()),
        path: Some(path.into()),
        headers: vec![format!("x-user-id:{user}"), "host:x.in".into()],
        ..Question::default()
    }
}

#[test]
fn an_envoy_that_took_everything_answers_as_its_mesh_does() {
    let mesh = mesh(MESH);
    for zone in ["", "mumbai-west", "mumbai-central"] {
        let envoy = Envoy::of(&mesh, "edge", zone);
        for path in [
            "/pay",
            "/pay/../pay//7",
            "/old",
            "/health",
            "/nowhere",
            "/payments",
        ] {
            for at in [
                "2026-11-08T18:30+05:30",
                "2026-11-24T12:00+05:30",
                "2026-11-24T18:00+05:30",
            ] {
                for (user, method) in [
                    ("user-1", "GET"),
                    ("user-42", "DELETE"),
                    ("user-42", "POST"),
                ] {
                    let question = Question {
                        method: Some(method.into()),
                        ..question(path, at, user)
                    };
                    let told = envoy.asked(&question, Some(&Gauges::default()));
                    let asked = Question {
                        zone: (!zone.is_empty()).then(|| zone.to_string()),
                        ..question
                    };
                    let expected = explain(&mesh, &asked, WallTime::from_unix_millis(0)).unwrap();
                    let [told, expected] = [
                        serde_json::to_value(told).unwrap(),
                        serde_json::to_value(expected).unwrap(),
                    ];
                    let found = differences(&told, &expected);
                    assert_eq!(found, [], "{zone} {method} {path} {at} {user}: {told:#}");
                }
            }
        }
    }
}

#[test]
fn an_envoy_with_older_rules_is_told_apart_from_its_mesh() {
    let before = mesh(MESH);
    let after = mesh(
        &MESH
            .replace("weight: 10", "weight: 25")
            .replace("10.0.0.2", "10.0.0.9"),
    );
    let envoy = Envoy::of(&before, "edge", "");
    let question = question("/pay", "2026-11-24T12:00+05:30", "user-1");
    let told = serde_json::to_value(envoy.asked(&question, None)).unwrap();
    let mesh = explain(&after, &question, WallTime::from_unix_millis(0)).unwrap();
    let found = differences(&told, &serde_json::to_value(mesh).unwrap());
    let fields: Vec<&str> = found.iter().map(|one| one.field.as_str()).collect();
    for field in [
        "version",
        "canary.weight",
        "cluster",
        "headers.x-mumbai-version",
    ] {
        assert!(fields.contains(&field), "{field}: {fields:?}");
    }
}

fn gauges(lines: &[(&str, u64)]) -> Gauges {
    let stats = lines
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}));
    Gauges::read(&json!({"stats": stats.collect::<Vec<_>>()}))
}

#[test]
fn gauges_say_which_breakers_are_open_as_far_as_they_know() {
    let stable = "wasmcustom.service.=.order-service;.mumbai_mesh_circuit_breaker_state";
    let canary =
        "wasmcustom.service.=.order-service;.version.=.v2;.mumbai_mesh_canary_breaker_state";
    // Bucket 695: the canary's, whose breaker latched.
    let question = question("/pay", "2026-11-24T12:00+05:30", "user-42");
    let envoy = Envoy::of(&mesh(MESH), "edge", "");
    let told = envoy.asked(&question, Some(&gauges(&[(stable, 0), (canary, 1)])));
    assert_eq!(told.explanation.version.as_deref(), Some("stable"));
    assert_eq!(told.explanation.cluster.as_deref(), Some("order-service"));
    assert_eq!(told.breakers[0].state, "open");
    assert_eq!(told.breakers[0].version, "v2");
    // Three classes share the gauge: which of them it is, nobody knows.
    let told = envoy.asked(&question, Some(&gauges(&[(stable, 1), (canary, 1)])));
    assert_eq!(told.explanation.refused, None);
    assert_eq!(told.explanation.breaker.unwrap().state, "unknown");
    assert_eq!(told.breakers[0].classes, ["gold", "bronze", "silver"]);
    // Without classes there is one breaker only.
    let alone = MESH
        .replace("traffic_classes:", "")
        .replace("  gold: {match: [{path_prefix: /pay}]}\n", "");
    let alone = alone.lines().filter(|line| !line.starts_with("  bronze"));
    let envoy = Envoy::of(&mesh(&alone.collect::<Vec<_>>().join("\n")), "edge", "");
    let told = envoy.asked(&question, Some(&gauges(&[(stable, 1), (canary, 1)])));
    assert_eq!(told.explanation.refused, Some("breaker_open"));
    let told = envoy.asked(&question, None);
    assert_eq!(
        told.explanation.cluster.as_deref(),
        Some("order-service|v2")
    );
}

#[test]
fn a_question_that_this_envoy_cannot_be_asked_is_refused_with_what_it_has() {
    let envoy = Envoy::of(&mesh(MESH), "edge", "");
    let live = Live {
        dump: &envoy.dump,
        hosts: &[],
        gauges: None,
    };
    let asked = Question {
        service: Some("pay".into()),
        ..Question::default()
    };
    let refused = explain_live(&live, &asked, WallTime::from_unix_millis(0)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "this Envoy has no listener or routes called outbound; it has: edge"
    );
    let redactor = Redactor::new(Encoder::new().unwrap().descriptors());
    let dump = Dump::read(&json!({"configs": []}), &redactor).unwrap();
    let refused = explain_live(
        &Live {
            dump: &dump,
            ..live
        },
        &asked,
        WallTime::from_unix_millis(0),
    );
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("no wasm filter"), "{refused}");
}
