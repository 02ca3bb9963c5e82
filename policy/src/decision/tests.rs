use std::{borrow::Cow, collections::BTreeMap};

use serde_json::json;

use super::*;
use crate::{
    breaker::{BreakerState, Cell, Completion},
    limit::TokenBucket,
    outcome::Outcome,
    time::{MonoTime, WallTime},
    wire::FilterConfig,
};

pub(super) struct Map(pub(super) Vec<(&'static str, &'static [u8])>);

impl Headers for Map {
    fn get(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.0
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| Cow::Borrowed(*value))
    }
}

/// A breaker's rules when no window and no festival is on.
pub(super) fn normal(cell: &CellRules) -> &BreakerRules {
    let calendar = crate::timetable::Timetable::new(crate::time::CivilZone::utc(), vec![], vec![]);
    cell.rules
        .at(&calendar.at(WallTime::from_unix_millis(0), None))
}

/// Real breakers, dice that always show the same.
pub(super) struct World {
    pub(super) cells: BTreeMap<CellId, Cell>,
    buckets: BTreeMap<LimitId, TokenBucket>,
    asked: Vec<CellId>,
    dice: u64,
    pub(super) now: MonoTime,
}

impl World {
    pub(super) fn new(rules: &Rules, dice: u64) -> Self {
        let cell = |(index, cell): (u32, &CellRules)| (CellId(index), Cell::closed(normal(cell)));
        Self {
            cells: (0..).zip(rules.cells()).map(cell).collect(),
            buckets: BTreeMap::new(),
            asked: Vec::new(),
            dice,
            now: MonoTime::from_nanos(1),
        }
    }

    /// Lets a breaker see failures until it opens.
    pub(super) fn open(&mut self, rules: &Rules, id: CellId) {
        let cell_rules = normal(rules.cell(id).unwrap());
        let cell = self.cells.get_mut(&id).unwrap();
        for _ in 0..100 {
            if let Admission::Admitted(ticket) = cell.admit(cell_rules, self.now).value {
                let failure = Completion::new(Outcome::Failure, None, cell_rules);
                cell.record(cell_rules, ticket, failure, self.now);
            }
        }
        assert_eq!(cell.state(), BreakerState::Open);
    }
}

impl Environment for World {
    fn random(&mut self) -> u64 {
        self.dice
    }

    fn admit(&mut self, id: CellId, rules: &BreakerRules) -> Admission {
        self.asked.push(id);
        self.cells
            .get_mut(&id)
            .unwrap()
            .admit(rules, self.now)
            .value
    }

    fn take(&mut self, id: LimitId, rate: Rate) -> Result<(), Duration> {
        let bucket = self.buckets.entry(id).or_default();
        bucket.take(rate, self.now)
    }

    fn give_back(&mut self, id: LimitId, rate: Rate) {
        self.buckets.entry(id).or_default().give_back(rate);
    }
}

/// `order-service` (gold, canary v2 for user-42 but not user-1 at 10 %) and `pay` without a canary.
fn rules(weight: f64, trust_canary_header: bool) -> Rules {
    let config = json!({
        "version": 1,
        "timezone": {"name": "Asia/Kolkata", "posix": "IST-5:30"},
        "peak_hours": {"evening": {"start": "17:00", "end": "22:00", "multiplier": 1.5}},
        "festivals": [{"name": "Diwali", "date": "2026-11-08", "factor": 2}],
        "services": [
            {"name": "order-service", "class": "gold", "circuit_breaker": {"consecutive_failures": 3},
             "authorities": ["Orders.example"], "clusters": ["outbound|80||orders"],
             "canary": {"version": "v2", "weight": weight, "sticky_by": {"header": "x-user-id"}}},
            {"name": "pay", "circuit_breaker": {"consecutive_failures": 3}},
        ],
        "trust_canary_header": trust_canary_header,
    });
    Rules::new(FilterConfig::parse(config.to_string().as_bytes()).unwrap())
}

const ORDER: ServiceId = ServiceId::Known(0);
const PAY: ServiceId = ServiceId::Known(1);
const ORDER_STABLE: CellId = CellId(0);
const ORDER_CANARY: CellId = CellId(1);
const PAY_STABLE: CellId = CellId(2);
/// 2026-11-08T18:30+05:30: Diwali, in the evening's window.
const DIWALI_MILLIS: i64 = 1_794_142_800_000;

fn user(id: &'static str) -> Map {
    Map(vec![("x-user-id", id.as_bytes())])
}

