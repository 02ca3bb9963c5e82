//! Breakers, limits, shedding and overrides as callers without a proxy meet them.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use harness::{http::Client, wait::wait_for};
use serde_json::{Value, json};

use super::{World, asked, refused, selected, told};
use crate::door1::BOUND;

const MESH: &str = "\
traffic_classes:
  gold: {match: [{path_prefix: /pay}]}
services:
  pay:
    sidecar: false
    endpoints:
      - {id: pay-1, host: 10.0.0.1, port: 80}
      - {id: pay-2, host: 10.0.0.2, port: 80, version: v2}
    circuit_breaker: {consecutive_failures: 3, open_for: 1s, half_open_probes: 2}
    CANARY
";

fn world(canary: &str) -> Result<World> {
    World::start(&MESH.replace("CANARY", canary))
}

fn any() -> Value {
    json!({"service": "pay"})
}

fn ticket(shown: &Value) -> Result<&str> {
    shown["ticket"].as_str().context("no ticket")
}

/// Fails so many calls, each with its ticket.
fn fail(client: &mut Client, wanted: &Value, times: u32) -> Result<()> {
    for _ in 0..times {
        let shown = selected(client, wanted)?;
        let result = json!({"ticket": ticket(&shown)?, "status": 500});
        ensure!(told(client, &[result])? == 1, "{shown}");
    }
    Ok(())
}

/// Waits until the opening is over, and gives the answers of many who ask at once then.
fn rush(world: &World) -> Result<Vec<(u16, Value)>> {
    let mut client = world.client();
    let first = wait_for("the opening to end", BOUND, || {
        let answer = asked(&mut client, &any()).map_err(|error| format!("{error:#}"))?;
        let shown = answer.json().map_err(|error| format!("{error:#}"))?;
        match answer.status {
            200 => Ok(shown),
            _ => Err(shown.to_string()),
        }
    })?;
    let one = |address| -> Result<(u16, Value)> {
        let answer = asked(&mut Client::new(address), &any())?;
        Ok((answer.status, answer.json()?))
    };
    let address = world.server.api;
    let rest: Result<Vec<(u16, Value)>> = thread::scope(|scope| {
        let asking: Vec<_> = (0..12).map(|_| scope.spawn(move || one(address))).collect();
        asking
            .into_iter()
            .map(|asking| asking.join().unwrap_or_else(|_| anyhow::bail!("panicked")))
            .collect()
    });
    let mut all = rest?;
    all.push((200, first));
    Ok(all)
}

fn probes(answers: &[(u16, Value)]) -> Result<Vec<String>> {
    let mut probes = Vec::new();
    for (status, shown) in answers {
        match status {
            200 => probes.push(ticket(shown)?.to_string()),
            _ => ensure!(
                *status == 503 && shown["reason"] == "breaker_half_open",
                "{status} {shown}"
            ),
        }
    }
    Ok(probes)
}

fn state(world: &World) -> Result<Value> {
    let services = world.server.api_get("/services")?;
    Ok(services["services"][0]["breaker"].clone())
}

