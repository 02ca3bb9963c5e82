use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use policy::{
    time::{MonoTime, Now, WallTime},
    units::ServiceName,
};
use serde_json::{Value, json};

use super::{
    Change, Heard, Question, State, Task, Verdict,
    view::{self, Wanted},
};
use crate::{
    mesh::{Defaults, HealthCheckKind, Mesh, read},
    resource::NodeKey,
};

const MESH: &str = "\
timezone: Asia/Kolkata
services:
  order-service:
    port: 8080
    health_check: {path: /health, interval: 1s, timeout: 500ms}
    endpoints:
      - {id: order-1, host: 10.0.0.1, port: 15006}
      - {id: order-2, host: 10.0.0.2, port: 15006, app_port: 8090}
  plain-service:
    sidecar: false
    health_check: {tcp: true, interval: 1s, timeout: 500ms}
    endpoints:
      - {id: plain-1, host: 10.0.1.1, port: 80}
      - {id: plain-2, host: 10.0.1.2, port: 80}
  unchecked:
    sidecar: false
    endpoints: [{id: unchecked-1, host: 10.0.2.1, port: 80}]
  named:
    sidecar: false
    health_check: {tcp: true}
    endpoints: [{id: named-1, host: named.internal, port: 80}]
gateways:
  edge: {listen: \"127.0.0.1:10000\", routes: [{match: {path_prefix: /}, service: plain-service}]}
";

fn mesh(text: &str) -> Arc<Mesh> {
    let mesh = read(text, &Defaults::default());
    Arc::new(mesh.unwrap_or_else(|problems| panic!("{problems:#?}")))
}

fn at(millis: u64) -> Now {
    Now {
        wall: WallTime::from_unix_millis(1_800_000_000_000 + i64::try_from(millis).unwrap()),
        mono: MonoTime::from_nanos(millis * 1_000_000),
    }
}

fn state(text: &str) -> State {
    State::new(mesh(text), 100, at(0))
}

fn node(cluster: &str, id: &str) -> NodeKey {
    NodeKey {
        id: id.into(),
        cluster: cluster.into(),
        ..NodeKey::default()
    }
}

/// An Envoy that may be asked.
fn open(state: &mut State, cluster: &str, id: &str) -> u64 {
    state.open(node(cluster, id)).unwrap().0
}

fn says(service: &str, address: &str, healthy: bool) -> Vec<Heard> {
    vec![Heard {
        cluster: format!("health|{service}"),
        addresses: vec![(address.parse().unwrap(), healthy)],
    }]
}

fn verdict(state: &State, service: &str, id: &str) -> Verdict {
    let service = name(service);
    state
        .known(&service, id)
        .map_or(Verdict::Unknown, |known| known.verdict)
}

fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

/// What callers send nothing to.
fn unhealthy(state: &State) -> Vec<String> {
    let services = state.unhealthy().0.iter();
    services
        .flat_map(|(service, ids)| ids.iter().map(move |id| format!("{service}/{id}")))
        .collect()
}

fn addresses(task: &Task) -> Vec<String> {
    let groups = task.iter();
    groups
        .flat_map(|(service, group)| {
            group
                .targets
                .iter()
                .map(move |(address, ids)| format!("{service} {address} {}", ids.join("+")))
        })
        .collect()
}

#[test]
fn a_sidecar_is_asked_about_its_own_application_alone() {
    let mut state = state(MESH);
    let mut asked = |cluster: &str, id: &str| {
        let (_, task) = state.open(node(cluster, id)).unwrap();
        addresses(&task)
    };
    assert_eq!(
        asked("order-service", "order-1"),
        ["order-service 127.0.0.1:8080 order-1"]
    );
    assert_eq!(
        asked("order-service", "order-2"),
        ["order-service 127.0.0.1:8090 order-2"]
    );
    assert!(asked("order-service", "somebody").is_empty());
    assert!(
        asked("plain-service", "plain-1").is_empty(),
        "it has no sidecar"
    );
    assert!(asked("unchecked", "unchecked-1").is_empty());
    assert!(asked("stranger", "order-1").is_empty());
}

#[test]
fn at_most_three_gateways_ask_an_endpoint_and_they_stay_when_others_come() {
    let mut text = String::from(
        "services:\n  plain:\n    sidecar: false\n    health_check: {tcp: true}\n    endpoints:\n",
    );
    for number in 0..40 {
        text.push_str(&format!(
            "      - {{id: e{number}, host: 10.0.0.{number}, port: 80}}\n"
        ));
    }
    text.push_str("gateways:\n  edge: {listen: \"127.0.0.1:1\", routes: []}\n");
    let mut state = state(&text);
    let askers = |tasks: Vec<(u64, Arc<Task>)>, all: &mut Vec<BTreeSet<String>>| {
        for (stream, task) in tasks {
            let stream = usize::try_from(stream).unwrap();
            all.resize(all.len().max(stream + 1), BTreeSet::new());
            all[stream] = addresses(&task).into_iter().collect();
        }
    };
    let mut all = Vec::new();
    // Two of them bear one name.
    for id in ["edge", "edge", "edge-2"] {
        open(&mut state, "edge", id);
    }
    askers(state.assign(), &mut all);
    assert!(all.iter().all(|asked| asked.len() == 40), "{all:?}");
    for number in 3..10 {
        open(&mut state, "edge", &format!("edge-{number}"));
    }
    askers(state.assign(), &mut all);
    let count = |all: &[BTreeSet<String>]| all.iter().map(BTreeSet::len).sum::<usize>();
    assert_eq!((all.len(), count(&all)), (10, 120));
    // The second of one name is not asked while there are others.
    let idle = all.iter().position(BTreeSet::is_empty);
    let shared = all.iter().filter(|asked| !asked.is_empty()).count();
    assert_eq!((idle, shared), (Some(1), 9), "{all:?}");
    // One goes: nobody loses anything, and others take over what it asked.
    let before = all.clone();
    state.close(4, at(0));
    askers(state.assign(), &mut all);
    all[4].clear();
    assert_eq!(count(&all), 120);
    for (number, asked) in before.iter().enumerate().filter(|(number, _)| *number != 4) {
        assert!(all[number].is_superset(asked), "{number}");
    }
    assert!(state.assign().is_empty(), "nothing changed, nobody is told");
}

#[test]
fn endpoints_with_dns_names_and_without_a_check_are_asked_by_nobody() {
    let mut state = state(MESH);
    open(&mut state, "edge", "edge");
    let tasks = state.assign();
    let asked = addresses(&tasks[0].1);
    assert_eq!(
        asked,
        [
            "plain-service 10.0.1.1:80 plain-1",
            "plain-service 10.0.1.2:80 plain-2"
        ]
    );
}

#[test]
fn a_death_is_told_at_once_and_a_return_too() {
    let mut state = state(MESH);
    let sidecar = open(&mut state, "order-service", "order-1");
    let ours = "127.0.0.1:8080";
    let change = |from, to| Change {
        service: name("order-service"),
        endpoint: "order-1".into(),
        from,
        to: Some(to),
        by: vec!["order-1".into()],
    };
    use Verdict::{Healthy, Unhealthy, Unknown};
    let alive = state.report(sidecar, &says("order-service", ours, true), at(10));
    assert_eq!(alive, [change(Unknown, Healthy)]);
    let told = Arc::clone(state.unhealthy());
    assert!(
        state
            .report(sidecar, &says("order-service", ours, true), at(20))
            .is_empty()
    );
    assert!(
        Arc::ptr_eq(&told, state.unhealthy()),
        "callers hear nothing of it"
    );
    let dead = state.report(sidecar, &says("order-service", ours, false), at(30));
    assert_eq!(dead, [change(Healthy, Unhealthy)]);
    assert_eq!(unhealthy(&state), ["order-service/order-1"]);
    let back = state.report(sidecar, &says("order-service", ours, true), at(40));
    assert_eq!(back, [change(Unhealthy, Healthy)]);
    assert!(unhealthy(&state).is_empty());
}

#[test]
fn an_endpoint_is_not_unhealthy_before_it_was_asked() {
    let mut state = state(MESH);
    let sidecar = open(&mut state, "order-service", "order-1");
    // Envoy says so of whom it has not asked yet; an answer may take 500 ms.
    for millis in [0, 100, 500] {
        let report = says("order-service", "127.0.0.1:8080", false);
        assert!(state.report(sidecar, &report, at(millis)).is_empty());
    }
    let report = says("order-service", "127.0.0.1:8080", false);
    assert_eq!(state.report(sidecar, &report, at(501)).len(), 1);
    assert_eq!(
        verdict(&state, "order-service", "order-1"),
        Verdict::Unhealthy
    );
}

#[test]
fn who_is_silent_makes_an_endpoint_unknown_and_never_unhealthy() {
    let mut state = state(MESH);
    let sidecar = open(&mut state, "order-service", "order-1");
    state.report(
        sidecar,
        &says("order-service", "127.0.0.1:8080", true),
        at(0),
    );
    state.close(sidecar, at(10));
    assert!(state.tick(at(3_000)).is_empty());
    let changes = state.tick(at(3_001));
    assert_eq!(changes[0].to, Some(Verdict::Unknown));
    assert!(unhealthy(&state).is_empty());
    // One that was unhealthy is not kept out by a word that nobody repeats.
    let sidecar = open(&mut state, "order-service", "order-1");
    state.report(
        sidecar,
        &says("order-service", "127.0.0.1:8080", true),
        at(4_000),
    );
    state.report(
        sidecar,
        &says("order-service", "127.0.0.1:8080", false),
        at(4_100),
    );
    assert_eq!(unhealthy(&state).len(), 1);
    state.tick(at(8_000));
    assert!(unhealthy(&state).is_empty());
}

#[test]
fn one_gateway_that_cannot_reach_an_endpoint_takes_it_from_nobody() {
    let mut state = state(MESH);
    let gateways = ["edge-1", "edge-2", "edge-3"].map(|id| open(&mut state, "edge", id));
    state.assign();
    let plain = "10.0.1.1:80";
    for gateway in gateways {
        state.report(gateway, &says("plain-service", plain, true), at(0));
    }
    for gateway in &gateways[..2] {
        assert!(
            state
                .report(*gateway, &says("plain-service", plain, false), at(100))
                .is_empty()
        );
    }
    assert_eq!(
        state
            .report(gateways[2], &says("plain-service", plain, false), at(200))
            .len(),
        1
    );
    assert_eq!(unhealthy(&state), ["plain-service/plain-1"]);
    // The silent do not count either way.
    state.report(gateways[0], &says("plain-service", plain, true), at(300));
    assert_eq!(
        verdict(&state, "plain-service", "plain-1"),
        Verdict::Healthy
    );
    for millis in [2_000, 3_200, 3_400] {
        state.report(
            gateways[1],
            &says("plain-service", plain, false),
            at(millis),
        );
    }
    assert_eq!(
        verdict(&state, "plain-service", "plain-1"),
        Verdict::Unhealthy
    );
}

/// Order-1 is as its sidecar said at first; then nothing is heard of it, and gateways are asked to reach it.
fn silent() -> (State, [u64; 2]) {
    let mut state = state(MESH);
    let gateways = ["edge-1", "edge-2"].map(|id| open(&mut state, "edge", id));
    state.assign();
    let sidecar = open(&mut state, "order-service", "order-1");
    let application = "127.0.0.1:8080";
    let other = open(&mut state, "order-service", "order-2");
    for millis in (0..=6_000).step_by(500) {
        if millis <= 1_000 {
            let report = says("order-service", application, true);
            state.report(sidecar, &report, at(millis));
        }
        let report = says("order-service", "127.0.0.1:8090", true);
        state.report(other, &report, at(millis));
        state.tick(at(millis));
        assert_eq!(state.is_asked(), millis < 4_500, "{millis}");
    }
    let asked = state.assign();
    assert_eq!(asked.len(), 2);
    for (_, task) in &asked {
        let addresses = addresses(task);
        assert_eq!(addresses[0], "order-service 10.0.0.1:15006 order-1");
        assert_eq!(addresses.len(), 3, "{addresses:?}");
        let group = &task[&name("order-service")];
        assert_eq!(group.question, Question::Reach);
        assert_eq!(group.check.kind, HealthCheckKind::Tcp);
        assert_eq!(group.check.interval, Duration::from_secs(1));
    }
    assert!(state.is_asked() && state.assign().is_empty());
    (state, gateways)
}

#[test]
fn a_host_that_vanished_with_its_sidecar_is_found_dead_by_gateways() {
    let (mut state, gateways) = silent();
    let dead = says("order-service", "10.0.0.1:15006", false);
    for gateway in gateways {
        state.report(gateway, &dead, at(6_100));
    }
    assert_eq!(
        verdict(&state, "order-service", "order-1"),
        Verdict::Unknown
    );
    state.report(gateways[0], &dead, at(6_700));
    assert_eq!(unhealthy(&state), ["order-service/order-1"]);
    // One who reaches it is enough to doubt that; how it is he does not know.
    let alive = says("order-service", "10.0.0.1:15006", true);
    state.report(gateways[1], &alive, at(6_800));
    assert_eq!(
        verdict(&state, "order-service", "order-1"),
        Verdict::Unknown
    );
}

#[test]
fn where_a_sidecars_stream_ends_gateways_look_at_once() {
    let mut state = state(MESH);
    let gateways = ["edge-1", "edge-2"].map(|id| open(&mut state, "edge", id));
    let sidecar = open(&mut state, "order-service", "order-1");
    let other = open(&mut state, "order-service", "order-2");
    state.assign();
    let well = says("order-service", "127.0.0.1:8080", true);
    state.report(sidecar, &well, at(1_000));
    let others = says("order-service", "127.0.0.1:8090", true);
    state.report(other, &others, at(1_000));
    state.close(sidecar, at(1_100));
    assert!(!state.is_asked());
    for (_, task) in state.assign() {
        assert_eq!(
            addresses(&task)[0],
            "order-service 10.0.0.1:15006 order-1",
            "and not of order-2, whose sidecar is there"
        );
    }
    state.tick(at(1_500));
    assert!(state.is_asked());
    // The sidecar only moved to another server: what it said stays good.
    let alive = says("order-service", "10.0.0.1:15006", true);
    state.report(gateways[0], &alive, at(1_600));
    let verdict_now = |state: &State| verdict(state, "order-service", "order-1");
    assert_eq!(verdict_now(&state), Verdict::Healthy);
    // Nobody is there: its last word counts no more.
    let dead = says("order-service", "10.0.0.1:15006", false);
    state.report(gateways[0], &dead, at(1_700));
    assert_eq!(unhealthy(&state), ["order-service/order-1"]);
    let known = state.known(&name("order-service"), "order-1").unwrap();
    let by = known.by();
    let by: Vec<&str> = by.iter().map(AsRef::as_ref).collect();
    assert_eq!(by, ["edge-1"], "and not the sidecar's");
    let again = open(&mut state, "order-service", "order-1");
    state.report(again, &well, at(1_800));
    assert!(unhealthy(&state).is_empty());
}

#[test]
fn a_sidecar_that_is_back_counts_more_than_gateways_which_are_asked_no_more() {
    let (mut state, gateways) = silent();
    let dead = says("order-service", "10.0.0.1:15006", false);
    for millis in [6_100, 6_700] {
        state.report(gateways[0], &dead, at(millis));
    }
    assert_eq!(unhealthy(&state), ["order-service/order-1"]);
    let sidecar = open(&mut state, "order-service", "order-1");
    let well = says("order-service", "127.0.0.1:8080", true);
    state.report(sidecar, &well, at(6_800));
    assert!(unhealthy(&state).is_empty());
    state.tick(at(6_900));
    assert!(!state.is_asked());
    let asked = state.assign();
    assert_eq!(asked.len(), 2);
    assert!(!asked[0].1.contains_key(&name("order-service")));
    // What a gateway says unasked is nothing.
    assert!(state.report(gateways[0], &dead, at(7_000)).is_empty());
    // Its own application is dead, whoever reaches the sidecar.
    let ill = says("order-service", "127.0.0.1:8080", false);
    state.report(sidecar, &ill, at(7_100));
    assert_eq!(unhealthy(&state), ["order-service/order-1"]);
}

#[test]
fn nobody_speaks_about_endpoints_that_it_was_not_asked_about() {
    let mut state = state(MESH);
    let liar = open(&mut state, "order-service", "order-1");
    let nobody = open(&mut state, "stranger", "x");
    let gateway = open(&mut state, "edge", "edge");
    state.assign();
    for stream in [liar, nobody, gateway, 77] {
        for (service, address) in [
            ("order-service", "127.0.0.1:8090"),
            ("order-service", "10.0.0.2:15006"),
            ("unchecked", "10.0.2.1:80"),
            ("named", "10.0.3.1:80"),
        ] {
            for millis in [0, 10_000] {
                assert!(
                    state
                        .report(stream, &says(service, address, false), at(millis))
                        .is_empty()
                );
                assert!(
                    state
                        .report(stream, &says(service, address, true), at(millis))
                        .is_empty()
                );
            }
        }
        if stream != gateway {
            let plain = says("plain-service", "10.0.1.1:80", true);
            assert!(state.report(stream, &plain, at(0)).is_empty());
        }
    }
    let unnamed = Heard {
        cluster: "order-service".into(),
        addresses: vec![("127.0.0.1:8080".parse().unwrap(), true)],
    };
    assert!(
        state
            .report(liar, &[unnamed, Heard::default()], at(0))
            .is_empty()
    );
}

#[test]
fn streams_are_bounded_and_so_are_the_words_about_an_endpoint() {
    let mut state = State::new(mesh(MESH), 2, at(0));
    for round in 0..1_000_u64 {
        let sidecar = open(&mut state, "order-service", "order-1");
        let report = says("order-service", "127.0.0.1:8080", round % 2 == 0);
        state.report(sidecar, &report, at(round));
        state.close(sidecar, at(round));
    }
    let known = state.known(&name("order-service"), "order-1").unwrap();
    assert_eq!(known.by().len(), 1);
    assert!(state.open(node("order-service", "order-1")).is_some());
    assert!(state.open(node("order-service", "order-2")).is_some());
    assert!(state.open(node("order-service", "order-2")).is_none());
}

#[test]
fn another_mesh_asks_anew_and_keeps_what_is_known() {
    let mut state = state(MESH);
    let one = open(&mut state, "order-service", "order-1");
    let two = open(&mut state, "order-service", "order-2");
    let gateway = open(&mut state, "edge", "edge");
    state.assign();
    state.report(one, &says("order-service", "127.0.0.1:8080", true), at(0));
    state.report(one, &says("order-service", "127.0.0.1:8080", false), at(0));
    state.report(two, &says("order-service", "127.0.0.1:8090", true), at(0));
    // The same again: nobody is told anything.
    let (asked, gone) = state.follow(mesh(MESH), at(10));
    assert!(asked.is_empty() && gone.is_empty());
    // One application moves, and a plain endpoint goes.
    let moved = MESH
        .replace("app_port: 8090", "app_port: 8091")
        .replace("      - {id: plain-2, host: 10.0.1.2, port: 80}\n", "");
    let (asked, gone) = state.follow(mesh(&moved), at(20));
    let streams: Vec<u64> = asked.iter().map(|(stream, _)| *stream).collect();
    assert_eq!(streams, [two, gateway]);
    assert_eq!(
        addresses(&asked[0].1),
        ["order-service 127.0.0.1:8091 order-2"]
    );
    assert_eq!(
        addresses(&asked[1].1),
        ["plain-service 10.0.1.1:80 plain-1"]
    );
    assert_eq!(gone.len(), 1, "{gone:?}");
    assert_eq!((gone[0].endpoint.as_str(), gone[0].to), ("order-2", None));
    assert_eq!(unhealthy(&state), ["order-service/order-1"]);
    // Nothing is checked any more.
    let (asked, gone) = state.follow(mesh("services: {}\n"), at(30));
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|(_, task)| task.is_empty()));
    assert_eq!(gone.len(), 1);
    assert!(unhealthy(&state).is_empty());
}

