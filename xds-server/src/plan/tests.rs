use std::sync::LazyLock;

use policy::time::parse_instant;
use serde_json::{Value, json};

use super::*;
use crate::{
    mesh::{Defaults, read},
    resource::{NodeKey, Resource, ResourceType, View},
};

pub(super) static ENCODER: LazyLock<Arc<Encoder>> =
    LazyLock::new(|| Arc::new(Encoder::new().unwrap()));
pub(super) static REDACTOR: LazyLock<Redactor> =
    LazyLock::new(|| Redactor::new(ENCODER.descriptors()));

const MESH: &str = "
peak_hours:
  morning: {start: '07:00', end: '11:00'}
festivals:
  - {name: Diwali, date: 2026-11-08, factor: 2}
traffic_classes:
  gold: {match: [{path_prefix: /pay}]}
  bronze: {match: [{path_prefix: /check}], shed_during: {festival: 50}}
services:
  order-service:
    port: 8080
    timeout: 2s
    endpoints:
      - {id: order-1, host: 10.0.1.10, port: 15006, zone: mumbai-west, version: v1}
      - {id: order-2, host: 10.0.1.11, port: 15006, zone: mumbai-east, version: v2}
      - {id: order-3, host: 10.0.1.12, port: 15006, zone: mumbai-east, version: v1}
    canary: {version: v2, weight: 5}
  payment-service:
    port: 8080
    uses: []
    endpoints:
      - {id: pay-1, host: 10.0.2.10, port: 15006}
gateways:
  edge:
    listen: 127.0.0.1:10000
    routes:
      - {match: {path_prefix: /orders}, service: order-service}
      - {match: {path_prefix: /pay}, service: payment-service}
";

fn mesh(text: &str) -> Arc<Mesh> {
    let mesh = read(text, &Defaults::default());
    Arc::new(mesh.unwrap_or_else(|problems| panic!("{text}\n{problems:#?}")))
}

fn planned(before: &str, after: &str, at: &str) -> Plan {
    let now = parse_instant(at).unwrap();
    plan(&mesh(before), &mesh(after), now, &ENCODER, &REDACTOR, None)
}

fn of_edit(from: &str, to: &str) -> Plan {
    assert!(MESH.contains(from), "{from}");
    planned(MESH, &MESH.replace(from, to), "2026-11-24T12:00+05:30")
}

const NOON: &str = "2026-11-24T12:00+05:30";

#[test]
fn an_override_is_told_until_its_time_and_is_nothing_afterwards() {
    let with = |kind: &str, until: &str| {
        let said = format!("    override: {{kind: {kind}, until: {until}}}\n    timeout: 2s\n");
        MESH.replace("    timeout: 2s\n", &said)
    };
    let told = |before: &str, after: &str| {
        let plan = planned(before, after, NOON);
        assert_eq!(
            plan.mesh.is_empty(),
            plan.groups.is_empty(),
            "{before} {after}"
        );
        let told = plan.mesh.into_iter().map(|told| told.sentence);
        told.collect::<Vec<_>>()
    };
    let (ended, acts) = (
        with("peak", "2026-11-24T06:30Z"),
        with("bypass", "2026-11-24T07:00Z"),
    );
    let begins = ["order-service: override bypass until 2026-11-24T12:30:00+05:30"];
    assert_eq!(told(&ended, &acts), begins, "the old one is nothing");
    assert_eq!(told(MESH, &acts), begins);
    assert_eq!(
        told(&acts, MESH),
        ["order-service: override bypass ends before its time (2026-11-24T12:30:00+05:30)"]
    );
    assert!(told(&ended, MESH).is_empty());
    assert!(told(MESH, &ended).is_empty());
    assert_eq!(
        told(&acts, &with("peak", "2026-11-24T13:00+05:30")),
        [
            "order-service: override bypass -> peak",
            "order-service: override peak until 2026-11-24T13:00:00+05:30 instead of 2026-11-24T12:30:00+05:30"
        ]
    );
}

