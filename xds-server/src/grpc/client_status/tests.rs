use envoy_types::pb::envoy::{
    config::core::v3::{DataSource, data_source::Specifier},
    extensions::transport_sockets::tls::v3::{Secret, TlsCertificate, secret},
    r#type::matcher::v3::{NodeMatcher, StringMatcher, string_matcher::MatchPattern},
};

use super::*;
use crate::{
    compile::Encoder,
    proxies::imagined::{
        Says::{Accepts, Nothing, Rejects},
        answered, sent, stream,
    },
    resource::View,
};

use ResourceType::{Cluster, Listener, Secret as SecretType};

fn redactor() -> Redactor {
    Redactor::new(Encoder::new().unwrap().descriptors())
}

fn secret(key: &str) -> Vec<u8> {
    let inline = |text: &str| DataSource {
        specifier: Some(Specifier::InlineString(text.into())),
        ..DataSource::default()
    };
    let certificate = TlsCertificate {
        certificate_chain: Some(inline("public chain")),
        private_key: Some(inline(key)),
        ..TlsCertificate::default()
    };
    let secret = Secret {
        name: "orders".into(),
        r#type: Some(secret::Type::TlsCertificate(certificate)),
    };
    secret.encode_to_vec()
}

fn view(resources: &[(ResourceType, &str, &[u8])]) -> Arc<View> {
    let resources = resources.iter().map(|(kind, name, body)| {
        let version = format!("version of {name}");
        (*kind, Arc::new(Resource::new(*kind, name, &version, body)))
    });
    Arc::new(View::new(resources.collect()))
}

fn ask(streams: &[Arc<StreamStatus>], request: &ClientStatusRequest) -> Vec<ClientConfig> {
    answer(streams, request, &redactor()).unwrap().config
}

fn status(config: &GenericXdsConfig) -> ConfigStatus {
    ConfigStatus::try_from(config.config_status).unwrap()
}

#[test]
fn each_resource_is_told_with_what_became_of_it() {
    let view = view(&[
        (Cluster, "a", b""),
        (Cluster, "b", b""),
        (Listener, "in", b""),
    ]);
    let said = [(Cluster, Accepts), (Listener, Rejects("no such filter"))];
    let clients = ask(
        &[stream("edge-1", "edge", &view, &said)],
        &ClientStatusRequest::default(),
    );
    let [client] = &clients[..] else {
        panic!("{clients:?}");
    };
    let node = client.node.as_ref().unwrap();
    assert_eq!((&*node.id, &*node.cluster), ("edge-1", "edge"));
    assert_eq!(node.locality.as_ref().unwrap().zone, "mumbai-west");
    let [a, b, listener] = &client.generic_xds_configs[..] else {
        panic!("{client:?}");
    };
    assert_eq!((&*a.name, &*b.name, &*listener.name), ("a", "b", "in"));
    assert_eq!(a.version_info, "version of a");
    assert_eq!(a.type_url, Cluster.url());
    assert_eq!(a.xds_config.as_ref().unwrap().type_url, Cluster.url());
    assert_eq!(a.last_updated, Some(timestamp(sent())));
    assert_eq!(
        (status(a), status(b)),
        (ConfigStatus::Synced, ConfigStatus::Synced)
    );
    assert_eq!(a.error_state, None);
    assert_eq!(status(listener), ConfigStatus::Error);
    let error = listener.error_state.as_ref().unwrap();
    assert_eq!(error.details, "no such filter");
    assert_eq!(error.last_update_attempt, Some(timestamp(answered())));
    assert!(!error.version_info.is_empty());
}

#[test]
fn a_response_without_an_answer_is_stale_and_a_type_without_resources_says_so() {
    let view = view(&[(Cluster, "a", b"")]);
    let said = [(Cluster, Nothing), (Listener, Nothing)];
    let clients = ask(
        &[stream("edge-1", "edge", &view, &said)],
        &ClientStatusRequest::default(),
    );
    let [cluster, listener] = &clients[0].generic_xds_configs[..] else {
        panic!("{clients:?}");
    };
    assert_eq!(status(cluster), ConfigStatus::Stale);
    assert_eq!((&*listener.name, &*listener.type_url), ("", Listener.url()));
    assert_eq!(status(listener), ConfigStatus::Stale);
}

#[test]
fn private_keys_are_redacted_and_contents_may_be_left_out() {
    let key = "-----BEGIN PRIVATE KEY----- known-canary";
    let view = view(&[(SecretType, "orders", &secret(key))]);
    let streams = [stream(
        "orders-1",
        "orders",
        &view,
        &[(SecretType, Accepts)],
    )];
    let mut request = ClientStatusRequest::default();
    let shown = answer(&streams, &request, &redactor()).unwrap();
    let text = String::from_utf8_lossy(&shown.encode_to_vec()).into_owned();
    assert!(
        !text.contains("canary") && text.contains("public chain"),
        "{text}"
    );
    assert!(text.contains("[redacted]"), "{text}");
    request.exclude_resource_contents = true;
    let config = &ask(&streams, &request)[0].generic_xds_configs[0];
    assert_eq!((&*config.name, &config.xds_config), ("orders", &None));
}

#[test]
fn a_question_about_one_node_is_answered_about_that_one() {
    let view = view(&[(Cluster, "a", b"")]);
    let streams =
        ["edge-2", "edge-1", "edge-1"].map(|id| stream(id, "edge", &view, &[(Cluster, Accepts)]));
    let ids = |clients: Vec<ClientConfig>| -> Vec<String> {
        let nodes = clients.into_iter().filter_map(|client| client.node);
        nodes.map(|node| node.id).collect()
    };
    assert_eq!(
        ids(ask(&streams, &ClientStatusRequest::default())),
        ["edge-1", "edge-2"]
    );
    let exact = StringMatcher {
        match_pattern: Some(MatchPattern::Exact("edge-1".into())),
        ..StringMatcher::default()
    };
    let request = ClientStatusRequest {
        node_matchers: vec![NodeMatcher {
            node_id: Some(exact),
            ..NodeMatcher::default()
        }],
        ..ClientStatusRequest::default()
    };
    let clients = ask(&streams, &request);
    assert_eq!(
        clients[0].generic_xds_configs.len(),
        2,
        "one of each stream"
    );
    assert_eq!(ids(clients), ["edge-1"]);
}

#[test]
fn an_answer_that_is_too_large_is_refused_with_the_way_out() {
    let body = envoy_types::pb::envoy::config::cluster::v3::Cluster {
        name: "x".repeat(8 * 1024 * 1024),
        ..Default::default()
    };
    let view = view(&[(Cluster, "large", &body.encode_to_vec())]);
    let streams: Vec<_> = (0..5)
        .map(|number| {
            stream(
                &format!("edge-{number}"),
                "edge",
                &view,
                &[(Cluster, Accepts)],
            )
        })
        .collect();
    let refusal = answer(&streams, &ClientStatusRequest::default(), &redactor()).unwrap_err();
    assert_eq!(refusal.code(), tonic::Code::ResourceExhausted);
    assert!(
        refusal.message().contains("exclude_resource_contents"),
        "{refusal}"
    );
    let request = ClientStatusRequest {
        exclude_resource_contents: true,
        ..ClientStatusRequest::default()
    };
    assert_eq!(ask(&streams, &request).len(), 5);
}

#[test]
fn instants_before_1970_are_timestamps_too() {
    let at = timestamp(WallTime::from_unix_millis(-1));
    assert_eq!((at.seconds, at.nanos), (-1, 999_000_000));
}
