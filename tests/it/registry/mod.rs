//! Instances that register themselves: what a real Envoy makes of it, and what survives what.

mod refused;
mod replicas;
mod supervised;

use std::{process::Command, time::Instant};

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::Artifacts,
    demo_services::DemoService,
    http::{Client, Response},
    ports::free_port,
    server::{Options, Server},
    wait::wait_for,
};
use serde_json::{Value, json};

use crate::{door1::BOUND, grpcurl, health::world::World};

const SERVICES: &str = "services:\n  order-service: {sidecar: false}\n";
const ROUTES: &str = "[{match: {path_prefix: /orders}, service: order-service}]";
const LIST: &str = "/api/v1/instances";

fn path(id: &str) -> String {
    format!("{LIST}/order-service/{id}")
}

fn ask(server: &Server, method: &str, path: &str, body: &str) -> Result<Response> {
    Client::new(server.api).request(method, path, &[], body.as_bytes())
}

/// Registers an application, and expects this status.
fn register(server: &Server, id: &str, port: u16, ttl: &str, status: u16) -> Result<Value> {
    let body = json!({"host": "127.0.0.1", "port": port, "ttl": ttl}).to_string();
    let answer = ask(server, "PUT", &path(id), &body)?;
    let shown = answer.json()?;
    ensure!(answer.status == status, "{}: {shown}", answer.status);
    Ok(shown)
}

fn beat(server: &Server, id: &str) -> Result<u16> {
    Ok(ask(server, "POST", &format!("{}/heartbeat", path(id)), "")?.status)
}

/// How an instance stands; `gone` when it is not there.
fn state(server: &Server, id: &str) -> Result<String> {
    let answer = ask(server, "GET", &path(id), "")?;
    if answer.status == 404 {
        return Ok("gone".into());
    }
    let shown = answer.json()?;
    Ok(shown["state"].as_str().context("no state")?.into())
}

fn wait_state(server: &Server, id: &str, wanted: &[&str]) -> Result<()> {
    wait_for(&format!("{id} to be {wanted:?}"), BOUND, || {
        let state = state(server, id).map_err(|error| format!("{error:#}"))?;
        match wanted.contains(&&*state) {
            true => Ok(()),
            false => Err(state),
        }
    })
}

/// A server and a gateway, and applications that answer with these versions.
fn world(versions: &[&str]) -> Result<(World, Vec<DemoService>)> {
    let dir = tempfile::tempdir()?;
    let artifacts = Artifacts::from_env()?;
    let start = |version: &&str| DemoService::start(&artifacts, dir.path(), "order", version);
    let applications = versions.iter().map(start).collect::<Result<_>>()?;
    let world = World::start(dir, SERVICES, ROUTES)?.with_gateway()?;
    Ok((world, applications))
}

fn refuses(world: &World) -> Result<()> {
    wait_for("the gateway to know nobody", BOUND, || {
        let answer = world.client().get("/orders", &[]);
        match answer.map_err(|error| format!("{error:#}"))?.status {
            503 => Ok(()),
            status => Err(status.to_string()),
        }
    })
}

