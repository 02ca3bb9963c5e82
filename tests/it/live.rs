//! `mumbai-mesh explain --from-proxy`: by what a live Envoy has in force.

use anyhow::{Context, Result, ensure};
use harness::{clock::Clock, http::Response, wait::wait_for};
use serde_json::{Value, json};

use crate::{
    command,
    door1::{BOUND, Door1, filter_config, version},
    mesh::{Mesh, Variant},
    traffic::{World, application},
};

fn run(arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    command::run(&["explain"], arguments)
}

fn told(arguments: &[&str]) -> Result<Value> {
    let (code, out, errors) = run(&[arguments, &["-o", "json"]].concat())?;
    ensure!(code == Some(0), "{arguments:?}: {errors}");
    Ok(serde_json::from_str(&out)?)
}

const CALENDAR: &str = "\
peak_hours: {evening: {start: 17, end: 22, multiplier: 1.5}}
festivals: [{name: Diwali, date: 2026-11-08, factor: 2}]
traffic_classes: {gold: {match: [{path_prefix: /orders/pay}]}}
";

/// Whether an Envoy did what it said.
fn does(now: &Value, answer: &Response) -> Result<()> {
    match now["cluster"].as_str() {
        Some(cluster) => {
            let expected = if cluster.ends_with("|v2") { "v2" } else { "v1" };
            ensure!(version(answer)? == expected, "{now:#}");
            let endpoint = &now["endpoints"][0];
            ensure!(
                endpoint["health"] == "healthy" && endpoint["ejected"] == false,
                "{now:#}"
            );
        }
        None => ensure!(answer.status == 404, "{} {now:#}", answer.status),
    }
    Ok(())
}

#[test]
fn an_envoy_answers_as_its_mesh_does_and_now_is_what_its_own_clock_says() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let clock = Clock::new(dir.path())?;
    let diwali: jiff::Timestamp = "2026-11-08T18:30:00+05:30".parse()?;
    clock.set_now(diwali.as_millisecond())?;
    let mesh = Mesh::start_with(Variant::Delta, Some(&clock), |file| {
        file.more = CALENDAR.into();
    })?;
    let admin = mesh.gateway.admin_address();
    let server = format!("http://{}", mesh.server.api);
    for (user, path) in [
        ("user-1", "/orders"),
        ("user-42", "/orders/x/../pay"),
        ("user-42", "/no"),
    ] {
        let header = format!("x-user-id:{user}");
        let asked = [
            "--from-proxy",
            &admin,
            "--server",
            &server,
            "--path",
            path,
            "-H",
            &header,
        ];
        let now = told(&asked)?;
        ensure!(
            now["traffic_state"] == "festival" && now["window"] == "evening",
            "{now:#}"
        );
        ensure!(now["differences"] == json!([]), "{now:#}");
        ensure!(
            now["proxy"]["id"] == "edge" && now["proxy"]["route_config"] == "edge",
            "{now:#}"
        );
        // And the Envoy does what it says.
        let answer = mesh.client().get(path, &[("x-user-id", user.as_bytes())])?;
        does(&now, &answer)?;
        let then = told(&[&asked[..], &["--at", "2026-11-24T12:00+05:30"]].concat())?;
        ensure!(
            then["traffic_state"] == "normal" && then["differences"] == json!([]),
            "{then:#}"
        );
    }
    let (_, table, _) = run(&[
        "--from-proxy",
        &admin,
        "--path",
        "/orders",
        "--server",
        &server,
    ])?;
    for words in [
        "this Envoy decides as the mesh says",
        "not known: ",
        "clock is",
        "healthy",
    ] {
        ensure!(table.contains(words), "no {words}: {table}");
    }
    let (_, yaml, _) = run(&["--from-proxy", &admin, "--path", "/orders", "-o", "yaml"])?;
    ensure!(yaml.contains("traffic_state: festival"), "{yaml}");
    Ok(())
}

