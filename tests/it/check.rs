//! `mumbai-mesh check`: what it says of a machine without a server, of a mesh that is well, and of one that is not.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _};

use anyhow::{Context, Result, ensure};
use harness::{
    clock::Clock,
    ports::free_port,
    server,
    wait::wait_for,
    xds::{Api, Connection, Kind, Service, Stream, Variant as Spoken, set_of},
};
use serde_json::{Value, json};

use crate::{
    command::run,
    door1::BOUND,
    health::world::World,
    mesh::{Mesh, Variant},
};

/// What `check` finds, and its exit code.
fn check(server: &str, extra: &[&str]) -> Result<(Option<i32>, Vec<Value>)> {
    let mut arguments = vec!["--server", server, "-o", "json"];
    arguments.extend(extra);
    let (code, stdout, stderr) = run(&["check"], &arguments)?;
    let answer: Value = serde_json::from_str(&stdout).with_context(|| stderr.clone())?;
    let items = answer["items"].as_array().context("no items")?;
    Ok((code, items.clone()))
}

/// The level and the sentence of the first of a code.
fn of<'i>(items: &'i [Value], code: &str) -> Result<(&'i str, &'i str)> {
    let mut found = items.iter().filter(|item| item["code"] == code);
    let item = found
        .next()
        .with_context(|| format!("no {code} in {items:#?}"))?;
    let text = |field: &str| item[field].as_str().unwrap_or_default();
    Ok((text("level"), text("sentence")))
}

#[test]
fn without_a_server_this_machine_and_a_file_are_looked_at() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let state = dir.path().join("state");
    fs::create_dir(&state)?;
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755))?;
    let file = dir.path().join("mesh.yaml");
    fs::write(
        &file,
        "peak_hours: {morning: {start: 8, end: 9}}\nservices:\n  pay: {sidecar: false}\n",
    )?;
    let (file, state) = (file.display().to_string(), state.display().to_string());
    let free = format!("http://127.0.0.1:{}", free_port());
    let (code, items) = check(&free, &["--state-dir", &state, "--config", &file])?;
    ensure!(code == Some(79), "{code:?}");
    ensure!(of(&items, "server")?.0 == "warning", "{items:#?}");
    ensure!(of(&items, "port")?.0 == "ok", "{items:#?}");
    let (level, sentence) = of(&items, "state-dir-open")?;
    ensure!(
        level == "error" && sentence.contains("mode 755"),
        "{sentence}"
    );
    // The calendar against NPCI's, and what else analyze says.
    ensure!(of(&items, "npci-peak-differs")?.0 != "ok");
    ensure!(
        items
            .iter()
            .all(|item| item["level"] == "ok" || item["fix"] != ""),
        "{items:#?}"
    );
    let items = check_of_a_stranger()?;
    ensure!(of(&items, "port-in-use")?.0 == "error", "{items:#?}");
    fs::write(
        dir.path().join("mesh.yaml"),
        "services: {pay: {tiemout: 2s}}\n",
    )?;
    let (_, items) = check(&free, &["--config", &file])?;
    let (level, sentence) = of(&items, "configuration-refused")?;
    ensure!(
        level == "error" && sentence.contains("tiemout"),
        "{sentence}"
    );
    Ok(())
}

/// Of a port at which somebody listens who ends every connection.
fn check_of_a_stranger() -> Result<Vec<Value>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let server = format!("http://{}", listener.local_addr()?);
    let other = listener.try_clone()?;
    let ends = std::thread::spawn(move || drop(other.accept()));
    let (_, items) = check(&server, &[])?;
    drop(listener);
    ensure!(ends.join().is_ok());
    Ok(items)
}

