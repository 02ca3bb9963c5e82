//! The server in Kubernetes, and an example of a sidecar.

mod controller;
mod etcd;
mod network;
mod sidecar;

use policy::reader::Problem;
use serde_json::{Map, Value, json};

use super::{
    Export, Manifest,
    names::{Namespace, labels, too_large},
    paths, problem,
};
use crate::mesh::Mesh;

/// Of the Deployment, its Service, its account and what belongs to them.
pub(super) const CONTROLLER: &str = "mumbai-mesh-controller";
/// The ConfigMap of the mesh file.
pub(super) const MESH: &str = "mumbai-mesh-config";
/// The Secret of what the store asks for; who runs the mesh makes it.
pub(super) const STORE: &str = "mumbai-mesh-store";
/// The etcd that is exported beside it.
pub(super) const ETCD: &str = "mumbai-mesh-etcd";
pub(super) const XDS_PORT: u16 = 18000;
pub(super) const API_PORT: u16 = 8088;
/// Nobody.
pub(super) const USER: u32 = 65532;

/// What is exported.
#[derive(Debug, Clone)]
pub struct ControllerSpec {
    /// Where it runs.
    pub namespace: Namespace,
    /// With the program as its entry point.
    pub image: String,
    /// Where the mesh and the authority are kept.
    pub store: StoreSpec,
    /// The mesh's files, the first one last: names and texts.
    pub files: Vec<(String, String)>,
    /// Whether they are a folder's.
    pub is_folder: bool,
    /// Where the example of a sidecar runs.
    pub sidecar_namespace: Namespace,
}

/// Where the mesh and the authority are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreSpec {
    /// In the one replica's own volume.
    Embedded,
    /// In an etcd of three members that is exported too.
    OwnEtcd,
    /// In one that is there.
    Etcd(EtcdSpec),
}

/// An etcd that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdSpec {
    /// As `--store` takes it.
    pub url: String,
    /// Ports of its members.
    pub ports: Vec<u16>,
    /// Whether it asks for a password: key `password` of the Secret.
    pub has_user: bool,
    /// Whether it is reached by mutual TLS: keys `ca.crt`, `tls.crt` and `tls.key` of the Secret.
    pub has_tls: bool,
}

/// All manifests.
///
/// # Errors
/// What Kubernetes would refuse.
pub fn kubernetes(mesh: &Mesh, spec: &ControllerSpec) -> Result<Export, Vec<Problem>> {
    let mut problems = Vec::new();
    let config = config(spec, &mut problems);
    let mut files = vec![
        Manifest::new("namespace.yaml", vec![namespace(&spec.namespace)]),
        Manifest::new("serviceaccount.yaml", vec![account(spec)]).saying(&[
            "The server asks the API of Kubernetes for nothing: no role is bound to it, no token mounted.",
        ]),
        Manifest::new("configmap.yaml", vec![config])
            .saying(&["The mesh file. A change of it reaches every Envoy, without a restart."]),
        controller::deployment(spec),
        Manifest::new("service.yaml", vec![controller::service(spec)]),
    ];
    files.extend(controller::scaling(spec));
    files.push(network::policies(spec));
    if spec.store == StoreSpec::OwnEtcd {
        files.push(etcd::etcd(&spec.namespace));
    }
    let mut warnings = Vec::new();
    match sidecar::example(mesh, spec) {
        Ok(Some(example)) => files.push(example),
        Ok(None) => warnings.push(problem(
            "services",
            "no service has a sidecar and an endpoint, so there is no example of one",
            "an endpoint whose host is the Kubernetes Service, such as order-service.default.svc.cluster.local, makes one",
        )),
        Err(found) => problems.extend(found),
    }
    if problems.is_empty() {
        Ok(Export { files, warnings })
    } else {
        Err(problems)
    }
}

/// What every object of ours says of itself.
pub(super) fn about(name: &str, namespace: &Namespace, component: &str) -> Value {
    json!({
        "name": name,
        "namespace": namespace.as_str(),
        "labels": labels(name, component),
    })
}

/// By what the pods of a component are found.
pub(super) fn selected(name: &str) -> Value {
    json!({"app.kubernetes.io/name": name})
}

/// A container that may do nothing but its work.
pub(super) fn restricted() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    })
}

/// A pod of an unprivileged user, who owns its volumes. Their modes are set once: doing so at each mount would
/// open files that only their owner may read.
pub(super) fn unprivileged(user: u32) -> Value {
    json!({
        "runAsNonRoot": true,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

fn namespace(namespace: &Namespace) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": namespace.as_str(),
            "labels": {"pod-security.kubernetes.io/warn": "restricted"},
        },
    })
}

fn account(spec: &ControllerSpec) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": about(CONTROLLER, &spec.namespace, "controller"),
        "automountServiceAccountToken": false,
    })
}

fn config(spec: &ControllerSpec, problems: &mut Vec<Problem>) -> Value {
    let mut data = Map::new();
    for (name, text) in &spec.files {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if !(1..=253).contains(&name.len()) || !name.bytes().all(legal) {
            problems.push(problem(
                "include",
                format!("{name:?} is no key of a ConfigMap, which has no folders: letters, digits, -, _ and ."),
                "put the file beside the one that includes it, under such a name",
            ));
        }
        data.insert(name.clone(), text.as_str().into());
    }
    let fix =
        "serve the mesh from a volume in place of the ConfigMap, or leave out what nobody calls";
    problems.extend(too_large(&format!("ConfigMap {MESH}"), &data, fix));
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": about(MESH, &spec.namespace, "controller"),
        "data": data,
    })
}

/// What `--config` names: the folder, or the file that includes the others.
fn config_path(spec: &ControllerSpec) -> String {
    match spec.files.last() {
        Some((name, _)) if !spec.is_folder => format!("{}/{name}", paths::MESH),
        _ => paths::MESH.into(),
    }
}
