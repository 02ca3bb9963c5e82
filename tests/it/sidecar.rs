//! Sidecars: a service that calls another through its own Envoy, and is called through it.

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
    door1::{BOUND, seen},
    mesh::{Variant, start_envoy},
};

#[test]
fn a_sidecar_serves_its_application_and_calls_others_by_name() -> Result<()> {
    let artifacts = Artifacts::from_env()?;
    let dir = tempfile::tempdir()?;
    let payment = DemoService::start(&artifacts, dir.path(), "payment-service", "v1")?;
    let order = DemoService::start(&artifacts, dir.path(), "order-service", "v1")?;
    let (gateway, inbound, outbound) = (free_port(), free_port(), free_port());
    let mesh = format!(
        "\
mesh: {{name: test, region: mumbai}}
timezone: Asia/Kolkata
peak_hours:
  west: {{start: 0, end: 24, zone: mumbai-west, multiplier: 1.5}}
  central: {{start: 0, end: 24, zone: mumbai-central, multiplier: 3}}
services:
  payment-service:
    port: {payment}
    class: gold
    endpoints: [{{id: payment-1, host: 127.0.0.1, port: {inbound}}}]
  order-service:
    sidecar: false
    endpoints: [{{id: order-1, host: 127.0.0.1, port: {order}}}]
gateways:
  edge:
    listen: 127.0.0.1:{gateway}
    routes: [{{match: {{path_prefix: /pay}}, service: payment-service}}]
",
        payment = payment.addr.port(),
        order = order.addr.port(),
    );
    let server = Server::start(&artifacts, dir.path(), &mesh, &server::Options::default())?;
    let delta = Variant::Delta;
    let _edge = start_envoy(&artifacts, dir.path(), &server, "edge", delta, &[], None)?;
    let port = outbound.to_string();
    let extra = ["--outbound-port", port.as_str(), "--zone", "mumbai-west"];
    let name = "payment-service";
    let sidecar = start_envoy(&artifacts, dir.path(), &server, name, delta, &extra, None)?;

    // From outside: gateway -> sidecar -> application.
    let mut client = Client::new(([127, 0, 0, 1], gateway).into());
    let answer = wait_for(
        "the payment service behind its sidecar",
        BOUND,
        || match client.get("/pay/1", &[]) {
            Ok(answer) if answer.status == 200 => Ok(answer),
            Ok(answer) => Err(format!("status {}", answer.status)),
            Err(error) => Err(format!("{error:#}")),
        },
    )?;
    ensure!(answer.json()?["service"] == "payment-service");
    let class = seen(&answer, "x-mumbai-class")?;
    ensure!(class.as_deref() == Some("gold"), "{class:?}");
    let window = seen(&answer, "x-mumbai-window")?;
    ensure!(window.as_deref() == Some("central"), "{window:?}");

    // From inside: application -> its sidecar -> the other service, by name.
    let mut client = Client::new(([127, 0, 0, 1], outbound).into());
    let answer = client.get("/orders", &[("host", b"order-service")])?;
    ensure!(answer.status == 200, "{}", answer.status);
    ensure!(answer.json()?["service"] == "order-service");
    let class = seen(&answer, "x-mumbai-class")?;
    ensure!(class.as_deref() == Some("silver"), "{class:?}");
    // The sidecar stands in the west; the gateway, in no zone, sees the highest of all.
    let window = seen(&answer, "x-mumbai-window")?;
    ensure!(window.as_deref() == Some("west"), "{window:?}");
    let answer = client.get("/", &[("host", b"nobody")])?;
    ensure!(answer.status == 404, "{}", answer.status);

    // What it does is what it says that it would, and what the mesh says.
    let (admin, api) = (sidecar.admin_address(), format!("http://{}", server.api));
    let asked = [
        "explain",
        "--from-proxy",
        &admin,
        "--server",
        &api,
        "-o",
        "json",
    ];
    // By its name, or as the application calls it.
    for whom in [["--service", "order-service"], ["-H", "host:order-service"]] {
        let told = server.command(&[&asked[..], &whom].concat())?;
        let told: serde_json::Value = serde_json::from_str(&told)?;
        ensure!(
            told["window"] == "west" && told["cluster"] == "order-service",
            "{told:#}"
        );
        ensure!(told["differences"] == serde_json::json!([]), "{told:#}");
    }

    // Each request is counted once, on the caller's side.
    let page = sidecar.prometheus()?;
    let counted = "mumbai_mesh_requests_total{service=\"order-service\",status=\"200\"} 1";
    ensure!(page.lines().any(|line| line == counted), "{page}");
    ensure!(
        !page.contains("requests_total{service=\"payment-service\""),
        "{page}"
    );
    Ok(())
}
