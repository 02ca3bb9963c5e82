//! The filter, delivered by ECDS: its code by file where the node has the same file, else inline;
//! never as `remote`, which Envoy calls unstable and which fails open in silence.

use base64::{Engine, prelude::BASE64_STANDARD};
use policy::{
    units::ServiceName,
    wire::{FilterConfig, ServiceSource},
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Draft, node::FilterFile};
use crate::{
    mesh::{ClientOptions, Mesh},
    resource::ResourceType,
    text::hex,
};

/// Name of the filter, of its ECDS resource and of its virtual machine (whose shared data holds the
/// breakers: one per process, kept across configurations).
pub const FILTER_NAME: &str = "mumbai_mesh";

/// The `.wasm`, read once and shared.
#[derive(Debug, Clone)]
pub struct FilterCode {
    bytes: bytes::Bytes,
    base64: std::sync::Arc<str>,
    sha256: String,
}

impl FilterCode {
    /// Takes the module's bytes.
    pub fn new(bytes: bytes::Bytes) -> Self {
        let digest = Sha256::digest(&bytes);
        let sha256 = hex(&digest);
        let base64 = BASE64_STANDARD.encode(&bytes).into();
        Self {
            bytes,
            base64,
            sha256,
        }
    }

    /// The module as it was built.
    pub fn bytes(&self) -> &bytes::Bytes {
        &self.bytes
    }

    /// Lower-case hex SHA-256 of the module.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    fn source(&self, file: Option<&FilterFile>) -> Value {
        match file {
            Some(file) if file.sha256 == self.sha256 => tree!({"filename": file.path.as_str()}),
            _ => tree!({"inline_bytes": self.base64.as_ref()}),
        }
    }
}

/// What the filter of a gateway, or of sidecars, must know but for the services.
pub(super) fn configuration(mesh: &Mesh, gateway: Option<&ServiceName>) -> FilterConfig {
    // As `route` makes them: a sidecar's virtual hosts are services; a gateway's clusters are.
    let (clients, service_from) = match gateway {
        Some(name) => {
            let gateway = mesh.gateways.get(name);
            let clients = gateway.map_or_else(ClientOptions::default, |gateway| gateway.clients);
            (clients, ServiceSource::Cluster)
        }
        None => (ClientOptions::default(), ServiceSource::Authority),
    };
    mesh.filter_config_for(std::iter::empty(), clients, service_from)
}

/// The filter with this configuration.
pub(super) fn filter(configuration: String, file: Option<&FilterFile>, code: &FilterCode) -> Draft {
    let body = tree!({
        "name": FILTER_NAME,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": FILTER_NAME,
                "root_id": FILTER_NAME,
                // Traffic without policy beats no traffic: a filter that fails lets requests pass.
                "failure_policy": "FAIL_OPEN",
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": configuration,
                },
                "vm_config": {
                    "vm_id": FILTER_NAME,
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": code.source(file)},
                },
            },
        },
    });
    Draft::new(ResourceType::ExtensionConfig, FILTER_NAME, body)
}
