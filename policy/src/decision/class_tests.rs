//! Stories of traffic classes: who is who, what is limited, what is shed.

use serde_json::{Value, json};

use super::*;
use crate::{
    breaker::{BreakerState, Cell, Completion},
    decision::tests::{Map, World, normal},
    outcome::Outcome,
    time::WallTime,
    wire::FilterConfig,
};

/// 2026-11-24T18:00+05:30, in the evening's window.
const EVENING: i64 = 1_795_523_400;
/// 2026-11-08T12:00+05:30, Diwali.
const DIWALI: i64 = 1_794_119_400;
/// 2026-11-24T12:00+05:30.
const NOON: i64 = 1_795_501_800;

fn rules(classes: &Value, limit: &Value) -> Rules {
    let config = json!({
        "version": 1,
        "timezone": {"name": "Asia/Kolkata", "posix": "IST-5:30"},
        "peak_hours": {"evening": {"start": 17, "end": 22}},
        "festivals": [{"name": "Diwali", "date": "2026-11-08"}],
        "traffic_classes": classes,
        "services": [
            {"name": "upi", "circuit_breaker": {"consecutive_failures": 3}, "limit": limit},
            {"name": "pay", "class": "platinum", "circuit_breaker": {"consecutive_failures": 3}},
        ],
    });
    Rules::new(FilterConfig::parse(config.to_string().as_bytes()).unwrap())
}

fn bronze_is_checks(bronze: Value) -> Value {
    let mut bronze = bronze;
    bronze["name"] = "bronze".into();
    bronze["match"] =
        json!([{"path_prefix": "/upi/check", "header": {"x-initiated-by": "system"}}]);
    json!([{"name": "gold", "match": [{"path_prefix": "/upi/pay"}]}, bronze])
}

const UPI: ServiceId = ServiceId::Known(0);
const PAY: ServiceId = ServiceId::Known(1);

fn check() -> Map {
    Map(vec![
        (":path", b"/upi/check?id=7"),
        ("x-initiated-by", b"system"),
        ("x-user-id", b"user-42"),
    ])
}

fn decided<'r>(
    rules: &'r Rules,
    world: &mut World,
    service: ServiceId,
    headers: &Map,
    seconds: i64,
) -> Decision<'r> {
    let traffic = rules.traffic_at(WallTime::from_unix_seconds(seconds));
    decide(rules, &traffic, &RequestView { service, headers }, world)
}

fn refusal(decision: &Decision<'_>) -> Option<(u16, &'static str)> {
    match &decision.verdict {
        Verdict::Proceed { .. } => None,
        Verdict::Refuse { status, reason, .. } => Some((*status, reason.as_str())),
    }
}

#[test]
fn the_first_matching_class_counts_else_the_services_own() {
    let rules = rules(&bronze_is_checks(json!({})), &Value::Null);
    let class = |service, headers: &Map| {
        let mut world = World::new(&rules, 0);
        decided(&rules, &mut world, service, headers, NOON)
            .class
            .to_string()
    };
    assert_eq!(class(UPI, &Map(vec![(":path", b"/upi/pay/7")])), "gold");
    assert_eq!(class(UPI, &check()), "bronze");
    assert_eq!(class(UPI, &Map(vec![(":path", b"/upi/check")])), "silver");
    assert_eq!(class(PAY, &Map(vec![(":path", b"/")])), "platinum");
    assert_eq!(class(PAY, &check()), "bronze");
}

