//! What a peer or an operator may send without harm: the filter neither panics nor lets go of a good
//! configuration.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::Artifacts,
    demo_services::DemoService,
    envoy::{self, Envoy},
    http::{Client, raw},
    ports::free_port,
    wait::wait_for,
};
use serde_json::{Value, json};

use crate::door1::{BOUND, Door1, config_with, filter_config, seen, wasm_filter};

fn plain() -> Value {
    let service = json!({
        "name": "order-service",
        "canary": {"version": "v2", "weight": 10, "sticky_by": {"header": "x-user-id"}},
    });
    filter_config(&service, &json!({"trust_canary_header": true}))
}

fn no_panic(log: &str) -> Result<()> {
    for word in [
        "panicked",
        "unreachable",
        "Function: proxy_on",
        "failed to call",
    ] {
        ensure!(!log.contains(word), "{word:?} in Envoy's log:\n{log}");
    }
    Ok(())
}

/// The filter still decides: its headers are there.
fn still_decides(client: &mut Client) -> Result<()> {
    let answer = client.get("/orders", &[("x-user-id", b"user-42")])?;
    ensure!(answer.status == 200, "{}", answer.status);
    let told = seen(&answer, "x-mumbai-version")?;
    ensure!(told.as_deref() == Some("v2"), "{told:?}");
    Ok(())
}

#[test]
fn hostile_headers_do_no_harm() -> Result<()> {
    let door = Door1::start(&plain())?;
    let mut clients = door.client_per_worker()?;
    let large = vec![b'a'; 60_000];
    for client in &mut clients {
        for value in [&b"\xff\xfe\x80"[..], &large, b"", b"%00", b"\xc3\x28"] {
            for name in [
                "x-user-id",
                "x-mumbai-canary",
                "x-mumbai-window",
                "content-type",
            ] {
                let answer = client.get("/orders", &[(name, value)])?;
                ensure!(answer.status == 200, "{name}: {}", answer.status);
            }
        }
        still_decides(client)?;
    }
    no_panic(&door.envoy.log())
}

#[test]
fn a_request_without_a_path_does_no_harm() -> Result<()> {
    let door = Door1::start(&plain())?;
    // CONNECT is the one request of HTTP/1.1 that has none.
    let answer = raw(
        ([127, 0, 0, 1], door.port).into(),
        b"CONNECT order-service:80 HTTP/1.1\r\nhost: order-service:80\r\n\r\n",
    )?;
    ensure!(
        answer.starts_with(b"HTTP/1.1 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    let total = wait_for("the request to be counted", BOUND, || {
        match door.sum("mumbai_mesh_requests_total") {
            Ok(total) if total > 0.0 => Ok(total),
            other => Err(format!("{other:?}")),
        }
    })?;
    ensure!(total >= 1.0, "the filter saw it");
    still_decides(&mut door.client())?;
    no_panic(&door.envoy.log())
}

#[test]
fn a_configuration_of_one_megabyte_is_served() -> Result<()> {
    let mut config = plain();
    let services = config["services"].as_array_mut().context("services")?;
    for index in 0..9_000 {
        services.push(json!({
            "name": format!("service-{index:04}"), "class": "gold", "timeout": "2s",
            "circuit_breaker": {"consecutive_failures": 5, "open_for": "5s"},
        }));
    }
    ensure!(
        config.to_string().len() > 1_000_000,
        "{}",
        config.to_string().len()
    );
    let door = Door1::start(&config)?;
    still_decides(&mut door.client())?;
    no_panic(&door.envoy.log())
}

/// Envoy's `--mode validate` starts the filter as a static bootstrap does.
fn refusal(configuration: &str) -> Result<String> {
    let artifacts = Artifacts::from_env()?;
    let dir = tempfile::tempdir()?;
    let wasm = artifacts.wasm.display().to_string();
    let filter = json!({
        "name": "mumbai_mesh", "typed_config": wasm_filter(&wasm, configuration),
    });
    let (port, admin) = (free_port(), free_port());
    let config = config_with(&filter, port, admin, ["127.0.0.1:1", "127.0.0.1:1"]);
    let options = envoy::Options {
        admin_port: admin,
        ..envoy::Options::default()
    };
    match Envoy::start(&artifacts, dir.path(), &config.to_string(), &options) {
        Ok(_) => anyhow::bail!("Envoy serves with the configuration {configuration:?}"),
        Err(error) => Ok(format!("{error:#}")),
    }
}

#[test]
fn a_blank_or_unreadable_configuration_is_refused_with_words() -> Result<()> {
    for configuration in [
        " ",
        "{",
        "[]",
        "{\"version\": 2}",
        "{\"version\": 1, \"windows\": []}",
    ] {
        let log = refusal(configuration)?;
        ensure!(
            log.contains("configuration refused"),
            "{configuration}: {log}"
        );
        no_panic(&log)?;
    }
    Ok(())
}

/// An ECDS resource in a file that Envoy watches: the way of every dynamic configuration, without
/// our server.
pub fn write_ecds(path: &Path, wasm: &str, configuration: &str) -> Result<()> {
    let response = json!({
        "version_info": "1",
        "resources": [{
            "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            "name": "mumbai_mesh",
            "typed_config": wasm_filter(wasm, configuration),
        }],
    });
    let beside = path.with_extension("new");
    fs::write(&beside, response.to_string())?;
    fs::rename(beside, path)?;
    Ok(())
}

#[test]
fn a_bad_configuration_leaves_the_old_one_in_force() -> Result<()> {
    let artifacts = Artifacts::from_env()?;
    let dir = tempfile::tempdir()?;
    let stable = DemoService::start(&artifacts, dir.path(), "order-service", "v1")?;
    let canary = DemoService::start(&artifacts, dir.path(), "order-service", "v2")?;
    let wasm = artifacts.wasm.display().to_string();
    let ecds = dir.path().join("ecds.json");
    write_ecds(&ecds, &wasm, &plain().to_string())?;
    let filter = json!({
        "name": "mumbai_mesh",
        "config_discovery": {
            "config_source": {"path_config_source": {"path": ecds}, "resource_api_version": "V3"},
            "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"],
        },
    });
    let (port, admin_port) = (free_port(), free_port());
    let upstreams = [stable.addr.to_string(), canary.addr.to_string()];
    let config = config_with(&filter, port, admin_port, [&upstreams[0], &upstreams[1]]);
    let options = envoy::Options {
        admin_port,
        ..envoy::Options::default()
    };
    let envoy = Envoy::start(&artifacts, dir.path(), &config.to_string(), &options)?;
    let mut client = Client::new(([127, 0, 0, 1], port).into());
    still_decides(&mut client)?;
    let rejected = "extension_config_discovery.http_filter.mumbai_mesh.config_fail";
    for bad in [
        " ",
        "{\"version\": 1, \"services\": [{\"name\": \"x\", \"canary\": {}}]}",
    ] {
        let before = envoy.stat(rejected).unwrap_or(0);
        write_ecds(&ecds, &wasm, bad)?;
        wait_for("Envoy to reject the configuration", BOUND, || {
            match envoy.stat(rejected) {
                Some(now) if now > before => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })?;
        still_decides(&mut client)?;
    }
    no_panic(&envoy.log())
}
