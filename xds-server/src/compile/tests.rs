//! What Envoys are sent, as JSON and as bytes.

mod golden;

use std::sync::Arc;

use policy::wire::{FilterConfig, ServiceSource};
use serde_json::{Value, json};

use super::{Draft, Encoder, FilterCode, NodeSpec, compile};
use crate::{
    mesh::{ClientOptions, Defaults, Mesh, read},
    resource::{NodeKey, NodeMetadata, ResourceType},
};

const MESH: &str = "\
services:
  order-service:
    sidecar: false
    timeout: 1500ms
    endpoints:
      - {id: order-1, host: 127.0.0.1, port: 8081, region: mumbai, az: west}
      - {id: order-2, host: 127.0.0.1, port: 8082, version: v2}
    canary: {version: v2, weight: 10, sticky_by: {header: x-user-id}}
  payment-service:
    port: 8080
    endpoints:
      - {id: pay-1, host: 127.0.0.1, port: 15006}
      - {id: pay-2, host: 127.0.0.1, port: 15016, app_port: 8090}
gateways:
  edge:
    listen: 127.0.0.1:10000
    routes:
      - {match: {path: /orders/best}, service: order-service}
      - {match: {path_prefix: /}, service: payment-service}
";

fn mesh() -> Mesh {
    read(MESH, &Defaults::default()).unwrap()
}

fn code() -> FilterCode {
    FilterCode::new(bytes::Bytes::from_static(b"\0asm"))
}

fn node(cluster: &str, id: &str, metadata: NodeMetadata) -> NodeKey {
    NodeKey {
        id: id.into(),
        cluster: cluster.into(),
        metadata,
        ..NodeKey::default()
    }
}

fn drafts(cluster: &str, id: &str) -> Vec<Draft> {
    let mesh = mesh();
    let spec = NodeSpec::of(&mesh, &node(cluster, id, NodeMetadata::default()));
    compile(&mesh, &spec, &code())
}

fn body(drafts: &[Draft], kind: ResourceType, name: &str) -> Value {
    let mut found = drafts
        .iter()
        .filter(|draft| draft.kind == kind && draft.name == name);
    let draft = found
        .next()
        .unwrap_or_else(|| panic!("no {kind:?} {name} in {drafts:#?}"));
    assert!(found.next().is_none(), "{name} twice");
    draft.body.clone()
}

fn names(drafts: &[Draft], kind: ResourceType) -> Vec<&str> {
    let of_kind = drafts.iter().filter(|draft| draft.kind == kind);
    of_kind.map(|draft| draft.name.as_str()).collect()
}

#[test]
fn a_gateway_chooses_the_canary_by_the_filters_header_and_answers_health_itself() {
    let routes = body(
        &drafts("edge", "edge"),
        ResourceType::RouteConfiguration,
        "edge",
    );
    let routes = &routes["virtual_hosts"][0]["routes"];
    let metadata = json!({"filter_metadata": {"mumbai_mesh": {"service": "order-service"}}});
    assert_eq!(routes[0]["match"], json!({"path": "/health"}));
    assert_eq!(routes[0]["direct_response"]["status"], 200);
    assert_eq!(
        routes[1],
        json!({
            "name": "/orders/best",
            "match": {"path": "/orders/best", "headers": [
                {"name": "x-mumbai-version", "string_match": {"exact": "v2"}}]},
            "route": {"cluster": "order-service|v2", "timeout": "1.500000000s"},
            "metadata": metadata,
        })
    );
    assert_eq!(
        routes[2],
        json!({
            "name": "/orders/best",
            "match": {"path": "/orders/best"},
            "route": {"cluster": "order-service", "timeout": "1.500000000s"},
            "metadata": metadata,
        })
    );
    assert_eq!(routes[3]["match"], json!({"prefix": "/"}));
    assert_eq!(routes[3]["route"]["cluster"], "payment-service");
}

#[test]
fn stable_is_every_endpoint_without_the_canarys_label() {
    let drafts = drafts("edge", "edge");
    let kind = ResourceType::ClusterLoadAssignment;
    let ports = |cluster: &str| -> Vec<Value> {
        let body = body(&drafts, kind, cluster);
        let localities = body["endpoints"].as_array().unwrap().clone();
        let endpoints = localities
            .iter()
            .flat_map(|one| one["lb_endpoints"].as_array().unwrap());
        let port = |endpoint: &Value| {
            endpoint["endpoint"]["address"]["socket_address"]["port_value"].clone()
        };
        endpoints.map(port).collect()
    };
    assert_eq!(ports("order-service"), [json!(8081)]);
    assert_eq!(ports("order-service|v2"), [json!(8082)]);
    assert_eq!(names(&drafts, ResourceType::Cluster), names(&drafts, kind));
}

