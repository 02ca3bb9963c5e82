//! `export istio`, given to a real Envoy exactly as Istio gives it to its proxies: the filter by ECDS behind an
//! RBAC filter that stands in for it, its configuration through a struct, clusters by Istio's names, labels of
//! metrics by Istio's expressions. Istio itself is not here: what it makes of each resource was read in its
//! sources.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::Artifacts,
    demo_services::DemoService,
    envoy::{self, Envoy},
    http::{Client, Response},
    ports::free_port,
    wait::wait_for,
};
use serde_json::{Map, Value, json};

use super::{documents, of_kind, text};
use crate::{
    command::run,
    door1::{BOUND, seen, version},
};

const HOST: &str = "order-service.shop.svc.cluster.local";
/// As istiod names it.
const FILTER: &str = "shop.mumbai-mesh";
const MESH: &str = "\
timezone: Asia/Kolkata
mesh: {region: mumbai}
peak_hours: {always: {start: 0, end: 24, multiplier: 1.5}}
services:
  order-service:
    class: gold
    stable_version: v1
    endpoints:
      - {id: order-1, host: 10.0.0.1, port: 8080, version: v1}
      - {id: order-2, host: 10.0.0.2, port: 8080, version: v2}
    circuit_breaker: {consecutive_failures: 3, open_for: 60s, half_open_probes: 2}
    canary: {version: v2, weight: 10, sticky_by: {header: x-user-id}}
";

/// Numbers as doubles, fields in another order.
fn through_a_struct(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(elements) => elements.iter().map(through_a_struct).collect(),
        Value::Object(fields) => {
            let fields = fields.iter().rev();
            let fields = fields.map(|(name, value)| (name.clone(), through_a_struct(value)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}

/// What istiod makes of a WasmPlugin.
fn wasm(plugin: &Value, path: &str) -> Result<Value> {
    let spec = &plugin["spec"];
    ensure!(
        spec["failStrategy"] == "FAIL_OPEN" && spec["match"][0]["mode"] == "CLIENT",
        "{spec:#}"
    );
    let url = spec["url"].as_str().context("url")?;
    ensure!(
        url == "file:///etc/mumbai-mesh/filter/mumbai_mesh.wasm",
        "{url}"
    );
    let configuration = match spec["pluginConfig"]
        .as_object()
        .filter(|fields| !fields.is_empty())
    {
        Some(_) => json!({
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": through_a_struct(&spec["pluginConfig"]).to_string(),
        }),
        // Present, and empty.
        None => json!({}),
    };
    Ok(json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
        "config": {
            "name": FILTER,
            "root_id": spec["pluginName"],
            "failure_policy": "FAIL_OPEN",
            "configuration": configuration,
            "vm_config": {
                "runtime": "envoy.wasm.runtime.v8",
                "code": {"local": {"filename": path}},
            },
        },
    }))
}

/// What the agent puts there while the module cannot be had, for FAIL_OPEN: it lets everything pass.
fn allow_all() -> Value {
    json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"})
}

/// What istiod makes of a VirtualService of one host.
fn routes(service: &Value) -> Result<Vec<Value>> {
    ensure!(service["spec"]["hosts"] == json!([HOST]), "{service:#}");
    let http = service["spec"]["http"].as_array().context("http")?;
    let route = |route: &Value| -> Result<Value> {
        let mut matched = json!({"prefix": "/"});
        let headers = route["match"][0]["headers"].as_object();
        if let Some((name, condition)) = headers.and_then(|headers| headers.iter().next()) {
            matched["headers"] = json!([{"name": name, "string_match": condition}]);
        }
        let destination = &route["route"][0]["destination"];
        let subset = destination["subset"].as_str().context("subset")?;
        Ok(json!({"name": route["name"], "match": matched, "route": {
            "cluster": format!("outbound|80|{subset}|{HOST}"), "timeout": "0s",
        }}))
    };
    http.iter().map(route).collect()
}

/// Its subsets as clusters, by the label `version` of pods.
fn clusters(rule: &Value, pods: &[(&str, u16)]) -> Result<Vec<Value>> {
    let subsets = rule["spec"]["subsets"].as_array().context("subsets")?;
    let cluster = |subset: &Value| -> Result<Value> {
        let name = format!(
            "outbound|80|{}|{HOST}",
            subset["name"].as_str().context("name")?
        );
        let chosen = pods
            .iter()
            .find(|(version, _)| subset["labels"]["version"] == **version);
        let (_, port) = chosen.with_context(|| format!("no pod for {subset}"))?;
        Ok(
            json!({"name": name, "type": "STATIC", "load_assignment": {"cluster_name": name, "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": address(*port)}}]}]}}),
        )
    };
    subsets.iter().map(cluster).collect()
}

fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

