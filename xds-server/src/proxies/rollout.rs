//! Whether connected nodes have what they are to be sent now, and what they rejected since a moment.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    discovery::Has,
    fleet::{StreamStatus, TypeStatus},
    resource::{Collection, NodeKey, ResourceType, View},
};

/// A rejection, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rejection {
    /// `node.id`.
    pub node: String,
    /// `node.cluster`.
    pub cluster: String,
    /// `CDS`, ….
    #[serde(rename = "type")]
    pub kind: Cow<'static, str>,
    /// What it rejected, by name; none where its words tell nothing of that.
    pub resources: Vec<String>,
    /// The node's words.
    pub message: String,
}

/// Where a stream stands with what its node is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has accepted all of it.
    Done,
    /// It has not answered for all of it.
    Pending,
    /// It rejected what it was sent because of the change or later, and had not rejected before.
    Rejected(Vec<Rejection>),
}

/// What nodes had rejected at a moment: a change is not to blame for it.
#[derive(Debug, Default)]
pub struct Rejected(HashSet<Key>);

/// Node, cluster, type, name and version; with words where no name is known.
type Key = (String, String, ResourceType, String, String);

impl Rejected {
    /// By these streams, now.
    pub fn by<'s>(streams: impl IntoIterator<Item = &'s StreamStatus>) -> Self {
        let of = |stream: &'s StreamStatus| {
            let types = stream.types().into_iter();
            types.flat_map(|(kind, status)| keys(stream, kind, &status))
        };
        Self(streams.into_iter().flat_map(of).collect())
    }

    /// By these streams, of views that were published before this one.
    pub fn earlier_than<'s>(
        update: u64,
        streams: impl IntoIterator<Item = &'s StreamStatus>,
    ) -> Self {
        let is_earlier =
            |status: &TypeStatus| status.nack.as_ref().is_some_and(|one| one.update < update);
        let of = |stream: &'s StreamStatus| {
            let types = stream.types().into_iter();
            let earlier = types.filter(|(_, status)| is_earlier(status));
            earlier.flat_map(|(kind, status)| keys(stream, kind, &status))
        };
        Self(streams.into_iter().flat_map(of).collect())
    }
}

fn keys(stream: &StreamStatus, kind: ResourceType, status: &TypeStatus) -> Vec<Key> {
    let key = |name: &str, what: &str| {
        let node = &stream.node;
        let of = (node.id.clone(), node.cluster.clone());
        (of.0, of.1, kind, name.to_string(), what.to_string())
    };
    match &status.nack {
        None => Vec::new(),
        Some(nack) if status.refused.is_empty() => vec![key("", &nack.message)],
        Some(_) => {
            let refused = status.refused.iter();
            refused
                .map(|refused| key(&refused.name, &refused.version))
                .collect()
        }
    }
}

/// What a change is to blame for.
#[derive(Debug, Clone, Copy)]
pub struct Blame<'b> {
    /// Rejections of views that were published with it or after it: number of the first.
    pub since: u64,
    /// Not what was rejected already, which a client that comes back is sent once more.
    pub before: &'b Rejected,
}

/// Where a stream stands with a change.
pub fn standing(stream: &StreamStatus, view: &View, blame: Blame<'_>) -> Standing {
    let mut rejections = Vec::new();
    let mut is_pending = false;
    for (kind, status) in stream.types() {
        // The newest rejection stays noted until something newer is accepted.
        let nack = status.nack.as_ref();
        let nack = nack.filter(|nack| nack.update >= blame.since);
        let new = keys(stream, kind, &status);
        let mut new = new.into_iter().filter(|key| !blame.before.0.contains(key));
        if let (Some(nack), Some(first)) = (nack, new.next()) {
            let names = [first].into_iter().chain(new).map(|key| key.3);
            rejections.push(Rejection {
                node: stream.node.id.clone(),
                cluster: stream.node.cluster.clone(),
                kind: kind.api().into(),
                resources: names.filter(|name| !name.is_empty()).collect(),
                message: nack.message.clone(),
            });
        }
        is_pending |= status.waiting || !has_all(kind, &status, view.collection(kind));
    }
    match (rejections.is_empty(), is_pending) {
        (false, _) => Standing::Rejected(rejections),
        (true, true) => Standing::Pending,
        (true, false) => Standing::Done,
    }
}

