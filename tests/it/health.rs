//! Endpoints' health: what Envoys find out for the server, what people and callers are told of it, and what
//! they find out for themselves.

mod abuse;
mod grpc;
pub mod world;

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::Artifacts, demo_services::DemoService, load::Load, ports::free_port, server,
    wait::wait_for,
};

use self::world::{Fleet, World};
use crate::door1::BOUND;

const QUICK: &str = "health_check: {path: /alive, interval: 400ms, timeout: 300ms}";

#[test]
fn a_killed_application_leaves_for_people_and_callers_and_comes_back() -> Result<()> {
    let mut fleet = Fleet::start(QUICK)?;
    for id in ["order-1", "order-2", "plain-1", "plain-2"] {
        fleet.world.becomes(id, "healthy")?;
    }
    // A sidecar speaks for its own application, the gateway for those without one.
    for (id, by) in [("order-1", "order-1"), ("plain-1", "edge")] {
        let shown = fleet.world.endpoint(id)?;
        ensure!(shown["reported_by"] == serde_json::json!([by]), "{shown}");
    }
    for (path, id) in [("/orders", "order-1"), ("/plain", "plain-1")] {
        let port = fleet.world.callers_port(id)?;
        fleet.stop(id);
        fleet.world.becomes(id, "unhealthy")?;
        fleet
            .world
            .flags(port, |flags| flags.contains("/failed_eds_health"))?;
        fleet.world.answers(path, &["2"])?;
        let metric = format!("endpoint=\"{id}\"");
        let page = fleet.world.metrics()?;
        let line = page.lines().find(|line| line.contains(&metric));
        let line = line.context("no such line in the metrics")?;
        ensure!(
            line.starts_with("mumbai_mesh_endpoint_health{") && line.ends_with(" 0"),
            "{line}"
        );
        let said = format!("endpoint=\"{id}\"");
        let log = fleet.world.server.log();
        let said = log
            .lines()
            .any(|line| line.contains("is unhealthy") && line.contains(&said));
        ensure!(said, "no line in the log tells of {id}");
        fleet.start_again(id)?;
        fleet.world.becomes(id, "healthy")?;
        fleet.world.flags(port, |flags| flags == "healthy")?;
        fleet.world.answers(path, &["1", "2"])?;
    }
    // Nothing of it is a change of the mesh.
    let revisions = fleet.world.server.api_get("/api/v1/revisions")?;
    ensure!(revisions["current"]["revision"] == 1, "{revisions}");
    Ok(())
}

#[test]
fn an_endpoint_that_vanishes_with_its_sidecar_leaves_by_two_failed_checks() -> Result<()> {
    let mut fleet = Fleet::start("health_check: {path: /alive, interval: 2s, timeout: 1s}")?;
    let healthy = "cluster.order-service.membership_healthy";
    let failures = "cluster.order-service.health_check.failure";
    fleet
        .world
        .wait_stats(&[healthy, failures], |stats| stats[0] == 2)?;
    fleet.world.becomes("order-1", "healthy")?;
    let before = fleet
        .world
        .wait_stats(&[healthy, failures], |stats| stats[0] == 2)?[1];
    fleet.kill_sidecar("order-1")?;
    fleet.stop("order-1");
    let gone = fleet
        .world
        .wait_stats(&[healthy, failures], |stats| stats[0] == 1)?;
    ensure!(gone[1] - before <= 2, "{} failed checks", gone[1] - before);
    fleet.world.answers("/orders", &["2"])?;
    // Its own sidecar can tell nobody any more, so the gateway is asked whether anybody is there.
    fleet.world.becomes("order-1", "unhealthy")?;
    let shown = fleet.world.endpoint("order-1")?;
    ensure!(
        shown["reported_by"] == serde_json::json!(["edge"]),
        "{shown}"
    );
    let port = fleet.world.callers_port("order-1")?;
    let is_told = |flags: &str| flags.contains("/failed_eds_health");
    fleet.world.flags(port, is_told)?;
    // It comes back, and its own word counts again.
    fleet.start_again("order-1")?;
    fleet.start_sidecar_again("order-1")?;
    fleet.world.becomes("order-1", "healthy")?;
    let shown = fleet.world.endpoint("order-1")?;
    ensure!(
        shown["reported_by"]
            .as_array()
            .is_some_and(|by| by.contains(&"order-1".into())),
        "{shown}"
    );
    fleet.world.answers("/orders", &["1", "2"])
}

#[test]
fn outlier_detection_leaves_a_vanished_endpoint_out_before_the_first_check() -> Result<()> {
    let mut fleet = Fleet::start(
        "health_check: {path: /alive, interval: 60s, timeout: 1s}\n    \
         outlier_detection: {consecutive_gateway_failures: 2, base_ejection_time: 60s, interval: 1s}",
    )?;
    let ejected = "cluster.order-service.outlier_detection.ejections_active";
    let failures = "cluster.order-service.health_check.failure";
    let before = fleet
        .world
        .wait_stats(&[ejected, failures], |stats| stats[0] == 0)?[1];
    fleet.kill_sidecar("order-1")?;
    fleet.stop("order-1");
    let mut client = fleet.world.client();
    let mut failed = 0;
    let after = wait_for("the endpoint to be left out", BOUND, || {
        let answer = client.get("/orders", &[]);
        let answer = answer.map_err(|error| format!("{error:#}"))?;
        failed += u32::from(answer.status != 200);
        let stats = fleet.world.stats(&[ejected, failures])?;
        match stats[0] {
            1 => Ok(stats[1]),
            _ => Err(format!("{stats:?}, {failed} failed")),
        }
    })?;
    ensure!(after == before, "{} checks had failed", after - before);
    fleet.world.answers("/orders", &["2"])?;
    Ok(())
}

