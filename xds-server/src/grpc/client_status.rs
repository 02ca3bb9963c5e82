//! CSDS: what each connected node was sent, and what became of it, resource by resource, as
//! `envoy/service/status/v3/csds.proto` says it. Secrets are redacted.
//!
//! A rejection is told of a response, so which resources are ERROR is what the session found out: those that
//! the client's words name, else those that were new to it. Where nothing was, nobody knows, and all are.

mod matcher;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
    sync::Arc,
};

use bytes::Bytes;
use envoy_types::pb::{
    envoy::{
        admin::v3::{ClientResourceStatus, UpdateFailureState},
        config::core::v3::{Locality, Node, node::UserAgentVersionType},
        service::status::v3::{
            ClientConfig, ClientStatusRequest, ClientStatusResponse, ConfigStatus,
            client_config::GenericXdsConfig,
            client_status_discovery_service_server::{
                ClientStatusDiscoveryService, ClientStatusDiscoveryServiceServer,
            },
        },
    },
    google::protobuf::{Any, Timestamp},
};
use policy::time::WallTime;
use prost::Message as _;
use tokio::sync::Mutex;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::connection::ConnectionInfo;
use crate::{
    discovery::{Has, Refused, Variant},
    fleet::{Fleet, Nack, NodeInfo, StreamStatus, TypeStatus},
    proxies::State,
    redact::Redactor,
    resource::{Resource, ResourceType},
};

pub(super) const NAME: &str = "envoy.service.status.v3.ClientStatusDiscoveryService";
/// Of one answer.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A question is a list of matchers.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// The service over what this fleet is.
pub(super) fn service(
    fleet: Arc<Fleet>,
    redactor: Arc<Redactor>,
) -> ClientStatusDiscoveryServiceServer<ClientStatus> {
    let service = ClientStatus(Arc::new(Shared {
        fleet,
        redactor,
        turn: Mutex::default(),
    }));
    ClientStatusDiscoveryServiceServer::new(service).max_decoding_message_size(REQUEST_BYTES_MAX)
}

pub(super) struct ClientStatus(Arc<Shared>);

struct Shared {
    fleet: Arc<Fleet>,
    redactor: Arc<Redactor>,
    /// One answer is made at a time: each may hold much memory, and discovery goes first.
    turn: Mutex<()>,
}

impl Shared {
    async fn answer(
        self: Arc<Self>,
        request: ClientStatusRequest,
        only: Option<String>,
    ) -> Result<ClientStatusResponse, Status> {
        let _turn = self.turn.lock().await;
        let shared = Arc::clone(&self);
        let made = tokio::task::spawn_blocking(move || {
            let mut streams = shared.fleet.streams();
            if let Some(cluster) = only {
                streams.retain(|stream| stream.node.cluster == cluster);
            }
            answer(&streams, &request, &shared.redactor)
        });
        made.await
            .map_err(|error| Status::internal(error.to_string()))?
    }
}

#[tonic::async_trait]
impl ClientStatusDiscoveryService for ClientStatus {
    type StreamClientStatusStream =
        Pin<Box<dyn Stream<Item = Result<ClientStatusResponse, Status>> + Send>>;

