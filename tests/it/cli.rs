//! The command line: what scripts rely on.

use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use harness::{artifacts::Artifacts, wait::wait_for};
use serde_json::Value;

use crate::{door1::BOUND, mesh::Mesh};

const MESH: &str = "\
timezone: Asia/Kolkata
peak_hours:
  evening: {start: 17, end: 22, multiplier: 1.5}
festivals:
  - {name: Diwali, date: 2026-11-08, factor: 2.0}
services:
  order-service:
    class: gold
    sidecar: false
    endpoints:
      - {id: order-1, host: 127.0.0.1, port: 8080}
      - {id: order-2, host: 127.0.0.1, port: 8081, version: v2}
    circuit_breaker: {consecutive_failures: 5, open_for: 5s}
    canary: {version: v2, weight: 10, sticky_by: {header: x-user-id}}
gateways:
  edge:
    listen: 127.0.0.1:10000
    routes: [{match: {path_prefix: /orders}, service: order-service}]
";

fn run(arguments: &[&str]) -> Result<Output> {
    let artifacts = Artifacts::from_env()?;
    Ok(Command::new(artifacts.server).args(arguments).output()?)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn explain(file: &str, more: &[&str]) -> Result<Value> {
    let mut arguments = vec!["explain", "--config", file, "-o", "json"];
    arguments.extend(more);
    let output = run(&arguments)?;
    ensure!(output.status.success(), "{}", stderr(&output));
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[test]
fn explain_says_what_would_happen_and_why() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("mesh.yaml");
    std::fs::write(&file, MESH)?;
    let file = file.to_str().context("path")?;
    let diwali = ["--at", "2026-11-08T18:30+05:30"];
    let answer = explain(
        file,
        &[
            &[
                "--gateway",
                "edge",
                "--path",
                "/orders/7",
                "-H",
                "x-user-id: user-42",
            ],
            &diwali[..],
        ]
        .concat(),
    )?;
    let expected = [
        ("traffic_state", "festival"),
        ("window", "evening"),
        ("class", "gold"),
        ("version", "v2"),
        ("cluster", "order-service|v2"),
    ];
    for (field, value) in expected {
        assert_eq!(answer[field], value, "{field} of {answer:#}");
    }
    assert_eq!(answer["multiplier"], 1.5);
    assert_eq!(answer["festival_factor"], 2.0);
    assert_eq!(answer["shed"], false);
    assert_eq!(answer["breaker"]["consecutive_failures"], 5);
    assert_eq!(answer["headers"]["x-mumbai-window"], "Diwali,evening");
    let reasons = answer["reasons"].to_string();
    assert!(reasons.contains("bucket 695"), "{reasons}");

    let normal = explain(
        file,
        &[
            "--service",
            "order-service",
            "--at",
            "2026-11-24T10:00+05:30",
        ],
    )?;
    assert_eq!(normal["traffic_state"], "normal");
    assert_eq!(normal["window"], Value::Null);
    let stranger = explain(file, &["--gateway", "edge", "--path", "/nowhere"])?;
    assert_eq!(stranger["cluster"], Value::Null);
    Ok(())
}

#[test]
fn exit_codes_tell_usage_from_data() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let good = dir.path().join("good.yaml");
    let bad = dir.path().join("bad.yaml");
    std::fs::write(&good, MESH)?;
    std::fs::write(&bad, MESH.replace("weight: 10", "weight: 110"))?;
    let (good, bad) = (
        good.to_str().context("path")?,
        bad.to_str().context("path")?,
    );
    let cases: [(&[&str], i32, &str); 10] = [
        (&["--help"], 0, ""),
        (&["nonsense"], 64, "unrecognized"),
        (
            &["explain", "--config", good, "--service", "nobody"],
            64,
            "known: order-service",
        ),
        (
            &[
                "explain",
                "--config",
                good,
                "--service",
                "order-service",
                "--at",
                "noon",
            ],
            64,
            "RFC 3339",
        ),
        (
            &["explain", "--config", bad, "--service", "order-service"],
            65,
            "canary.weight",
        ),
        (
            &[
                "serve",
                "--config",
                bad,
                "--state-dir",
                bad,
                "--xds-listen",
                "127.0.0.1:0",
                "--api-listen",
                "127.0.0.1:0",
            ],
            1,
            "--state-dir",
        ),
        (
            &[
                "serve",
                "--config",
                good,
                "--xds-listen",
                "0.0.0.0:0",
                "--xds-tls",
                "off",
            ],
            64,
            "only loopback addresses",
        ),
        (
            &[
                "serve",
                "--config",
                good,
                "--api-listen",
                "0.0.0.0:0",
                "--anonymous-role",
                "admin",
            ],
            64,
            "at most look",
        ),
        (
            &["explain", "--service", "order-service"],
            64,
            "--config <FILE>|--server <URL>",
        ),
        (
            &[
                "bootstrap",
                "nobody",
                "--config",
                good,
                "--xds",
                "127.0.0.1:18000",
                "--admin-port",
                "0",
                "--out",
                "unused",
            ],
            64,
            "known: edge, order-service",
        ),
    ];
    for (arguments, code, words) in cases {
        let output = run(arguments)?;
        let told = stderr(&output);
        ensure!(
            output.status.code() == Some(code),
            "{arguments:?}: {:?} {told}",
            output.status
        );
        ensure!(told.contains(words), "{arguments:?}: {told}");
    }
    Ok(())
}

