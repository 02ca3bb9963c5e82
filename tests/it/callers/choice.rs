//! Whom callers are told to call.

use std::{collections::BTreeMap, process::Command};

use anyhow::{Context, Result, ensure};
use harness::wait::wait_for;
use serde_json::{Value, json};

use super::{World, asked, id, refused, selected, told};
use crate::{door1::BOUND, grpcurl, health::world::Fleet};

const PLACES: &str = "\
mesh: {name: test, region: mumbai}
services:
  pay:
    sidecar: false
    endpoints:
      - {id: west-1, host: 10.0.0.1, port: 80, zone: mumbai-west, weight: 30}
      - {id: west-2, host: 10.0.0.2, port: 80, zone: mumbai-west, weight: 10}
      - {id: central-1, host: 10.0.1.1, port: 80, zone: mumbai-central, weight: 40}
  card:
    sidecar: false
    endpoints:
      - {id: near, host: 10.0.2.1, port: 80, zone: mumbai-west, weight: 10}
      - {id: far-1, host: 10.0.2.2, port: 80, zone: mumbai-central, weight: 30}
      - {id: far-2, host: '2001:db8::1', port: 80, zone: mumbai-central, weight: 60}
";

/// What share of many choices each instance has, in percent.
fn shares(world: &World, wanted: &Value) -> Result<BTreeMap<String, f64>> {
    const CALLS: u32 = 4_000;
    let mut client = world.client();
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..CALLS {
        *counts
            .entry(id(&selected(&mut client, wanted)?)?)
            .or_default() += 1;
    }
    let share = |count| f64::from(count) * 100.0 / f64::from(CALLS);
    Ok(counts
        .into_iter()
        .map(|(id, count)| (id, share(count)))
        .collect())
}

/// What `explain` says that an Envoy in that place would send to each, in percent.
fn foretold(world: &World, service: &str, zone: &str) -> Result<BTreeMap<String, f64>> {
    let path = format!("/api/v1/explain?service={service}&zone={zone}");
    let explained = world.server.api_get(&path)?;
    let endpoints = explained["endpoints"].as_array().context("endpoints")?;
    let first: Vec<&Value> = endpoints
        .iter()
        .filter(|one| one["priority"] == 0)
        .collect();
    let number = |one: &Value, field: &str| one[field].as_f64().unwrap_or_default();
    let mut zones: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for one in &first {
        let zone = zones
            .entry(one["zone"].as_str().unwrap_or_default())
            .or_default();
        *zone = (
            number(one, "locality_weight"),
            zone.1 + number(one, "weight"),
        );
    }
    let total: f64 = zones.values().map(|(weight, _)| weight).sum();
    let share = |one: &&Value| {
        let (locality, weights) = zones[one["zone"].as_str().unwrap_or_default()];
        let share = locality / total * number(one, "weight") / weights * 100.0;
        (one["id"].as_str().unwrap_or_default().to_string(), share)
    };
    Ok(first.iter().map(share).collect())
}

#[test]
fn choices_agree_with_weights_and_zones_as_an_envoy_has_them() -> Result<()> {
    let world = World::start(PLACES)?;
    let places = [
        ("pay", "mumbai-west"),
        ("pay", "mumbai-central"),
        // Its own zone carries less than its share: it takes what it can.
        ("card", "mumbai-west"),
        ("card", "mumbai-central"),
        ("card", "elsewhere"),
    ];
    for (service, zone) in places {
        let wanted = json!({"service": service, "zone": zone});
        let (shares, foretold) = (shares(&world, &wanted)?, foretold(&world, service, zone)?);
        ensure!(
            shares.keys().eq(foretold.keys()),
            "{service} from {zone}: {shares:?}, not {foretold:?}"
        );
        for (id, share) in &shares {
            // Four standard deviations of 4,000 draws are 3.2 % at most.
            let off = (share - foretold[id]).abs();
            ensure!(
                off < 3.2,
                "{id} from {zone}: {share} %, not {}",
                foretold[id]
            );
        }
    }
    let mut client = world.client();
    let shown = selected(
        &mut client,
        &json!({"service": "pay", "zone": "mumbai-west"}),
    )?;
    ensure!(
        shown["mtls"] == "off" && shown["instance"]["port"] == 80,
        "{shown}"
    );
    ensure!(shown["headers"]["x-mumbai-class"] == "silver", "{shown}");
    let reasons = shown["reasons"].to_string();
    ensure!(
        reasons.contains("breaker of stable for silver: closed"),
        "{reasons}"
    );
    wait_for("an address of version 6 to be drawn", BOUND, || {
        let shown = selected(&mut client, &json!({"service": "card"}));
        let shown = shown.map_err(|error| format!("{error:#}"))?;
        match shown["address"] == "[2001:db8::1]:80" {
            true => Ok(()),
            false => Err(shown["address"].to_string()),
        }
    })
}

