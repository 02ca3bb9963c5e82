//! Raw resources as their owner is asked: calls and restarts.

use std::{
    path::Path,
    sync::{Arc, LazyLock},
};

use policy::time::WallTime;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    Applied, Key, Mode, Nodes, Problem, RawResources, RawState, Refusal, Source, files::Look,
};
use crate::{
    catalog::Revision,
    compile::Encoder,
    desired::Desired,
    mesh::{self, Defaults},
    redact::Redactor,
    resource::ResourceType,
    store::{About, Embedded, StoreError},
};

static ENCODER: LazyLock<Arc<Encoder>> = LazyLock::new(|| Arc::new(Encoder::new().unwrap()));

const MESH: &str = "\
services:
  order-service:
    sidecar: false
    endpoints: [{id: order-1, host: 127.0.0.1, port: 8081}]
gateways:
  edge:
    listen: 127.0.0.1:10000
    routes: [{match: {path_prefix: /}, service: order-service}]
";

fn revisions(mesh: &str) -> watch::Receiver<Arc<Revision>> {
    let revision = Revision {
        number: 1,
        accepted_at: WallTime::from_unix_millis(0),
        mesh: Arc::new(mesh::read(mesh, &Defaults::default()).unwrap()),
        desired: Arc::new(Desired::of("{}".into())),
    };
    watch::Sender::new(Arc::new(revision)).subscribe()
}

pub(super) fn open_with(folder: &Path, look: Option<Look>) -> Result<RawResources, StoreError> {
    let store = Arc::new(Embedded::open(folder)?);
    RawResources::open(store, look, Arc::clone(&ENCODER), revisions(MESH))
}

pub(super) fn open(folder: &Path) -> RawResources {
    open_with(folder, None).unwrap()
}

pub(super) fn cluster(name: &str, timeout: &str) -> Value {
    json!({"@type": ResourceType::Cluster.url(), "name": name, "connect_timeout": timeout})
}

pub(super) fn about() -> About {
    About::of_api(WallTime::from_unix_millis(0))
}

pub(super) fn apply(resources: &RawResources, call: &Value) -> Result<Applied, Refusal> {
    resources.apply(call.to_string().as_bytes(), Mode::Apply, &about())
}

pub(super) fn done(resources: &RawResources, call: &Value) -> Applied {
    apply(resources, call).unwrap()
}

fn problems(refused: Result<Applied, Refusal>) -> Vec<Problem> {
    match refused {
        Err(Refusal::Invalid(problems)) => problems,
        other => panic!("not refused as invalid: {other:?}"),
    }
}

pub(super) fn conflicts(refused: Result<Applied, Refusal>) -> Vec<String> {
    match refused {
        Err(Refusal::Conflict(problems)) => problems.iter().map(ToString::to_string).collect(),
        other => panic!("no conflict: {other:?}"),
    }
}

pub(super) fn state(resources: &RawResources) -> Arc<RawState> {
    Arc::clone(&resources.states().borrow())
}

/// `nodes name version source`, sorted.
pub(super) fn told(state: &RawState) -> Vec<String> {
    let one = |(key, entry): (&Key, &Arc<super::Entry>)| {
        let source = match &entry.source {
            Source::Api => "api",
            Source::File(file) => file,
        };
        format!("{} of {} by {source}", key.name, key.nodes)
    };
    state.iter().map(one).collect()
}

fn version(state: &RawState, name: &str) -> String {
    let found = state.iter().find(|(key, _)| *key.name == *name);
    found.unwrap().1.resource.version.to_string()
}