#[test]
fn a_store_that_is_none_is_told_with_what_is_wrong_before_anything_is_opened() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let short = dir.path().join("short.secret");
    std::fs::write(&short, "too short\n")?;
    let short = short.to_str().context("path")?;
    let near = "etcd://127.0.0.1:1/mesh";
    let cases: [(&[&str], i32, &str); 7] = [
        (
            &["--store", "http://etcd"],
            64,
            "does not begin with etcd://",
        ),
        (
            &["--store", "etcd://root:secret@etcd"],
            64,
            "--store-password-file",
        ),
        (
            &["--store", "etcd://root@127.0.0.1"],
            64,
            "MUMBAI_MESH_STORE_PASSWORD",
        ),
        (
            &["--store", "etcd://etcd-0,etcd-1"],
            64,
            "--store-secret-file FILE",
        ),
        (
            &["--store", near, "--store-secret-file", short],
            64,
            "at least 32",
        ),
        (&["--store-ca", "ca.pem"], 64, "--store"),
        (
            &["--store", near, "--store-ca", "no-such.pem"],
            1,
            "no-such.pem",
        ),
    ];
    let mesh = dir.path().join("mesh.yaml");
    std::fs::write(&mesh, "{}")?;
    let (mesh, state_dir) = (mesh.to_str().context("path")?, dir.path().join("state"));
    let state_dir = state_dir.to_str().context("path")?;
    for (arguments, code, words) in cases {
        let common = ["serve", "--config", mesh, "--state-dir", state_dir];
        let output = run(&[&common, arguments].concat())?;
        let told = stderr(&output);
        let is_expected = output.status.code() == Some(code) && told.contains(words);
        ensure!(is_expected, "{arguments:?}: {:?} {told}", output.status);
    }
    Ok(())
}

#[test]
fn an_invalid_file_at_start_is_served_from_the_last_good_revision_or_refused() -> Result<()> {
    let mut mesh = Mesh::start(|_| {})?;
    let good = mesh.file.text();
    mesh.server.process().terminate()?;
    let artifacts = Artifacts::from_env()?;
    let options = harness::server::Options {
        xds_port: mesh.server.xds.port(),
        ..harness::server::Options::default()
    };
    let bad = good.replace("weight: 10", "weight: 1000");
    let start =
        |dir: &std::path::Path| harness::server::Server::start(&artifacts, dir, &bad, &options);
    mesh.server = start(mesh.dir.path())?;
    let log = mesh.server.log();
    ensure!(log.contains("canary.weight"), "{log}");
    wait_for(
        "the gateway to be served the last good revision",
        BOUND,
        || {
            let revisions = mesh.server.api_get("/api/v1/revisions");
            let revisions = revisions.map_err(|error| error.to_string())?;
            if revisions["refused"].is_null() {
                Err(revisions.to_string())
            } else {
                Ok(())
            }
        },
    )?;
    ensure!(mesh.client().get("/orders", &[])?.status == 200);

    let elsewhere = tempfile::tempdir()?;
    let refused = start(elsewhere.path());
    let error = format!(
        "{:#}",
        refused
            .err()
            .context("served a bad file with nothing to fall back to")?
    );
    ensure!(error.contains("canary.weight"), "{error}");
    Ok(())
}

#[test]
fn ctrl_c_stops_the_server_cleanly() -> Result<()> {
    let mut mesh = Mesh::start(|_| {})?;
    mesh.server.process().signal(2);
    let status = wait_for("the server to stop", BOUND, || {
        mesh.server
            .process()
            .ended()
            .ok_or_else(|| "running".to_string())
    })?;
    ensure!(status.success(), "{status}");
    // The gateway goes on with what it has.
    ensure!(mesh.client().get("/orders", &[])?.status == 200);
    Ok(())
}

/// What bash offers behind these words, by the script's own function.
fn completed(script: &std::path::Path, words: &str) -> Result<Vec<String>> {
    let ask = r#"source "$1"; COMP_WORDS=($2); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        f=$(complete -p mumbai-mesh | grep -o -e '-F [^ ]*'); ${f#-F } mumbai-mesh "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
        echo "${COMPREPLY[@]}""#;
    let output = Command::new("bash")
        .args(["--norc", "-c", ask, "bash"])
        .arg(script)
        .arg(words)
        .output()?;
    ensure!(output.status.success(), "{}", stderr(&output));
    let told = String::from_utf8(output.stdout)?;
    Ok(told.split_whitespace().map(String::from).collect())
}

#[test]
fn completion_is_a_script_that_the_shell_takes() -> Result<()> {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completion", shell])?;
        ensure!(output.status.success(), "{}", stderr(&output));
        let script = String::from_utf8(output.stdout)?;
        for command in ["serve", "analyze", "explain"] {
            ensure!(script.contains(command), "{shell}: no {command}");
        }
        if shell == "bash" {
            let folder = tempfile::tempdir()?;
            let file = folder.path().join("completion.bash");
            std::fs::write(&file, script)?;
            for (words, expected) in [
                ("mumbai-mesh expl", "explain"),
                ("mumbai-mesh explain --fr", "--from-proxy"),
                ("mumbai-mesh proxy sta", "status"),
                ("mumbai-mesh analyze -o js", "json"),
            ] {
                let told = completed(&file, words)?;
                ensure!(told == [expected], "{words}: {told:?}");
            }
        }
    }
    ensure!(run(&["completion", "csh"])?.status.code() == Some(64));
    Ok(())
}
