//! Raw resources on the real server: applied by call, by file, refused, kept over `kill -9` and full
//! disks, and seen by those nodes for which they are.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path};

use anyhow::{Context, Result, ensure};
use envoy_types::pb::envoy::config::{cluster::v3::Cluster, core::v3::Node};
use harness::{
    artifacts::Artifacts,
    server::{Options, Server, replace},
    wait::wait_for,
    xds::{Connection, Kind, Request, Service, Stream, Variant},
};
use prost::Message as _;
use serde_json::{Value, json};

use crate::door1::BOUND;

const APPLY: &str = "/api/v1/resources:apply";
const RESOURCES: &str = "/api/v1/resources";
const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
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

fn start(dir: &Path, mesh: &str, options: &Options<'_>) -> Result<Server> {
    Server::start(&Artifacts::from_env()?, dir, mesh, options)
}

fn cluster(name: &str, timeout: u32) -> Value {
    json!({"@type": CLUSTER, "name": name, "connect_timeout": format!("{timeout}s")})
}

fn post(server: &Server, call: &Value) -> Result<(u16, Value)> {
    server.api_post(APPLY, call.to_string().as_bytes())
}

/// The revision of a call that must be accepted.
fn apply(server: &Server, call: &Value) -> Result<u64> {
    let (status, answer) = post(server, call)?;
    ensure!(status == 200, "{status}: {answer}");
    let revision = answer["revision"].as_u64();
    ensure!(
        answer.as_object().is_some_and(|answer| answer.len() == 1),
        "{answer}"
    );
    revision.with_context(|| answer.to_string())
}

fn names(server: &Server) -> Result<Vec<String>> {
    let listed = server.api_get(RESOURCES)?;
    let resources = listed["resources"]
        .as_array()
        .with_context(|| listed.to_string())?;
    let name = |one: &Value| one["name"].as_str().unwrap_or_default().to_string();
    Ok(resources.iter().map(name).collect())
}

/// Waits until the folder's resources are these.
fn wait_names(server: &Server, expected: &[&str]) -> Result<()> {
    wait_for("the resources of the folder", BOUND, || {
        let names = names(server).map_err(|error| error.to_string())?;
        if names == expected {
            Ok(())
        } else {
            Err(format!("{names:?}"))
        }
    })
}

/// Waits until the listing's problems say so.
fn wait_problem(server: &Server, words: &str) -> Result<Value> {
    wait_for("the problem at the API", BOUND, || {
        let listed = server.api_get(RESOURCES);
        let problems = listed.map_err(|error| error.to_string())?["problems"].clone();
        if problems.to_string().contains(words) {
            Ok(problems)
        } else {
            Err(problems.to_string())
        }
    })
}

/// What `/metrics` says of it.
pub fn store_serves(server: &Server) -> Result<bool> {
    let page = harness::http::Client::new(server.api).get("/metrics", &[])?;
    let page = String::from_utf8(page.body)?;
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix("mumbai_mesh_store_serves "));
    Ok(line.context("no such metric")? == "1")
}

/// A node's stream, subscribed to all clusters.
pub struct Clusters(Stream);

impl Clusters {
    pub fn subscribe(xds: SocketAddr, id: &str, cluster: &str) -> Result<Self> {
        let connection = Connection::open(xds)?;
        let mut stream = Stream::open(&connection, Variant::Sotw, Service::Ads, id);
        stream.send_plain(Request::of(Kind::Cluster).whole_node(Node {
            id: id.into(),
            cluster: cluster.into(),
            ..Node::default()
        }));
        Ok(Self(stream))
    }
}

/// Names and connect timeouts in seconds of the clusters that a client has.
fn known(stream: &Stream) -> BTreeMap<String, i64> {
    let has = stream.has(Kind::Cluster).into_values();
    let clusters = has.filter_map(|one| Cluster::decode(one.body.as_slice()).ok());
    clusters
        .map(|cluster| {
            let timeout = cluster.connect_timeout.map_or(0, |timeout| timeout.seconds);
            (cluster.name, timeout)
        })
        .collect()
}