#[test]
fn a_canary_serves_the_very_users_that_explain_says() -> Result<()> {
    let mesh = "\
services:
  order-service:
    sidecar: false
    endpoints:
      - {id: order-1, host: 10.0.0.1, port: 80}
      - {id: order-2, host: 10.0.0.2, port: 80, version: v2}
    canary: {version: v2, weight: 10, sticky_by: {header: x-user-id}}
";
    let world = World::start(mesh)?;
    let mut client = world.client();
    let mut on_canary = 0;
    for number in 0..1_000 {
        let user = format!("user-{number}");
        let wanted = json!({"service": "order-service", "headers": {"X-User-Id": user}});
        let shown = selected(&mut client, &wanted)?;
        let again = selected(&mut client, &wanted)?;
        let version = shown["version"].as_str().context("version")?;
        ensure!(again["version"] == version, "{user}: {shown}, then {again}");
        ensure!(shown["headers"]["x-mumbai-version"] == version, "{shown}");
        let expected = match version {
            "v2" => "order-2",
            _ => "order-1",
        };
        ensure!(id(&shown)? == expected, "{user}: {shown}");
        on_canary += usize::from(version == "v2");
        if number < 50 {
            let path = format!("/api/v1/explain?service=order-service&header=x-user-id:{user}");
            let explained = world.server.api_get(&path)?;
            ensure!(explained["version"] == version, "{user}: {explained}");
        }
    }
    ensure!(
        (70..=130).contains(&on_canary),
        "{on_canary} of 1000 on the canary"
    );
    for (user, version) in [("user-42", "v2"), ("user-1", "stable"), ("नमस्ते", "stable")]
    {
        let wanted = json!({"service": "order-service", "headers": {"x-user-id": user}});
        let shown = selected(&mut client, &wanted)?;
        ensure!(shown["version"] == version, "{user}: {shown}");
    }
    // Who is on it chooses nobody.
    let forged = json!({"service": "order-service",
        "headers": {"x-user-id": "user-1", "x-mumbai-canary": "v2"}});
    ensure!(selected(&mut client, &forged)?["version"] == "stable");
    Ok(())
}

/// Who is chosen of many.
fn chosen(fleet: &Fleet, service: &str) -> Result<Vec<String>> {
    let mut client = harness::http::Client::new(fleet.world.server.api);
    let wanted = json!({"service": service});
    let mut ids = Vec::new();
    for _ in 0..60 {
        ids.push(id(&selected(&mut client, &wanted)?)?);
    }
    ids.sort();
    ids.dedup();
    Ok(ids)
}

#[test]
fn who_is_unhealthy_or_about_to_leave_is_not_chosen() -> Result<()> {
    let mut fleet = Fleet::start("health_check: {path: /alive, interval: 400ms, timeout: 300ms}")?;
    for id in ["plain-1", "plain-2", "order-1", "order-2"] {
        fleet.world.becomes(id, "healthy")?;
    }
    let service = "plain-service";
    ensure!(chosen(&fleet, service)? == ["plain-1", "plain-2"]);
    fleet.stop("plain-1");
    fleet.world.becomes("plain-1", "unhealthy")?;
    wait_for("the dead one not to be chosen", BOUND, || {
        let chosen = chosen(&fleet, service).map_err(|error| format!("{error:#}"))?;
        match chosen == ["plain-2"] {
            true => Ok(()),
            false => Err(format!("{chosen:?}")),
        }
    })?;
    let mut client = harness::http::Client::new(fleet.world.server.api);
    let shown = selected(&mut client, &json!({"service": service}))?;
    let reasons = shown["reasons"].to_string();
    ensure!(
        reasons.contains("1 of 2 instances left out: plain-1 is UNHEALTHY"),
        "{reasons}"
    );
    // Behind sidecars there is one who demands a certificate: the caller is told.
    let shown = selected(&mut client, &json!({"service": "order-service"}))?;
    ensure!(shown["mtls"] == "strict", "{shown}");
    fleet.start_again("plain-1")?;
    fleet.world.becomes("plain-1", "healthy")?;
    wait_for("it to be chosen again", BOUND, || {
        let chosen = chosen(&fleet, service).map_err(|error| format!("{error:#}"))?;
        match chosen.len() {
            2 => Ok(()),
            _ => Err(format!("{chosen:?}")),
        }
    })
}

