//! Envoys that lie, talk nonsense, or too much: a client of HDS that does what it is told.

use anyhow::{Context, Result, ensure};
use envoy_types::pb::envoy::{
    config::{
        core::v3::{
            Address, HealthStatus, Node, SocketAddress, address::Address as Kind,
            socket_address::PortSpecifier,
        },
        endpoint::v3::Endpoint,
    },
    service::health::v3::{
        ClusterEndpointsHealth, EndpointHealth, EndpointHealthResponse, HealthCheckRequest,
        HealthCheckRequestOrEndpointHealthResponse, HealthCheckSpecifier, LocalityEndpointsHealth,
        health_check_request_or_endpoint_health_response::RequestType,
    },
};
use harness::xds::{Connection, Stream, Variant};
use prost::Message as _;
use tonic::Code;

use super::{World, alone};

const HDS: &str = "/envoy.service.health.v3.HealthDiscoveryService/StreamHealthCheck";
const MESH: &str = "\
services:
  order-service:
    port: 8080
    health_check: {path: /alive, interval: 1s, timeout: 10ms}
    endpoints:
      - {id: order-1, host: 127.0.0.1, port: 15006}
      - {id: order-2, host: 127.0.0.1, port: 15007, app_port: 8090}
  plain-service:
    sidecar: false
    health_check: {tcp: true, interval: 1s, timeout: 10ms}
    endpoints: [{id: plain-1, host: 10.0.0.1, port: 80}]
";

/// What an Envoy says of addresses of a cluster.
type Words<'w> = &'w [(&'w str, &'w str, u32, HealthStatus)];

struct Reporter(Stream);

impl Reporter {
    fn open(world: &World, cluster: &str, id: &str) -> Result<Self> {
        let connection = Connection::open(world.server.xds)?;
        let events = connection.call(HDS, &[]);
        let mut stream = Stream::around(events, Variant::Sotw, id);
        let node = Node {
            id: id.into(),
            cluster: cluster.into(),
            ..Node::default()
        };
        let request = RequestType::HealthCheckRequest(HealthCheckRequest {
            node: Some(node),
            capability: None,
        });
        stream.send_bytes(&message(request));
        Ok(Self(stream))
    }

    fn asked(&mut self) -> Result<HealthCheckSpecifier> {
        Ok(HealthCheckSpecifier::decode(&*self.0.next_bytes()?)?)
    }

    fn say(&mut self, words: Words<'_>) {
        let clusters = words.iter().map(|(cluster, host, port, health)| {
            let socket = SocketAddress {
                address: (*host).into(),
                port_specifier: Some(PortSpecifier::PortValue(*port)),
                ..SocketAddress::default()
            };
            let endpoint = Endpoint {
                address: Some(Address {
                    address: Some(Kind::SocketAddress(socket)),
                }),
                ..Endpoint::default()
            };
            ClusterEndpointsHealth {
                cluster_name: (*cluster).into(),
                locality_endpoints_health: vec![LocalityEndpointsHealth {
                    locality: None,
                    endpoints_health: vec![EndpointHealth {
                        endpoint: Some(endpoint),
                        health_status: (*health).into(),
                        health_metadata: None,
                    }],
                }],
            }
        });
        let report = EndpointHealthResponse {
            cluster_endpoints_health: clusters.collect(),
            ..EndpointHealthResponse::default()
        };
        self.0
            .send_bytes(&message(RequestType::EndpointHealthResponse(report)));
    }
}

fn message(request: RequestType) -> Vec<u8> {
    let message = HealthCheckRequestOrEndpointHealthResponse {
        request_type: Some(request),
    };
    message.encode_to_vec()
}

/// About endpoints of others, by every name that might do.
const LIES: Words<'_> = &[
    (
        "health|order-service",
        "127.0.0.1",
        8090,
        HealthStatus::Unhealthy,
    ),
    (
        "health|order-service",
        "127.0.0.1",
        15007,
        HealthStatus::Unhealthy,
    ),
    ("order-service", "127.0.0.1", 8090, HealthStatus::Unhealthy),
    (
        "health|plain-service",
        "10.0.0.1",
        80,
        HealthStatus::Unhealthy,
    ),
    (
        "health|plain-service",
        "10.0.0.1",
        80,
        HealthStatus::Healthy,
    ),
];

const OWN: (&str, &str, u32, HealthStatus) = (
    "health|order-service",
    "127.0.0.1",
    8080,
    HealthStatus::Healthy,
);

