//! An example of a service behind its sidecar, to be copied from.

use std::net::{IpAddr, Ipv4Addr};

use policy::{reader::Problem, units::ServiceName};
use serde_json::{Map, Value, json};

use super::{
    CONTROLLER, ControllerSpec, XDS_PORT, config_path, restricted, selected, unprivileged,
};
use crate::{
    bootstrap::{BootstrapSpec, NodeIdentity, XDS_SECRETS, bootstrap, certificate_in_files},
    export::{
        ENVOY_IMAGE, Manifest,
        names::{labels, no_object_name, no_service_name},
        paths, problem,
        secret::name_of,
        yaml::yaml,
    },
    mesh::{Endpoint, Mesh, Service},
};

/// Of the image; Envoy needs no more.
const ENVOY_USER: u32 = 101;
const ADMIN_PORT: u16 = 9901;
const BOOTSTRAP: &str = "envoy.yaml";
const CERTIFICATE: &str = "xds-certificate.yaml";
const ROOTS: &str = "xds-roots.yaml";

/// Of the first service that has sidecars.
pub(super) fn example(
    mesh: &Mesh,
    spec: &ControllerSpec,
) -> Result<Option<Manifest>, Vec<Problem>> {
    let stands =
        |(_, service): &(&ServiceName, &Service)| service.sidecar && !service.endpoints.is_empty();
    let Some((name, service)) = mesh.services.iter().find(stands) else {
        return Ok(None);
    };
    let Some(endpoint) = service.endpoints.first() else {
        return Ok(None);
    };
    let path = format!("services.{name}");
    let envoy = format!("{name}-envoy");
    let mut problems: Vec<Problem> = no_service_name(&path, name.as_str()).into_iter().collect();
    problems.extend(no_object_name(&path, &name_of(name)));
    let data = data(mesh, spec, name, endpoint)
        .map_err(|error| vec![problem(&path, error, "leave such characters out")])?;
    if !problems.is_empty() {
        return Err(problems);
    }
    let namespace = spec.sidecar_namespace.as_str();
    let about = |name: &str| json!({"name": name, "namespace": namespace, "labels": labels(name, "service")});
    let config =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": about(&envoy), "data": data});
    let mut pod = labels(name.as_str(), "service");
    pod["app"] = json!(name.as_str());
    if let Some(version) = &endpoint.version {
        pod["version"] = json!(version.as_str());
    }
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": about(name.as_str()),
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": selected(name.as_str())},
            "template": {"metadata": {"labels": pod}, "spec": containers(name, service, endpoint, &envoy)},
        },
    });
    let reached = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": about(name.as_str()),
        "spec": {
            // Callers' Envoys balance the load themselves.
            "clusterIP": "None",
            "selector": selected(name.as_str()),
            "ports": [{"name": "tls-mesh", "port": endpoint.port}],
        },
    });
    let node_id = &endpoint.id;
    let lines = [
        format!("An example: {name} behind its sidecar, to be copied from; `kubectl apply -f` of the folder above leaves it out."),
        "Its image is yours to name. The sidecar's certificate is a Secret:".into(),
        format!("  kubectl -n {} exec deploy/{CONTROLLER} -- mumbai-mesh export secret {name} --node-id {node_id} \\", spec.namespace),
        format!("    --namespace {namespace} --state-dir {} --config {} | kubectl apply -f -", paths::STATE, config_path(spec)),
        format!("A certificate is good at the xDS server for one node.id, and both pods have this one: they are one node, {node_id}, in"),
        "`proxy status`, for health, and where a limit (scope: fleet) is divided. For a node of each pod: an endpoint with an id, a".into(),
        "Secret and a Deployment for each.".into(),
        "Its application calls others at http://127.0.0.1:15001, by the name of the service in `host`.".into(),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mut manifest = Manifest::new("examples/sidecar.yaml", vec![config, deployment, reached]);
    // Whoever applies the server has a service of that name already.
    manifest.is_applied = false;
    Ok(Some(manifest.saying(&lines)))
}

