//! The fleet as people look at it: each connected node with its streams, and what became of each type
//! on them. Pure; the API, the command line and the metrics show what this finds.

mod config;
#[cfg(test)]
pub(crate) mod imagined;
pub mod rollout;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use policy::time::{CivilZone, WallTime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::config::{Asked, Configs, NodeConfig, UnknownNode, config};
use crate::{
    discovery::Variant,
    fleet::{Nack, NodeInfo, StreamStatus, TypeStatus},
    metrics::Observed,
    page::{Listed, Page, Paged},
    resource::ResourceType,
};

/// What became of a type on a stream, the better before the worse.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schemars(rename = "ProxyState")]
pub enum State {
    /// Asked for, and there was nothing to send.
    NotSent,
    /// The newest response was accepted, or the client came with what it should have.
    Synced,
    /// The newest response is not answered yet.
    Stale,
    /// The newest answer was a rejection; the client keeps what it had.
    Rejected,
}

impl State {
    /// Of one type.
    pub fn of(status: &TypeStatus) -> Self {
        if status.waiting {
            Self::Stale
        } else if status.nack.is_some() {
            Self::Rejected
        } else if status.sent.is_empty() && status.known == 0 {
            Self::NotSent
        } else {
            Self::Synced
        }
    }

    /// `SYNCED`, ….
    pub fn name(self) -> &'static str {
        match self {
            Self::NotSent => "NOT_SENT",
            Self::Synced => "SYNCED",
            Self::Stale => "STALE",
            Self::Rejected => "REJECTED",
        }
    }
}

/// Which nodes are shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ProxiesQuery")]
pub struct Wanted {
    /// This `node.id` only.
    pub node: Option<String>,
    /// Those of this `node.cluster` only.
    pub cluster: Option<String>,
    /// Nodes whose id comes after this one: the `next` of an earlier page.
    pub after: Option<String>,
    /// At most so many nodes.
    pub limit: Option<usize>,
}

impl Paged for Wanted {
    fn limit(&self) -> Option<usize> {
        self.limit
    }
}

impl Wanted {
    fn wants(&self, id: &str, cluster: &str) -> bool {
        self.node.as_deref().is_none_or(|node| node == id)
            && self
                .cluster
                .as_deref()
                .is_none_or(|wanted| wanted == cluster)
            && self.after.as_deref().is_none_or(|after| id > after)
    }
}

/// One connected node.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Proxy {
    id: String,
    cluster: String,
    user_agent: String,
    version: String,
    locality: Locality,
    /// The worst of its types.
    state: State,
    /// Among how many proxies, itself included, it shares limits with `scope: fleet`; none where it has none.
    fleet_size: Option<u32>,
    streams: Vec<Stream>,
}

impl Listed for Proxy {
    type Key = String;
    const NAME: &'static str = "proxies";

    fn key(&self) -> String {
        self.id.clone()
    }
}

/// Where a node says that it is.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ProxyLocality")]
struct Locality {
    region: String,
    zone: String,
    sub_zone: String,
}

/// An open stream of a node.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ProxyStream")]
struct Stream {
    service: &'static str,
    variant: &'static str,
    peer: Option<String>,
    connected_at: String,
    bytes_sent: u64,
    responses: u64,
    acks: u64,
    nacks: u64,
    types: Vec<Type>,
}

/// What became of a type on a stream.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ProxyType")]
struct Type {
    #[serde(rename = "type")]
    api: &'static str,
    type_url: &'static str,
    state: State,
    sent: String,
    sent_at: Option<String>,
    acked: String,
    acked_at: Option<String>,
    /// Its newest answer, when that was a rejection.
    nack: Option<Rejection>,
    /// The newest rejection of this stream, mended since or not.
    last_nack: Option<Rejection>,
    /// What it rejected and is not sent again, by name.
    rejected: Vec<String>,
    /// What it is not sent because of what it rejected.
    held_back: Vec<HeldBack>,
    /// Subscribed to all there are.
    wildcard: bool,
    /// Subscribed by name.
    names: usize,
    /// Resources that it has, or was offered.
    resources: usize,
}

/// A rejection.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ProxyRejection")]
struct Rejection {
    version: String,
    message: String,
    at: String,
}

/// A resource that is held back.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "HeldBack")]
struct HeldBack {
    name: String,
    /// What it needs: `CDS`, ….
    because_type: &'static str,
    because: String,
}

/// Of what one node rejected, or is not sent for that, so much is shown.
const SHOWN_MAX: usize = 100;

