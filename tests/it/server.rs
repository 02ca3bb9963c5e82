//! The server and a gateway that it configures: what a change of the mesh file does, and what a
//! broken one does not.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Result, ensure};
use harness::{clock::Clock, load::Load, wait::wait_for};

use crate::{
    door1::{BOUND, seen, version},
    mesh::{Mesh, Variant},
    reload::RELOADS,
};

fn users_of_v2(mesh: &Mesh, users: std::ops::Range<u32>) -> Result<BTreeSet<u32>> {
    let mut client = mesh.client();
    let mut on_v2 = BTreeSet::new();
    for user in users {
        let id = format!("user-{user}");
        let answer = client.get("/orders", &[("x-user-id", id.as_bytes())])?;
        ensure!(answer.status == 200, "{id}: {}", answer.status);
        if version(&answer)? == "v2" {
            on_v2.insert(user);
        }
    }
    Ok(on_v2)
}

#[test]
fn more_weight_takes_nobody_away_from_the_canary() -> Result<()> {
    let mut mesh = Mesh::start(|_| {})?;
    let at_ten = users_of_v2(&mesh, 0..2_000)?;
    mesh.change(|file| file.weight = "25")?;
    let at_twenty_five = users_of_v2(&mesh, 0..2_000)?;
    ensure!(
        (150..=250).contains(&at_ten.len()),
        "{} of 2000 at 10 %",
        at_ten.len()
    );
    let after = at_twenty_five.len();
    ensure!((400..=600).contains(&after), "{after} of 2000 at 25 %");
    let lost: Vec<_> = at_ten.difference(&at_twenty_five).collect();
    ensure!(lost.is_empty(), "users who left v2: {lost:?}");
    Ok(())
}

/// Changes of many kinds under load, in one variant of the protocol.
fn no_request_fails_while_the_file_changes(variant: Variant, changes: usize) -> Result<()> {
    let mut mesh = Mesh::start_with(variant, None, |_| {})?;
    let load = Load::start(mesh.address(), 4, "/orders/1");
    for weight in ["25", "0", "50", "100", "10"]
        .into_iter()
        .cycle()
        .take(changes)
    {
        mesh.change(|file| file.weight = weight)?;
        let served = load.sent();
        wait_for("load after the change", BOUND, || {
            let more = load.sent() - served;
            if more > 50 {
                Ok(())
            } else {
                Err(format!("{more} requests"))
            }
        })?;
    }
    let report = load.stop();
    ensure!(report.failures.is_empty(), "{report:#?}");
    ensure!(report.ok > 1_000, "{report:?}");
    // Each request is counted once, whichever configuration it met; nothing is left in flight. One
    // request more came from waiting until the gateway serves.
    let counted = wait_for("every request to be counted", BOUND, || {
        let page = mesh
            .gateway
            .prometheus()
            .map_err(|error| error.to_string())?;
        let sum = crate::door1::sum(&page, "mumbai_mesh_requests_total");
        let sum = sum.map_err(|error| error.to_string())?;
        let expected = report.sent as f64 + 1.0;
        if (sum - expected).abs() < 0.5 {
            Ok(page)
        } else {
            Err(format!("{sum} of {expected}"))
        }
    })?;
    let active = crate::door1::sum(&counted, "mumbai_mesh_active_connections")?;
    ensure!(active.abs() < 0.5, "{active} in flight");
    Ok(())
}

#[test]
fn changing_the_weight_fails_no_request_over_delta_xds() -> Result<()> {
    no_request_fails_while_the_file_changes(Variant::Delta, 50)
}

#[test]
fn changing_the_weight_fails_no_request_over_state_of_the_world_xds() -> Result<()> {
    no_request_fails_while_the_file_changes(Variant::StateOfTheWorld, 10)
}

