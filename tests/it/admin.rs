//! An Envoy's admin interface, as `bootstrap` opens it beyond loopback.

use anyhow::{Result, ensure};
use harness::{
    artifacts::Artifacts,
    envoy::{self, Envoy},
    http::Client,
    ports::free_port,
    server::{self, Server},
};

fn mesh(port: u16) -> String {
    format!(
        "services: {{a: {{sidecar: false, endpoints: [{{host: 127.0.0.1, port: 1}}]}}}}\ngateways: {{edge: {{listen: \"127.0.0.1:{port}\", routes: [{{match: {{path_prefix: /}}, service: a}}]}}}}\n"
    )
}

/// Others who reach it, such as the containers beside a gateway, may look and not end it.
#[test]
fn beyond_loopback_it_shows_and_does_nothing() -> Result<()> {
    let artifacts = Artifacts::from_env()?;
    let dir = tempfile::tempdir()?;
    let options = server::Options::default();
    let server = Server::start(&artifacts, dir.path(), &mesh(free_port()), &options)?;
    let admin_port = free_port();
    let out = dir.path().join("edge");
    let file = server.bootstrap("edge", admin_port, &out, &["--admin-address", "0.0.0.0"])?;
    let options = envoy::Options {
        admin_port,
        ..envoy::Options::default()
    };
    let _envoy = Envoy::start_file(&artifacts, dir.path(), &file, &options)?;
    let mut admin = Client::new(([127, 0, 0, 1], admin_port).into());
    for path in [
        "/quitquitquit",
        "/healthcheck/fail",
        "/drain_listeners",
        "/reset_counters",
        "/logging?level=trace",
        "/runtime_modify?a=b",
        "/stats/../quitquitquit",
    ] {
        let answer = admin.send("POST", path, &[])?;
        ensure!(answer.status == 403, "{path}: {}", answer.status);
    }
    for path in [
        "/ready",
        "/server_info",
        "/stats",
        "/stats?format=json",
        "/stats/prometheus",
        "/config_dump?include_eds",
        "/clusters?format=json",
        "/listeners?format=json",
        "/certs",
    ] {
        let answer = admin.send("GET", path, &[])?;
        ensure!(answer.status == 200, "{path}: {}", answer.status);
    }
    Ok(())
}
