//! README's first door: its commands as they stand there, in a folder that has the example with other ports.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::Artifacts,
    http::{Client, Response},
    ports::free_port,
    process::Process,
    readme,
    wait::wait_for,
};

use crate::door1::BOUND;

const EXAMPLE: &str = "envoy/examples/filter-only/envoy.yaml";

/// The example, listening where nobody else does; and its first port.
fn moved() -> Result<(String, u16)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut config = fs::read_to_string(root.join(EXAMPLE))?;
    let port = free_port();
    let ports = [
        ("10000", port),
        ("9901", free_port()),
        ("10001", free_port()),
        ("10002", free_port()),
    ];
    for (shown, port) in ports {
        let (from, to) = (
            format!("port_value: {shown}}}"),
            format!("port_value: {port}}}"),
        );
        ensure!(config.contains(&from), "no {from} in the example");
        config = config.replace(&from, &to);
    }
    Ok((config, port))
}

/// What `cargo xtask` says, of programs that are there already. Several Envoys share this machine, so none is to
/// hand over to another.
fn cargo(artifacts: &Artifacts) -> String {
    format!(
        "#!/bin/sh\ncase \"$*\" in\n'xtask wasm') echo '{}' ;;\n'xtask envoy') echo '{} --disable-hot-restart' ;;\n*) exit 1 ;;\nesac\n",
        artifacts.wasm.display(),
        artifacts.envoy.display()
    )
}

/// Runs the door's commands until they are ended; the last of them is Envoy.
fn open_door(artifacts: &Artifacts, dir: &Path) -> Result<(Process, u16)> {
    let (config, port) = moved()?;
    let example = dir.join(EXAMPLE);
    fs::create_dir_all(example.parent().context("folder")?)?;
    fs::write(&example, config)?;
    fs::create_dir(dir.join("target"))?;
    symlink(&artifacts.wasm, dir.join("target/mumbai_mesh.wasm"))?;
    let program = dir.join("cargo");
    fs::write(&program, cargo(artifacts))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let commands = readme::door("The filter alone")?;
    ensure!(commands.len() <= 5, "more than five: {commands:#?}");
    let (last, first) = commands.split_last().context("no commands")?;
    let script = format!("set -e\n{}\nexec {last}", first.join("\n"));
    let mut command = Command::new("sh");
    command
        .args(["-c", &script])
        .current_dir(dir)
        .env("PATH", format!("{}:/usr/bin:/bin", dir.display()));
    let door = Process::spawn("README's first door", command, &dir.join("door.log"))?;
    Ok((door, port))
}

#[test]
fn the_commands_of_readme_do_what_the_examples_page_says() -> Result<()> {
    let artifacts = Artifacts::from_env()?;
    let dir = tempfile::tempdir()?;
    let (door, port) = open_door(&artifacts, dir.path())?;
    let mut client = Client::new(([127, 0, 0, 1], port).into());
    let mut ask = |path: &str, user: &[u8]| client.get(path, &[("x-user-id", user)]);
    let text = |answer: &Response| String::from_utf8_lossy(&answer.body).into_owned();
    let stable = wait_for("Envoy to answer", BOUND, || {
        ask("/orders", b"user-1").map_err(|error| format!("{error:#}: {}", door.log_tail()))
    })?;
    let stable = text(&stable);
    ensure!(stable.starts_with("order-service v1: state="), "{stable}");
    ensure!(stable.contains("class=gold version=stable"), "{stable}");
    let canary = text(&ask("/orders", b"user-42")?);
    ensure!(canary.starts_with("order-service v2: state="), "{canary}");
    let statuses: Vec<u16> = (0..4)
        .map(|_| Ok(ask("/fail", b"user-1")?.status))
        .collect::<Result<_>>()?;
    ensure!(statuses == [500, 500, 500, 503], "{statuses:?}");
    Ok(())
}
