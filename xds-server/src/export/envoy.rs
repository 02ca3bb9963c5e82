//! A whole Envoy without a server: a ConfigMap with a static bootstrap and, in a file of its own that Envoy
//! follows, the policy. Certificates come from the Secret `SERVICE-mtls-certs`.

use std::collections::BTreeMap;

use policy::{
    reader::Problem,
    units::{ServiceName, ZoneName},
};
use serde_json::{Map, Value, json};

use super::{
    Manifest,
    names::{Namespace, labels, no_object_name, too_large},
    paths, problem,
    secret::name_of,
    yaml::yaml,
};
use crate::{
    bootstrap::{Member, certificate_in_files, stats_config},
    compile::{Draft, FilterCode, FilterFile, NodeSpec, OWN, TRUSTED, Unhealthy, compile},
    mesh::Mesh,
    resource::{NodeKey, ResourceType},
};

/// Which Envoy.
#[derive(Debug, Clone)]
pub struct EnvoySpec {
    /// Service or gateway.
    pub name: ServiceName,
    /// The endpoint beside which it stands.
    pub node_id: String,
    /// Its zone, when not its endpoint's.
    pub zone: Option<ZoneName>,
    /// Where it runs.
    pub namespace: Namespace,
    /// Port of its admin interface, on loopback.
    pub admin_port: u16,
}

const BOOTSTRAP: &str = "envoy.yaml";
const POLICY: &str = "policy.yaml";
const CERTIFICATE: &str = "certificate.yaml";
const ROOTS: &str = "roots.yaml";

/// The ConfigMap `NAME-envoy`, to be mounted at `/etc/envoy`.
///
/// # Errors
/// A name that Kubernetes does not take; more than it takes.
pub fn config_map(
    mesh: &Mesh,
    member: &Member,
    spec: &EnvoySpec,
) -> Result<Manifest, Vec<Problem>> {
    let name = format!("{}-envoy", spec.name);
    let is_gateway = mesh.gateways.contains_key(&spec.name);
    let kind = if is_gateway { "gateways" } else { "services" };
    let path = format!("{kind}.{}", spec.name);
    let names = [name.clone(), name_of(&spec.name)];
    let mut problems: Vec<Problem> = names
        .iter()
        .filter_map(|name| no_object_name(&path, name))
        .collect();
    let (bootstrap, policy, has_tls) = static_envoy(mesh, member, spec);
    let mut data = Map::new();
    let mut put = |key: &str, tree: &Value| match yaml(tree) {
        Ok(text) => _ = data.insert(key.into(), text.into()),
        Err(error) => problems.push(problem(
            key,
            error.to_string(),
            "leave such characters out of the mesh file",
        )),
    };
    put(BOOTSTRAP, &bootstrap);
    put(POLICY, &policy);
    if has_tls {
        let [certificate, roots] = certificate_in_files(paths::CERTIFICATES, [OWN, TRUSTED]);
        put(CERTIFICATE, &certificate);
        put(ROOTS, &roots);
    }
    let object = format!("ConfigMap {name}");
    problems.extend(too_large(&object, &data, less(is_gateway)));
    if !problems.is_empty() {
        return Err(problems);
    }
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": spec.namespace.as_str(),
            "labels": labels(spec.name.as_str(), "envoy"),
        },
        "data": data,
    });
    let mounted = format!(
        "Mount it at {}, and start `envoy -c {}/{BOOTSTRAP}`.",
        paths::ENVOY,
        paths::ENVOY
    );
    let filter = format!("The filter is looked for at {}.", paths::FILTER);
    let secret = format!(
        "Certificates: Secret {} at {}.",
        name_of(&spec.name),
        paths::CERTIFICATES
    );
    let mut lines = vec![
        mounted.as_str(),
        filter.as_str(),
        "A running Envoy takes a new policy.yaml up; for another envoy.yaml it must be started anew.",
    ];
    if has_tls {
        lines.push(&secret);
    }
    Ok(Manifest::new("configmap.yaml", vec![map]).saying(&lines))
}

/// What to do about too much of it.
fn less(is_gateway: bool) -> &'static str {
    if is_gateway {
        return "give it its configuration by xDS (mumbai-mesh bootstrap), or make this of a mesh file with fewer services";
    }
    "say in the mesh file what it calls (services.NAME.uses), or give it its configuration by xDS (mumbai-mesh bootstrap)"
}