#[test]
fn the_first_problem_of_each_bad_resource_is_told_at_its_place_and_nothing_is_applied() {
    let folder = tempfile::tempdir().unwrap();
    let resources = open(folder.path());
    let call = r#"{"set": [
  {"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "good"},
  {"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "typo",
   "connect_timeot": "1s", "type": "NO_SUCH"},
  {"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "enum",
   "type": "NO_SUCH"},
  {"name": "listener", "addressing": 1, "@type": "type.googleapis.com/envoy.config.listener.v3.Listener"},
  {"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": "nested",
   "filter_chains": [{"filters": [{"name": "http", "typed_config": {
     "stat_prefix": "x", "नाम": 1,
     "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"}}]}]},
  {"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": "stranger",
   "filter_chains": [{"filters": [{"name": "http", "typed_config": {"@type": "type.googleapis.com/a.B"}}]}]},
  {"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster"},
  {"@type": "type.googleapis.com/envoy.config.cluster.v4.Cluster", "name": "future"},
  {"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "good"},
  {"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "twice", "type": "EDS",
   "type": "EDS"},
  {"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "oneof", "type": "EDS",
   "clusterType": {"name": "x"}},
  7
]}"#;
    let problems = problems(resources.apply(call.as_bytes(), Mode::Apply, &about()));
    let told: Vec<_> = problems
        .iter()
        .map(|problem| {
            (
                problem.index.unwrap(),
                problem.field.as_deref().unwrap_or_default(),
                problem.line.unwrap(),
                problem.column.unwrap(),
            )
        })
        .collect();
    let expected = [
        (1, "connect_timeot", 4, 4),
        (2, "type", 6, 12),
        (3, "addressing", 7, 24),
        (4, "filter_chains[0].filters[0].typed_config.नाम", 10, 26),
        (5, "filter_chains[0].filters[0].typed_config", 13, 68),
        (6, "name", 14, 3),
        (7, "@type", 15, 13),
        (8, "", 16, 3),
        (9, "", 18, 9),
        (10, "type", 19, 85),
        (11, "", 21, 3),
    ];
    assert_eq!(told, expected, "{problems:#?}");
    let typos = [0, 3].map(|at: usize| problems[at].message.as_ref());
    assert_eq!(
        typos,
        [
            "unknown field (did you mean \"connect_timeout\"?)",
            "unknown field"
        ]
    );
    assert!(problems[6].message.contains(ResourceType::Secret.url()));
    assert_eq!(&*problems[7].message, "is in set[0] already");
    assert_eq!(state(&resources).revision(), 0);
}

#[test]
fn a_call_that_cannot_be_read_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let resources = open(folder.path());
    let url = ResourceType::Cluster.url();
    let cases: [(&[u8], &str); 8] = [
        (b"", "EOF while parsing a value"),
        (b"{\"set\": [}", "expected value (line 1, column 10)"),
        (b"{\n \"sett\": []}", "sett: unknown field; known: \"set\","),
        (b"{\"nodes\": {}}", "nodes: must be"),
        (
            b"{\"nodes\": {\"id\": \"\"}}",
            "nodes.id: must not be empty",
        ),
        (
            b"{\"nodes\": {\"id\": \"a\", \"cluster\": \"b\"}}",
            "nodes: names both a cluster and an id",
        ),
        (
            b"{\"remove\": [{\"type\": \"Cluster\", \"name\": \"a\"}]}",
            "remove[0].type: \"Cluster\" is not served; must be one of",
        ),
        (b"{\"set\":\n \"\xff\"}", "is not UTF-8 (line 2, column 3)"),
    ];
    for (call, words) in cases {
        let problems = problems(resources.apply(call, Mode::Apply, &about()));
        assert!(problems[0].to_string().contains(words), "{}", problems[0]);
    }
    // Depth and number must not bring the server down.
    let many = |element: &str, count| format!("{{\"set\": [{}]}}", vec![element; count].join(","));
    assert_eq!(
        problems(resources.apply(many("1", 5_000).as_bytes(), Mode::Apply, &about())).len(),
        100
    );
    let problem =
        &problems(resources.apply(many("1", 100_001).as_bytes(), Mode::Apply, &about()))[0];
    assert!(
        problem.message.starts_with("more than 100000 resources"),
        "{problem}"
    );
    let deep = |count: usize| {
        let (open, close) = ("{\"a\":".repeat(count), "}".repeat(count));
        let metadata = format!("{{\"filter_metadata\": {{\"x\": {open}1{close}}}}}");
        format!(
            "{{\"set\": [{{\"@type\": \"{url}\", \"name\": \"deep\", \"metadata\": {metadata}}}]}}"
        )
    };
    for count in [60, 120, 200, 100_000] {
        if let Err(Refusal::Invalid(problems)) =
            resources.apply(deep(count).as_bytes(), Mode::DryRun, &about())
        {
            assert!(count > 30, "{problems:?}");
        }
    }
    assert!(
        resources
            .apply(deep(20).as_bytes(), Mode::DryRun, &about())
            .is_ok()
    );
}

