use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use policy::{
    time::{MonoTime, Now, WallTime},
    units::ServiceName,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Report, Selection, Unanswered, Wanted, board::Board};
use crate::{
    compile::Unhealthy,
    mesh::{Defaults, Mesh, read},
};

const MESH: &str = "\
traffic_classes:
  gold: {match: [{path_prefix: /pay}]}
services:
  pay:
    sidecar: false
    endpoints:
      - {id: a, host: 10.0.0.1, port: 80, weight: 10}
      - {id: b, host: 10.0.0.2, port: 80, weight: 20}
      - {id: c, host: 10.0.0.3, port: 80, weight: 70}
    circuit_breaker: {consecutive_failures: 2, open_for: 1s, half_open_probes: 3}
";

fn mesh(text: &str) -> Arc<Mesh> {
    Arc::new(read(text, &Defaults::default()).unwrap())
}

fn at(millis: u64) -> Now {
    Now {
        wall: WallTime::from_unix_millis(1_795_501_800_000),
        mono: MonoTime::from_nanos(millis * 1_000_000),
    }
}

/// A board, and dice that fall one after the other.
struct World {
    board: Board,
    unhealthy: Unhealthy,
    thrown: u64,
    millis: u64,
}

impl World {
    fn new(text: &str) -> Self {
        Self {
            board: Board::new("here", mesh(text), at(1_000)),
            unhealthy: Unhealthy::default(),
            thrown: 0,
            millis: 1_000,
        }
    }

    fn select(&mut self, wanted: &Value) -> Result<Selection, &'static str> {
        let wanted = Wanted::read(wanted).unwrap();
        let thrown = &mut self.thrown;
        let mut dice = || {
            *thrown += 1;
            *thrown
        };
        let now = at(self.millis);
        let answer = self.board.select(&wanted, &self.unhealthy, now, &mut dice);
        answer.map_err(|refused| match refused {
            Unanswered::Refused(refused) => refused.reason,
            Unanswered::NoService(_) => "no_service",
        })
    }

    fn tell(&mut self, report: &Value) -> usize {
        let reports = Report::read_all(report).unwrap();
        let counted = self.board.take(&reports, at(self.millis));
        counted.unwrap().counted
    }

    fn is_unhealthy(&mut self, ids: &[&str]) {
        let ids: BTreeSet<String> = ids.iter().map(ToString::to_string).collect();
        let pay = ServiceName::new("pay").unwrap();
        self.unhealthy = Unhealthy(BTreeMap::from([(pay, Arc::new(ids))]));
    }

    /// How often each is chosen of a hundred.
    fn chosen(&mut self) -> BTreeMap<String, u32> {
        let mut chosen = BTreeMap::new();
        for _ in 0..100 {
            let shown = self.select(&pay()).unwrap();
            *chosen.entry(shown.instance.id).or_default() += 1;
        }
        chosen
    }
}

fn pay() -> Value {
    json!({"service": "pay"})
}

fn ids(chosen: &BTreeMap<String, u32>) -> Vec<&str> {
    chosen.keys().map(String::as_str).collect()
}

#[test]
fn instances_are_drawn_by_weight_among_those_that_are_well() {
    let mut world = World::new(MESH);
    let chosen = world.chosen();
    assert_eq!(ids(&chosen), ["a", "b", "c"]);
    assert!(
        chosen["a"] < chosen["b"] && chosen["b"] < chosen["c"],
        "{chosen:?}"
    );
    world.is_unhealthy(&["c"]);
    assert_eq!(ids(&world.chosen()), ["a", "b"]);
    // Fewer than half: better some answers from the sick.
    world.is_unhealthy(&["a", "c"]);
    assert_eq!(ids(&world.chosen()), ["a", "b", "c"]);
    let shown = world.select(&pay()).unwrap();
    let reasons = shown.reasons.join("\n");
    assert!(reasons.contains("panic_threshold"), "{reasons}");
    let calm = MESH.replace("    circuit", "    panic_threshold: 0\n    circuit");
    world.board.follow(&mesh(&calm), at(1_000));
    assert_eq!(ids(&world.chosen()), ["b"]);
    world.is_unhealthy(&["a", "b", "c"]);
    assert_eq!(world.select(&pay()).unwrap_err(), "no_instance");
}

#[test]
fn nobody_there_counts_as_an_envoy_counts_it() {
    let none = "services:\n  pay:\n    sidecar: false\n    circuit_breaker: {consecutive_failures: 2, open_for: 1s}\n";
    let mut world = World::new(none);
    let twice = [(); 3].map(|()| world.select(&pay()).unwrap_err());
    assert_eq!(twice, ["no_instance", "no_instance", "breaker_open"]);
    let forgiving = none.replace("1s}", "1s, count_envoy_refusals: false}");
    let mut world = World::new(&forgiving);
    let always = [(); 5].map(|()| world.select(&pay()).unwrap_err());
    assert_eq!(always, ["no_instance"; 5]);
}