#[test]
fn what_bronze_does_never_refuses_gold() {
    let rules = rules(&bronze_is_checks(json!({})), &Value::Null);
    let mut world = World::new(&rules, 0);
    for _ in 0..3 {
        let decision = decided(&rules, &mut world, UPI, &check(), NOON);
        let Verdict::Proceed {
            cell: Some(id),
            ticket: Some(ticket),
        } = decision.verdict
        else {
            panic!("{decision:?}");
        };
        let cell_rules = normal(rules.cell(id).unwrap());
        let now = world.now;
        let cell: &mut Cell = world.cells.get_mut(&id).unwrap();
        let failure = Completion::new(Outcome::Failure, None, cell_rules);
        cell.record(cell_rules, ticket, failure, now);
    }
    let bronze = decided(&rules, &mut world, UPI, &check(), NOON);
    assert_eq!(refusal(&bronze), Some((503, "breaker_open")));
    let gold = Map(vec![(":path", b"/upi/pay")]);
    assert_eq!(
        refusal(&decided(&rules, &mut world, UPI, &gold, NOON)),
        None
    );
    let own = Map(vec![(":path", b"/")]);
    assert_eq!(refusal(&decided(&rules, &mut world, UPI, &own, NOON)), None);
    let open = world
        .cells
        .values()
        .filter(|cell| cell.state() == BreakerState::Open);
    assert_eq!(open.count(), 1);
}

#[test]
fn a_class_has_its_own_limit_at_peak_and_on_a_festival() {
    let limit = json!({"limit": {"per_second": 30, "at_peak": 20, "at_festival": 10, "burst": 1}});
    let rules = rules(&bronze_is_checks(limit), &Value::Null);
    for (seconds, interval_millis) in [(NOON, 33), (EVENING, 50), (DIWALI, 100)] {
        let mut world = World::new(&rules, 0);
        let passes =
            |world: &mut World| refusal(&decided(&rules, world, UPI, &check(), seconds)).is_none();
        assert!(passes(&mut world));
        let again = decided(&rules, &mut world, UPI, &check(), seconds);
        assert_eq!(refusal(&again), Some((429, "limit")));
        world.now = world
            .now
            .saturating_add(Duration::from_millis(interval_millis - 1));
        assert!(!passes(&mut world), "too early at {seconds}");
        world.now = world.now.saturating_add(Duration::from_millis(2));
        assert!(passes(&mut world), "late enough at {seconds}");
        let gold = Map(vec![(":path", b"/upi/pay")]);
        assert_eq!(
            refusal(&decided(&rules, &mut world, UPI, &gold, seconds)),
            None
        );
    }
}

#[test]
fn a_service_has_a_limit_for_all_classes_together() {
    let rules = rules(
        &bronze_is_checks(json!({})),
        &json!({"per_second": 10, "burst": 2}),
    );
    let mut world = World::new(&rules, 0);
    let gold = Map(vec![(":path", b"/upi/pay")]);
    assert_eq!(
        refusal(&decided(&rules, &mut world, UPI, &gold, NOON)),
        None
    );
    assert_eq!(
        refusal(&decided(&rules, &mut world, UPI, &check(), NOON)),
        None
    );
    let third = decided(&rules, &mut world, UPI, &gold, NOON);
    assert_eq!(refusal(&third), Some((429, "limit")));
    assert_eq!(
        refusal(&decided(&rules, &mut world, PAY, &gold, NOON)),
        None
    );
}

#[test]
fn what_a_services_limit_refuses_takes_nothing_of_the_class() {
    let limit = json!({"limit": {"per_second": 10, "burst": 3}});
    let rules = rules(
        &bronze_is_checks(limit),
        &json!({"per_second": 1, "burst": 1}),
    );
    let mut world = World::new(&rules, 0);
    let mut asked = |service| refusal(&decided(&rules, &mut world, service, &check(), NOON));
    assert_eq!(asked(UPI), None);
    for _ in 0..10 {
        assert_eq!(asked(UPI), Some((429, "limit")));
    }
    assert_eq!([asked(PAY), asked(PAY)], [None, None]);
    assert_eq!(asked(PAY), Some((429, "limit")));
}

