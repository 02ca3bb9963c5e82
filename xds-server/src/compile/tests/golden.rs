//! Small meshes and all that an Envoy is sent of them, to be read side by side: `golden/NAME.yaml` and
//! `golden/NAME.NODE.json`. The same meshes are given to real Envoys by the integration tests.

use std::{fs, path::PathBuf};

use serde_json::{Map, Value};

use crate::{
    compile::{Draft, Encoder, FilterCode, NodeSpec, Unhealthy, compile},
    mesh::{Defaults, read},
    resource::{NodeKey, ResourceType},
};

/// Mesh, `node.cluster`, `node.id`, zone.
const NODES: [(&str, &str, &str, &str); 6] = [
    ("retries-and-limits", "edge", "edge", ""),
    ("health-and-place", "edge", "edge", "mumbai-west"),
    ("names-and-versions", "edge", "edge", "mumbai-west"),
    ("hosts-and-routes", "edge", "edge", ""),
    ("sidecars", "order-service", "order-1", ""),
    ("sidecars", "payment-service", "pay-1", ""),
];

fn folder(below: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(below)
}

/// All that any of the nodes is sent.
pub(super) fn every_draft() -> impl Iterator<Item = Draft> {
    let nodes = NODES.into_iter();
    nodes.flat_map(|(mesh, cluster, id, zone)| drafts(mesh, cluster, id, zone))
}

fn drafts(mesh: &str, cluster: &str, id: &str, zone: &str) -> Vec<Draft> {
    let file = folder("golden").join(format!("{mesh}.yaml"));
    let mesh = read(&fs::read_to_string(file).unwrap(), &Defaults::default());
    let mesh = mesh.unwrap_or_else(|problems| panic!("{problems:#?}"));
    let node = NodeKey {
        id: id.into(),
        cluster: cluster.into(),
        zone: zone.into(),
        ..NodeKey::default()
    };
    let code = FilterCode::new(bytes::Bytes::from_static(b"\0asm"));
    let spec = NodeSpec::of(&mesh, &node);
    compile(&mesh, &spec, &code, &Unhealthy::default())
}

/// All resources by type and name; the filter's has tests of its own.
fn compiled(mesh: &str, cluster: &str, id: &str, zone: &str) -> Value {
    let encoder = Encoder::new().unwrap();
    let mut types = Map::new();
    for draft in drafts(mesh, cluster, id, zone) {
        encoder.encode(draft.clone()).unwrap();
        if draft.kind == ResourceType::ExtensionConfig {
            continue;
        }
        let of_type = types
            .entry(draft.kind.api())
            .or_insert_with(|| Value::Object(Map::new()));
        let twice = of_type[&draft.name].take();
        assert_eq!(twice, Value::Null, "{} twice", draft.name);
        of_type[&draft.name] = draft.body;
    }
    Value::Object(types)
}

#[test]
fn every_node_is_sent_what_its_golden_file_says() {
    let mut differing = Vec::new();
    for (mesh, cluster, id, zone) in NODES {
        let name = format!("{mesh}.{id}.json");
        let sent = format!("{:#}\n", compiled(mesh, cluster, id, zone));
        let golden = fs::read_to_string(folder("golden").join(&name)).unwrap_or_default();
        if golden == sent {
            continue;
        }
        let beside = folder("../target/golden");
        fs::create_dir_all(&beside).unwrap();
        fs::write(beside.join(&name), sent).unwrap();
        differing.push(format!(
            "diff xds-server/golden/{name} target/golden/{name}"
        ));
    }
    assert!(
        differing.is_empty(),
        "what is sent has changed; look at it, and if it is right copy it to xds-server/golden/:\n{}",
        differing.join("\n")
    );
}