/// Istio's own tags and its expression for further ones; of the metrics only those that are asked for are kept.
fn stats(config: &Value) -> Result<Value> {
    let config = &config["defaultConfig"];
    let own = [
        (
            "cluster_name",
            r"^cluster\.((.+?(\..+?\.svc\.cluster\.local)?)\.)",
        ),
        ("tcp_prefix", r"^tcp\.((.*?)\.)\w+?$"),
        ("response_code_class", r"_rq(_(\dxx))$"),
        (
            "http_conn_manager_prefix",
            r"^http\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
        ),
        (
            "listener_address",
            r"^listener\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
        ),
        (
            "mongo_prefix",
            r"^mongo\.(.+?)\.(collection|cmd|cx_|op_|delays_|decoding_)(.*?)$",
        ),
    ];
    let own = own.map(|(name, regex)| json!({"tag_name": name, "regex": regex}));
    let further = config["extraStatTags"]
        .as_array()
        .context("extraStatTags")?;
    let further = further.iter().filter_map(Value::as_str);
    let further =
        further.map(|tag| json!({"tag_name": tag, "regex": format!("({tag}\\.=\\.(.*?);\\.)")}));
    let tags: Vec<Value> = own.into_iter().chain(further).collect();
    let asked = config["proxyStatsMatcher"]["inclusionPrefixes"]
        .as_array()
        .context("prefixes")?;
    let kept = [
        "reporter=",
        "cluster_manager",
        "listener_manager",
        "server",
        "extension_config_discovery",
    ];
    let kept = kept
        .into_iter()
        .map(Value::from)
        .chain(asked.iter().cloned());
    let patterns: Vec<Value> = kept.map(|prefix| json!({"prefix": prefix})).collect();
    Ok(json!({
        "use_all_default_tags": false,
        "stats_tags": tags,
        "stats_matcher": {"inclusion_list": {"patterns": patterns}},
    }))
}

