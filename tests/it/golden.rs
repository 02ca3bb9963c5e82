//! The meshes of `xds-server/golden`: what is read there beside them, a real Envoy takes whole.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::Artifacts,
    envoy::Envoy,
    ports::free_port,
    server::{self, Server},
    wait::wait_for,
};
use serde_json::Value;

use crate::{
    door1::BOUND,
    mesh::{Variant, all_acknowledged, start_envoy},
};

/// Ports that the meshes name; tests that run at once need others.
const PORTS: [&str; 4] = ["10000", "15006", "15016", "15026"];

/// A golden mesh, and one Envoy that it configures.
struct Golden {
    envoy: Envoy,
    server: Server,
    _dir: tempfile::TempDir,
}

fn start(mesh: &str, node: &str, extra: &[&str]) -> Result<Golden> {
    let artifacts = Artifacts::from_env()?;
    let dir = tempfile::tempdir()?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../xds-server/golden");
    let file = folder.join(format!("{mesh}.yaml"));
    let mut text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    for port in PORTS {
        text = text.replace(port, &free_port().to_string());
    }
    let server = Server::start(&artifacts, dir.path(), &text, &server::Options::default())?;
    let delta = Variant::Delta;
    let envoy = start_envoy(&artifacts, dir.path(), &server, node, delta, extra, None)?;
    Ok(Golden {
        envoy,
        server,
        _dir: dir,
    })
}

/// Waits until the Envoy has acknowledged all, and compares what it holds with the golden file.
fn taken_whole(golden: &Golden, mesh: &str, id: &str) -> Result<()> {
    wait_for("Envoy to acknowledge everything", BOUND, || {
        let proxies = golden.server.api_get("/api/v1/proxies");
        let proxies = proxies.map_err(|error| error.to_string())?;
        match all_acknowledged(&proxies) && proxies.to_string().contains("RDS") {
            true => Ok(()),
            false => Err(proxies.to_string()),
        }
    })?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../xds-server/golden");
    let text = fs::read_to_string(folder.join(format!("{mesh}.{id}.json")))?;
    let sent: Value = serde_json::from_str(&text)?;
    let names = |kind: &str| -> Vec<String> {
        let of_kind = sent[kind].as_object();
        let names = of_kind.into_iter().flatten();
        names
            .map(|(name, _)| name.clone())
            .filter(|name| !name.starts_with("inbound|"))
            .collect()
    };
    for (kind, resource, path) in [
        ("CDS", "dynamic_active_clusters", "/cluster/name"),
        ("LDS", "dynamic_listeners", "/name"),
        ("RDS", "dynamic_route_configs", "/route_config/name"),
    ] {
        let dump = golden
            .envoy
            .admin(&format!("/config_dump?resource={resource}"))?;
        let dump: Value = serde_json::from_str(&dump)?;
        let held = dump["configs"].as_array().cloned().unwrap_or_default();
        for name in names(kind) {
            let found = held
                .iter()
                .any(|one| one.pointer(path).and_then(Value::as_str) == Some(name.as_str()));
            ensure!(found, "{kind} {name} is not among {held:#?}");
        }
        let refused = held.iter().find(|one| !one["error_state"].is_null());
        ensure!(refused.is_none(), "{kind} refused: {refused:#?}");
    }
    Ok(())
}

fn check(mesh: &str, node: &str, id: &str, extra: &[&str]) -> Result<()> {
    let golden = start(mesh, node, extra)?;
    taken_whole(&golden, mesh, id)
}

#[test]
fn retries_limits_and_priorities_are_taken() -> Result<()> {
    check("retries-and-limits", "edge", "edge", &[])
}

#[test]
fn health_checks_outlier_detection_and_localities_are_taken() -> Result<()> {
    let extra = ["--zone", "mumbai-west"];
    check("health-and-place", "edge", "edge", &extra)
}

#[test]
fn dns_names_and_versions_are_taken() -> Result<()> {
    let extra = ["--zone", "mumbai-west"];
    check("names-and-versions", "edge", "edge", &extra)
}

#[test]
fn hosts_matches_redirects_and_rewrites_are_taken() -> Result<()> {
    check("hosts-and-routes", "edge", "edge", &[])
}

#[test]
fn a_sidecars_listeners_tracing_and_access_log_are_taken() -> Result<()> {
    for (name, id) in [("order-service", "order-1"), ("payment-service", "pay-1")] {
        let port = free_port().to_string();
        check("sidecars", name, id, &["--outbound-port", &port])?;
    }
    Ok(())
}
