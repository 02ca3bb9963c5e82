//! Every field of the filter's configuration: what is wrong with it is told once, with its path, what was
//! found there and what would be legal.

use serde_json::{Value, json};

use super::*;

/// A legal configuration with every field that there is.
pub(super) fn every_field() -> Value {
    let rules = json!({
        "consecutive_failures": 5,
        "error_rate": {"percent": 50, "minimum_requests": 20, "window": "10s"},
        "slow_calls": {"over": "1s", "percent": 60, "minimum_requests": 20, "window": "10s"},
        "open_for": "5s", "half_open_probes": 3,
    });
    let mut breaker = rules.clone();
    breaker["mode"] = "observe".into();
    breaker["count_envoy_refusals"] = false.into();
    breaker["at_peak"] = rules.clone();
    breaker["at_festival"] = rules;
    let limit = json!({"per_second": 100, "at_peak": 50, "at_festival": 40, "burst": 10, "mode": "observe", "scope": "fleet"});
    json!({
        "version": 1,
        "timezone": {"name": "Asia/Kolkata", "posix": "IST-5:30"},
        "region": "mumbai",
        "zone": "mumbai-west",
        "peak_hours": {"evening": {"start": 17, "end": "22:00", "zone": "mumbai-west", "multiplier": 1.5,
            "days": ["mon"], "dates": ["2026-11-08", {"start": "2026-12-01", "end": "2026-12-31"}],
            "monthly": [1], "except": "holidays"}},
        "festivals": [{"name": "Diwali", "date": "2026-11-08", "factor": 2, "holiday": true, "source": "almanac"},
            {"name": "Navratri", "start": "2026-10-11", "end": "2026-10-20"}],
        "holidays": ["2027-01-26", {"name": "Holi", "start": "2027-03-22", "end": "2027-03-23", "source": "RBI"}],
        "traffic_classes": [{"name": "bronze", "limit": limit, "sticky_by": {"header": "x-user-id"},
            "match": [{"path_prefix": "/check", "method": "GET", "header": {"x-by": "system"}}, {"path": "/a"},
                {"grpc_service": "upi.Check"}],
            "shed_during": {"evening": 30, "festival": 50}, "mode": "observe",
            "refusal": {"content_type": "application/json", "body": "{}"}}],
        "services": [{"name": "pay", "class": "silver", "clusters": ["outbound|80||pay"],
            "authorities": ["pay.example"], "timeout": "2s", "limit": limit, "circuit_breaker": breaker,
            "canary": {"version": "v2", "weight": 10, "sticky_by": {"header": "x-user-id"}, "fallback": "probe",
                "mode": "observe", "freeze_during": ["peak"]}},
            {"name": "ship", "canary": {"version": "v2", "ramp": {"start": "2026-11-25T09:00:00+05:30",
                "steps": [5, 10.5], "every": "30m"}}}],
        "trust_canary_header": true,
        "debug_headers": true,
        "service_from": "cluster",
        "fleet_size": 3,
    })
}

fn problems(value: &Value) -> Vec<String> {
    match FilterConfig::parse(value.to_string().as_bytes()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

/// Paths of all values that are neither lists nor objects: as people write them, and as JSON pointers.
fn leaves(value: &Value, path: &str, pointer: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = match path {
                    "" => name.clone(),
                    _ => format!("{path}.{name}"),
                };
                leaves(value, &path, &format!("{pointer}/{name}"), found);
            }
        }
        Value::Array(elements) => {
            for (index, value) in elements.iter().enumerate() {
                let path = format!("{path}[{index}]");
                leaves(value, &path, &format!("{pointer}/{index}"), found);
            }
        }
        _ => found.push((path.to_string(), pointer.to_string())),
    }
}

fn with(pointer: &str, value: Value) -> Value {
    let mut config = every_field();
    *config.pointer_mut(pointer).unwrap() = value;
    config
}

#[test]
fn a_value_of_the_wrong_type_is_told_once_with_its_path_and_what_it_should_be() {
    assert_eq!(problems(&every_field()), [""; 0]);
    let mut found = Vec::new();
    leaves(&every_field(), "", "", &mut found);
    assert!(found.len() > 70, "{}", found.len());
    for (path, pointer) in found {
        let told = problems(&with(&pointer, json!([[7]])));
        assert_eq!(told.len(), 1, "{path}: {told:#?}");
        let start = format!("{path}: must be ");
        let told = &told[0];
        assert!(
            told.starts_with(&start) && told.contains("not a list"),
            "{told}"
        );
    }
}