fn decided<'r>(
    rules: &'r Rules,
    world: &mut World,
    service: ServiceId,
    headers: &Map,
) -> Decision<'r> {
    let traffic = rules.traffic_at(WallTime::from_unix_millis(DIWALI_MILLIS));
    decide(rules, &traffic, &RequestView { service, headers }, world)
}

fn version<'r>(rules: &'r Rules, headers: &Map) -> Option<&'r str> {
    decided(rules, &mut World::new(rules, 0), ORDER, headers).version_header
}

fn headers_of(rules: &Rules, decision: &Decision<'_>) -> Vec<(&'static str, String)> {
    let traffic = rules.traffic_at(WallTime::from_unix_millis(DIWALI_MILLIS));
    let headers = decision.request_headers(&traffic);
    headers
        .map(|(name, value)| (name, value.to_string()))
        .collect()
}

#[test]
fn a_request_gets_state_window_multiplier_class_and_version() {
    let rules = rules(10.0, false);
    let decision = decided(&rules, &mut World::new(&rules, 0), ORDER, &user("user-42"));
    let owned = |pairs: &[(&'static str, &str)]| -> Vec<(&'static str, String)> {
        pairs
            .iter()
            .map(|(name, value)| (*name, (*value).to_string()))
            .collect()
    };
    assert_eq!(
        headers_of(&rules, &decision),
        owned(&[
            ("x-mumbai-traffic-state", "festival"),
            ("x-mumbai-window", "Diwali,evening"),
            ("x-mumbai-multiplier", "1.5"),
            ("x-mumbai-class", "gold"),
            ("x-mumbai-version", "v2"),
        ])
    );
    assert!(matches!(
        decision.verdict,
        Verdict::Proceed {
            cell: Some(ORDER_CANARY),
            ticket: Some(_)
        }
    ));

    let without_canary = decided(&rules, &mut World::new(&rules, 0), PAY, &user("user-42"));
    assert_eq!(without_canary.version_header, None);
    assert!(matches!(
        without_canary.verdict,
        Verdict::Proceed {
            cell: Some(PAY_STABLE),
            ..
        }
    ));
}

#[test]
fn a_request_for_no_known_service_passes_without_policy() {
    let rules = rules(10.0, true);
    let mut world = World::new(&rules, 0);
    for service in [ServiceId::Other, ServiceId::Known(77)] {
        let decision = decided(&rules, &mut world, service, &user("user-42"));
        assert_eq!(decision.service, ServiceId::Other);
        assert_eq!(decision.class.as_str(), "silver");
        assert_eq!(
            decision.verdict,
            Verdict::Proceed {
                cell: None,
                ticket: None
            }
        );
        assert_eq!(
            headers_of(&rules, &decision).last().unwrap().0,
            "x-mumbai-class"
        );
    }
    assert!(world.asked.is_empty());
}

#[test]
fn the_same_user_has_one_version_and_users_without_an_id_roll_dice() {
    let rules = rules(10.0, false);
    assert_eq!(version(&rules, &user("user-42")), Some("v2"));
    assert_eq!(version(&rules, &user("user-1")), Some("stable"));
    let drawn =
        |dice| decided(&rules, &mut World::new(&rules, dice), ORDER, &Map(vec![])).version_header;
    assert_eq!(drawn(999), Some("v2"));
    assert_eq!(drawn(1000), Some("stable"));
}

#[test]
fn a_client_chooses_its_version_only_where_it_is_trusted() {
    let asks = |label: &'static str| {
        Map(vec![
            ("x-mumbai-canary", label.as_bytes()),
            ("x-user-id", b"user-1"),
        ])
    };
    let (trusting, strict) = (rules(10.0, true), rules(10.0, false));
    assert_eq!(version(&trusting, &asks("v2")), Some("v2"));
    assert_eq!(version(&strict, &asks("v2")), Some("stable"));
    // A label that does not exist decides nothing; an aborted canary can still be asked for.
    assert_eq!(version(&trusting, &asks("v3")), Some("stable"));
    assert_eq!(version(&rules(0.0, true), &asks("v2")), Some("v2"));
    let stable = Map(vec![
        ("x-mumbai-canary", b"stable"),
        ("x-user-id", b"user-42"),
    ]);
    let decision = decided(&trusting, &mut World::new(&trusting, 0), ORDER, &stable);
    let draw = decision.canary.unwrap().draw;
    assert_eq!(
        (draw.source, draw.bucket, draw.canary),
        (DrawSource::Header, None, false)
    );
}

