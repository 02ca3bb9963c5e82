//! WasmPlugins: the filter and its configuration.

use policy::{
    reader::Problem,
    wire::{FilterConfig, ServiceSource},
};
use serde_json::{Value, json};

use super::{IstioSpec, Label, Namespace, about, hosts};
use crate::{
    compile::FILTER_NAME,
    export::{Manifest, is_dns_label, names::DATA_BYTES_MAX, problem},
    mesh::{ClientOptions, Mesh},
};

const NAME: &str = "mumbai-mesh";

/// One for each namespace or workload, and one for each gateway.
pub(super) fn plugins(mesh: &Mesh, spec: &IstioSpec, problems: &mut Vec<Problem>) -> Vec<Value> {
    let mut plugins = Vec::new();
    let inside = configuration(mesh, spec, ClientOptions::default());
    let mut add = |name: &str, namespace: &Namespace, selector: Option<&Label>, config: &Value| {
        if !is_dns_label(name) {
            problems.push(problem(
                "--workload",
                format!("{name} is no name of a Kubernetes object: at most 63 of a-z, 0-9 and -"),
                "select by a label whose value is such a name",
            ));
        }
        let bytes = config.to_string().len();
        if bytes > DATA_BYTES_MAX {
            problems.push(problem(
                "services",
                format!("make a pluginConfig of {bytes} bytes: Kubernetes takes {DATA_BYTES_MAX} (1 MiB) at most"),
                "export meshes with fewer services, each for the namespaces that call them",
            ));
        }
        plugins.push(plugin(name, namespace, selector, spec, config));
    };
    for namespace in &spec.namespaces {
        if spec.workloads.is_empty() {
            add(NAME, namespace, None, &inside);
        }
        for workload in &spec.workloads {
            let name = format!("{NAME}-{}", workload.value.to_ascii_lowercase());
            add(&name, namespace, Some(workload), &inside);
        }
    }
    for (name, gateway) in &mesh.gateways {
        let config = configuration(mesh, spec, gateway.clients);
        let selector = spec.gateways.of(name);
        add(
            &format!("{NAME}-{name}"),
            &spec.istio_namespace,
            Some(&selector),
            &config,
        );
    }
    plugins
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
fn plugin(
    name: &str,
    namespace: &Namespace,
    selector: Option<&Label>,
    spec: &IstioSpec,
    config: &Value,
) -> Value {
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
    if let Some(Label { key, value }) = selector {
        body["selector"] = json!({"matchLabels": {key.as_str(): value}});
    }
    json!({
        "apiVersion": "extensions.istio.io/v1alpha1",
        "kind": "WasmPlugin",
        "metadata": about(name, namespace),
        "spec": body,
    })
}

pub(super) fn manifest(plugins: Vec<Value>, spec: &IstioSpec) -> Manifest {
    let mut lines =
        vec!["Larger than `kubectl apply` notes beside an object: apply it with --server-side."];
    if spec.url.starts_with("file:") {
        lines.push("The filter is a file of each proxy: workload-annotations.yaml mounts it from the ConfigMap mumbai-mesh-filter,");
        lines.push("  kubectl create configmap mumbai-mesh-filter --from-file=mumbai_mesh.wasm");
    }
    Manifest::new("wasm-plugins.yaml", plugins).saying(&lines)
}