/// One look at all nodes.
#[derive(Debug, Default)]
pub struct Look {
    /// Who is connected.
    pub nodes: HashSet<String>,
    /// Of those: who has not answered, in order.
    pub pending: Vec<String>,
    /// What they rejected.
    pub rejections: Vec<Rejection>,
    /// Streams that have all of it.
    pub done: HashSet<u64>,
}

/// Looks where all streams stand with a change; those that were `done` at an earlier look are so still. `views` is what
/// each node is to be sent now.
pub fn look(
    streams: &[Arc<StreamStatus>],
    views: &[(NodeKey, Arc<View>)],
    blame: Blame<'_>,
    done: HashSet<u64>,
) -> Look {
    let mut found = Look {
        done,
        ..Look::default()
    };
    let mut views_of: HashMap<(&str, &str), Vec<&View>> = HashMap::new();
    for (node, view) in views {
        let node = (&*node.id, &*node.cluster);
        views_of.entry(node).or_default().push(view);
    }
    for stream in streams {
        let node = &stream.node;
        found.nodes.insert(node.id.clone());
        if found.done.contains(&stream.number) {
            continue;
        }
        let views = views_of.get(&(&*node.id, &*node.cluster));
        let views = views.into_iter().flatten();
        let mut standings = views.map(|view| standing(stream, view, blame));
        // A stream that has not asked for anything is to be sent nothing.
        let first = standings.next().unwrap_or(Standing::Done);
        let best = standings.fold(first, |best, other| match best {
            Standing::Pending => other,
            best => best,
        });
        match best {
            Standing::Done => _ = found.done.insert(stream.number),
            Standing::Pending => found.pending.push(node.id.clone()),
            Standing::Rejected(more) => found.rejections.extend(more),
        }
    }
    found.pending.sort_unstable();
    found.pending.dedup();
    found
}

