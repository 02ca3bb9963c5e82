//! Retries and what bounds them; Envoy's own limits; connections that are replaced.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use harness::{demo_services::DemoService, load::Load, wait::wait_for};

use super::{World, application};
use crate::door1::{BOUND, version};

const ROUTES: &str = "routes: [{match: {path_prefix: /}, service: order-service}]";

/// One application behind a gateway; `more` are further sections of the file.
fn one(rules: &str, more: &str) -> Result<(World, DemoService)> {
    let dir = tempfile::tempdir()?;
    let order = application(&dir, "order-service", "v1")?;
    let mesh = format!(
        "\
{more}services:
  order-service:
    sidecar: false
    endpoints: [{{id: order-1, host: 127.0.0.1, port: {}}}]
    {rules}
",
        order.addr.port()
    );
    Ok((World::start(dir, &mesh, ROUTES, &[])?, order))
}

const NEVER_OPEN: &str = "consecutive_failures: 1000000";

#[test]
fn only_what_may_be_sent_twice_is_sent_again_after_an_answer() -> Result<()> {
    let rules = format!("retries: {{attempts: 2}}\n    circuit_breaker: {{{NEVER_OPEN}}}");
    let (world, order) = one(&rules, "")?;
    order.control("status=503")?;
    let tries = |method: &str| -> Result<u64> {
        let before = order.count()?;
        let answer = world.client().send(method, "/orders", &[])?;
        ensure!(answer.status == 503, "{method}: {}", answer.status);
        Ok(order.count()? - before)
    };
    for (method, expected) in [("GET", 3), ("PUT", 3), ("POST", 1), ("PATCH", 1)] {
        let tries = tries(method)?;
        ensure!(
            tries == expected,
            "{method} was tried {tries} times, not {expected}"
        );
    }
    Ok(())
}

#[test]
fn any_request_that_reached_nobody_is_sent_to_another_endpoint() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let dead = application(&dir, "order-service", "v1")?;
    let alive = application(&dir, "order-service", "v1")?;
    let mesh = format!(
        "\
services:
  order-service:
    sidecar: false
    endpoints: [{{id: a, host: 127.0.0.1, port: {}}}, {{id: b, host: 127.0.0.1, port: {}}}]
    retries: {{attempts: 1}}
",
        dead.addr.port(),
        alive.addr.port()
    );
    let world = World::start(dir, &mesh, ROUTES, &[])?;
    drop(dead);
    for _ in 0..20 {
        let answer = world.client().send("POST", "/orders", &[])?;
        ensure!(answer.status == 200, "{}", answer.status);
    }
    let retried = world
        .gateway
        .stat("cluster.order-service.upstream_rq_retry");
    ensure!(retried.is_some_and(|count| count >= 5), "{retried:?}");
    Ok(())
}

/// How many tries reach an application that always fails, for each request of forty users.
fn tries_per_request(rules: &str) -> Result<f64> {
    let (world, order) = one(rules, "")?;
    order.control("status=503&delay_ms=20")?;
    let load = Load::start(([127, 0, 0, 1], world.port).into(), 40, "/orders");
    wait_for("two thousand requests", BOUND, || match load.sent() {
        2_000.. => Ok(()),
        sent => Err(format!("{sent} sent")),
    })?;
    let report = load.stop();
    ensure!(report.ok == 0, "{report:?}");
    let count = u32::try_from(order.count()?)?;
    Ok(f64::from(count) / f64::from(u32::try_from(report.sent)?))
}

#[test]
fn retries_stay_inside_their_budget() -> Result<()> {
    // A fifth of what is under way may be retries: about a quarter of the first tries.
    let budget = format!("retries: {{attempts: 3}}\n    circuit_breaker: {{{NEVER_OPEN}}}");
    let bounded = tries_per_request(&budget)?;
    ensure!(
        (1.05..=1.4).contains(&bounded),
        "{bounded} tries per request"
    );
    // The budget is what bounds them: a thousand at once are more than forty users can want.
    let breaker = format!("circuit_breaker: {{{NEVER_OPEN}, max_retries: 1000}}");
    let free = tries_per_request(&format!("retries: {{attempts: 3}}\n    {breaker}"))?;
    ensure!((3.9..=4.0).contains(&free), "{free} tries per request");
    Ok(())
}

#[test]
fn what_others_have_under_way_never_takes_golds_share() -> Result<()> {
    let rules = format!("circuit_breaker: {{{NEVER_OPEN}, max_requests: 2}}");
    let classes = "traffic_classes:\n  gold: {match: [{path_prefix: /pay}]}\n";
    let (world, order) = one(&rules, classes)?;
    let slow: [(&str, &[u8]); 1] = [("x-demo-delay-ms", b"3000")];
    thread::scope(|scope| {
        let busy: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| world.client().get("/orders", &slow)))
            .collect();
        wait_for("two requests under way", BOUND, || match order.count() {
            Ok(2) => Ok(()),
            other => Err(format!("{other:?}")),
        })?;
        let refused = world.client().get("/orders", &[])?;
        ensure!(refused.status == 503, "a third: {}", refused.status);
        let gold = world.client().get("/pay", &[])?;
        ensure!(gold.status == 200, "gold: {}", gold.status);
        for one in busy {
            let answer = one.join().map_err(|_| anyhow::anyhow!("a panic"))??;
            ensure!(answer.status == 200, "{}", answer.status);
        }
        Ok(())
    })
}

#[test]
fn connections_are_replaced_in_time_and_no_request_notices() -> Result<()> {
    let (world, _order) = one("", "max_connection_duration: 1s\n")?;
    let load = Load::start(([127, 0, 0, 1], world.port).into(), 4, "/orders");
    let replaced = "cluster.order-service.upstream_cx_max_duration_reached";
    let ended = "http.edge.downstream_cx_max_duration_reached";
    world.wait_stat(replaced, |count| count >= 8)?;
    world.wait_stat(ended, |count| count >= 8)?;
    let report = load.stop();
    ensure!(report.failures.is_empty() && report.ok > 100, "{report:?}");
    Ok(())
}

#[test]
fn a_routes_own_timeout_outranks_the_services() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let order = application(&dir, "order-service", "v1")?;
    let mesh = format!(
        "services:\n  order-service:\n    sidecar: false\n    timeout: 10s\n    \
         endpoints: [{{id: a, host: 127.0.0.1, port: {}}}]\n",
        order.addr.port()
    );
    let routes = "routes: [{match: {path_prefix: /quick}, service: order-service, timeout: 200ms}, \
                  {match: {path_prefix: /}, service: order-service}]";
    let world = World::start(dir, &mesh, routes, &[])?;
    let slow: [(&str, &[u8]); 1] = [("x-demo-delay-ms", b"1500")];
    let began = Instant::now();
    let answer = world.client().get("/quick", &slow)?;
    ensure!(answer.status == 504, "{}", answer.status);
    ensure!(
        began.elapsed() < Duration::from_millis(1_400),
        "{:?}",
        began.elapsed()
    );
    let answer = world.client().get("/slow", &slow)?;
    ensure!(version(&answer)? == "v1", "{}", answer.status);
    Ok(())
}