#[test]
fn an_envoy_that_was_cut_off_is_told_apart_from_a_newer_mesh() -> Result<()> {
    let mut mesh = Mesh::start(|_| {})?;
    let admin = mesh.gateway.admin_address();
    mesh.server.process().kill()?;
    let newer = mesh.file.text().replace("weight: 10", "weight: 25");
    let file = mesh.dir.path().join("newer.yaml");
    std::fs::write(&file, newer)?;
    let file = file.to_str().context("path")?;
    // Bucket 1657: stable at 10 %, the canary's at 25 %.
    let asked = [
        "--from-proxy",
        &admin,
        "--config",
        file,
        "--path",
        "/orders",
        "-H",
        "x-user-id:user-1",
    ];
    let now = told(&asked)?;
    ensure!(now["cluster"] == "order-service", "{now:#}");
    let differences = now["differences"].as_array().context("differences")?;
    let of = |field: &str| {
        differences
            .iter()
            .find(|one| one["field"] == field)
            .cloned()
    };
    let weight = of("canary.weight").with_context(|| format!("{now:#}"))?;
    ensure!(
        weight["proxy"] == 10.0 && weight["mesh"] == 25.0,
        "{weight}"
    );
    ensure!(
        of("version").is_some() && of("cluster").is_some(),
        "{now:#}"
    );
    let (_, table, _) = run(&asked)?;
    ensure!(
        table.contains("canary.weight: here 10.0, the mesh 25.0"),
        "{table}"
    );
    ensure!(version(&mesh.client().get("/orders", &[("x-user-id", b"user-1")])?)? == "v1");
    Ok(())
}

/// The answer, once it says that this endpoint is ejected.
fn ejected(asked: &[&str], address: &str) -> Result<Value> {
    wait_for("the endpoint to be ejected", BOUND, || {
        let told = told(asked).map_err(|error| format!("{error:#}"))?;
        let endpoints = told["endpoints"].as_array().cloned().unwrap_or_default();
        let ejected = endpoints.iter().find(|one| one["ejected"] == true);
        match ejected.is_some_and(|one| one["address"] == address) {
            true => Ok(told),
            false => Err(told.to_string()),
        }
    })
}

