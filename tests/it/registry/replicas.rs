//! Several servers on one etcd: each takes registrations and heartbeats of any instance.

use std::{path::Path, time::Instant};

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::Artifacts,
    etcd::Etcd,
    server::{Options, Server},
    wait::wait_for,
};

use super::{LIST, SERVICES, ask, beat, path, register, state, wait_state};
use crate::door1::BOUND;

fn start(dir: &Path, name: &str, store: &str) -> Result<Server> {
    let dir = dir.join(name);
    std::fs::create_dir_all(&dir)?;
    let options = Options {
        arguments: &["--store", store],
        ..Options::default()
    };
    Server::start(&Artifacts::from_env()?, &dir, SERVICES, &options)
}

/// How many keys the etcd has: each revision of a log is one more.
fn written(etcd: &Etcd) -> Result<String> {
    let all = serde_json::json!({"key": "AA==", "range_end": "AA==", "count_only": true});
    let found = etcd.call("/v3/kv/range", &all)?;
    Ok(found["count"].as_str().context("no count")?.into())
}

/// Sends heartbeats to one server alone until so many seconds are over.
fn beat_for(server: &Server, ids: &[&str], seconds: u64) -> Result<()> {
    let began = Instant::now();
    wait_for("the time to pass", BOUND * 2, || {
        for id in ids {
            let status = beat(server, id).map_err(|error| format!("{error:#}"))?;
            if status != 204 {
                return Err(format!("{id}: {status}"));
            }
        }
        match began.elapsed().as_secs() >= seconds {
            true => Ok(()),
            false => Err("not yet".into()),
        }
    })
}

#[test]
fn what_one_replica_is_told_all_know_and_a_heartbeat_to_any_counts() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let etcd = Etcd::start(dir.path())?;
    let store = etcd.store("instances");
    let one = start(dir.path(), "one", &store)?;
    let two = start(dir.path(), "two", &store)?;
    // At once: who has not been told yet looks.
    for number in 3..23 {
        let id = format!("order-{number}");
        register(&one, &id, 1_000 + number, "1h", 201)?;
        let status = beat(&two, &id)?;
        ensure!(status == 204, "{id}: {status}");
    }
    register(&one, "order-1", 1_001, "2s", 201)?;
    register(&one, "order-2", 1_002, "1h", 201)?;
    wait_state(&two, "order-1", &["up"])?;
    // Its keeper hears nothing; the other does, for three TTLs.
    beat_for(&two, &["order-1"], 7)?;
    for server in [&one, &two] {
        ensure!(state(server, "order-1")? == "up");
    }
    // Once the other keeps it nothing is written any more.
    let before = written(&etcd)?;
    beat_for(&two, &["order-1"], 5)?;
    ensure!(written(&etcd)? == before);
    // And silence counts.
    for server in [&one, &two] {
        wait_state(server, "order-1", &["expired", "gone"])?;
    }
    let gone = ask(&two, "DELETE", &path("order-2"), "")?;
    ensure!(gone.status == 204, "{}", gone.status);
    wait_state(&one, "order-2", &["gone"])?;
    Ok(())
}

#[test]
fn the_leases_of_a_replica_that_is_killed_go_on_elsewhere() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let etcd = Etcd::start(dir.path())?;
    let store = etcd.store("killed");
    let mut one = start(dir.path(), "one", &store)?;
    let two = start(dir.path(), "two", &store)?;
    register(&one, "order-1", 1_001, "2s", 201)?;
    register(&one, "order-2", 1_002, "2s", 201)?;
    for number in 3..12 {
        register(&two, &format!("order-{number}"), 1_000 + number, "1h", 201)?;
    }
    wait_state(&two, "order-1", &["up"])?;
    one.process().kill()?;
    // Who is alive stays; who is not is found out by who is left.
    let began = Instant::now();
    wait_for("the other's lease to end", BOUND * 2, || {
        let status = beat(&two, "order-1").map_err(|error| format!("{error:#}"))?;
        let other = state(&two, "order-2").map_err(|error| format!("{error:#}"))?;
        match status == 204 && matches!(&*other, "expired" | "gone") {
            true => Ok(()),
            false => Err(format!("{status} {other} after {:?}", began.elapsed())),
        }
    })?;
    ensure!(state(&two, "order-1")? == "up");
    Ok(())
}

#[test]
fn nobody_expires_because_the_etcd_was_away() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut etcd = Etcd::start(dir.path())?;
    let store = etcd.store("away");
    let one = start(dir.path(), "one", &store)?;
    register(&one, "order-1", 1_001, "3s", 201)?;
    etcd.kill()?;
    let began = Instant::now();
    wait_for("more than a TTL to pass", BOUND, || {
        match began.elapsed().as_secs() > 4 {
            true => Ok(()),
            false => Err("not yet".into()),
        }
    })?;
    // Nothing can be written, and what is there is shown.
    let refused = ask(
        &one,
        "PUT",
        &path("order-2"),
        r#"{"host": "127.0.0.1", "port": 2}"#,
    )?;
    ensure!(refused.status == 503, "{}", refused.status);
    ensure!(one.api_get(LIST)?["instances"][0]["state"] == "up");
    etcd.start_again()?;
    wait_for("registrations to be taken again", BOUND, || {
        let answer = ask(
            &one,
            "PUT",
            &path("order-2"),
            r#"{"host": "127.0.0.1", "port": 2}"#,
        );
        match answer.map_err(|error| format!("{error:#}"))?.status {
            201 => Ok(()),
            status => Err(status.to_string()),
        }
    })?;
    ensure!(state(&one, "order-1")? == "up", "no grace");
    wait_state(&one, "order-1", &["expired", "gone"])
}
