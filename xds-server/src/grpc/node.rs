//! Who a client says it is.

use envoy_types::pb::{
    envoy::config::core::v3::{Node, node::UserAgentVersionType},
    google::protobuf::{Struct, value::Kind},
};
use policy::units::ZoneName;

use crate::{
    fleet::NodeInfo,
    pki::Peer,
    resource::{NodeKey, NodeMetadata},
};

/// Longest name, path or digest that a node may say of itself.
const NODE_TEXT_MAX: usize = 1024;

/// The node that a certificate is for.
pub(super) fn node_of(peer: &Peer) -> Node {
    Node {
        id: peer.node_id.clone(),
        cluster: peer.name.to_string(),
        ..Node::default()
    }
}

/// What people are shown of a node.
pub(super) fn node_info(node: &Node, key: &NodeKey) -> NodeInfo {
    let short = |text: &str| text[..text.floor_char_boundary(NODE_TEXT_MAX)].to_string();
    let version = match &node.user_agent_version_type {
        Some(UserAgentVersionType::UserAgentVersion(text)) => short(text),
        Some(UserAgentVersionType::UserAgentBuildVersion(build)) => {
            let version = build.version.as_ref();
            version.map_or_else(String::new, |version| {
                let (major, minor) = (version.major_number, version.minor_number);
                format!("{major}.{minor}.{}", version.patch)
            })
        }
        None => String::new(),
    };
    let place = node.locality.as_ref();
    let place = |part: fn(&envoy_types::pb::envoy::config::core::v3::Locality) -> &str| {
        place.map_or_else(String::new, |locality| short(part(locality)))
    };
    NodeInfo {
        id: node.id.clone(),
        cluster: node.cluster.clone(),
        user_agent: short(&node.user_agent_name),
        version,
        region: place(|locality| &locality.region),
        zone: place(|locality| &locality.zone),
        sub_zone: place(|locality| &locality.sub_zone),
        filter_sha256: key.metadata.filter_sha256.clone(),
    }
}

/// What of a node decides what it is sent.
///
/// # Errors
/// A node whose names nobody could show.
pub(super) fn node_key(node: &Node) -> Result<NodeKey, &'static str> {
    if node.id.len() > NODE_TEXT_MAX || node.cluster.len() > NODE_TEXT_MAX {
        return Err("node.id and node.cluster may have at most 1024 bytes each");
    }
    let zone = node.locality.as_ref().map(|place| place.zone.as_str());
    let zone = zone.filter(|zone| ZoneName::new(zone).is_ok());
    Ok(NodeKey {
        id: node.id.clone(),
        cluster: node.cluster.clone(),
        zone: zone.unwrap_or_default().to_string(),
        metadata: own_fields(node).map(metadata).unwrap_or_default(),
    })
}

/// `node.metadata.mumbai_mesh`.
fn own_fields(node: &Node) -> Option<&Struct> {
    let own = node.metadata.as_ref()?.fields.get("mumbai_mesh")?;
    match &own.kind {
        Some(Kind::StructValue(fields)) => Some(fields),
        _ => None,
    }
}

fn metadata(fields: &Struct) -> NodeMetadata {
    let kind = |name: &str| {
        fields
            .fields
            .get(name)
            .and_then(|value| value.kind.as_ref())
    };
    let text = |name: &str| match kind(name) {
        Some(Kind::StringValue(text)) if text.len() <= NODE_TEXT_MAX => Some(text.clone()),
        _ => None,
    };
    let port = match kind("outbound_port") {
        Some(Kind::NumberValue(port)) if (1.0..=65_535.0).contains(port) => Some(*port),
        _ => None,
    };
    NodeMetadata {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "in range"
        )]
        outbound: port.and_then(|port| NodeMetadata::outbound_on(port as u16)),
        filter_path: text("filter_path"),
        filter_sha256: text("filter_sha256"),
    }
}
