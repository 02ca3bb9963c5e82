//! What a gateway does with a request: the first route that matches, redirects, rewrites; and `explain`
//! says so beforehand.

use anyhow::{Context, Result, ensure};
use harness::{demo_services::DemoService, http::Response, wait::wait_for};

use super::{World, application};
use crate::door1::BOUND;

const ROUTES: &str = "hosts: [x.in, \"*.x.in\"]
    routes:
      - {match: {path: /old, hosts: [www.x.in]}, redirect: {https: true, host: x.in, path: /new, status: 308}}
      - {match: {path_prefix: /shop}, redirect: {path_prefix: /, status: 302}}
      - {match: {hosts: [admin.x.in]}, service: admin-service}
      - {match: {path_prefix: /api/v1.0, header: {x-beta: \"1\"}}, service: order-service, rewrite: {path_prefix: /}}
      - {match: {path_prefix: /api}, service: order-service, rewrite: {path_prefix: /v2, host: orders.internal}}
      - {match: {path: /best, method: GET}, service: order-service, rewrite: {path: /top}}
      - {match: {grpc_service: upi.v1.Pay}, service: admin-service}
      - {match: {method: POST}, service: order-service, rewrite: {path_prefix: /write}}";

fn start() -> Result<(World, [DemoService; 2])> {
    let dir = tempfile::tempdir()?;
    let order = application(&dir, "order-service", "v1")?;
    let admin = application(&dir, "admin-service", "v1")?;
    let service = |name: &str, application: &DemoService| {
        let port = application.addr.port();
        format!(
            "  {name}:\n    sidecar: false\n    endpoints: [{{id: {name}-1, host: 127.0.0.1, port: {port}}}]\n"
        )
    };
    let mesh = format!(
        "services:\n{}{}",
        service("order-service", &order),
        service("admin-service", &admin)
    );
    Ok((World::start(dir, &mesh, ROUTES, &[])?, [order, admin]))
}

/// What a client meets: `STATUS LOCATION`, or the service with the path and the host that it saw.
fn met(answer: &Response) -> Result<String> {
    if answer.status != 200 {
        let location = answer.header("location").unwrap_or_default();
        let location = String::from_utf8_lossy(location);
        return Ok(format!("{} {location}", answer.status).trim().to_string());
    }
    let json = answer.json()?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("?").to_string();
    Ok(format!(
        "{} {} {}",
        text(&json["service"]),
        text(&json["path"]),
        text(&json["headers"]["host"])
    ))
}

#[test]
fn the_first_route_that_matches_rewrites_redirects_or_forwards() -> Result<()> {
    let (world, _applications) = start()?;
    let mut client = world.client();
    for (method, host, path, expected) in [
        ("GET", "www.x.in", "/old?q=1", "308 https://x.in/new?q=1"),
        ("GET", "x.in", "/old", "404"),
        ("GET", "x.in", "/shop/7?q=1", "302 http://x.in/7?q=1"),
        ("GET", "x.in", "/shop", "302 http://x.in/"),
        ("GET", "x.in", "/shopping", "404"),
        (
            "GET",
            "admin.x.in:8080",
            "/anything",
            "admin-service /anything admin.x.in:8080",
        ),
        (
            "GET",
            "x.in",
            "/api/v1.0/a",
            "order-service /v2/v1.0/a orders.internal",
        ),
        ("GET", "x.in", "/api", "order-service /v2 orders.internal"),
        ("GET", "x.in", "/best?x", "order-service /top x.in"),
        ("PUT", "x.in", "/best", "404"),
        ("POST", "x.in", "/best", "order-service /write/best x.in"),
        ("POST", "a.b.x.in", "/", "order-service /write/ a.b.x.in"),
        ("POST", "y.in", "/", "404"),
    ] {
        let answer = client.send(method, path, &[("host", host.as_bytes())])?;
        let met = met(&answer)?;
        ensure!(
            met == expected,
            "{method} {host}{path}: {met}, expected {expected}"
        );
    }
    let beta: [(&str, &[u8]); 2] = [("host", b"x.in"), ("x-beta", b"1")];
    for (path, seen) in [("/api/v1.0/a", "/a"), ("/api/v1.0", "/")] {
        let met = met(&client.get(path, &beta)?)?;
        ensure!(met == format!("order-service {seen} x.in"), "{path}: {met}");
    }
    let health = client.get("/health", &[("host", b"203.0.113.7")])?;
    ensure!(health.status == 200, "whatever the host: {}", health.status);
    Ok(())
}

/// `%`, `&` and the like as a query holds them.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn explain_foretells_what_envoy_does_with_random_requests() -> Result<()> {
    let (world, _applications) = start()?;
    let pick = |from: &[&'static str]| from[fastrand::usize(..from.len())];
    let segments = [
        "api",
        "v1.0",
        "shop",
        "best",
        "old",
        "upi.v1.Pay",
        "..",
        ".",
        "%2e%2E",
        "",
        "health",
        "b%6Cst",
        "x\\y",
    ];
    let mut client = world.client();
    for _ in 0..300 {
        let method = pick(&["GET", "POST", "PUT"]);
        let host = pick(&["x.in", "www.x.in", "ADMIN.x.in:80", "b.a.x.in", "y.in"]);
        let count = fastrand::usize(0..4);
        let path: String = (0..count)
            .map(|_| format!("/{}", pick(&segments)))
            .collect();
        let path = format!(
            "/{}{}",
            path.trim_start_matches('/'),
            pick(&["", "", "?a=/b"])
        );
        let mut headers = vec![("host", host)];
        headers.extend(pick_some(&[
            ("x-beta", "1"),
            ("x-beta", "2"),
            ("content-type", "application/grpc"),
        ]));
        let bytes: Vec<(&str, &[u8])> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect();
        let answer = client.send(method, &path, &bytes)?;
        let lines: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}:{value}"))
            .collect();
        let question = format!(
            "/api/v1/explain?gateway=edge&method={method}&path={}&header={}",
            encoded(&path),
            encoded(&lines.join("\n"))
        );
        let foretold = world.server.api_get(&question)?;
        let service = match answer.status {
            200 => answer
                .json()
                .ok()
                .and_then(|json| Some(json["service"].as_str()?.to_string())),
            _ => None,
        };
        ensure!(
            foretold["service"].as_str() == service.as_deref(),
            "{method} {path} {headers:?}: {} {service:?}, foretold {foretold:#}",
            answer.status
        );
    }
    Ok(())
}

fn pick_some(from: &[(&'static str, &'static str)]) -> Option<(&'static str, &'static str)> {
    fastrand::bool().then(|| from[fastrand::usize(..from.len())])
}

#[test]
fn the_access_log_tells_all_but_paths_and_queries() -> Result<()> {
    let (world, _applications) = start()?;
    let headers: [(&str, &[u8]); 2] = [("host", b"x.in"), ("traceparent", b"/account-4711")];
    let answer = world.client().get("/api/account-4711?pin=1234", &headers)?;
    ensure!(answer.status == 200, "{}", answer.status);
    let line = wait_for("the line of the request", BOUND, || {
        let log = world.gateway.log();
        let line = log
            .lines()
            .find(|line| line.contains("\"route\":\"/api/*\""))
            .map(str::to_string);
        line.ok_or_else(|| "no line".into())
    })?;
    let log: serde_json::Value = serde_json::from_str(&line).context(line.clone())?;
    for (field, expected) in [
        ("method", "GET"),
        ("route", "/api/*"),
        ("service", "order-service"),
        ("cluster", "order-service"),
        ("class", "silver"),
        ("traffic_state", "normal"),
        ("listener", "edge"),
        ("details", "via_upstream"),
    ] {
        ensure!(log[field] == expected, "{field}: {log:#}");
    }
    ensure!(log["status"] == 200 && log["attempts"] == 1, "{log:#}");
    for field in [
        "start_time",
        "upstream_host",
        "duration_ms",
        "bytes_sent",
        "request_id",
    ] {
        ensure!(!log[field].is_null(), "no {field}: {log:#}");
    }
    let whole = world.gateway.log();
    ensure!(
        !whole.contains("4711") && !whole.contains("1234"),
        "account data: {whole}"
    );
    Ok(())
}
