//! Three services with two versions each, every one behind its sidecar: gateway -> order -> payment, out
//! through one sidecar and in through the next.

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::Artifacts, demo_services::DemoService, envoy::Envoy, ports::free_port,
    wait::wait_for,
};
use serde_json::Value;

use super::World;
use crate::{
    door1::BOUND,
    mesh::{Variant, start_envoy},
};

const SERVICES: [&str; 3] = ["order-service", "payment-service", "stock-service"];
const VERSIONS: [&str; 2] = ["v1", "v2"];

/// One instance: its ports.
struct Place {
    service: &'static str,
    version: &'static str,
    application: u16,
    inbound: u16,
    outbound: u16,
}

impl Place {
    fn id(&self) -> String {
        format!("{}-{}", self.service, self.version)
    }
}

struct Chain {
    _sidecars: Vec<(String, Envoy)>,
    _applications: Vec<DemoService>,
    world: World,
}

fn start() -> Result<Chain> {
    let artifacts = Artifacts::from_env()?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().to_path_buf();
    let places: Vec<Place> = SERVICES
        .iter()
        .flat_map(|service| VERSIONS.map(|version| (*service, version)))
        .map(|(service, version)| Place {
            service,
            version,
            application: free_port(),
            inbound: free_port(),
            outbound: free_port(),
        })
        .collect();
    let mut applications = Vec::new();
    for place in &places {
        let outbound = format!("127.0.0.1:{}", place.outbound);
        applications.push(DemoService::start_with(
            &artifacts,
            &path,
            place.service,
            place.version,
            place.application,
            &["--outbound", &outbound],
        )?);
    }
    let routes = "routes: [{match: {path_prefix: /}, service: order-service}]";
    let world = World::start(dir, &mesh(&places), routes, &[])?;
    let mut sidecars = Vec::new();
    for place in &places {
        let (id, port) = (place.id(), place.outbound.to_string());
        let extra = ["--node-id", &id, "--outbound-port", &port];
        let (server, delta) = (&world.server, Variant::Delta);
        let sidecar = start_envoy(
            &artifacts,
            &path,
            server,
            place.service,
            delta,
            &extra,
            None,
        )?;
        sidecars.push((id, sidecar));
    }
    Ok(Chain {
        _sidecars: sidecars,
        _applications: applications,
        world,
    })
}

/// Half of the users are served by v2, at each service by a draw of its own.
fn mesh(places: &[Place]) -> String {
    let mut text = String::from("services:\n");
    for service in SERVICES {
        text += &format!(
            "  {service}:\n    canary: {{version: v2, weight: 50, sticky_by: {{header: x-user-id}}}}\n    \
             retries: {{attempts: 2}}\n    endpoints:\n"
        );
        for place in places.iter().filter(|place| place.service == service) {
            text += &format!(
                "      - {{id: {}, host: 127.0.0.1, port: {}, app_port: {}, version: {}}}\n",
                place.id(),
                place.inbound,
                place.application,
                place.version
            );
        }
    }
    text.replace(
        "  order-service:\n",
        "  order-service:\n    uses: [payment-service]\n",
    )
}

fn text<'v>(value: &'v Value, pointer: &str) -> Result<&'v str> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.with_context(|| format!("no {pointer} in {value:#}"))
}

#[test]
fn requests_go_from_service_to_service_and_each_hop_decides_the_version_anew() -> Result<()> {
    let chain = start()?;
    let mut client = chain.world.client();
    let mut ask = |user: &str, callee: &str| {
        let headers: [(&str, &[u8]); 2] = [
            ("x-user-id", user.as_bytes()),
            ("x-demo-call", callee.as_bytes()),
        ];
        client.get("/orders/7", &headers)
    };
    for user in ["user-1", "user-2", "user-3", "user-4", "user-5", "user-6"] {
        let answer = wait_for("the whole chain", BOUND, || {
            match ask(user, "payment-service") {
                Ok(answer) if answer.status == 200 => match answer.json() {
                    Ok(json) if json["called"]["status"] == 200 => Ok(json),
                    other => Err(format!("{other:?}")),
                },
                other => Err(format!("{other:?}")),
            }
        })?;
        ensure!(text(&answer, "/service")? == "order-service");
        ensure!(text(&answer, "/called/answer/service")? == "payment-service");
        for (service, pointer) in [("order-service", ""), ("payment-service", "/called/answer")] {
            let path = format!("/api/v1/explain?service={service}&header=x-user-id:{user}");
            let foretold = chain.world.server.api_get(&path)?;
            let label = text(&foretold, "/version")?;
            let served_by = if label == "stable" { "v1" } else { label };
            let version = text(&answer, &format!("{pointer}/version"))?;
            ensure!(
                version == served_by,
                "{user} at {service}: {version}, not {served_by}"
            );
            let told = text(&answer, &format!("{pointer}/headers/x-mumbai-version"))?;
            ensure!(told == label, "{user} at {service}: {told}, not {label}");
        }
        // One trace: what the first hop was given, the second one has.
        ensure!(
            text(&answer, "/headers/x-request-id")?
                == text(&answer, "/called/answer/headers/x-request-id")?
        );
    }
    // `uses` narrows what a sidecar knows.
    let answer = ask("user-1", "stock-service")?.json()?;
    ensure!(answer["called"]["status"] == 404, "{answer:#}");
    Ok(())
}