#[test]
fn a_sidecar_speaks_for_its_own_endpoint_and_for_no_other() -> Result<()> {
    let world = alone(MESH)?;
    let mut honest = Reporter::open(&world, "order-service", "order-2")?;
    let asked = honest.asked()?;
    let cluster = asked
        .cluster_health_checks
        .first()
        .context("nothing asked")?;
    ensure!(
        cluster.cluster_name == "health|order-service",
        "{cluster:?}"
    );
    let endpoints = cluster
        .locality_endpoints
        .iter()
        .flat_map(|place| &place.endpoints);
    ensure!(endpoints.count() == 1, "{cluster:?}");
    honest.say(&[(
        "health|order-service",
        "127.0.0.1",
        8090,
        HealthStatus::Healthy,
    )]);
    world.becomes("order-2", "healthy")?;

    let mut liar = Reporter::open(&world, "order-service", "order-1")?;
    liar.asked()?;
    let mut stranger = Reporter::open(&world, "nobody", "order-2")?;
    stranger.say(LIES);
    for _ in 0..3 {
        liar.say(LIES);
    }
    // Reports are taken in order: when this one counts, the lies have been heard.
    liar.say(&[OWN]);
    world.becomes("order-1", "healthy")?;
    honest.say(&[(
        "health|order-service",
        "127.0.0.1",
        8090,
        HealthStatus::Healthy,
    )]);
    world.becomes("order-2", "healthy")?;
    ensure!(world.endpoint("plain-1")?["health"] == "unknown");
    let log = world.server.log();
    ensure!(!log.contains("is unhealthy"), "{log}");
    Ok(())
}

#[test]
fn nonsense_and_floods_end_at_most_their_own_stream() -> Result<()> {
    let world = alone(MESH)?;
    let mut sidecar = Reporter::open(&world, "order-service", "order-1")?;
    sidecar.asked()?;
    // A hundred thousand addresses and names that nobody asked about, and what is no address.
    let long = "x".repeat(10_000);
    let mut words = vec![
        (
            "health|order-service",
            "256.1.1.1",
            80,
            HealthStatus::Unhealthy,
        ),
        (
            "health|order-service",
            "127.0.0.1",
            70_000,
            HealthStatus::Unhealthy,
        ),
        (
            "health|<script>",
            "127.0.0.1",
            8080,
            HealthStatus::Unhealthy,
        ),
        (&long, &long, 8080, HealthStatus::Healthy),
    ];
    words.extend((0..60_000).map(|port| {
        (
            "health|order-service",
            "10.1.1.1",
            port,
            HealthStatus::Unhealthy,
        )
    }));
    sidecar.say(&words);
    sidecar.0.send_bytes(&[]);
    sidecar.say(&[OWN]);
    world.becomes("order-1", "healthy")?;
    // What is no message, and one that is too large.
    for (bytes, codes) in [
        (vec![0xff; 64], [Code::Internal, Code::InvalidArgument]),
        (
            vec![0; 5 * 1024 * 1024],
            [Code::OutOfRange, Code::ResourceExhausted],
        ),
    ] {
        let mut other = Reporter::open(&world, "order-service", "order-2")?;
        other.asked()?;
        other.0.send_bytes(&bytes);
        let end = other.0.ended()?;
        ensure!(codes.contains(&end.code), "{end:?}");
    }
    // Who begins with a report has not said who it is.
    let connection = Connection::open(world.server.xds)?;
    let mut rude = Stream::around(connection.call(HDS, &[]), Variant::Sotw, "");
    let report = RequestType::EndpointHealthResponse(EndpointHealthResponse::default());
    rude.send_bytes(&message(report));
    ensure!(rude.ended()?.code == Code::InvalidArgument);
    // All the while the good one was heard.
    sidecar.say(&[OWN]);
    world.becomes("order-1", "healthy")
}

#[test]
fn a_fleet_of_silent_streams_is_bounded_and_leaves_the_others_alone() -> Result<()> {
    let options = harness::server::Options {
        arguments: &["--max-streams", "20"],
        ..harness::server::Options::default()
    };
    let world = World::start_alone_with(MESH, &options)?;
    let mut sidecar = Reporter::open(&world, "order-service", "order-1")?;
    sidecar.asked()?;
    let mut silent = Vec::new();
    for _ in 0..19 {
        let mut one = Reporter::open(&world, "order-service", "order-2")?;
        one.asked()?;
        silent.push(one);
    }
    let mut too_many = Reporter::open(&world, "order-service", "order-2")?;
    let end = too_many.0.ended()?;
    ensure!(end.code == Code::ResourceExhausted, "{end:?}");
    sidecar.say(&[OWN]);
    world.becomes("order-1", "healthy")?;
    ensure!(world.endpoint("order-2")?["health"] == "unknown");
    // Their places are free again when they leave.
    drop(silent);
    harness::wait::wait_for("a free place", crate::door1::BOUND, || {
        let one = Reporter::open(&world, "order-service", "order-2");
        let mut one = one.map_err(|error| error.to_string())?;
        one.asked().map(drop).map_err(|error| error.to_string())
    })
}
