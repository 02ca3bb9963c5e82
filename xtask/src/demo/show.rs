//! The walk: each step asks the real thing, says what it answered, and fails if that is not what was
//! promised.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{
    http::{Client, Response},
    wait::wait_for,
};

use super::world::World;

const BOUND: Duration = Duration::from_secs(30);
const USERS: u32 = 500;
const FAILURES: u32 = 5;
const PROBES: u64 = 3;
/// Bucket 1657 of 10000: served by stable while the canary has 10 %.
const STABLE_USER: (&str, &[u8]) = ("x-user-id", b"user-1");

pub fn everything(world: &World, moved: bool) -> Result<()> {
    calendar(world, moved)?;
    canary(world)?;
    breaker(world)?;
    who_said_what(world)
}

fn calendar(world: &World, moved: bool) -> Result<()> {
    println!("\n1. The calendar");
    let explained = world
        .server
        .api_get("/api/v1/explain?gateway=edge&path=/orders/7")?;
    let text = |field: &str| explained[field].as_str().map(str::to_string);
    let at = text("at").context("explain says no time")?;
    let state = text("traffic_state").context("explain says no state")?;
    let clock = if moved { " (a moved clock)" } else { "" };
    println!("   It is {at}{clock} in Asia/Kolkata. State: {state}.");
    match (text("festival"), text("window")) {
        (None, None) => println!("   No window and no festival now."),
        (festival, window) => {
            let names = [
                festival.map(|name| format!("festival {name}")),
                window.map(|name| format!("window {name}")),
            ];
            let names: Vec<String> = names.into_iter().flatten().collect();
            println!("   Now: {}.", names.join(" and "));
        }
    }
    let answer = world.gateway_client().get("/orders/7", &[STABLE_USER])?;
    println!("   The gateway's Envoy decided by itself, and told order-service:");
    for (name, value) in answer.json()?["headers"].as_object().into_iter().flatten() {
        if name.starts_with("x-mumbai-") {
            println!("     {name}: {}", value.as_str().unwrap_or_default());
        }
    }
    let told = upstream_saw(&answer, "x-mumbai-traffic-state")?;
    // The state may change between the two questions; then both are asked again once.
    if told.as_deref() != Some(&state) {
        let again = world
            .server
            .api_get("/api/v1/explain?gateway=edge&path=/orders/7")?;
        let answer = world.gateway_client().get("/orders/7", &[STABLE_USER])?;
        let told = upstream_saw(&answer, "x-mumbai-traffic-state")?;
        let expected = again["traffic_state"].as_str();
        ensure!(
            told.as_deref() == expected,
            "Envoy says {told:?}, explain {expected:?}"
        );
    }
    Ok(())
}

fn canary(world: &World) -> Result<()> {
    println!("\n2. The canary: 10 % of users are served by v2");
    let mut client = world.gateway_client();
    let mut on_v2 = 0;
    for user in 0..USERS {
        let user = format!("user-{user}");
        let answer = client.get("/orders", &[("x-user-id", user.as_bytes())])?;
        on_v2 += u32::from(version(&answer)? == "v2");
    }
    println!(
        "   {USERS} users asked: {on_v2} were served by v2, {} by v1.",
        USERS - on_v2
    );
    // Five standard deviations around 50.
    ensure!(
        (17..=83).contains(&on_v2),
        "10 % of {USERS} users cannot be {on_v2}"
    );
    let mut versions = Vec::new();
    for _ in 0..50 {
        let answer = client.get("/orders", &[("x-user-id", b"user-42")])?;
        versions.push(version(&answer)?);
    }
    versions.dedup();
    println!(
        "   user-42 asked 50 times, and was always served by {}.",
        versions.join(", ")
    );
    ensure!(
        versions.len() == 1,
        "one user, several versions: {versions:?}"
    );
    let forged = [STABLE_USER, ("x-mumbai-version", b"v2".as_slice())];
    let answer = client.get("/orders", &forged)?;
    let served = version(&answer)?;
    println!(
        "   user-1 sent x-mumbai-version: v2 itself: the header was removed, {served} served."
    );
    ensure!(served == "v1", "a client chose its version");
    Ok(())
}