/// Waits until a node knows exactly these clusters.
pub fn wait_known(node: &mut Clusters, expected: &[(&str, i64)]) -> Result<()> {
    let expected: BTreeMap<String, i64> = expected
        .iter()
        .map(|(name, timeout)| ((*name).into(), *timeout))
        .collect();
    let taken = node
        .0
        .take_until("what the node is sent", |stream| known(stream) == expected);
    taken.with_context(|| format!("{:?} instead of {expected:?}", known(&node.0)))?;
    Ok(())
}

#[test]
fn each_node_sees_what_is_for_it_and_the_more_precise_wins() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let server = start(dir.path(), MESH, &Options::default())?;
    let mut gateway = Clusters::subscribe(server.xds, "edge-1", "edge")?;
    let mut other = Clusters::subscribe(server.xds, "other-1", "other")?;
    wait_known(&mut gateway, &[("order-service", 1)])?;

    apply(&server, &json!({"set": [cluster("a", 2), cluster("b", 2)]}))?;
    apply(
        &server,
        &json!({"set": [cluster("a", 3)], "nodes": {"cluster": "edge"}}),
    )?;
    apply(
        &server,
        &json!({"set": [cluster("a", 4)], "nodes": {"id": "other-1"}}),
    )?;
    wait_known(&mut gateway, &[("a", 3), ("b", 2), ("order-service", 1)])?;
    wait_known(&mut other, &[("a", 4), ("b", 2)])?;

    // What the mesh produces stays, unless somebody insists.
    let replace = json!({"set": [cluster("order-service", 7)], "override": true});
    apply(&server, &replace)?;
    wait_known(&mut gateway, &[("a", 3), ("b", 2), ("order-service", 7)])?;

    // Removed within exactly the nodes that a call names.
    apply(&server, &json!({"remove_all": true}))?;
    wait_known(&mut gateway, &[("a", 3), ("order-service", 1)])?;
    wait_known(&mut other, &[("a", 4)])?;
    Ok(())
}

#[test]
fn what_is_applied_again_is_no_revision_and_no_push() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let server = start(dir.path(), "{}", &Options::default())?;
    let mut node = Clusters::subscribe(server.xds, "node-1", "node")?;
    let call = json!({"set": [cluster("a", 2)]});
    let revision = apply(&server, &call)?;
    wait_known(&mut node, &[("a", 2)])?;
    ensure!(apply(&server, &call)? == revision);
    // What comes next is the next change, and nothing came before it.
    apply(&server, &json!({"set": [cluster("b", 1)]}))?;
    let next = node.0.take(Kind::Cluster)?;
    assert_eq!(next.names(), ["a", "b"]);
    wait_known(&mut node, &[("a", 2), ("b", 1)])
}

#[test]
fn a_bad_resource_is_told_by_field_line_and_column_and_nothing_is_applied() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let server = start(dir.path(), MESH, &Options::default())?;
    let call = format!(
        "{{\"set\": [\n  {{\"@type\": \"{CLUSTER}\", \"name\": \"good\"}},\n  \
         {{\"@type\": \"{CLUSTER}\", \"name\": \"typo\",\n   \"connect_timeot\": \"1s\"}},\n  \
         {{\"@type\": \"{CLUSTER}\", \"name\": \"bad\", \"type\": \"NO\"}}]}}"
    );
    let (status, answer) = server.api_post(APPLY, call.as_bytes())?;
    ensure!(status == 400, "{status}: {answer}");
    let typo = json!({"index": 1, "type": CLUSTER, "name": "typo", "field": "connect_timeot",
        "message": "unknown field (did you mean \"connect_timeout\"?)", "line": 4, "column": 4});
    assert_eq!(answer["problems"][0], typo);
    let bad = &answer["problems"][1];
    assert_eq!((&bad["index"], &bad["field"]), (&json!(2), &json!("type")));
    assert_eq!((&bad["line"], &bad["column"]), (&json!(5), &json!(91)));
    ensure!(
        answer["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("line 4, column 4"))
    );

    let conflict = json!({"set": [cluster("order-service", 7), cluster("good", 1)]});
    let (status, answer) = post(&server, &conflict)?;
    ensure!(
        status == 409 && answer.to_string().contains("override"),
        "{status}: {answer}"
    );
    let would = server.api_post(
        &format!("{APPLY}?dry_run=true"),
        call.replace("typo", "x").as_bytes(),
    )?;
    ensure!(would.0 == 400, "{would:?}");
    let would = json!({"set": [cluster("good", 1)]}).to_string();
    let would = server.api_post(&format!("{APPLY}?dry_run=true"), would.as_bytes())?;
    ensure!(
        would == (200, json!({"revision": 0, "dry_run": true, "changes": 1})),
        "{would:?}"
    );
    ensure!(names(&server)?.is_empty());

    let much = vec![b' '; 64 * 1024 * 1024 + 1];
    let (status, answer) = server.api_post(APPLY, &much)?;
    ensure!(
        status == 413 && answer.to_string().contains("64 MiB"),
        "{status}: {answer}"
    );
    let (status, _) = server.api_post(APPLY, "[".repeat(1_000_000).as_bytes())?;
    ensure!(status == 400, "{status}");
    apply(&server, &json!({"set": [cluster("good", 1)]}))?;
    Ok(())
}

