//! What each way of ending counts as: one row, one request, on a real Envoy with an upstream that
//! does what the row says.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::Artifacts,
    envoy::{self, Envoy},
    http::{Client, raw},
    ports::free_port,
    wait::wait_for,
};
use serde_json::{Value, json};

use crate::{
    breaker::upgrade,
    door1::{BOUND, config_with, filter_config, wasm_filter},
    http2,
};

/// What the upstream does with a request, by its path.
pub fn upstream() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    // Ends with the process: it holds nothing that outlives it.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    Ok(port)
}

const SLOW: Duration = Duration::from_millis(300);
const SWITCHED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

static FLAKED: AtomicBool = AtomicBool::new(false);

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte)? == 0 {
                return Ok(());
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let path = head.split(' ').nth(1).unwrap_or_default();
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n";
        let answer = match path {
            "/reset" => return Ok(()),
            "/silent" => {
                // Until Envoy gives up.
                let _ = stream.read(&mut [0])?;
                return Ok(());
            }
            "/slow" => {
                // Nothing comes: the client waits for its answer.
                stream.set_read_timeout(Some(SLOW))?;
                let _ = stream.read(&mut [0]);
                stream.set_read_timeout(None)?;
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_string()
            }
            "/socket" => {
                stream.write_all(SWITCHED)?;
                let mut ping = [0; 4];
                stream.read_exact(&mut ping)?;
                stream.write_all(&ping)?;
                // Until the client ends it.
                let _ = stream.read(&mut [0])?;
                return Ok(());
            }
            "/truncated" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this")?;
                return Ok(());
            }
            // The first attempt fails, the second does not.
            "/flaky" if !FLAKED.swap(true, Ordering::SeqCst) => {
                "HTTP/1.1 503 Not Yet\r\ncontent-length: 0\r\n\r\n".to_string()
            }
            "/404" => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_string(),
            "/500" => "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n".to_string(),
            "/grpc-ok" => format!(
                "{chunked}content-type: application/grpc\r\n\r\n0\r\ngrpc-status: 0\r\n\r\n"
            ),
            "/grpc-unavailable" => format!(
                "{chunked}content-type: application/grpc\r\n\r\n0\r\ngrpc-status: 14\r\n\r\n"
            ),
            "/grpc-trailers-only" => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\
                 content-type: application/grpc\r\ngrpc-status: 13\r\n\r\n"
                .to_string(),
            "/grpc-not-found" => format!(
                "{chunked}content-type: application/grpc\r\n\r\n0\r\ngrpc-status: 5\r\n\r\n"
            ),
            _ if head.starts_with("HEAD ") => "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n".into(),
            _ => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_string(),
        };
        stream.write_all(answer.as_bytes())?;
    }
}

struct Gateway {
    envoy: Envoy,
    port: u16,
    _dir: tempfile::TempDir,
}

/// An Envoy in front of that upstream, or of a cluster without endpoints.
fn gateway(breaker: &Value, upstream: Option<u16>) -> Result<Gateway> {
    let artifacts = Artifacts::from_env()?;
    let dir = tempfile::tempdir()?;
    let service = json!({"name": "order-service", "circuit_breaker": breaker});
    let filter = filter_config(&service, &json!({"debug_headers": true}));
    let wasm = artifacts.wasm.display().to_string();
    let filter =
        json!({"name": "mumbai_mesh", "typed_config": wasm_filter(&wasm, &filter.to_string())});
    let (port, admin_port) = (free_port(), free_port());
    let address = format!("127.0.0.1:{}", upstream.unwrap_or(1));
    let mut config = config_with(&filter, port, admin_port, [&address, &address]);
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let manager = config
        .pointer_mut(manager)
        .context("the connection manager")?;
    // gRPC answers carry trailers; a short timeout keeps the table short.
    manager["http_protocol_options"] = json!({"enable_trailers": true});
    manager["http2_protocol_options"] = json!({"allow_connect": true});
    let routes = manager["route_config"]["virtual_hosts"][0]["routes"].as_array_mut();
    for route in routes.context("routes")? {
        route["route"]["timeout"] = "3s".into();
        route["route"]["retry_policy"] = json!({"retry_on": "5xx,reset", "num_retries": 1});
    }
    for cluster in config["static_resources"]["clusters"]
        .as_array_mut()
        .context("clusters")?
    {
        if upstream.is_none() {
            cluster["load_assignment"]["endpoints"] = json!([]);
        }
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http_protocol_options": {"enable_trailers": true}},
            },
        });
    }
    let options = envoy::Options {
        admin_port,
        ..envoy::Options::default()
    };
    let envoy = Envoy::start(&artifacts, dir.path(), &config.to_string(), &options)?;
    Ok(Gateway {
        envoy,
        port,
        _dir: dir,
    })
}

