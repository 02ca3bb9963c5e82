//! `mumbai-mesh register -- COMMAND`.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::Artifacts, load::Load, ports::free_port, process::Process, wait::wait_for,
};

use super::{state, wait_state, world};
use crate::{command, door1::BOUND};

/// An application below `mumbai-mesh register`.
fn start(
    artifacts: &Artifacts,
    dir: &Path,
    server: &str,
    (id, version): (&str, &str),
    more: &[&str],
) -> Result<Process> {
    let port = free_port();
    let mut command = Command::new(&artifacts.server);
    command
        .args(["register", "--service", "order-service", "--id", id])
        .args(["--port", &port.to_string(), "--host", "127.0.0.1"])
        .args(["--health-path", "/health", "--server", server])
        .args(more)
        .arg("--")
        .arg(&artifacts.demo_service)
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .args(["--name", "order", "--version", version]);
    Process::spawn(id, command, &dir.join(format!("{id}.log")))
}

#[test]
fn an_application_is_there_while_it_runs_and_leaves_without_a_failed_request() -> Result<()> {
    let (world, _) = world(&[])?;
    let server = format!("http://{}", world.server.api);
    let (artifacts, dir) = (&world.artifacts, world.dir.path());
    let quick = ["--ttl", "3s", "--drain-for", "1s"];
    let mut first = start(artifacts, dir, &server, ("order-1", "1"), &quick)?;
    let _second = start(artifacts, dir, &server, ("order-2", "2"), &quick)?;
    world.answers("/orders", &["1", "2"])?;
    let load = Load::start(world.address(), 4, "/orders");
    first.signal(libc::SIGTERM);
    wait_state(&world.server, "order-1", &["draining"])?;
    let status = wait_for("the application to end", BOUND, || {
        first.ended().ok_or_else(|| first.log_tail())
    })?;
    ensure!(status.code() == Some(0), "{status}: {}", first.log());
    ensure!(state(&world.server, "order-1")? == "gone");
    let sent = load.sent();
    wait_for("the load to go on", BOUND, || {
        match load.sent() > sent + 100 {
            true => Ok(()),
            false => Err(load.sent().to_string()),
        }
    })?;
    let report = load.stop();
    ensure!(report.failures.is_empty() && report.ok > 0, "{report:?}");
    world.answers("/orders", &["2"])?;
    let told = first.log();
    for words in ["is registered", "is draining", "is deregistered"] {
        ensure!(
            told.contains(&format!("order-service/order-1 {words}")),
            "{told}"
        );
    }
    Ok(())
}

#[test]
fn an_application_outlives_the_server_and_registers_again_with_one_that_knows_nothing() -> Result<()>
{
    let (mut world, _) = world(&[])?;
    let server = format!("http://{}", world.server.api);
    let (artifacts, dir) = (&world.artifacts, world.dir.path());
    let mut process = start(artifacts, dir, &server, ("order-1", "1"), &["--ttl", "1s"])?;
    world.answers("/orders", &["1"])?;
    world.server.process().kill()?;
    process.wait_line(
        "mumbai-mesh: order-service/order-1 gets no heartbeat",
        BOUND,
    )?;
    std::fs::remove_dir_all(world.server.state_dir())?;
    world.restart()?;
    wait_state(&world.server, "order-1", &["up"])?;
    ensure!(process.ended().is_none(), "{}", process.log());
    Ok(())
}

#[test]
fn the_exit_code_is_the_applications() -> Result<()> {
    let quick = [
        "register",
        "--service",
        "a",
        "--port",
        "1",
        "--server",
        "http://127.0.0.1:1",
    ];
    let (code, _, _) = command::run(&quick, &["--", "sh", "-c", "exit 7"])?;
    ensure!(code == Some(7), "{code:?}");
    let (code, out, _) = command::run(&quick, &["--", "echo", "said"])?;
    ensure!(code == Some(0) && out == "said\n", "{code:?} {out}");
    let (code, _, errors) = command::run(&quick, &["--", "/no/such/program"])?;
    ensure!(
        code == Some(1) && errors.contains("cannot be started"),
        "{code:?} {errors}"
    );
    let (code, _, errors) = command::run(&quick, &[])?;
    ensure!(
        code == Some(64) && errors.contains("COMMAND"),
        "{code:?} {errors}"
    );
    Ok(())
}

#[test]
fn instances_are_changed_and_listed_by_commands() -> Result<()> {
    let (world, _) = world(&[])?;
    let server = format!("http://{}", world.server.api);
    let run = |words: &[&str]| {
        let words = [&["instance"], words, &["--server", &server]].concat();
        world.server.command(&words)
    };
    let of = ["--service", "order-service", "--id", "order-9"];
    let place = [
        "--host",
        "127.0.0.1",
        "--port",
        "9",
        "--version",
        "v2",
        "--ttl",
        "1h",
    ];
    run(&[&["register"], &of[..], &place[..]].concat())?;
    run(&[&["heartbeat"], &of[..]].concat())?;
    let table = run(&["list"])?;
    let line = table.lines().nth(1).context("no line")?;
    ensure!(
        line.contains("order-9") && line.contains("127.0.0.1:9"),
        "{table}"
    );
    run(&[&["drain"], &of[..]].concat())?;
    let shown = run(&["list", "--state", "draining", "-o", "json"])?;
    ensure!(shown.contains("\"v2\""), "{shown}");
    run(&[&["deregister"], &of[..]].concat())?;
    let refused = run(&[&["heartbeat"], &of[..]].concat());
    let told = refused.err().context("it is gone")?.to_string();
    ensure!(told.contains("no instance order-service/order-9"), "{told}");
    Ok(())
}