#[test]
fn a_private_key_is_in_no_problem_and_no_listing() {
    const KEY: &str = "-----BEGIN PRIVATE KEY----- known canary";
    let folder = tempfile::tempdir().unwrap();
    let resources = open(folder.path());
    let secret = |key: Value| {
        json!({"@type": ResourceType::Secret.url(), "name": "server", "tls_certificate": {
            "certificate_chain": {"inline_string": "public"}, "private_key": key,
            "password": {"inline_string": KEY}}})
    };
    let refused = apply(&resources, &json!({"set": [secret(json!(KEY))]}));
    let problem = &problems(refused)[0];
    assert_eq!(
        problem.field.as_deref(),
        Some("tls_certificate.private_key")
    );
    assert!(!problem.to_string().contains("canary"), "{problem}");

    let context = json!({"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {"tls_certificates": [{"privateKey": {"inline_bytes": "a25vd24gY2FuYXJ5"}}]}});
    let mut within = cluster("tls", "1s");
    within["transport_socket"] = json!({"name": "tls", "typed_config": context});
    let tickets = json!({"@type": ResourceType::Secret.url(), "name": "tickets",
        "session_ticket_keys": {"keys": [{"inline_string": KEY}]}});
    done(
        &resources,
        &json!({"set": [secret(json!({"inline_string": KEY})), within, tickets]}),
    );
    let state = state(&resources);
    assert!(!format!("{state:?}").contains("canary"));
    for (key, entry) in state.iter() {
        let told = Redactor::new(ENCODER.descriptors()).json(key.kind, &entry.resource.body());
        let told = told.unwrap().to_string();
        // As text, or as the same text in bytes.
        let redacted = ["[redacted]", "W3JlZGFjdGVkXQ=="];
        assert!(redacted.iter().any(|said| told.contains(said)), "{told}");
        assert!(
            !told.contains("canary") && !told.contains("a25vd24"),
            "{told}"
        );
        assert!(
            key.kind != ResourceType::Secret || told.contains("tickets") || told.contains("public")
        );
    }
}

#[test]
fn a_call_acts_within_its_nodes_and_removes_before_it_sets() {
    let folder = tempfile::tempdir().unwrap();
    let resources = open(folder.path());
    let edge = json!({"cluster": "edge"});
    done(
        &resources,
        &json!({"set": [cluster("a", "1s"), cluster("b", "1s")]}),
    );
    done(
        &resources,
        &json!({"set": [cluster("a", "2s")], "nodes": edge}),
    );
    done(
        &resources,
        &json!({"set": [cluster("a", "3s")], "nodes": {"id": "edge-1"}}),
    );
    let removal = json!([{"type": ResourceType::Cluster.url(), "name": "a"}]);
    let applied = done(&resources, &json!({"remove": removal, "nodes": edge}));
    assert_eq!(
        applied,
        Applied {
            revision: 4,
            changes: 1
        }
    );
    let held = [
        "a of every node by api",
        "b of every node by api",
        "a of node.id \"edge-1\" by api",
    ];
    assert_eq!(told(&state(&resources)), held);
    let call = json!({"remove_all": true, "set": [cluster("b", "1s"), cluster("c", "1s")]});
    assert_eq!(done(&resources, &call).changes, 2);
    let held = [
        "b of every node by api",
        "c of every node by api",
        "a of node.id \"edge-1\" by api",
    ];
    assert_eq!(told(&state(&resources)), held);
    done(
        &resources,
        &json!({"remove_all": true, "nodes": {"id": "edge-1"}}),
    );
    done(&resources, &json!({"remove_all": true}));
    assert!(told(&state(&resources)).is_empty());
}

#[test]
fn equal_content_has_an_equal_version_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let resources = open(folder.path());
    let first = done(&resources, &json!({"set": [cluster("a", "1s")]}));
    let before = state(&resources);
    let url = ResourceType::Cluster.url();
    let spelled = format!(
        "{{ \"set\": [{{\"connect_timeout\" : \"1s\",\n \"name\": \"\\u0061\", \"@type\": \"{url}\"}}]}}"
    );
    let applied = resources
        .apply(spelled.as_bytes(), Mode::Apply, &about())
        .unwrap();
    assert_eq!(
        applied,
        Applied {
            revision: first.revision,
            changes: 0
        }
    );
    assert!(Arc::ptr_eq(&before, &state(&resources)));

    let elsewhere = tempfile::tempdir().unwrap();
    let replica = open(elsewhere.path());
    replica
        .apply(spelled.as_bytes(), Mode::Apply, &about())
        .unwrap();
    assert_eq!(version(&state(&replica), "a"), version(&before, "a"));
}

#[test]
fn a_dry_run_says_what_would_be_said_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let resources = open(folder.path());
    let call = json!({"set": [cluster("a", "1s")]}).to_string();
    let would = resources
        .apply(call.as_bytes(), Mode::DryRun, &about())
        .unwrap();
    assert_eq!(
        would,
        Applied {
            revision: 0,
            changes: 1
        }
    );
    assert!(told(&state(&resources)).is_empty());
}

