//! Checks by gRPC and TCP, of real gRPC servers: by callers' Envoys, and for the server.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic_health::{ServingStatus, server::HealthReporter};

use super::World;

const STOCK: &str = "stock.v1.Stock";

/// A gRPC server that has nothing but its health to tell. It ends when it is dropped.
struct Health {
    address: SocketAddr,
    reporter: HealthReporter,
    runtime: Runtime,
}

impl Health {
    fn start() -> Result<Self> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)))?;
        let address = listener.local_addr()?;
        let (reporter, service) = tonic_health::server::health_reporter();
        let incoming = TcpListenerStream::new(listener);
        let server = Server::builder().add_service(service);
        runtime.spawn(server.serve_with_incoming(incoming));
        let health = Self {
            address,
            reporter,
            runtime,
        };
        health.say(STOCK, ServingStatus::Serving);
        Ok(health)
    }

    fn say(&self, service: &str, status: ServingStatus) {
        self.runtime
            .block_on(self.reporter.set_service_status(service, status));
    }
}

#[test]
fn grpc_and_tcp_checks_are_honoured_by_callers_and_by_the_server() -> Result<()> {
    let one = Health::start()?;
    let two = Health::start()?;
    let quick = "interval: 300ms, timeout: 300ms, healthy_threshold: 1";
    let endpoints = |name: &str| {
        let (one, two) = (one.address.port(), two.address.port());
        format!(
            "[{{id: {name}-1, host: 127.0.0.1, port: {one}}}, {{id: {name}-2, host: 127.0.0.1, port: {two}}}]"
        )
    };
    let service = |name: &str, check: &str| {
        format!(
            "  {name}:\n    sidecar: false\n    protocol: http2\n    panic_threshold: 0\n    \
             endpoints: {}\n    health_check: {{{check}, {quick}}}\n",
            endpoints(name)
        )
    };
    let services = format!(
        "services:\n{}{}{}{}{}",
        service("stock", &format!("grpc_service: {STOCK}")),
        service("whole", "grpc_service: \"\""),
        service("nobody", "grpc_service: not.there"),
        service("port", "tcp: true"),
        // Who speaks HTTP/2 is asked by HTTP/2.
        service("path", "path: /anything"),
    );
    let world = World::start(tempfile::tempdir()?, &services, "[]")?.with_gateway()?;
    let flags = |cluster: &str, port: u16, wanted: &str| {
        let mark = format!("{cluster}::127.0.0.1:{port}::health_flags::");
        let edge = world.gateway.as_ref().context("no gateway")?;
        harness::wait::wait_for(&format!("{mark}{wanted}"), crate::door1::BOUND, || {
            let page = edge
                .admin("/clusters")
                .map_err(|error| format!("{error:#}"))?;
            let line = page.lines().find_map(|line| line.strip_prefix(&mark));
            match line.is_some_and(|flags| flags.contains(wanted)) {
                true => Ok(()),
                false => Err(format!("{line:?}")),
            }
        })
    };
    let (first, second) = (one.address.port(), two.address.port());
    for name in ["stock", "whole", "port", "path"] {
        for (number, port) in [(1, first), (2, second)] {
            world.becomes(&format!("{name}-{number}"), "healthy")?;
            flags(name, port, "healthy")?;
        }
    }
    world.becomes("nobody-1", "unhealthy")?;
    flags("nobody", first, "/failed_active_hc")?;

    one.say(STOCK, ServingStatus::NotServing);
    world.becomes("stock-1", "unhealthy")?;
    flags("stock", first, "/failed_active_hc")?;
    flags("stock", first, "/failed_eds_health")?;
    world.becomes("stock-2", "healthy")?;
    world.becomes("whole-1", "healthy")?;
    one.say(STOCK, ServingStatus::Serving);
    world.becomes("stock-1", "healthy")?;
    flags("stock", first, "healthy")?;

    drop(one);
    for name in ["stock", "whole", "port", "path"] {
        world.becomes(&format!("{name}-1"), "unhealthy")?;
        flags(name, first, "/failed_active_hc")?;
        world.becomes(&format!("{name}-2"), "healthy")?;
    }
    drop(two);
    Ok(())
}