#[test]
fn a_mesh_that_is_well_is_said_to_be_and_what_is_not_is_named_with_its_fix() -> Result<()> {
    let mut mesh = Mesh::start_with(Variant::Delta, None, |file| {
        file.more = "peak_hours: {npci-morning: {start: 10, end: 13}, npci-evening: {start: 17, end: \"21:30\"}}".into();
    })?;
    let server = format!("http://{}", mesh.server.api);
    let admin = mesh.gateway.admin_address();
    let looked = wait_for("everything to be well", BOUND, || {
        let found = check(&server, &["--admin", &admin]).map_err(|error| format!("{error:#}"))?;
        match found.1.iter().find(|item| item["level"] == "error") {
            Some(error) => Err(error.to_string()),
            None => Ok(found),
        }
    })?;
    let (_, items) = looked;
    for code in [
        "server",
        "clock-server",
        "clock-envoy",
        "envoy",
        "filter",
        "configuration",
        "store",
        "certificates",
        "endpoints",
        "proxies",
        "envoy-version",
    ] {
        let (level, sentence) = of(&items, code)?;
        ensure!(level == "ok", "{code}: {level}: {sentence}");
    }
    ensure!(of(&items, "proxies")?.1.starts_with("1 node connected"));
    // As people read it.
    let (_, shown, _) = run(&["check"], &["--server", &server])?;
    for group in [
        "environment\n",
        "configuration\n",
        "store\n",
        "certificates\n",
        "proxies\n",
    ] {
        ensure!(shown.contains(group), "{shown}");
    }
    // An Envoy rejects something, and the file is refused.
    let api = Api::new(mesh.server.api);
    api.apply(&json!({"set": [{
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": "broken",
        "address": {"socket_address": {"address": "203.0.113.7", "port_value": 1}},
    }], "nodes": {"cluster": "edge"}}))?;
    let good = fs::read_to_string(mesh.server.mesh_file())?;
    fs::write(
        mesh.server.mesh_file(),
        good.replace("weight: 10", "weight: 1000"),
    )?;
    let items = wait_for("the trouble to be seen", BOUND, || {
        let (code, items) = check(&server, &[]).map_err(|error| format!("{error:#}"))?;
        let has = |code: &str| items.iter().any(|item| item["code"] == code);
        match has("proxy-rejects") && has("configuration-refused") && code == Some(79) {
            true => Ok(items),
            false => Err(format!("{items:#?}")),
        }
    })?;
    let (_, sentence) = of(&items, "proxy-rejects")?;
    ensure!(
        sentence.contains("(edge) rejects LDS of broken") && sentence.contains("203.0.113.7"),
        "{sentence}"
    );
    ensure!(
        of(&items, "configuration-refused")?
            .1
            .contains("canary.weight")
    );
    // An Envoy that is gone.
    mesh.gateway.process().kill()?;
    let (_, items) = check(&server, &["--admin", &admin])?;
    ensure!(of(&items, "envoy")?.0 == "error", "{items:#?}");
    Ok(())
}

/// A server whose clock can be moved.
fn with_clock(dir: &tempfile::TempDir) -> Result<(Clock, World)> {
    let clock = Clock::new(dir.path())?;
    let options = server::Options {
        clock: Some(&clock),
        ..server::Options::default()
    };
    let world = World::start_alone_with("services: {}\n", &options)?;
    Ok((clock, world))
}

#[test]
fn clocks_that_are_apart_are_told() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (clock, world) = with_clock(&dir)?;
    let server = format!("http://{}", world.server.api);
    ensure!(of(&check(&server, &[])?.1, "clock-server")?.0 == "ok");
    clock.set_now(clock.now_millis()? + 10_000)?;
    let items = check(&server, &[])?.1;
    let (level, sentence) = of(&items, "clock-server")?;
    ensure!(
        level == "warning" && sentence.contains("s from ours"),
        "{sentence}"
    );
    clock.set_now(clock.now_millis()? - 3_600_000)?;
    ensure!(of(&check(&server, &[])?.1, "clock-server")?.0 == "error");
    Ok(())
}

#[test]
fn a_client_that_does_not_answer_is_behind() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (clock, world) = with_clock(&dir)?;
    Api::new(world.server.api).apply(&json!({"set": [set_of(Kind::Cluster, "a", "1")]}))?;
    let connection = Connection::open(world.server.xds)?;
    let mut stream = Stream::open(&connection, Spoken::Delta, Service::Ads, "slow");
    stream.subscribe(Kind::Cluster, &["*"]);
    stream.next(Kind::Cluster)?;
    let server = format!("http://{}", world.server.api);
    let items = check(&server, &[])?.1;
    ensure!(!items.iter().any(|item| item["code"] == "proxy-behind"));
    clock.set_now(clock.now_millis()? + 20_000)?;
    let items = check(&server, &[])?.1;
    let (level, sentence) = of(&items, "proxy-behind")?;
    ensure!(
        level == "warning" && sentence.starts_with("slow (") && sentence.contains("CDS"),
        "{sentence}"
    );
    Ok(())
}
