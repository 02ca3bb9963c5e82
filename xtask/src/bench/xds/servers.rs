//! The two servers, with the same content.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{self, Command},
    time::Duration,
};

use anyhow::{Context, Result};
use harness::{
    artifacts::Artifacts,
    ports::free_port,
    process::Process,
    server::{Options, Server},
    wait::wait_for,
    xds::Api,
};
use serde_json::{Value, json};

use crate::bench::cpu;

const READY: Duration = Duration::from_secs(30);
/// Resources in one call.
const TOGETHER: usize = 500;

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `mumbai-mesh serve`, fed by `resources:apply`.
    Ours,
    /// The one that only sends bytes.
    Limit,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "mumbai-mesh",
            Self::Limit => "limit",
        }
    }
}

/// How much there is to serve.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub clusters: usize,
    pub endpoints: usize,
}

/// Where the servers are, and where they run.
pub struct Programs {
    pub ours: PathBuf,
    pub filter: PathBuf,
    pub limit: PathBuf,
    pub dir: PathBuf,
    pub core: usize,
}

/// A server that serves, and how a change is made in it.
pub struct Served {
    pub xds: SocketAddr,
    pub pid: u32,
    /// Arguments of the load client.
    pub trigger: Vec<String>,
    _running: Running,
}

#[expect(dead_code, reason = "held until it is dropped, which ends it")]
enum Running {
    Ours(Server, tempfile::TempDir),
    Limit(Process),
}

impl Programs {
    /// Starts a server and gives it its content.
    pub fn start(&self, kind: Kind, shape: Shape) -> Result<Served> {
        // A program begins where its parent is: all its threads are there from the first on, and it
        // starts no more of them than that core can run.
        cpu::pin(process::id(), self.core)?;
        match kind {
            Kind::Ours => self.ours(shape),
            Kind::Limit => self.limit(shape),
        }
    }

    fn ours(&self, shape: Shape) -> Result<Served> {
        let state = tempfile::tempdir_in(&self.dir)?;
        let artifacts = Artifacts {
            wasm: self.filter.clone(),
            server: self.ours.clone(),
            envoy: PathBuf::new(),
            demo_service: PathBuf::new(),
        };
        let mut server = Server::start(&artifacts, state.path(), "{}", &Options::default())?;
        let api = Api::new(server.api);
        let numbers: Vec<usize> = (0..shape.clusters).collect();
        for numbers in numbers.chunks(TOGETHER) {
            let set = numbers.iter().flat_map(|number| {
                let endpoints = endpoints(&number.to_string(), &address(*number), shape, "1000");
                [cluster(*number), endpoints]
            });
            api.apply(&json!({"set": set.collect::<Vec<_>>()}))?;
        }
        // For the clusters of the small mesh, to which all changes are made, the number is in the
        // address as it is.
        let changed = endpoints("{k}", "10.0.{k}.", shape, "WEIGHT");
        let body = json!({"set": [changed]}).to_string();
        let body = body.replace("\"WEIGHT\"", "1{i}");
        Ok(Served {
            xds: server.xds,
            pid: server.process().pid(),
            trigger: [
                "--trigger-url",
                &format!("http://{}/api/v1/resources:apply", server.api),
                "--trigger-header",
                "content-type: application/json",
                "--trigger-body",
                &body,
            ]
            .map(String::from)
            .to_vec(),
            _running: Running::Ours(server, state),
        })
    }

    fn limit(&self, shape: Shape) -> Result<Served> {
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let (xds, admin) = (address(free_port()), address(free_port()));
        let mut command = Command::new(&self.limit);
        command
            .args(["--mode", "body", "--sotw-partial", "--backlog", "4096"])
            .args(["--listen", &xds.to_string(), "--admin", &admin.to_string()])
            .args(["--clusters", &shape.clusters.to_string()])
            .args(["--endpoints", &shape.endpoints.to_string()]);
        let log = self.dir.join("limit.log");
        let mut process = Process::spawn("limit-server", command, &log)?;
        wait_for("the limit server to listen", READY, || {
            if process.ended().is_some() {
                return Ok(false);
            }
            let both = [xds, admin].map(TcpStream::connect);
            match both.iter().all(Result::is_ok) {
                true => Ok(true),
                false => Err(process.log_tail()),
            }
        })?
        .then_some(())
        .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        Ok(Served {
            xds,
            pid: process.pid(),
            trigger: ["--trigger-url".into(), format!("http://{admin}/?k={{k}}")].to_vec(),
            _running: Running::Limit(process),
        })
    }
}

fn cluster(number: usize) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": format!("cluster-{number}"),
        "type": "EDS",
        "eds_cluster_config": {"eds_config": {"ads": {}, "resource_api_version": "V3"}},
    })
}

/// `10.X.Y.` of a cluster's number.
fn address(number: usize) -> String {
    format!("10.{}.{}.", number / 256, number % 256)
}

/// The first endpoint has a weight of its own.
fn endpoints(number: &str, address: &str, shape: Shape, first: &str) -> Value {
    let endpoints = (1..=shape.endpoints).map(|endpoint| {
        let weight: Value = match endpoint {
            1 => first
                .parse::<u32>()
                .map_or_else(|_| first.into(), Value::from),
            _ => 1000.into(),
        };
        json!({
            "endpoint": {"address": {"socket_address": {
                "address": format!("{address}{endpoint}"), "port_value": 8080,
            }}},
            "health_status": "HEALTHY",
            "load_balancing_weight": weight,
        })
    });
    json!({
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": format!("cluster-{number}"),
        "endpoints": [{
            "locality": {"region": "ap-south-1", "zone": "ap-south-1a"},
            "lb_endpoints": endpoints.collect::<Vec<_>>(),
        }],
    })
}
