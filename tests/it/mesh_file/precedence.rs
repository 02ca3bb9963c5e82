//! A flag outranks the file, the file the environment, the environment what is built in.

use std::{
    path::Path,
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};
use harness::artifacts::Artifacts;
use serde_json::Value;

use super::write;

const AT: &str = "2026-11-25T08:00Z";

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Output> {
    let mut command = Command::new(Artifacts::from_env()?.server);
    for variable in ["REGION", "TIMEZONE", "PEAK_HOURS", "MESH_CONFIG_PATH"] {
        command.env_remove(variable);
    }
    command.envs(environment.iter().copied());
    Ok(command.args(arguments).output()?)
}

/// The mesh's own time of 08:00Z, and the window that holds then.
fn told(file: &Path, environment: &[(&str, &str)]) -> Result<(String, Value)> {
    let file = file.to_str().context("path")?;
    let arguments = [
        "explain",
        "--config",
        file,
        "--service",
        "a",
        "--at",
        AT,
        "-o",
        "json",
    ];
    let output = run(&arguments, environment)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{errors}");
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    let at = answer["at"].as_str().context("at")?;
    Ok((at.to_string(), answer["window"].clone()))
}

#[test]
fn the_file_outranks_the_environment_and_that_what_is_built_in() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let silent = dir.path().join("silent.yaml");
    let explicit = dir.path().join("explicit.yaml");
    write(&silent, b"services: {a: {}}\n")?;
    write(
        &explicit,
        b"timezone: Asia/Tokyo\npeak_hours: {noon: {start: 17, end: 18}}\nservices: {a: {}}\n",
    )?;
    let environment = [
        ("TIMEZONE", "Europe/London"),
        ("PEAK_HOURS", "7-9:30,17-22"),
    ];
    let (at, window) = told(&silent, &[])?;
    ensure!(
        at.starts_with("2026-11-25T13:30:00") && window.is_null(),
        "{at} {window}"
    );
    let (at, window) = told(&silent, &environment)?;
    ensure!(
        at.starts_with("2026-11-25T08:00:00") && window == "peak-1",
        "{at} {window}"
    );
    let (at, window) = told(&explicit, &environment)?;
    ensure!(
        at.starts_with("2026-11-25T17:00:00") && window == "noon",
        "{at} {window}"
    );
    Ok(())
}

#[test]
fn the_file_named_outranks_mesh_config_path_which_may_be_a_folder() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write(
        &dir.path().join("folder/a.yaml"),
        b"services: {a: {port: 0}}\n",
    )?;
    write(
        &dir.path().join("good.yaml"),
        b"services: {a: {port: 8080, endpoints: [{host: 10.0.0.1, port: 15006}]}}\n",
    )?;
    let folder = dir.path().join("folder");
    let environment = [("MESH_CONFIG_PATH", folder.to_str().context("path")?)];
    let output = run(&["analyze"], &environment)?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(65), "{said}");
    ensure!(said.contains("folder/a.yaml:1:16: "), "{said}");
    let good = dir.path().join("good.yaml");
    let output = run(&["analyze", good.to_str().context("path")?], &environment)?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(())
}

#[test]
fn a_wrong_environment_is_named() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("mesh.yaml");
    write(&file, b"services: {a: {}}\n")?;
    let file = file.to_str().context("path")?;
    for (variable, value) in [
        ("TIMEZONE", "Mumbai"),
        ("PEAK_HOURS", "7-11,noon"),
        ("REGION", "a b"),
    ] {
        let output = run(&["analyze", file], &[(variable, value)])?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.code() == Some(65), "{said}");
        ensure!(
            said.contains(value.rsplit(',').next().unwrap_or_default()),
            "{said}"
        );
        ensure!(said.contains(variable), "{variable} is not named: {said}");
    }
    Ok(())
}
