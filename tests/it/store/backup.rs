//! Backups: made while the server serves, brought back onto a machine that has nothing; and what the store's own
//! commands say of a store that is whole, and of one that is not.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::Artifacts,
    demo_services::DemoService,
    load::Load,
    ports::free_port,
    server::{Options, Server},
    wait::wait_for,
    xds::{Api, Kind, set_of},
};
use serde_json::{Value, json};

use crate::{
    command::run,
    door1::BOUND,
    mesh::{Variant, start_envoy},
};

/// A file with a passphrase.
fn passphrase(dir: &Path, text: &str) -> Result<PathBuf> {
    let file = dir.join("passphrase");
    fs::write(&file, text)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no text")
}

fn done(command: &[&str], arguments: &[&str]) -> Result<String> {
    let (code, stdout, stderr) = run(command, arguments)?;
    ensure!(
        code == Some(0),
        "{command:?} {arguments:?}: {code:?} {stderr}"
    );
    Ok(stdout)
}

/// What two servers with the same store, authority and tokens have in common.
fn kept(server: &Server) -> Result<Value> {
    let revisions = server.api_get("/api/v1/revisions?limit=100")?;
    let resources = server.api_get("/api/v1/resources")?;
    let root = server.api_get("/api/v1/certificates")?;
    let of_authority: Vec<&Value> = root["certificates"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|one| one["kind"] != "leaf")
        .map(|one| &one["serial"])
        .collect();
    let tokens = fs::read_to_string(server.state_dir().join("tokens.json"))?;
    Ok(json!({
        "revisions": revisions["revisions"], "current": revisions["current"]["revision"],
        "resources": resources, "authority": of_authority, "tokens": tokens,
    }))
}

/// A server that serves next to nothing.
fn alone(dir: &tempfile::TempDir) -> Result<Server> {
    let artifacts = Artifacts::from_env()?;
    Server::start(
        &artifacts,
        dir.path(),
        "mesh: {name: one}\n",
        &Options::default(),
    )
}

