//! Leases, silence and what follows, with a clock of the tests' own.

use std::{collections::BTreeSet, time::Duration};

use policy::{
    time::{MonoTime, Now, WallTime},
    units::ServiceName,
};
use proptest::prelude::*;
use serde_json::json;

use super::{
    Beat, Done, InstanceId, Phase, Refused, State, Wish, merge,
    state::Becomes,
    view::{self, Wanted},
    wish::Batch,
};
use crate::{
    mesh::{self, Defaults, Mesh, Registration, Standing},
    store::Change,
};

const TTL: u64 = 10_000;

fn at(millis: u64) -> Now {
    Now {
        wall: WallTime::from_unix_millis(i64::try_from(millis).unwrap()),
        mono: MonoTime::from_nanos(millis * 1_000_000),
    }
}

fn id(id: &str) -> InstanceId {
    InstanceId {
        service: ServiceName::new("orders").unwrap(),
        id: id.into(),
    }
}

fn register(id: &str, port: u16) -> Wish {
    register_with(id, port, &json!({}))
}

fn register_with(id: &str, port: u16, more: &serde_json::Value) -> Wish {
    let mut value = json!({"host": "10.0.0.1", "port": port, "ttl": "10s"});
    for (field, said) in more.as_object().unwrap() {
        value[field] = said.clone();
    }
    Wish::Register(Box::new(
        Registration::read(&value, Some(("orders", id))).unwrap(),
    ))
}

/// Servers that share a store, and the mesh of their file.
struct World {
    mesh: Mesh,
    servers: Vec<State>,
    revision: u64,
    written: usize,
}

impl World {
    fn alone(file: &str) -> Self {
        Self::of(file, vec![State::new(None)])
    }

    fn shared(names: &[&str]) -> Self {
        let file = "services: {orders: {sidecar: false}}";
        Self::of(
            file,
            names.iter().map(|name| State::new(Some(name))).collect(),
        )
    }

    fn of(file: &str, servers: Vec<State>) -> Self {
        Self {
            mesh: mesh::read(file, &Defaults::default()).unwrap(),
            servers,
            revision: 0,
            written: 0,
        }
    }

    fn ask(&mut self, server: usize, wish: &Wish, now: u64) -> Result<Done, Refused> {
        let mut batch = Batch::new(&self.servers[server], &self.mesh, at(now));
        let done = batch.decide(wish);
        let changes = batch.changes(Vec::new());
        self.write(&changes, now);
        if let (Ok(_), Wish::Register(registration)) = (&done, wish) {
            self.servers[server].begin("orders", &registration.endpoint.id, at(now));
        }
        done
    }

    fn beat(&mut self, server: usize, id: &str, now: u64) -> Beat {
        self.servers[server].beat("orders", id, at(now))
    }

    /// Has every server look what is due.
    fn look(&mut self, now: u64) -> usize {
        let mut count = 0;
        for server in 0..self.servers.len() {
            let due = self.servers[server].due(&self.mesh, at(now));
            count += due.len();
            self.write(&due, now);
        }
        count
    }

    fn write(&mut self, becomes: &[Becomes], now: u64) {
        if becomes.is_empty() {
            return;
        }
        self.revision += 1;
        self.written += becomes.len();
        let change = |(id, becomes): &Becomes| Change {
            key: id.key(),
            value: becomes.as_ref().map(super::Instance::kept),
        };
        let changes: Vec<Change> = becomes.iter().map(change).collect();
        for server in &mut self.servers {
            server.apply(self.revision, &changes, at(now));
        }
    }

    fn phase(&self, id: &str) -> Option<Phase> {
        let held = self.servers[0].held(&self::id(id))?;
        Some(held.instance.phase)
    }

