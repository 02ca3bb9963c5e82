//! What a client is told about one type, encoded once for all who are told the same.

use std::sync::Arc;

use bytes::Bytes;

use super::{Name, Variant};
use crate::resource::{Resource, ResourceType, put_field};

/// Who speaks, in every response.
const CONTROL_PLANE: &str = concat!("mumbai-mesh/", env!("CARGO_PKG_VERSION"));

/// What a response says.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) resources: Vec<Arc<Resource>>,
    /// Names that are no more (delta only).
    pub(super) removed: Vec<Name>,
    /// Of the resources: those that the client has for the first time.
    pub(super) new: Vec<Name>,
    /// Of the resources: those that it has in another version.
    pub(super) changed: Vec<Name>,
    /// It says something even if it is empty: that all is gone.
    pub(super) must_be_told: bool,
}

impl Contents {
    pub(super) fn is_nothing(&self) -> bool {
        self.resources.is_empty() && self.removed.is_empty() && !self.must_be_told
    }
}

/// A response without its nonce, shared by every stream that is told the same.
#[derive(Debug)]
pub struct Payload {
    /// The type.
    pub kind: ResourceType,
    /// Version of all that the client has of this type after this response.
    pub version: Arc<str>,
    /// Resources, each once.
    pub resources: Vec<Arc<Resource>>,
    /// Names that are no more (delta only).
    pub removed: Vec<Name>,
    /// Names that the client has for the first time, sorted.
    pub(super) new: Vec<Name>,
    /// Names that it had in another version, sorted.
    pub(super) changed: Vec<Name>,
    body: Bytes,
}

impl Payload {
    pub(super) fn new(
        kind: ResourceType,
        variant: Variant,
        version: Arc<str>,
        contents: Contents,
    ) -> Self {
        let body = encode(kind, variant, &version, &contents).into();
        Self {
            kind,
            version,
            resources: contents.resources,
            removed: contents.removed,
            new: contents.new,
            changed: contents.changed,
            body,
        }
    }

    /// The encoded response, but for the nonce: `DiscoveryResponse` or `DeltaDiscoveryResponse`, which
    /// both have it in field 5. (The order of a protobuf message's fields is free.)
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

/// Field numbers of `envoy/service/discovery/v3/discovery.proto`; the two messages differ in the
/// control plane's.
fn encode(kind: ResourceType, variant: Variant, version: &str, contents: &Contents) -> Vec<u8> {
    const VERSION: u32 = 1;
    const TYPE_URL: u32 = 4;
    const REMOVED: u32 = 6;
    let (entry, control_plane): (fn(&Resource) -> &[u8], u32) = match variant {
        Variant::StateOfTheWorld => (Resource::plain_entry, 6),
        Variant::Delta => (Resource::delta_entry, 7),
    };
    let entries = contents.resources.iter().map(|resource| entry(resource));
    let removed_bytes: usize = contents.removed.iter().map(|name| name.len() + 8).sum();
    let around = 128 + version.len() + kind.url().len();
    let mut out = Vec::with_capacity(
        around + removed_bytes + entries.clone().map(<[u8]>::len).sum::<usize>(),
    );
    put_field(&mut out, VERSION, version.as_bytes());
    put_field(&mut out, TYPE_URL, kind.url().as_bytes());
    let mut identifier = Vec::with_capacity(CONTROL_PLANE.len() + 2);
    put_field(&mut identifier, 1, CONTROL_PLANE.as_bytes());
    put_field(&mut out, control_plane, &identifier);
    for name in &contents.removed {
        put_field(&mut out, REMOVED, name.as_bytes());
    }
    for entry in entries {
        out.extend_from_slice(entry);
    }
    out
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::service::discovery::v3::{
        DeltaDiscoveryResponse, DiscoveryResponse,
    };
    use prost::Message;

    use super::*;

    fn payload(variant: Variant) -> Payload {
        let kind = ResourceType::Secret;
        let one = |name: &str| Arc::new(Resource::new(kind, name, "v", name.as_bytes()));
        let contents = Contents {
            resources: vec![one("a"), one("b")],
            removed: vec!["c".into()],
            ..Contents::default()
        };
        Payload::new(kind, variant, "all".into(), contents)
    }

    #[test]
    fn both_variants_are_what_envoys_api_describes() {
        let kind = ResourceType::Secret;
        let delta = payload(Variant::Delta);
        let delta = DeltaDiscoveryResponse::decode(delta.body().clone()).unwrap();
        assert_eq!(delta.system_version_info, "all");
        assert_eq!(delta.type_url, kind.url());
        assert_eq!(delta.removed_resources, ["c"]);
        assert_eq!(delta.control_plane.unwrap().identifier, CONTROL_PLANE);
        let names: Vec<&str> = delta.resources.iter().map(|one| &*one.name).collect();
        assert_eq!(names, ["a", "b"]);

        let plain = Contents {
            removed: Vec::new(),
            ..Contents::default()
        };
        let plain = Payload::new(kind, Variant::StateOfTheWorld, "none".into(), plain);
        let plain = DiscoveryResponse::decode(plain.body().clone()).unwrap();
        assert_eq!((&*plain.version_info, plain.resources.len()), ("none", 0));
        assert_eq!(plain.control_plane.unwrap().identifier, CONTROL_PLANE);
    }
}
