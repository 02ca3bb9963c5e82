use std::sync::Arc;

use super::{CHARS_MAX, NODES_MAX, REJECTIONS_MAX, State, Told, Wait};
use crate::{
    proxies::rollout::{Look, Rejection},
    store::{About, Change, Entry, Log, State as Stored},
};

/// Servers on one store.
struct World {
    log: Stored,
    servers: Vec<State>,
}

impl World {
    fn new(names: &[&str]) -> Self {
        let mut world = Self {
            log: Stored::default(),
            servers: names.iter().map(|name| State::new(name)).collect(),
        };
        for server in 0..names.len() {
            let rows = world.servers[server].arrival();
            world.write(rows);
        }
        world
    }

    fn write(&mut self, changes: Vec<Change>) {
        let entry = Entry {
            revision: self.log.revision + 1,
            about: About::of_api(policy::time::WallTime::from_unix_seconds(0)),
            changes,
        };
        self.log.apply(Log::Proxies, &entry);
        for server in &mut self.servers {
            server.apply(entry.revision, &entry.changes);
        }
    }

    fn rows(&self) -> usize {
        self.log.values.len()
    }
}

const WAIT: Wait = Wait {
    revision: 7,
    is_new: true,
};

fn rejection(node: &str) -> Rejection {
    Rejection {
        node: node.into(),
        cluster: "edge".into(),
        kind: "LDS".into(),
        resources: vec!["edge".into()],
        message: "cannot bind".into(),
    }
}

fn told(nodes: &[&str], pending: &[&str], rejections: Vec<Rejection>) -> Told {
    Told::of(&Look {
        nodes: nodes.iter().map(ToString::to_string).collect(),
        pending: pending.iter().map(ToString::to_string).collect(),
        rejections,
        ..Look::default()
    })
}

#[test]
fn who_waits_hears_every_other_server_and_nothing_is_left_of_it() {
    let mut world = World::new(&["a", "b", "c"]);
    let (id, rows) = world.servers[0].begin(WAIT);
    world.write(rows);
    assert_eq!(world.servers[1].asked(), [(id.clone(), WAIT)]);
    assert_eq!(world.servers[0].asked(), []);
    let silent = world.servers[0].heard(&id).silent;
    assert_eq!(silent, [Arc::from("b"), Arc::from("c")]);

    let row = world.servers[1].answer(&id, &told(&["e1", "e2"], &["e2"], Vec::new()));
    world.write(vec![row]);
    let row = world.servers[2].answer(&id, &told(&["e3"], &[], vec![rejection("e3")]));
    world.write(vec![row]);
    let heard = world.servers[0].heard(&id);
    assert_eq!((heard.servers, heard.proxies), (2, 3));
    assert_eq!(heard.unanswered, ["e2"]);
    assert_eq!(heard.rejections, [rejection("e3")]);
    assert!(heard.silent.is_empty());
    // Who starts now knows the same.
    let mut late = State::new("d");
    late.load(&world.log);
    assert_eq!(late.asked(), [(id.clone(), WAIT)]);

    let rows = world.servers[0].end(&id);
    world.write(rows);
    assert_eq!(world.rows(), 3, "only that they are there");
    assert!(world.servers[1].asked().is_empty());
    // An answer that comes too late is taken away by who gave it.
    let row = world.servers[1].answer(&id, &Told::default());
    world.write(vec![row]);
    assert!(world.servers[2].leftovers().is_empty());
    let rows = world.servers[1].leftovers();
    world.write(rows);
    assert_eq!(world.rows(), 3);
}

#[test]
fn who_died_holds_nobody_up_and_has_rejected_nothing() {
    let mut world = World::new(&["a", "b"]);
    let (id, rows) = world.servers[0].begin(WAIT);
    world.write(rows);
    let row = world.servers[1].answer(&id, &told(&["e1"], &["e1"], Vec::new()));
    world.write(vec![row]);
    let (theirs, rows) = world.servers[1].begin(WAIT);
    world.write(rows);
    let row = world.servers[0].answer(&theirs, &Told::default());
    world.write(vec![row]);
    assert_eq!(world.servers[0].heard(&id).unanswered, ["e1"]);
    let rows = world.servers[0].leave(&[Arc::from("b")]);
    world.write(rows);
    let heard = world.servers[0].heard(&id);
    assert_eq!((heard.servers, heard.proxies), (0, 0));
    assert!(heard.unanswered.is_empty() && heard.silent.is_empty());
    assert_eq!(world.rows(), 2, "this server, and its wait");
    // It was away only.
    let rows = world.servers[1].arrival();
    assert_eq!(rows.len(), 1);
    world.write(rows);
    assert_eq!(world.servers[0].heard(&id).silent, [Arc::from("b")]);
}

#[test]
fn an_answer_is_no_longer_than_anybody_reads() {
    let names: Vec<String> = (0..NODES_MAX + 5)
        .map(|name| format!("e{name:03}"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut long = rejection("e1");
    long.message = "ü".repeat(CHARS_MAX + 1);
    long.resources = vec!["x".into(); 1_000];
    let told = told(&names, &names, vec![long; REJECTIONS_MAX + 1]);
    assert_eq!(
        (told.unanswered.len(), told.unanswered_more),
        (NODES_MAX, 5)
    );
    assert_eq!(told.rejections.len(), REJECTIONS_MAX);
    assert_eq!(told.rejections[0].message.chars().count(), CHARS_MAX);
    assert!(serde_json::to_string(&told).unwrap().len() < 20_000);
}

#[test]
fn rows_of_others_are_let_alone() {
    let mut state = State::new("a");
    let change = |key: &str, value: Option<&str>| Change {
        key: key.into(),
        value: value.map(Into::into),
    };
    state.apply(
        3,
        &[
            change("[\"server\",\"x\"]", Some("{}")),
            change("[\"wait\",\"b\",\"no\"]", Some("{}")),
            change("[\"wait\",\"b\",\"1\"]", Some("what another version says")),
            change("[\"told\",\"b\",\"1\",\"c\"]", Some("the same")),
            change("no json", None),
        ],
    );
    assert_eq!(state.revision(), 3);
    assert!(state.asked().is_empty() && state.others().next().is_none());
    assert!(state.leftovers().is_empty());
}