impl Gateway {
    /// Requests counted, by status.
    fn counted(&self) -> Result<Vec<(String, u64)>> {
        let page = self.envoy.prometheus()?;
        let prefix = "mumbai_mesh_requests_total{service=\"order-service\",status=\"";
        let lines = page.lines().filter_map(|line| line.strip_prefix(prefix));
        let counts = lines.filter_map(|line| {
            let (status, value) = line.split_once("\"} ")?;
            Some((status.to_string(), value.parse().ok()?))
        });
        Ok(counts.collect())
    }

    fn stat(&self, name: &str) -> Option<i64> {
        let name = format!("wasmcustom.service.=.order-service;.{name}");
        self.envoy.stat(&name)
    }
}

/// Sends one request; what comes back is the row's business, and may be nothing.
fn send(port: u16, how: &str, path: &str) -> Result<()> {
    match how {
        "EXPECT" => {
            let request = b"PUT / HTTP/1.1\r\nhost: edge\r\nexpect: 100-continue\r\n\
                content-length: 4\r\nconnection: close\r\n\r\nbody";
            let _ = raw(([127, 0, 0, 1], port).into(), request);
        }
        "SOCKET" => drop(upgrade(port)?),
        "H2" => drop(http2::get(port, path)),
        "H2 SOCKET" => http2::socket(port, path)?,
        method => {
            let kind = if path.starts_with("/grpc") {
                "application/grpc"
            } else {
                "text/plain"
            };
            let headers = [("content-type", kind.as_bytes())];
            let _ = Client::new(([127, 0, 0, 1], port).into()).send(method, path, &headers);
        }
    }
    Ok(())
}

#[test]
fn every_way_of_ending_is_counted_once_and_judged_as_it_should_be() -> Result<()> {
    let upstream = Some(upstream()?);
    // How, path, status counted, whether the breaker opens. Envoy tries once more after a 5xx or a
    // reset: the filter sees the end only.
    let rows = [
        ("GET", "/", "200", false),
        ("HEAD", "/", "200", false),
        ("EXPECT", "/", "200", false),
        ("GET", "/flaky", "200", false),
        ("GET", "/404", "404", false),
        ("GET", "/500", "500", true),
        ("GET", "/reset", "503", true),
        ("GET", "/silent", "504", true),
        ("GET", "/truncated", "200", true),
        ("GET", "/grpc-ok", "200", false),
        ("GET", "/grpc-not-found", "200", false),
        ("GET", "/grpc-unavailable", "200", true),
        ("GET", "/grpc-trailers-only", "200", true),
        ("GET", "/slow", "200", false),
        ("SOCKET", "/socket", "101", false),
        ("H2", "/", "200", false),
        ("H2", "/500", "500", true),
        ("H2", "/truncated", "200", true),
        ("H2", "/grpc-ok", "200", false),
        ("H2", "/grpc-unavailable", "200", true),
        ("H2", "/grpc-trailers-only", "200", true),
        ("H2 SOCKET", "/socket", "101", false),
    ];
    let breaker = json!({"consecutive_failures": 1, "open_for": "60s"});
    let row = |(method, path, status, opens): (&str, &str, &str, bool)| -> Result<()> {
        let gateway = gateway(&breaker, upstream)?;
        send(gateway.port, method, path).with_context(|| format!("{method} {path}"))?;
        let expected = vec![(status.to_string(), 1)];
        wait_for("the request to be counted", BOUND, || {
            match gateway.counted() {
                Ok(counted) if counted == expected => Ok(()),
                other => Err(format!("{method} {path}: {other:?}, expected {expected:?}")),
            }
        })?;
        let state = gateway.stat("mumbai_mesh_circuit_breaker_state");
        ensure!(
            state == Some(i64::from(opens)),
            "{method} {path}: breaker {state:?}"
        );
        ensure!(
            gateway.stat("mumbai_mesh_active_connections") == Some(0),
            "{path} in flight"
        );
        Ok(())
    };
    rows.into_iter().try_for_each(row)
}

