//! What Envoys are sent, as JSON and as bytes.

mod golden;
mod written;

use std::sync::Arc;

use policy::wire::{FilterConfig, ServiceSource};
use serde_json::{Value, json};

use super::{Draft, Encoder, FilterCode, NodeSpec, Unhealthy, compile};
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
    compile(&mesh, &spec, &code(), &Unhealthy::default())
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
    assert_eq!(routes[0]["match"]["path"], "/health");
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
        let drafts = compile(&mesh, &spec, &code, &Unhealthy::default());
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
fn where_a_date_comes_from_is_nothing_that_an_envoy_is_sent() {
    let drafts = |source: &str| {
        let calendar = format!(
            "festivals: [{{name: Diwali, date: 2026-11-08, factor: 2, source: {source}}}]\n\
             holidays: [{{name: Republic Day, date: 2027-01-26, source: {source}}}]\n{MESH}"
        );
        drafts_of(&calendar, "edge", "edge")
    };
    assert_eq!(drafts("almanac"), drafts("gazette"));
}

#[test]
fn a_default_that_is_written_out_is_nothing_that_an_envoy_is_sent() {
    let mesh = |fields: &str| {
        format!(
            "services:\n  pay:\n    port: 80\n{fields}    endpoints: [{{id: pay-1, host: 10.0.0.1, port: 8080}}]\n\
             gateways:\n  edge: {{listen: \"0.0.0.0:80\", routes: [{{match: {{path_prefix: /}}, service: pay}}]}}\n"
        )
    };
    for field in [
        "timeout: 15s",
        "panic_threshold: 50",
        "zone_aware: true",
        "protocol: http1",
        "mtls: strict",
        "sidecar: true",
        "class: silver",
        "circuit_breaker: {error_rate: {percent: 50, minimum_requests: 20, window: 10s}, open_for: 5s, mode: enforce}",
    ] {
        for (cluster, id) in [("edge", "edge"), ("pay", "pay-1")] {
            let written = drafts_of(&mesh(&format!("    {field}\n")), cluster, id);
            assert_eq!(written, drafts_of(&mesh(""), cluster, id), "{field}");
        }
    }
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
    let secrets = ["default", "ROOTCA"].map(|name| (ResourceType::Secret, name.to_string()));
    assert_eq!(super::names(&mesh()), sent.chain(secrets).collect());
    let nothing = read("{}", &Defaults::default()).unwrap();
    assert!(super::names(&nothing).is_empty());
}

fn drafts_of(mesh: &str, cluster: &str, id: &str) -> Vec<Draft> {
    let mesh = read(mesh, &Defaults::default()).unwrap();
    let spec = NodeSpec::of(&mesh, &node(cluster, id, NodeMetadata::default()));
    compile(&mesh, &spec, &code(), &Unhealthy::default())
}

#[test]
fn callers_show_their_certificate_to_sidecars_and_know_them_by_their_spiffe_id() {
    let drafts = drafts("edge", "edge");
    let cluster = body(&drafts, ResourceType::Cluster, "payment-service");
    let ads = json!({"ads": {}, "resource_api_version": "V3"});
    assert_eq!(
        cluster["transport_socket"]["typed_config"],
        json!({
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": "payment-service.mumbai.mesh",
            "max_session_keys": 0,
            "common_tls_context": {
                "tls_params": {
                    "tls_minimum_protocol_version": "TLSv1_3",
                    "tls_maximum_protocol_version": "TLSv1_3",
                },
                "tls_certificate_sds_secret_configs": [{"name": "default", "sds_config": ads}],
                "combined_validation_context": {
                    "default_validation_context": {"match_typed_subject_alt_names": [{
                        "san_type": "URI",
                        "matcher": {"exact": "spiffe://mumbai.mesh/ns/default/sa/payment-service"},
                    }]},
                    "validation_context_sds_secret_config": {"name": "ROOTCA", "sds_config": ads},
                },
            },
        })
    );
    let options = &cluster["typed_extension_protocol_options"];
    let options = &options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
    let duration = &options["common_http_protocol_options"]["max_connection_duration"];
    assert_eq!(*duration, "3600.000000000s");
    // Plain applications are called in plaintext, in each version.
    for plain in ["order-service", "order-service|v2"] {
        assert!(body(&drafts, ResourceType::Cluster, plain)["transport_socket"].is_null());
    }
}

#[test]
fn a_sidecar_takes_calls_as_its_services_mtls_says() {
    let inbound = |mode: &str| {
        let mesh = MESH.replace(
            "    port: 8080\n",
            &format!("    port: 8080\n    mtls: {mode}\n"),
        );
        let drafts = drafts_of(&mesh, "payment-service", "pay-1");
        let cluster = body(&drafts, ResourceType::Cluster, "payment-service");
        let inbound = body(&drafts, ResourceType::Listener, "inbound");
        (inbound, !cluster["transport_socket"].is_null())
    };
    let (strict, calls_by_tls) = inbound("strict");
    assert!(calls_by_tls);
    let chains = strict["filter_chains"].as_array().unwrap();
    assert_eq!(chains.len(), 1);
    let demanded = &chains[0]["transport_socket"]["typed_config"];
    assert_eq!(demanded["require_client_certificate"], true);
    let callers = &demanded["common_tls_context"]["combined_validation_context"];
    assert_eq!(
        callers["default_validation_context"]["match_typed_subject_alt_names"],
        json!([{"san_type": "URI", "matcher": {"prefix": "spiffe://mumbai.mesh/ns/default/sa/"}}])
    );
    let manager = &chains[0]["filters"][0]["typed_config"];
    let options = &manager["common_http_protocol_options"];
    assert_eq!(options["max_connection_duration"], "3600.000000000s");

    let (permissive, calls_by_tls) = inbound("permissive");
    assert!(calls_by_tls);
    let chains = permissive["filter_chains"].as_array().unwrap();
    let matches = |at: usize| &chains[at]["filter_chain_match"]["transport_protocol"];
    assert_eq!(
        (matches(0), matches(1)),
        (&json!("tls"), &json!("raw_buffer"))
    );
    assert_eq!(chains[0]["transport_socket"]["typed_config"], *demanded);
    assert!(chains[1]["transport_socket"].is_null());
    let inspector = &permissive["listener_filters"][0]["name"];
    assert_eq!(*inspector, "envoy.filters.listener.tls_inspector");

    let (off, calls_by_tls) = inbound("off");
    assert!(!calls_by_tls);
    assert!(off["filter_chains"][0]["transport_socket"].is_null());
}

#[test]
fn secrets_are_whole_and_no_wildcard_brings_them() {
    let secrets = super::secrets("chain", "key", "roots");
    let own = secrets.get("default").unwrap();
    let text = String::from_utf8_lossy(&own.body()).into_owned();
    assert!(text.contains("chain") && text.contains("key"), "{text}");
    let trusted = secrets.get("ROOTCA").unwrap();
    assert!(String::from_utf8_lossy(&trusted.body()).contains("roots"));
    assert!(secrets.iter().all(|secret| secret.is_by_name_only()));
    let again = super::secrets("chain", "key", "roots");
    assert_eq!(again.get("default").unwrap().version, own.version);
    let renewed = super::secrets("chain2", "key2", "roots");
    assert_ne!(renewed.get("default").unwrap().version, own.version);
    assert_eq!(renewed.get("ROOTCA").unwrap().version, trusted.version);
}