/// A canary that comes and goes makes and takes away clusters: a route must never name one that is
/// not there.
fn a_canary_comes_and_goes(variant: Variant) -> Result<()> {
    let mut mesh = Mesh::start_with(variant, None, |_| {})?;
    let load = Load::start(mesh.address(), 4, "/orders/1");
    let with_canary = mesh.file.text();
    let without = with_canary
        .lines()
        .filter(|line| !line.contains("canary:"))
        .collect::<Vec<_>>()
        .join("\n");
    for text in [&without, &with_canary, &without, &with_canary] {
        let before = mesh.revision()?;
        mesh.server.write_mesh(text)?;
        wait_for("the change at the gateway", BOUND, || {
            let revision = mesh.revision().map_err(|error| error.to_string())?;
            let clusters = mesh
                .gateway
                .admin("/clusters")
                .map_err(|error| error.to_string())?;
            let has_canary = clusters.contains("order-service|v2::");
            if revision > before && has_canary == text.contains("canary:") {
                Ok(())
            } else {
                Err(format!(
                    "revision {revision}, canary's cluster: {has_canary}"
                ))
            }
        })?;
    }
    mesh.change(|file| file.weight = "11")?;
    let report = load.stop();
    ensure!(report.failures.is_empty(), "{report:#?}");
    Ok(())
}

#[test]
fn a_canary_that_comes_and_goes_fails_no_request_over_delta_xds() -> Result<()> {
    a_canary_comes_and_goes(Variant::Delta)
}

#[test]
fn a_canary_that_comes_and_goes_fails_no_request_over_state_of_the_world_xds() -> Result<()> {
    a_canary_comes_and_goes(Variant::StateOfTheWorld)
}

#[test]
fn a_broken_file_changes_nothing_and_every_problem_is_told() -> Result<()> {
    let mut mesh = Mesh::start(|_| {})?;
    let before = users_of_v2(&mesh, 0..200)?;
    let revision = mesh.revision()?;
    let good = mesh.file.text();
    let bad = good
        .replace("weight: 10", "wieght: 10")
        .replace("listen: 127.0.0.1", "listen: nowhere")
        .replace("class", "klass")
        + "debug_headers: true\n";
    mesh.server.write_mesh(&bad)?;
    let refused = wait_for("the refusal at the API", BOUND, || {
        let revisions = mesh.server.api_get("/api/v1/revisions");
        let revisions = revisions.map_err(|error| error.to_string())?;
        match &revisions["refused"] {
            serde_json::Value::Null => Err(revisions.to_string()),
            refused => Ok(refused.to_string()),
        }
    })?;
    let told = [
        "services.order-service.canary.weight",
        "did you mean \\\"weight\\\"?",
        "gateways.edge.listen",
        "debug_headers",
        "not supported yet",
    ];
    let log = mesh.server.log();
    for words in told {
        ensure!(refused.contains(words), "{words:?} is not in {refused}");
        let plain = words.replace("\\\"", "\"");
        ensure!(log.contains(&plain), "{plain:?} is not on stderr:\n{log}");
    }
    ensure!(log.contains("ERROR"), "nothing in the log:\n{log}");
    ensure!(mesh.revision()? == revision);
    ensure!(users_of_v2(&mesh, 0..200)? == before);
    // What is mended is taken.
    mesh.change(|file| file.weight = "25")?;
    let revisions = mesh.server.api_get("/api/v1/revisions")?;
    ensure!(revisions["refused"].is_null(), "{revisions}");
    Ok(())
}