#[test]
fn ejected_endpoints_and_open_breakers_are_told_as_they_are_now() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let first = application(&dir, "order-service", "first")?;
    let second = application(&dir, "order-service", "second")?;
    let mesh = format!(
        "\
services:
  order-service:
    sidecar: false
    endpoints:
      - {{id: order-1, host: 127.0.0.1, port: {}, weight: 3}}
      - {{id: order-2, host: 127.0.0.1, port: {}}}
    outlier_detection: {{consecutive_5xx: 1, interval: 1s, base_ejection_time: 60s, max_ejection_percent: 50}}
    circuit_breaker: {{consecutive_failures: 3, open_for: 60s}}
",
        first.addr.port(),
        second.addr.port()
    );
    let routes = "routes: [{match: {path_prefix: /}, service: order-service}]";
    let world = World::start(dir, &mesh, routes, &[])?;
    let admin = world.gateway.admin_address();
    let asked = ["--from-proxy", &admin, "--path", "/orders"];
    let well = told(&asked)?;
    ensure!(
        well["breaker"]["state"] == "closed" && well["breakers"] == json!([]),
        "{well:#}"
    );
    ensure!(well["endpoints"][0]["weight"] == 3, "{well:#}");

    first.control("status=503")?;
    let mut client = world.client();
    wait_for("a failure", BOUND, || match client.get("/orders", &[]) {
        Ok(answer) if answer.status == 503 => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    let address = first.addr.to_string();
    let sick = ejected(&asked, &address)?;
    let reasons = sick["reasons"].to_string();
    ensure!(
        reasons.contains("priority 0 of order-service: 1 of 2 healthy"),
        "{reasons}"
    );
    ensure!(
        reasons.contains(&format!("{address} of order-service: ejected")),
        "{reasons}"
    );

    // The other one fails too: now nothing is let through, and the gauge says so.
    second.control("status=503")?;
    wait_for("the breaker to open", BOUND, || {
        match client.get("/orders", &[]) {
            Ok(answer) if answer.header("x-mumbai-reason").is_some() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    let open = told(&asked)?;
    ensure!(
        open["refused"] == "breaker_open" && open["cluster"] == Value::Null,
        "{open:#}"
    );
    ensure!(
        open["breakers"][0]["service"] == "order-service",
        "{open:#}"
    );
    ensure!(open["breakers"][0]["state"] == "open", "{open:#}");
    // What the mesh would say is told beside it, breakers aside.
    let server = format!("http://{}", world.server.api);
    let compared = told(&[&asked[..], &["--server", &server]].concat())?;
    ensure!(compared["differences"] == json!([]), "{compared:#}");
    Ok(())
}

#[test]
fn who_is_no_envoy_of_ours_is_told_so() -> Result<()> {
    let mesh = Mesh::start(|_| {})?;
    let admin = mesh.gateway.admin_address();
    let nobody = format!("127.0.0.1:{}", harness::ports::free_port());
    let api = mesh.server.api.to_string();
    let cases: [(&[&str], i32, &str); 6] = [
        (&["--from-proxy", &nobody], 1, "no Envoy can be reached at"),
        (
            &["--from-proxy", &api],
            1,
            "is no admin interface of an Envoy",
        ),
        (
            &["--from-proxy", &admin, "--service", "order-service"],
            64,
            "called outbound; it has: edge",
        ),
        (
            &["--from-proxy", &admin, "--gateway", "egde"],
            64,
            "called egde; it has: edge",
        ),
        (
            &["--from-proxy", &admin, "--zone", "mumbai-west"],
            64,
            "cannot be used with",
        ),
        (&["--from-proxy", &admin, "--at", "noon"], 64, "RFC 3339"),
    ];
    for (arguments, code, words) in cases {
        let (found, _, errors) = run(arguments)?;
        ensure!(found == Some(code), "{arguments:?}: {found:?} {errors}");
        ensure!(errors.contains(words), "{arguments:?}: {errors}");
    }
    Ok(())
}

#[test]
fn wrong_usage_ends_alike_whoever_is_asked() -> Result<()> {
    let mesh = Mesh::start(|_| {})?;
    let admin = mesh.gateway.admin_address();
    let server = format!("http://{}", mesh.server.api);
    let file = mesh.server.mesh_file().display().to_string();
    let cases: [(&[&str], &str); 7] = [
        (&["--gateway", "nope"], "edge"),
        (&["--service", "nope"], "mumbai-mesh: "),
        (&["--gateway", "edge", "--at", "tomorrow"], "RFC 3339"),
        (&["--gateway", "edge", "--method", "GE T"], "is no method"),
        (
            &["--gateway", "edge", "--path", "nope"],
            "must begin with /",
        ),
        (&["--gateway", "edge", "-H", "bad"], "must be name:value"),
        (
            &["--gateway", "edge", "-H", "x-a:b\r\nc:d"],
            "none that a client could send",
        ),
    ];
    for (source, value) in [
        ("--config", file.as_str()),
        ("--server", server.as_str()),
        ("--from-proxy", admin.as_str()),
    ] {
        for (arguments, words) in cases {
            let (found, out, errors) = run(&[&[source, value][..], arguments].concat())?;
            ensure!(
                found == Some(64) && out.is_empty(),
                "{source} {arguments:?}: {found:?} {out} {errors}"
            );
            ensure!(errors.contains(words), "{source} {arguments:?}: {errors}");
        }
    }
    // A server that is not there is no wrong usage.
    let nobody = format!("http://127.0.0.1:{}", harness::ports::free_port());
    let (found, _, errors) = run(&["--server", &nobody, "--gateway", "edge"])?;
    ensure!(found == Some(1), "{found:?} {errors}");
    Ok(())
}

/// No server made it: its routes, its endpoints and the filter stand in its bootstrap.
#[test]
fn a_static_envoy_is_asked_like_any_other() -> Result<()> {
    let service = json!({
        "name": "order-service",
        "canary": {"version": "v2", "weight": 10, "sticky_by": {"header": "x-user-id"}},
    });
    let calendar = json!({"peak_hours": {"always": {"start": 0, "end": 24, "multiplier": 1.5}}});
    let door = Door1::start(&filter_config(&service, &calendar))?;
    let admin = door.envoy.admin_address();
    for (user, cluster) in [("user-1", "order-service"), ("user-42", "order-service|v2")] {
        let header = format!("x-user-id:{user}");
        let now = told(&["--from-proxy", &admin, "--path", "/orders", "-H", &header])?;
        ensure!(
            now["cluster"] == cluster && now["window"] == "always",
            "{now:#}"
        );
        ensure!(now["endpoints"][0]["health"] == "healthy", "{now:#}");
        ensure!(now["breaker"]["state"] == "closed", "{now:#}");
        does(&now, &door.get(&[("x-user-id", user.as_bytes())])?)?;
    }
    Ok(())
}
