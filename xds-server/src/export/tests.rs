//! What is exported is what Istio's own schemas take, strictly, and what the mesh says.

mod istio;
mod kubernetes;
mod limits;

use super::*;
use crate::mesh::{Defaults, Mesh, read};

const FULL: &str = r#"
mesh: {region: mumbai}
timezone: Asia/Kolkata
tracing: {otlp: "otel.observability.svc:4317", sampling: 1.5}
peak_hours:
  evening: {start: 17, end: 22, multiplier: 1.5}
  west: {start: "09:30", end: 10, zone: mumbai-west}
festivals: [{name: Diwali, date: 2026-11-08, factor: 2}]
traffic_classes:
  bronze: {match: [{path_prefix: /check}], limit: {per_second: 30}, shed_during: {festival: 50}}
services:
  order-service:
    class: gold
    timeout: 2s
    stable_version: v1
    endpoints:
      - {id: order-1, host: 10.0.0.1, port: 8080, version: v1}
      - {id: order-2, host: 10.0.0.2, port: 8080, version: v2.1}
    retries: {attempts: 2, per_try_timeout: 800ms, budget_percent: 20}
    health_check: {path: /health}
    outlier_detection: {consecutive_5xx: 5, consecutive_gateway_failures: 3}
    failover: [mumbai]
    panic_threshold: 30
    circuit_breaker: {consecutive_failures: 5, max_connections: 100, max_requests: 50, max_pending_requests: 7}
    canary: {version: v2.1, weight: 10, sticky_by: {header: x-user-id}}
  payment-service: {}
gateways:
  edge:
    listen: 0.0.0.0:10000
    hosts: [api.example.com, "*.bank.example"]
    trust_canary_header: true
    routes:
      - {match: {path_prefix: /orders, method: POST}, service: order-service, rewrite: {path_prefix: /, host: orders.internal}}
      - {match: {path: /one, header: {x-a: "1"}}, service: order-service, timeout: 1s, rewrite: {path: /two}}
      - {match: {grpc_service: upi.v1.Payments}, service: payment-service}
      - {match: {path_prefix: /old}, redirect: {path_prefix: /new, https: true, status: 308}}
      - {match: {path: /gone}, redirect: {path: /here, host: www.example.com, port: 8443}}
      - {match: {path_prefix: /, hosts: [api.example.com, "*.bank.example"]}, service: payment-service}
"#;

fn mesh(text: &str) -> Mesh {
    read(text, &Defaults::default()).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn namespace(name: &str) -> Namespace {
    name.parse().unwrap()
}