#[test]
fn a_control_plane_that_is_killed_takes_no_endpoint_along() -> Result<()> {
    let mut fleet = Fleet::start(QUICK)?;
    let ids = ["order-1", "order-2", "plain-1", "plain-2"];
    for id in ids {
        fleet.world.becomes(id, "healthy")?;
    }
    let load = Load::start(fleet.world.address(), 2, "/orders");
    let healthy = "cluster.order-service.membership_healthy";
    fleet.world.restart()?;
    // It knows nothing at first.
    for id in ids {
        let shown = fleet.world.endpoint(id)?;
        ensure!(shown["health"] != "unhealthy", "{shown}");
    }
    for id in ids {
        fleet.world.becomes(id, "healthy")?;
        let stats = fleet.world.stats(&[healthy]).map_err(anyhow::Error::msg)?;
        ensure!(stats == [2], "{stats:?}");
    }
    let log = fleet.world.server.log();
    ensure!(!log.contains("the endpoint is unhealthy"), "{log}");
    let report = load.stop();
    ensure!(report.failures.is_empty() && report.ok > 0, "{report:?}");
    // And it goes on to know.
    fleet.stop("order-2");
    fleet.world.becomes("order-2", "unhealthy")?;
    fleet.world.answers("/orders", &["1"])
}

#[test]
fn a_sidecar_reports_by_tls_where_certificates_are_demanded() -> Result<()> {
    let options = server::Options {
        arguments: &["--xds-tls", "on"],
        ..server::Options::default()
    };
    let dir = tempfile::tempdir()?;
    let artifacts = Artifacts::from_env()?;
    let application = DemoService::start(&artifacts, dir.path(), "order-service", "v1")?;
    let mesh = format!(
        "services:\n  order-service:\n    port: {}\n    {QUICK}\n    \
         endpoints: [{{id: order-1, host: 127.0.0.1, port: {}}}]\n",
        application.addr.port(),
        free_port()
    );
    let world = World::start_alone_with(&mesh, &options)?;
    let state_dir = world.server.state_dir().display().to_string();
    let outbound = free_port().to_string();
    let extra = ["--state-dir", &state_dir, "--outbound-port", &outbound];
    let _sidecar = world.envoy("order-service", &extra)?;
    world.becomes("order-1", "healthy")?;
    drop(application);
    world.becomes("order-1", "unhealthy")
}

#[test]
fn services_are_listed_by_two_names_a_page_at_a_time() -> Result<()> {
    let world = World::start_alone(
        "\
services:
  <b>: {}
",
    );
    // A name that is markup is refused before anything could show it.
    let refused = world.err().context("the mesh file was taken")?.to_string();
    ensure!(refused.contains("<b>"), "{refused}");
    let world = World::start_alone(
        "\
services:
  a: {sidecar: false, endpoints: [{id: a-1, host: 127.0.0.1, port: 1, weight: 7, region: mumbai, az: west, version: v1}]}
  b: {sidecar: false, class: gold, canary: {version: v2, weight: 10}, health_check: {tcp: true}, endpoints: [{host: 127.0.0.1, port: 2, version: v2}]}
",
    )?;
    let all = world.server.api_get("/services")?;
    ensure!(all == world.server.api_get("/api/v1/services")?, "{all}");
    let endpoint = &all["services"][0]["endpoints"][0];
    let wanted = serde_json::json!({
        "id": "a-1", "host": "127.0.0.1", "port": 1, "app_port": null, "weight": 7, "region": "mumbai",
        "zone": "mumbai-west", "version": "v1", "source": "file", "state": "up", "health": "unknown", "since": null,
        "last_heard": null, "reported_by": [],
    });
    ensure!(*endpoint == wanted, "{endpoint}");
    let second = &all["services"][1];
    ensure!(
        second["canary"] == serde_json::json!({"version": "v2", "weight": 10.0}),
        "{second}"
    );
    let page = world.server.api_get("/services?limit=1&after=a")?;
    ensure!(
        page["services"][0]["name"] == "b" && page["left_off"] == 0,
        "{page}"
    );
    let one = world.server.api_get("/services?service=a")?;
    ensure!(
        one["services"]
            .as_array()
            .is_some_and(|list| list.len() == 1),
        "{one}"
    );
    let mut client = harness::http::Client::new(world.server.api);
    let answer = client.get("/services?limit=0", &[])?;
    ensure!(answer.status == 400, "{}", answer.status);
    let answer = client.get("/services", &[])?;
    ensure!(answer.header("content-type") == Some(b"application/json".as_slice()));
    Ok(())
}

/// A server without Envoys.
fn alone(mesh: &str) -> Result<World> {
    World::start_alone_with(mesh, &server::Options::default())
}
