//! Door 1: a stock Envoy with a static bootstrap and our `.wasm`, no server. Also the stage on which
//! the filter's own tests play.

use std::time::Duration;

use anyhow::{Context, Result};
use harness::{
    artifacts::Artifacts,
    clock::Clock,
    demo_services::DemoService,
    envoy::{self, Envoy},
    http::{Client, Response},
    ports::free_port,
    wait::wait_for,
};
use serde_json::{Value, json};

/// Long enough for the slowest machine; only a failing test waits so long.
pub const BOUND: Duration = Duration::from_secs(30);

/// An Envoy with our filter in front of two versions of one service.
pub struct Door1 {
    pub envoy: Envoy,
    pub stable: DemoService,
    pub canary: DemoService,
    pub port: u16,
    // Dropped last: the processes above write into it.
    _dir: tempfile::TempDir,
}

impl Door1 {
    pub fn start(filter: &Value) -> Result<Self> {
        Self::start_at(filter, None)
    }

    pub fn start_at(filter: &Value, clock: Option<&Clock>) -> Result<Self> {
        Self::start_with(filter, clock, |_| {})
    }

    /// With a bootstrap that a test changes.
    pub fn start_with(
        filter: &Value,
        clock: Option<&Clock>,
        change: impl FnOnce(&mut Value),
    ) -> Result<Self> {
        let artifacts = Artifacts::from_env()?;
        let dir = tempfile::tempdir()?;
        let stable = DemoService::start(&artifacts, dir.path(), "order-service", "v1")?;
        let canary = DemoService::start(&artifacts, dir.path(), "order-service", "v2")?;
        let (port, admin_port) = (free_port(), free_port());
        let upstreams = [stable.addr.to_string(), canary.addr.to_string()];
        let upstreams = [upstreams[0].as_str(), upstreams[1].as_str()];
        let wasm = artifacts.wasm.display().to_string();
        let mut config = config(&wasm, filter, port, admin_port, upstreams);
        change(&mut config);
        let options = envoy::Options {
            clock,
            admin_port,
            ..envoy::Options::default()
        };
        let envoy = Envoy::start(&artifacts, dir.path(), &config.to_string(), &options)?;
        Ok(Self {
            envoy,
            stable,
            canary,
            port,
            _dir: dir,
        })
    }

    pub fn client(&self) -> Client {
        Client::new(([127, 0, 0, 1], self.port).into())
    }

    pub fn get(&self, headers: &[(&str, &[u8])]) -> Result<Response> {
        self.client().get("/orders", headers)
    }

    /// A connection to each of the two workers.
    pub fn client_per_worker(&self) -> Result<[Client; 2]> {
        let counter = |worker: u8| {
            format!(
                "listener.127.0.0.1_{}.worker_{worker}.downstream_cx_total",
                self.port
            )
        };
        let count = |worker| self.envoy.stat(&counter(worker)).unwrap_or(0);
        let mut found: [Option<Client>; 2] = [None, None];
        // The kernel chooses the worker by the connection's ports.
        wait_for("a connection to each worker", BOUND, || {
            let before = [count(0), count(1)];
            let mut client = self.client();
            client
                .get("/health-of-test", &[])
                .map_err(|error| error.to_string())?;
            let after = [count(0), count(1)];
            for worker in [0, 1] {
                if after[worker] > before[worker] {
                    found[worker].get_or_insert(client);
                    break;
                }
            }
            match (found[0].take(), found[1].take()) {
                (Some(first), Some(second)) => Ok([first, second]),
                (first, second) => {
                    found = [first, second];
                    Err(format!("workers have {after:?} connections"))
                }
            }
        })
    }

    /// Sum of a labelled counter over all its series.
    pub fn sum(&self, name: &str) -> Result<f64> {
        sum(&self.envoy.prometheus()?, name)
    }
}

/// Sum of a metric's series on a page.
pub fn sum(page: &str, name: &str) -> Result<f64> {
    let prefix = format!("{name}{{");
    let lines = page.lines().filter(|line| line.starts_with(&prefix));
    let values = lines.map(|line| {
        let value = line.rsplit(' ').next().unwrap_or_default();
        value
            .parse::<f64>()
            .with_context(|| format!("no number: {line}"))
    });
    values.sum()
}

