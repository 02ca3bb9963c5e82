//! What holds of every plan: nothing changes untold, and nothing is told that does not.

use std::sync::Arc;

use policy::{
    reader::{Problems, Reader},
    time::{WallTime, parse_instant},
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    tests::{ENCODER, REDACTOR},
    *,
};
use crate::{
    compile::{
        FilterCode, NodeSpec, Unhealthy, compile,
        imagined::{Drawn, Rest, drawn, mesh as imagined, rest},
        version,
    },
    mesh::{Defaults, Document, MeshFile, read_mesh},
    resource::NodeKey,
};

/// Paths of every field of every object, and of every element.
fn parts(value: &Value, pointer: &str, found: &mut Vec<String>) {
    let mut part = |name: &str, value: &Value| {
        let pointer = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
        found.push(pointer.clone());
        parts(value, &pointer, found);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| part(name, value)),
        Value::Array(values) => {
            let places = values.iter().enumerate();
            places.for_each(|(place, value)| part(&place.to_string(), value));
        }
        _ => {}
    }
}

fn read_tree(tree: &Value) -> Option<Mesh> {
    let problems = Problems::new();
    let mesh = read_mesh(&Reader::root(tree, &problems), &Defaults::default());
    mesh.filter(|_| problems.into_vec().is_empty())
}

/// The value, or one without it or with another in its place.
fn edits(tree: &Value, pointer: &str) -> Vec<Value> {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let name = name.replace("~1", "/").replace("~0", "~");
    let mut without = tree.clone();
    match without.pointer_mut(parent).unwrap() {
        Value::Object(fields) => drop(fields.remove(&name)),
        Value::Array(values) => drop(values.remove(name.parse().unwrap())),
        _ => unreachable!(),
    }
    let others: Vec<Value> = match tree.pointer(pointer).unwrap() {
        Value::Bool(is) => vec![json!(!is)],
        Value::Number(number) => {
            let number = number.as_f64().unwrap();
            vec![
                json!(number + 1.0),
                json!(number as i64 + 1),
                json!(number as i64 - 1),
            ]
        }
        Value::String(text) => vec![
            json!(format!("{text}x")),
            json!(text.replace('1', "2")),
            json!(text.replace('5', "6")),
            json!("observe"),
            json!("enforce"),
            json!("strict"),
            json!("latch"),
            json!("http1"),
        ],
        _ => Vec::new(),
    };
    let with = others.into_iter().map(|other| {
        let mut tree = tree.clone();
        *tree.pointer_mut(pointer).unwrap() = other;
        tree
    });
    with.chain([without]).collect()
}

/// Of the file that holds every field there is: whatever is taken out or made another one is told.
#[test]
fn no_field_of_the_mesh_file_changes_untold() {
    let file = MeshFile {
        name: "mesh.yaml".into(),
        text: include_str!("../reference/full.yaml").into(),
    };
    let tree = Document::new(&[file], &[]).tree().clone();
    let before = read_tree(&tree).unwrap();
    let mut all = Vec::new();
    parts(&tree, "", &mut all);
    let mut told = 0;
    for pointer in &all {
        for edited in edits(&tree, pointer) {
            let Some(after) = read_tree(&edited).filter(|after| *after != before) else {
                continue;
            };
            let words = words::words(&before, &after, WallTime::from_unix_millis(0));
            let by_path = words.iter().all(|one| !one.path.is_empty());
            assert!(!words.is_empty() && by_path, "{pointer}: {words:#?}");
            told += 1;
        }
    }
    assert!(told > 200, "{told} of {}", all.len());
}

fn sent(mesh: &Mesh, node: &NodeKey) -> Vec<(crate::resource::ResourceType, String, String)> {
    let code = FilterCode::new(bytes::Bytes::from_static(b"\0asm"));
    let spec = NodeSpec::of(mesh, node);
    let mut drafts: Vec<_> = compile(mesh, &spec, &code, &Unhealthy::default())
        .into_iter()
        .map(|draft| {
            (
                draft.kind,
                draft.name,
                version(&draft.body.to_string()).to_string(),
            )
        })
        .collect();
    drafts.sort();
    drafts
}

fn every_node() -> Vec<NodeKey> {
    let mut nodes = Vec::new();
    for cluster in ["s0", "s1", "s2", "s3", "edge", "stranger"] {
        for id in ["e0-0", "e1-1", "e2-0", "somebody"] {
            for zone in ["", "mumbai-west", "mumbai-east"] {
                nodes.push(NodeKey {
                    id: id.into(),
                    cluster: cluster.into(),
                    zone: zone.into(),
                    ..NodeKey::default()
                });
            }
        }
    }
    nodes
}

/// One step from a mesh, or any other mesh.
fn next_to(services: Vec<Drawn>, others: Rest) -> impl Strategy<Value = (Vec<Drawn>, Rest)> {
    let (kept, same) = (services.clone(), others.clone());
    prop_oneof![
        2 => (0..services.len(), drawn()).prop_map(move |(at, one)| {
            let mut services = services.clone();
            services[at] = one;
            (services, others.clone())
        }),
        1 => rest().prop_map(move |others| (kept.clone(), others)),
        1 => Just((Vec::new(), same)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_plan_is_empty_exactly_when_no_node_would_be_sent_anything_else(
        ((services, others), (edited, other)) in (proptest::collection::vec(drawn(), 4), rest())
            .prop_flat_map(|(services, others)| {
                let next = next_to(services.clone(), others.clone());
                (Just((services, others)), next)
            }),
    ) {
        let before = Arc::new(imagined(&services, &others));
        let after = match edited.is_empty() {
            true => Arc::clone(&before),
            false => Arc::new(imagined(&edited, &other)),
        };
        let nodes = every_node();
        let fleet = Fleet { nodes: nodes.clone(), over: &|base, _| Arc::clone(base) };
        let now = parse_instant("2026-11-24T12:00+05:30").unwrap();
        let alone = plan(&before, &after, now, &ENCODER, &REDACTOR, None);
        let asked = plan(&before, &after, now, &ENCODER, &REDACTOR, Some(&fleet));

        let differing: Vec<&NodeKey> = nodes
            .iter()
            .filter(|node| sent(&before, node) != sent(&after, node))
            .collect();
        prop_assert_eq!(alone.groups.is_empty(), differing.is_empty(), "{:?}", differing);
        let counted: usize = asked.groups.iter().filter_map(|group| group.connected).sum();
        prop_assert_eq!(counted, differing.len());
        prop_assert_eq!(alone.mesh.is_empty(), before == after);
        for change in asked.groups.iter().flat_map(|group| &group.resources) {
            let is_told = change.change != Becomes::Changes || !change.fields.is_empty();
            prop_assert!(is_told, "{:?}", change);
        }
    }
}
