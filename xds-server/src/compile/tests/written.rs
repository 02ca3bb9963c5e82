//! Drafts are written without the library that reads them: what it makes of the bytes is what it makes of the
//! draft.

use prost_reflect::DynamicMessage;
use serde_json::{Value, json};

use super::{
    super::{Draft, Encoder, extension::filter, node::FilterFile, shapes::Shapes, write::write},
    code,
    golden::every_draft,
};
use crate::resource::ResourceType;

/// Bytes as JSON, packed messages unpacked.
fn read(encoder: &Encoder, kind: ResourceType, bytes: &[u8]) -> Value {
    let message = DynamicMessage::decode(encoder.message(kind).unwrap(), bytes).unwrap();
    serde_json::to_value(message).unwrap()
}

/// Whether the draft was written, which must then be what the library writes.
fn is_written(encoder: &Encoder, shapes: &Shapes, draft: &Draft) -> bool {
    let Ok(written) = write(shapes, draft.kind.url(), &draft.body) else {
        return false;
    };
    let theirs = encoder.resource(draft.kind, &draft.name, "", &draft.body);
    let theirs = theirs.unwrap_or_else(|misfit| panic!("{misfit} in {:#}", draft.body));
    assert_eq!(
        read(encoder, draft.kind, &written.bytes),
        read(encoder, draft.kind, &theirs.body()),
        "{}",
        draft.name
    );
    if !draft.kind.is_named_by_others() {
        assert_eq!(written.clusters, theirs.clusters, "{}", draft.name);
    }
    true
}

fn tools() -> (Encoder, Shapes) {
    let encoder = Encoder::new().unwrap();
    let shapes = Shapes::new(encoder.descriptors().clone());
    (encoder, shapes)
}

#[test]
fn every_draft_is_written_as_the_library_writes_it() {
    let (encoder, shapes) = tools();
    for draft in every_draft() {
        let inline = draft.body.to_string().contains("inline_bytes");
        let written = is_written(&encoder, &shapes, &draft);
        assert_eq!(written, !inline, "{:?} {:#}", draft.kind, draft.body);
    }
}

#[test]
fn all_forms_of_values_are_written_as_the_library_writes_them() {
    let (encoder, shapes) = tools();
    let bodies = [
        json!({"name": "", "connect_timeout": "0s", "type": "STATIC", "respect_dns_ttl": false}),
        json!({"name": "नमस्ते", "connect_timeout": "1.000000001s", "type": "EDS"}),
        json!({"cleanup_interval": "315576000s", "respect_dns_ttl": true, "lb_policy": "MAGLEV"}),
        json!({"per_connection_buffer_limit_bytes": 0, "health_checks": [], "outlier_detection": {}}),
        json!({"outlier_detection": {"consecutive_5xx": 4_294_967_295_u32, "enforcing_success_rate": 0}}),
        json!({"common_lb_config": {"healthy_panic_threshold": {"value": 0.1}}, "load_assignment": {
            "cluster_name": "no", "policy": {"overprovisioning_factor": 140}}}),
        json!({"health_checks": [{"http_health_check": {"path": "/", "retriable_statuses": [],
            "expected_statuses": [{"start": 200, "end": i64::from(i32::MAX)}]}}]}),
        json!({"metadata": {"filter_metadata": {"a": {}, "b": {"null": null, "list": [1, "x", [], {}],
            "yes": true, "no": false, "deep": {"number": -0.5}}}}}),
        json!({"transport_socket": {"name": "x".repeat(200), "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"}}}),
    ];
    for body in bodies {
        let draft = Draft::new(ResourceType::Cluster, "x", body);
        assert!(is_written(&encoder, &shapes, &draft), "{:#}", draft.body);
    }
    let routes = json!({"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
        {"match": {"prefix": "/"}, "route": {"retry_policy": {"retriable_status_codes": [503, 0, 70000]},
            "weighted_clusters": {"clusters": [{"name": "a", "weight": 1}, {"name": "b", "weight": 0}]}}},
        {"match": {"path": "/"}, "route": {"cluster": "c", "request_mirror_policies": [{"cluster": "d"}]}},
    ]}]});
    let draft = Draft::new(ResourceType::RouteConfiguration, "r", routes);
    assert!(is_written(&encoder, &shapes, &draft));
}

#[test]
fn a_filter_that_nodes_have_as_a_file_is_written_however_long_its_configuration_is() {
    let (encoder, shapes) = tools();
    for long in [1, 127, 128, 100_000] {
        let file = FilterFile {
            path: "/etc/mumbai-mesh/filter.wasm".into(),
            sha256: code().sha256().into(),
        };
        let draft = filter("\"".repeat(long), Some(&file), &code());
        assert!(is_written(&encoder, &shapes, &draft), "{long}");
    }
}

#[test]
fn what_it_is_not_certain_of_the_library_reads_or_refuses() {
    let (encoder, shapes) = tools();
    let good = [
        json!({"name": null}),
        json!({"typed_extension_protocol_options": {"x": {
            "@type": "type.googleapis.com/google.protobuf.Empty", "value": {}}}}),
        json!({"connectTimeout": "1s"}),
        json!({"connect_timeout": "-1s"}),
        json!({"type": 3}),
        json!({"per_connection_buffer_limit_bytes": "1"}),
    ];
    for body in good {
        let draft = Draft::new(ResourceType::Cluster, "x", body);
        assert!(!is_written(&encoder, &shapes, &draft), "{:#}", draft.body);
        encoder.encode(draft).unwrap();
    }
    let bad = [
        (json!({"nmae": "x"}), "nmae"),
        (json!({"type": "EDSS"}), "EDSS"),
        (json!({"connect_timeout": "1"}), "connect_timeout"),
        (json!({"name": 1}), "name"),
        (
            json!({"per_connection_buffer_limit_bytes": 4_294_967_296_u64}),
            "per_connection_buffer_limit_bytes",
        ),
        (json!({"health_checks": {}}), "health_checks"),
        (
            json!({"transport_socket": {"typed_config": {"@type": "a/none"}}}),
            "none",
        ),
        (
            json!({"type": "EDS", "cluster_type": {"name": "x"}}),
            "cluster_discovery_type",
        ),
    ];
    for (body, word) in bad {
        let draft = Draft::new(ResourceType::Cluster, "x", body);
        assert!(write(&shapes, draft.kind.url(), &draft.body).is_err());
        let problem = encoder.encode(draft).unwrap_err().to_string();
        assert!(problem.contains(word), "{problem}");
    }
}
