//! What other tools are given of a mesh: manifests for Kubernetes and Istio, and static configurations for
//! single Envoys. Pure: trees in, files out.

mod envoy;
mod istio;
mod kubernetes;
mod names;
mod secret;
mod yaml;

#[cfg(test)]
mod tests;

use policy::reader::Problem;

pub use envoy::{EnvoySpec, config_map};
pub use istio::{GatewaySelectors, IstioSpec, Label, istio};
pub use kubernetes::{ControllerSpec, EtcdSpec, StoreSpec, kubernetes};
pub use names::{Namespace, is_dns_label, is_image};
pub use secret::{SecretSpec, secret};
pub use yaml::{Manifest, UnwritableError, is_ours};

/// Files that belong together, and what a person should know of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Export {
    /// By name; each is written whole, and all of them or none.
    pub files: Vec<Manifest>,
    /// What the other tool cannot do, or somebody must do by hand.
    pub warnings: Vec<Problem>,
}

/// Where things lie in the containers that are exported.
pub mod paths {
    /// The mesh files, in the controller.
    pub const MESH: &str = "/etc/mesh/config";
    /// The state dir, in the controller: below the volume, since Kubernetes sets the mode of a volume's root.
    pub const STATE: &str = "/var/lib/mumbai-mesh/state";
    /// The volume around it.
    pub const STATE_VOLUME: &str = "/var/lib/mumbai-mesh";
    /// What the store asks for: secret, password, certificates.
    pub const STORE: &str = "/etc/mumbai-mesh/store";
    /// An Envoy's configuration.
    pub const ENVOY: &str = "/etc/envoy";
    /// The Secret `SERVICE-mtls-certs`, beside an Envoy.
    pub const CERTIFICATES: &str = "/etc/mumbai-mesh/certs";
    /// The filter, beside an Envoy.
    pub const FILTER: &str = "/etc/mumbai-mesh/filter/mumbai_mesh.wasm";
}

/// The Envoy that all of it is made for and tested with.
pub const ENVOY_IMAGE: &str = "envoyproxy/envoy:v1.40.0";
/// `ISTIO_NAMESPACE` where nobody says otherwise.
pub const DEFAULT_NAMESPACE: &str = "istio-system";

/// A problem with a way out.
fn problem(path: impl Into<String>, message: impl Into<String>, hint: &str) -> Problem {
    Problem {
        path: path.into(),
        message: message.into(),
        hint: Some(hint.into()),
    }
}