fn sentences(plan: &Plan) -> Vec<&str> {
    plan.mesh
        .iter()
        .map(|told| told.sentence.as_str())
        .collect()
}

#[test]
fn each_change_is_told_in_words() {
    let endpoint_3 =
        "      - {id: order-3, host: 10.0.1.12, port: 15006, zone: mumbai-east, version: v1}\n";
    let rows = [
        (
            "weight: 5",
            "weight: 10",
            "order-service: canary v2 5 % -> 10 %",
        ),
        (
            endpoint_3,
            "",
            "order-service: endpoint order-3 10.0.1.12:15006, version v1, zone mumbai-east goes",
        ),
        (
            "port: 15006, zone: mumbai-west",
            "port: 15006, weight: 50, zone: mumbai-west",
            "order-service: endpoint order-1: weight 100 -> 50",
        ),
        (
            "/orders}, service: order-service",
            "/orders}, service: payment-service",
            "edge: route /orders now leads to payment-service instead of order-service",
        ),
        (
            "timeout: 2s",
            "timeout: 1s",
            "order-service: timeout 2s -> 1s",
        ),
        (
            "    timeout: 2s\n",
            "",
            "order-service: timeout goes (it was 2s)",
        ),
        (
            "end: '11:00'",
            "end: '12:00'",
            "peak hours `morning` 07:00-11:00 -> 07:00-12:00",
        ),
        (
            "{name: Diwali, date: 2026-11-08, factor: 2}",
            "{name: Diwali, date: 2026-11-08, factor: 3}",
            "festival Diwali 2026-11-08: factor 2 -> 3",
        ),
        (
            "shed_during: {festival: 50}",
            "shed_during: {festival: 60}",
            "class bronze: shed_during.festival 50 -> 60",
        ),
        (
            "    canary: {version: v2, weight: 5}\n",
            "",
            "order-service: canary v2 ends; all users go to stable",
        ),
        (
            "services:\n",
            "freeze: {during: [peak]}\nservices:\n",
            "freeze: changes are refused during peak",
        ),
        (
            "{version: v2, weight: 5}",
            "{version: v2, weight: 5, resumed: 1}",
            "order-service: canary v2 is resumed: those whom its breaker sent to stable come back to it",
        ),
        (
            "services:\n",
            "mesh: {trust_domain: other.mesh}\nservices:\n",
            "trust domain mumbai.mesh -> other.mesh: every Envoy gets a certificate of another identity, and \
             Envoys whose bootstrap has the old one are no longer served by TLS",
        ),
        (
            "gateways:\n",
            "  stock:\n    endpoints: [{host: 10.0.3.1, port: 80}]\ngateways:\n",
            "stock: the service appears, with 1 endpoint",
        ),
        (
            "    timeout: 2s\n",
            "    timeout: 2s\n    circuit_breaker: {open_for: 7s}\n",
            "order-service: circuit_breaker.open_for 5s -> 7s",
        ),
    ];
    for (from, to, sentence) in rows {
        let plan = of_edit(from, to);
        assert_eq!(sentences(&plan), [sentence], "{from:?} -> {to:?}");
        assert!(!plan.groups.is_empty(), "{sentence}");
    }
}

#[test]
fn the_order_of_classes_and_routes_decides_and_is_told() {
    let route = "      - {match: {path_prefix: /orders}, service: order-service}\n";
    let last = MESH.replace(route, "") + route;
    let plan = planned(MESH, &last, "2026-11-24T12:00+05:30");
    assert_eq!(
        sentences(&plan),
        ["edge: routes in another order: [/orders, /pay] -> [/pay, /orders]"]
    );
}