#[test]
fn a_client_that_leaves_is_counted_as_such_and_proves_nothing() -> Result<()> {
    let breaker = json!({"consecutive_failures": 1, "open_for": "60s"});
    let gateway = gateway(&breaker, Some(upstream()?))?;
    let mut stream = TcpStream::connect(("127.0.0.1", gateway.port))?;
    stream.write_all(b"GET /silent HTTP/1.1\r\nhost: edge\r\n\r\n")?;
    wait_for("the request to be under way", BOUND, || {
        match gateway.stat("mumbai_mesh_active_connections") {
            Some(1) => Ok(()),
            other => Err(format!("{other:?} in flight")),
        }
    })?;
    drop(stream);
    wait_for(
        "the client's leaving to be counted",
        BOUND,
        || match gateway.counted() {
            Ok(counted) if counted == [("0".to_string(), 1)] => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )?;
    ensure!(gateway.stat("mumbai_mesh_circuit_breaker_state") == Some(0));
    ensure!(gateway.stat("mumbai_mesh_active_connections") == Some(0));
    Ok(())
}

/// Of HTTP/2 a client gives up one stream, and its connection goes on.
#[test]
fn a_stream_that_its_client_gives_up_is_counted_as_such_and_proves_nothing() -> Result<()> {
    let breaker = json!({"consecutive_failures": 1, "open_for": "60s"});
    let gateway = gateway(&breaker, Some(upstream()?))?;
    let active = |expected: i64| {
        wait_for("so many requests in flight", BOUND, || {
            match gateway.stat("mumbai_mesh_active_connections") {
                Some(found) if found == expected => Ok(()),
                other => Err(format!("{other:?} instead of {expected}")),
            }
        })
    };
    http2::give_up(gateway.port, "/silent", || active(1), || active(0))?;
    let counted = gateway.counted()?;
    ensure!(counted == [("0".to_string(), 1)], "{counted:?}");
    ensure!(gateway.stat("mumbai_mesh_circuit_breaker_state") == Some(0));
    Ok(())
}

#[test]
fn what_envoy_itself_refuses_counts_as_configured() -> Result<()> {
    for (count, state) in [(true, 1), (false, 0)] {
        let breaker = json!({
            "consecutive_failures": 1, "open_for": "60s", "count_envoy_refusals": count,
        });
        let gateway = gateway(&breaker, None)?;
        let mut client = Client::new(([127, 0, 0, 1], gateway.port).into());
        let answer = client.get("/", &[])?;
        ensure!(answer.status == 503, "{}", answer.status);
        ensure!(answer.body == b"no healthy upstream", "{:?}", answer.body);
        wait_for("the request to be counted", BOUND, || {
            match gateway.counted() {
                Ok(counted) if counted == [("503".to_string(), 1)] => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })?;
        let found = gateway.stat("mumbai_mesh_circuit_breaker_state");
        ensure!(
            found == Some(state),
            "count_envoy_refusals: {count}: {found:?}"
        );
    }
    Ok(())
}

#[test]
fn where_it_is_asked_for_the_client_is_told_the_decision() -> Result<()> {
    let breaker = json!({"consecutive_failures": 1, "open_for": "60s"});
    let gateway = gateway(&breaker, Some(upstream()?))?;
    let mut client = Client::new(([127, 0, 0, 1], gateway.port).into());
    let mut told = |path: &str| -> Result<String> {
        let answer = client.get(path, &[])?;
        let told = answer.header("x-mumbai-decision").context("no decision")?;
        Ok(String::from_utf8_lossy(told).into_owned())
    };
    assert_eq!(told("/500")?, "state=normal class=silver verdict=proceed");
    assert_eq!(told("/")?, "state=normal class=silver verdict=breaker_open");
    Ok(())
}