fn listener(port: u16, ecds: &Path, routes: &[Value]) -> Value {
    let prefix = "type.googleapis.com/envoy.extensions.filters.http";
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "outbound_0.0.0.0_80",
        "route_config": {"name": "80", "virtual_hosts": [
            {"name": format!("{HOST}:80"), "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {"name": FILTER, "config_discovery": {
                "config_source": {
                    "path_config_source": {"path": ecds},
                    "resource_api_version": "V3",
                    "initial_fetch_timeout": "0s",
                },
                "type_urls": [format!("{prefix}.wasm.v3.Wasm"), format!("{prefix}.rbac.v3.RBAC")],
            }},
            {"name": "envoy.filters.http.router", "typed_config": {"@type": format!("{prefix}.router.v3.Router")}},
        ],
    });
    json!({
        "name": "0.0.0.0_80",
        "address": address(port),
        "traffic_direction": "OUTBOUND",
        "filter_chains": [{"filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}],
    })
}

/// A proxy as Istio runs it, in front of two versions of a service.
struct Proxy {
    envoy: Envoy,
    client: Client,
    plugin: Value,
    ecds: PathBuf,
    wasm: String,
    _pods: [DemoService; 2],
    _dir: tempfile::TempDir,
}

impl Proxy {
    fn start() -> Result<Self> {
        let artifacts = Artifacts::from_env()?;
        let dir = tempfile::tempdir()?;
        let mesh = dir.path().join("mesh.yaml");
        fs::write(&mesh, MESH)?;
        let out = dir.path().join("istio");
        let asked = [
            "istio",
            "--config",
            text(&mesh)?,
            "--out",
            text(&out)?,
            "--namespace",
            "shop",
        ];
        let (code, _, told) = run(&["export"], &asked)?;
        ensure!(code == Some(0), "{told}");
        let read = |file: &str| documents(&fs::read_to_string(out.join(file))?);
        let plugin = of_kind(&read("wasm-plugins.yaml")?, "WasmPlugin", "mumbai-mesh")?.clone();
        let installation = read("istio-installation.yaml")?.remove(0);
        let pods = ["v1", "v2"]
            .map(|version| DemoService::start(&artifacts, dir.path(), "order-service", version));
        let [stable, canary] = pods;
        let pods = [stable?, canary?];
        let ports = [("v1", pods[0].addr.port()), ("v2", pods[1].addr.port())];
        let rules = read("destination-rules.yaml")?;
        let services = read("virtual-services.yaml")?;
        let ecds = dir.path().join("ecds.json");
        let (port, admin_port) = (free_port(), free_port());
        let routes = routes(of_kind(&services, "VirtualService", "order-service")?)?;
        let bootstrap = json!({
            "node": {"id": "sidecar~10.0.0.9~checkout-1.shop~shop.svc.cluster.local", "cluster": "checkout.shop"},
            "admin": {"address": address(admin_port)},
            "stats_config": stats(&installation["spec"]["meshConfig"])?,
            "static_resources": {
                "listeners": [listener(port, &ecds, &routes)],
                "clusters": clusters(of_kind(&rules, "DestinationRule", "order-service")?, &ports)?,
            },
        });
        put(&ecds, &allow_all())?;
        let options = envoy::Options {
            admin_port,
            ..envoy::Options::default()
        };
        let envoy = Envoy::start(&artifacts, dir.path(), &bootstrap.to_string(), &options)?;
        Ok(Self {
            envoy,
            client: Client::new(([127, 0, 0, 1], port).into()),
            plugin,
            ecds,
            wasm: artifacts.wasm.display().to_string(),
            _pods: pods,
            _dir: dir,
        })
    }

    /// Delivers another filter, and waits until it is in force.
    fn deliver(&self, filter: &Value) -> Result<()> {
        let taken = format!("extension_config_discovery.http_filter.{FILTER}.config_reload");
        let before = self.envoy.stat(&taken).unwrap_or(0);
        put(&self.ecds, filter)?;
        wait_for("the filter to be taken", BOUND, || {
            match self.envoy.stat(&taken) {
                Some(now) if now > before => Ok(()),
                other => Err(format!("{other:?}: {}", self.envoy.log())),
            }
        })
    }

    /// The name in `host` is one that nobody knows: services are found by Istio's clusters.
    fn ask(&mut self, user: &[u8], more: &[(&str, &[u8])]) -> Result<Response> {
        let headers = [&[("host", &b"somewhere"[..]), ("x-user-id", user)], more].concat();
        self.client.get("/orders", &headers)
    }
}

fn put(ecds: &Path, filter: &Value) -> Result<()> {
    let response = json!({"version_info": "1", "resources": [{
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": FILTER,
        "typed_config": filter,
    }]});
    let beside = ecds.with_extension("new");
    fs::write(&beside, response.to_string())?;
    Ok(fs::rename(beside, ecds)?)
}

#[test]
fn an_envoy_that_istio_configures_decides_counts_and_breaks() -> Result<()> {
    let mut proxy = Proxy::start()?;
    // While the module is fetched, requests pass without policy.
    let before = proxy.ask(b"user-42", &[])?;
    assert_eq!((before.status, version(&before)?), (200, "v1".into()));
    assert_eq!(seen(&before, "x-mumbai-traffic-state")?, None);

    proxy.deliver(&wasm(&proxy.plugin, &proxy.wasm)?)?;
    let peak = proxy.ask(b"user-1", &[("x-mumbai-version", b"v2")])?;
    assert_eq!(
        seen(&peak, "x-mumbai-traffic-state")?.as_deref(),
        Some("peak_hour")
    );
    assert_eq!(seen(&peak, "x-mumbai-multiplier")?.as_deref(), Some("1.5"));
    assert_eq!(seen(&peak, "x-mumbai-class")?.as_deref(), Some("gold"));
    assert_eq!(version(&peak)?, "v1", "a forged header chose the subset");
    let canary = proxy.ask(b"user-42", &[])?;
    assert_eq!(version(&canary)?, "v2");
    assert_eq!(seen(&canary, "x-mumbai-version")?.as_deref(), Some("v2"));

    for _ in 0..3 {
        assert_eq!(
            proxy.ask(b"user-1", &[("x-demo-status", b"500")])?.status,
            500
        );
    }
    let refused = proxy.ask(b"user-1", &[])?;
    assert_eq!(refused.status, 503);
    assert_eq!(
        refused.header("x-mumbai-reason"),
        Some(&b"breaker_open"[..])
    );
    assert_eq!(
        proxy.ask(b"user-42", &[])?.status,
        200,
        "the canary has a breaker of its own"
    );

    let promised = [
        "mumbai_mesh_requests_total{service=\"order-service\",status=\"200\"} 3",
        "mumbai_mesh_requests_total{service=\"order-service\",status=\"500\"} 3",
        "mumbai_mesh_requests_total{service=\"order-service\",status=\"503\"} 1",
        "mumbai_mesh_circuit_breaker_state{service=\"order-service\"} 1",
        "mumbai_traffic_state{state=\"peak_hour\"} 1",
    ];
    wait_for("the metrics with their labels", BOUND, || {
        let page = proxy
            .envoy
            .prometheus()
            .map_err(|error| format!("{error:#}"))?;
        let absent = promised
            .iter()
            .filter(|line| !page.lines().any(|found| found == **line));
        let absent: Vec<_> = absent.collect();
        match absent.is_empty() {
            true => Ok(()),
            false => Err(format!("absent: {absent:#?} of {page}")),
        }
    })?;

    // The module is gone from the registry: requests pass again.
    proxy.deliver(&allow_all())?;
    let after = proxy.ask(b"user-1", &[])?;
    assert_eq!((after.status, seen(&after, "x-mumbai-class")?), (200, None));
    Ok(())
}

#[test]
fn a_plugin_without_a_configuration_is_taken_and_refuses_nobody() -> Result<()> {
    let mut proxy = Proxy::start()?;
    let mut plugin = proxy.plugin.clone();
    plugin["spec"]["pluginConfig"] = json!({});
    proxy.deliver(&wasm(&plugin, &proxy.wasm)?)?;
    let answer = proxy.ask(b"user-42", &[("x-mumbai-version", b"v2")])?;
    assert_eq!((answer.status, version(&answer)?), (200, "v1".into()));
    assert_eq!(
        seen(&answer, "x-mumbai-traffic-state")?.as_deref(),
        Some("normal")
    );
    Ok(())
}