fn breaker(world: &World) -> Result<()> {
    println!("\n3. The circuit breaker: {FAILURES} failures in a row open it for 2 s");
    let mut client = world.gateway_client();
    world.stable.control("status=500")?;
    for _ in 0..FAILURES {
        let answer = client.get("/orders", &[STABLE_USER])?;
        ensure!(
            answer.status == 500,
            "status {} instead of 500",
            answer.status
        );
    }
    println!("   order-service v1 answered 500, {FAILURES} times.");
    let reached = world.stable.count()?;
    let answer = client.get("/orders", &[STABLE_USER])?;
    let reason = header(&answer, "x-mumbai-reason");
    let retry_after = header(&answer, "retry-after");
    println!(
        "   The next request was refused by Envoy: {} {reason}, retry-after: {retry_after}.",
        answer.status
    );
    ensure!(
        answer.status == 503 && reason == "breaker_open",
        "not refused"
    );
    ensure!(
        world.stable.count()? == reached,
        "a refused request reached order-service"
    );
    println!("   order-service was not touched.");
    world.stable.control("status=200")?;
    wait_for("a probe to be admitted", BOUND, || ask(&mut client))?;
    for _ in 1..PROBES {
        let answer = client.get("/orders", &[STABLE_USER])?;
        ensure!(
            answer.status == 200,
            "a probe was refused: {}",
            answer.status
        );
    }
    ensure!(
        world.stable.count()? == reached + PROBES,
        "other than {PROBES} probes passed"
    );
    let answer = client.get("/orders", &[STABLE_USER])?;
    ensure!(answer.status == 200, "still refused: {}", answer.status);
    println!("   It recovered; {PROBES} probes succeeded, the breaker closed, traffic flows.");
    Ok(())
}

fn ask(client: &mut Client) -> std::result::Result<(), String> {
    match client.get("/orders", &[STABLE_USER]) {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(answer) => Err(format!(
            "{} {}",
            answer.status,
            header(&answer, "x-mumbai-reason")
        )),
        Err(error) => Err(format!("{error:#}")),
    }
}

fn who_said_what(world: &World) -> Result<()> {
    println!("\n4. Which Envoy said what");
    let answer = world.gateway_client().get("/pay/7", &[])?;
    ensure!(
        answer.json()?["service"] == "payment-service",
        "/pay led elsewhere"
    );
    println!(
        "   gateway -> sidecar -> payment-service: {}",
        answer.status
    );
    let order: (&str, &[u8]) = ("host", b"order-service");
    let answer = world.outbound_client().get("/orders/7", &[order])?;
    ensure!(
        answer.json()?["service"] == "order-service",
        "order-service led elsewhere"
    );
    println!(
        "   payment-service -> its sidecar -> order-service: {}",
        answer.status
    );
    for (name, envoy) in [("gateway", &world.gateway), ("sidecar", &world.sidecar)] {
        println!("   The {name}'s Envoy counted:");
        let page = envoy.prometheus()?;
        let mut counted = 0;
        for line in page
            .lines()
            .filter(|line| line.starts_with("mumbai_mesh_requests_total{"))
        {
            println!("     {line}");
            counted += 1;
        }
        ensure!(counted > 0, "the {name}'s Envoy counted nothing");
    }
    Ok(())
}

fn header(answer: &Response, name: &str) -> String {
    let value = answer.header(name).unwrap_or_default();
    String::from_utf8_lossy(value).into_owned()
}

fn version(answer: &Response) -> Result<String> {
    let version = answer.json()?["version"].as_str().map(str::to_string);
    version.context("the answer names no version")
}

fn upstream_saw(answer: &Response, name: &str) -> Result<Option<String>> {
    Ok(answer.json()?["headers"][name].as_str().map(str::to_string))
}