#[test]
fn a_breaker_opens_admits_exactly_its_probes_and_closes_by_their_success() -> Result<()> {
    let world = world("")?;
    let mut client = world.client();
    let payment = json!({"service": "pay", "path": "/pay/7", "method": "POST"});
    selected(&mut client, &payment)?;
    fail(&mut client, &any(), 3)?;
    let opened = Instant::now();
    ensure!(refused(&mut client, &any())? == (503, "breaker_open".into()));
    let shown = state(&world)?;
    ensure!(shown["state"] == "open", "{shown}");
    // What one class does refuses no other.
    ensure!(selected(&mut client, &payment)?["class"] == "gold");
    let cells = shown["cells"].as_array().context("cells")?;
    let of = |class: &str| cells.iter().find(|cell| cell["class"] == class);
    ensure!(
        of("gold").is_some_and(|cell| cell["state"] == "closed"),
        "{shown}"
    );
    ensure!(
        of("silver").is_some_and(|cell| cell["state"] == "open"),
        "{shown}"
    );

    let answers = rush(&world)?;
    ensure!(opened.elapsed() >= Duration::from_millis(900), "too early");
    let out = probes(&answers)?;
    ensure!(out.len() == 2, "{} probes: {answers:?}", out.len());
    ensure!(state(&world)?["state"] == "half_open");
    // One failure opens it again; the other probe's late success changes nothing.
    ensure!(
        told(
            &mut client,
            &[json!({"ticket": out[0], "error": "timeout"})]
        )? == 1
    );
    ensure!(told(&mut client, &[json!({"ticket": out[1], "status": 200})])? == 0);
    ensure!(refused(&mut client, &any())? == (503, "breaker_open".into()));

    let out = probes(&rush(&world)?)?;
    ensure!(out.len() == 2, "{} probes", out.len());
    // A caller that gave up gives its slot back, for exactly one more.
    told(
        &mut client,
        &[json!({"ticket": out[0], "error": "cancelled"})],
    )?;
    let more = selected(&mut client, &any())?;
    ensure!(refused(&mut client, &any())? == (503, "breaker_half_open".into()));
    let reasons = more["reasons"].to_string();
    ensure!(
        reasons.contains("half_open; this call is one of its probes"),
        "{reasons}"
    );
    for ticket in [ticket(&more)?, &out[1]] {
        // Again is not twice: two calls must succeed.
        let result = json!({"ticket": ticket, "status": 204});
        told(&mut client, &[result.clone(), result])?;
    }
    ensure!(state(&world)?["state"] == "closed");
    selected(&mut client, &any())?;
    Ok(())
}

#[test]
fn results_of_those_who_asked_nobody_count_too() -> Result<()> {
    let world = world("")?;
    let mut client = world.client();
    let failed = json!({"service": "pay", "error": "connection", "time": "12ms"});
    let client_fault = json!({"service": "pay", "status": 404});
    ensure!(told(&mut client, &[failed.clone(), failed.clone(), client_fault])? == 3);
    selected(&mut client, &any())?;
    let grpc = json!({"service": "pay", "status": 200, "grpc_status": 14});
    ensure!(told(&mut client, &[failed.clone(), failed, grpc])? == 3);
    ensure!(refused(&mut client, &any())? == (503, "breaker_open".into()));
    let late = json!({"service": "pay", "status": 200});
    ensure!(told(&mut client, &[late])? == 0);
    Ok(())
}

#[test]
fn a_canarys_breaker_sends_its_users_to_stable_and_a_resume_brings_them_back() -> Result<()> {
    let world = world("canary: {version: v2, weight: 50, sticky_by: {header: x-user-id}}")?;
    let mut client = world.client();
    let of = |number: u32, path: &str| json!({"service": "pay", "headers": {"x-user-id": format!("user-{number}")}, "path": path});
    let number = (0..100).find(|number| {
        let shown = selected(&mut client, &of(*number, "/pay"));
        shown.is_ok_and(|shown| shown["version"] == "v2")
    });
    let number = number.context("nobody of a hundred is on the canary")?;
    let (user, wanted) = (of(number, "/"), of(number, "/pay"));
    fail(&mut client, &user, 3)?;
    let shown = selected(&mut client, &user)?;
    ensure!(shown["version"] == "stable", "{shown}");
    ensure!(
        shown["reasons"]
            .to_string()
            .contains("stable stands in for it"),
        "{shown}"
    );
    // It latches, for every class.
    ensure!(selected(&mut client, &wanted)?["version"] == "stable");
    let shown = state(&world)?;
    let latched = shown["cells"].as_array().context("cells")?;
    let latched = latched.iter().filter(|cell| cell["latched"] == true);
    ensure!(latched.count() == 2, "{shown}");
    let (status, shown) = world
        .server
        .api_post("/api/v1/canaries/pay/resume", b"{}")?;
    ensure!(status == 200, "{status} {shown}");
    wait_for("the user to be back", BOUND, || {
        let shown = selected(&mut client, &user).map_err(|error| format!("{error:#}"))?;
        match shown["version"] == "v2" {
            true => Ok(()),
            false => Err(shown["reasons"].to_string()),
        }
    })
}

