//! `black-box`: a stranger in the network of docker-compose.yml, who knows what everybody may know: names, ports, and
//! what was promised. docker-compose.test.yml runs it there. A line for each promise, exit code 1 if any is not kept.

use std::{
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use harness::{
    http::{Client, Response, raw},
    prometheus::wait_for_query,
};
use serde_json::Value;

/// Prometheus looks every 5 s.
const BOUND: Duration = Duration::from_secs(30);
/// Longer than any connection within one machine takes.
const CONNECT: Duration = Duration::from_secs(5);
const USERS: u32 = 500;
/// Bucket 695 of 10,000: served by a canary of 10 %.
const CANARY_USER: Header<'static> = ("x-user-id", b"user-42");
/// Bucket 1657.
const STABLE_USER: Header<'static> = ("x-user-id", b"user-1");
const SIDECARS: [&str; 4] = [
    "order-v1-envoy",
    "order-v2-envoy",
    "payment-envoy",
    "ledger-envoy",
];

type Header<'a> = (&'a str, &'a [u8]);
type Promise = (&'static str, fn() -> Result<()>);

const PROMISES: &[Promise] = &[
    ("the gateway answers /health itself", health),
    ("sidecars are reached by mutual TLS", mutual_tls),
    ("a client's own copies of our headers are removed", forged),
    ("the canary has its share of users, and keeps them", canary),
    ("an application calls another by its name", chain),
    ("a sidecar knows only what its service uses", uses),
    ("a sidecar answers no plaintext", no_plaintext),
    ("nobody but its sidecar reaches an application", unreachable),
    ("the xDS port answers nobody without a certificate", no_xds),
    ("who shows no token may look and not write", no_token),
    ("the gateway decides as `explain` says", agreement),
    ("Prometheus reaches everybody", scraped),
    ("requests are counted by service", counted),
    ("each Envoy is in exactly one state of traffic", one_state),
    (
        "the gateway's admin interface shows things and does none",
        admin_shows_only,
    ),
    (
        "an Envoy's page of metrics shows nothing else",
        metrics_alone,
    ),
];

fn main() -> ExitCode {
    let mut failed = 0;
    for (promise, keep) in PROMISES {
        match keep() {
            Ok(()) => println!("ok      {promise}"),
            Err(error) => {
                failed += 1;
                println!("FAILED  {promise}: {error:#}");
            }
        }
    }
    println!("{} passed, {failed} failed", PROMISES.len() - failed);
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn address(host: &str, port: u16) -> Result<SocketAddr> {
    let mut found = (host, port)
        .to_socket_addrs()
        .with_context(|| format!("who is {host}?"))?;
    found
        .next()
        .with_context(|| format!("{host} has no address"))
}

fn client(host: &str, port: u16) -> Result<Client> {
    Ok(Client::new(address(host, port)?))
}

fn gateway() -> Result<Client> {
    client("gateway", 10_000)
}

fn api(path: &str) -> Result<Value> {
    client("controlplane", 8088)?.get(path, &[])?.json()
}

fn orders(headers: &[Header<'_>]) -> Result<Value> {
    let answer = gateway()?.get("/orders/7", headers)?;
    ensure!(answer.status == 200, "status {}", answer.status);
    answer.json()
}

fn health() -> Result<()> {
    let answer = gateway()?.get("/health", &[])?;
    ensure!(answer.status == 200, "status {}", answer.status);
    Ok(())
}

fn called_by(answer: &Value, service: &str) -> Result<()> {
    let identity = format!("URI=spiffe://mumbai.mesh/ns/default/sa/{service}");
    let told = answer["headers"]["x-forwarded-client-cert"].as_str();
    ensure!(
        told.is_some_and(|told| told.ends_with(&identity)),
        "the caller should be {service}, not {told:?}"
    );
    Ok(())
}

fn mutual_tls() -> Result<()> {
    let answer = orders(&[CANARY_USER])?;
    ensure!(answer["service"] == "order-service", "{answer}");
    called_by(&answer, "edge")
}

fn forged() -> Result<()> {
    let answer = orders(&[
        STABLE_USER,
        ("x-mumbai-version", b"v2"),
        ("x-mumbai-class", b"bronze"),
        ("x-mumbai-anything", b"1"),
    ])?;
    ensure!(answer["version"] == "v1", "a client chose its version");
    let headers = &answer["headers"];
    ensure!(headers["x-mumbai-class"] == "gold", "{headers}");
    ensure!(headers["x-mumbai-anything"].is_null(), "{headers}");
    Ok(())
}

fn canary() -> Result<()> {
    let mut gateway = gateway()?;
    let mut ask = |user: &str| -> Result<bool> {
        let answer = gateway.get("/orders/7", &[("x-user-id", user.as_bytes())])?;
        Ok(answer.json()?["version"] == "v2")
    };
    let mut on_canary = 0;
    for user in 0..USERS {
        on_canary += u32::from(ask(&format!("user-{user}"))?);
    }
    // Five standard deviations around 50.
    ensure!(
        (17..=83).contains(&on_canary),
        "10 % of {USERS} users cannot be {on_canary}"
    );
    for _ in 0..50 {
        ensure!(ask("user-42")?, "user-42 left the canary");
        ensure!(!ask("user-1")?, "user-1 left stable");
    }
    Ok(())
}

fn chain() -> Result<()> {
    let answer = orders(&[STABLE_USER, ("x-demo-call", b"payment-service")])?;
    let called = &answer["called"];
    ensure!(called["status"] == 200, "{called}");
    ensure!(called["answer"]["service"] == "payment-service", "{called}");
    called_by(&called["answer"], "order-service")
}

fn uses() -> Result<()> {
    let answer = orders(&[STABLE_USER, ("x-demo-call", b"ledger-service")])?;
    ensure!(answer["called"]["status"] == 404, "{}", answer["called"]);
    Ok(())
}

fn no_plaintext() -> Result<()> {
    const REQUEST: &[u8] = b"GET /orders/7 HTTP/1.1\r\nhost: order-service\r\n\r\n";
    for sidecar in SIDECARS {
        let answer = raw(address(sidecar, 15006)?, REQUEST)?;
        let answer = String::from_utf8_lossy(&answer);
        ensure!(!answer.contains("HTTP/1"), "{sidecar} said {answer:?}");
    }
    Ok(())
}

fn unreachable() -> Result<()> {
    for sidecar in SIDECARS {
        // The application, what it calls others by, and Envoy's admin interface.
        for port in [8080, 15001, 9901] {
            let open = TcpStream::connect_timeout(&address(sidecar, port)?, CONNECT);
            ensure!(open.is_err(), "{sidecar}:{port} takes connections");
        }
    }
    Ok(())
}

fn no_xds() -> Result<()> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    const SETTINGS: u8 = 4;
    let answer = raw(address("controlplane", 18_000)?, PREFACE)?;
    let spoke = answer.get(3) == Some(&SETTINGS);
    ensure!(!spoke, "plaintext HTTP/2 was answered: {answer:?}");
    Ok(())
}

fn no_token() -> Result<()> {
    let mut api = client("controlplane", 8088)?;
    for path in ["/services", "/metrics", "/api/metrics", "/api/v1/proxies"] {
        let looked = api.get(path, &[])?;
        ensure!(looked.status == 200, "GET {path}: {}", looked.status);
    }
    let refused = |what: &str, answer: &Response| {
        ensure!(answer.status == 401, "{what}: {}", answer.status);
        Ok(())
    };
    for path in [
        "/api/v1/services/order-service/override",
        "/api/v1/resources:apply",
        "/api/v1/certificates/edge/export",
        "/api/v1/backup",
    ] {
        refused(path, &api.post(path, b"{}")?)?;
    }
    let instance = "/api/v1/instances/order-service/stranger";
    let body = br#"{"host": "10.0.0.1", "port": 1}"#;
    refused(instance, &api.request("PUT", instance, &[], body)?)
}

fn agreement() -> Result<()> {
    let once = || -> Result<[Value; 2]> {
        let said = api("/api/v1/explain?gateway=edge&path=/orders/7")?;
        let did = orders(&[STABLE_USER])?;
        Ok([
            said["traffic_state"].clone(),
            did["headers"]["x-mumbai-traffic-state"].clone(),
        ])
    };
    let [said, did] = once()?;
    if said == did {
        return Ok(());
    }
    // It may have changed between the two questions.
    let [said, did] = once()?;
    ensure!(said == did, "explain says {said}, the gateway {did}");
    Ok(())
}

/// Waits until the series of an expression are good.
fn series(expression: &str, good: impl Fn(&[Value]) -> bool) -> Result<()> {
    wait_for_query(address("prometheus", 9090)?, expression, BOUND, good)
}

fn scraped() -> Result<()> {
    // The server and an Envoy for the gateway and each sidecar.
    let everybody = 2 + SIDECARS.len();
    series("up == 1", |found| found.len() == everybody)
}

fn counted() -> Result<()> {
    let expression =
        "sum(mumbai_mesh_requests_total{service=\"order-service\",status=\"200\"}) > 100";
    series(expression, |found| found.len() == 1)
}

fn one_state() -> Result<()> {
    series("sum by (instance) (mumbai_traffic_state) == 1", |found| {
        found.len() >= SIDECARS.len()
    })?;
    series(
        "sum by (instance) (mumbai_traffic_state) != 1",
        <[Value]>::is_empty,
    )
}

/// The gateway's own admin interface is published, and whoever is beside it reaches it.
fn admin_shows_only() -> Result<()> {
    let mut admin = client("gateway", 9901)?;
    for (method, path, status) in [("POST", "/quitquitquit", 403), ("GET", "/ready", 200)] {
        let answer = admin.send(method, path, &[])?;
        ensure!(
            answer.status == status,
            "{method} {path}: {}",
            answer.status
        );
    }
    Ok(())
}

fn metrics_alone() -> Result<()> {
    for host in SIDECARS.iter().chain(&["gateway"]) {
        let mut page = client(host, 9902)?;
        let metrics = page.get("/stats/prometheus", &[])?;
        ensure!(metrics.status == 200, "{host}: {}", metrics.status);
        for (method, path) in [
            ("POST", "/quitquitquit"),
            ("POST", "/stats/prometheus"),
            ("GET", "/config_dump"),
            ("GET", "/stats/prometheus/../../certs"),
        ] {
            let answer = page.send(method, path, &[])?;
            if answer.status != 404 {
                bail!("{host} answered {method} {path} with {}", answer.status);
            }
        }
    }
    Ok(())
}
