//! The raw resources in force, by layers: every node's, those of a `node.cluster`, those of a `node.id`.
//! A revision never changes; the next one shares what stayed.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    sync::Arc,
};

use rpds::RedBlackTreeMapSync;

use super::{
    key::{Entry, Key, Nodes},
    merge::Merges,
};
use crate::resource::{Collection, NodeKey, Resource, ResourceType, View};

/// What becomes of keys: another entry, or none.
pub type Changes = BTreeMap<Key, Option<Arc<Entry>>>;

/// One revision of all raw resources.
#[derive(Clone)]
pub struct RawState {
    revision: u64,
    entries: RedBlackTreeMapSync<Key, Arc<Entry>>,
    layers: RedBlackTreeMapSync<Nodes, Arc<View>>,
    merges: Arc<Merges>,
}

impl fmt::Debug for RawState {
    /// Without the resources, which may hold private keys.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RawState")
            .field("revision", &self.revision)
            .field("resources", &self.entries.size())
            .finish_non_exhaustive()
    }
}

/// Which layers hold for a node, named only where there are such: nodes with equal keys have equal
/// resources.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct LayersKey {
    cluster: Option<Arc<str>>,
    id: Option<Arc<str>>,
}

impl RawState {
    /// Nothing.
    pub fn empty() -> Self {
        Self {
            revision: 0,
            entries: RedBlackTreeMapSync::new_sync(),
            layers: RedBlackTreeMapSync::new_sync(),
            merges: Arc::default(),
        }
    }

    /// Counts up with every change, also over restarts.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Which layers hold for a node.
    pub fn layers(&self, node: &NodeKey) -> LayersKey {
        // Most often there are none, and then a node costs nothing.
        if self.layers.size() == usize::from(self.layers.contains_key(&Nodes::All)) {
            return LayersKey::default();
        }
        let find = |nodes: fn(Arc<str>) -> Nodes, name: &str| {
            let name: Arc<str> = name.into();
            let is_there = self.layers.contains_key(&nodes(Arc::clone(&name)));
            is_there.then_some(name)
        };
        LayersKey {
            cluster: find(Nodes::Cluster, &node.cluster),
            id: find(Nodes::Id, &node.id),
        }
    }

    /// What nodes of these layers are sent, where `base` is what the mesh says: node id beats node
    /// cluster beats every node; the mesh beats them all, unless the resource says `override`.
    pub fn over(&self, base: &Arc<View>, layers: &LayersKey) -> Arc<View> {
        let cluster = layers.cluster.clone().map(Nodes::Cluster);
        let id = layers.id.clone().map(Nodes::Id);
        let applied: Vec<(Nodes, &Arc<View>)> = [Some(Nodes::All), cluster, id]
            .into_iter()
            .flatten()
            .filter_map(|nodes| Some((nodes.clone(), self.layers.get(&nodes)?)))
            .collect();
        match applied.as_slice() {
            [] => return Arc::clone(base),
            [(_, only)] if is_empty(base) => return Arc::clone(only),
            _ => {}
        }
        let mut view = View::clone(base);
        for kind in ResourceType::IN_ORDER {
            let lower = base.collection(kind);
            let raw: Vec<(&Nodes, &Arc<Collection>)> = applied
                .iter()
                .map(|(nodes, view)| (nodes, view.collection(kind)))
                .filter(|(_, collection)| !collection.is_empty())
                .collect();
            let merged = match raw.as_slice() {
                [] => continue,
                [(_, only)] if lower.is_empty() => Arc::clone(only),
                raw => self.merged(kind, lower, raw),
            };
            view = view.with(kind, merged);
        }
        Arc::new(view)
    }

