//! `export configmap`: an Envoy that no server configures.

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::Artifacts,
    demo_services::DemoService,
    envoy::{self, Envoy},
    http::Client,
    ports::free_port,
    wait::wait_for,
};

use super::{Mounted, exported, files, of_kind, text};
use crate::{
    door1::{BOUND, seen, version},
    mesh::MeshFile,
};

#[test]
fn a_gateway_serves_from_its_config_map_alone_and_takes_a_new_policy_up() -> Result<()> {
    let artifacts = Artifacts::from_env()?;
    let dir = tempfile::tempdir()?;
    let stable = DemoService::start(&artifacts, dir.path(), "order-service", "v1")?;
    let canary = DemoService::start(&artifacts, dir.path(), "order-service", "v2")?;
    let (port, admin_port) = (free_port(), free_port());
    let mesh = |weight| MeshFile {
        gateway_port: port,
        stable: stable.addr.port(),
        canary: canary.addr.port(),
        weight,
        with_canary: true,
        breaker: "{consecutive_failures: 3, open_for: 60s}",
        more: "peak_hours: {always: {start: 0, end: 24, multiplier: 1.5}}".into(),
    };
    let file = dir.path().join("mesh.yaml");
    let admin = admin_port.to_string();
    let folder = dir.path().join("envoy");
    let wasm = artifacts.wasm.display().to_string();
    let export = |weight| -> Result<Vec<(String, String)>> {
        std::fs::write(&file, mesh(weight).text())?;
        let documents = exported(&[
            "configmap",
            "edge",
            "--config",
            text(&file)?,
            "--admin-port",
            &admin,
        ])?;
        let map = of_kind(&documents, "ConfigMap", "edge-envoy")?;
        let moved = [
            ("/etc/mumbai-mesh/filter/mumbai_mesh.wasm", wasm.as_str()),
            ("/etc/envoy", text(&folder)?),
        ];
        files(map, &moved)
    };
    let mut mounted = Mounted::new(folder.clone(), &export("10")?)?;
    let options = envoy::Options {
        admin_port,
        ..envoy::Options::default()
    };
    let bootstrap = mounted.folder.join("envoy.yaml");
    let _envoy = Envoy::start_file(&artifacts, dir.path(), &bootstrap, &options)?;
    let mut client = Client::new(([127, 0, 0, 1], port).into());
    ensure!(client.get("/health", &[])?.status == 200);
    let mut ask = |user: &[u8]| -> Result<_> {
        let answer = client.get("/orders", &[("x-user-id", user)])?;
        ensure!(answer.status == 200, "{}", answer.status);
        Ok((version(&answer)?, seen(&answer, "x-mumbai-traffic-state")?))
    };
    let peak = Some("peak_hour".to_string());
    assert_eq!(ask(b"user-42")?, ("v2".into(), peak.clone()));
    assert_eq!(ask(b"user-1")?, ("v1".into(), peak));
    // As Kubernetes replaces a mounted ConfigMap.
    mounted.replace(&export("20")?)?;
    wait_for("the new policy", BOUND, || match ask(b"user-1") {
        Ok((version, _)) if version == "v2" => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    // The breaker needs no server either.
    for _ in 0..3 {
        let answer = client.get(
            "/orders",
            &[("x-user-id", b"user-99"), ("x-demo-status", b"500")],
        )?;
        ensure!(answer.status == 500, "{}", answer.status);
    }
    let refused = client.get("/orders", &[("x-user-id", b"user-99")])?;
    let reason = refused.header("x-mumbai-reason").context("admitted")?;
    ensure!(refused.status == 503 && reason == b"breaker_open");
    Ok(())
}