fn data(
    mesh: &Mesh,
    spec: &ControllerSpec,
    name: &ServiceName,
    endpoint: &Endpoint,
) -> Result<Map<String, Value>, String> {
    let file = |file: &str| format!("{}/{file}", paths::ENVOY);
    let bootstrap = bootstrap(&BootstrapSpec {
        name: name.to_string(),
        node_id: endpoint.id.clone(),
        xds_host: format!("{CONTROLLER}.{}.svc", spec.namespace),
        xds_port: XDS_PORT,
        admin: (IpAddr::V4(Ipv4Addr::LOCALHOST), ADMIN_PORT),
        region: endpoint.region.clone().or_else(|| mesh.region.clone()),
        zone: endpoint.zone.as_ref().map(ToString::to_string),
        outbound_port: None,
        filter: None,
        identity: Some(NodeIdentity {
            certificate: file(CERTIFICATE),
            roots: file(ROOTS),
            server: mesh.trust_domain.server(),
        }),
    });
    let [certificate, roots] = certificate_in_files(paths::CERTIFICATES, XDS_SECRETS);
    let mut data = Map::new();
    for (file, tree) in [
        (BOOTSTRAP, bootstrap),
        (CERTIFICATE, certificate),
        (ROOTS, roots),
    ] {
        let text = yaml(&tree).map_err(|error| error.to_string())?;
        data.insert(file.into(), text.into());
    }
    Ok(data)
}

fn containers(name: &ServiceName, service: &Service, endpoint: &Endpoint, envoy: &str) -> Value {
    let mut application = json!({
        "name": "application",
        "image": format!("{name}:{}", endpoint.version.as_ref().map_or("latest", |version| version.as_str())),
        "securityContext": restricted(),
        "resources": {
            "requests": {"cpu": "100m", "memory": "128Mi"},
            "limits": {"memory": "256Mi"},
        },
    });
    if let Some(port) = endpoint.app_port.or(service.port) {
        application["ports"] = json!([{"name": "http", "containerPort": port}]);
    }
    // Envoy's image has no curl; its admin port answers HTTP/1.1 on loopback alone.
    let ready = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{ADMIN_PORT}; printf 'GET /ready HTTP/1.1\\r\\nhost: a\\r\\nconnection: close\\r\\n\\r\\n' >&3; grep -q LIVE <&3"
    );
    let probe = json!({"exec": {"command": ["bash", "-c", ready]}, "periodSeconds": 5});
    let mut starting = probe.clone();
    starting["periodSeconds"] = json!(1);
    starting["failureThreshold"] = json!(60);
    json!({
        "automountServiceAccountToken": false,
        "securityContext": unprivileged(ENVOY_USER),
        // A sidecar: it starts before the application and ends after it.
        "initContainers": [{
            "name": "envoy",
            "image": ENVOY_IMAGE,
            "restartPolicy": "Always",
            "args": ["-c", format!("{}/{BOOTSTRAP}", paths::ENVOY), "--disable-hot-restart", "--concurrency", "2"],
            "ports": [{"name": "mesh", "containerPort": endpoint.port}],
            "startupProbe": starting,
            "readinessProbe": probe,
            "resources": {
                "requests": {"cpu": "100m", "memory": "128Mi"},
                "limits": {"memory": "512Mi"},
            },
            "securityContext": restricted(),
            "volumeMounts": [
                {"name": "envoy", "mountPath": paths::ENVOY, "readOnly": true},
                {"name": "certificates", "mountPath": paths::CERTIFICATES, "readOnly": true},
            ],
        }],
        "containers": [application],
        "volumes": [
            {"name": "envoy", "configMap": {"name": envoy}},
            {"name": "certificates", "secret": {"secretName": name_of(name), "defaultMode": 0o440}},
        ],
    })
}