    fn merged(
        &self,
        kind: ResourceType,
        base: &Arc<Collection>,
        raw: &[(&Nodes, &Arc<Collection>)],
    ) -> Arc<Collection> {
        let mut inputs = vec![base];
        inputs.extend(raw.iter().map(|(_, collection)| *collection));
        let merged = self.merges.get_or_merge(&inputs, || {
            let mut winners: BTreeMap<&str, (&Nodes, &Arc<Resource>)> = BTreeMap::new();
            for (nodes, collection) in raw {
                winners.extend(collection.iter().map(|one| (&*one.name, (*nodes, one))));
            }
            let over: Vec<Arc<Resource>> = winners
                .into_values()
                .filter(|(nodes, one)| {
                    base.get(&one.name).is_none() || self.overrides(nodes, kind, &one.name)
                })
                .map(|(_, one)| Arc::clone(one))
                .collect();
            if over.is_empty() {
                return None;
            }
            let all = base.iter().cloned().chain(over).collect();
            Some(Arc::new(Collection::new(all)))
        });
        merged.unwrap_or_else(|| Arc::clone(base))
    }

    fn overrides(&self, nodes: &Nodes, kind: ResourceType, name: &Arc<str>) -> bool {
        let key = Key {
            nodes: nodes.clone(),
            kind,
            name: Arc::clone(name),
        };
        self.entries.get(&key).is_some_and(|entry| entry.overrides)
    }

    /// One resource.
    pub fn get(&self, key: &Key) -> Option<&Arc<Entry>> {
        self.entries.get(key)
    }

    /// All, by nodes, type and name.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Arc<Entry>)> {
        self.entries.iter()
    }

    /// All of some nodes.
    pub fn of_nodes<'s>(
        &'s self,
        nodes: &'s Nodes,
    ) -> impl Iterator<Item = (&'s Key, &'s Arc<Entry>)> {
        let first = Key {
            nodes: nodes.clone(),
            kind: ResourceType::IN_ORDER[0],
            name: "".into(),
        };
        self.entries
            .range(first..)
            .take_while(move |(key, _)| key.nodes == *nodes)
    }

    /// This revision with changes, as the next one. Types that they do not name keep their
    /// collections.
    #[must_use]
    pub fn with(&self, changes: &Changes, revision: u64) -> Self {
        let mut next = Self {
            revision,
            ..self.clone()
        };
        let mut by_collection: BTreeMap<(&Nodes, ResourceType), Vec<_>> = BTreeMap::new();
        for (key, entry) in changes {
            match entry {
                Some(entry) => next.entries.insert_mut(key.clone(), Arc::clone(entry)),
                None => _ = next.entries.remove_mut(key),
            }
            let changed = by_collection.entry((&key.nodes, key.kind)).or_default();
            changed.push((&*key.name, entry));
        }
        for ((nodes, kind), changed) in by_collection {
            let old = next.layers.get(nodes).cloned().unwrap_or_default();
            let collection = Arc::new(replaced(old.collection(kind), &changed));
            let layer = old.with(kind, collection);
            if is_empty(&layer) {
                next.layers.remove_mut(nodes);
            } else {
                next.layers.insert_mut(nodes.clone(), Arc::new(layer));
            }
        }
        next
    }
}

fn is_empty(view: &View) -> bool {
    ResourceType::IN_ORDER
        .iter()
        .all(|kind| view.collection(*kind).is_empty())
}

/// A collection after changes: few of them are put in place, many are sorted in.
fn replaced(old: &Collection, changed: &[(&str, &Option<Arc<Entry>>)]) -> Collection {
    const FEW: usize = 16;
    let resource = |entry: &Arc<Entry>| Arc::clone(&entry.resource);
    let put = changed.iter().filter_map(|(_, entry)| entry.as_ref());
    let gone = changed
        .iter()
        .filter(|(_, entry)| entry.is_none())
        .map(|(name, _)| *name);
    if changed.len() <= FEW {
        return old.with(put.map(resource), gone);
    }
    let gone: HashSet<&str> = gone.collect();
    let stayed = old.iter().filter(|one| !gone.contains(&*one.name)).cloned();
    Collection::new(stayed.chain(put.map(resource)).collect())
}