#[test]
fn registered_instances_are_chosen_until_they_drain_or_leave() -> Result<()> {
    let world = World::start("services: {shop: {sidecar: false}}\n")?;
    let mut client = world.client();
    let wanted = json!({"service": "shop"});
    ensure!(refused(&mut client, &wanted)? == (503, "no_instance".into()));
    for number in [1, 2] {
        let path = format!("/api/v1/instances/shop/shop-{number}");
        let body = json!({"host": "10.0.0.1", "port": 80 + number, "ttl": "1h"}).to_string();
        let answer = client.request("PUT", &path, &[], body.as_bytes())?;
        ensure!(answer.status == 201, "{:?}", answer.json());
    }
    let chosen = |client: &mut harness::http::Client| -> Result<Vec<String>> {
        let ids: Result<Vec<String>> = (0..40).map(|_| id(&selected(client, &wanted)?)).collect();
        let mut ids = ids?;
        ids.sort();
        ids.dedup();
        Ok(ids)
    };
    ensure!(chosen(&mut client)? == ["shop-1", "shop-2"]);
    client.post("/api/v1/instances/shop/shop-1/drain", b"")?;
    ensure!(chosen(&mut client)? == ["shop-2"]);
    client.send("DELETE", "/api/v1/instances/shop/shop-2", &[])?;
    // Whoever is about to leave is not asked even if nobody else is there.
    ensure!(refused(&mut client, &wanted)? == (503, "no_instance".into()));
    Ok(())
}

#[test]
fn what_is_asked_wrongly_is_told_with_its_place() -> Result<()> {
    let world = World::start(PLACES)?;
    let mut client = world.client();
    let cases = [
        ("select", json!([]), 400, "must be"),
        ("select", json!({}), 400, "service"),
        (
            "select",
            json!({"service": "pay", "zoen": "x"}),
            400,
            "did you mean \\\"zone\\\"",
        ),
        (
            "select",
            json!({"service": "pay", "headers": {"a b": "c"}}),
            400,
            "headers",
        ),
        (
            "select",
            json!({"service": "nobody"}),
            404,
            "nobody is not in this mesh",
        ),
        ("results", json!({"service": "pay"}), 400, "give status"),
        (
            "results",
            json!({"service": "pay", "status": 99}),
            400,
            "from 100 to 599",
        ),
        (
            "results",
            json!({"service": "pay", "error": "odd"}),
            400,
            "timeout, connection or cancelled",
        ),
        ("results", json!({"status": 200}), 400, "ticket"),
        (
            "results",
            json!({"ticket": "x", "status": 200}),
            400,
            "no ticket",
        ),
        ("results", json!({"results": []}), 400, "1 to 1000"),
        (
            "results",
            json!({"service": "pay", "version": "v9", "status": 200}),
            404,
            "no canary v9",
        ),
        (
            "results",
            json!({"service": "pay", "class": "tin", "status": 200}),
            404,
            "no class tin",
        ),
        (
            "results",
            json!({"results": [{"service": "pay", "status": 200},
            {"service": "nobody", "status": 200}]}),
            404,
            "results[1]",
        ),
    ];
    for (what, body, status, said) in cases {
        let path = format!("/api/v1/{what}");
        let answer = client.post(&path, body.to_string().as_bytes())?;
        let shown = answer.json()?.to_string();
        ensure!(answer.status == status, "{body}: {} {shown}", answer.status);
        ensure!(shown.contains(said), "{body}: {shown}");
    }
    let large = json!({"service": "pay", "path": "x".repeat(70_000)});
    ensure!(asked(&mut client, &large)?.status == 413);
    // Nothing of it left a trace: nobody called yet.
    let services = world.server.api_get("/services?service=pay")?;
    ensure!(services["services"][0]["breaker"].is_null(), "{services}");
    told(&mut client, &[json!({"service": "pay", "status": 200})])?;
    let services = world.server.api_get("/services?service=pay")?;
    let breaker = &services["services"][0]["breaker"];
    ensure!(breaker["state"] == "closed", "{breaker}");
    ensure!(
        breaker["cells"].as_array().map(Vec::len) == Some(1),
        "{breaker}"
    );
    Ok(())
}

#[test]
fn curl_is_enough_to_ask_and_to_tell_as_readme_says() -> Result<()> {
    let mesh = "\
festivals: [{name: Diwali, date: 2026-11-08, factor: 2}]
services:
  order-service:
    sidecar: false
    endpoints: [{id: order-1, host: 10.0.0.1, port: 8080}]
";
    let world = World::start(mesh)?;
    let script = grpcurl::commands_of_readme("Callers without a proxy")?.join("\n");
    let script = script.replace(
        "http://127.0.0.1:8088",
        &format!("http://{}", world.server.api),
    );
    let output = Command::new("sh").args(["-ec", &script]).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{script}\n{said}\n{errors}");
    for expected in [
        "10.0.0.1:8080",
        "\"counted\":1",
        "\"counted\":2",
        "\"traffic_state\":\"festival\"",
    ] {
        ensure!(said.contains(expected), "no {expected}: {said}");
    }
    Ok(())
}