#[test]
fn a_sidecar_listens_where_its_own_endpoint_says() {
    for (id, listen, application) in [("pay-1", 15006, 8080), ("pay-2", 15016, 8090)] {
        let drafts = drafts("payment-service", id);
        let inbound = body(&drafts, ResourceType::Listener, "inbound");
        assert_eq!(inbound["address"]["socket_address"]["port_value"], listen);
        let cluster = format!("inbound|{application}");
        body(&drafts, ResourceType::Cluster, &cluster);
        let outbound = body(&drafts, ResourceType::Listener, "outbound");
        assert_eq!(
            outbound["address"]["socket_address"]["address"],
            "127.0.0.1"
        );
        assert_eq!(outbound["address"]["socket_address"]["port_value"], 15001);
    }
    let unclear = drafts("payment-service", "someone");
    assert_eq!(names(&unclear, ResourceType::Listener), ["outbound"]);
    let plain = drafts("order-service", "order-1");
    assert_eq!(names(&plain, ResourceType::Listener), ["outbound"]);
}

#[test]
fn a_node_that_nobody_knows_is_sent_nothing() {
    assert!(drafts("stranger", "stranger").is_empty());
    assert!(drafts("", "").is_empty());
}

#[test]
fn the_filter_comes_by_file_only_where_the_file_is_the_same() {
    let (mesh, code) = (mesh(), code());
    let source = |sha256: &str| {
        let metadata = NodeMetadata {
            filter_path: Some("/etc/envoy/mumbai_mesh.wasm".into()),
            filter_sha256: Some(sha256.into()),
            ..NodeMetadata::default()
        };
        let spec = NodeSpec::of(&mesh, &node("edge", "edge", metadata));
        let drafts = compile(&mesh, &spec, &code);
        let filter = body(&drafts, ResourceType::ExtensionConfig, "mumbai_mesh");
        filter["typed_config"]["config"]["vm_config"]["code"]["local"].clone()
    };
    assert_eq!(
        source(code.sha256()),
        json!({"filename": "/etc/envoy/mumbai_mesh.wasm"})
    );
    assert_eq!(source("another"), json!({"inline_bytes": "AGFzbQ=="}));
}

/// As the routes are made: a gateway's clusters are services, a sidecar's virtual hosts are.
#[test]
fn the_filters_configuration_is_one_that_the_filter_takes() {
    for (node, source) in [
        ("edge", ServiceSource::Cluster),
        ("payment-service", ServiceSource::Authority),
    ] {
        let drafts = drafts(node, node);
        let filter = body(&drafts, ResourceType::ExtensionConfig, "mumbai_mesh");
        let text = filter["typed_config"]["config"]["configuration"]["value"]
            .as_str()
            .unwrap();
        let config = FilterConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(
            config,
            mesh().filter_config(ClientOptions::default(), source)
        );
    }
}

#[test]
fn every_draft_is_what_envoys_api_describes_and_equal_ones_share_their_bytes() {
    let encoder = Encoder::new().unwrap();
    for (cluster, id) in [
        ("edge", "edge"),
        ("payment-service", "pay-1"),
        ("order-service", "x"),
    ] {
        for (one, again) in drafts(cluster, id).into_iter().zip(drafts(cluster, id)) {
            let one = encoder.encode(one).unwrap();
            let again = encoder.encode(again).unwrap();
            assert!(Arc::ptr_eq(&one, &again), "{} was encoded twice", one.name);
            assert!(!one.body().is_empty());
        }
    }
    let wrong = Draft::new(ResourceType::Cluster, "wrong", json!({"nmae": "wrong"}));
    let problem = encoder.encode(wrong).unwrap_err().to_string();
    assert!(problem.contains("nmae"), "{problem}");
}

#[test]
fn the_meshs_names_are_those_of_everything_that_some_node_is_sent() {
    let nodes = [
        ("edge", "edge"),
        ("order-service", "order-1"),
        ("payment-service", "pay-1"),
        ("payment-service", "pay-2"),
    ];
    let sent = nodes.map(|(cluster, id)| drafts(cluster, id));
    let sent = sent
        .into_iter()
        .flatten()
        .map(|draft| (draft.kind, draft.name));
    assert_eq!(super::names(&mesh()), sent.collect());
    let nothing = read("{}", &Defaults::default()).unwrap();
    assert!(super::names(&nothing).is_empty());
}
