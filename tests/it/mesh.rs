//! A mesh for tests: the server, a gateway Envoy that it configures, two versions of a service.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use harness::{
    artifacts::Artifacts,
    clock::Clock,
    demo_services::DemoService,
    envoy::{self, Envoy},
    http::Client,
    ports::free_port,
    server::{self, Server},
    wait::wait_for,
};

use crate::door1::BOUND;

/// What the tests change in the mesh file.
#[derive(Debug, Clone)]
pub struct MeshFile {
    pub gateway_port: u16,
    pub stable: u16,
    pub canary: u16,
    pub weight: &'static str,
    /// Whether the file says what the canary is.
    pub with_canary: bool,
    pub breaker: &'static str,
    /// More top-level sections.
    pub more: String,
}

impl MeshFile {
    pub fn text(&self) -> String {
        format!(
            "\
mesh: {{name: test, region: mumbai}}
timezone: Asia/Kolkata
{more}
services:
  order-service:
    sidecar: false
    endpoints:
      - {{id: order-1, host: 127.0.0.1, port: {stable}, version: v1}}
      - {{id: order-2, host: 127.0.0.1, port: {canary}, version: v2}}
    circuit_breaker: {breaker}
{canary_line}gateways:
  edge:
    listen: 127.0.0.1:{port}
    routes:
      - {{match: {{path_prefix: /orders}}, service: order-service}}
",
            more = self.more,
            stable = self.stable,
            canary = self.canary,
            breaker = self.breaker,
            canary_line = self.canary_line(),
            port = self.gateway_port,
        )
    }
}

impl MeshFile {
    fn canary_line(&self) -> String {
        let weight = self.weight;
        match self.with_canary {
            true => format!(
                "    canary: {{version: v2, weight: {weight}, sticky_by: {{header: x-user-id}}}}\n"
            ),
            false => String::new(),
        }
    }
}

/// A running mesh.
pub struct Mesh {
    pub gateway: Envoy,
    pub server: Server,
    pub file: MeshFile,
    _applications: [DemoService; 2],
    pub dir: tempfile::TempDir,
}

/// Which variant of xDS the gateway speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    Delta,
    StateOfTheWorld,
}

impl Mesh {
    pub fn start(change: impl FnOnce(&mut MeshFile)) -> Result<Self> {
        Self::start_with(Variant::Delta, None, change)
    }

    pub fn start_with(
        variant: Variant,
        clock: Option<&Clock>,
        change: impl FnOnce(&mut MeshFile),
    ) -> Result<Self> {
        Self::start_served(variant, clock, &[], change)
    }

    /// With more arguments of the server.
    pub fn start_served(
        variant: Variant,
        clock: Option<&Clock>,
        arguments: &[&str],
        change: impl FnOnce(&mut MeshFile),
    ) -> Result<Self> {
        let options = server::Options {
            clock,
            arguments,
            ..server::Options::default()
        };
        Self::start_as(variant, &options, change)
    }

    /// On a server without a file: what the file would say is applied.
    pub fn start_applied(
        clock: Option<&Clock>,
        change: impl FnOnce(&mut MeshFile),
    ) -> Result<Self> {
        let options = server::Options {
            clock,
            no_config: true,
            ..server::Options::default()
        };
        Self::start_as(Variant::Delta, &options, change)
    }

    fn start_as(
        variant: Variant,
        options: &server::Options<'_>,
        change: impl FnOnce(&mut MeshFile),
    ) -> Result<Self> {
        let artifacts = Artifacts::from_env()?;
        let dir = tempfile::tempdir()?;
        let stable = DemoService::start(&artifacts, dir.path(), "order-service", "v1")?;
        let canary = DemoService::start(&artifacts, dir.path(), "order-service", "v2")?;
        let mut file = MeshFile {
            gateway_port: free_port(),
            stable: stable.addr.port(),
            canary: canary.addr.port(),
            weight: "10",
            with_canary: true,
            breaker: "{consecutive_failures: 5}",
            more: String::new(),
        };
        change(&mut file);
        let server = Server::start(&artifacts, dir.path(), &file.text(), options)?;
        if options.no_config {
            let (status, answer) = server.api_post("/api/v1/apply", file.text().as_bytes())?;
            ensure!(status == 200, "{answer:#}");
        }
        let clock = options.clock;
        let gateway = start_envoy(&artifacts, dir.path(), &server, "edge", variant, &[], clock)?;
        let mesh = Self {
            gateway,
            server,
            file,
            _applications: [stable, canary],
            dir,
        };
        mesh.wait_until_served()?;
        Ok(mesh)
    }

