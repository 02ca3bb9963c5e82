//! `kill -9` of a server at any moment of its writes: what was answered is there, and what was not is there whole or
//! not at all.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::Artifacts,
    http::Client,
    server::{Options, Server},
};
use serde_json::{Value, json};

/// Kills at random moments.
const KILLS: u64 = 200;
/// Names that calls write; each call writes two of them with the same mark.
const NAMES: u64 = 5;

fn cluster(name: u64, mark: u64) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": format!("c{name}"), "type": "STATIC", "connect_timeout": format!("{mark}s"),
    })
}

/// Names that one call writes.
fn pair(mark: u64) -> [u64; 2] {
    [mark % NAMES, NAMES + mark % NAMES]
}

/// Writes one call after the other until one is not answered: the last mark that was, and the one that was not.
fn write(api: SocketAddr, mut mark: u64, stop: &AtomicBool) -> (u64, Option<u64>) {
    let mut client = Client::new(api);
    while !stop.load(Ordering::Relaxed) {
        let set = pair(mark + 1).map(|name| cluster(name, mark + 1));
        let body = json!({"set": set}).to_string();
        match client.post("/api/v1/resources:apply", body.as_bytes()) {
            Ok(answer) if answer.status == 200 => mark += 1,
            _ => return (mark, Some(mark + 1)),
        }
    }
    (mark, None)
}

/// Marks by name, as the server has them.
fn marks(server: &Server) -> Result<BTreeMap<String, u64>> {
    let page = server.api_get("/api/v1/resources?full=true")?;
    let all = page["resources"].as_array().context("no resources")?;
    let mark = |one: &Value| {
        let name = one["name"].as_str()?.to_string();
        let time = one["resource"]["connect_timeout"].as_str()?;
        Some((name, time.trim_end_matches('s').parse().ok()?))
    };
    Ok(all.iter().filter_map(mark).collect())
}

/// What holds after all calls up to this one.
fn after(last: u64) -> BTreeMap<String, u64> {
    let mut expected = BTreeMap::new();
    for mark in last.saturating_sub(NAMES - 1).max(1)..=last {
        expected.extend(pair(mark).map(|name| (format!("c{name}"), mark)));
    }
    expected
}

#[test]
fn a_server_that_is_killed_at_any_moment_loses_nothing_that_it_answered() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let artifacts = Artifacts::from_env()?;
    let mut dice = fastrand::Rng::new();
    let (mut answered, mut unanswered) = (0, None);
    let mut whole = 0;
    for kill in 0..=KILLS {
        let mut server = Server::start(
            &artifacts,
            dir.path(),
            "mesh: {name: one}\n",
            &Options::default(),
        )?;
        let found = marks(&server)?;
        let as_answered = found == after(answered);
        let one_more = unanswered.filter(|more| found == after(*more));
        ensure!(
            as_answered || one_more.is_some(),
            "kill {kill}: answered {answered}, not {unanswered:?}, found {found:?}"
        );
        if let Some(more) = one_more.filter(|_| !as_answered) {
            answered = more;
            whole += 1;
        }
        if kill == KILLS {
            break;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (api, mark, seen) = (server.api, answered, Arc::clone(&stop));
        let writer = thread::spawn(move || write(api, mark, &seen));
        // At a random moment of its writes; that is what is tried, not waited for.
        thread::sleep(Duration::from_micros(dice.u64(0..60_000)));
        server.process().kill()?;
        stop.store(true, Ordering::Relaxed);
        let (last, next) = writer.join().ok().context("the writer")?;
        (answered, unanswered) = (last, next);
    }
    ensure!(answered > KILLS / 4, "only {answered} calls were answered");
    println!("{answered} calls, {KILLS} kills, {whole} unanswered calls were there whole");
    Ok(())
}
