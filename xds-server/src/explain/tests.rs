//! What is told of limits, shedding, canaries and modes.

use policy::time::WallTime;
use serde_json::json;

use super::{Explanation, Question, explain};
use crate::mesh::{Defaults, read};

/// Of class bronze in the peak that lasts all day, and of a festival on the 25th.
fn mesh(bronze: &str, canary: &str) -> String {
    format!(
        "\
timezone: UTC
peak_hours: {{all: {{start: 0, end: 24}}}}
festivals: [\"2026-11-25\"]
traffic_classes:
  bronze: {{match: [{{path_prefix: /}}], {bronze}}}
services:
  pay:
    sidecar: false
    limit: {{per_second: 5000}}
    circuit_breaker: {{mode: observe}}
    endpoints:
      - {{host: 127.0.0.1, port: 8081, version: v1}}
      - {{host: 127.0.0.1, port: 8082, version: v2}}
    canary: {{version: v2, weight: 100, {canary}}}
"
    )
}

fn told(mesh: &str, day: u32) -> Explanation {
    let question = Question {
        service: Some("pay".into()),
        at: Some(format!("2026-11-{day}T12:00Z")),
        ..Question::default()
    };
    let mesh = read(mesh, &Defaults::default()).unwrap();
    explain(&mesh, &question, WallTime::from_unix_millis(0)).unwrap()
}

fn says(told: &Explanation, words: &str) {
    let found = told.reasons.iter().any(|reason| reason.contains(words));
    assert!(found, "{words:?} is not in {:#?}", told.reasons);
}

#[test]
fn the_rate_in_force_is_shown_with_its_field_burst_and_mode() {
    let bronze = "limit: {per_second: 30, at_peak: 8, at_festival: 4, burst: 3}";
    let mesh = mesh(bronze, "fallback: probe");
    let peak = told(&mesh, 24);
    says(
        &peak,
        "limit/v3/class/bronze: 8 requests per second (at_peak), 3 at once",
    );
    says(
        &peak,
        "limit/v3/service/pay: 5000 requests per second (per_second), 500 at once",
    );
    says(
        &peak,
        "fallback: probe: while the canary's breaker is open, stable serves its users",
    );
    says(&peak, "it only observes: open, it would refuse nothing");
    assert_eq!(
        peak.limits[0],
        json!({"of": "class", "per_second": 8, "scope": "envoy", "proxies": 1, "own_per_second": 8.0,
            "burst": 3, "field": "at_peak", "mode": "enforce"})
    );
    assert_eq!(peak.canary.unwrap()["fallback"], json!("probe"));
    says(
        &told(&mesh, 25),
        "4 requests per second (at_festival), 3 at once",
    );
}

#[test]
fn a_refusal_is_told_with_status_and_reason() {
    let limited = told(
        &mesh("limit: {per_second: 30, at_peak: 0}", "fallback: probe"),
        24,
    );
    says(
        &limited,
        "0 requests per second (at_peak), 1 at once; refuses all",
    );
    says(
        &limited,
        "refused with 429, x-mumbai-reason: limit, retry-after: ",
    );
    assert_eq!((limited.refused, limited.cluster), (Some("limit"), None));

    let shed = told(&mesh("shed_during: {peak: 100}", "fallback: probe"), 24);
    says(
        &shed,
        "100 % of class bronze are shed now: a draw is 9999 of 10000, refused with 429",
    );
    says(&shed, "refused with 429, x-mumbai-reason: shed");
    assert!(shed.shed);
}

#[test]
fn what_only_observes_refuses_nothing_and_says_what_it_would() {
    let bronze = "limit: {per_second: 0, mode: observe}, shed_during: {peak: 100}, mode: observe";
    let told = told(&mesh(bronze, "mode: observe"), 24);
    says(&told, "would refuse all, and only observes");
    says(&told, "100 % of class bronze would be shed now");
    says(
        &told,
        "would be refused with 429, and passes: it only observes",
    );
    says(
        &told,
        "the canary only observes: this request would be served by v2, all are by stable",
    );
    assert!(!told.shed && told.refused.is_none());
    assert_eq!(told.would_be_refused, Some("limit"));
    assert_eq!(told.cluster.as_deref(), Some("pay"));
    assert_eq!(told.canary.unwrap()["mode"], json!("observe"));
}
