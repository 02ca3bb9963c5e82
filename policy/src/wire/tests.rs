use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::reader::Problem;

fn parse(value: &Value) -> Result<FilterConfig, Vec<String>> {
    let told = |problems: Vec<Problem>| problems.iter().map(ToString::to_string).collect();
    FilterConfig::parse(value.to_string().as_bytes()).map_err(told)
}

fn full() -> Value {
    json!({
        "version": 1,
        "timezone": {"name": "Asia/Kolkata", "posix": "IST-5:30"},
        "region": "mumbai",
        "zone": "mumbai-west",
        "peak_hours": {
            "morning": {"start": "07:00", "end": "11:00", "zone": "mumbai-west", "multiplier": 1.5},
            "night": {"start": 22, "end": 6, "days": ["fri"], "dates": ["2026-11-08", {"start": "2026-12-01", "end": "2026-12-31"}]},
            "salary": {"start": 9, "end": 12, "monthly": [7, "last-business-day", 1], "except": "holidays"},
        },
        "festivals": ["2026-03-04", {"name": "दीपावली", "date": "2026-11-08", "factor": 2.0, "holiday": true, "source": "almanac"},
                      {"name": "Navratri", "start": "2026-10-11", "end": "2026-10-20"}],
        "holidays": ["2027-01-26", {"name": "Holi", "start": "2027-03-22", "end": "2027-03-23", "source": "RBI"}],
        "services": [
            {"name": "order-service", "class": "gold", "clusters": ["outbound|80||orders"], "authorities": ["orders.example"],
             "timeout": "2s", "circuit_breaker": {"consecutive_failures": 5, "open_for": "20s", "half_open_probes": 1},
             "canary": {"version": "v2", "weight": 0.29, "sticky_by": {"header": "x-user-id"}}},
            {"name": "pay", "circuit_breaker": {"error_rate": {"percent": 12.5, "minimum_requests": 7, "window": "1m30s"}}},
            {"name": "plain", "override": {"kind": "bypass", "until": "2026-11-25T09:00:00+05:30"}},
            {"name": "ramping", "canary": {"version": "v3", "freeze_during": ["festival", "night", "peak", "दीपावली"],
             "ramp": {"start": "2026-11-25T09:00:00.250+05:30", "steps": [0.5, 10, 25, 50, 100], "every": "1h30m"}, "resumed": 2}},
        ],
        "trust_canary_header": true,
        "service_from": "cluster",
    })
}

#[test]
fn a_written_configuration_is_read_back_the_same() {
    for value in [
        full(),
        json!({"version": 1}),
        json!({"version": 1.0, "services": null}),
    ] {
        let config = parse(&value).unwrap();
        assert_eq!(parse(&config.to_json()), Ok(config.clone()));
        // Writing is stable too: equal meshes give equal bytes.
        assert_eq!(
            parse(&config.to_json()).unwrap().to_json(),
            config.to_json()
        );
    }
}

/// What Istio makes of a plugin's configuration on its way through a struct: every number a double, fields in
/// any order.
fn as_a_struct(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(elements) => elements.iter().map(as_a_struct).collect(),
        Value::Object(fields) => {
            let fields = fields.iter().rev();
            let fields = fields.map(|(name, value)| (name.clone(), as_a_struct(value)));
            Value::Object(fields.collect())
        }
        other => other.clone(),
    }
}

#[test]
fn doubles_and_fields_in_another_order_mean_the_same() {
    for value in [full(), super::field_tests::every_field()] {
        let through = as_a_struct(&value).to_string();
        assert!(through.contains("\"version\":1.0"), "{through}");
        assert_eq!(
            FilterConfig::parse(through.as_bytes()),
            FilterConfig::parse(value.to_string().as_bytes())
        );
        // Keys sorted backwards, whatever the map keeps of an order.
        let mut lines: Vec<String> = match &value {
            Value::Object(fields) => fields.iter().map(|(k, v)| format!("{k:?}:{v}")).collect(),
            _ => Vec::new(),
        };
        lines.sort_unstable_by(|left, right| right.cmp(left));
        let backwards = format!("{{{}}}", lines.join(","));
        assert_eq!(
            FilterConfig::parse(backwards.as_bytes()),
            FilterConfig::parse(value.to_string().as_bytes())
        );
    }
}

#[test]
fn no_bytes_at_all_are_a_configuration_without_services() {
    let config = FilterConfig::parse(b"").unwrap();
    assert_eq!(Ok(config), parse(&json!({"version": 1})));
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = parse(&json!({"version": 1, "services": [{"name": "a"}]})).unwrap();
    assert_eq!(config.timetable.zone().name(), "UTC");
    assert_eq!(config.services[0].class.as_str(), "silver");
    assert_eq!(config.services[0].breaker, BreakerPlan::default_for(None));
    assert!(!config.trust_canary_header);
    assert_eq!(config.service_from, ServiceSource::Route);
}