    /// Kills the server with -9 and starts it again at the same ports; `no_config` and `clock` as before.
    pub fn kill_server(&mut self, clock: Option<&Clock>, no_config: bool) -> Result<()> {
        self.server.process().kill()?;
        let options = server::Options {
            clock,
            no_config,
            xds_port: self.server.xds.port(),
            api_port: self.server.api.port(),
            ..server::Options::default()
        };
        let artifacts = Artifacts::from_env()?;
        self.server = Server::start(&artifacts, self.dir.path(), &self.file.text(), &options)?;
        Ok(())
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.file.gateway_port).into()
    }

    pub fn client(&self) -> Client {
        Client::new(self.address())
    }

    pub fn wait_until_served(&self) -> Result<()> {
        wait_until_serves(self.address())
    }

    /// Writes a changed mesh file, and waits until the server has taken it and Envoy has applied
    /// and acknowledged all of it.
    pub fn change(&mut self, change: impl FnOnce(&mut MeshFile)) -> Result<()> {
        change(&mut self.file);
        let before = self.revision()?;
        self.server.write_mesh(&self.file.text())?;
        wait_for("the server to take the change", BOUND, || {
            let now = self.revision().map_err(|error| error.to_string())?;
            if now > before {
                Ok(())
            } else {
                Err(format!("revision {now}"))
            }
        })?;
        wait_for("every proxy to acknowledge it", BOUND, || {
            let proxies = self.server.api_get("/api/v1/proxies");
            let proxies = proxies.map_err(|error| error.to_string())?;
            if all_acknowledged(&proxies) {
                Ok(())
            } else {
                Err(proxies.to_string())
            }
        })
    }

    pub fn revision(&self) -> Result<u64> {
        let revisions = self.server.api_get("/api/v1/revisions")?;
        Ok(revisions["current"]["revision"]
            .as_u64()
            .unwrap_or_default())
    }
}

/// An Envoy acknowledges a listener a moment before it listens there.
pub fn wait_until_serves(gateway: SocketAddr) -> Result<()> {
    wait_for("the gateway to serve", BOUND, || {
        match Client::new(gateway).get("/orders/1", &[]) {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(format!("status {}", answer.status)),
            Err(error) => Err(format!("{error:#}")),
        }
    })
}

pub fn all_acknowledged(proxies: &serde_json::Value) -> bool {
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let streams = list(&proxies["proxies"])
        .into_iter()
        .flat_map(|proxy| list(&proxy["streams"]));
    let mut types = streams.flat_map(|stream| list(&stream["types"]));
    types.all(|status| status["sent"] == status["acked"] && status["nack"].is_null())
}

/// Bootstraps an Envoy by the CLI and starts it.
pub fn start_envoy(
    artifacts: &Artifacts,
    dir: &Path,
    server: &Server,
    name: &str,
    variant: Variant,
    extra: &[&str],
    clock: Option<&Clock>,
) -> Result<Envoy> {
    let admin_port = free_port();
    let out = dir.join(format!("{name}-{admin_port}"));
    let config: PathBuf = server.bootstrap(name, admin_port, &out, extra)?;
    if variant == Variant::StateOfTheWorld {
        let text = std::fs::read_to_string(&config)?;
        std::fs::write(&config, text.replace("DELTA_GRPC", "GRPC"))?;
    }
    let options = envoy::Options {
        name,
        clock,
        admin_port,
        ..envoy::Options::default()
    };
    Envoy::start_file(artifacts, &out, &config, &options)
}