/// Bootstrap and policy, and whether it needs certificates.
fn static_envoy(mesh: &Mesh, member: &Member, spec: &EnvoySpec) -> (Value, Value, bool) {
    let zone = spec.zone.as_ref().map(ToString::to_string);
    let node = NodeKey {
        id: spec.node_id.clone(),
        cluster: spec.name.to_string(),
        zone: zone.clone().unwrap_or_default(),
        ..NodeKey::default()
    };
    // The file's content is nobody's business here: only its place is told.
    let code = FilterCode::new(bytes::Bytes::new());
    let mut node = NodeSpec::of(mesh, &node);
    node.filter_file = Some(FilterFile {
        path: paths::FILTER.into(),
        sha256: code.sha256().into(),
    });
    let parts = Parts::of(compile(mesh, &node, &code, &Unhealthy::default()));
    let endpoint = member.endpoint(&spec.node_id);
    let region = endpoint
        .and_then(|endpoint| endpoint.region.clone())
        .or_else(|| mesh.region.clone());
    let mut about = json!({"id": spec.node_id, "cluster": spec.name.as_str()});
    if region.is_some() || !node.zone.is_empty() {
        about["locality"] = json!({"region": region.unwrap_or_default(), "zone": node.zone});
    }
    let mut bootstrap = json!({
        "node": about,
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": spec.admin_port}}},
        "static_resources": {"listeners": parts.listeners, "clusters": parts.clusters},
        "stats_config": stats_config(),
    });
    let has_tls = settle(&mut bootstrap, &parts.routes);
    (bootstrap, parts.policy, has_tls)
}

#[derive(Default)]
struct Parts {
    listeners: Vec<Value>,
    clusters: Vec<Value>,
    routes: BTreeMap<String, Value>,
    policy: Value,
}

impl Parts {
    fn of(drafts: Vec<Draft>) -> Self {
        let mut parts = Self::default();
        let mut endpoints = BTreeMap::new();
        for Draft {
            kind,
            name,
            mut body,
        } in drafts
        {
            match kind {
                ResourceType::Listener => parts.listeners.push(body),
                ResourceType::Cluster => parts.clusters.push(body),
                ResourceType::RouteConfiguration => _ = parts.routes.insert(name, body),
                ResourceType::ClusterLoadAssignment => _ = endpoints.insert(name, body),
                ResourceType::ExtensionConfig => {
                    body["@type"] =
                        json!("type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig");
                    parts.policy = json!({"resources": [body]});
                }
                _ => {}
            }
        }
        for cluster in &mut parts.clusters {
            let name = cluster["name"].as_str().unwrap_or_default();
            let Some(assignment) = endpoints.remove(name) else {
                continue;
            };
            cluster["type"] = json!("STATIC");
            cluster["load_assignment"] = assignment;
            if let Some(cluster) = cluster.as_object_mut() {
                cluster.remove("eds_cluster_config");
            }
        }
        parts
    }
}

/// What comes by xDS elsewhere stands here, or in a file that Envoy follows. Whether there are certificates.
fn settle(tree: &mut Value, routes: &BTreeMap<String, Value>) -> bool {
    // Each is settled, also behind one that has certificates.
    let mut found = false;
    match tree {
        Value::Array(elements) => {
            for element in elements {
                found |= settle(element, routes);
            }
        }
        Value::Object(fields) => {
            if let Some(rds) = fields.remove("rds") {
                let name = rds["route_config_name"].as_str().unwrap_or_default();
                let route = routes
                    .get(name)
                    .cloned()
                    .unwrap_or_else(|| json!({"name": name}));
                fields.insert("route_config".into(), route);
            }
            if let Some(discovery) = fields.get_mut("config_discovery") {
                discovery["config_source"] = followed(POLICY);
            }
            if fields.contains_key("sds_config") {
                found = true;
                let is_own = fields.get("name").and_then(Value::as_str) == Some(OWN);
                let file = if is_own { CERTIFICATE } else { ROOTS };
                fields.insert("sds_config".into(), followed(file));
            }
            for value in fields.values_mut() {
                found |= settle(value, routes);
            }
        }
        _ => {}
    }
    found
}

/// A file of the ConfigMap, which Kubernetes replaces together with its folder.
fn followed(file: &str) -> Value {
    json!({
        "path_config_source": {
            "path": format!("{}/{file}", paths::ENVOY),
            "watched_directory": {"path": paths::ENVOY},
        },
        "resource_api_version": "V3",
    })
}