#[test]
fn an_open_breaker_refuses_with_503_and_the_time_to_come_back() {
    let rules = rules(10.0, false);
    let mut world = World::new(&rules, 200);
    world.open(&rules, PAY_STABLE);
    let decision = decided(&rules, &mut world, PAY, &user("user-1"));
    let Verdict::Refuse {
        status,
        reason,
        retry_after_seconds,
        ..
    } = decision.verdict
    else {
        panic!("{decision:?}");
    };
    assert_eq!((status, reason.as_str()), (503, "breaker_open"));
    // 5 s of opening, lengthened by up to a fifth; and as much again for the clients.
    assert!(
        (5..=8).contains(&retry_after_seconds),
        "{retry_after_seconds}"
    );
    // Another service does not notice.
    let other = decided(&rules, &mut world, ORDER, &user("user-1"));
    assert!(matches!(other.verdict, Verdict::Proceed { .. }));
}

#[test]
fn a_canary_whose_breaker_refuses_falls_back_to_stable_in_the_same_request() {
    let rules = rules(10.0, false);
    let mut world = World::new(&rules, 0);
    world.open(&rules, ORDER_CANARY);
    let decision = decided(&rules, &mut world, ORDER, &user("user-42"));
    let canary = decision.canary.unwrap();
    assert!(canary.draw.canary && canary.fell_back && canary.version.is_none());
    assert_eq!(decision.version_header, Some("stable"));
    assert!(matches!(
        decision.verdict,
        Verdict::Proceed {
            cell: Some(ORDER_STABLE),
            ..
        }
    ));
    assert_eq!(world.asked, [ORDER_CANARY, ORDER_STABLE]);

    world.open(&rules, ORDER_STABLE);
    let decision = decided(&rules, &mut world, ORDER, &user("user-42"));
    assert!(matches!(decision.verdict, Verdict::Refuse { .. }));
}

#[test]
fn a_canary_with_most_of_the_users_does_not_fall_back() {
    let rules = rules(50.01, false);
    assert_eq!(normal(rules.cell(ORDER_CANARY).unwrap()).latch, None);
    let mut world = World::new(&rules, 0);
    world.open(&rules, ORDER_CANARY);
    let decision = decided(&rules, &mut world, ORDER, &user("user-42"));
    assert!(matches!(decision.verdict, Verdict::Refuse { .. }));
    assert_eq!(decision.version_header, Some("v2"));
    assert_eq!(world.asked, [ORDER_CANARY]);
}

#[test]
fn a_latch_belongs_to_the_canarys_fields() {
    let latch = |weight| normal(rules(weight, false).cell(ORDER_CANARY).unwrap()).latch;
    assert!(latch(10.0).is_some());
    assert_eq!(latch(10.0), latch(10.0));
    assert_ne!(latch(10.0), latch(20.0));
    assert_eq!(
        normal(rules(10.0, false).cell(ORDER_STABLE).unwrap()).latch,
        None
    );
}

#[test]
fn services_are_found_by_metadata_cluster_or_host() {
    let rules = rules(10.0, false);
    let found = |metadata: Option<&str>, cluster: Option<&str>, authority: Option<&str>| {
        let bytes = |text: Option<&'static str>| text.map(str::as_bytes);
        let leak = |text: Option<&str>| text.map(|text| &*text.to_string().leak());
        rules.resolve_service(
            bytes(leak(metadata)),
            bytes(leak(cluster)),
            bytes(leak(authority)),
        )
    };
    assert_eq!(found(Some("pay"), Some("order-service"), None), PAY);
    assert_eq!(found(Some("unknown"), Some("order-service"), None), ORDER);
    for cluster in [
        "order-service",
        "order-service|v2",
        "outbound|80||orders",
        "outbound|80|v2|orders",
        "outbound|8080||orders.example",
        "outbound|8080|v2|orders.example",
        "outbound|80||order-service",
    ] {
        assert_eq!(found(None, Some(cluster), Some("pay")), ORDER, "{cluster}");
    }
    for authority in [
        "order-service",
        "order-service:8080",
        "ORDERS.EXAMPLE:80",
        "orders.example",
    ] {
        assert_eq!(found(None, None, Some(authority)), ORDER, "{authority}");
    }
    for cluster in [
        "outbound|81|v2|orders",
        "inbound|80|v2|orders",
        "outbound|80|v2",
        "|||",
    ] {
        assert_eq!(
            found(None, Some(cluster), None),
            ServiceId::Other,
            "{cluster}"
        );
    }
    for authority in ["", ":", "nobody", "order-service:http", "[::1]:80"] {
        assert_eq!(
            found(None, Some("other"), Some(authority)),
            ServiceId::Other,
            "{authority}"
        );
    }
    assert_eq!(
        rules.resolve_service(None, None, Some(&[0xff; 60_000])),
        ServiceId::Other
    );
}