/// The nodes that are wanted, with times as clocks of this zone show them.
pub fn page(streams: &[Arc<StreamStatus>], wanted: &Wanted, zone: &CivilZone) -> Page<Proxy> {
    let limit = wanted.size();
    let mut nodes: BTreeMap<(&str, &str), Vec<&StreamStatus>> = BTreeMap::new();
    for stream in streams {
        let node = &stream.node;
        if wanted.wants(&node.id, &node.cluster) {
            let key = (&*node.id, &*node.cluster);
            nodes.entry(key).or_default().push(stream);
        }
    }
    // A page ends between two ids, so that `after` loses nobody.
    let mut proxies: Vec<Proxy> = Vec::new();
    let mut left_off = 0;
    for ((id, _), streams) in nodes {
        let same_id = proxies.last().is_some_and(|last| last.id == id);
        if left_off > 0 || (proxies.len() >= limit && !same_id) {
            left_off += 1;
        } else {
            proxies.extend(proxy(&streams, zone));
        }
    }
    Page {
        items: proxies,
        left_off,
    }
}

/// A page with what `sizes` says of each `node.cluster`.
#[must_use]
pub fn with_fleet_sizes(mut page: Page<Proxy>, sizes: impl Fn(&str) -> Option<u32>) -> Page<Proxy> {
    for proxy in &mut page.items {
        proxy.fleet_size = sizes(&proxy.cluster);
    }
    page
}

/// One node by its streams; none without any.
fn proxy(streams: &[&StreamStatus], zone: &CivilZone) -> Option<Proxy> {
    let node = &streams.first()?.node;
    let streams: Vec<Stream> = streams.iter().map(|one| stream(one, zone)).collect();
    let types = streams.iter().flat_map(|stream| &stream.types);
    Some(Proxy {
        id: node.id.clone(),
        cluster: node.cluster.clone(),
        user_agent: node.user_agent.clone(),
        version: node.version.clone(),
        locality: locality(node),
        state: types.map(|kind| kind.state).max().unwrap_or(State::NotSent),
        fleet_size: None,
        streams,
    })
}

fn locality(node: &NodeInfo) -> Locality {
    Locality {
        region: node.region.clone(),
        zone: node.zone.clone(),
        sub_zone: node.sub_zone.clone(),
    }
}

fn told(kind: ResourceType, status: &TypeStatus, zone: &CivilZone) -> Type {
    let time = |at: WallTime| zone.rfc3339(at);
    let rejection = |nack: &Nack| Rejection {
        version: nack.version.to_string(),
        message: nack.message.clone(),
        at: time(nack.at),
    };
    Type {
        api: kind.api(),
        type_url: kind.url(),
        state: State::of(status),
        sent: status.sent.to_string(),
        sent_at: status.sent_at.map(time),
        acked: status.acked.to_string(),
        acked_at: status.acked_at.map(time),
        nack: status.nack.as_ref().map(rejection),
        last_nack: status.last_nack.as_deref().map(rejection),
        rejected: {
            let names = status.refused.iter().map(|one| one.name.to_string());
            names.take(SHOWN_MAX).collect()
        },
        held_back: {
            let held = status.held.iter().map(|held| HeldBack {
                name: held.name.to_string(),
                because_type: held.kind.api(),
                because: held.because.to_string(),
            });
            held.take(SHOWN_MAX).collect()
        },
        wildcard: status.wildcard,
        names: status.names,
        resources: status.known,
    }
}

fn stream(stream: &StreamStatus, zone: &CivilZone) -> Stream {
    let types = stream.types();
    let types = types.iter().map(|(kind, status)| told(*kind, status, zone));
    Stream {
        service: stream.service.name(),
        variant: match stream.variant {
            Variant::StateOfTheWorld => "sotw",
            Variant::Delta => "delta",
        },
        peer: stream.peer.map(|peer| peer.to_string()),
        connected_at: zone.rfc3339(stream.connected_at),
        bytes_sent: stream.bytes_sent(),
        responses: stream.responses(),
        acks: stream.acks(),
        nacks: stream.nacks(),
        types: types.collect(),
    }
}

/// What the metrics say of the fleet.
pub fn observed(streams: &[Arc<StreamStatus>], now: WallTime) -> Observed {
    let mut observed = Observed {
        nodes: streams
            .iter()
            .map(|stream| &*stream.node.id)
            .collect::<BTreeSet<_>>()
            .len(),
        ..Observed::default()
    };
    for stream in streams {
        for (kind, status) in stream.types() {
            match State::of(&status) {
                State::Stale => {
                    observed.unanswered += 1;
                    let age = status.sent_at.map(|sent| between(sent, now));
                    observed.queue_age = observed.queue_age.max(age.unwrap_or_default());
                }
                State::Rejected => observed.rejecting[kind as usize] += 1,
                State::NotSent | State::Synced => {}
            }
        }
    }
    observed
}

/// Zero when the clock was set back in between.
fn between(earlier: WallTime, later: WallTime) -> Duration {
    let millis = later.unix_millis().saturating_sub(earlier.unix_millis());
    Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}