#[test]
fn an_open_breaker_survives_a_new_filter_configuration() -> Result<()> {
    let mut mesh = Mesh::start(|file| {
        file.breaker = "{consecutive_failures: 3, open_for: 60s}";
    })?;
    let mut client = mesh.client();
    let user = ("x-user-id", b"user-1".as_slice());
    for _ in 0..3 {
        let answer = client.get("/orders", &[user, ("x-demo-status", b"500")])?;
        ensure!(answer.status == 500);
    }
    let before = mesh.gateway.stat(RELOADS).unwrap_or(0);
    // Another rule as well: the state survives, the counts start anew.
    mesh.change(|file| {
        file.breaker = "{consecutive_failures: 4, open_for: 60s}";
        file.more = "festivals: [\"2050-01-01\"]".into();
    })?;
    wait_for("the new configuration in Envoy", BOUND, || {
        match mesh.gateway.stat(RELOADS) {
            Some(now) if now > before => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    for _ in 0..10 {
        let answer = client.get("/orders", &[user])?;
        ensure!(answer.status == 503, "{}", answer.status);
        ensure!(answer.header("x-mumbai-reason") == Some(b"breaker_open".as_slice()));
    }
    Ok(())
}

#[test]
fn the_calendar_holds_with_no_push_and_no_server() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let clock = Clock::new(dir.path())?;
    let evening: jiff::Timestamp = "2026-11-24T16:59:00+05:30".parse()?;
    clock.set_now(evening.as_millisecond())?;
    let mut mesh = Mesh::start_with(Variant::Delta, Some(&clock), |file| {
        file.more = "peak_hours: {evening: {start: 17, end: 22, multiplier: 1.5}}".into();
    })?;
    let mut client = mesh.client();
    let state = seen(&client.get("/orders", &[])?, "x-mumbai-traffic-state")?;
    ensure!(state.as_deref() == Some("normal"), "{state:?}");
    let before = mesh.gateway.stat(RELOADS);
    mesh.server.process().terminate()?;
    clock.set_now((evening + Duration::from_secs(61)).as_millisecond())?;
    // The filter learns at its next tick that its clock was moved.
    let answer = wait_for("the evening's window", BOUND, || {
        let answer = client.get("/orders", &[]);
        let answer = answer.map_err(|error| format!("{error:#}"))?;
        match seen(&answer, "x-mumbai-traffic-state") {
            Ok(Some(state)) if state == "peak_hour" => Ok(answer),
            other => Err(format!("{other:?}")),
        }
    })?;
    let multiplier = seen(&answer, "x-mumbai-multiplier")?;
    ensure!(multiplier.as_deref() == Some("1.5"), "{multiplier:?}");
    ensure!(mesh.gateway.stat(RELOADS) == before, "a push came");
    Ok(())
}

#[test]
fn a_server_that_comes_back_changes_nothing_and_is_found_again() -> Result<()> {
    let mut mesh = Mesh::start(|_| {})?;
    let load = Load::start(mesh.address(), 2, "/orders/1");
    let lds = "listener_manager.lds.update_success";
    let before = mesh.gateway.stat(lds);
    mesh.server.process().terminate()?;
    let artifacts = harness::artifacts::Artifacts::from_env()?;
    let options = harness::server::Options {
        xds_port: mesh.server.xds.port(),
        ..harness::server::Options::default()
    };
    let text = mesh.file.text();
    mesh.server = harness::server::Server::start(&artifacts, mesh.dir.path(), &text, &options)?;
    wait_for("the gateway to come back", BOUND, || {
        let proxies = mesh.server.api_get("/api/v1/proxies");
        let proxies = proxies.map_err(|error| error.to_string())?;
        match proxies["proxies"].as_array().map(Vec::len) {
            Some(1) => Ok(()),
            other => Err(format!("{other:?} proxies")),
        }
    })?;
    mesh.change(|file| file.weight = "30")?;
    let report = load.stop();
    ensure!(report.failures.is_empty(), "{report:#?}");
    ensure!(
        mesh.gateway.stat(lds) == before,
        "unchanged listeners were sent again"
    );
    Ok(())
}

#[test]
fn a_file_that_is_emptied_or_written_in_place_takes_nothing_away() -> Result<()> {
    let mut mesh = Mesh::start(|_| {})?;
    let load = Load::start(mesh.address(), 2, "/orders/1");
    let file = mesh.server.mesh_file().to_path_buf();
    std::fs::write(&file, "")?;
    wait_for("the empty file to be refused", BOUND, || {
        let revisions = mesh.server.api_get("/api/v1/revisions");
        let revisions = revisions.map_err(|error| error.to_string())?;
        match revisions["refused"].is_null() {
            true => Err(revisions.to_string()),
            false => Ok(()),
        }
    })?;
    ensure!(mesh.client().get("/orders", &[])?.status == 200);
    // Written in place, as `cp` does it.
    mesh.file.weight = "25";
    let before = mesh.revision()?;
    std::fs::write(&file, mesh.file.text())?;
    wait_for("the new file to be taken", BOUND, || {
        match mesh.revision() {
            Ok(revision) if revision > before => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    let report = load.stop();
    ensure!(report.failures.is_empty(), "{report:#?}");
    Ok(())
}