#[test]
fn limits_and_shedding_refuse_and_an_override_lets_through() -> Result<()> {
    let mesh = "\
traffic_classes:
  bronze: {match: [{path_prefix: /batch}], shed_during: {normal: 100}}
services:
  shop:
    sidecar: false
    endpoints: [{id: shop-1, host: 10.0.0.1, port: 80}]
    limit: {per_second: 1, burst: 3}
";
    let world = World::start(mesh)?;
    let mut client = world.client();
    let any = json!({"service": "shop"});
    for _ in 0..3 {
        selected(&mut client, &any)?;
    }
    ensure!(refused(&mut client, &any)? == (429, "limit".into()));
    let batch = json!({"service": "shop", "path": "/batch/1"});
    let says = |kind: &str| -> Result<()> {
        let body = json!({"kind": kind, "for": "1h", "reason": "test"}).to_string();
        let path = "/api/v1/services/shop/override";
        let (status, shown) = world.server.api_post(path, body.as_bytes())?;
        ensure!(status == 200, "{status} {shown}");
        Ok(())
    };
    wait_for(
        "batches to be shed, not limited",
        BOUND,
        || match refused(&mut client, &batch).map_err(|error| format!("{error:#}"))? {
            (429, reason) if reason == "shed" => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )?;
    says("observe")?;
    let shown = wait_for("the override to be in force", BOUND, || {
        let answer = asked(&mut client, &batch).map_err(|error| format!("{error:#}"))?;
        match answer.status {
            200 => answer.json().map_err(|error| format!("{error:#}")),
            status => Err(status.to_string()),
        }
    })?;
    let would = shown["would_be_refused"].as_str();
    ensure!(matches!(would, Some("shed" | "limit")), "{shown}");
    says("bypass")?;
    wait_for("nothing to be judged", BOUND, || {
        let shown = selected(&mut client, &batch).map_err(|error| format!("{error:#}"))?;
        match (&shown["would_be_refused"], &shown["ticket"]) {
            (Value::Null, Value::Null) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
}

#[test]
fn breakers_outlive_a_change_of_the_mesh_and_end_with_their_service() -> Result<()> {
    let world = world("")?;
    let mut client = world.client();
    fail(&mut client, &any(), 3)?;
    ensure!(refused(&mut client, &any())?.1 == "breaker_open");
    let changed = MESH
        .replace("CANARY", "")
        .replace("open_for: 1s", "open_for: 2s");
    let with_bronze = changed.replace(
        "traffic_classes:\n",
        "traffic_classes:\n  bronze: {match: [{path_prefix: /batch}]}\n",
    );
    let revision = |number: u64| {
        wait_for("the revision", BOUND, || {
            let revisions = world.server.api_get("/api/v1/revisions");
            let revisions = revisions.map_err(|error| format!("{error:#}"))?;
            match revisions["current"]["revision"] == number {
                true => Ok(()),
                false => Err(revisions.to_string()),
            }
        })
    };
    world.server.write_mesh(&with_bronze)?;
    revision(2)?;
    let (status, _) = refused(&mut client, &any())?;
    ensure!(status == 503, "{status}");
    world.server.write_mesh("services: {}\n")?;
    revision(3)?;
    ensure!(asked(&mut client, &any())?.status == 404);
    world.server.write_mesh(&with_bronze)?;
    revision(4)?;
    // It is another service now.
    selected(&mut client, &any())?;
    Ok(())
}