#[test]
fn what_the_mesh_produces_is_replaced_only_by_override() {
    let folder = tempfile::tempdir().unwrap();
    let resources = open(folder.path());
    let call = json!({"set": [cluster("order-service", "1s"), cluster("other", "1s")]});
    let conflicts = conflicts(apply(&resources, &call));
    assert_eq!(conflicts.len(), 1);
    assert!(conflicts[0].contains("\"override\": true"), "{conflicts:?}");
    assert!(told(&state(&resources)).is_empty());
    let mut call = call;
    call["override"] = json!(true);
    assert_eq!(done(&resources, &call).changes, 2);
}

#[test]
fn a_restart_finds_what_was_applied_with_its_versions_and_counts_on() {
    let folder = tempfile::tempdir().unwrap();
    let resources = open(folder.path());
    done(
        &resources,
        &json!({"set": [cluster("a", "1s"), cluster("b", "1s")]}),
    );
    done(
        &resources,
        &json!({"set": [cluster("a", "9s")], "nodes": {"cluster": "edge"}, "override": true}),
    );
    done(
        &resources,
        &json!({"remove": [{"type": ResourceType::Cluster.url(), "name": "b"}]}),
    );
    let before = state(&resources);
    let second = open_with(folder.path(), None).err().unwrap();
    assert!(matches!(second, StoreError::InUse(_)), "{second}");
    drop(resources);

    let resources = open(folder.path());
    let after = state(&resources);
    assert_eq!((after.revision(), told(&after)), (3, told(&before)));
    assert_eq!(version(&after, "a"), version(&before, "a"));
    let key = Key {
        nodes: Nodes::Cluster("edge".into()),
        kind: ResourceType::Cluster,
        name: "a".into(),
    };
    assert!(after.get(&key).unwrap().overrides);
    assert_eq!(done(&resources, &json!({"remove_all": true})).revision, 4);
}

#[test]
fn only_the_owner_may_read_what_is_kept() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let _resources = open(folder.path());
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let mode = file.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
    }
}
