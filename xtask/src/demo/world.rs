//! The mesh of the demonstration: two versions of an order service, a payment service behind its
//! sidecar, a gateway, and the server that configures both Envoys.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use harness::{
    artifacts::Artifacts,
    clock::Clock,
    demo_services::DemoService,
    envoy::{self, Envoy},
    http::Client,
    server::{self, Server},
    wait::wait_for,
};
use jiff::Timestamp;

use super::ports::Chosen;
use crate::progress::Progress;

/// The most that anything takes to start.
const READY: Duration = Duration::from_secs(60);

/// Everything that runs. Dropped from the first to the last.
pub struct World {
    pub gateway: Envoy,
    pub sidecar: Envoy,
    pub server: Server,
    pub stable: DemoService,
    _others: [DemoService; 2],
    pub ports: Chosen,
}

impl World {
    pub fn start(
        artifacts: &Artifacts,
        dir: &Path,
        ports: &Chosen,
        at: Option<Timestamp>,
        progress: &Progress,
    ) -> Result<Self> {
        if dir.exists() {
            fs::remove_dir_all(dir).with_context(|| format!("{}", dir.display()))?;
        }
        fs::create_dir_all(dir)?;
        let clock = at.map(|at| moved_clock(dir, at)).transpose()?;
        progress.step("Starting order-service v1 and v2, and payment-service.");
        let stable = DemoService::start(artifacts, dir, "order-service", "v1")?;
        let canary = DemoService::start(artifacts, dir, "order-service", "v2")?;
        let payment = DemoService::start(artifacts, dir, "payment-service", "v1")?;
        progress.step("Starting the server.");
        let mesh = mesh(ports, [&stable, &canary, &payment]);
        let options = server::Options {
            clock: clock.as_ref(),
            xds_port: ports.xds,
            api_port: ports.api,
            ..server::Options::default()
        };
        let server = Server::start(artifacts, dir, &mesh, &options)?;
        let start_envoy = |name: &str, admin_port, extra: &[&str]| -> Result<Envoy> {
            let out = dir.join(name);
            let config: PathBuf = server.bootstrap(name, admin_port, &out, extra)?;
            let options = envoy::Options {
                name,
                clock: clock.as_ref(),
                admin_port,
                ..envoy::Options::default()
            };
            Envoy::start_file(artifacts, &out, &config, &options)
        };
        progress.step("Starting the gateway's Envoy.");
        let gateway = start_envoy("edge", ports.gateway_admin, &[])?;
        progress.step("Starting the payment service's sidecar Envoy.");
        let outbound = ports.outbound.to_string();
        let extra = ["--outbound-port", outbound.as_str()];
        let sidecar = start_envoy("payment-service", ports.sidecar_admin, &extra)?;
        let world = Self {
            gateway,
            sidecar,
            server,
            stable,
            _others: [canary, payment],
            ports: *ports,
        };
        world.wait_until_served()?;
        progress.step("Both Envoys serve.");
        Ok(world)
    }

    /// A new connection to the gateway.
    pub fn gateway_client(&self) -> Client {
        Client::new(([127, 0, 0, 1], self.ports.gateway).into())
    }

    /// A new connection to the sidecar, as its application makes it.
    pub fn outbound_client(&self) -> Client {
        Client::new(([127, 0, 0, 1], self.ports.outbound).into())
    }

    /// The file to edit.
    pub fn mesh_file(&self) -> &Path {
        self.server.mesh_file()
    }

    fn wait_until_served(&self) -> Result<()> {
        let order: (&str, &[u8]) = ("host", b"order-service");
        let asked = [
            (
                "the gateway to serve orders",
                self.gateway_client(),
                "/orders",
                None,
            ),
            (
                "the gateway to reach the sidecar",
                self.gateway_client(),
                "/pay",
                None,
            ),
            (
                "the sidecar to serve its application",
                self.outbound_client(),
                "/",
                Some(order),
            ),
        ];
        for (what, mut client, path, header) in asked {
            wait_for(what, READY, || match client.get(path, header.as_slice()) {
                Ok(answer) if answer.status == 200 => Ok(()),
                Ok(answer) => Err(format!("status {}", answer.status)),
                Err(error) => Err(format!("{error:#}")),
            })?;
        }
        Ok(())
    }
}

fn moved_clock(dir: &Path, at: Timestamp) -> Result<Clock> {
    let clock = Clock::new(dir)?;
    clock.set_now(at.as_millisecond())?;
    Ok(clock)
}

fn mesh(ports: &Chosen, [stable, canary, payment]: [&DemoService; 3]) -> String {
    format!(
        "\
# The demonstration's mesh. Edit it while it runs: a valid change reaches both Envoys at once, an
# invalid one changes nothing and is told with its field and its fix.
mesh: {{name: demo, region: mumbai}}
timezone: Asia/Kolkata
peak_hours:
  morning: {{start: 7, end: 11, multiplier: 1.5}}
  evening: {{start: \"17:00\", end: \"22:00\", multiplier: 2}}
festivals:
  - {{name: Ganesh Chaturthi, date: 2026-09-14, factor: 1.5}}
  - {{name: Diwali, date: 2026-11-08, factor: 2}}
services:
  order-service:
    sidecar: false
    class: gold
    timeout: 2s
    endpoints:
      - {{id: order-1, host: 127.0.0.1, port: {stable}, version: v1}}
      - {{id: order-2, host: 127.0.0.1, port: {canary}, version: v2}}
    circuit_breaker: {{consecutive_failures: 5, open_for: 2s, half_open_probes: 3}}
    canary: {{version: v2, weight: 10, sticky_by: {{header: x-user-id}}}}
  payment-service:
    port: {payment}
    class: gold
    endpoints:
      - {{id: payment-1, host: 127.0.0.1, port: {inbound}}}
gateways:
  edge:
    listen: 127.0.0.1:{gateway}
    routes:
      - {{match: {{path_prefix: /orders}}, service: order-service}}
      - {{match: {{path_prefix: /pay}}, service: payment-service}}
",
        stable = stable.addr.port(),
        canary = canary.addr.port(),
        payment = payment.addr.port(),
        inbound = ports.inbound,
        gateway = ports.gateway,
    )
}