#[test]
fn a_class_is_shed_in_its_times_by_the_users_bucket() {
    // user-42 has bucket 1583 of bronze.
    let during = |during: Value| {
        let bronze = json!({"shed_during": during, "sticky_by": {"header": "x-user-id"}});
        rules(&bronze_is_checks(bronze), &Value::Null)
    };
    let shed = |rules: &Rules, seconds| {
        let mut world = World::new(rules, 0);
        refusal(&decided(rules, &mut world, UPI, &check(), seconds))
    };
    let festival = during(json!({"festival": 16}));
    assert_eq!(shed(&festival, DIWALI), Some((429, "shed")));
    assert_eq!(shed(&festival, EVENING), None);
    assert_eq!(shed(&during(json!({"festival": 15.83})), DIWALI), None);
    let highest = during(json!({"peak": 1, "evening": 20, "Diwali": 0}));
    assert_eq!(shed(&highest, EVENING), Some((429, "shed")));
    assert_eq!(shed(&highest, DIWALI), None);
    let normal = during(json!({"normal": 100}));
    assert_eq!(shed(&normal, NOON), Some((429, "shed")));
    assert_eq!(shed(&normal, EVENING), None);
}

#[test]
fn in_observe_mode_limits_and_shedding_refuse_nothing_and_say_so() {
    let bronze = json!({
        "limit": {"per_second": 0, "mode": "observe"},
        "shed_during": {"normal": 100}, "mode": "observe",
    });
    let rules = rules(&bronze_is_checks(bronze), &Value::Null);
    let mut world = World::new(&rules, 0);
    let decision = decided(&rules, &mut world, UPI, &check(), NOON);
    assert_eq!(refusal(&decision), None);
    assert_eq!(decision.observed, Some(Reason::Limit));
    assert!(decision.shed.unwrap().shed);
}

#[test]
fn a_refusal_says_what_its_class_says() {
    let bronze = json!({
        "shed_during": {"normal": 100},
        "refusal": {"content_type": "application/json", "body": "{\"retry\": true}"},
    });
    let rules = rules(&bronze_is_checks(bronze), &Value::Null);
    let decision = decided(&rules, &mut World::new(&rules, 0), UPI, &check(), NOON);
    let Verdict::Refuse {
        body: Some(body),
        retry_after_seconds,
        ..
    } = decision.verdict
    else {
        panic!("{decision:?}");
    };
    assert_eq!(
        (&*body.content_type, &*body.body),
        ("application/json", "{\"retry\": true}")
    );
    assert!((5..=6).contains(&retry_after_seconds));
}

#[test]
fn classes_have_cells_of_their_own() {
    let rules = rules(&bronze_is_checks(json!({})), &Value::Null);
    let keys: Vec<&str> = rules
        .cells()
        .iter()
        .map(|cell| cell.shared_key.as_str())
        .collect();
    let key = |rest: &str| format!("mumbai_mesh/breaker/v1/{rest}");
    let expected = [
        "upi/stable/gold",
        "upi/stable/bronze",
        "upi/stable/silver",
        "pay/stable/gold",
        "pay/stable/bronze",
        "pay/stable/platinum",
    ];
    assert_eq!(keys, expected.map(key));
}

#[test]
fn problems_of_classes_and_limits_are_told() {
    let told = |classes: Value| -> String {
        let config = json!({"version": 1, "traffic_classes": classes});
        let problems = FilterConfig::parse(config.to_string().as_bytes()).unwrap_err();
        problems
            .iter()
            .map(|problem| format!("{problem}\n"))
            .collect()
    };
    for (classes, words) in [
        (
            json!([{"name": "gold", "shed_during": {"peak": 1}}]),
            "gold is never shed",
        ),
        (
            json!([{"name": "a"}, {"name": "a"}]),
            "class a is listed twice",
        ),
        (
            json!([{"name": "a", "match": [{}]}]),
            "must name path_prefix",
        ),
        (
            json!([{"name": "a", "match": [{"path_prefix": "x"}]}]),
            "begins with /",
        ),
        (
            json!([{"name": "a", "match": [{"header": {"X-Mumbai-Class": "gold"}}]}]),
            "traffic_classes[0].match[0].header.x-mumbai-class: is ours",
        ),
        (
            json!([{"name": "a", "match": [{"method": "post"}]}]),
            "capital letters",
        ),
        (
            json!([{"name": "a", "shed_during": {"Holi": 5}}]),
            "shed_during.Holi: is neither a window",
        ),
        (
            json!([{"name": "a", "shed_during": {"peak": 101}}]),
            "0 to 100 percent",
        ),
        (
            json!([{"name": "a", "limit": {}}]),
            "limit.per_second: must be given",
        ),
        (
            json!([{"name": "a", "limit": {"per_second": 1, "burst": 0}}]),
            "from 1 to 1000000",
        ),
        (
            json!([{"name": "a", "limit": {"per_second": 1, "scope": "mesh"}}]),
            "envoy or fleet",
        ),
        (
            json!([{"name": "a", "refusal": {"body": "x"}}]),
            "content_type: must be given",
        ),
        (json!([{"name": "a", "mode": "dry"}]), "enforce or observe"),
    ] {
        let told = told(classes);
        assert!(told.contains(words), "{words:?} is not in {told}");
    }
}