#[test]
fn a_change_is_told_by_groups_of_proxies_and_field_by_field() {
    let plan = of_edit("weight: 5", "weight: 10");
    let told = serde_json::to_value(&plan.groups).unwrap();
    // The sidecars of payment-service call nobody.
    assert_eq!(
        told,
        json!([{
            "proxies": [{"kind": "gateway", "name": "edge"}, {"kind": "sidecars", "name": "order-service"}],
            "resources": [{
                "type": "ECDS", "name": "mumbai_mesh", "change": "changes",
                "fields": [{
                    "path": "typed_config.config.configuration.value.services[order-service].canary.weight",
                    "before": 5, "after": 10,
                }],
            }],
        }]),
        "{told:#}"
    );
}

#[test]
fn zones_and_endpoints_are_named_where_they_make_a_difference() {
    // In the west it stands first for its own zone; in the east there are two.
    let plan = of_edit(
        "id: order-1, host: 10.0.1.10, port: 15006",
        "id: order-1, host: 10.0.1.10, port: 15007",
    );
    let told = serde_json::to_value(&plan.groups).unwrap();
    let beside: Vec<&Value> = told
        .as_array()
        .unwrap()
        .iter()
        .filter(|group| group["resources"].to_string().contains("LDS"))
        .collect();
    assert!(!beside.is_empty(), "{told:#}");
    let sidecars = beside[0]["proxies"].as_array().unwrap();
    assert_eq!(sidecars.len(), 1, "{told:#}");
    assert_eq!(sidecars[0]["name"], "order-service");
    assert!(
        sidecars[0]["endpoints"].to_string().contains("order-1"),
        "{told:#}"
    );
    let fields = told.to_string();
    for path in ["[10.0.1.10:15006]", "[10.0.1.10:15007]"] {
        assert!(fields.contains(path), "{told:#}");
    }
}

#[test]
fn nothing_of_a_certificate_is_told_but_that_it_is_another_one() {
    let plan = of_edit(
        "services:\n",
        "mesh: {trust_domain: other.mesh}\nservices:\n",
    );
    let told = serde_json::to_value(&plan.groups).unwrap();
    let resources = told[0]["resources"].as_array().unwrap();
    let secret = resources.iter().find(|one| one["type"] == "SDS").unwrap();
    assert_eq!(
        *secret,
        json!({"type": "SDS", "name": "default", "change": "changes"})
    );
}

#[test]
fn connected_proxies_are_counted_where_they_belong() {
    let nodes = [
        ("edge", "edge", ""),
        ("order-1", "order-service", ""),
        ("order-9", "order-service", "mumbai-east"),
        ("pay-1", "payment-service", ""),
        ("stranger", "nobody", ""),
    ];
    let nodes = nodes.map(|(id, cluster, zone)| NodeKey {
        id: id.into(),
        cluster: cluster.into(),
        zone: zone.into(),
        ..NodeKey::default()
    });
    let fleet = Fleet {
        nodes: nodes.to_vec(),
        over: &|base, _| Arc::clone(base),
    };
    let now = parse_instant("2026-11-24T12:00+05:30").unwrap();
    let asked = |after: &str| {
        plan(
            &mesh(MESH),
            &mesh(after),
            now,
            &ENCODER,
            &REDACTOR,
            Some(&fleet),
        )
    };
    let told = asked(&MESH.replace("weight: 5", "weight: 10"));
    assert_eq!(told.groups.len(), 1);
    assert_eq!(told.groups[0].connected, Some(3));
    assert_eq!(told.warnings, [""; 0]);

    let without = MESH.split("  payment-service:").next().unwrap();
    let told = asked(without);
    assert_eq!(
        told.warnings,
        [
            "edge goes: 1 connected proxy of it is sent nothing any more",
            "payment-service goes: 1 connected proxy of it is sent nothing any more",
        ]
    );
}

#[test]
fn what_is_laid_over_the_mesh_hides_what_changes_below_it() {
    let nothing = Arc::new(View::default());
    let fleet = Fleet {
        nodes: Vec::new(),
        over: &|_, _| Arc::clone(&nothing),
    };
    let now = parse_instant("2026-11-24T12:00+05:30").unwrap();
    let after = mesh(&MESH.replace("weight: 5", "weight: 10"));
    let told = plan(&mesh(MESH), &after, now, &ENCODER, &REDACTOR, Some(&fleet));
    assert_eq!((told.mesh.len(), told.groups.len()), (1, 0));
}