#[test]
fn cells_have_keys_that_all_workers_share() {
    let rules = rules(10.0, false);
    let keys: Vec<&str> = rules
        .cells()
        .iter()
        .map(|cell| cell.shared_key.as_str())
        .collect();
    assert_eq!(
        keys,
        [
            "mumbai_mesh/breaker/v1/order-service/stable/gold",
            "mumbai_mesh/breaker/v1/order-service/v2/gold",
            "mumbai_mesh/breaker/v1/pay/stable/silver",
        ]
    );
}

#[test]
fn retry_after_is_at_least_a_second_and_at_most_a_fifth_longer() {
    assert_eq!(retry_after_seconds(Duration::ZERO, 0), 1);
    assert_eq!(retry_after_seconds(Duration::from_millis(1), 200), 1);
    assert_eq!(retry_after_seconds(Duration::from_secs(50), 0), 50);
    assert_eq!(retry_after_seconds(Duration::from_secs(50), 200), 60);
    assert_eq!(retry_after_seconds(Duration::MAX, u64::MAX), u32::MAX);
}

#[test]
fn a_canary_falls_back_as_it_is_told_to() {
    let rules = |fallback: &str, mode: &str| {
        let config = json!({
            "version": 1,
            "services": [{
                "name": "order-service", "circuit_breaker": {"consecutive_failures": 3},
                "canary": {"version": "v2", "weight": 10, "sticky_by": {"header": "x-user-id"},
                           "fallback": fallback, "mode": mode},
            }],
        });
        Rules::new(FilterConfig::parse(config.to_string().as_bytes()).unwrap())
    };
    let (probe, off) = (rules("probe", "enforce"), rules("off", "enforce"));
    assert_eq!(
        normal(probe.cell(ORDER_CANARY).unwrap()).latch,
        None,
        "it comes back itself"
    );
    let mut world = World::new(&probe, 0);
    world.open(&probe, ORDER_CANARY);
    let decision = decided(&probe, &mut world, ORDER, &user("user-42"));
    assert!(decision.canary.unwrap().fell_back);
    let mut world = World::new(&off, 0);
    world.open(&off, ORDER_CANARY);
    let decision = decided(&off, &mut world, ORDER, &user("user-42"));
    assert!(matches!(decision.verdict, Verdict::Refuse { .. }));

    let observing = rules("latch", "observe");
    let mut world = World::new(&observing, 0);
    let decision = decided(&observing, &mut world, ORDER, &user("user-42"));
    assert_eq!(decision.version_header, Some("stable"));
    assert_eq!(decision.canary.unwrap().observed.unwrap().as_str(), "v2");
    assert_eq!(world.asked, [ORDER_STABLE]);
}

/// v2 at 5 %, 30 %, 60 % and 100 %, a step an hour from 09:00 on, and none from 10:00 to 13:00.
fn ramping(fallback: &str) -> Rules {
    let config = json!({
        "version": 1,
        "timezone": {"name": "Asia/Kolkata", "posix": "IST-5:30"},
        "peak_hours": {"noon": {"start": "10:00", "end": "13:00"}},
        "services": [{
            "name": "order-service", "circuit_breaker": {"consecutive_failures": 3},
            "canary": {"version": "v2", "sticky_by": {"header": "x-user-id"}, "fallback": fallback,
                       "freeze_during": ["peak"],
                       "ramp": {"start": "2026-11-25T09:00+05:30", "steps": [5, 30, 60, 100], "every": "1h"}},
        }],
    });
    Rules::new(FilterConfig::parse(config.to_string().as_bytes()).unwrap())
}

fn wall(text: &str) -> WallTime {
    crate::time::parse_instant(&format!("2026-11-25T{text}+05:30")).unwrap()
}

/// What `id` gets at a time of that day.
fn at<'r>(rules: &'r Rules, world: &mut World, time: &str, id: &'static str) -> Decision<'r> {
    let headers = user(id);
    let request = RequestView {
        service: ORDER,
        headers: &headers,
    };
    decide(rules, &rules.traffic_at(wall(time)), &request, world)
}

