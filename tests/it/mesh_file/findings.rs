//! What is legal and most likely not meant, and the schema with which editors know the file.

use std::{fs, path::Path, process::Command};

use anyhow::{Result, ensure};
use harness::artifacts::Artifacts;
use serde_json::Value;

use super::{analyze, write};

const MESH: &str = "\
services:
  order-service:
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
        found == [("breaker-never-trips", 4), ("route-shadowed", 10)],
        "{told:#}"
    );
    let output = analyze(&file, &[])?;
    let told = String::from_utf8_lossy(&output.stdout);
    ensure!(
        told.contains("mesh.yaml:10:9: warning[route-shadowed]"),
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
