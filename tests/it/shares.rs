//! Limits that the proxies of a gateway share: what real Envoys let through together, while they come and go, and
//! while the server does.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::Artifacts,
    demo_services::DemoService,
    envoy::Envoy,
    etcd::Etcd,
    load::Load,
    ports::free_port,
    server::{Options, Server},
    wait::wait_for,
};
use serde_json::Value;

use crate::{
    door1::BOUND,
    mesh::{Variant, start_envoy},
};

/// Requests per second of all together.
const LIMIT: f64 = 240.0;
/// So that a test need not wait for ten minutes.
const SEEN_WITHIN: Duration = Duration::from_secs(8);
const PACE: [&str; 4] = ["--fleet-seen-within", "8s", "--fleet-told-every", "1s"];

/// Gateways that listen at one port together, as the kernel spreads connections among them.
struct World {
    server: Server,
    port: u16,
    ports: (u16, u16),
    artifacts: Artifacts,
    _order: DemoService,
    // Dropped last: all processes write into it.
    dir: tempfile::TempDir,
}

fn mesh(order: u16, port: u16) -> String {
    format!(
        "\
services:
  order-service:
    sidecar: false
    endpoints: [{{id: order-1, host: 127.0.0.1, port: {order}}}]
    limit: {{per_second: {LIMIT}, burst: 3, scope: fleet}}
    circuit_breaker: {{consecutive_failures: 1000000}}
  stock: {{sidecar: false}}
  cart:
    port: 8080
    uses: [stock]
    endpoints: [{{id: cart-1, host: 127.0.0.1, port: {}}}]
gateways:
  edge:
    listen: 127.0.0.1:{port}
    routes: [{{match: {{path_prefix: /}}, service: order-service}}]
",
        free_port()
    )
}

fn serve(dir: &Path, mesh: &str, ports: (u16, u16), more: &[&str]) -> Result<Server> {
    let arguments = [&PACE[..], more].concat();
    let options = Options {
        xds_port: ports.0,
        api_port: ports.1,
        arguments: &arguments,
        ..Options::default()
    };
    Server::start(&Artifacts::from_env()?, dir, mesh, &options)
}

impl World {
    fn start() -> Result<Self> {
        let artifacts = Artifacts::from_env()?;
        let dir = tempfile::tempdir()?;
        let order = DemoService::start(&artifacts, dir.path(), "order", "1")?;
        let port = free_port();
        let ports = (free_port(), free_port());
        let mesh = mesh(order.addr.port(), port);
        Ok(Self {
            server: serve(dir.path(), &mesh, ports, &[])?,
            port,
            ports,
            artifacts,
            _order: order,
            dir,
        })
    }

    fn gateway(&self, id: &str) -> Result<Envoy> {
        let extra = ["--node-id", id];
        let (artifacts, dir) = (&self.artifacts, self.dir.path());
        let delta = Variant::Delta;
        start_envoy(artifacts, dir, &self.server, "edge", delta, &extra, None)
    }

    /// Kills the server and starts it anew at its ports.
    fn restart(&mut self) -> Result<()> {
        let mesh = std::fs::read_to_string(self.server.mesh_file())?;
        self.server.process().kill()?;
        self.server = serve(self.dir.path(), &mesh, self.ports, &[])?;
        Ok(())
    }

    /// Requests per second that users who never stop asking are let through, over some seconds.
    fn let_through(&self, span: Duration) -> Result<f64> {
        let load = Load::start(([127, 0, 0, 1], self.port).into(), 30, "/orders");
        let began = Instant::now();
        wait_for("the load to have lasted", BOUND, || match began.elapsed() {
            past if past >= span => Ok(()),
            past => Err(format!("{past:?}")),
        })?;
        let report = load.stop();
        let seconds = began.elapsed().as_secs_f64();
        ensure!(report.ok > 0, "{report:?}");
        Ok(f64::from(u32::try_from(report.ok)?) / seconds)
    }

    fn lets_through(&self, expected: f64) -> Result<()> {
        let rate = self.let_through(Duration::from_secs(4))?;
        ensure!(
            (rate - expected).abs() <= expected * 0.1,
            "{rate:.1} requests per second, not {expected}"
        );
        Ok(())
    }
}

/// Waits until an Envoy's filter knows of how many it is one.
fn knows(gateway: &Envoy, size: u32) -> Result<()> {
    let word = match size {
        1 => None,
        size => Some(format!("\\\"fleet_size\\\":{size},")),
    };
    wait_for(&format!("the filter to be one of {size}"), BOUND, || {
        let dump = gateway.admin("/config_dump?resource=ecds_filters");
        let dump = dump.map_err(|error| format!("{error:#}"))?;
        let fits = match &word {
            Some(word) => dump.contains(word),
            None => dump.contains("order-service") && !dump.contains("fleet_size"),
        };
        let place = dump.find("fleet_size");
        match fits {
            true => Ok(()),
            false => Err(place.map_or_else(String::new, |at| {
                dump.get(at..at + 20).unwrap_or_default().into()
            })),
        }
    })
}

fn node(server: &Server, id: &str) -> Result<Value> {
    let page = server.api_get("/api/v1/proxies")?;
    let nodes = page["proxies"].as_array().context("no proxies")?;
    let mut nodes = nodes.iter();
    let node = nodes.find(|node| node["id"] == id);
    Ok(node.with_context(|| format!("no {id}"))?.clone())
}

/// Responses that a node was sent.
fn responses(server: &Server, id: &str) -> Result<u64> {
    let node = node(server, id)?;
    let streams = node["streams"].as_array().context("no streams")?;
    Ok(streams
        .iter()
        .filter_map(|stream| stream["responses"].as_u64())
        .sum())
}