/// A raw resource that holds a key, which a mesh of another trust domain would replace.
#[test]
fn no_part_of_a_private_key_is_told() {
    use envoy_types::pb::envoy::{
        config::core::v3::{DataSource, data_source::Specifier},
        extensions::transport_sockets::tls::v3::{Secret, TlsCertificate, secret},
    };
    let secret = |key: &str| {
        let private_key = DataSource {
            specifier: Some(Specifier::InlineString(key.into())),
            ..DataSource::default()
        };
        let certificate = TlsCertificate {
            private_key: Some(private_key),
            ..TlsCertificate::default()
        };
        let secret = Secret {
            name: "partner".into(),
            r#type: Some(secret::Type::TlsCertificate(certificate)),
        };
        let body = prost::Message::encode_to_vec(&secret);
        Arc::new(Resource::new(
            ResourceType::Secret,
            "partner",
            &key.replace("known-key", "v"),
            &body,
        ))
    };
    let views = [secret("known-key-one"), secret("known-key-two")]
        .map(|secret| Arc::new(View::new(vec![(ResourceType::Secret, secret)])));
    let over = |base: &Arc<View>, _: &NodeKey| {
        let is_other = base
            .resources(ResourceType::Secret)
            .any(|one| one.version.contains("other.mesh"));
        Arc::clone(&views[usize::from(is_other)])
    };
    let fleet = Fleet {
        nodes: Vec::new(),
        over: &over,
    };
    let after = MESH.replace(
        "services:\n",
        "mesh: {trust_domain: other.mesh}\nservices:\n",
    );
    let now = parse_instant("2026-11-24T12:00+05:30").unwrap();
    let told = plan(
        &mesh(MESH),
        &mesh(&after),
        now,
        &ENCODER,
        &REDACTOR,
        Some(&fleet),
    );
    let told = serde_json::to_string(&told.groups).unwrap();
    assert!(
        told.contains("partner") && !told.contains("known-key"),
        "{told}"
    );
}

#[test]
fn an_edit_of_the_calendar_that_moves_a_ramp_is_warned_of() {
    let ramp = "canary: {version: v2, freeze_during: [peak], ramp: {start: '2026-11-24T09:00+05:30', \
                steps: [5, 10, 25], every: 1h}}";
    let before = MESH.replace("canary: {version: v2, weight: 5}", ramp);
    let longer = before.replace("end: '11:00'", "end: '12:00'");
    // Frozen until 11:00, so 5 % from 11:00, 10 % from 12:00; then one hour later.
    let plan = planned(&before, &longer, "2026-11-24T12:30+05:30");
    assert_eq!(
        plan.warnings,
        ["order-service: this edit of the calendar moves the weight of canary v2 now, 10 % -> 5 %"]
    );
    let plan = planned(&before, &longer, "2026-11-24T11:30+05:30");
    assert_eq!(
        plan.warnings,
        [
            "from the moment it applies it is a peak hour (morning) instead of a normal hour",
            "order-service: this edit of the calendar moves the weight of canary v2 now, 5 % -> 0 %"
        ]
    );
    let plan = planned(&before, &longer, "2026-11-24T10:00+05:30");
    assert_eq!(
        plan.warnings,
        [
            "order-service: this edit of the calendar moves the next step of canary v2, 5 % at \
             2026-11-24T11:00:00+05:30 -> 5 % at 2026-11-24T12:00:00+05:30"
        ]
    );
    let quicker = before.replace("every: 1h", "every: 30m");
    let plan = planned(&before, &quicker, "2026-11-24T12:30+05:30");
    assert_eq!(
        plan.warnings,
        ["order-service: this edit of its ramp moves the weight of canary v2 now, 10 % -> 25 %"]
    );
}