    /// What callers are told.
    fn endpoints(&self) -> Vec<(String, Standing)> {
        let merged = merge::over(&self.mesh, self.servers[0].services().iter(), None);
        let service = merged.services.get(&id("").service).unwrap();
        let endpoints = service.endpoints.iter();
        endpoints
            .map(|one| (one.id.clone(), one.standing))
            .collect()
    }

    /// So many instances, `i0` and on.
    fn crowd(&mut self, count: u16) {
        for number in 0..count {
            let wish = register(&format!("i{number}"), 1_000 + number);
            self.ask(0, &wish, 0).unwrap();
        }
    }
}

fn one() -> World {
    World::alone("services: {orders: {sidecar: false}}")
}

#[test]
fn who_is_silent_for_a_ttl_is_gone_for_callers_and_forgotten_after_another() {
    let mut world = one();
    let done = world.ask(0, &register("a", 80), 0).unwrap();
    assert!(done.is_new && done.warnings.is_empty());
    assert_eq!(world.endpoints(), [("a".into(), Standing::Registered)]);
    assert_eq!(world.beat(0, "a", 5_000), Beat::Heard);
    assert_eq!(world.look(14_999), 0);
    assert_eq!(world.look(15_000), 1);
    assert_eq!(world.phase("a"), Some(Phase::Expired));
    assert!(world.endpoints().is_empty());
    // It was only late.
    assert_eq!(world.beat(0, "a", 16_000), Beat::Returns);
    assert_eq!(world.look(16_000), 1);
    assert_eq!(world.phase("a"), Some(Phase::Up));
    assert_eq!(world.look(25_999), 0);
    assert_eq!(world.look(26_000), 1);
    assert_eq!(world.look(35_999), 0);
    assert_eq!(world.look(36_000), 1);
    assert_eq!(world.phase("a"), None);
    assert_eq!(world.beat(0, "a", 36_001), Beat::Unknown);
}

#[test]
fn heartbeats_write_nothing_and_neither_does_saying_the_same_again() {
    let mut world = one();
    world.ask(0, &register("a", 80), 0).unwrap();
    for now in (0..100_000).step_by(3_000) {
        world.beat(0, "a", now);
        assert_eq!(world.look(now), 0);
        let done = world.ask(0, &register("a", 80), now).unwrap();
        assert!(!done.is_new && done.changed.is_empty());
    }
    assert_eq!(world.written, 1);
    let heavier = register_with("a", 80, &json!({"weight": 7}));
    assert_eq!(world.ask(0, &heavier, 100_000).unwrap().changed, [id("a")]);
}

#[test]
fn who_drains_gets_nothing_new_and_may_go_without_a_word() {
    let mut world = one();
    world.crowd(3);
    for name in ["i0", "i1", "i2"] {
        world.ask(0, &Wish::Drain(id(name)), 1_000).unwrap();
    }
    assert!(
        world
            .endpoints()
            .iter()
            .all(|(_, standing)| *standing == Standing::Draining)
    );
    world.beat(0, "i0", 9_000);
    // Two of three at once, but they had said so.
    assert_eq!(world.look(10_000), 2);
    assert_eq!(world.phase("i1"), None);
    assert_eq!(world.phase("i0"), Some(Phase::Draining));
    world.ask(0, &Wish::Deregister(id("i0")), 10_000).unwrap();
    assert!(world.endpoints().is_empty());
    let again = world.ask(0, &Wish::Deregister(id("i0")), 10_000);
    assert!(matches!(again, Err(Refused::Unknown(_))));
}

