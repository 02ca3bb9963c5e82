//! What is legal and most likely not meant, and the schema with which editors know the file.

use std::{fs, path::Path, process::Command};

use anyhow::{Result, ensure};
use harness::{
    artifacts::Artifacts,
    server::{self, Server},
    wait::wait_for,
};
use serde_json::Value;

use super::{analyze, write};
use crate::door1::BOUND;

const MESH: &str = "\
services:
  order-service:
    port: 8080
    endpoints: [{host: 10.0.0.1, port: 15006}]
    circuit_breaker: {slow_calls: {over: 20s, percent: 50}}
gateways:
  edge:
    listen: 127.0.0.1:10000
    routes:
      - {match: {path_prefix: /}, service: order-service}
      - {match: {path_prefix: /orders}, service: order-service}
";

#[test]
fn findings_stand_where_they_are_written_with_code_and_fix() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("mesh.yaml");
    write(&file, MESH.as_bytes())?;
    let output = analyze(&file, &["-o", "json"])?;
    let told: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(output.status.code() == Some(79), "{told:#}");
    let findings = told["findings"].as_array().into_iter().flatten();
    let found: Vec<(&str, u64)> = findings
        .map(|finding| {
            let code = finding["code"].as_str().unwrap_or_default();
            (code, finding["place"]["line"].as_u64().unwrap_or_default())
        })
        .collect();
    ensure!(
        found == [("breaker-never-trips", 5), ("route-shadowed", 11)],
        "{told:#}"
    );
    let output = analyze(&file, &[])?;
    let told = String::from_utf8_lossy(&output.stdout);
    ensure!(
        told.contains("mesh.yaml:11:9: warning[route-shadowed]"),
        "{told}"
    );
    ensure!(
        told.contains("    fix: move it before routes[0], or take it out"),
        "{told}"
    );
    Ok(())
}

#[test]
fn what_is_only_worth_knowing_is_told_and_is_no_failure() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("mesh.yaml");
    let open = MESH.replace("127.0.0.1:10000", "0.0.0.0:10000");
    let open = open.replace("20s", "2s");
    let last = open.trim_end().rfind('\n').unwrap_or_default();
    write(&file, &open.as_bytes()[..=last])?;
    let output = analyze(&file, &[])?;
    let told = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{told}");
    ensure!(told.contains("info[gateway-any-host]"), "{told}");
    Ok(())
}

#[test]
fn festivals_of_the_past_are_told_of_in_the_file_itself_and_not_in_what_it_includes() -> Result<()>
{
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("mesh.yaml");
    fs::create_dir(dir.path().join("calendars"))?;
    write(
        &dir.path().join("calendars/shipped.yaml"),
        b"festivals: [2025-10-20]\n",
    )?;
    write(
        &file,
        b"include: [calendars/shipped.yaml]\nfestivals: [2027-01-14, {name: Diwali, date: 2025-11-08}]\n",
    )?;
    let output = analyze(&file, &["--at", "2026-11-25T12:00+05:30"])?;
    let told = String::from_utf8_lossy(&output.stdout);
    let past = told.matches("info[festival-past]").count();
    ensure!(past == 1, "{told}");
    ensure!(
        told.contains("mesh.yaml:2:25: info[festival-past]"),
        "{told}"
    );
    Ok(())
}

#[test]
fn the_program_prints_its_schema_and_both_references() -> Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    for (arguments, document) in [
        (&["schema"][..], "mesh.schema.json"),
        (&["schema", "--reference"], "mesh-reference.md"),
        (&["analyze", "--rules"], "analyze.md"),
    ] {
        let output = Command::new(Artifacts::from_env()?.server)
            .args(arguments)
            .output()?;
        ensure!(output.status.success(), "{arguments:?}: {}", output.status);
        let printed = String::from_utf8(output.stdout)?;
        ensure!(
            printed == fs::read_to_string(docs.join(document))?,
            "{document}"
        );
    }
    Ok(())
}

/// Thousands of findings are told as their first and a number: by the command, in the log and by the API. And a
/// server has a file in force before it has looked for them.
#[test]
fn what_is_found_thousands_of_times_is_told_in_few_lines_and_keeps_no_edit_waiting() -> Result<()> {
    let artifacts = Artifacts::from_env()?;
    let dir = tempfile::tempdir()?;
    let windows: String = (0..200)
        .map(|number| format!("  w{number}: {{start: {}, end: 24}}\n", number % 24))
        .collect();
    let text = format!("peak_hours:\n{windows}services: {{a: {{}}}}\n");
    let server = Server::start(&artifacts, dir.path(), &text, &server::Options::default())?;
    let edited = text.replace("{a: {}}", "{b: {}}");
    server.write_mesh(&edited)?;
    wait_for("the edit to be in force", BOUND, || {
        match server.api_get("/services").map(|told| told.to_string()) {
            Ok(told) if told.contains("\"b\"") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    let checked = server.api_get("/api/v1/check")?.to_string();
    ensure!(
        checked.matches("windows-overlap").count() == 21,
        "{checked}"
    );
    wait_for("the findings of both", BOUND, || {
        match server.log().matches("more of these").count() {
            2.. => Ok(()),
            count => Err(format!("{count}")),
        }
    })?;
    let warned = server.log().matches("windows-overlap").count();
    ensure!(warned == 2 * 21, "{warned}");
    let file = dir.path().join("by-hand.yaml");
    write(&file, edited.as_bytes())?;
    let output = analyze(&file, &[])?;
    let told = String::from_utf8_lossy(&output.stdout);
    ensure!(
        told.matches("warning[windows-overlap]").count() == 21,
        "{told}"
    );
    Ok(())
}
