//! The Envoys that are compared. They differ in one HTTP filter and in nothing else: the same routes,
//! the same two clusters with the same upstream.

use std::path::Path;

use serde_json::{Value, json};

const SERVICE: &str = "order-service";
const LUA_HEADERS: &str = include_str!("lua/headers.lua");
const LUA_DECISIONS: &str = include_str!("lua/decisions.lua");

/// One Envoy of the comparison.
pub struct Row {
    /// For files and processes.
    pub id: String,
    /// For people.
    pub title: String,
    /// The HTTP filter before the router.
    pub filter: Option<Value>,
    /// Whether it sends a tenth of the users to the canary: a proof that it decides.
    pub splits: bool,
}

/// All rows; the first is what the others are compared with.
pub fn all(wasm: &Path, hello: &Path) -> Vec<Row> {
    let row = |id: &str, title: &str, filter, splits| Row {
        id: id.into(),
        title: title.into(),
        filter,
        splits,
    };
    let mut rows = vec![
        row("none", "no filter", None, false),
        row(
            "native",
            "native header mutation",
            Some(header_mutation()),
            false,
        ),
        row(
            "hello",
            "empty wasm filter",
            Some(wasm_filter(hello, "")),
            false,
        ),
        row(
            "lua-headers",
            "Lua, only sets the headers",
            Some(lua(LUA_HEADERS)),
            false,
        ),
        row(
            "lua-decisions",
            "Lua, the same decisions",
            Some(lua(LUA_DECISIONS)),
            true,
        ),
    ];
    let large = (LARGE, "mumbai-mesh, 1,000 services", large_policy());
    let filters = policies().into_iter().chain([large]);
    rows.extend(filters.map(|(id, title, policy)| {
        let filter = wasm_filter(wasm, &policy.to_string());
        row(id, title, Some(filter), true)
    }));
    rows
}

/// Id of the row whose policy is that of a large mesh.
pub const LARGE: &str = "large";
/// Id of the row that stands for the filter.
pub const FILTER: &str = "mumbai-mesh";

/// A filter that was built elsewhere, or before a change, with the full policy.
pub fn another_build(number: u32, wasm: &Path) -> Row {
    Row {
        id: format!("also-{number}"),
        title: wasm.file_name().unwrap_or_default().display().to_string(),
        filter: Some(wasm_filter(wasm, &policy(OF_SIDECARS).to_string())),
        splits: true,
    }
}

/// By what the server lets the filter know a request's service: at a sidecar, whose virtual hosts are
/// services, and at a gateway, whose routes choose by path.
const OF_SIDECARS: &str = "authority";
const OF_GATEWAYS: &str = "cluster";

/// Rows that differ in their calls to Envoy: their ids, titles and policies.
pub fn policies() -> [(&'static str, &'static str, Value); 3] {
    [
        (FILTER, "mumbai-mesh, full policy", policy(OF_SIDECARS)),
        ("ordinary", "mumbai-mesh, ordinary hour", ordinary_policy()),
        ("gateway", "mumbai-mesh, by cluster", policy(OF_GATEWAYS)),
    ]
}

/// Windows, a festival, a class by path and method, a sticky canary and breakers.
fn policy(service_from: &str) -> Value {
    json!({
        "version": 1,
        "timezone": {"name": "Asia/Kolkata", "posix": "IST-5:30"},
        "peak_hours": {
            "evening": {"start": 0, "end": 24, "multiplier": 1.5},
            "always": {"start": 0, "end": 24, "multiplier": 1.25},
        },
        "festivals": [
            {"name": "Diwali", "start": "2020-01-01", "end": "2060-01-01", "factor": 2.0}],
        "service_from": service_from,
        "traffic_classes": [
            {"name": "gold", "match": [{"path_prefix": "/orders/", "method": "GET"}]}],
        "services": [{
            "name": SERVICE,
            "canary": {"version": "v2", "weight": 10, "sticky_by": {"header": "x-user-id"}},
            "circuit_breaker": {
                "consecutive_failures": 5,
                "error_rate": {"percent": 50, "minimum_requests": 20, "window": "10s"},
            },
        }],
    })
}