#[test]
fn too_many_at_once_stay_as_unhealthy_with_those_that_had_just_gone() {
    let mut world = one();
    world.crowd(10);
    for number in 3..10 {
        world.beat(0, &format!("i{number}"), 9_000);
    }
    // One and two are no more than a fifth of ten.
    world.beat(0, "i1", 1_000);
    world.beat(0, "i2", 2_000);
    world.look(10_000);
    assert_eq!(world.phase("i0"), Some(Phase::Expired));
    world.look(11_000);
    assert_eq!(world.endpoints().len(), 8);
    // The third is more.
    world.look(12_000);
    for name in ["i0", "i1", "i2"] {
        assert_eq!(world.phase(name), Some(Phase::Vanished));
        assert!(
            world
                .endpoints()
                .contains(&(name.into(), Standing::Vanished))
        );
    }
    for number in 3..10 {
        world.beat(0, &format!("i{number}"), 18_000);
    }
    // They stay until they come back, are deregistered or released.
    assert_eq!(world.look(27_000), 0);
    world.beat(0, "i0", 27_000);
    world.look(27_000);
    assert_eq!(world.phase("i0"), Some(Phase::Up));
    world.ask(0, &Wish::Deregister(id("i1")), 27_000).unwrap();
    let release = |id: Option<&str>| Wish::Release {
        service: self::id("").service,
        id: id.map(Into::into),
    };
    let none = world.ask(0, &release(Some("i0")), 27_000);
    assert!(matches!(none, Err(Refused::NotVanished(_))));
    let done = world.ask(0, &release(None), 27_000).unwrap();
    assert_eq!(done.changed, [id("i2")]);
    assert_eq!(world.endpoints().len(), 8);
}

#[test]
fn the_files_endpoints_count_among_all() {
    let said: Vec<String> = (0..8)
        .map(|number| format!("{{id: f{number}, host: 10.0.1.{number}, port: 80}}"))
        .collect();
    let file = format!(
        "services: {{orders: {{sidecar: false, endpoints: [{}]}}}}",
        said.join(", ")
    );
    let mut world = World::alone(&file);
    world.crowd(2);
    world.look(TTL);
    assert_eq!(world.phase("i1"), Some(Phase::Expired));
    assert_eq!(world.endpoints().len(), 8);
}

#[test]
fn after_a_start_everybody_has_three_ttls() {
    let mut world = one();
    world.crowd(2);
    let kept = crate::store::State {
        revision: 7,
        about: None,
        values: ["i0", "i1"]
            .iter()
            .map(|name| {
                let held = world.servers[0].held(&id(name)).unwrap();
                (id(name).key(), held.instance.kept())
            })
            .chain([("strange".into(), "{}".into())])
            .collect(),
    };
    let mut state = State::new(None);
    let others = state.load(&kept, at(1_000));
    assert_eq!((others.len(), state.revision()), (1, 7));
    world.servers = vec![state];
    assert_eq!(world.endpoints().len(), 2);
    assert_eq!(world.look(30_999), 0);
    assert_eq!(world.look(31_000), 2);
    // Both at once: most likely it is us whom they do not reach.
    assert_eq!(world.phase("i0"), Some(Phase::Vanished));
}

#[test]
fn a_heartbeat_to_any_server_counts_and_writes_nothing_until_the_keeper_asks() {
    let mut world = World::shared(&["a", "b"]);
    world.ask(0, &register("x", 80), 0).unwrap();
    let written = world.written;
    for now in (1_000..10_000).step_by(3_000) {
        world.beat(1, "x", now);
        world.look(now);
    }
    assert_eq!(world.written, written);
    // Its keeper has heard nothing for a TTL: it asks, and the other says so.
    world.look(10_000);
    world.look(10_001);
    assert_eq!(world.phase("x"), Some(Phase::Up));
    let keeper = |world: &World| {
        let held = world.servers[0].held(&id("x")).unwrap();
        held.instance.keeper.to_string()
    };
    assert_eq!(keeper(&world), "b");
    let written = world.written;
    for now in (12_000..40_000).step_by(3_000) {
        world.beat(1, "x", now);
        world.look(now);
    }
    assert_eq!(world.written, written);
    // Nobody hears of it any more: asked first, then gone.
    world.look(49_000);
    assert_eq!(world.phase("x"), Some(Phase::Up));
    world.look(50_000);
    assert_eq!(world.phase("x"), Some(Phase::Expired));
    // It comes back to the other one.
    assert_eq!(world.beat(0, "x", 51_000), Beat::Returns);
    world.look(51_000);
    assert_eq!((world.phase("x"), &*keeper(&world)), (Some(Phase::Up), "a"));
}