#[test]
fn a_changed_question_is_put_and_an_unchanged_one_is_not() {
    let mut state = state(MESH);
    let sidecar = open(&mut state, "order-service", "order-1");
    let slower = MESH.replace("path: /health, interval: 1s", "path: /health, interval: 2s");
    let (asked, _) = state.follow(mesh(&slower), at(0));
    assert_eq!(asked.len(), 1);
    let (stream, task) = &asked[0];
    assert_eq!(*stream, sidecar);
    assert_eq!(
        task[&name("order-service")].check.interval,
        Duration::from_secs(2)
    );
    let weight = slower.replace("port: 15006}", "port: 15006, weight: 7}");
    assert!(state.follow(mesh(&weight), at(0)).0.is_empty());
}

fn page(state: &State, wanted: &Wanted) -> Value {
    let mesh = mesh(MESH);
    let zone = mesh.timetable.zone();
    let page = view::page(
        &mesh,
        wanted,
        zone,
        at(0).wall,
        |services| services(state),
        |_| None,
    );
    serde_json::to_value(page).unwrap()
}

#[test]
fn people_see_what_is_known_since_when_and_from_whom() {
    let mut state = state(MESH);
    let sidecar = open(&mut state, "order-service", "order-1");
    state.report(
        sidecar,
        &says("order-service", "127.0.0.1:8080", true),
        at(1_000),
    );
    let wanted = Wanted {
        service: Some("order-service".into()),
        ..Wanted::default()
    };
    let shown = page(&state, &wanted);
    let service = &shown["services"][0];
    assert_eq!(service["health_check"]["path"], "/health");
    assert_eq!(
        service["endpoints"][0],
        json!({
            "id": "order-1", "host": "10.0.0.1", "port": 15006, "app_port": null, "weight": 100,
            "region": null, "zone": null, "version": null, "source": "file", "state": "up",
            "health": "healthy",
            "since": "2027-01-15T13:30:01+05:30", "last_heard": "2027-01-15T13:30:01+05:30",
            "reported_by": ["order-1"],
        })
    );
    let other = &service["endpoints"][1];
    assert_eq!(
        (&other["health"], &other["last_heard"]),
        (&json!("unknown"), &Value::Null)
    );
    assert_eq!(other["since"], "2027-01-15T13:30:00+05:30");
}

#[test]
fn services_come_a_page_at_a_time() {
    let state = state(MESH);
    let mut wanted = Wanted {
        limit: Some(3),
        ..Wanted::default()
    };
    let first = page(&state, &wanted);
    assert_eq!(
        (&first["left_off"], &first["next"]),
        (&json!(1), &json!("plain-service"))
    );
    wanted.after = Some("plain-service".into());
    let last = page(&state, &wanted);
    assert_eq!(last["services"][0]["name"], "unchecked");
    assert_eq!(last["services"][0]["endpoints"][0]["health"], "unknown");
    assert_eq!(
        (&last["left_off"], &last["next"]),
        (&json!(0), &Value::Null)
    );
}

#[test]
fn addresses_of_both_families_are_asked() {
    let text = MESH.replace("10.0.1.1", "\"::1\"");
    let mut state = state(&text);
    open(&mut state, "edge", "edge");
    let tasks = state.assign();
    let targets = &tasks[0].1[&name("plain-service")].targets;
    assert!(targets.contains_key(&"[::1]:80".parse::<SocketAddr>().unwrap()));
}