#[test]
fn gateways_share_a_limit_while_they_come_and_go_and_while_the_server_is_away() -> Result<()> {
    let mut world = World::start()?;
    let first = world.gateway("edge-1")?;
    let extra = [
        "--node-id",
        "cart-1",
        "--outbound-port",
        &free_port().to_string(),
    ];
    let (artifacts, dir) = (&world.artifacts, world.dir.path());
    let _cart = start_envoy(
        artifacts,
        dir,
        &world.server,
        "cart",
        Variant::Delta,
        &extra,
        None,
    )?;
    knows(&first, 1)?;
    world.lets_through(LIMIT)?;
    let to_cart = responses(&world.server, "cart-1")?;

    let (second, mut third) = (world.gateway("edge-2")?, world.gateway("edge-3")?);
    for gateway in [&first, &second, &third] {
        knows(gateway, 3)?;
    }
    ensure!(node(&world.server, "edge-2")?["fleet_size"] == 3);
    world.lets_through(LIMIT)?;
    let explained = world
        .server
        .api_get("/api/v1/explain?gateway=edge&path=/orders")?;
    let limit = &explained["limits"][0];
    ensure!(
        limit["scope"] == "fleet" && limit["proxies"] == 3,
        "{limit}"
    );
    ensure!(limit["own_per_second"] == LIMIT / 3.0, "{limit}");
    let reasons = explained["reasons"].to_string();
    ensure!(
        reasons.contains("80 of them here: one of 3 proxies"),
        "{reasons}"
    );

    // While one that went is still counted its share is nobody's; then it is the others'.
    third.process().terminate()?;
    let gone = Instant::now();
    let rate = world.let_through(Duration::from_secs(3))?;
    ensure!(gone.elapsed() < SEEN_WITHIN, "too slow to tell");
    let two_thirds = LIMIT / 3.0 * 2.0;
    ensure!(
        (rate - two_thirds).abs() <= two_thirds * 0.1,
        "{rate:.1}, not {two_thirds}"
    );
    for gateway in [&first, &second] {
        knows(gateway, 2)?;
    }
    world.lets_through(LIMIT)?;

    // Nobody whose filter has no such limit was told anything, and it is no change of the mesh.
    ensure!(node(&world.server, "cart-1")?["fleet_size"].is_null());
    let told = responses(&world.server, "cart-1")?;
    ensure!(told == to_cart, "{told} responses, and {to_cart} before");
    let revisions = world.server.api_get("/api/v1/revisions")?;
    ensure!(revisions["current"]["revision"] == 1, "{revisions}");
    let file = world.server.mesh_file().to_string_lossy().into_owned();
    let server = format!("http://{}", world.server.api);
    // Exit code 0: no changes.
    world
        .server
        .command(&["plan", &file, "--server", &server])?;

    // For longer than anybody is counted.
    world.server.process().kill()?;
    let rate = world.let_through(SEEN_WITHIN + Duration::from_secs(2))?;
    ensure!(
        (rate - LIMIT).abs() <= LIMIT * 0.1,
        "{rate:.1} without a server"
    );
    world.restart()?;
    for id in ["edge-1", "edge-2"] {
        wait_for("the gateway to be back", BOUND, || {
            let node = node(&world.server, id).map_err(|error| format!("{error:#}"))?;
            match node["fleet_size"] == 2 {
                true => Ok(()),
                false => Err(node["fleet_size"].to_string()),
            }
        })?;
    }
    for gateway in [&first, &second] {
        knows(gateway, 2)?;
    }
    let log = world.server.log();
    ensure!(
        !log.contains("divided anew"),
        "their number never changed: {log}"
    );
    Ok(())
}

#[test]
fn servers_on_one_store_count_each_others_proxies() -> Result<()> {
    let artifacts = Artifacts::from_env()?;
    let dir = tempfile::tempdir()?;
    let etcd = Etcd::start(dir.path())?;
    let store = etcd.store("shares");
    let mesh = mesh(free_port(), free_port());
    let start = |name: &str| {
        let dir = dir.path().join(name);
        std::fs::create_dir_all(&dir)?;
        serve(&dir, &mesh, (0, 0), &["--store", &store])
    };
    let (one, mut two) = (start("one")?, start("two")?);
    let gateway = |server: &Server, id: &str| {
        let extra = ["--node-id", id];
        let delta = Variant::Delta;
        start_envoy(&artifacts, dir.path(), server, "edge", delta, &extra, None)
    };
    let first = gateway(&one, "edge-1")?;
    let (second, third) = (gateway(&two, "edge-2")?, gateway(&two, "edge-3")?);
    for envoy in [&first, &second, &third] {
        knows(envoy, 3)?;
    }
    // One that moves is no other one.
    drop(third);
    let third = gateway(&one, "edge-3")?;
    knows(&third, 3)?;
    let began = Instant::now();
    wait_for("all of them to be counted for long", BOUND, || {
        let size = node(&one, "edge-1").map_err(|error| format!("{error:#}"))?;
        ensure_three(&size)?;
        match began.elapsed() {
            past if past > SEEN_WITHIN * 2 => Ok(()),
            past => Err(format!("{past:?}")),
        }
    })?;
    // Of a server that died the proxies are counted no more after a while; they keep their share.
    two.process().kill()?;
    for envoy in [&first, &third] {
        knows(envoy, 2)?;
    }
    knows(&second, 3)
}

fn ensure_three(node: &Value) -> Result<(), String> {
    match node["fleet_size"] == 3 {
        true => Ok(()),
        false => Err(node["fleet_size"].to_string()),
    }
}