#[test]
fn the_leases_of_a_server_that_is_gone_are_kept_by_another_with_grace() {
    let mut world = World::shared(&["a", "b"]);
    world.ask(1, &register("x", 80), 0).unwrap();
    world.ask(1, &register("y", 81), 0).unwrap();
    world.servers.truncate(1);
    world.beat(0, "x", 9_000);
    assert_eq!(world.look(100_000), 0, "nobody else may judge");
    let keepers: Vec<String> = world.servers[0]
        .keepers()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(keepers, ["b"]);
    world.beat(0, "x", 100_000);
    world.servers[0].set_gone(BTreeSet::from(["b".into()]));
    assert_eq!(world.look(100_000), 2);
    world.servers[0].set_gone(BTreeSet::new());
    for now in (100_000..129_000).step_by(1_000) {
        world.beat(0, "x", now);
        assert_eq!(world.look(now), 0);
    }
    world.beat(0, "x", 130_000);
    world.look(130_000);
    world.look(131_000);
    assert_eq!(world.phase("y"), Some(Phase::Expired));
    assert_eq!(world.phase("x"), Some(Phase::Up));
}

#[test]
fn what_the_file_says_is_the_files() {
    let mut world = World::alone(
        "services: {orders: {sidecar: false, endpoints: [{id: f, host: 10.0.0.9, port: 80}]}, side: {port: 9}}",
    );
    let told = |result: Result<Done, Refused>| result.unwrap_err().to_string();
    let path = "services.orders.endpoints[0] belongs to the mesh file";
    assert!(told(world.ask(0, &register("f", 1), 0)).starts_with(path));
    let there = register_with("x", 80, &json!({"host": "10.0.0.9"}));
    assert!(told(world.ask(0, &there, 0)).starts_with(path));
    assert!(told(world.ask(0, &Wish::Drain(id("f")), 0)).starts_with(path));
    let named = register_with("x", 80, &json!({"host": "orders.internal"}));
    assert!(told(world.ask(0, &named, 0)).contains("in one way"));
    let value = json!({"service": "nobody", "host": "10.0.0.1", "port": 1});
    let nobody = Wish::Register(Box::new(Registration::read(&value, None).unwrap()));
    let told_nobody = told(world.ask(0, &nobody, 0));
    assert!(
        told_nobody.contains("known services: orders, side"),
        "{told_nobody}"
    );
    let value = json!({"service": "side", "host": "127.0.0.1", "port": 9});
    let itself = Wish::Register(Box::new(Registration::read(&value, None).unwrap()));
    assert!(told(world.ask(0, &itself, 0)).contains("would call itself"));

    // The file takes an id over: it counts, and the listing says so.
    world.ask(0, &register("x", 81), 0).unwrap();
    world.mesh = mesh::read(
        "services: {orders: {sidecar: false, endpoints: [{id: x, host: 10.0.0.8, port: 80}]}}",
        &Defaults::default(),
    )
    .unwrap();
    assert_eq!(world.endpoints(), [("x".into(), Standing::File)]);
    // The service goes: its instances stay registered, and are called by nobody.
    world.mesh = mesh::read("services: {}", &Defaults::default()).unwrap();
    let page = view::page(&world.mesh, &world.servers[0], &Wanted::default(), at(0));
    let page = serde_json::to_value(page).unwrap();
    let problem = page["instances"][0]["problem"].as_str().unwrap();
    assert!(problem.contains("not in the mesh"), "{page}");
}

