//! HDS: tells each Envoy what to check, and hands what it reports to its owner.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use envoy_types::pb::envoy::{
    config::{
        core::v3::{HealthStatus, address::Address, socket_address::PortSpecifier},
        endpoint::v3::Endpoint,
    },
    service::health::v3::{
        ClusterEndpointsHealth, EndpointHealth, EndpointHealthResponse,
        HealthCheckRequestOrEndpointHealthResponse, HealthCheckSpecifier,
        health_check_request_or_endpoint_health_response::RequestType,
        health_discovery_service_server::{HealthDiscoveryService, HealthDiscoveryServiceServer},
    },
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, error};

use super::{
    Discovery, REQUEST_BYTES_MAX,
    connection::ConnectionInfo,
    reporters::{Conversation, Told, first, told},
};
use crate::{
    compile::specifier,
    health::{Heard, Task, owner::Reporting},
    metrics::OpenStream,
    resource::NodeKey,
};

pub(super) const NAME: &str = "envoy.service.health.v3.HealthDiscoveryService";
/// A client that reports more often than anybody asked is read no faster.
const READ_EVERY: Duration = Duration::from_millis(25);

/// The service that has endpoints checked.
pub(super) fn service(discovery: Arc<Discovery>) -> HealthDiscoveryServiceServer<Checks> {
    HealthDiscoveryServiceServer::new(Checks(discovery))
        .max_decoding_message_size(REQUEST_BYTES_MAX)
}

#[derive(Clone)]
pub(super) struct Checks(Arc<Discovery>);

type Message = HealthCheckRequestOrEndpointHealthResponse;

#[tonic::async_trait]
impl HealthDiscoveryService for Checks {
    type StreamHealthCheckStream = Told<HealthCheckSpecifier>;

    async fn stream_health_check(
        &self,
        requests: Request<Streaming<Message>>,
    ) -> Result<Response<Self::StreamHealthCheckStream>, Status> {
        let connection = requests.extensions().get::<ConnectionInfo>().cloned();
        Ok(told(Stream {
            service: self.clone(),
            connection,
            requests: requests.into_inner(),
            open: None,
        }))
    }

    async fn fetch_health_check(
        &self,
        _: Request<Message>,
    ) -> Result<Response<HealthCheckSpecifier>, Status> {
        Err(Status::unimplemented(
            "endpoints are checked by those who stream: StreamHealthCheck",
        ))
    }
}

/// A stream whose node is known.
struct Open {
    reporting: Reporting,
    /// Nothing is sent before there is something to check.
    was_asked: bool,
    next_read: Instant,
    _counted: OpenStream,
}

/// One stream: who it is; then tasks to it and reports from it, until it ends.
struct Stream {
    service: Checks,
    connection: Option<ConnectionInfo>,
    requests: Streaming<Message>,
    open: Option<Open>,
}

impl Conversation for Stream {
    type Tells = HealthCheckSpecifier;

    fn stopping(&self) -> CancellationToken {
        self.service.0.stopping.clone()
    }

    async fn talk(&mut self) -> Result<Option<HealthCheckSpecifier>, Status> {
        if self.open.is_none() {
            let Some(first) = first(&mut self.requests).await? else {
                return Ok(None);
            };
            let open = self.service.begin(first, self.connection.as_ref())?;
            self.open = Some(open);
        }
        let Some(open) = &mut self.open else {
            return Ok(None);
        };
        loop {
            tokio::select! {
                changed = open.reporting.tasks.changed() => {
                    // Its sender lives as long as the stream's own place.
                    changed.map_err(|_| Status::unavailable("the server is stopping"))?;
                    let task = Arc::clone(&open.reporting.tasks.borrow_and_update());
                    if open.was_asked || !task.is_empty() {
                        open.was_asked = true;
                        return Ok(self.service.specifier(&task));
                    }
                }
                request = read(&mut self.requests, open.next_read) => {
                    let Some(request) = request? else {
                        return Ok(None);
                    };
                    open.next_read = Instant::now() + READ_EVERY;
                    self.service.take(&open.reporting, request);
                }
            }
        }
    }
}

/// The next message, but not before its time. Nothing is lost when it is not waited for to the end.
async fn read(
    requests: &mut Streaming<Message>,
    not_before: Instant,
) -> Result<Option<Message>, Status> {
    sleep_until(not_before).await;
    requests.message().await
}

impl Checks {
    fn begin(&self, first: Message, connection: Option<&ConnectionInfo>) -> Result<Open, Status> {
        let node = match first.request_type {
            Some(RequestType::HealthCheckRequest(request)) => request.node.unwrap_or_default(),
            Some(RequestType::EndpointHealthResponse(_)) | None => {
                let text = "health_check_request: must be the first message";
                return Err(Status::invalid_argument(text));
            }
        };
        let key = self.0.reporter(NAME, &node, connection)?;
        debug!(node = key.id, "may be asked to check endpoints");
        // All that decides what it is asked.
        let key = NodeKey {
            id: key.id,
            cluster: key.cluster,
            ..NodeKey::default()
        };
        let mut reporting = self.0.health.open(key.clone()).ok_or_else(|| {
            let who = (&*key.id, &*key.cluster);
            self.0.too_many_reporters("HDS", who, connection)
        })?;
        // What it is asked at once is told like all that is asked later.
        reporting.tasks.mark_changed();
        Ok(Open {
            reporting,
            was_asked: false,
            next_read: Instant::now(),
            _counted: self.0.fleet.metrics().checking(),
        })
    }

    fn specifier(&self, task: &Task) -> Option<HealthCheckSpecifier> {
        let groups = task.iter().map(|(name, group)| {
            let addresses = group.targets.keys().copied().collect();
            (name, group.protocol, &group.check, addresses)
        });
        match self.0.encoder.specifier(&specifier(groups)) {
            Ok(specifier) => Some(specifier),
            Err(problem) => {
                error!(%problem, "what is to be checked cannot be told");
                None
            }
        }
    }

    fn take(&self, reporting: &Reporting, request: Message) {
        let Some(RequestType::EndpointHealthResponse(report)) = request.request_type else {
            return;
        };
        self.0.fleet.metrics().health_reported();
        reporting.report(&heard(report));
    }
}

/// What a report says that makes sense.
fn heard(report: EndpointHealthResponse) -> Vec<Heard> {
    let clusters = report.cluster_endpoints_health.into_iter();
    clusters
        .map(|cluster| {
            let ClusterEndpointsHealth {
                cluster_name,
                locality_endpoints_health,
            } = cluster;
            let places = locality_endpoints_health.into_iter();
            let endpoints = places.flat_map(|place| place.endpoints_health);
            Heard {
                cluster: cluster_name,
                addresses: endpoints.filter_map(word).collect(),
            }
        })
        .collect()
}

fn word(endpoint: EndpointHealth) -> Option<(SocketAddr, bool)> {
    let healthy = match HealthStatus::try_from(endpoint.health_status).ok()? {
        HealthStatus::Healthy | HealthStatus::Degraded => true,
        HealthStatus::Unhealthy | HealthStatus::Timeout | HealthStatus::Draining => false,
        HealthStatus::Unknown => return None,
    };
    Some((address(endpoint.endpoint?)?, healthy))
}

fn address(endpoint: Endpoint) -> Option<SocketAddr> {
    let Address::SocketAddress(socket) = endpoint.address?.address? else {
        return None;
    };
    let PortSpecifier::PortValue(port) = socket.port_specifier? else {
        return None;
    };
    Some(
        (
            socket.address.parse::<std::net::IpAddr>().ok()?,
            u16::try_from(port).ok()?,
        )
            .into(),
    )
}