#[test]
fn a_listing_narrows_and_never_shows_a_private_key() -> Result<()> {
    const KEY: &str = "-----BEGIN PRIVATE KEY----- known canary";
    let dir = tempfile::tempdir()?;
    let server = start(dir.path(), "{}", &Options::default())?;
    let secret = json!({"@type": SECRET, "name": "server", "tls_certificate": {
        "certificate_chain": {"inline_string": "a chain"}, "private_key": {"inline_string": KEY}}});
    apply(
        &server,
        &json!({"set": [secret, cluster("a", 1)], "nodes": {"cluster": "edge"}}),
    )?;
    let one = server.api_get(&format!("{RESOURCES}?name=server"))?;
    let resource = &one["resources"][0];
    assert_eq!(one["resources"].as_array().map(Vec::len), Some(1));
    assert_eq!(resource["nodes"], json!({"cluster": "edge"}));
    assert_eq!(
        (&resource["source"], &resource["override"]),
        (&json!("api"), &json!(false))
    );
    let certificate = &resource["resource"]["tls_certificate"];
    assert_eq!(certificate["private_key"]["inline_string"], "[redacted]");
    assert_eq!(certificate["certificate_chain"]["inline_string"], "a chain");
    let clusters = server.api_get(&format!("{RESOURCES}?type={CLUSTER}&full=true"))?;
    assert_eq!(clusters["resources"].as_array().map(Vec::len), Some(1));
    assert_eq!(clusters["resources"][0]["resource"], cluster("a", 1));
    let all = server
        .api_get(&format!("{RESOURCES}?full=true"))?
        .to_string();
    ensure!(
        !all.contains("canary") && !server.log().contains("canary"),
        "{all}"
    );
    Ok(())
}

#[test]
fn kill_9_loses_nothing_that_was_answered_and_versions_stay() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut server = start(dir.path(), "{}", &Options::default())?;
    let mut last = 0;
    for timeout in 1..=40 {
        let name = format!("c{}", timeout % 7);
        last = apply(&server, &json!({"set": [cluster(&name, timeout)]}))?;
    }
    let before = server.api_get(&format!("{RESOURCES}?full=true"))?;
    server.process().kill()?;
    let server = start(dir.path(), "{}", &Options::default())?;
    assert_eq!(server.api_get(&format!("{RESOURCES}?full=true"))?, before);
    assert_eq!(before["revision"], last);
    ensure!(apply(&server, &json!({"set": [cluster("new", 1)]}))? == last + 1);

    // One state dir, one server.
    let second = start(dir.path(), "{}", &Options::default());
    let error = format!(
        "{:#}",
        second.err().context("two servers on one state dir")?
    );
    ensure!(error.contains("in use by another server"), "{error}");
    Ok(())
}