#[test]
fn who_registers_gets_traffic_and_who_falls_silent_gets_none() -> Result<()> {
    let (world, applications) = world(&["1", "2"])?;
    refuses(&world)?;
    let port = applications[0].addr.port();
    let shown = register(&world.server, "order-1", port, "2s", 201)?;
    ensure!(shown["instance"]["state"] == "up", "{shown}");
    world.answers("/orders", &["1"])?;
    register(
        &world.server,
        "order-2",
        applications[1].addr.port(),
        "1h",
        201,
    )?;
    world.answers("/orders", &["1", "2"])?;
    // Its heartbeats carry it far beyond its TTL.
    let began = Instant::now();
    wait_for("three TTLs to pass", BOUND, || {
        let status = beat(&world.server, "order-1").map_err(|error| format!("{error:#}"))?;
        match (status, began.elapsed().as_secs()) {
            (204, 6..) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    world.answers("/orders", &["1", "2"])?;
    wait_state(&world.server, "order-1", &["expired", "gone"])?;
    world.answers("/orders", &["2"])?;
    wait_state(&world.server, "order-1", &["gone"])?;
    ensure!(beat(&world.server, "order-1")? == 404);
    let log = world.server.log();
    ensure!(log.contains("instances fell silent and expired"), "{log}");
    // The mesh has no revision of it.
    let revisions = world.server.api_get("/api/v1/revisions")?;
    ensure!(revisions["current"]["revision"] == 1, "{revisions}");
    Ok(())
}

#[test]
fn when_all_fall_silent_at_once_requests_go_on_until_a_person_says_otherwise() -> Result<()> {
    let (world, applications) = world(&["1", "2", "3"])?;
    let ids = ["order-1", "order-2", "order-3"];
    for (id, application) in ids.iter().zip(&applications) {
        register(&world.server, id, application.addr.port(), "1s", 201)?;
    }
    world.answers("/orders", &["1", "2", "3"])?;
    for id in ids {
        wait_state(&world.server, id, &["vanished"])?;
    }
    for application in &applications {
        let port = application.addr.port().into();
        world.flags(port, |flags| flags.contains("/failed_eds_health"))?;
    }
    world.answers("/orders", &["1", "2", "3"])?;
    let services = world.server.api_get("/services")?;
    let alarm = services["services"][0]["alarm"]
        .as_str()
        .context("no alarm")?;
    ensure!(alarm.contains("instance release"), "{alarm}");
    let metrics = String::from_utf8(Client::new(world.server.api).get("/metrics", &[])?.body)?;
    let line = r#"mumbai_mesh_registered_instances{service="order-service",state="vanished"} 3"#;
    ensure!(metrics.contains(line), "{metrics}");
    ensure!(
        world.server.log().contains("ALARM"),
        "{}",
        world.server.log()
    );
    let listed = world.server.api_get("/api/v1/instances?state=vanished")?;
    ensure!(
        listed["instances"].as_array().map(Vec::len) == Some(3),
        "{listed}"
    );

    // One comes back, one is deregistered, one is released.
    ensure!(beat(&world.server, "order-1")? == 204);
    wait_state(&world.server, "order-1", &["up"])?;
    register(
        &world.server,
        "order-1",
        applications[0].addr.port(),
        "1h",
        200,
    )?;
    let gone = ask(&world.server, "DELETE", &path("order-2"), "")?;
    ensure!(gone.status == 204, "{}", gone.status);
    let server = format!("http://{}", world.server.api);
    let release = [
        "instance",
        "release",
        "--service",
        "order-service",
        "--server",
        &server,
    ];
    world.server.command(&release)?;
    world.answers("/orders", &["1"])?;
    ensure!(
        world.server.command(&release).is_err(),
        "nobody is left to be released"
    );
    let services = world.server.api_get("/services")?;
    ensure!(services["services"][0]["alarm"].is_null(), "{services}");
    Ok(())
}

#[test]
fn instances_survive_a_server_that_is_killed() -> Result<()> {
    let (mut world, applications) = world(&["1", "2"])?;
    for (id, application) in ["order-1", "order-2"].iter().zip(&applications) {
        register(&world.server, id, application.addr.port(), "4s", 201)?;
    }
    let drained = ask(
        &world.server,
        "POST",
        &format!("{}/drain", path("order-2")),
        "",
    )?;
    ensure!(drained.status == 200, "{}", drained.status);
    world.answers("/orders", &["1"])?;
    world.restart()?;
    ensure!(state(&world.server, "order-1")? == "up");
    ensure!(state(&world.server, "order-2")? == "draining");
    world.answers("/orders", &["1"])?;
    // A mesh file that changes keeps them.
    let mesh = std::fs::read_to_string(world.server.mesh_file())?;
    world
        .server
        .write_mesh(&mesh.replace("{sidecar: false}", "{sidecar: false, timeout: 3s}"))?;
    wait_for("the changed mesh", BOUND, || {
        let revisions = world.server.api_get("/api/v1/revisions");
        let revisions = revisions.map_err(|error| format!("{error:#}"))?;
        match revisions["current"]["revision"] == 2 {
            true => Ok(()),
            false => Err(revisions.to_string()),
        }
    })?;
    world.answers("/orders", &["1"])?;
    // Grace ends too.
    wait_state(&world.server, "order-1", &["expired", "gone"])
}

#[test]
fn a_sidecar_of_a_registered_instance_is_told_its_own_ports() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let artifacts = Artifacts::from_env()?;
    let application = DemoService::start(&artifacts, dir.path(), "order", "1")?;
    let world = World::start(dir, "services:\n  order-service: {}\n", ROUTES)?.with_gateway()?;
    let body =
        json!({"host": "127.0.0.1", "port": free_port(), "app_port": application.addr.port()});
    let answer = ask(&world.server, "PUT", &path("order-1"), &body.to_string())?;
    ensure!(answer.status == 201, "{:?}", answer.json());
    let outbound = free_port().to_string();
    let extra = ["--node-id", "order-1", "--outbound-port", &outbound];
    let _sidecar = world.envoy("order-service", &extra)?;
    world.answers("/orders", &["1"])
}

#[test]
fn curl_is_enough_as_readme_says() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let server = Server::start(
        &Artifacts::from_env()?,
        dir.path(),
        SERVICES,
        &Options::default(),
    )?;
    let run = |command: &str| -> Result<String> {
        let command = command.replace("http://127.0.0.1:8088", &format!("http://{}", server.api));
        let output = Command::new("sh").args(["-c", &command]).output()?;
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{command}: {told}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(told)
    };
    let commands = grpcurl::commands_of_readme("Instances that register themselves")?;
    let commands: Vec<&String> = commands
        .iter()
        .filter(|one| one.starts_with("curl "))
        .collect();
    let [register, heartbeat, list, drain, deregister] = &commands[..] else {
        anyhow::bail!("not five commands: {commands:#?}");
    };
    ensure!(run(register)?.contains("\"state\":\"up\""));
    run(heartbeat)?;
    ensure!(run(list)?.contains("order-7"));
    ensure!(run(drain)?.contains("\"state\":\"draining\""));
    run(deregister)?;
    ensure!(run(heartbeat).is_err(), "it is gone");
    Ok(())
}
