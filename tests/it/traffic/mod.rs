//! How the mesh treats a service's endpoints and a gateway's requests, as those who stand before and
//! behind real Envoys see it.

mod chain;
mod endpoints;
mod limits;
mod routes;
mod tracing;

use anyhow::Result;
use harness::{
    artifacts::Artifacts,
    clock::Clock,
    demo_services::DemoService,
    envoy::Envoy,
    http::Client,
    ports::free_port,
    server::{self, Server},
    wait::wait_for,
};

use crate::{
    door1::BOUND,
    mesh::{Variant, all_acknowledged, start_envoy},
};

/// A gateway in front of plain applications.
pub struct World {
    pub gateway: Envoy,
    pub server: Server,
    pub port: u16,
    // Dropped last: all processes write into it.
    _dir: tempfile::TempDir,
}

impl World {
    /// `mesh` is the file without its gateway, `routes` are the gateway's; `dir` is where the
    /// applications write already.
    pub fn start(dir: tempfile::TempDir, mesh: &str, routes: &str, extra: &[&str]) -> Result<Self> {
        Self::start_at(dir, mesh, routes, extra, None)
    }

    /// With a clock for the server and the Envoy.
    pub fn start_at(
        dir: tempfile::TempDir,
        mesh: &str,
        routes: &str,
        extra: &[&str],
        clock: Option<&Clock>,
    ) -> Result<Self> {
        let artifacts = Artifacts::from_env()?;
        let port = free_port();
        let text = format!(
            "mesh: {{name: test, region: mumbai}}\ntimezone: Asia/Kolkata\n{mesh}\
             gateways:\n  edge:\n    listen: 127.0.0.1:{port}\n    {routes}\n"
        );
        let options = server::Options {
            clock,
            ..server::Options::default()
        };
        let server = Server::start(&artifacts, dir.path(), &text, &options)?;
        let delta = Variant::Delta;
        let gateway = start_envoy(&artifacts, dir.path(), &server, "edge", delta, extra, clock)?;
        let world = Self {
            gateway,
            server,
            port,
            _dir: dir,
        };
        wait_for("the gateway to acknowledge everything", BOUND, || {
            let proxies = world.server.api_get("/api/v1/proxies");
            let proxies = proxies.map_err(|error| error.to_string())?;
            let health = world.client().get("/health", &[]);
            let health = health.map_err(|error| format!("{error:#}"))?;
            match all_acknowledged(&proxies) && health.status == 200 {
                true => Ok(()),
                false => Err(proxies.to_string()),
            }
        })?;
        Ok(world)
    }

    pub fn client(&self) -> Client {
        Client::new(([127, 0, 0, 1], self.port).into())
    }

    /// Waits until a number of Envoy's is what is expected.
    pub fn wait_stat(&self, name: &str, expected: impl Fn(i64) -> bool) -> Result<i64> {
        wait_for(name, BOUND, || match self.gateway.stat(name) {
            Some(value) if expected(value) => Ok(value),
            other => Err(format!("{other:?}")),
        })
    }
}

/// An application of this name and version.
pub fn application(dir: &tempfile::TempDir, name: &str, version: &str) -> Result<DemoService> {
    DemoService::start(&Artifacts::from_env()?, dir.path(), name, version)
}
