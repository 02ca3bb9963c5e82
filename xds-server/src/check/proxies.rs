//! What connected Envoys made of what they were sent.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{Group, Item, Level, Seen, ago, put_bounded, since};
use crate::{
    fleet::{StreamStatus, TypeStatus},
    proxies::State,
    resource::ResourceType,
    text::counted,
};

/// An Envoy that has not answered for so long is behind.
const BEHIND: Duration = Duration::from_secs(10);
/// The minor version of Envoy against which this program is tested.
const TESTED: (u32, u32) = (1, 40);

const STATUS: &str = "all of them: mumbai-mesh proxy status";

pub(super) fn look(seen: &Seen<'_>, items: &mut Vec<Item>) {
    let nodes: BTreeSet<&str> = seen.streams.iter().map(|one| &*one.node.id).collect();
    if nodes.is_empty() {
        items.push(Item::of(
            (Group::Proxies, Level::Info),
            "no-proxies",
            "no Envoy is connected",
            "start one with what `mumbai-mesh bootstrap NAME` writes; its log says why it cannot connect",
        ));
        return;
    }
    let before = items.len();
    let types = || {
        let streams = seen.streams.iter();
        streams.flat_map(|stream| {
            let types = stream.types().into_iter();
            types.map(move |(kind, status)| (stream, kind, status))
        })
    };
    let rejects = types().filter_map(|(stream, kind, status)| rejects(stream, kind, &status));
    put_bounded(items, rejects.collect(), STATUS);
    let behind = types().filter_map(|(stream, kind, status)| behind(seen, stream, kind, &status));
    put_bounded(items, behind.collect(), STATUS);
    let held = types().filter_map(|(stream, kind, status)| held(stream, kind, &status));
    put_bounded(items, held.collect(), STATUS);
    unknown(seen, items);
    if items.len() == before {
        let all = counted(nodes.len(), "node");
        let sentence = format!("{all} connected, and each has what it should have");
        items.push(Item::ok(Group::Proxies, "proxies", sentence));
    }
    versions(seen, items);
    filters(seen, items);
}

fn name(stream: &StreamStatus) -> String {
    format!("{} ({})", stream.node.id, stream.node.cluster)
}

fn rejects(stream: &StreamStatus, kind: ResourceType, status: &TypeStatus) -> Option<Item> {
    let nack = status
        .nack
        .as_ref()
        .filter(|_| State::of(status) == State::Rejected)?;
    let (who, api) = (name(stream), kind.api());
    let names: Vec<&str> = status
        .refused
        .iter()
        .take(3)
        .map(|one| &*one.name)
        .collect();
    let of = match names.is_empty() {
        true => String::new(),
        false => format!(" of {}", names.join(", ")),
    };
    Some(Item::of(
        (Group::Proxies, Level::Error),
        "proxy-rejects",
        format!("{who} rejects {api}{of}: {}", nack.message),
        "change what it names; until then this Envoy goes on with what it had",
    ))
}

fn behind(
    seen: &Seen<'_>,
    stream: &StreamStatus,
    kind: ResourceType,
    status: &TypeStatus,
) -> Option<Item> {
    let sent = status
        .sent_at
        .filter(|_| State::of(status) == State::Stale)?;
    if since(sent, seen.now) < BEHIND {
        return None;
    }
    let (who, api) = (name(stream), kind.api());
    Some(Item::of(
        (Group::Proxies, Level::Warning),
        "proxy-behind",
        format!("{who} has not answered {api} for {}", ago(sent, seen.now)),
        "it may be overloaded or stopped: look at its log and its CPU; it is cut after 60 s without reading",
    ))
}

fn held(stream: &StreamStatus, kind: ResourceType, status: &TypeStatus) -> Option<Item> {
    let first = status.held.first()?;
    let (who, api) = (name(stream), kind.api());
    Some(Item::of(
        (Group::Proxies, Level::Warning),
        "proxy-held-back",
        format!(
            "{who} is not sent {api} {}, since it rejected {} {}",
            first.name,
            first.kind.api(),
            first.because
        ),
        "mend what it rejected; the rest follows by itself",
    ))
}

/// Nodes that ask and are sent nothing.
fn unknown(seen: &Seen<'_>, items: &mut Vec<Item>) {
    let knows = |cluster: &str| {
        let member = policy::units::ServiceName::new(cluster);
        member.is_ok_and(|name| {
            seen.mesh.services.contains_key(&name) || seen.mesh.gateways.contains_key(&name)
        })
    };
    let is_sent_nothing = |stream: &Arc<StreamStatus>| {
        let types = stream.types();
        types.iter().all(|(_, status)| status.known == 0)
    };
    let strangers = seen
        .streams
        .iter()
        .filter(|stream| !knows(&stream.node.cluster) && is_sent_nothing(stream));
    let found = strangers.map(|stream| {
        Item::of(
            (Group::Proxies, Level::Warning),
            "proxy-unknown",
            format!("{} is sent nothing", name(stream)),
            "its node.cluster must be a service or a gateway of the mesh, or raw resources must name it",
        )
    });
    put_bounded(items, found.collect(), STATUS);
}

fn versions(seen: &Seen<'_>, items: &mut Vec<Item>) {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for stream in seen
        .streams
        .iter()
        .filter(|one| one.node.user_agent == "envoy")
    {
        let node = &stream.node;
        versions.entry(&node.version).or_default().insert(&node.id);
    }
    for (version, nodes) in versions {
        let mut parts = version.split('.').map(str::parse::<u32>);
        let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
            continue;
        };
        let all = counted(nodes.len(), "Envoy");
        let (level, fix) = match (major, minor).cmp(&TESTED) {
            std::cmp::Ordering::Equal => {
                let sentence = format!("{all} of version {version}");
                items.push(Item::ok(Group::Proxies, "envoy-version", sentence));
                continue;
            }
            std::cmp::Ordering::Less => (
                Level::Warning,
                "update it: older ones lack fields that are sent here",
            ),
            std::cmp::Ordering::Greater => (
                Level::Info,
                "watch its rejections when it comes to more nodes",
            ),
        };
        let sentence = format!(
            "{all} of version {version}; tested is {}.{}",
            TESTED.0, TESTED.1
        );
        items.push(Item::of(
            (Group::Proxies, level),
            "envoy-version",
            sentence,
            fix,
        ));
    }
}

/// Envoys that have a file of another filter than is served: they are sent ours inline, 400 kB each.
fn filters(seen: &Seen<'_>, items: &mut Vec<Item>) {
    let others: BTreeSet<&str> = seen
        .streams
        .iter()
        .filter(|stream| {
            let has = stream.node.filter_sha256.as_deref();
            has.is_some_and(|has| has != seen.filter_sha256)
        })
        .map(|stream| &*stream.node.id)
        .collect();
    if others.is_empty() {
        return;
    }
    let shown: Vec<&str> = others.iter().take(5).copied().collect();
    let sentence = format!(
        "{} with the file of another filter than {}…: {}",
        counted(others.len(), "node"),
        seen.filter_sha256.get(..12).unwrap_or_default(),
        shown.join(", ")
    );
    items.push(Item::of(
        (Group::Proxies, Level::Info),
        "filter-differs",
        sentence,
        "they are sent this server's filter inline; write their bootstraps again to have it from a file",
    ));
}
