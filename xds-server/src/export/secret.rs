//! `SERVICE-mtls-certs`: a key and certificate of a service or gateway, as a Secret of Kubernetes.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use policy::{reader::Problem, units::ServiceName};
use serde_json::json;

use super::{
    Manifest,
    names::{Namespace, labels, no_object_name},
};

/// What is put into it.
#[derive(Debug, Clone, Copy)]
pub struct SecretSpec<'s> {
    /// Service or gateway.
    pub name: &'s ServiceName,
    /// Where its Envoys run.
    pub namespace: &'s Namespace,
    /// Its SPIFFE ID.
    pub spiffe_id: &'s str,
    /// The `node.id` for which the certificate is good at the xDS server.
    pub node_id: &'s str,
    /// Leaf first: PEM.
    pub chain: &'s str,
    /// PEM.
    pub key: &'s str,
    /// The roots to trust: PEM.
    pub bundle: &'s str,
    /// When it ends: RFC 3339.
    pub not_after: &'s str,
}

/// Its name.
pub(super) fn name_of(service: &ServiceName) -> String {
    format!("{service}-mtls-certs")
}

/// The Secret.
///
/// # Errors
/// A name that Kubernetes does not take.
pub fn secret(spec: &SecretSpec<'_>) -> Result<Manifest, Vec<Problem>> {
    let name = name_of(spec.name);
    if let Some(problem) = no_object_name(&format!("services.{}", spec.name), &name) {
        return Err(vec![problem]);
    }
    let base64 = |text: &str| BASE64_STANDARD.encode(text);
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": spec.namespace.as_str(),
            "labels": labels(spec.name.as_str(), "certificate"),
            "annotations": {
                "mumbai-mesh/spiffe-id": spec.spiffe_id,
                "mumbai-mesh/node-id": spec.node_id,
                "mumbai-mesh/not-after": spec.not_after,
            },
        },
        "type": "kubernetes.io/tls",
        "data": {
            "tls.crt": base64(spec.chain),
            "tls.key": base64(spec.key),
            "ca.crt": base64(spec.bundle),
        },
    });
    let ends = format!(
        "The certificate ends at {}. Nobody renews it here: export and apply it again before, and running",
        spec.not_after
    );
    let mut manifest = Manifest::new("secret.yaml", vec![secret]).saying(&[
        ends.as_str(),
        "Envoys take the new one up. Holds a private key: keep it out of version control.",
    ]);
    manifest.is_secret = true;
    Ok(manifest)
}
