//! What a person says of a service holds in every decision until its instant, and for no other service.

use serde_json::{Value, json};

use super::{
    tests::{Map, World},
    *,
};
use crate::{time::WallTime, wire::FilterConfig};

/// 2026-11-24T12:00+05:30, in no window.
const NOON: i64 = 1_795_501_800;
const ORDERS: ServiceId = ServiceId::Known(0);
const SECOND: ServiceId = ServiceId::Known(1);

fn rules(said: &Value) -> Rules {
    let limit = json!({"per_second": 1_000, "at_peak": 0});
    let canary = json!({"version": "v2", "weight": 100, "sticky_by": {"header": "x-user-id"}});
    let service = |name: &str| json!({"name": name, "limit": limit, "canary": canary});
    let mut orders = service("orders");
    orders["override"] = said.clone();
    let config = json!({
        "version": 1,
        "timezone": {"name": "Asia/Kolkata", "posix": "IST-5:30"},
        "peak_hours": {"evening": {"start": 17, "end": 22, "multiplier": 2}},
        "services": [orders, service("second")],
    });
    Rules::new(FilterConfig::parse(config.to_string().as_bytes()).unwrap())
}

fn until(hour: u32, kind: &str) -> Value {
    json!({"kind": kind, "until": format!("2026-11-24T{hour}:00+05:30")})
}

/// `refused or version`, and the state that the upstream is told.
fn told(rules: &Rules, service: ServiceId, at: i64) -> String {
    let traffic = rules.traffic_at(WallTime::from_unix_seconds(at));
    let headers = Map(vec![("x-user-id", b"user-1")]);
    let request = RequestView {
        service,
        headers: &headers,
    };
    let mut world = World::new(rules, 0);
    let decision = decide(rules, &traffic, &request, &mut world);
    let state = decision
        .request_headers(&traffic)
        .find(|(name, _)| *name == names::HEADER_TRAFFIC_STATE);
    let state = state.map(|(_, state)| state).unwrap_or_default();
    match &decision.verdict {
        Verdict::Refuse { reason, .. } => format!("{} {state}", reason.as_str()),
        Verdict::Proceed { .. } => {
            let observed = decision.observed.map_or("", |_| " observed");
            let version = decision.version_header.unwrap_or_default();
            format!("{version} {state}{observed}")
        }
    }
}

#[test]
fn an_override_holds_for_its_service_until_its_instant() {
    let hour = 60 * 60;
    for (kind, noon, evening) in [
        ("bypass", "stable normal", "stable peak_hour"),
        ("observe", "v2 normal", "v2 peak_hour observed"),
        ("peak", "limit peak_hour", "limit peak_hour"),
        ("normal", "v2 normal", "v2 normal"),
    ] {
        let rules = rules(&until(20, kind));
        assert_eq!(told(&rules, ORDERS, NOON), noon, "{kind}");
        assert_eq!(told(&rules, ORDERS, NOON + 6 * hour), evening, "{kind}");
        assert_eq!(told(&rules, ORDERS, NOON + 8 * hour - 1), evening, "{kind}");
        assert_eq!(told(&rules, ORDERS, NOON + 8 * hour), "limit peak_hour");
        assert_eq!(told(&rules, SECOND, NOON), "v2 normal");
        assert_eq!(told(&rules, SECOND, NOON + 6 * hour), "limit peak_hour");
    }
}

#[test]
fn an_answer_holds_no_longer_than_an_override() {
    let rules = rules(&until(13, "peak"));
    let noon = WallTime::from_unix_seconds(NOON);
    let one = WallTime::from_unix_seconds(NOON + 60 * 60);
    let traffic = rules.traffic_at(noon);
    assert_eq!(traffic.holds_until, one);
    assert_eq!(traffic.state, TrafficState::Normal, "of all others");
    assert!(rules.traffic_at(one).overridden.is_empty());
}

#[test]
fn an_override_that_cannot_be_read_is_refused() {
    for (said, words) in [
        (
            json!({"kind": "all", "until": "2026-11-24T20:00+05:30"}),
            "must be bypass",
        ),
        (json!({"kind": "peak"}), ".override.until"),
        (json!({"kind": "peak", "until": "soon"}), "until"),
        (
            json!({"kind": "peak", "until": "2026-11-24T20:00+05:30", "for": "1h"}),
            "for",
        ),
    ] {
        let config = json!({"version": 1, "services": [{"name": "a", "override": said}]});
        let problems = FilterConfig::parse(config.to_string().as_bytes()).unwrap_err();
        assert!(format!("{problems:?}").contains(words), "{problems:?}");
    }
}
