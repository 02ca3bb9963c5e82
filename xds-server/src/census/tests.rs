use std::{collections::BTreeMap, sync::Arc, time::Duration};

use policy::{time::MonoTime, units::ServiceName};
use proptest::prelude::*;

use super::{Pace, State, proxy};
use crate::store::{Change, State as Stored};

const PACE: Pace = Pace {
    seen_within: Duration::from_secs(600),
    told_every: Duration::from_secs(30),
};

fn at(seconds: u64) -> MonoTime {
    MonoTime::from_nanos(seconds * 1_000_000_000)
}

fn edge() -> ServiceName {
    ServiceName::new("edge").unwrap()
}

/// Servers on one store, each with the proxies that are connected to it.
struct World {
    log: Stored,
    servers: Vec<(State, Vec<&'static str>)>,
}

impl World {
    fn new(servers: usize) -> Self {
        let mut world = Self {
            log: Stored::default(),
            servers: Vec::new(),
        };
        for number in 0..servers {
            world.start(&format!("s{number}"), 0);
        }
        world
    }

    fn start(&mut self, name: &str, now: u64) {
        let mut state = State::new(name, PACE);
        state.load(&self.log, at(now));
        state.begin(at(now));
        self.servers.push((state, Vec::new()));
    }

    /// Everybody looks once; the numbers of `edge` that were told then.
    fn look(&mut self, now: u64) -> Vec<Option<u32>> {
        let now = at(now);
        let mut told = Vec::new();
        for number in 0..self.servers.len() {
            let (state, connected) = &mut self.servers[number];
            for id in connected.iter() {
                assert!(state.see(edge(), proxy(id), now));
            }
            state.forget(now);
            let (seen, changes) = state.due(now);
            told.push(state.news(now).map(|sizes| sizes.of(&edge()).get()));
            if changes.is_empty() {
                continue;
            }
            self.log.revision += 1;
            for Change { key, value } in &changes {
                match value {
                    Some(value) => {
                        self.log.values.insert(Arc::clone(key), Arc::clone(value));
                    }
                    None => {
                        self.log.values.remove(key);
                    }
                }
            }
            state.wrote(seen, now);
            let revision = self.log.revision;
            for (state, _) in &mut self.servers {
                state.apply(revision, &changes, now);
            }
        }
        told
    }

    fn size(&self, server: usize, now: u64) -> u32 {
        self.servers[server].0.sizes(at(now)).of(&edge()).get()
    }
}

#[test]
fn a_proxy_counts_once_wherever_it_is_seen_and_for_ten_minutes_afterwards() {
    let mut world = World::new(2);
    world.servers[0].1 = vec!["a", "b"];
    world.servers[1].1 = vec!["c"];
    world.look(1);
    world.look(2);
    assert_eq!((world.size(0, 2), world.size(1, 2)), (3, 3));
    // It moves to the other server: that is no change.
    world.servers[0].1 = vec!["a"];
    world.servers[1].1 = vec!["b", "c"];
    for second in 3..590 {
        world.look(second);
        assert_eq!(
            (world.size(0, second), world.size(1, second)),
            (3, 3),
            "at {second}"
        );
    }
    world.servers[1].1 = vec!["b"];
    for second in 590..1_189 {
        world.look(second);
        assert_eq!(world.size(0, second), 3, "at {second}");
    }
    for second in 1_189..1_260 {
        world.look(second);
    }
    assert_eq!((world.size(0, 1_260), world.size(1, 1_260)), (2, 2));
}

#[test]
fn a_server_that_died_takes_its_proxies_with_it_after_ten_minutes_and_leaves_nothing() {
    let mut world = World::new(2);
    world.servers[0].1 = vec!["a"];
    world.servers[1].1 = vec!["b", "c"];
    world.look(1);
    world.servers.truncate(1);
    for second in 2..600 {
        world.look(second);
        assert_eq!(world.size(0, second), 3, "at {second}");
    }
    for second in 600..2_000 {
        world.look(second);
    }
    assert_eq!(world.size(0, 2_000), 1);
    assert_eq!(world.log.values.len(), 1, "{:?}", world.log.values.keys());
}

#[test]
fn a_server_that_starts_divides_as_before_until_its_proxies_had_time_to_come_back() {
    for name in ["s0", "another"] {
        let mut world = World::new(1);
        world.servers[0].1 = vec!["a", "b", "c"];
        world.look(1);
        world.servers.clear();
        // However long it was away.
        world.start(name, 90_000);
        assert_eq!(world.size(0, 90_000), 3);
        world.servers[0].1 = vec!["a"];
        for second in 90_000..90_600 {
            assert_eq!(world.look(second), [None], "at {second}");
        }
        let told: Vec<u32> = (90_600..90_700)
            .filter_map(|second| world.look(second)[0])
            .collect();
        assert_eq!(told, [1]);
    }
}

#[test]
fn numbers_are_told_when_they_differ_and_not_more_than_every_thirty_seconds() {
    let mut world = World::new(1);
    world.servers[0].1 = vec!["a"];
    for second in 0..10 {
        assert_eq!(world.look(second), [None], "one alone is no news");
    }
    world.servers[0].1 = vec!["a", "b"];
    assert_eq!(world.look(10), [None]);
    world.servers[0].1 = vec!["a", "b", "c"];
    assert_eq!(
        (world.look(11), world.look(12)),
        (vec![None], vec![Some(3)])
    );
    world.servers[0].1 = vec!["a", "b", "c", "d"];
    for second in 13..42 {
        assert_eq!(world.look(second), [None], "at {second}");
    }
    assert_eq!(world.look(42), [Some(4)]);
    for second in 43..500 {
        assert_eq!(world.look(second), [None], "at {second}");
    }
}

proptest! {
    /// Whoever connects where and leaves when: every server counts at least all that are connected, and at most all
    /// that were within ten minutes and the time that it takes to tell.
    #[test]
    fn never_fewer_than_are_there_for_long_and_never_more_than_were_there_lately(
        moves in prop::collection::vec((0_usize..3, 0_usize..6, any::<bool>()), 1..60),
    ) {
        const IDS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
        let mut world = World::new(3);
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        let mut now = 0;
        for (server, id, is_there) in moves {
            let connected = &mut world.servers[server].1;
            connected.retain(|known| *known != IDS[id]);
            if is_there {
                connected.push(IDS[id]);
            }
            // Long enough to be told to all.
            for _ in 0..7 {
                now += 10;
                world.look(now);
                for (_, connected) in &world.servers {
                    last.extend(connected.iter().map(|id| (*id, now)));
                }
            }
            let connected: std::collections::BTreeSet<&str> = world
                .servers
                .iter()
                .flat_map(|(_, connected)| connected.iter().copied())
                .collect();
            // A row holds for ten minutes, and what is in it was seen ten minutes before it was written at most.
            let lately = last.values().filter(|seen| now - **seen < 1_240).count();
            for server in 0..3 {
                let size = world.size(server, now) as usize;
                prop_assert!(size >= connected.len().max(1), "{size} of {connected:?}");
                prop_assert!(size <= lately.max(1), "{size}, and {lately} lately");
            }
        }
    }
}