/// The version that answered.
pub fn version(response: &Response) -> Result<String> {
    let json = response.json()?;
    let version = json["version"]
        .as_str()
        .context("no version in the answer")?;
    Ok(version.to_string())
}

/// A request header as the upstream saw it.
pub fn seen(response: &Response, name: &str) -> Result<Option<String>> {
    let json = response.json()?;
    Ok(json["headers"][name].as_str().map(str::to_string))
}

/// The filter's JSON: one service, a calendar of your choice.
pub fn filter_config(service: &Value, calendar: &Value) -> Value {
    let mut config = json!({
        "version": 1,
        "timezone": {"name": "Asia/Kolkata", "posix": "IST-5:30"},
        "services": [service],
    });
    for (key, value) in calendar.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    config
}

pub fn wasm_filter(wasm: &str, filter: &str) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
        "config": {
            "name": "mumbai_mesh",
            "root_id": "mumbai_mesh",
            "failure_policy": "FAIL_OPEN",
            "configuration": {
                "@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": filter,
            },
            "vm_config": {
                "vm_id": "mumbai_mesh",
                "runtime": "envoy.wasm.runtime.v8",
                "code": {"local": {"filename": wasm}},
            },
        },
    })
}

fn config(wasm: &str, filter: &Value, port: u16, admin: u16, upstreams: [&str; 2]) -> Value {
    let wasm = json!({
        "name": "mumbai_mesh",
        "typed_config": wasm_filter(wasm, &filter.to_string()),
    });
    config_with(&wasm, port, admin, upstreams)
}

/// A whole bootstrap around one HTTP filter.
pub fn config_with(filter: &Value, port: u16, admin: u16, upstreams: [&str; 2]) -> Value {
    let metadata = json!({"filter_metadata": {"mumbai_mesh": {"service": "order-service"}}});
    let routes = json!([
        {"match": {"prefix": "/", "headers": [
            {"name": "x-mumbai-version", "string_match": {"exact": "v2"}}]},
         "route": {"cluster": "order-service|v2"}, "metadata": metadata},
        {"match": {"prefix": "/"}, "route": {"cluster": "order-service"}, "metadata": metadata},
        {"match": {"connect_matcher": {}}, "route": {"cluster": "order-service"}},
    ]);
    let tags: Vec<Value> = [
        "service", "status", "version", "state", "zone", "class", "reason",
    ]
    .iter()
    .map(|tag| json!({"tag_name": tag, "regex": format!("({tag}\\.=\\.(.*?);\\.)")}))
    .collect();
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "edge",
        "max_request_headers_kb": 96,
        "upgrade_configs": [{"upgrade_type": "CONNECT"}, {"upgrade_type": "websocket"}],
        "route_config": {"name": "static", "virtual_hosts": [
            {"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [filter, {
            "name": "router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        }],
    });
    json!({
        "admin": {"address": address(&format!("127.0.0.1:{admin}"))},
        "node": {"id": "test", "cluster": "edge"},
        "stats_config": {"stats_tags": tags},
        "static_resources": {
            "listeners": [{
                "name": "edge",
                "address": address(&format!("127.0.0.1:{port}")),
                "filter_chains": [{"filters": [{
                    "name": "envoy.filters.network.http_connection_manager",
                    "typed_config": manager,
                }]}],
            }],
            "clusters": [
                cluster("order-service", upstreams[0]),
                cluster("order-service|v2", upstreams[1]),
            ],
        },
    })
}

fn address(text: &str) -> Value {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, "0"));
    let port: u16 = port.parse().unwrap_or_default();
    json!({"socket_address": {"address": host, "port_value": port}})
}

fn cluster(name: &str, upstream: &str) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": address(upstream)}}]}]},
    })
}

