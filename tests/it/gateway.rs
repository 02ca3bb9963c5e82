//! What people meet at a gateway that the server configured.

use anyhow::{Result, ensure};
use harness::{
    artifacts::Artifacts,
    demo_services::DemoService,
    http::Client,
    ports::free_port,
    server::{self, Server},
    wait::wait_for,
};

use crate::{
    door1::{BOUND, seen, version},
    mesh::{Mesh, Variant, start_envoy},
};

#[test]
fn a_gateway_answers_health_checks_itself_and_counts_them_nowhere() -> Result<()> {
    let mesh = Mesh::start(|_| {})?;
    let counted = || crate::door1::sum(&mesh.gateway.prometheus()?, "mumbai_mesh_requests_total");
    let before = counted()?;
    for _ in 0..3 {
        let answer = mesh.client().get("/health", &[])?;
        ensure!(answer.status == 200, "{}", answer.status);
        ensure!(answer.json().is_err(), "an application answered");
    }
    ensure!(
        (counted()? - before).abs() < 0.5,
        "{before} -> {}",
        counted()?
    );
    Ok(())
}

#[test]
fn clients_of_a_gateway_cannot_choose_a_version() -> Result<()> {
    let mesh = Mesh::start(|_| {})?;
    // Buckets 1657 and 695: stable and canary at 10 %.
    for (user, forged, expected) in [("user-1", "v2", "v1"), ("user-42", "stable", "v2")] {
        let headers: [(&str, &[u8]); 4] = [
            ("x-user-id", user.as_bytes()),
            ("x-mumbai-version", forged.as_bytes()),
            ("X-Mumbai-Version", forged.as_bytes()),
            ("x-mumbai-canary", forged.as_bytes()),
        ];
        let answer = mesh.client().get("/orders", &headers)?;
        ensure!(
            version(&answer)? == expected,
            "{user} was served by {}",
            version(&answer)?
        );
        ensure!(seen(&answer, "x-mumbai-canary")?.is_none());
        let told = seen(&answer, "x-mumbai-version")?;
        let ours = if expected == "v2" { "v2" } else { "stable" };
        ensure!(told.as_deref() == Some(ours), "{told:?}");
    }
    ensure!(mesh.client().get("/elsewhere", &[])?.status == 404);
    Ok(())
}

#[test]
fn a_window_of_one_zone_holds_for_that_zones_envoys() -> Result<()> {
    let artifacts = Artifacts::from_env()?;
    let dir = tempfile::tempdir()?;
    let order = DemoService::start(&artifacts, dir.path(), "order-service", "v1")?;
    let zones = ["west", "east", "north"].map(|name| (name, free_port()));
    let gateways = zones.map(|(name, port)| {
        format!(
            "  {name}: {{listen: 127.0.0.1:{port}, \
             routes: [{{match: {{path_prefix: /}}, service: order-service}}]}}\n"
        )
    });
    let mesh = format!(
        "\
mesh: {{name: test, region: mumbai}}
timezone: Asia/Kolkata
peak_hours:
  west: {{start: 0, end: 24, zone: mumbai-west, multiplier: 1.5}}
  east: {{start: 0, end: 24, zone: mumbai-east, multiplier: 2}}
services:
  order-service:
    sidecar: false
    endpoints: [{{id: order-1, host: 127.0.0.1, port: {}}}]
gateways:
{}",
        order.addr.port(),
        gateways.concat()
    );
    let server = Server::start(&artifacts, dir.path(), &mesh, &server::Options::default())?;
    let expected = [
        (Some("peak_hour"), Some("west"), Some("1.5")),
        (Some("peak_hour"), Some("east"), Some("2")),
        (Some("normal"), None, None),
    ];
    for ((name, port), (state, window, multiplier)) in zones.into_iter().zip(expected) {
        let zone = format!("mumbai-{name}");
        let extra = ["--zone", zone.as_str()];
        let delta = Variant::Delta;
        let envoy = start_envoy(&artifacts, dir.path(), &server, name, delta, &extra, None)?;
        let mut client = Client::new(([127, 0, 0, 1], port).into());
        let answer = wait_for("the gateway to serve", BOUND, || {
            match client.get("/", &[]) {
                Ok(answer) if answer.status == 200 => Ok(answer),
                Ok(answer) => Err(format!("status {}", answer.status)),
                Err(error) => Err(format!("{error:#}")),
            }
        })?;
        let told = [
            seen(&answer, "x-mumbai-traffic-state")?,
            seen(&answer, "x-mumbai-window")?,
            seen(&answer, "x-mumbai-multiplier")?,
        ];
        let wanted = [state, window, multiplier].map(|value| value.map(str::to_string));
        ensure!(told == wanted, "{zone}: {told:?} instead of {wanted:?}");
        // The metric tells of every zone, wherever it is read.
        let page = envoy.prometheus()?;
        for line in [
            "mumbai_peak_hour_multiplier_percent{zone=\"west\"} 150",
            "mumbai_peak_hour_multiplier_percent{zone=\"east\"} 200",
        ] {
            ensure!(page.lines().any(|found| found == line), "{zone}: no {line}");
        }
    }
    Ok(())
}