#[test]
fn a_ramp_moves_users_by_the_clock_and_stands_still_at_the_peak() {
    let rules = ramping("latch");
    let mut world = World::new(&rules, 0);
    // Buckets: user-42 = 695, user-1 = 1657.
    for (time, percent, first, second) in [
        ("08:59:59", 0.0, "stable", "stable"),
        ("09:00", 5.0, "stable", "stable"),
        // An hour is over as the window begins: it waits for the window's end.
        ("10:00", 5.0, "stable", "stable"),
        ("12:59:59", 5.0, "stable", "stable"),
        ("13:00", 30.0, "v2", "v2"),
        ("13:59:59", 30.0, "v2", "v2"),
        ("14:00", 60.0, "v2", "v2"),
        ("23:00", 100.0, "v2", "v2"),
    ] {
        let decision = at(&rules, &mut world, time, "user-42");
        let weight = decision.canary.unwrap().weight;
        assert_eq!(weight.percent(), percent, "{time}");
        assert_eq!(decision.version_header, Some(first), "{time}");
        let other = at(&rules, &mut world, time, "user-1");
        assert_eq!(other.version_header, Some(second), "{time}");
    }
}

#[test]
fn traffic_holds_until_the_next_step() {
    let rules = ramping("latch");
    let until = |time: &str| rules.traffic_at(wall(time)).holds_until;
    assert_eq!(until("08:00"), wall("09:00"));
    assert_eq!(until("09:00"), wall("10:00"), "the window begins");
    assert_eq!(until("10:00"), wall("13:00"));
    assert_eq!(until("13:00"), wall("14:00"), "a step and no edge");
    assert_eq!(until("14:00"), wall("15:00"));
    let ramp = rules
        .service(ORDER)
        .unwrap()
        .canary
        .as_ref()
        .unwrap()
        .ramp();
    let schedule = rules.schedule(ramp.unwrap()).unwrap();
    assert!(schedule.is_complete());
    assert_eq!(schedule.next_after(wall("15:00")), None);
}

/// A latched canary gets nobody any more, whatever its ramp would have become; and one that opens when
/// it carries more than half of the users must come back itself.
#[test]
fn a_latch_outlasts_the_steps_of_its_ramp_and_engages_up_to_half_of_the_users() {
    let rules = ramping("latch");
    let mut world = World::new(&rules, 0);
    open_at(&rules, &mut world, "13:00");
    for time in ["13:30", "14:30", "16:00"] {
        let decision = at(&rules, &mut world, time, "user-42");
        assert!(decision.canary.unwrap().fell_back, "{time}");
        assert_eq!(decision.version_header, Some("stable"), "{time}");
    }

    let mut world = World::new(&rules, 0);
    open_at(&rules, &mut world, "14:00");
    let decision = at(&rules, &mut world, "14:30", "user-42");
    assert!(matches!(decision.verdict, Verdict::Refuse { .. }), "60 %");
    world.now = world.now.saturating_add(Duration::from_secs(60));
    let decision = at(&rules, &mut world, "14:31", "user-42");
    assert_eq!(decision.version_header, Some("v2"));
    let Verdict::Proceed { ticket, .. } = decision.verdict else {
        panic!("{decision:?}");
    };
    assert!(ticket.unwrap().is_probe());
}

#[test]
fn a_ramp_that_probes_falls_back_while_it_carries_at_most_half_of_the_users() {
    let rules = ramping("probe");
    let mut world = World::new(&rules, 0);
    open_at(&rules, &mut world, "13:00");
    let decision = at(&rules, &mut world, "13:59:59", "user-42");
    assert!(decision.canary.unwrap().fell_back, "30 %");
    let decision = at(&rules, &mut world, "14:00", "user-42");
    assert!(matches!(decision.verdict, Verdict::Refuse { .. }), "60 %");
}

/// Lets the canary's breaker see failures at a time until it opens.
fn open_at(rules: &Rules, world: &mut World, time: &str) {
    let traffic = rules.traffic_at(wall(time));
    let cell_rules = rules.cell(ORDER_CANARY).unwrap().at(&traffic);
    let cell = world.cells.get_mut(&ORDER_CANARY).unwrap();
    while cell.state() == BreakerState::Closed {
        if let Admission::Admitted(ticket) = cell.admit(cell_rules, world.now).value {
            let failure = Completion::new(Outcome::Failure, None, cell_rules);
            cell.record(cell_rules, ticket, failure, world.now);
        }
    }
}
