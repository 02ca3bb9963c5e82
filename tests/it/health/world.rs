//! Applications with and without sidecars, a gateway before them, and the server.

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::{Context, Result, bail};
use harness::{
    artifacts::Artifacts,
    demo_services::DemoService,
    envoy::Envoy,
    http::Client,
    ports::free_port,
    server::{self, Server},
    wait::wait_for,
};
use serde_json::Value;

use crate::{
    door1::{BOUND, version},
    mesh::{Variant, start_envoy},
};

/// A server, and a gateway where there is one.
pub struct World {
    pub server: Server,
    pub gateway: Option<Envoy>,
    port: u16,
    pub artifacts: Artifacts,
    // Dropped last: all processes write into it.
    pub dir: tempfile::TempDir,
}

impl World {
    pub fn start_alone(mesh: &str) -> Result<Self> {
        Self::start_alone_with(mesh, &server::Options::default())
    }

    pub fn start_alone_with(mesh: &str, options: &server::Options<'_>) -> Result<Self> {
        let artifacts = Artifacts::from_env()?;
        let dir = tempfile::tempdir()?;
        let server = Server::start(&artifacts, dir.path(), mesh, options)?;
        Ok(Self {
            server,
            gateway: None,
            port: 0,
            artifacts,
            dir,
        })
    }

    /// For a gateway `edge`, which is not started yet; the mesh has all but its listener.
    pub fn start(dir: tempfile::TempDir, services: &str, routes: &str) -> Result<Self> {
        let artifacts = Artifacts::from_env()?;
        let port = free_port();
        let mesh = format!(
            "{services}gateways:\n  edge:\n    listen: 127.0.0.1:{port}\n    routes: {routes}\n"
        );
        let options = server::Options {
            xds_port: free_port(),
            api_port: free_port(),
            ..server::Options::default()
        };
        let server = Server::start(&artifacts, dir.path(), &mesh, &options)?;
        Ok(Self {
            server,
            gateway: None,
            port,
            artifacts,
            dir,
        })
    }

    pub fn with_gateway(mut self) -> Result<Self> {
        self.gateway = Some(self.envoy("edge", &[])?);
        Ok(self)
    }

    pub fn envoy(&self, name: &str, extra: &[&str]) -> Result<Envoy> {
        let (artifacts, dir) = (&self.artifacts, self.dir.path());
        start_envoy(
            artifacts,
            dir,
            &self.server,
            name,
            Variant::Delta,
            extra,
            None,
        )
    }

