//! Between protobuf messages and the discovery core.

use envoy_types::pb::{
    envoy::{
        config::core::v3::{ControlPlane, Node},
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
            Resource as DeltaResource,
        },
    },
    google::protobuf::{Any, Struct, value::Kind},
};

use super::stream::Protocol;
use crate::{
    discovery::{Interest, Request, Response, Variant},
    resource::{NodeKey, NodeMetadata, Resource, ResourceType},
};

/// Longest name, path or digest that a node may say of itself.
const NODE_TEXT_MAX: usize = 1024;
/// Longest rejection that is kept.
const ERROR_BYTES_MAX: usize = 4096;

impl Protocol for DiscoveryRequest {
    type Answer = DiscoveryResponse;
    const VARIANT: Variant = Variant::StateOfTheWorld;

    fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    fn type_url(&self) -> &str {
        &self.type_url
    }

    fn into_request(self, kind: ResourceType) -> Request {
        Request {
            kind,
            nonce: self.response_nonce,
            error: self.error_detail.map(|status| bounded(status.message)),
            interest: Interest::Names {
                names: self.resource_names,
                version: self.version_info,
            },
        }
    }

    fn answer(response: Response) -> DiscoveryResponse {
        let kind = response.kind;
        let resources = response.resources.iter();
        DiscoveryResponse {
            version_info: response.version,
            resources: resources.map(|resource| any(kind, resource)).collect(),
            type_url: kind.url().into(),
            nonce: response.nonce,
            control_plane: Some(control_plane()),
            ..DiscoveryResponse::default()
        }
    }
}

impl Protocol for DeltaDiscoveryRequest {
    type Answer = DeltaDiscoveryResponse;
    const VARIANT: Variant = Variant::Delta;

    fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    fn type_url(&self) -> &str {
        &self.type_url
    }

    fn into_request(self, kind: ResourceType) -> Request {
        Request {
            kind,
            nonce: self.response_nonce,
            error: self.error_detail.map(|status| bounded(status.message)),
            interest: Interest::Changes {
                subscribe: self.resource_names_subscribe,
                unsubscribe: self.resource_names_unsubscribe,
                known: self.initial_resource_versions,
            },
        }
    }

    fn answer(response: Response) -> DeltaDiscoveryResponse {
        let kind = response.kind;
        let resources = response.resources.iter().map(|resource| DeltaResource {
            name: resource.name.to_string(),
            version: resource.version.to_string(),
            resource: Some(any(kind, resource)),
            ..DeltaResource::default()
        });
        DeltaDiscoveryResponse {
            system_version_info: response.version,
            resources: resources.collect(),
            type_url: kind.url().into(),
            removed_resources: response.removed,
            nonce: response.nonce,
            control_plane: Some(control_plane()),
            ..DeltaDiscoveryResponse::default()
        }
    }
}

fn any(kind: ResourceType, resource: &Resource) -> Any {
    Any {
        type_url: kind.url().into(),
        value: resource.body().to_vec(),
    }
}

fn control_plane() -> ControlPlane {
    ControlPlane {
        identifier: concat!("mumbai-mesh/", env!("CARGO_PKG_VERSION")).into(),
    }
}

fn bounded(mut text: String) -> String {
    if text.len() > ERROR_BYTES_MAX {
        let end = text.floor_char_boundary(ERROR_BYTES_MAX);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// What of a node decides what it is sent.
///
/// # Errors
/// A node without an id, or with one that nobody could show.
pub(super) fn node_key(node: &Node) -> Result<NodeKey, &'static str> {
    if node.id.is_empty() {
        return Err("node.id is empty: every Envoy needs a unique one");
    }
    if node.id.len() > NODE_TEXT_MAX || node.cluster.len() > NODE_TEXT_MAX {
        return Err("node.id and node.cluster may have at most 1024 bytes each");
    }
    let fields = node
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.fields.get("mumbai_mesh"))
        .and_then(|value| match &value.kind {
            Some(Kind::StructValue(fields)) => Some(fields),
            _ => None,
        });
    Ok(NodeKey {
        id: node.id.clone(),
        cluster: node.cluster.clone(),
        metadata: fields.map(metadata).unwrap_or_default(),
    })
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
