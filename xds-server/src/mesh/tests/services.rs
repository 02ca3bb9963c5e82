//! What the mesh file says of services, and what is said about a wrong one.

use std::time::Duration;

use policy::units::{ServiceName, VersionLabel};

use crate::mesh::{Defaults, HealthCheckKind, Host, Mesh, Protocol, RetryBudget, Service, read};

pub(super) fn mesh(text: &str) -> Mesh {
    read(text, &Defaults::default()).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

pub(super) fn problems(text: &str) -> Vec<String> {
    let problems = read(text, &Defaults::default()).unwrap_err();
    problems.iter().map(ToString::to_string).collect()
}

/// One service, and a gateway with these routes.
pub(super) fn one(service: &str, routes: &str) -> String {
    format!(
        "\
services:
  a:
    sidecar: false
    endpoints: [{{host: 10.0.0.1, port: 80, version: v1}}, {{host: 10.0.0.2, port: 80, version: v2}}]
    {service}
  b: {{}}
gateways:
  edge: {{listen: 127.0.0.1:10000, hosts: [\"*.x.in\", x.in], routes: [{routes}]}}
"
    )
}

fn service(text: &str) -> Service {
    let mesh = mesh(&one(text, ""));
    mesh.services[&ServiceName::new("a").unwrap()].clone()
}

#[test]
fn a_service_says_how_callers_treat_its_endpoints() {
    let plain = service("");
    assert_eq!(plain.protocol, Protocol::Http1);
    assert!(plain.retries.is_none() && plain.health_check.is_none());
    assert!(plain.placement.zone_aware && plain.placement.failover.is_empty());

    let full = service(
        "protocol: http2
    timeout: 2s
    retries: {attempts: 2, per_try_timeout: 800ms}
    health_check: {grpc_service: \"\", interval: 2s}
    outlier_detection: {consecutive_5xx: 3}
    circuit_breaker: {max_requests: 10}
    failover: [mumbai, hyderabad]
    panic_threshold: 0
    zone_aware: false
    uses: [b]",
    );
    assert_eq!(full.retries.unwrap().attempts, 2);
    assert_eq!(full.retry_budget, Some(RetryBudget::default()), "20 %");
    let check = full.health_check.unwrap();
    assert_eq!(
        check.kind,
        HealthCheckKind::Grpc {
            service: String::new()
        }
    );
    assert_eq!(check.interval, Duration::from_secs(2));
    let outlier = full.outlier_detection.unwrap();
    assert_eq!(outlier.base_ejection_time, Duration::from_secs(30));
    assert_eq!(full.thresholds.max_requests, Some(10));
    assert_eq!(full.placement.panic_threshold, Some(0));
    assert_eq!(full.uses.unwrap().len(), 1);
}

const WRONG_IN_A_SERVICE: &[(&str, &str)] = &[
    (
        "protocol: http3",
        "services.a.protocol: must be http1 or http2",
    ),
    (
        "retries: {}",
        "retries.attempts: must be given (tries after the first one, from 1 to 10)",
    ),
    (
        "retries: {attempts: 11}",
        "retries.attempts: must be a whole number from 1 to 10, not 11",
    ),
    (
        "retries: {attempts: 1, per_try_timeout: 800}",
        "per_try_timeout: must be a text, not the number 800 (durations carry their unit",
    ),
    (
        "retries: {attempts: 1, per_try_timeout: 3s}\n    timeout: 2s",
        "per_try_timeout: is longer than timeout",
    ),
    (
        "retries: {attempts: 1, budget_percent: 101}",
        "budget_percent: must be 0 to 100 percent",
    ),
    (
        "retries: {attempts: 1, budget_percent: 10}\n    circuit_breaker: {max_retries: 3}",
        "circuit_breaker.max_retries: and retries.budget_percent exclude each other",
    ),
    (
        "retries: {attempts: 1, budget_percnt: 5}",
        "unknown field \"budget_percnt\" (did you mean \"budget_percent\"?)",
    ),
    (
        "health_check: {}",
        "health_check: exactly one of path, grpc_service and tcp must be given",
    ),
    (
        "health_check: {path: /a, tcp: true}",
        "health_check: exactly one of",
    ),
    (
        "health_check: {path: health}",
        "health_check.path: must begin with /",
    ),
    (
        "health_check: {grpc_service: a.B}",
        "health_check.grpc_service: gRPC needs HTTP/2, and the service speaks HTTP/1.1 (add protocol: http2",
    ),
    (
        "health_check: {path: /a, interval: 10ms}",
        "health_check.interval: must be from 100ms to 1h, not 10ms",
    ),
    (
        "health_check: {path: /a, unhealthy_threshold: 0}",
        "unhealthy_threshold: must be a whole number from 1 to 1000",
    ),
    (
        "outlier_detection: {max_ejection_percent: 0}",
        "max_ejection_percent: must be a whole number from 1 to 100",
    ),
    (
        "outlier_detection: {base_ejection_time: 60s, max_ejection_time: 30s}",
        "max_ejection_time: must not be shorter than base_ejection_time",
    ),
    (
        "circuit_breaker: {max_connections: 0}",
        "max_connections: must be a whole number from 1 to 1000000",
    ),
    (
        "failover: [mumbai, mumbai]",
        "services.a.failover[1]: mumbai stands here twice",
    ),
    (
        "panic_threshold: 200",
        "panic_threshold: must be a whole number from 0 to 100",
    ),
    (
        "uses: [nobody]",
        "services.a.uses: no service is named \"nobody\" (known services: a, b)",
    ),
    (
        "stable_version: v9",
        "services.a.stable_version: no endpoint of a has version: v9",
    ),
    (
        "stable_version: v2\n    canary: {version: v2, weight: 1}",
        "stable_version: v2 is the canary's version too",
    ),
];

#[test]
fn every_wrong_field_of_a_service_says_its_path_what_is_legal_and_a_fix() {
    for (field, words) in WRONG_IN_A_SERVICE {
        let told = problems(&one(field, ""));
        assert!(
            told.iter().any(|told| told.contains(words)),
            "{field}: {told:#?}"
        );
        assert_eq!(
            told.len(),
            1,
            "{field}: one mistake, one problem: {told:#?}"
        );
    }
}

#[test]
fn endpoints_are_all_addresses_or_all_names() {
    let with = |hosts: [&str; 2]| {
        format!(
            "services: {{a: {{endpoints: [{{host: {}, port: 80}}, {{host: {}, port: 80}}]}}}}",
            hosts[0], hosts[1]
        )
    };
    let named = mesh(&with(["Orders-1.internal", "orders_2"]));
    let a = named.services.values().next().unwrap();
    assert!(a.found_by_name());
    assert_eq!(a.endpoints[0].host, Host::Name("orders-1.internal".into()));
    assert_eq!(a.endpoints[0].id, "orders-1.internal:80");
    let told = problems(&with(["orders-1", "10.0.0.1"]));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("services.a.endpoints: some hosts are DNS names (orders-1), others")
            && told[0].contains("names only or addresses only"),
        "{told:?}"
    );
    for wrong in [
        "10.0.0.256",
        "10.0.1",
        "a..b",
        "-a",
        "a b",
        "http://a",
        "\"\"",
        "a:80",
    ] {
        let told = problems(&with([wrong, "10.0.0.1"])).join("\n");
        assert!(
            told.contains("endpoints[0].host") && told.contains("neither an IP address"),
            "{wrong}: {told}"
        );
    }
}

#[test]
fn a_named_stable_version_leaves_other_labels_out() {
    let text = one(
        "stable_version: v1\n    canary: {version: v3, weight: 0}",
        "",
    );
    let mesh = mesh(&text);
    let a = mesh.services.values().next().unwrap();
    let ports = |label: Option<&str>| {
        let label = label.map(|label| VersionLabel::new(label).unwrap());
        a.endpoints_of(label.as_ref())
            .map(|one| one.host.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(ports(None), ["10.0.0.1"]);
    assert_eq!(ports(Some("v2")), ["10.0.0.2"], "any label is a version");
    let all = service("canary: {version: v3, weight: 0}");
    assert_eq!(
        all.endpoints_of(None).count(),
        2,
        "without one, all but the canary"
    );
}

#[test]
fn what_all_envoys_do_is_said_once() {
    let proxies = mesh("{}").proxies;
    assert!(proxies.access_log && proxies.tracing.is_none());
    assert_eq!(proxies.max_connection_duration, Duration::from_secs(3600));
    let text = "access_log: off\ntracing: {otlp: \"jaeger:4317\", sampling: 2.5}\nmax_connection_duration: 30s";
    let proxies = mesh(text).proxies;
    assert!(!proxies.access_log);
    let tracing = proxies.tracing.unwrap();
    assert_eq!(
        (tracing.host.to_string(), tracing.port),
        ("jaeger".into(), 4317)
    );
    assert_eq!(tracing.sampling.get(), 250);
    assert!(!mesh("access_log: false").proxies.access_log);
    for (text, words) in [
        ("access_log: yes please", "access_log: must be on or off"),
        ("tracing: {}", "tracing.otlp: must be given"),
        (
            "tracing: {otlp: jaeger}",
            "tracing.otlp: \"jaeger\" must be HOST:PORT",
        ),
        (
            "tracing: {otlp: \"jaeger:4317\", sampling: 200}",
            "sampling: must be 0 to 100 percent",
        ),
        (
            "max_connection_duration: 10ms",
            "max_connection_duration: must be from 1s to 24h",
        ),
    ] {
        let told = problems(text);
        assert!(
            told[0].contains(words) && told.len() == 1,
            "{text}: {told:?}"
        );
    }
}