/// Whether the node has answered for all that it wants of a type, as it is now.
fn has_all(kind: ResourceType, status: &TypeStatus, wanted: &Collection) -> bool {
    // What it rejected is not sent again, and what needs that waits.
    let is_excused = |name: &str| {
        status.refused.iter().any(|refused| *refused.name == *name)
            || status.held.iter().any(|held| *held.name == *name)
    };
    let has = |name: &str, has: Has<'_>| match (wanted.get(name), has) {
        (Some(resource), Has::Sent(sent)) => sent.version == resource.version,
        (Some(resource), Has::Kept(version)) => *version == *resource.version,
        (Some(_), Has::Absent | Has::Nothing) => false,
        (None, Has::Absent | Has::Nothing) => true,
        // Only of these every client is told that they are gone.
        (None, Has::Sent(_) | Has::Kept(_)) => !kind.is_full_state(),
    };
    let mut known = HashSet::new();
    for (name, found) in status.holding.each() {
        if !has(name, found) && !is_excused(name) {
            return false;
        }
        known.insert(name);
    }
    !status.wildcard
        || wanted.iter().all(|resource| {
            known.contains(&*resource.name)
                || resource.is_by_name_only()
                || is_excused(&resource.name)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        discovery::Variant,
        proxies::imagined::{Talk, all, subscribe},
        resource::Resource,
    };

    const CDS: ResourceType = ResourceType::Cluster;

    fn view(clusters: &[(&str, &str)]) -> Arc<View> {
        let resource = |(name, version): &(&str, &str)| {
            let resource = Resource::new(CDS, name, version, b"");
            (CDS, Arc::new(resource))
        };
        Arc::new(View::new(clusters.iter().map(resource).collect()))
    }

    fn talks(view: &Arc<View>) -> [Talk; 2] {
        let mut delta = Talk::begin("edge-1", "edge", Variant::Delta, view);
        delta.ask(CDS, subscribe(&["*"], &[]));
        let mut sotw = Talk::begin("edge-2", "edge", Variant::StateOfTheWorld, view);
        sotw.ask(CDS, all(&[]));
        [delta, sotw]
    }

    fn blame(before: &Rejected) -> Blame<'_> {
        Blame { since: 0, before }
    }

    #[test]
    fn a_node_is_done_when_it_has_accepted_what_there_is_now() {
        let first = view(&[("a", "1"), ("b", "1")]);
        let second = view(&[("a", "2"), ("c", "1")]);
        let none = Rejected::default();
        for mut talk in talks(&first) {
            assert_eq!(
                standing(&talk.status, &first, blame(&none)),
                Standing::Pending
            );
            talk.answer(CDS, None);
            assert_eq!(standing(&talk.status, &first, blame(&none)), Standing::Done);
            // It has not even seen it.
            assert_eq!(
                standing(&talk.status, &second, blame(&none)),
                Standing::Pending
            );
            talk.see(&second);
            assert_eq!(
                standing(&talk.status, &second, blame(&none)),
                Standing::Pending
            );
            while standing(&talk.status, &second, blame(&none)) == Standing::Pending {
                talk.answer(CDS, None);
            }
            assert_eq!(
                standing(&talk.status, &second, blame(&none)),
                Standing::Done
            );
        }
    }

    #[test]
    fn what_was_rejected_before_is_nobodys_fault_now() {
        let first = view(&[("a", "1"), ("b", "1")]);
        let second = view(&[("a", "1"), ("b", "2")]);
        for mut talk in talks(&first) {
            talk.answer(CDS, None);
            talk.see(&second);
            talk.answer(CDS, Some("b: no such thing"));
            let none = Rejected::default();
            let Standing::Rejected(told) = standing(&talk.status, &second, blame(&none)) else {
                panic!("it was rejected");
            };
            assert_eq!(told[0].resources, ["b"]);
            assert_eq!(
                (&*told[0].kind, &*told[0].message),
                ("CDS", "b: no such thing")
            );
            let before = Rejected::by([&*talk.status]);
            assert_eq!(
                standing(&talk.status, &second, blame(&before)),
                Standing::Done
            );
        }
    }

    #[test]
    fn a_rejection_counts_against_the_change_that_was_sent_and_none_after_it() {
        let bad = view(&[("a", "1"), ("b", "bad")]);
        let mended = view(&[("a", "1"), ("b", "2")]);
        let worse = view(&[("a", "1"), ("b", "worse")]);
        for mut talk in talks(&view(&[("a", "1"), ("b", "1")])) {
            talk.answer(CDS, None);
            talk.see_as(1, &bad);
            talk.answer(CDS, Some("b: no such thing"));
            let before = Rejected::by([&*talk.status]);
            let since = |since| Blame {
                since,
                before: &before,
            };
            // What was rejected is no more, and the answer to what came in its place is not here yet.
            talk.see_as(2, &mended);
            assert_eq!(standing(&talk.status, &mended, since(2)), Standing::Pending);
            while standing(&talk.status, &mended, since(2)) == Standing::Pending {
                talk.answer(CDS, None);
            }
            assert_eq!(standing(&talk.status, &mended, since(2)), Standing::Done);
            talk.see_as(3, &worse);
            talk.answer(CDS, Some("b: no such thing"));
            let told = standing(&talk.status, &worse, since(3));
            assert!(matches!(told, Standing::Rejected(_)), "{told:?}");
            assert_eq!(standing(&talk.status, &worse, since(4)), Standing::Done);
        }
    }
}
