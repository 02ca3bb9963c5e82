//! Layers against a model that looks at each name alone, over random changes.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;

use super::{
    key::{Entry, Key, Nodes, Source},
    state::{Changes, RawState},
};
use crate::resource::{Collection, NodeKey, Resource, ResourceType, View};

const KINDS: [ResourceType; 2] = [ResourceType::Cluster, ResourceType::Listener];

/// (name, version), by kind.
type Seen = Vec<Vec<(String, String)>>;

fn resource(kind: ResourceType, name: &str, version: &str) -> Arc<Resource> {
    Arc::new(Resource::new(kind, name, version, version.as_bytes()))
}

fn seen(view: &View) -> Seen {
    let of_kind = |kind: &ResourceType| {
        let one = |one: &Arc<Resource>| (one.name.to_string(), one.version.to_string());
        view.resources(*kind).map(one).collect()
    };
    KINDS.iter().map(of_kind).collect()
}

fn nodes() -> impl Strategy<Value = Nodes> {
    let names = prop_oneof![Just("x"), Just("y")];
    prop_oneof![
        Just(Nodes::All),
        names.clone().prop_map(|name| Nodes::Cluster(name.into())),
        names.prop_map(|name| Nodes::Id(name.into())),
    ]
}

/// To a version and whether it overrides, or to nothing.
type Change = (Key, Option<(u8, bool)>);

fn change() -> impl Strategy<Value = Change> {
    let entry = prop::option::weighted(0.7, (0..4u8, any::<bool>()));
    let key = (nodes(), 0..KINDS.len(), 0..6u8).prop_map(|(nodes, kind, name)| Key {
        nodes,
        kind: KINDS[kind],
        name: format!("r{name}").into(),
    });
    (key, entry)
}

fn changes() -> impl Strategy<Value = Vec<Vec<Change>>> {
    prop::collection::vec(prop::collection::vec(change(), 1..24), 1..8)
}

fn model(all: &BTreeMap<Key, (u8, bool)>, base: &View, node: &NodeKey) -> Seen {
    let of_kind = |kind: ResourceType| {
        let mut by_name: BTreeMap<String, String> = base
            .resources(kind)
            .map(|one| (one.name.to_string(), one.version.to_string()))
            .collect();
        for name in (0..6).map(|name| format!("r{name}")) {
            let layers = [
                Nodes::Id(node.id.as_str().into()),
                Nodes::Cluster(node.cluster.as_str().into()),
                Nodes::All,
            ];
            let mut found = layers.into_iter().filter_map(|nodes| {
                let name = name.as_str().into();
                all.get(&Key { nodes, kind, name })
            });
            if let Some((version, overrides)) = found.next()
                && (*overrides || !by_name.contains_key(&name))
            {
                by_name.insert(name, format!("v{version}"));
            }
        }
        by_name.into_iter().collect()
    };
    KINDS.map(of_kind).to_vec()
}

proptest! {
    #[test]
    fn every_node_sees_what_the_rules_say_and_equal_questions_have_the_same_answer(
        revisions in changes(),
        in_base in prop::collection::vec((0..KINDS.len(), 0..6u8), 0..6),
    ) {
        let base = in_base.iter().map(|(kind, name)| {
            (KINDS[*kind], resource(KINDS[*kind], &format!("r{name}"), "mesh"))
        });
        let base = Arc::new(View::new(base.collect()));
        let (mut state, mut all) = (RawState::empty(), BTreeMap::new());
        for revision in revisions {
            let mut changes = Changes::new();
            for (key, entry) in revision {
                match entry {
                    Some(entry) => _ = all.insert(key.clone(), entry),
                    None => _ = all.remove(&key),
                }
                let entry = entry.map(|(version, overrides)| Arc::new(Entry {
                    resource: resource(key.kind, &key.name, &format!("v{version}")),
                    body: "".into(),
                    overrides,
                    source: Source::Api,
                }));
                changes.insert(key, entry);
            }
            let before = state.clone();
            state = state.with(&changes, state.revision() + 1);
            prop_assert_eq!(state.iter().count(), all.len());
            for (id, cluster) in [("x", "x"), ("x", "y"), ("z", "y"), ("z", "z")] {
                let node = NodeKey { id: id.into(), cluster: cluster.into(), ..NodeKey::default() };
                let view = state.over(&base, &state.layers(&node));
                prop_assert_eq!(seen(&view), model(&all, &base, &node));
                let again = state.over(&base, &state.layers(&node));
                let old = before.over(&base, &before.layers(&node));
                for kind in ResourceType::IN_ORDER {
                    prop_assert!(Arc::ptr_eq(view.collection(kind), again.collection(kind)));
                    // A type that no change named keeps its collection.
                    let is_something = !view.collection(kind).is_empty();
                    if is_something && !changes.keys().any(|key| key.kind == kind) {
                        prop_assert!(Arc::ptr_eq(view.collection(kind), old.collection(kind)));
                    }
                }
            }
        }
    }
}

#[test]
fn where_nothing_applies_nothing_is_made() {
    let base = Arc::new(View::new(vec![(
        ResourceType::Cluster,
        resource(ResourceType::Cluster, "a", "1"),
    )]));
    let empty = RawState::empty();
    let node = NodeKey::default();
    assert!(Arc::ptr_eq(&empty.over(&base, &empty.layers(&node)), &base));
    let key = |nodes| Key {
        nodes,
        kind: ResourceType::Listener,
        name: "l".into(),
    };
    let entry = Arc::new(Entry {
        resource: resource(ResourceType::Listener, "l", "1"),
        body: "".into(),
        overrides: false,
        source: Source::Api,
    });
    let changes = |nodes| Changes::from([(key(nodes), Some(Arc::clone(&entry)))]);
    let elsewhere = empty.with(&changes(Nodes::Cluster("edge".into())), 1);
    assert!(Arc::ptr_eq(
        &elsewhere.over(&base, &elsewhere.layers(&node)),
        &base
    ));

    let global = empty.with(&changes(Nodes::All), 1);
    let nothing = Arc::new(View::default());
    let first = global.over(&nothing, &global.layers(&node));
    assert!(Arc::ptr_eq(
        &first,
        &global.over(&nothing, &global.layers(&node))
    ));
    // Beside the mesh: each keeps its own collections.
    let both = global.over(&base, &global.layers(&node));
    let kept =
        |kind: ResourceType, from: &View| Arc::ptr_eq(both.collection(kind), from.collection(kind));
    assert!(kept(ResourceType::Cluster, &base) && kept(ResourceType::Listener, &first));
    assert_eq!(
        both.collection(ResourceType::Secret),
        &Arc::new(Collection::default())
    );
}