    /// One answer to each request.
    async fn stream_client_status(
        &self,
        requests: Request<Streaming<ClientStatusRequest>>,
    ) -> Result<Response<Self::StreamClientStatusStream>, Status> {
        let shared = Arc::clone(&self.0);
        let only = own_cluster(&requests);
        let answers = requests.into_inner().then(move |request| {
            let shared = Arc::clone(&shared);
            let only = only.clone();
            async move { shared.answer(request?, only).await }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn fetch_client_status(
        &self,
        request: Request<ClientStatusRequest>,
    ) -> Result<Response<ClientStatusResponse>, Status> {
        let only = own_cluster(&request);
        let answer = Arc::clone(&self.0).answer(request.into_inner(), only);
        let answer = answer.await?;
        Ok(Response::new(answer))
    }
}

/// Who has an identity is told of its own service's nodes.
fn own_cluster<T>(request: &Request<T>) -> Option<String> {
    let connection = request.extensions().get::<ConnectionInfo>()?;
    Some(connection.who.member()?.name.to_string())
}

/// Nodes in the order of their ids, each with all of its streams.
fn answer(
    streams: &[Arc<StreamStatus>],
    request: &ClientStatusRequest,
    redactor: &Redactor,
) -> Result<ClientStatusResponse, Status> {
    let matchers = matcher::read(&request.node_matchers).map_err(Status::invalid_argument)?;
    let mut nodes: BTreeMap<(&str, &str), Vec<&StreamStatus>> = BTreeMap::new();
    for stream in streams {
        let node = &stream.node;
        if matchers.is_empty() || matchers.iter().any(|matcher| matcher.matches(&node.id)) {
            let key = (&*node.id, &*node.cluster);
            nodes.entry(key).or_default().push(stream);
        }
    }
    let mut shown = Shown {
        redactor: (!request.exclude_resource_contents).then_some(redactor),
        bodies: HashMap::new(),
    };
    let mut answer = ClientStatusResponse::default();
    let mut bytes = 0;
    for streams in nodes.values() {
        let config = client(streams, &mut shown);
        bytes += config.encoded_len();
        if bytes > ANSWER_BYTES_MAX {
            return Err(too_large(nodes.len()));
        }
        answer.config.push(config);
    }
    Ok(answer)
}

fn too_large(nodes: usize) -> Status {
    let limit = ANSWER_BYTES_MAX / 1024 / 1024;
    Status::resource_exhausted(format!(
        "the answer about {nodes} nodes would be larger than {limit} MiB: name fewer with node_matchers, \
         or leave the resources out with exclude_resource_contents"
    ))
}

/// Redacts each resource once, however many nodes have it.
struct Shown<'r> {
    /// None: contents are not wanted.
    redactor: Option<&'r Redactor>,
    /// By address, which stays taken for as long as the resource is held here.
    bodies: HashMap<*const Resource, (Arc<Resource>, Bytes)>,
}

impl Shown<'_> {
    fn any(&mut self, kind: ResourceType, resource: &Arc<Resource>) -> Option<Any> {
        let redactor = self.redactor?;
        let (_, body) = self.bodies.entry(Arc::as_ptr(resource)).or_insert_with(|| {
            let body = redactor.body(kind, &resource.body());
            (Arc::clone(resource), body)
        });
        Some(Any {
            type_url: kind.url().into(),
            value: body.to_vec(),
        })
    }
}

fn client(streams: &[&StreamStatus], shown: &mut Shown<'_>) -> ClientConfig {
    let mut configs = Vec::new();
    for stream in streams {
        for (kind, status) in stream.types() {
            configs.extend(type_configs(kind, &status, stream.variant, shown));
        }
    }
    ClientConfig {
        node: streams.first().map(|stream| node(&stream.node)),
        generic_xds_configs: configs,
        ..ClientConfig::default()
    }
}

/// One entry for each resource that the client has, was sent, or asked for by name; for a type without any,
/// one without a name that says why.
fn type_configs(
    kind: ResourceType,
    status: &TypeStatus,
    variant: Variant,
    shown: &mut Shown<'_>,
) -> Vec<GenericXdsConfig> {
    let all = GenericXdsConfig {
        type_url: kind.url().into(),
        version_info: status.sent.to_string(),
        last_updated: status.sent_at.map(timestamp),
        ..GenericXdsConfig::default()
    };
    let one = |(name, has): (&str, Has<'_>)| {
        let place = status.refused.binary_search_by(|one| (*one.name).cmp(name));
        let refused = place.ok().and_then(|place| status.refused.get(place));
        let (config_status, client_status) = became(status, has, name, refused.is_some());
        let version_info = match (has, variant) {
            (Has::Absent | Has::Nothing, _) => String::new(),
            (Has::Kept(version), _) => version.to_string(),
            (Has::Sent(_), Variant::StateOfTheWorld) => all.version_info.clone(),
            (Has::Sent(resource), Variant::Delta) => resource.version.to_string(),
        };
        GenericXdsConfig {
            name: name.to_string(),
            version_info,
            xds_config: match has {
                Has::Sent(resource) => shown.any(kind, resource),
                Has::Kept(_) | Has::Absent | Has::Nothing => None,
            },
            last_updated: match has {
                Has::Sent(_) => all.last_updated,
                Has::Kept(_) | Has::Absent | Has::Nothing => None,
            },
            config_status: config_status.into(),
            client_status: client_status.into(),
            error_state: match (refused, &status.nack) {
                (Some(refused), nack) => Some(failure(refused, variant, nack.as_ref())),
                (None, Some(nack)) if status.rejects_what_it_had() => Some(unknown_failure(nack)),
                (None, _) => None,
            },
            ..all.clone()
        }
    };
    let each: Vec<GenericXdsConfig> = status.holding.each().map(one).collect();
    if !each.is_empty() {
        return each;
    }
    let config_status = match State::of(status) {
        State::NotSent => ConfigStatus::NotSent,
        State::Synced => ConfigStatus::Synced,
        State::Stale => ConfigStatus::Stale,
        State::Rejected => ConfigStatus::Error,
    };
    vec![GenericXdsConfig {
        config_status: config_status.into(),
        error_state: status.nack.as_ref().map(unknown_failure),
        ..all
    }]
}

/// What became of a resource: for the server, and at the client.
fn became(
    status: &TypeStatus,
    has: Has<'_>,
    name: &str,
    is_refused: bool,
) -> (ConfigStatus, ClientResourceStatus) {
    use ClientResourceStatus::{Acked, DoesNotExist, Nacked, Requested};
    match has {
        _ if is_refused => (ConfigStatus::Error, Nacked),
        Has::Absent => (ConfigStatus::NotSent, DoesNotExist),
        Has::Nothing => (ConfigStatus::NotSent, Requested),
        Has::Sent(resource) if !status.holding.has_answered(resource) => {
            let had = status.holding.had(name);
            (ConfigStatus::Stale, if had { Acked } else { Requested })
        }
        Has::Sent(_) if status.rejects_what_it_had() => (ConfigStatus::Error, Nacked),
        Has::Sent(_) | Has::Kept(_) => (ConfigStatus::Synced, Acked),
    }
}

fn failure(refused: &Refused, variant: Variant, newest: Option<&Nack>) -> UpdateFailureState {
    // When an older one came is not kept.
    let newest = newest.filter(|newest| newest.version == refused.response);
    UpdateFailureState {
        last_update_attempt: newest.map(|newest| timestamp(newest.at)),
        details: refused.message.to_string(),
        version_info: match variant {
            Variant::StateOfTheWorld => refused.response.to_string(),
            Variant::Delta => refused.version.to_string(),
        },
        ..UpdateFailureState::default()
    }
}

fn unknown_failure(nack: &Nack) -> UpdateFailureState {
    UpdateFailureState {
        last_update_attempt: Some(timestamp(nack.at)),
        details: nack.message.clone(),
        version_info: nack.version.to_string(),
        ..UpdateFailureState::default()
    }
}

fn node(info: &NodeInfo) -> Node {
    let version = (!info.version.is_empty())
        .then(|| UserAgentVersionType::UserAgentVersion(info.version.clone()));
    Node {
        id: info.id.clone(),
        cluster: info.cluster.clone(),
        user_agent_name: info.user_agent.clone(),
        user_agent_version_type: version,
        locality: Some(Locality {
            region: info.region.clone(),
            zone: info.zone.clone(),
            sub_zone: info.sub_zone.clone(),
        }),
        ..Node::default()
    }
}

fn timestamp(at: WallTime) -> Timestamp {
    let millis = at.unix_millis();
    Timestamp {
        seconds: millis.div_euclid(1000),
        // Less than a thousand, so it fits.
        nanos: i32::try_from(millis.rem_euclid(1000)).unwrap_or_default() * 1_000_000,
    }
}
