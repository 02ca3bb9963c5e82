//! The services' methods: which path leads to which type and variant.

use std::{convert::Infallible, sync::Arc};

use axum::{Router, body::Body, extract::Request, response::Response, routing::post};
use http::{HeaderValue, Uri, header::CONTENT_TYPE};
use tonic::Status;

use super::{
    Discovery, client_status,
    connection::ConnectionInfo,
    health_discovery, load_stats,
    notices::{About, Bound},
    stream::Stream,
};
use crate::{
    discovery::Variant,
    metrics::{Refused, Service},
    resource::ResourceType,
};

use ResourceType::{
    Cluster, ClusterLoadAssignment, ExtensionConfig, Listener, RouteConfiguration, Runtime, Secret,
};

/// Services of `envoy/service/*/v3/*.proto`, and their streaming methods after `Stream` and `Delta`.
/// Their `Fetch` methods are for REST, which Envoys do not speak to this port.
const SERVICES: [(Service, &str, &str); 8] = [
    (
        Service::Aggregated,
        "envoy.service.discovery.v3.AggregatedDiscoveryService",
        "AggregatedResources",
    ),
    (
        Service::Single(Listener),
        "envoy.service.listener.v3.ListenerDiscoveryService",
        "Listeners",
    ),
    (
        Service::Single(RouteConfiguration),
        "envoy.service.route.v3.RouteDiscoveryService",
        "Routes",
    ),
    (
        Service::Single(Cluster),
        "envoy.service.cluster.v3.ClusterDiscoveryService",
        "Clusters",
    ),
    (
        Service::Single(ClusterLoadAssignment),
        "envoy.service.endpoint.v3.EndpointDiscoveryService",
        "Endpoints",
    ),
    (
        Service::Single(Secret),
        "envoy.service.secret.v3.SecretDiscoveryService",
        "Secrets",
    ),
    (
        Service::Single(ExtensionConfig),
        "envoy.service.extension.v3.ExtensionConfigDiscoveryService",
        "ExtensionConfigs",
    ),
    (
        Service::Single(Runtime),
        "envoy.service.runtime.v3.RuntimeDiscoveryService",
        "Runtime",
    ),
];

/// Of a path that is not served, so much is repeated.
const PATH_SHOWN_MAX: usize = 200;

/// Full names of the services that are served.
pub fn service_names() -> impl Iterator<Item = &'static str> {
    SERVICES.iter().map(|(_, name, _)| *name)
}

/// Answers a call to what is not served.
pub(super) async fn not_served(path: Uri) -> Response {
    let path: String = path.path().chars().take(PATH_SHOWN_MAX).collect();
    let names: Vec<&str> = service_names().collect();
    let text = format!(
        "{path} is not served here. Served are the methods Stream… and Delta… of {}; and {}, {}, {}, \
         grpc.health.v1.Health and reflection, which tells it all: grpcurl HOST:PORT list",
        names.join(", "),
        client_status::NAME,
        load_stats::NAME,
        health_discovery::NAME,
    );
    Status::unimplemented(text).into_http()
}

/// Which method was called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Door {
    pub(super) service: Service,
    pub(super) variant: Variant,
}

/// Adds every service's methods.
pub(super) fn add_all(mut router: Router, discovery: &Arc<Discovery>) -> Router {
    for (service, name, method) in SERVICES {
        for (variant, prefix) in [
            (Variant::StateOfTheWorld, "Stream"),
            (Variant::Delta, "Delta"),
        ] {
            let door = Door { service, variant };
            let discovery = Arc::clone(discovery);
            let handler = move |request: Request| {
                let discovery = Arc::clone(&discovery);
                async move { Ok::<_, Infallible>(enter(door, discovery, request)) }
            };
            router = router.route(&format!("/{name}/{prefix}{method}"), post(handler));
        }
    }
    router
}

fn enter(door: Door, discovery: Arc<Discovery>, request: Request) -> Response {
    let grpc = request.headers().get(CONTENT_TYPE);
    if !grpc.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        return Status::invalid_argument("this is a gRPC method").into_http();
    }
    let connection = request.extensions().get::<ConnectionInfo>().cloned();
    let about = |detail, bound| About {
        service: door.service.name(),
        peer: connection.as_ref().and_then(|connection| connection.peer),
        detail,
        bound,
        ..About::default()
    };
    if discovery.draining.is_cancelled() {
        let text = "the server is stopping";
        discovery.refused(Refused::Stopping, &about(text, None));
        return Status::unavailable(text).into_http();
    }
    let Some(place) = discovery.fleet.admit() else {
        let text = "as many streams are open as --max-streams allows";
        let bound = Bound::Streams(discovery.fleet.streams_max());
        discovery.refused(Refused::TooMany, &about(text, Some(bound)));
        return Status::resource_exhausted(text).into_http();
    };
    let stream = Stream::new(door, discovery, place, connection, request.into_body());
    let mut response = Response::new(Body::new(stream));
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, grpc);
    response
}