#[test]
fn a_machine_that_has_nothing_goes_on_where_the_lost_one_was_and_no_request_fails() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let artifacts = Artifacts::from_env()?;
    let application = DemoService::start(&artifacts, dir.path(), "order-service", "v1")?;
    let (port, sidecar) = (free_port(), free_port());
    let mesh = |timeout: &str| {
        format!(
            "services:\n  order-service:\n    port: {}\n    timeout: {timeout}\n    \
             endpoints: [{{id: order-1, host: 127.0.0.1, port: {sidecar}}}]\n\
             gateways:\n  edge: {{listen: \"127.0.0.1:{port}\", routes: [{{match: {{path_prefix: /}}, service: order-service}}]}}\n",
            application.addr.port()
        )
    };
    let options = Options {
        xds_port: free_port(),
        api_port: free_port(),
        arguments: &["--xds-tls", "on"],
        ..Options::default()
    };
    let mut server = Server::start(&artifacts, dir.path(), &mesh("5s"), &options)?;
    let state_dir = server.state_dir().to_path_buf();
    done(
        &["token", "create"],
        &[
            "--name",
            "ci",
            "--role",
            "viewer",
            "--state-dir",
            text(&state_dir)?,
        ],
    )?;
    Api::new(server.api).apply(&json!({"set": [set_of(Kind::Cluster, "partner", "1")]}))?;
    server.write_mesh(&mesh("4s"))?;
    wait_for("the second revision", BOUND, || {
        let answer = server
            .api_get("/api/v1/revisions")
            .map_err(|error| error.to_string())?;
        match answer["current"]["revision"] == 2 {
            true => Ok(()),
            false => Err(answer.to_string()),
        }
    })?;
    let own = [
        "--state-dir",
        text(&state_dir)?,
        "--outbound-port",
        &free_port().to_string(),
    ];
    let _sidecar = start_envoy(
        &artifacts,
        dir.path(),
        &server,
        "order-service",
        Variant::Delta,
        &own,
        None,
    )?;
    let edge = ["--state-dir", text(&state_dir)?];
    let gateway = start_envoy(
        &artifacts,
        dir.path(),
        &server,
        "edge",
        Variant::Delta,
        &edge,
        None,
    )?;
    let address = ([127, 0, 0, 1], port).into();
    wait_for("the gateway to serve", BOUND, || {
        let mut client = harness::http::Client::new(address);
        match client.get("/orders", &[]) {
            Ok(answer) if answer.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    // While everything is at work.
    let load = Load::start(address, 2, "/orders");
    let file = dir.path().join("mesh.backup");
    let words = passphrase(dir.path(), "correct horse battery staple\n")?;
    let api = format!("http://{}", server.api);
    let arguments = [
        "--server",
        &api,
        "--out",
        text(&file)?,
        "--passphrase-file",
        text(&words)?,
    ];
    let told = done(&["backup"], &arguments)?;
    ensure!(
        told.contains("the mesh at revision 2, resources at 1"),
        "{told}"
    );
    ensure!(fs::metadata(&file)?.permissions().mode() & 0o777 == 0o600);
    let sealed = fs::read(&file)?;
    ensure!(!String::from_utf8_lossy(&sealed).contains("PRIVATE KEY"));
    let before = kept(&server)?;
    // The machine is lost, with all that it had.
    server.process().kill()?;
    fs::remove_dir_all(&state_dir)?;
    let place = [
        "--passphrase-file",
        text(&words)?,
        "--state-dir",
        text(&state_dir)?,
    ];
    let told = done(&["restore", text(&file)?], &place)?;
    ensure!(told.contains("the mesh at revision 2"), "{told}");
    let connects = gateway.stat("control_plane.connected_state");
    let server = Server::start(&artifacts, dir.path(), &mesh("4s"), &options)?;
    let after = kept(&server)?;
    ensure!(after == before, "{before:#}\n{after:#}");
    wait_for("the gateway to be connected again", BOUND, || {
        let page = server
            .api_get("/api/v1/proxies")
            .map_err(|error| error.to_string())?;
        let all = page["proxies"].as_array().map_or(0, Vec::len);
        match all {
            2 => Ok(()),
            _ => Err(format!("{page} {connects:?}")),
        }
    })?;
    let report = load.stop();
    ensure!(report.failures.is_empty() && report.ok > 0, "{report:?}");
    // It counts on from there, under the same authority.
    server.write_mesh(&mesh("3s"))?;
    wait_for("the third revision at the gateway", BOUND, || {
        let answer = server
            .api_get("/api/v1/revisions")
            .map_err(|error| error.to_string())?;
        match answer["current"]["revision"] == 3 {
            true => Ok(()),
            false => Err(answer.to_string()),
        }
    })
}

#[test]
fn a_backup_is_brought_back_by_its_passphrase_into_an_empty_folder_alone() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut server = alone(&dir)?;
    let api = format!("http://{}", server.api);
    let file = dir.path().join("mesh.backup");
    let words = passphrase(dir.path(), "correct horse battery staple\n")?;
    let arguments = [
        "--server",
        &api,
        "--out",
        text(&file)?,
        "--passphrase-file",
        text(&words)?,
    ];
    done(&["backup"], &arguments)?;
    let log = fs::read_to_string(server.state_dir().join("audit.log"))?;
    ensure!(
        log.contains("/api/v1/backup") && log.contains("a backup was given out"),
        "{log}"
    );
    let target = dir.path().join("target");
    let refused = |file: &Path, words: &Path, dir: &Path| -> Result<String> {
        let arguments = ["--passphrase-file", text(words)?, "--state-dir", text(dir)?];
        let (code, _, stderr) = run(&["restore", text(file)?], &arguments)?;
        ensure!(code != Some(0), "it was brought back");
        Ok(stderr)
    };
    let other = dir.path().join("other");
    fs::create_dir(&other)?;
    let wrong = passphrase(&other, "another horse battery staple\n")?;
    let said = refused(&file, &wrong, &target)?;
    ensure!(said.contains("another passphrase sealed it"), "{said}");
    let said = refused(&words, &words, &target)?;
    ensure!(said.contains("no backup of mumbai-mesh"), "{said}");
    let short = dir.path().join("short.backup");
    let whole = fs::read(&file)?;
    fs::write(&short, &whole[..whole.len() - 1])?;
    let said = refused(&short, &words, &target)?;
    ensure!(said.contains("changed since"), "{said}");
    ensure!(!target.exists(), "nothing half done is left");
    let said = refused(&file, &words, server.state_dir())?;
    ensure!(said.contains("holds something already"), "{said}");
    let left: Vec<_> = fs::read_dir(dir.path())?
        .flatten()
        .map(|one| one.file_name())
        .collect();
    let hidden = left
        .iter()
        .any(|name| name.display().to_string().starts_with(".restore-"));
    ensure!(!hidden, "{left:?}");
    // A key that is none.
    let (status, answer) = server.api_post("/api/v1/backup", br#"{"key": "AAAA"}"#)?;
    ensure!(
        status == 400 && answer["detail"].to_string().contains("32 bytes"),
        "{answer}"
    );
    // The commands of the store are for a server that is not there.
    let (code, _, stderr) = run(
        &["store", "verify"],
        &["--state-dir", text(server.state_dir())?],
    )?;
    ensure!(
        code == Some(65) && stderr.contains("not all of it can be used"),
        "{stderr}"
    );
    server.process().kill()?;
    Ok(())
}

#[test]
fn a_store_is_read_to_its_end_taken_out_and_put_elsewhere() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut server = alone(&dir)?;
    Api::new(server.api).apply(&json!({"set": [set_of(Kind::Cluster, "partner", "1")]}))?;
    server.process().kill()?;
    let state_dir = server.state_dir().to_path_buf();
    let here = ["--state-dir", text(&state_dir)?];
    let told = done(&["store", "verify"], &here)?;
    ensure!(
        told.contains("mesh at revision 1, 1 kept") && told.contains("all of it can be used"),
        "{told}"
    );
    let file = dir.path().join("store.json");
    done(
        &["store", "export"],
        &[&here[..], &["--out", text(&file)?]].concat(),
    )?;
    let exported: Value = serde_json::from_str(&done(&["store", "export"], &here)?)?;
    ensure!(exported["authority"].is_null() && exported["logs"][0]["log"] == "mesh");
    let other = dir.path().join("other");
    done(
        &["store", "import", text(&file)?],
        &["--state-dir", text(&other)?],
    )?;
    let again: Value = serde_json::from_str(&done(
        &["store", "export"],
        &["--state-dir", text(&other)?],
    )?)?;
    ensure!(again["logs"] == exported["logs"], "{again}");
    let (code, _, stderr) = run(
        &["store", "import", text(&file)?],
        &["--state-dir", text(&other)?],
    )?;
    ensure!(
        code == Some(1) && stderr.contains("holds something already"),
        "{stderr}"
    );
    let (code, _, stderr) = run(&["store", "verify"], &["--state-dir", text(dir.path())?])?;
    ensure!(
        code == Some(65) && stderr.contains("holds no store"),
        "{stderr}"
    );
    Ok(())
}