#[test]
fn kill_9_amid_calls_loses_nothing_that_was_answered() -> Result<()> {
    const CALLERS: usize = 3;
    let dir = tempfile::tempdir()?;
    for round in 0..3 {
        let mut server = start(dir.path(), "{}", &Options::default())?;
        let before = server.api_get(RESOURCES)?["revision"].as_u64();
        let before = before.context("no revision")?;
        let (api, answered) = (server.api, std::sync::atomic::AtomicU64::new(0));
        let last: Vec<Option<u64>> = std::thread::scope(|scope| -> Result<_> {
            let call = |caller: usize| {
                let answered = &answered;
                // Until nobody answers any more: the timeout of the last call that was answered.
                scope.spawn(move || {
                    let mut last = None;
                    for timeout in 1.. {
                        let call = json!({"set": [cluster(&format!("{round}-{caller}"), timeout)]});
                        let mut client = harness::http::Client::new(api);
                        match client.post(APPLY, call.to_string().as_bytes()) {
                            Ok(answer) if answer.status == 200 => last = Some(u64::from(timeout)),
                            _ => break,
                        }
                        answered.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                    last
                })
            };
            let callers: Vec<_> = (0..CALLERS).map(call).collect();
            wait_for("some calls to be answered", BOUND, || {
                match answered.load(std::sync::atomic::Ordering::Relaxed) {
                    count if count >= 20 => Ok(()),
                    count => Err(count.to_string()),
                }
            })?;
            server.process().kill()?;
            let joined = callers
                .into_iter()
                .map(|caller| caller.join().ok().flatten());
            Ok(joined.collect())
        })?;
        let server = start(dir.path(), "{}", &Options::default())?;
        let listed = server.api_get(&format!("{RESOURCES}?full=true"))?;
        let all = last.iter().flatten().sum::<u64>();
        let revision = listed["revision"].as_u64().context("no revision")?;
        // Each may have had one more call that was carried out and not answered.
        let more = revision - before - all;
        ensure!(
            more <= CALLERS as u64,
            "{revision} after {before} and {all} calls"
        );
        for (caller, last) in last.iter().enumerate() {
            let name = format!("{round}-{caller}");
            let resources = listed["resources"].as_array().context("no resources")?;
            let found = resources.iter().find(|one| one["name"] == *name);
            let timeout = found.and_then(|one| one["resource"]["connect_timeout"].as_str());
            let timeout = timeout.and_then(|text| text.strip_suffix('s')?.parse::<u64>().ok());
            ensure!(
                timeout >= *last,
                "{name}: {timeout:?} after {last:?} was answered"
            );
        }
    }
    Ok(())
}

#[test]
fn a_full_disk_refuses_the_call_and_nothing_else() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut server = start(dir.path(), "{}", &Options::default())?;
    apply(&server, &json!({"set": [cluster("a", 1)]}))?;
    let before = server.api_get(RESOURCES)?;
    server.process().limit_files(Some(4096))?;
    let big = json!({"set": [cluster("b", 1), cluster(&"long".repeat(50_000), 1)]});
    for _ in 0..3 {
        let (status, answer) = post(&server, &big)?;
        ensure!(
            status == 507 && answer.to_string().contains("make space"),
            "{status}: {answer}"
        );
        assert_eq!(server.api_get(RESOURCES)?, before);
    }
    ensure!(!store_serves(&server)?);
    server.process().limit_files(None)?;
    let mut node = Clusters::subscribe(server.xds, "node-1", "node")?;
    wait_known(&mut node, &[("a", 1)])?;
    ensure!(apply(&server, &json!({"set": [cluster("b", 1)]}))? == 2);
    ensure!(store_serves(&server)?);
    wait_known(&mut node, &[("a", 1), ("b", 1)])?;
    server.process().kill()?;
    let server = start(dir.path(), "{}", &Options::default())?;
    assert_eq!(names(&server)?, ["a", "b"]);
    Ok(())
}