/// The same at an hour of which the calendar says nothing: window and multiplier are no headers then.
fn ordinary_policy() -> Value {
    let mut policy = policy(OF_SIDECARS);
    for window in ["evening", "always"] {
        policy["peak_hours"][window]["zone"] = json!("elsewhere");
    }
    policy["zone"] = json!("here");
    policy["festivals"][0]["end"] = json!("2020-01-02");
    policy
}

/// The same for the service that is called, among a thousand services and a hundred windows.
fn large_policy() -> Value {
    let mut policy = policy(OF_SIDECARS);
    let services = (1..1_000).map(|number| {
        json!({
            "name": format!("service-{number:03}"),
            "timeout": "2s",
            "circuit_breaker": {"consecutive_failures": 5, "open_for": "5s"},
        })
    });
    // The one that is called comes last.
    let called = policy["services"].take();
    let services = services.chain(called.as_array().cloned().unwrap_or_default());
    policy["services"] = services.collect();
    for number in 0..98 {
        let (start, end) = (number % 24, number % 24 + 1);
        policy["peak_hours"][format!("window-{number:02}")] =
            json!({"start": start, "end": end, "days": ["sun"], "multiplier": 1.1});
    }
    policy
}

fn header_mutation() -> Value {
    let headers = [
        ("x-mumbai-traffic-state", "festival"),
        ("x-mumbai-window", "evening,always"),
        ("x-mumbai-multiplier", "1.5"),
        ("x-mumbai-class", "gold"),
        ("x-mumbai-version", "stable"),
    ];
    let set = headers.map(|(name, value)| {
        json!({"append": {
            "header": {"key": name, "value": value},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        }})
    });
    let remove = json!({"remove": "x-mumbai-canary"});
    let mutations: Vec<Value> = [remove].into_iter().chain(set).collect();
    json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
        "mutations": {"request_mutations": mutations},
    })
}

fn lua(script: &str) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
        "default_source_code": {"inline_string": script},
    })
}

fn wasm_filter(file: &Path, configuration: &str) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
        "config": {
            "name": "mumbai_mesh",
            "root_id": "mumbai_mesh",
            "configuration": {
                "@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": configuration,
            },
            "vm_config": {
                "vm_id": "mumbai_mesh",
                "runtime": "envoy.wasm.runtime.v8",
                "code": {"local": {"filename": file}},
            },
        },
    })
}

/// A whole bootstrap.
pub fn bootstrap(row: &Row, port: u16, admin: u16, upstream: u16) -> Value {
    let filter = row
        .filter
        .as_ref()
        .map(|config| json!({"name": row.id, "typed_config": config}));
    let router = json!({
        "name": "router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    });
    let filters: Vec<Value> = filter.into_iter().chain([router]).collect();
    let metadata = json!({"filter_metadata": {"mumbai_mesh": {"service": SERVICE}}});
    let canary = format!("{SERVICE}|v2");
    let routes = json!([
        {"match": {"prefix": "/", "headers": [
            {"name": "x-mumbai-version", "string_match": {"exact": "v2"}}]},
         "route": {"cluster": canary}, "metadata": metadata},
        {"match": {"prefix": "/"}, "route": {"cluster": SERVICE}, "metadata": metadata},
    ]);
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "edge",
        "route_config": {"name": "static", "virtual_hosts": [
            {"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": filters,
    });
    json!({
        "admin": {"address": address(admin)},
        "node": {"id": "bench", "cluster": "bench"},
        "static_resources": {
            "listeners": [{
                "name": "edge",
                "address": address(port),
                "filter_chains": [{"filters": [{
                    "name": "envoy.filters.network.http_connection_manager",
                    "typed_config": manager,
                }]}],
            }],
            "clusters": [cluster(SERVICE, upstream), cluster(&canary, upstream)],
        },
    })
}

/// Envoy's counter of requests that the canary got.
pub const CANARY_REQUESTS: &str = "cluster.order-service|v2.upstream_rq_total";

fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

fn cluster(name: &str, port: u16) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]},
    })
}
