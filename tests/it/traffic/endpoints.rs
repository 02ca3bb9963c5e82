//! Which endpoints serve, and how a dead or sick one leaves.

use anyhow::{Context, Result, ensure};
use harness::{demo_services::DemoService, wait::wait_for};

use super::{World, application};
use crate::door1::{BOUND, version};

/// Two applications, in the west and in the center, and a gateway in the west.
fn two_zones(rules: &str) -> Result<(World, DemoService, DemoService)> {
    let dir = tempfile::tempdir()?;
    let west = application(&dir, "order-service", "west")?;
    let central = application(&dir, "order-service", "central")?;
    let mesh = format!(
        "\
services:
  order-service:
    sidecar: false
    endpoints:
      - {{id: order-1, host: 127.0.0.1, port: {}, zone: mumbai-west}}
      - {{id: order-2, host: 127.0.0.1, port: {}, zone: mumbai-central}}
    circuit_breaker: {{consecutive_failures: 1000000}}
    {rules}
",
        west.addr.port(),
        central.addr.port()
    );
    let routes = "routes: [{match: {path_prefix: /}, service: order-service}]";
    let world = World::start(dir, &mesh, routes, &["--zone", "mumbai-west"])?;
    Ok((world, west, central))
}

/// Who answers so many requests, in order; each must succeed.
fn answers(world: &World, requests: u32) -> Result<Vec<String>> {
    let mut client = world.client();
    (0..requests)
        .map(|_| {
            let answer = client.get("/orders", &[])?;
            let body = String::from_utf8_lossy(&answer.body);
            ensure!(answer.status == 200, "{} {body}", answer.status);
            version(&answer)
        })
        .collect()
}

fn all(answers: &[String], who: &str) -> Result<()> {
    ensure!(answers.iter().all(|answer| answer == who), "{answers:?}");
    Ok(())
}

/// Workers hear of an endpoint's health a little later than Envoy's main thread, whose numbers it shows.
fn becomes(world: &World, who: &str) -> Result<()> {
    wait_for(&format!("{who} to serve everybody"), BOUND, || {
        let answers = answers(world, 20).map_err(|error| format!("{error:#}"))?;
        all(&answers, who).map_err(|error| error.to_string())
    })
}

#[test]
fn callers_prefer_their_own_zone_and_a_killed_endpoint_costs_no_request() -> Result<()> {
    let (world, west, _central) = two_zones("retries: {attempts: 1}")?;
    all(&answers(&world, 50)?, "west")?;
    drop(west);
    all(&answers(&world, 50)?, "central")
}

#[test]
fn zone_aware_off_spreads_over_all_endpoints() -> Result<()> {
    let (world, _west, _central) = two_zones("zone_aware: false")?;
    let answers = answers(&world, 40)?;
    let west = answers.iter().filter(|answer| *answer == "west").count();
    ensure!((10..=30).contains(&west), "{answers:?}");
    Ok(())
}

#[test]
fn a_failing_health_check_takes_an_endpoint_out_and_a_passing_one_brings_it_back() -> Result<()> {
    let check = "health_check: {path: /alive, interval: 200ms, timeout: 200ms, \
                 unhealthy_threshold: 2, healthy_threshold: 1}";
    let (world, west, _central) = two_zones(check)?;
    let healthy = "cluster.order-service.membership_healthy";
    world.wait_stat(healthy, |count| count == 2)?;
    becomes(&world, "west")?;
    west.control("status=500")?;
    world.wait_stat(healthy, |count| count == 1)?;
    becomes(&world, "central")?;
    west.control("status=200")?;
    world.wait_stat(healthy, |count| count == 2)?;
    becomes(&world, "west")?;
    // And one that is dead, with nobody calling it.
    drop(west);
    world.wait_stat(healthy, |count| count == 1)?;
    becomes(&world, "central")
}

#[test]
fn an_endpoint_whose_answers_are_bad_is_left_out_without_any_health_check() -> Result<()> {
    let outlier = "outlier_detection: {consecutive_5xx: 3, interval: 1s, base_ejection_time: 60s}";
    let (world, west, _central) = two_zones(outlier)?;
    west.control("status=503")?;
    let mut client = world.client();
    let mut failures = 0;
    for _ in 0..3 {
        failures += u32::from(client.get("/orders", &[])?.status == 503);
    }
    ensure!(failures == 3, "{failures}");
    world.wait_stat(
        "cluster.order-service.outlier_detection.ejections_active",
        |count| count == 1,
    )?;
    becomes(&world, "central")
}

#[test]
fn regions_are_used_in_the_order_of_failover() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mumbai = application(&dir, "order-service", "mumbai")?;
    let hyderabad = application(&dir, "order-service", "hyderabad")?;
    let delhi = application(&dir, "order-service", "delhi")?;
    let endpoint = |id: &str, service: &DemoService| {
        let port = service.addr.port();
        format!("{{id: {id}, host: 127.0.0.1, port: {port}, region: {id}}}")
    };
    let mesh = format!(
        "\
services:
  order-service:
    sidecar: false
    endpoints: [{}, {}, {}]
    failover: [mumbai, hyderabad]
    retries: {{attempts: 2}}
    health_check: {{tcp: true, interval: 200ms, timeout: 200ms, unhealthy_threshold: 1, healthy_threshold: 1}}
",
        endpoint("delhi", &delhi),
        endpoint("hyderabad", &hyderabad),
        endpoint("mumbai", &mumbai),
    );
    let routes = "routes: [{match: {path_prefix: /}, service: order-service}]";
    let world = World::start(dir, &mesh, routes, &[])?;
    let healthy = "cluster.order-service.membership_healthy";
    world.wait_stat(healthy, |count| count == 3)?;
    becomes(&world, "mumbai")?;
    drop(mumbai);
    world.wait_stat(healthy, |count| count == 2)?;
    becomes(&world, "hyderabad")?;
    drop(hyderabad);
    world.wait_stat(healthy, |count| count == 1)?;
    becomes(&world, "delhi")
}

#[test]
fn endpoints_are_found_by_dns_name() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let order = application(&dir, "order-service", "v1")?;
    let mesh = format!(
        "services:\n  order-service:\n    sidecar: false\n    \
         endpoints: [{{id: order-1, host: localhost, port: {}}}]\n",
        order.addr.port()
    );
    let routes = "routes: [{match: {path_prefix: /}, service: order-service}]";
    let world = World::start(dir, &mesh, routes, &[])?;
    world.wait_stat("cluster.order-service.membership_total", |count| count >= 1)?;
    all(&answers(&world, 10)?, "v1")?;
    let dump = world.gateway.admin("/clusters")?;
    let address = dump
        .lines()
        .find(|line| line.starts_with("order-service::127.0.0.1:"));
    address.context(dump.clone())?;
    Ok(())
}
