//! WasmPlugins: the filter and its configuration.

use std::collections::BTreeMap;

use policy::{
    reader::Problem,
    wire::{FilterConfig, ServiceSource},
};
use serde_json::{Value, json};

use super::{IstioSpec, Label, Namespace, about, hosts};
use crate::{
    compile::FILTER_NAME,
    export::{Manifest, is_dns_label, names::makes_too_much, problem},
    mesh::{ClientOptions, Mesh},
};

const NAME: &str = "mumbai-mesh";

/// Whose proxies get it.
struct Place<'s> {
    /// The flag or field that asks for it.
    asked: String,
    name: String,
    namespace: &'s Namespace,
    selector: Option<Label>,
}

/// One for each namespace or workload, and one for each gateway.
pub(super) fn plugins(mesh: &Mesh, spec: &IstioSpec, problems: &mut Vec<Problem>) -> Vec<Value> {
    let mut made = Vec::new();
    let inside = configuration(mesh, spec, ClientOptions::default());
    for place in inner(spec) {
        made.push((place, inside.clone()));
    }
    for (name, gateway) in &mesh.gateways {
        let place = Place {
            asked: format!("gateways.{name}"),
            name: format!("{NAME}-{name}"),
            namespace: &spec.istio_namespace,
            selector: Some(spec.gateways.of(name)),
        };
        made.push((place, configuration(mesh, spec, gateway.clients)));
    }
    check_names(&made, problems);
    let bytes = made.iter().map(|(_, config)| config.to_string().len());
    problems.extend(makes_too_much(
        "services",
        "a pluginConfig",
        bytes.max().unwrap_or(0),
        "export meshes with fewer services, each for the namespaces that call them",
    ));
    let made = made.iter();
    made.map(|(place, config)| plugin(place, spec, config))
        .collect()
}

/// Of sidecars.
fn inner(spec: &IstioSpec) -> Vec<Place<'_>> {
    let mut places = Vec::new();
    for namespace in &spec.namespaces {
        if spec.workloads.is_empty() {
            places.push(Place {
                asked: format!("--namespace {namespace}"),
                name: NAME.into(),
                namespace,
                selector: None,
            });
        }
        for workload in &spec.workloads {
            places.push(Place {
                asked: format!("--workload {workload}"),
                name: name_of(workload),
                namespace,
                selector: Some(workload.clone()),
            });
        }
    }
    places
}

/// The key as well: values of several labels may be one word.
fn name_of(Label { key, value }: &Label) -> String {
    let key = key.rsplit_once('/').map_or(key.as_str(), |(_, name)| name);
    let name = format!("{NAME}-{key}-{value}").to_ascii_lowercase();
    name.replace(['.', '_'], "-")
}

fn check_names(made: &[(Place<'_>, Value)], problems: &mut Vec<Problem>) {
    let mut taken = BTreeMap::new();
    for (place, _) in made {
        let Place { asked, name, .. } = place;
        if !is_dns_label(name) {
            problems.push(problem(
                asked,
                format!("{name} is no name of a Kubernetes object: at most 63 of a-z, 0-9 and -"),
                "select by a label whose key and value make such a name, or give the gateway a shorter one",
            ));
        }
        if let Some(first) = taken.insert((place.namespace, name), asked) {
            problems.push(problem(
                asked,
                format!(
                    "is WasmPlugin {}/{name}, and so is {first}: one would replace the other",
                    place.namespace
                ),
                "select by a label with another key or value, or rename the gateway",
            ));
        }
    }
}

/// The filter's JSON. In Istio a route says nothing of us: a service is known by its cluster.
fn configuration(mesh: &Mesh, spec: &IstioSpec, clients: ClientOptions) -> Value {
    let mut config: FilterConfig = mesh.filter_config(clients, ServiceSource::Cluster);
    config.zone.clone_from(&spec.zone);
    for service in &mut config.services {
        service.authorities = hosts(&service.name, &spec.service_namespace);
    }
    config.to_json()
}

/// Sidecars call (`CLIENT`); a gateway always does.
fn plugin(place: &Place<'_>, spec: &IstioSpec, config: &Value) -> Value {
    let mut body = json!({
        "url": spec.url,
        "pluginName": FILTER_NAME,
        // Traffic without policy beats no traffic.
        "failStrategy": "FAIL_OPEN",
        "type": "HTTP",
        "match": [{"mode": "CLIENT"}],
        "pluginConfig": config,
    });
    if let Some(sha256) = &spec.sha256 {
        body["sha256"] = json!(sha256);
    }
    if let Some(Label { key, value }) = &place.selector {
        body["selector"] = json!({"matchLabels": {key.as_str(): value}});
    }
    json!({
        "apiVersion": "extensions.istio.io/v1alpha1",
        "kind": "WasmPlugin",
        "metadata": about(&place.name, place.namespace),
        "spec": body,
    })
}

pub(super) fn manifest(plugins: Vec<Value>, spec: &IstioSpec) -> Manifest {
    let mut lines =
        vec!["Larger than `kubectl apply` notes beside an object: apply it with --server-side."];
    if spec.is_file() {
        lines.push("The filter is a file of each proxy: workload-annotations.yaml (and gateway-mount.yaml where there are gateways)");
        lines.push("mount it from the ConfigMap mumbai-mesh-filter, which each namespace of proxies needs:");
        lines.push("  kubectl create configmap mumbai-mesh-filter --from-file=mumbai_mesh.wasm");
    }
    Manifest::new("wasm-plugins.yaml", plugins).saying(&lines)
}