#[test]
fn a_ticket_of_another_server_is_a_result_without_one() {
    let mut world = World::new(MESH);
    for expected in [1, 1] {
        let failed = json!({"ticket": "there/7/-/pay/stable/silver", "status": 500});
        assert_eq!(world.tell(&failed), expected);
    }
    assert_eq!(world.select(&pay()).unwrap_err(), "breaker_open");
    world.millis += 1_300;
    let probe = world.select(&pay()).unwrap().ticket.unwrap();
    // Neither a probe of another server nor what probes nothing closes it.
    let theirs = probe.replace("here/", "there/");
    for ticket in [theirs.as_str(), "there/1/-/pay/stable/silver"] {
        assert_eq!(world.tell(&json!({"ticket": ticket, "status": 200})), 0);
    }
    assert_eq!(world.tell(&json!({"ticket": probe, "status": 200})), 1);
}

#[test]
fn what_a_breaker_knows_outlives_changes_that_are_none_of_its() {
    let mut world = World::new(MESH);
    let failed =
        json!({"results": [{"service": "pay", "status": 500}, {"service": "pay", "status": 500}]});
    assert_eq!(world.tell(&failed), 2);
    let other = MESH.replace(
        "  gold:",
        "  bronze: {match: [{path_prefix: /batch}]}\n  gold:",
    );
    let other = other.replace("services:\n", "services:\n  a-first: {sidecar: false}\n");
    world.board.follow(&mesh(&other), at(1_000));
    assert_eq!(world.select(&pay()).unwrap_err(), "breaker_open");
    world
        .board
        .follow(&mesh("services: {a-first: {sidecar: false}}\n"), at(1_000));
    assert_eq!(world.select(&pay()).unwrap_err(), "no_service");
    assert_eq!(world.board.held(), 0);
}

/// Something that a caller does.
#[derive(Debug, Clone)]
enum Step {
    Select(bool),
    /// Which of the tickets out, and how it ended.
    Result(usize, u16),
    Unasked(u16),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let status = prop::sample::select(vec![200_u16, 404, 500, 503]);
    prop_oneof![
        4 => any::<bool>().prop_map(Step::Select),
        3 => (any::<usize>(), status.clone()).prop_map(|(which, status)| Step::Result(which, status)),
        1 => status.prop_map(Step::Unasked),
        1 => (1_u64..2_500).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Whatever callers do, a half-open breaker has at most its probes out, and nothing takes room that the mesh does
    /// not configure.
    #[test]
    fn never_a_probe_too_many_and_never_a_cell_too_many(steps in prop::collection::vec(step(), 1..200)) {
        let mut world = World::new(MESH);
        let mut out: Vec<String> = Vec::new();
        for step in steps {
            match step {
                Step::Select(gold) => {
                    let wanted = match gold {
                        true => json!({"service": "pay", "path": "/pay"}),
                        false => pay(),
                    };
                    out.extend(world.select(&wanted).ok().and_then(|shown| shown.ticket));
                }
                Step::Result(which, status) if !out.is_empty() => {
                    let ticket = out.swap_remove(which % out.len());
                    world.tell(&json!({"ticket": ticket, "status": status}));
                }
                Step::Result(..) => {}
                Step::Unasked(status) => {
                    world.tell(&json!({"service": "pay", "status": status}));
                }
                Step::Wait(millis) => {
                    world.millis += millis;
                }
            }
            prop_assert!(world.board.held() <= 2, "{} cells", world.board.held());
            // Probes that were admitted by one generation of one breaker.
            let mut probes: BTreeMap<String, usize> = BTreeMap::new();
            for ticket in &out {
                let words: Vec<&str> = ticket.split('/').collect();
                if words[2] != "-" {
                    *probes.entry(format!("{}/{}", words[1], words[5])).or_default() += 1;
                }
            }
            prop_assert!(probes.values().all(|out| *out <= 3), "{probes:?}");
        }
    }
}

#[test]
fn a_limit_gives_what_it_says_whatever_zones_callers_stand_in() {
    let text = "\
timezone: UTC
peak_hours: {all-day: {start: 0, end: 24, zone: west}}
services:
  pay:
    sidecar: false
    endpoints: [{id: a, host: 10.0.0.1, port: 80}]
    limit: {per_second: 100, at_peak: 10, burst: 10}
";
    let mut world = World::new(text);
    let mut passed = 0;
    for tenth in 0..100 {
        for zone in ["west", "east"] {
            world.millis = 1_000 + tenth * 10;
            let wanted = json!({"service": "pay", "zone": zone});
            passed += u32::from(world.select(&wanted).is_ok());
        }
    }
    let span = Duration::from_millis(990).as_secs_f64();
    assert!(f64::from(passed) <= 10.0 + 10.0 * span + 1.0, "{passed}");
    assert!(passed >= 19, "{passed}");
}