#[test]
fn a_value_out_of_range_is_told_once_with_its_path_the_value_and_what_is_legal() {
    let breaker = "/services/0/circuit_breaker";
    let limit = "/traffic_classes/0/limit";
    let long = "x".repeat(300);
    let rows = [
        ("/version", json!(2), "from 1 to 1"),
        ("/timezone/name", json!("a b"), "Asia/Kolkata"),
        ("/timezone/posix", json!("noon"), "IST-5:30"),
        ("/zone", json!("a zone"), "must be"),
        ("/peak_hours/evening/start", json!(25), "0 to 24"),
        ("/peak_hours/evening/end", json!("7:0"), "00:00"),
        ("/peak_hours/evening/zone", json!("a zone"), "must be"),
        ("/peak_hours/evening/multiplier", json!(101), "0.01 to 100"),
        ("/peak_hours/evening/days/0", json!("funday"), "mon, tue"),
        ("/peak_hours/evening/dates/0", json!("8/11"), "2026-11-08"),
        (
            "/peak_hours/evening/dates/1/end",
            json!("9999-99-99"),
            "2026-11-08",
        ),
        ("/peak_hours/evening/monthly/0", json!(32), "from 1 to 31"),
        (
            "/peak_hours/evening/monthly/0",
            json!("last-day"),
            "last-business-day",
        ),
        ("/peak_hours/evening/except", json!("sundays"), "holidays"),
        ("/holidays/0", json!("26/1"), "2026-11-08"),
        ("/holidays/1/name", json!(""), "1 to 100"),
        ("/festivals/0/date", json!("1899-01-01"), "1900 to 2999"),
        ("/festivals/0/factor", json!(0), "0.01 to 100"),
        ("/traffic_classes/0/name", json!("a b"), "must be"),
        (
            "/traffic_classes/0/match/0/path_prefix",
            json!("check"),
            "begins with /",
        ),
        (
            "/traffic_classes/0/match/0/method",
            json!("get"),
            "capital letters",
        ),
        (
            "/traffic_classes/0/match/1/path",
            json!("/a b"),
            "begins with /",
        ),
        (
            "/traffic_classes/0/match/2/grpc_service",
            json!("a/b"),
            "upi.v1.Payments",
        ),
        (
            "/traffic_classes/0/shed_during/evening",
            json!(101),
            "0 to 100 percent",
        ),
        (
            "/traffic_classes/0/sticky_by/header",
            json!("a b"),
            "must be",
        ),
        (
            "/traffic_classes/0/mode",
            json!("dry"),
            "enforce or observe",
        ),
        (
            "/traffic_classes/0/refusal/content_type",
            json!("\u{1}"),
            "application/json",
        ),
        (&format!("{limit}/per_second"), json!(-1), "from 0 to"),
        (&format!("{limit}/at_peak"), json!(0.5), "from 0 to"),
        (&format!("{limit}/at_festival"), json!(1e12), "from 0 to"),
        (&format!("{limit}/burst"), json!(0), "from 1 to"),
        (&format!("{limit}/scope"), json!("mesh"), "envoy or fleet"),
        ("/fleet_size", json!(0), "from 1 to 1000000"),
        ("/services/0/name", json!("a/b"), "must be"),
        ("/services/0/class", json!("a b"), "must be"),
        ("/services/0/clusters/0", json!(long), "255"),
        ("/services/0/authorities/0", json!(long), "255"),
        ("/services/0/timeout", json!("0s"), "longer than 0"),
        ("/services/0/limit/burst", json!(0), "from 1 to"),
        (
            &format!("{breaker}/mode"),
            json!("dry"),
            "enforce or observe",
        ),
        (
            &format!("{breaker}/consecutive_failures"),
            json!(0),
            "from 1 to 1000000",
        ),
        (
            &format!("{breaker}/error_rate/percent"),
            json!(101),
            "0.01 to 100 percent",
        ),
        (
            &format!("{breaker}/error_rate/percent"),
            json!(0),
            "0.01 to 100",
        ),
        (
            &format!("{breaker}/error_rate/minimum_requests"),
            json!(0),
            "from 1 to",
        ),
        (
            &format!("{breaker}/error_rate/window"),
            json!("1d"),
            "250ms",
        ),
        (&format!("{breaker}/slow_calls/over"), json!("2h"), "1h"),
        (&format!("{breaker}/open_for"), json!("1ms"), "10ms"),
        (
            &format!("{breaker}/half_open_probes"),
            json!(33),
            "from 1 to 32",
        ),
        (&format!("{breaker}/at_peak/open_for"), json!("1ms"), "10ms"),
        (
            &format!("{breaker}/at_festival/half_open_probes"),
            json!(0),
            "from 1 to 32",
        ),
        ("/services/0/canary/version", json!("stable"), "reserved"),
        (
            "/services/0/canary/weight",
            json!(100.001),
            "0 to 100 percent",
        ),
        (
            "/services/0/canary/fallback",
            json!("none"),
            "latch, probe or off",
        ),
        (
            "/services/0/canary/mode",
            json!("dry"),
            "enforce or observe",
        ),
        (
            "/services/0/canary/freeze_during/0",
            json!("noon"),
            "window of peak_hours",
        ),
        (
            "/services/1/canary/ramp/start",
            json!("2026-11-25"),
            "RFC 3339",
        ),
        (
            "/services/1/canary/ramp/steps/1",
            json!(100.5),
            "0 to 100 percent",
        ),
        ("/services/1/canary/ramp/every", json!("169h"), "168h"),
        (
            "/service_from",
            json!("port"),
            "route, cluster or authority",
        ),
    ];
    let paths = {
        let mut found = Vec::new();
        leaves(&every_field(), "", "", &mut found);
        move |pointer: &str| {
            let mut found = found.iter();
            let known = found.find(|(_, known)| known == pointer);
            known.unwrap_or_else(|| panic!("no {pointer}")).0.clone()
        }
    };
    let mut wrong = Vec::new();
    for (pointer, value, legal) in rows {
        let path = paths(pointer);
        let told = problems(&with(pointer, value.clone()));
        // Long ones are shortened.
        let shown: String = match &value {
            Value::String(text) => text.escape_debug().take(80).collect(),
            other => other.to_string(),
        };
        let good = |told: &String| {
            let path = told.starts_with(&format!("{path}: "));
            path && told.contains(legal) && told.contains(&shown)
        };
        if told.len() != 1 || !told.iter().all(good) {
            wrong.push(format!("{path}, {legal:?}, {shown}: {told:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_name_given_twice_is_told_with_its_place() {
    let twice = r#"{"version": 1,
        "peak_hours": {"evening": {"start": 17, "end": 22}, "evening": {"start": 18, "end": 20}}}"#;
    let problems = FilterConfig::parse(twice.as_bytes()).unwrap_err();
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "peak_hours.evening: is given twice at line 2 column 69 (keep one of them; so neither is lost \
             unseen)"
        ]
    );
    let deep = r#"{"version": 1, "services": [{"name": "a"}, {"name": "b", "name": "c"}]}"#;
    let problems = FilterConfig::parse(deep.as_bytes()).unwrap_err();
    assert_eq!(problems[0].path, "services[1].name");
    let after = FilterConfig::parse(br#"{"version": 1} x"#).unwrap_err();
    assert!(
        after[0].message.contains("trailing characters"),
        "{after:?}"
    );
}

#[test]
fn what_would_mean_two_things_is_told_once() {
    let told = |field: &str, value: Value| {
        let mut config = json!({"version": 1});
        config[field] = value;
        problems(&config)
    };
    let services = |services: Value| told("services", services);
    assert_eq!(
        services(json!([
            {"name": "a", "authorities": ["pay.example", "pay.example"]},
            {"name": "b", "authorities": ["Pay.example"]}
        ])),
        [
            "services[1]: \"Pay.example\" is an authority of services[0] too (a host names one service)"
        ]
    );
    assert_eq!(
        services(json!([{"name": "other"}])),
        [
            "services[0].name: \"other\" is reserved: requests for no known service are counted under it \
             (give the service another name)"
        ]
    );
    for twice in [
        json!(["2026-11-08", "2026-11-08"]),
        json!([{"name": "Diwali", "date": "2026-11-08"},
            {"name": "Diwali", "start": "2026-11-08", "end": "2026-11-08"}]),
    ] {
        let told = told("festivals", twice);
        assert!(
            told.len() == 1 && told[0].contains("festivals[1]: ") && told[0].contains("twice"),
            "{told:?}"
        );
    }
    // Different days, different festivals of one day, and a factor for a day that a calendar knows.
    let festivals = json!(["2026-11-08", "2026-11-09", {"name": "Diwali", "date": "2026-11-08"},
        {"name": "Diwali", "date": "2026-11-08", "factor": 2}]);
    assert_eq!(told("festivals", festivals), [""; 0]);
    let canary = json!({"version": "v2", "weight": 1, "sticky_by": {"cookie": "id"}});
    assert_eq!(
        services(json!([{"name": "a", "canary": canary}])),
        ["services[0].canary.sticky_by.cookie: not supported yet (leave it out)"]
    );
    for percent in [json!(0), json!(-1), json!(100.5), json!(0.001)] {
        let breaker = json!({"error_rate": {"percent": percent}});
        assert_eq!(
            services(json!([{"name": "a", "circuit_breaker": breaker}])),
            [format!(
                "services[0].circuit_breaker.error_rate.percent: must be 0.01 to 100 percent with at most 2 \
                 decimals, not {percent}"
            )]
        );
    }
}