    /// Kills the server and starts it anew, with its file, at its ports.
    pub fn restart(&mut self) -> Result<()> {
        let mesh = std::fs::read_to_string(self.server.mesh_file())?;
        let options = server::Options {
            xds_port: self.server.xds.port(),
            api_port: self.server.api.port(),
            ..server::Options::default()
        };
        self.server.process().kill()?;
        self.server = Server::start(&self.artifacts, self.dir.path(), &mesh, &options)?;
        Ok(())
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub fn client(&self) -> Client {
        Client::new(self.address())
    }

    fn edge(&self) -> Result<&Envoy> {
        self.gateway.as_ref().context("no gateway")
    }

    /// What `GET /services` says of an endpoint.
    pub fn endpoint(&self, id: &str) -> Result<Value> {
        let page = self.server.api_get("/services")?;
        let services = page["services"].as_array().context("no services")?;
        let mut endpoints = services
            .iter()
            .flat_map(|service| service["endpoints"].as_array().into_iter().flatten());
        let endpoint = endpoints.find(|endpoint| endpoint["id"] == id);
        Ok(endpoint.context("no such endpoint")?.clone())
    }

    /// Waits until an endpoint's health is known to be this.
    pub fn becomes(&self, id: &str, health: &str) -> Result<()> {
        wait_for(&format!("{id} to be {health}"), BOUND, || {
            let shown = self.endpoint(id).map_err(|error| format!("{error:#}"))?;
            match shown["health"] == health {
                true => Ok(()),
                false => Err(shown.to_string()),
            }
        })
    }

    /// The port to which callers of an endpoint connect.
    pub fn callers_port(&self, id: &str) -> Result<u64> {
        self.endpoint(id)?["port"].as_u64().context("no port")
    }

    /// Waits until the gateway says so of the health of who listens there.
    pub fn flags(&self, port: u64, fit: impl Fn(&str) -> bool) -> Result<()> {
        let mark = format!("127.0.0.1:{port}::health_flags::");
        wait_for("the gateway to know of it", BOUND, || {
            let edge = self.edge().map_err(|error| error.to_string())?;
            let page = edge
                .admin("/clusters")
                .map_err(|error| format!("{error:#}"))?;
            let mut lines = page.lines().filter_map(|line| line.split_once(&mark));
            match lines.next() {
                Some((_, flags)) if fit(flags) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
    }

    /// Waits until requests are answered by these alone, and by all of them, and none fails.
    pub fn answers(&self, path: &str, by: &[&str]) -> Result<()> {
        wait_for(&format!("{path} to be answered by {by:?}"), BOUND, || {
            let mut seen = BTreeMap::new();
            let mut client = self.client();
            for _ in 0..40 {
                let answer = client
                    .get(path, &[])
                    .map_err(|error| format!("{error:#}"))?;
                let who = match answer.status {
                    200 => version(&answer).map_err(|error| error.to_string())?,
                    status => status.to_string(),
                };
                *seen.entry(who).or_insert(0) += 1;
            }
            match seen.keys().map(String::as_str).eq(by.iter().copied()) {
                true => Ok(()),
                false => Err(format!("{seen:?}")),
            }
        })
    }

    /// Statistics of the gateway, all of one page.
    pub fn stats(&self, names: &[&str]) -> Result<Vec<i64>, String> {
        let edge = self.edge().map_err(|error| error.to_string())?;
        let page = edge.admin("/stats").map_err(|error| format!("{error:#}"))?;
        let of = |name: &&str| {
            let mut lines = page.lines().filter_map(|line| line.split_once(": "));
            let (_, value) = lines.find(|(known, _)| known == name)?;
            value.trim().parse().ok()
        };
        let values: Vec<Option<i64>> = names.iter().map(of).collect();
        let all: Option<Vec<i64>> = values.iter().copied().collect();
        all.ok_or_else(|| format!("{names:?} {values:?}"))
    }

    /// Waits until they fit.
    pub fn wait_stats(&self, names: &[&str], fit: impl Fn(&[i64]) -> bool) -> Result<Vec<i64>> {
        wait_for(&format!("{names:?}"), BOUND, || {
            let stats = self.stats(names)?;
            match fit(&stats) {
                true => Ok(stats),
                false => Err(format!("{stats:?}")),
            }
        })
    }

    /// The server's metrics.
    pub fn metrics(&self) -> Result<String> {
        let answer = Client::new(self.server.api).get("/metrics", &[])?;
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }
}

/// Two applications behind sidecars (`order-1`, `order-2`) and two without (`plain-1`, `plain-2`).
pub struct Fleet {
    applications: BTreeMap<String, DemoService>,
    ports: BTreeMap<String, u16>,
    sidecars: BTreeMap<String, Envoy>,
    pub world: World,
}

const IDS: [&str; 4] = ["order-1", "order-2", "plain-1", "plain-2"];

impl Fleet {
    /// With these rules of both services.
    pub fn start(rules: &str) -> Result<Self> {
        let artifacts = Artifacts::from_env()?;
        let dir = tempfile::tempdir()?;
        let mut applications = BTreeMap::new();
        let mut ports = BTreeMap::new();
        for id in IDS {
            let application = DemoService::start(&artifacts, dir.path(), id, &id[6..])?;
            ports.insert(id.to_string(), application.addr.port());
            applications.insert(id.to_string(), application);
        }
        let rules = format!("{rules}\n    circuit_breaker: {{consecutive_failures: 1000000}}");
        let services = format!(
            "\
services:
  order-service:
    endpoints:
      - {{id: order-1, host: 127.0.0.1, port: {}, app_port: {}}}
      - {{id: order-2, host: 127.0.0.1, port: {}, app_port: {}}}
    {rules}
  plain-service:
    sidecar: false
    endpoints:
      - {{id: plain-1, host: 127.0.0.1, port: {}}}
      - {{id: plain-2, host: 127.0.0.1, port: {}}}
    {rules}
",
            free_port(),
            ports["order-1"],
            free_port(),
            ports["order-2"],
            ports["plain-1"],
            ports["plain-2"],
        );
        let routes = "[{match: {path_prefix: /orders}, service: order-service}, \
                      {match: {path_prefix: /plain}, service: plain-service}]";
        let world = World::start(dir, &services, routes)?;
        let mut sidecars = BTreeMap::new();
        for id in ["order-1", "order-2"] {
            sidecars.insert(id.to_string(), sidecar(&world, id)?);
        }
        let fleet = Self {
            applications,
            ports,
            sidecars,
            // Last: whom its first check does not find waits for the second.
            world: world.with_gateway()?,
        };
        fleet.world.answers("/orders", &["1", "2"])?;
        fleet.world.answers("/plain", &["1", "2"])?;
        Ok(fleet)
    }

    /// Ends an application.
    pub fn stop(&mut self, id: &str) {
        self.applications.remove(id);
    }

    /// Starts it anew, where it was.
    pub fn start_again(&mut self, id: &str) -> Result<()> {
        let Some(port) = self.ports.get(id) else {
            bail!("no application {id}");
        };
        let (artifacts, dir) = (&self.world.artifacts, self.world.dir.path());
        let application = DemoService::start_on(artifacts, dir, id, &id[6..], *port)?;
        self.applications.insert(id.to_string(), application);
        Ok(())
    }

    /// Starts a sidecar that was killed.
    pub fn start_sidecar_again(&mut self, id: &str) -> Result<()> {
        let sidecar = sidecar(&self.world, id)?;
        self.sidecars.insert(id.to_string(), sidecar);
        Ok(())
    }

    /// Kills a sidecar as `kill -9` does.
    pub fn kill_sidecar(&mut self, id: &str) -> Result<()> {
        let sidecar = self.sidecars.get_mut(id).context("no such sidecar")?;
        sidecar.process().kill()?;
        Ok(())
    }
}

fn sidecar(world: &World, id: &str) -> Result<Envoy> {
    let outbound = free_port().to_string();
    let extra = ["--node-id", id, "--outbound-port", &outbound];
    world.envoy("order-service", &extra)
}