#[test]
fn who_believes_in_another_revision_of_resources_changes_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let server = start(dir.path(), "{}", &Options::default())?;
    let mut client = harness::http::Client::new(server.api);
    let mut set = |timeout: u32, tag: &str| {
        let body = json!({"set": [cluster("a", timeout)]}).to_string();
        let headers = [("if-match", tag.as_bytes())];
        client.request("POST", "/api/v1/resources:apply", &headers, body.as_bytes())
    };
    ensure!(set(1, "*")?.status == 412, "there is no revision yet");
    let first = set(1, "\"0\"")?;
    ensure!(first.status == 200 && first.header("etag") == Some(b"\"1\""));
    ensure!(set(2, "\"1\", \"9\"")?.status == 200);
    let late = set(3, "\"1\"")?;
    ensure!(late.status == 412 && late.json()?["detail"].to_string().contains("revision 2"));
    let listed = harness::http::Client::new(server.api).get(RESOURCES, &[])?;
    ensure!(listed.header("etag") == Some(b"\"2\"") && listed.json()?["revision"] == 2);
    Ok(())
}

#[test]
fn a_folder_is_followed_and_a_bad_file_takes_nothing_away() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let folder = dir.path().join("resources");
    fs::create_dir(&folder)?;
    let one = folder.join("one.json");
    let two = folder.join("two.yaml");
    replace(&one, &cluster("one", 1).to_string())?;
    let options = Options {
        resources: Some(&folder),
        ..Options::default()
    };
    let server = start(dir.path(), "{}", &options)?;
    assert_eq!(
        names(&server)?,
        ["one"],
        "what is there is served from the start"
    );
    let mut edge = Clusters::subscribe(server.xds, "edge-1", "edge")?;
    wait_known(&mut edge, &[("one", 1)])?;

    let text = format!(
        "nodes: {{cluster: edge}}\nset:\n  - \"@type\": {CLUSTER}\n    name: two\n    connect_timeout: 2s\n"
    );
    replace(&two, &text)?;
    wait_known(&mut edge, &[("one", 1), ("two", 2)])?;

    // A mistake in one file does not hold up the other.
    fs::write(&two, text.replace("connect_timeout", "connect_timeot"))?;
    replace(&one, &cluster("one", 5).to_string())?;
    wait_known(&mut edge, &[("one", 5), ("two", 2)])?;
    let problem = &wait_problem(&server, "two.yaml")?[0];
    assert_eq!(
        (&problem["file"], &problem["name"]),
        (&json!("two.yaml"), &json!("two"))
    );
    assert_eq!(problem["field"], "connect_timeot");
    ensure!(
        server.log().contains("two.yaml: set[0] Cluster \"two\""),
        "{}",
        server.log()
    );

    // What a file holds is changed there.
    let (status, answer) = post(&server, &json!({"set": [cluster("one", 9)]}))?;
    ensure!(
        status == 409 && answer.to_string().contains("one.json"),
        "{status}: {answer}"
    );
    apply(&server, &json!({"remove_all": true}))?;
    assert_eq!(names(&server)?, ["one", "two"]);
    Ok(())
}

#[test]
fn a_bad_file_holds_what_it_said_over_a_restart_and_a_missing_folder_takes_nothing_away()
-> Result<()> {
    let dir = tempfile::tempdir()?;
    let folder = dir.path().join("resources");
    fs::create_dir(&folder)?;
    let (one, two) = (folder.join("one.json"), folder.join("two.json"));
    replace(&one, &cluster("one", 1).to_string())?;
    replace(&two, &cluster("two", 1).to_string())?;
    let options = Options {
        resources: Some(&folder),
        ..Options::default()
    };
    let mut server = start(dir.path(), "{}", &options)?;
    fs::write(&two, "{\"@type\": ")?;
    wait_problem(&server, "two.json")?;
    server.process().kill()?;
    let server = start(dir.path(), "{}", &options)?;
    assert_eq!(names(&server)?, ["one", "two"]);
    fs::remove_file(&two)?;
    wait_names(&server, &["one"])?;
    let aside = dir.path().join("aside");
    fs::rename(&folder, &aside)?;
    wait_problem(&server, "the folder cannot be read")?;
    assert_eq!(names(&server)?, ["one"]);
    fs::rename(&aside, &folder)?;
    fs::remove_file(&one)?;
    wait_names(&server, &[])?;
    Ok(())
}
