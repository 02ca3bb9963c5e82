//! A server that is killed and started again at its ports, and all that is written to it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result, bail, ensure};
use harness::{
    artifacts::Artifacts,
    envoy::Envoy,
    http::Client,
    ports::free_port,
    server::{Options, Server},
};
use serde_json::Value;

use crate::mesh::{Variant, start_envoy};

/// What registers and leaves again.
pub const INSTANCE: &str = "/api/v1/instances/stock-service/guest";

/// What was written last, and everything that calls have written so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub weight: usize,
    pub timeout: usize,
    pub mark: usize,
    /// Whether the guest is registered, and with which weight.
    pub guest: Option<usize>,
}

/// Where everything is.
pub struct Ports {
    pub gateways: [u16; 2],
    pub sidecars: [u16; 2],
    pub applications: [u16; 2],
    pub stock: u16,
    pub guest: u16,
}

impl Ports {
    pub fn mesh(&self, written: &Written) -> String {
        let Written {
            weight, timeout, ..
        } = written;
        let Self {
            gateways: [first, second],
            sidecars: [one, two],
            applications: [behind_one, behind_two],
            stock,
            ..
        } = self;
        let routes = "[{match: {path_prefix: /orders}, service: order-service}, \
                      {match: {path_prefix: /stock}, service: stock-service}]";
        format!(
            "\
services:
  order-service:
    timeout: {timeout}s
    endpoints:
      - {{id: order-1, host: 127.0.0.1, port: {one}, app_port: {behind_one}, version: v1}}
      - {{id: order-2, host: 127.0.0.1, port: {two}, app_port: {behind_two}, version: v2}}
    canary: {{version: v2, weight: {weight}, sticky_by: {{header: x-user-id}}}}
  stock-service:
    sidecar: false
    endpoints: [{{id: stock-1, host: 127.0.0.1, port: {stock}}}]
gateways:
  edge-1: {{listen: \"127.0.0.1:{first}\", routes: {routes}}}
  edge-2: {{listen: \"127.0.0.1:{second}\", routes: {routes}}}
"
        )
    }
}

/// A server at its ports, over restarts.
pub struct Replica {
    dir: PathBuf,
    xds: u16,
    pub api: SocketAddr,
    store: String,
    pub is_up: AtomicBool,
    server: Mutex<Option<Server>>,
}

impl Replica {
    pub fn new(dir: &Path, number: usize, store: &str) -> Result<Self> {
        let replica = Self {
            dir: dir.join(format!("server-{number}")),
            xds: free_port(),
            api: ([127, 0, 0, 1], free_port()).into(),
            store: store.to_string(),
            is_up: AtomicBool::new(false),
            server: Mutex::new(None),
        };
        std::fs::create_dir_all(&replica.dir)?;
        replica.start()?;
        Ok(replica)
    }

    pub fn start(&self) -> Result<()> {
        let arguments = ["--store", &self.store];
        let options = Options {
            xds_port: self.xds,
            api_port: self.api.port(),
            no_config: true,
            arguments: &arguments,
            ..Options::default()
        };
        let server = Server::start(&Artifacts::from_env()?, &self.dir, "", &options)?;
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        self.is_up.store(true, Ordering::SeqCst);
        Ok(())
    }

    pub fn kill(&self) -> Result<()> {
        self.is_up.store(false, Ordering::SeqCst);
        let server = self
            .server
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        server.context("it is not there")?.process().kill()?;
        Ok(())
    }

    pub fn envoy(&self, dir: &Path, name: &str, extra: &[&str]) -> Result<Envoy> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let server = server.as_ref().context("it is not there")?;
        start_envoy(
            &Artifacts::from_env()?,
            dir,
            server,
            name,
            Variant::Delta,
            extra,
            None,
        )
    }

    pub fn get(&self, path: &str) -> Result<Value> {
        let answer = Client::new(self.api).get(path, &[])?;
        ensure!(answer.status == 200, "{path}: {}", answer.status);
        answer.json()
    }

    /// The revisions of the mesh, of resources and of instances that it serves.
    pub fn revisions(&self) -> Result<[u64; 3]> {
        let newest = |of: &str| -> Result<u64> {
            let page = self.get(&format!("/api/v1/revisions?limit=1&of={of}"))?;
            page["newest"].as_u64().context("no revision")
        };
        Ok([newest("mesh")?, newest("resources")?, newest("instances")?])
    }
}

impl Replica {
    /// What it shows of all that was written.
    pub fn shown(&self) -> Result<Written> {
        let canary = self.get("/api/v1/canaries/order-service")?;
        let [revision, ..] = self.revisions()?;
        let whole = self.get(&format!("/api/v1/revisions/{revision}"))?;
        let resources = self.get("/api/v1/resources?name=mark")?;
        let guest = Client::new(self.api).get(INSTANCE, &[])?;
        let seconds =
            |text: &Value| -> Option<usize> { text.as_str()?.strip_suffix('s')?.parse().ok() };
        let timeout = &whole["document"]["services"]["order-service"]["timeout"];
        let mark = &resources["resources"][0]["resource"]["connect_timeout"];
        Ok(Written {
            weight: canary["weight"].as_u64().context("no weight")? as usize,
            timeout: seconds(timeout).context("no timeout")?,
            mark: seconds(mark).context("no mark")?,
            guest: match guest.status {
                200 => Some(guest.json()?["weight"].as_u64().context("no weight")? as usize),
                404 => None,
                status => bail!("{INSTANCE}: {status}"),
            },
        })
    }
}
