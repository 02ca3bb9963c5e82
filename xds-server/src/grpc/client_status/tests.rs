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
        Talk, all, answered, sent, stream, subscribe,
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

/// `name version status at-the-client`.
fn told(talk: &Talk) -> Vec<String> {
    let clients = ask(&[Arc::clone(&talk.status)], &ClientStatusRequest::default());
    let one = |config: &GenericXdsConfig| {
        let client = ClientResourceStatus::try_from(config.client_status).unwrap();
        format!(
            "{} {:?} {:?} {:?}",
            config.name,
            config.version_info,
            status(config),
            client
        )
    };
    clients[0].generic_xds_configs.iter().map(one).collect()
}

fn clusters(versions: &[(&str, &str)]) -> Arc<View> {
    let one = |(name, version): &(&str, &str)| {
        let resource = Resource::new(Cluster, name, version, b"");
        (Cluster, Arc::new(resource))
    };
    Arc::new(View::new(versions.iter().map(one).collect()))
}

#[test]
fn of_a_rejected_response_those_are_errors_that_the_client_rejected() {
    let first = clusters(&[("a", "1"), ("b", "1"), ("c", "1")]);
    let mut talk = Talk::begin("edge-1", "edge", Variant::Delta, &first);
    talk.ask(Cluster, subscribe(&["*"], &[]));
    talk.answer(Cluster, None);
    talk.see(&clusters(&[("a", "2"), ("b", "2"), ("c", "1")]));
    let unanswered = [
        "a \"2\" Stale Acked",
        "b \"2\" Stale Acked",
        "c \"1\" Synced Acked",
    ];
    assert_eq!(told(&talk), unanswered);
    talk.answer(Cluster, Some("Error adding/updating cluster(s) b: no"));
    let rejected = [
        "a \"2\" Synced Acked",
        "b \"2\" Error Nacked",
        "c \"1\" Synced Acked",
    ];
    assert_eq!(told(&talk), rejected);
    let clients = ask(&[Arc::clone(&talk.status)], &ClientStatusRequest::default());
    let [a, b, c] = &clients[0].generic_xds_configs[..] else {
        panic!("{clients:?}");
    };
    assert_eq!((&a.error_state, &c.error_state), (&None, &None));
    let error = b.error_state.as_ref().unwrap();
    assert_eq!(
        (&*error.version_info, &*error.details),
        ("2", "Error adding/updating cluster(s) b: no")
    );
    assert_eq!(error.last_update_attempt, Some(timestamp(answered())));

    // Another one is rejected later, in other words; each keeps its own.
    talk.see(&clusters(&[("a", "2"), ("b", "2"), ("c", "3")]));
    talk.answer(Cluster, Some("c is bad too"));
    let clients = ask(&[Arc::clone(&talk.status)], &ClientStatusRequest::default());
    let configs = clients[0].generic_xds_configs.iter();
    let words: Vec<_> = configs
        .filter_map(|config| Some(&*config.error_state.as_ref()?.details))
        .collect();
    assert_eq!(
        words,
        ["Error adding/updating cluster(s) b: no", "c is bad too"]
    );
    talk.see(&clusters(&[("a", "2"), ("b", "3"), ("c", "4")]));
    talk.answer(Cluster, None);
    assert!(
        told(&talk)
            .iter()
            .all(|told| told.ends_with("Synced Acked"))
    );
}

#[test]
fn what_a_client_kept_from_an_earlier_stream_is_shown_by_name_and_version() {
    let view = clusters(&[("a", "1"), ("b", "2")]);
    let mut talk = Talk::begin("edge-1", "edge", Variant::Delta, &view);
    talk.ask(Cluster, subscribe(&["*"], &[("a", "1"), ("b", "1")]));
    // Of b it has an older version.
    assert_eq!(told(&talk), ["a \"1\" Synced Acked", "b \"2\" Stale Acked"]);
    talk.answer(Cluster, None);
    assert_eq!(
        told(&talk),
        ["a \"1\" Synced Acked", "b \"2\" Synced Acked"]
    );
}

#[test]
fn a_name_that_does_not_exist_is_shown_as_that() {
    for variant in [Variant::Delta, Variant::StateOfTheWorld] {
        let mut talk = Talk::begin("edge-1", "edge", variant, &clusters(&[("a", "1")]));
        let interest = match variant {
            Variant::Delta => subscribe(&["a", "never"], &[]),
            Variant::StateOfTheWorld => all(&["a", "never"]),
        };
        talk.ask(Cluster, interest);
        talk.answer(Cluster, None);
        let one = told(&talk);
        assert!(
            one[0].starts_with("a ") && one[0].ends_with(" Synced Acked"),
            "{one:?}"
        );
        assert_eq!(one[1], "never \"\" NotSent DoesNotExist");
        talk.see(&clusters(&[("a", "1"), ("never", "1")]));
        assert!(
            told(&talk)[1].ends_with("Stale Requested"),
            "{:?}",
            told(&talk)
        );
        talk.answer(Cluster, None);
        assert!(
            told(&talk)[1].ends_with("Synced Acked"),
            "{:?}",
            told(&talk)
        );
    }
}

/// The state of the world has no word for it, but of clusters and listeners.
#[test]
fn what_is_no_more_is_shown_as_that() {
    use ResourceType::ClusterLoadAssignment;
    for variant in [Variant::Delta, Variant::StateOfTheWorld] {
        let full = view(&[(ClusterLoadAssignment, "a", b"")]);
        let mut talk = Talk::begin("edge-1", "edge", variant, &full);
        let interest = match variant {
            Variant::Delta => subscribe(&["a"], &[]),
            Variant::StateOfTheWorld => all(&["a"]),
        };
        talk.ask(ClusterLoadAssignment, interest);
        talk.answer(ClusterLoadAssignment, None);
        talk.see(&view(&[]));
        talk.answer(ClusterLoadAssignment, None);
        assert_eq!(told(&talk), ["a \"\" NotSent DoesNotExist"]);
    }
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
