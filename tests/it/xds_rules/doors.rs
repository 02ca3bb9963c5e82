//! What is at the port beside discovery: health by name, a word for who calls what is not there, and a line in the log
//! for whoever is refused or cut. Rule 25.

use anyhow::{Context as _, Result, ensure};
use harness::{
    wait::wait_for,
    xds::{Connection, Kind, Service, Stream, Variant},
};
use prost::Message as _;
use tonic::Code;

use super::world::{World, expect};
use crate::door1::BOUND;

/// `grpc.health.v1`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;

fn health(connection: &Connection, service: &str) -> Result<i32> {
    let call = connection.call("/grpc.health.v1.Health/Check", &[]);
    let mut stream = Stream::around(call, Variant::Sotw, "");
    let service = service.to_string();
    stream.send_bytes(&HealthCheckRequest { service }.encode_to_vec());
    stream.half_close();
    let answer = stream.next_bytes()?;
    Ok(HealthCheckResponse::decode(&*answer)?.status)
}

#[test]
fn health_is_answered_for_each_service_that_is_served() -> Result<()> {
    let world = World::shared()?;
    let single = Kind::ALL.map(Service::Only);
    let all = single.into_iter().chain([Service::Ads]);
    let names = all.map(|service| {
        let path = service.path(Variant::Sotw);
        let name = path.trim_start_matches('/').split('/').next();
        name.unwrap_or_default().to_string()
    });
    let others = [
        "",
        "envoy.service.status.v3.ClientStatusDiscoveryService",
        "envoy.service.load_stats.v3.LoadReportingService",
    ];
    for name in names.chain(others.map(Into::into)) {
        let status = health(&world.connection, &name).with_context(|| name.clone())?;
        expect(&name, status, SERVING)?;
    }
    ensure!(
        health(
            &world.connection,
            "envoy.service.route.v3.ScopedRoutesDiscoveryService"
        )
        .is_err()
    );
    Ok(())
}

#[test]
fn who_calls_what_is_not_served_is_told_what_is() -> Result<()> {
    let world = World::shared()?;
    for path in [
        "/envoy.service.route.v3.ScopedRoutesDiscoveryService/StreamScopedRoutes",
        "/envoy.service.cluster.v3.ClusterDiscoveryService/FetchClusters",
        "/",
    ] {
        let mut stream = Stream::around(world.connection.call(path, &[]), Variant::Sotw, "");
        let end = stream.ended()?;
        expect(path, end.code, Code::Unimplemented)?;
        for part in [
            &format!("{path} is not served here"),
            "envoy.service.discovery.v3.AggregatedDiscoveryService",
            "envoy.service.cluster.v3.ClusterDiscoveryService",
            "envoy.service.status.v3.ClientStatusDiscoveryService",
        ] {
            ensure!(end.message.contains(part), "{part}: {}", end.message);
        }
    }
    Ok(())
}

/// The lines of the log that have all of these words.
fn lines_with(world: &World, words: &[&str]) -> Vec<String> {
    let log = world.server.log();
    let lines = log.lines();
    let found = lines.filter(|line| words.iter().all(|word| line.contains(word)));
    found.map(str::to_string).collect()
}

#[test]
fn who_is_refused_or_cut_is_a_line_in_the_log_and_a_flood_is_a_few() -> Result<()> {
    const FLOOD: usize = 50;
    const LINES_MAX: usize = 10;
    let world = World::start()?;
    let mut stream = Stream::open(&world.connection, Variant::Sotw, Service::Ads, "edge-1");
    stream.subscribe(Kind::Cluster, &[]);
    stream.take(Kind::Cluster)?;
    stream.subscribe(Kind::Cluster, &[&"x".repeat(5000)]);
    expect("code", stream.ended()?.code, Code::ResourceExhausted)?;
    let words = [
        "WARN",
        "stream cut",
        "node=\"edge-1\"",
        "service=\"ADS\"",
        "reason=\"too_large\"",
        "bound=4096 bytes",
        "peer=127.0.0.1:",
    ];
    wait_for("the line", BOUND, || {
        match lines_with(&world, &words).len() {
            1 => Ok(()),
            _ => Err(world.server.log()),
        }
    })?;

    for _ in 0..FLOOD {
        let clusters = Service::Only(Kind::Cluster);
        let mut stream = Stream::open(&world.connection, Variant::Sotw, clusters, "");
        stream.send_bytes(b"\xff\xff\xff\xff\xff");
        expect("code", stream.ended()?.code, Code::InvalidArgument)?;
    }
    let lines = lines_with(
        &world,
        &[
            "stream refused",
            "reason=\"bad_request\"",
            "service=\"CDS\"",
        ],
    );
    // The flood may take longer than the while for which they count.
    ensure!(
        (1..=3 * LINES_MAX).contains(&lines.len()),
        "{} lines of {FLOOD} calls",
        lines.len()
    );
    Ok(())
}
