//! Settings of the proxies themselves: which metrics they keep, with which labels; access log and spans.

use policy::names;
use serde_json::{Map, Value, json};

use super::{IstioSpec, about};
use crate::{export::Manifest, mesh::Mesh};

/// Metrics of filters, as Envoy names them. Istio keeps none of them unasked.
const PREFIX: &str = "wasmcustom";
/// The collector, among Istio's providers.
const PROVIDER: &str = "mumbai-mesh-otlp";
/// Where `file://` finds the filter.
const FOLDER: &str = "/etc/mumbai-mesh/filter";
const VOLUME: &str = "mumbai-mesh-filter";

/// For `istioctl install -f`, together with whatever else an installation needs.
pub(super) fn installation(mesh: &Mesh, spec: &IstioSpec) -> Manifest {
    let mut config = json!({
        "defaultConfig": {
            "extraStatTags": names::LABELS,
            "proxyStatsMatcher": {"inclusionPrefixes": [PREFIX]},
        },
    });
    if mesh.proxies.access_log {
        config["accessLogFile"] = json!("/dev/stdout");
        config["accessLogEncoding"] = json!("JSON");
        config["accessLogFormat"] = json!(access_log().to_string());
    }
    if let Some(tracing) = &mesh.proxies.tracing {
        config["enableTracing"] = json!(true);
        config["extensionProviders"] = json!([{
            "name": PROVIDER,
            "opentelemetry": {"service": tracing.host.to_string(), "port": tracing.port},
        }]);
        config["defaultProviders"] = json!({"tracing": [PROVIDER]});
        config["defaultConfig"]["tracing"] = json!({"sampling": tracing.sampling.percent()});
    }
    let operator = json!({
        "apiVersion": "install.istio.io/v1alpha1",
        "kind": "IstioOperator",
        "metadata": {"name": "mumbai-mesh", "namespace": spec.istio_namespace.as_str()},
        "spec": {"meshConfig": config},
    });
    let mut manifest = Manifest::new("istio-installation.yaml", vec![operator]).saying(&[
        "For `istioctl install -f` (meshConfig is the same in Helm's values). Proxies take it up when they start; for",
        "some workloads only, workload-annotations.yaml says the same.",
    ]);
    manifest.is_applied = false;
    manifest
}

/// The same for one workload, whatever the installation says.
pub(super) fn annotations(mesh: &Mesh, spec: &IstioSpec) -> Manifest {
    let mut annotations = json!({
        "sidecar.istio.io/extraStatTags": names::LABELS.join(","),
        "sidecar.istio.io/statsInclusionPrefixes": PREFIX,
    });
    if let Some(tracing) = &mesh.proxies.tracing {
        let config = json!({"tracing": {"sampling": tracing.sampling.percent()}});
        annotations["proxy.istio.io/config"] = json!(config.to_string());
    }
    if spec.is_file() {
        let [volumes, mounts] = mounted();
        annotations["sidecar.istio.io/userVolume"] = json!(volumes.to_string());
        annotations["sidecar.istio.io/userVolumeMount"] = json!(mounts.to_string());
    }
    let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
    let mut manifest = Manifest::new("workload-annotations.yaml", vec![patch])
        .saying(&["For `kubectl patch deployment NAME --patch-file workload-annotations.yaml`."]);
    manifest.is_applied = false;
    manifest
}

/// The filter's volume, and where it is mounted.
fn mounted() -> [Value; 2] {
    [
        json!([{"name": VOLUME, "configMap": {"name": VOLUME}}]),
        json!([{"name": VOLUME, "mountPath": FOLDER, "readOnly": true}]),
    ]
}

/// Istio makes pods of gateways from another template, which heeds no annotation of volumes: their Deployments
/// must have it.
pub(super) fn gateway_mount(mesh: &Mesh, spec: &IstioSpec) -> Option<Manifest> {
    if mesh.gateways.is_empty() || !spec.is_file() {
        return None;
    }
    let [volumes, mounts] = mounted();
    let container = json!({"name": "istio-proxy", "volumeMounts": mounts});
    let pod = json!({"containers": [container], "volumes": volumes});
    let namespace = &spec.istio_namespace;
    let lines = [
        "For the Deployment of each gateway, to which no annotation gives volumes:".into(),
        format!("  kubectl -n {namespace} create configmap {VOLUME} --from-file=mumbai_mesh.wasm"),
        format!("  kubectl -n {namespace} patch deployment NAME --patch-file gateway-mount.yaml"),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let patch = json!({"spec": {"template": {"spec": pod}}});
    let mut manifest = Manifest::new("gateway-mount.yaml", vec![patch]).saying(&lines);
    manifest.is_applied = false;
    Some(manifest)
}

/// Without paths and queries: they carry data of accounts.
fn access_log() -> Value {
    let request = |name: &str| format!("%REQ({name})%");
    json!({
        "start_time": "%START_TIME%",
        "method": "%REQ(:METHOD)%",
        "authority": "%REQ(:AUTHORITY)%",
        "route": "%ROUTE_NAME%",
        "cluster": "%UPSTREAM_CLUSTER%",
        "upstream_host": "%UPSTREAM_HOST%",
        "protocol": "%PROTOCOL%",
        "status": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "reason": format!("%RESP({})%", names::HEADER_REASON),
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "duration_ms": "%DURATION%",
        "bytes_received": "%BYTES_RECEIVED%",
        "bytes_sent": "%BYTES_SENT%",
        "request_id": request("X-REQUEST-ID"),
        "trace_id": "%TRACE_ID%",
        "traffic_state": request(names::HEADER_TRAFFIC_STATE),
        "window": request(names::HEADER_WINDOW),
        "class": request(names::HEADER_CLASS),
        "version": request(names::HEADER_VERSION),
        "peer_identity": "%DOWNSTREAM_PEER_URI_SAN%",
    })
}

/// Which requests have spans and what these say, in each namespace whose sidecars have the filter.
pub(super) fn telemetry(mesh: &Mesh, spec: &IstioSpec) -> Option<Manifest> {
    let tracing = mesh.proxies.tracing.as_ref()?;
    let tags: Map<String, Value> = [
        ("mumbai.traffic_state", names::HEADER_TRAFFIC_STATE),
        ("mumbai.class", names::HEADER_CLASS),
        ("mumbai.version", names::HEADER_VERSION),
    ]
    .into_iter()
    .map(|(tag, header)| (tag.to_string(), json!({"header": {"name": header}})))
    .collect();
    let of = |namespace| {
        json!({
            "apiVersion": "telemetry.istio.io/v1alpha1",
            "kind": "Telemetry",
            "metadata": about("mumbai-mesh", namespace),
            "spec": {"tracing": [{
                "providers": [{"name": PROVIDER}],
                "randomSamplingPercentage": tracing.sampling.percent(),
                "customTags": tags,
            }]},
        })
    };
    let documents = spec.namespaces.iter().map(of).collect();
    Some(
        Manifest::new("telemetry.yaml", documents)
            .saying(&["Needs the provider mumbai-mesh-otlp of istio-installation.yaml."]),
    )
}