#[test]
fn who_registers_at_an_address_takes_the_place_of_who_was_there() {
    let mut world = one();
    world.ask(0, &register("old", 80), 0).unwrap();
    let done = world.ask(0, &register("new", 80), 1).unwrap();
    assert_eq!(done.changed, [id("old"), id("new")]);
    assert_eq!(world.endpoints(), [("new".into(), Standing::Registered)]);
}

#[test]
fn a_version_that_nobody_calls_is_warned_of() {
    let warned = |file: &str, version: Option<&str>| {
        let mut world = World::alone(file);
        let more = match version {
            Some(version) => json!({"version": version}),
            None => json!({}),
        };
        let done = world.ask(0, &register_with("x", 80, &more), 0).unwrap();
        done.warnings.join("")
    };
    let split = "services: {orders: {sidecar: false, stable_version: v1, canary: {version: v2, weight: 10}}}";
    assert_eq!(warned(split, Some("v1")), "");
    assert_eq!(warned(split, Some("v2")), "");
    assert!(warned(split, Some("v3")).contains("nobody calls it"));
    assert!(warned(split, None).contains("no version: nobody calls it"));
    let said = "services: {orders: {sidecar: false, endpoints: [{host: 10.0.0.9, port: 80, version: v1}]}}";
    assert_eq!(warned(said, Some("v1")), "");
    assert!(warned(said, Some("v2")).contains("beside v1"));
}

#[test]
fn instances_are_shown_a_page_at_a_time() {
    let mut world = World::alone(
        "services: {orders: {sidecar: false, endpoints: [{id: f, host: 10.0.0.9, port: 80}]}}",
    );
    world.crowd(3);
    world.ask(0, &Wish::Drain(id("i1")), 0).unwrap();
    let shown = |wanted: &Wanted| {
        let page = view::page(&world.mesh, &world.servers[0], wanted, at(2_000));
        let page = serde_json::to_value(page).unwrap();
        let ids: Vec<String> = page["instances"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["id"].as_str().unwrap().to_string())
            .collect();
        (
            ids,
            page["next"].as_str().map(str::to_string),
            page["left_off"].as_u64(),
        )
    };
    let mut wanted = Wanted {
        limit: Some(2),
        ..Wanted::default()
    };
    let (ids, next, left_off) = shown(&wanted);
    assert_eq!((ids, left_off), (vec!["f".into(), "i0".into()], Some(2)));
    wanted.after = next;
    assert_eq!(
        shown(&wanted),
        (vec!["i1".into(), "i2".into()], None, Some(0))
    );
    let draining = Wanted {
        state: Some(Phase::Draining),
        ..Wanted::default()
    };
    assert_eq!(shown(&draining).0, ["i1"]);
    let one = view::one(&world.mesh, &world.servers[0], "orders", "i0", at(2_000));
    let one = serde_json::to_value(one).unwrap();
    assert_eq!(
        (&one["ttl"], &one["source"]),
        (&json!("10s"), &json!("registered"))
    );
}

proptest! {
    /// However instances fall silent: within one TTL no more than one, or a fifth, leave.
    #[test]
    fn silence_alone_never_takes_more_than_a_fifth_within_a_ttl(
        count in 1_u16..30,
        deaths in proptest::collection::vec(0_u64..40, 30),
    ) {
        let mut world = one();
        world.crowd(count);
        let step = Duration::from_millis(500).as_millis() as u64;
        let mut all = usize::from(count);
        let mut seen = vec![all];
        for tick in 1..200 {
            let now = tick * step;
            for (number, death) in deaths.iter().take(usize::from(count)).enumerate() {
                if now < death * 1_000 {
                    world.beat(0, &format!("i{number}"), now);
                }
            }
            world.look(now);
            seen.push(world.endpoints().len());
            let ttl_ago = seen.len().saturating_sub((TTL / step) as usize);
            all = seen[ttl_ago];
            let lost = all.saturating_sub(world.endpoints().len());
            prop_assert!(lost <= 1 || lost * 5 <= all, "{} of {} at {}", lost, all, now);
        }
    }
}