#[test]
fn our_headers_reach_the_upstream_and_a_clients_copies_do_not() -> Result<()> {
    let calendar = json!({
        "peak_hours": {"always": {"start": 0, "end": 24, "multiplier": 1.5}},
        "festivals": [{"name": "दिवाली", "start": "2020-01-01", "end": "2060-01-01", "factor": 2.0}],
    });
    let service = json!({"name": "order-service", "class": "gold"});
    let door = Door1::start(&filter_config(&service, &calendar))?;
    let forged: [(&str, &[u8]); 7] = [
        ("x-mumbai-traffic-state", b"normal"),
        ("x-mumbai-traffic-state", b"again"),
        ("x-mumbai-window", b"forged"),
        ("x-mumbai-multiplier", b"99"),
        ("x-mumbai-class", b"bronze"),
        ("x-mumbai-version", b"v2"),
        ("x-mumbai-canary", b"v2"),
    ];
    let answer = door.get(&forged)?;
    assert_eq!(answer.status, 200);
    let header = |name: &str| seen(&answer, name);
    assert_eq!(
        header("x-mumbai-traffic-state")?.as_deref(),
        Some("festival")
    );
    let window = header("x-mumbai-window")?;
    assert_eq!(
        window.as_deref(),
        Some("%E0%A4%A6%E0%A4%BF%E0%A4%B5%E0%A4%BE%E0%A4%B2%E0%A5%80,always")
    );
    assert_eq!(header("x-mumbai-multiplier")?.as_deref(), Some("1.5"));
    assert_eq!(header("x-mumbai-class")?.as_deref(), Some("gold"));
    assert_eq!(
        header("x-mumbai-version")?,
        None,
        "the service has no canary"
    );
    assert_eq!(header("x-mumbai-canary")?, None);
    assert_eq!(version(&answer)?, "v1", "a forged header chose the route");
    assert!(
        answer
            .headers
            .iter()
            .all(|(name, _)| !name.starts_with("x-mumbai")),
        "nothing of ours goes to the client: {:?}",
        answer.headers
    );
    Ok(())
}

#[test]
fn metrics_have_the_promised_names_and_labels() -> Result<()> {
    let service = json!({"name": "order-service"});
    let calendar = json!({"peak_hours": {
        "west": {"start": 0, "end": 24, "zone": "mumbai-west", "multiplier": 1.5}},
        "region": "mumbai"});
    let door = Door1::start(&filter_config(&service, &calendar))?;
    for _ in 0..3 {
        assert_eq!(door.get(&[])?.status, 200);
    }
    let status: [(&str, &[u8]); 1] = [("x-demo-status", b"404")];
    assert_eq!(door.get(&status)?.status, 404);
    let promised = [
        "mumbai_mesh_requests_total{service=\"order-service\",status=\"200\"} 3",
        "mumbai_mesh_requests_total{service=\"order-service\",status=\"404\"} 1",
        "mumbai_mesh_active_connections{service=\"order-service\"} 0",
        "mumbai_mesh_circuit_breaker_state{service=\"order-service\"} 0",
        "mumbai_mesh_response_time_milliseconds_count{service=\"order-service\"} 4",
        "mumbai_traffic_state{state=\"normal\"} 0",
        "mumbai_traffic_state{state=\"peak_hour\"} 1",
        "mumbai_traffic_state{state=\"festival\"} 0",
        "mumbai_peak_hour_multiplier_percent{zone=\"west\"} 150",
        "mumbai_festival_traffic_factor_percent{} 100",
    ];
    // Histograms appear with the next flush of Envoy's statistics.
    wait_for("the promised metrics", BOUND, || {
        let page = door.envoy.prometheus().map_err(|error| error.to_string())?;
        let absent = promised
            .iter()
            .filter(|line| !page.lines().any(|found| found == **line));
        let absent: Vec<_> = absent.collect();
        let ours = page.lines().filter(|line| line.starts_with("mumbai_"));
        let ours: Vec<_> = ours.collect();
        if absent.is_empty() {
            Ok(())
        } else {
            Err(format!("absent: {absent:#?} of {ours:#?}"))
        }
    })
}

#[test]
fn a_request_of_no_known_service_passes_and_counts_as_other() -> Result<()> {
    let door = Door1::start(&filter_config(&json!({"name": "another"}), &json!({})))?;
    assert_eq!(door.get(&[])?.status, 200);
    let line = "mumbai_mesh_requests_total{service=\"other\",status=\"200\"} 1";
    let page = door.envoy.prometheus()?;
    assert!(page.lines().any(|found| found == line), "{page}");
    Ok(())
}