#[test]
fn classes_and_limits_are_written_as_they_are_read() {
    let classes = json!([
        {"name": "gold", "match": [{"path_prefix": "/upi/pay"}, {"grpc_service": "upi.v1.Pay"}]},
        {"name": "bronze",
         "match": [{"path": "/upi/check", "method": "POST", "header": {"x-a": "1", "x-b": "2"}}],
         "limit": {"per_second": 3000, "at_peak": 800, "at_festival": 400, "burst": 100},
         "shed_during": {"Diwali": 75, "evening": 12.5, "festival": 50},
         "sticky_by": {"header": "x-user-id"}, "mode": "observe",
         "refusal": {"content_type": "text/xml", "body": "<busy/>"}},
    ]);
    let config = json!({
        "version": 1,
        "timezone": {"name": "UTC", "posix": "UTC0"},
        "peak_hours": {"evening": {"start": "17:00", "end": "22:00"}},
        "festivals": [{"name": "Diwali", "date": "2026-11-08"}],
        "traffic_classes": classes,
        "services": [{"name": "upi", "limit": {"per_second": 10, "mode": "observe"}}],
    });
    let parsed = FilterConfig::parse(config.to_string().as_bytes()).unwrap();
    assert_eq!(parsed.to_json(), config);
}

#[test]
fn a_breaker_has_other_rules_at_peak_and_on_festivals() {
    let config = json!({
        "version": 1,
        "timezone": {"name": "Asia/Kolkata", "posix": "IST-5:30"},
        "peak_hours": {"evening": {"start": "17:00", "end": "22:00"}},
        "festivals": [{"name": "Diwali", "date": "2026-11-08"}],
        "services": [{"name": "upi", "circuit_breaker": {
            "consecutive_failures": 5,
            "slow_calls": {"over": "1s", "percent": 60, "minimum_requests": 20, "window": "10s"},
            "open_for": "5s", "half_open_probes": 3,
            "at_peak": {"consecutive_failures": 3, "open_for": "10s"},
            "at_festival": {"open_for": "30s", "half_open_probes": 1},
            "mode": "observe",
        }}],
    });
    let parsed = FilterConfig::parse(config.to_string().as_bytes()).unwrap();
    assert_eq!(parsed.to_json(), config);
    let rules = Rules::new(parsed);
    let at = |seconds| {
        let traffic = rules.traffic_at(WallTime::from_unix_seconds(seconds));
        let rules = rules.cells()[0].at(&traffic);
        (
            rules.consecutive_failures,
            rules.open_for.as_secs(),
            rules.half_open_probes,
        )
    };
    let diwali_evening = DIWALI + 6 * 3_600;
    assert_eq!(at(NOON), (Some(5), 5, 3));
    assert_eq!(at(EVENING), (Some(3), 10, 3));
    assert_eq!(at(DIWALI), (Some(5), 30, 1));
    assert_eq!(at(diwali_evening), (Some(3), 30, 1));

    // Observed: it opens, and lets everything pass.
    let mut world = World::new(&rules, 0);
    world.open(&rules, CellId(0));
    let decision = decided(&rules, &mut world, UPI, &Map(vec![]), NOON);
    assert_eq!(decision.verdict, PASS);
    assert_eq!(decision.observed, Some(Reason::BreakerOpen));
}