#[test]
fn all_problems_are_told_at_once_with_their_paths() {
    let problems = parse(&json!({
        "version": 2,
        "timezone": {"name": "Asia/Kolkata", "posix": "nonsense"},
        "peak_hours": {"morning": {"start": "07:00", "end": "7:0"}},
        "servces": [],
        "services": [
            {"name": "a", "canary": {"version": "v2", "weight": 101}},
            {"name": "a", "timeout": "0s"},
            {"nmae": "b"},
        ],
        "service_from": "port",
    }))
    .unwrap_err();
    let starts = [
        "version: must be a whole number from 1 to 1, not 2",
        "timezone.posix: \"nonsense\" is not a POSIX TZ rule",
        "peak_hours.morning.end: \"7:0\"",
        "services[0].canary.weight: must be 0 to 100 percent",
        "services[1].timeout: must be longer than 0",
        "services[2].name: must be given",
        "services[2].nmae: unknown field \"nmae\" (did you mean \"name\"?)",
        "services[1]: \"a\" is the name or cluster of services[0] too",
        "service_from: \"port\" is not legal: must be route, cluster or authority",
        "servces: unknown field \"servces\" (did you mean \"services\"?)",
    ];
    for start in starts {
        assert!(
            problems.iter().any(|problem| problem.starts_with(start)),
            "{start} in {problems:#?}"
        );
    }
    // A canary that could not be read is no second problem.
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
}

#[test]
fn empty_and_unreadable_configurations_say_what_is_missing() {
    for bytes in [&b" \n"[..], b"{", b"\xff", b"[]", b"null", b"7"] {
        let problems = FilterConfig::parse(bytes).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
    }
    let deep = "[".repeat(100_000);
    assert!(FilterConfig::parse(deep.as_bytes()).is_err());
    assert!(parse(&json!({})).unwrap_err()[0].starts_with("version: must be given"));
}

#[test]
fn a_megabyte_of_services_is_read() {
    let services: Vec<Value> = (0..10_000)
        .map(|index| json!({"name": format!("service-{index}"), "canary": {"version": "v2", "weight": 10}}))
        .collect();
    let config = parse(&json!({"version": 1, "services": services})).unwrap();
    assert_eq!(config.services.len(), 10_000);
}

#[test]
fn a_freeze_by_a_name_that_nothing_has_is_refused() {
    let config = |during: Value| {
        json!({
            "version": 1,
            "peak_hours": {"evening": {"start": 17, "end": 22}},
            "services": [{"name": "a"}, {"name": "b", "canary": {"version": "v2", "weight": 1, "freeze_during": during}}],
        })
    };
    assert!(parse(&config(json!(["evening", "peak", "festival"]))).is_ok());
    let problems = parse(&config(json!(["peak", "evning"]))).unwrap_err();
    assert_eq!(
        problems,
        [
            "services[1].canary.freeze_during[1]: \"evning\" is neither a window of peak_hours nor a festival (use one of their names, or peak, festival)"
        ]
    );
}

/// Any JSON, half of it made of names that mean something.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        proptest::sample::select(vec![
            "version",
            "timezone",
            "name",
            "posix",
            "peak_hours",
            "festivals",
            "holidays",
            "monthly",
            "except",
            "last-business-day",
            "services",
            "start",
            "end",
            "canary",
            "weight",
            "ramp",
            "steps",
            "every",
            "freeze_during",
            "peak",
            "2026-11-25T09:00Z",
            "sticky_by",
            "header",
            "circuit_breaker",
            "error_rate",
            "open_for",
            "UTC0",
            "07:00",
            "2026-11-08",
            "5s",
            "v2",
        ])
        .prop_map(ToString::to_string),
        "\\PC{0,6}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0..25_i64).prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map(word.clone(), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_read_or_refused_with_reasons(inner in any_json(), field in 0..5_usize) {
        let mut value = full();
        let field = ["services", "peak_hours", "festivals", "timezone", "holidays"][field];
        value[field] = inner.clone();
        for value in [value, inner] {
            match parse(&value) {
                Ok(config) => prop_assert_eq!(parse(&config.to_json()), Ok(config)),
                Err(problems) => prop_assert!(!problems.is_empty()),
            }
        }
    }

    #[test]
    fn any_hundredths_survive(weight in 0_u32..=10_000, multiplier in 1_u32..=10_000) {
        let mut value = full();
        value["services"][0]["canary"]["weight"] = json!(f64::from(weight) / 100.0);
        value["peak_hours"]["morning"]["multiplier"] = json!(f64::from(multiplier) / 100.0);
        let config = parse(&value).unwrap();
        prop_assert_eq!(u32::from(config.services[0].canary.as_ref().unwrap().weight.highest().get()), weight);
        prop_assert_eq!(config.timetable.windows()[0].multiplier().percent(), multiplier);
        prop_assert_eq!(parse(&config.to_json()), Ok(config));
    }
}
