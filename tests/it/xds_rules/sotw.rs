//! The state of the world: full states, wildcards, names, warming. Rules 11 to 16, and 5.

use anyhow::{Result, ensure};
use harness::xds::{Kind, Request, Service, Stream, Variant};

use super::world::{Node, World, expect, through_doors};

/// Runs a story in the state of the world, on ADS and on the type's own service.
fn tell(kinds: &[Kind], story: impl Fn(&Node, Service, Kind) -> Result<()> + Sync) -> Result<()> {
    through_doors(&[Variant::Sotw], kinds, |node, _, service, kind| {
        story(node, service, kind)
    })
}

fn open(node: &Node, service: Service) -> Stream {
    node.stream(Variant::Sotw, service)
}

/// Rule 11: "a missing resource means deleted", to the last one.
#[test]
fn a_response_of_cds_and_lds_is_the_full_state_to_the_last_one() -> Result<()> {
    tell(&Kind::FULL_STATE, |node, service, kind| {
        node.set(&[(kind, "a", "one"), (kind, "b", "one"), (kind, "c", "one")])?;
        let mut stream = open(node, service);
        stream.subscribe(kind, &[]);
        expect("all", stream.take(kind)?.names(), vec!["a", "b", "c"])?;
        node.set(&[(kind, "b", "two")])?;
        let marks = vec!["a=one".into(), "b=two".into(), "c=one".into()];
        expect("one changed", stream.take(kind)?.marks(), marks)?;
        node.remove(&[(kind, "b")])?;
        expect("one removed", stream.take(kind)?.names(), vec!["a", "c"])?;
        node.set(&[(kind, "d", "one")])?;
        expect("one added", stream.take(kind)?.names(), vec!["a", "c", "d"])?;
        node.remove(&[(kind, "a"), (kind, "c"), (kind, "d")])?;
        expect("the last removed", stream.take(kind)?.names(), vec![])
    })
}

/// Rule 11: of named ones, all that exist.
#[test]
fn a_response_of_cds_and_lds_to_names_is_all_of_those_that_exist() -> Result<()> {
    tell(&Kind::FULL_STATE, |node, service, kind| {
        node.set(&[(kind, "a", "one"), (kind, "b", "one"), (kind, "c", "one")])?;
        let mut stream = open(node, service);
        stream.subscribe(kind, &["a", "b", "later"]);
        expect("those", stream.take(kind)?.names(), vec!["a", "b"])?;
        node.set(&[(kind, "later", "one")])?;
        expect("then", stream.take(kind)?.names(), vec!["a", "b", "later"])?;
        node.remove(&[(kind, "a")])?;
        expect("fewer", stream.take(kind)?.names(), vec!["b", "later"])?;
        node.remove(&[(kind, "b"), (kind, "later")])?;
        expect("none", stream.take(kind)?.names(), vec![])
    })
}

/// A client must not wait for ever for a server that has nothing.
#[test]
fn a_wildcard_over_nothing_is_answered_with_nothing() -> Result<()> {
    tell(&Kind::FULL_STATE, |node, service, kind| {
        let mut stream = open(node, service);
        stream.subscribe(kind, &[]);
        expect("nothing", stream.take(kind)?.names(), vec![])?;
        node.set(&[(kind, "a", "one")])?;
        expect("something", stream.take(kind)?.names(), vec!["a"])
    })
}

/// Rule 11: "a response may hold only what changed, and nothing is implied deleted".
#[test]
fn a_change_of_named_types_is_told_without_what_stayed() -> Result<()> {
    tell(&Kind::NAMED, |node, service, kind| {
        node.set(&[(kind, "a", "one"), (kind, "b", "one"), (kind, "c", "one")])?;
        let mut stream = open(node, service);
        stream.subscribe(kind, &["a", "b", "c"]);
        expect("all", stream.take(kind)?.names(), vec!["a", "b", "c"])?;
        node.set(&[(kind, "b", "two")])?;
        expect("one", stream.take(kind)?.marks(), vec!["b=two".into()])?;
        node.change(&[(kind, "c", "two")], &[(kind, "a")])?;
        expect("another", stream.take(kind)?.marks(), vec!["c=two".into()])
    })
}

/// Rule 12.
#[test]
fn an_empty_list_is_a_wildcard_for_cds_and_lds_alone() -> Result<()> {
    tell(&Kind::NAMED, |node, service, kind| {
        node.set(&[(kind, "a", "one"), (kind, "sentinel", "s")])?;
        let mut stream = open(node, service);
        stream.subscribe(kind, &[]);
        if service == Service::Ads {
            node.is_quiet(&mut stream, service)?;
        }
        stream.subscribe(kind, &["sentinel"]);
        expect("the named", stream.take(kind)?.names(), vec!["sentinel"])?;
        node.set(&[(kind, "a", "two")])?;
        node.is_quiet(&mut stream, service)
    })
}

/// Rule 12: '"*" at any time'.
#[test]
fn a_star_is_a_wildcard_at_any_time() -> Result<()> {
    tell(&Kind::FULL_STATE, |node, service, kind| {
        node.set(&[(kind, "a", "one"), (kind, "b", "one")])?;
        let mut stream = open(node, service);
        stream.subscribe(kind, &["*"]);
        expect("at first", stream.take(kind)?.names(), vec!["a", "b"])?;
        let mut stream = open(node, service);
        stream.subscribe(kind, &["a"]);
        expect("one", stream.take(kind)?.names(), vec!["a"])?;
        stream.subscribe(kind, &["*"]);
        expect("later", stream.take(kind)?.names(), vec!["a", "b"])?;
        node.set(&[(kind, "c", "one")])?;
        expect("new ones", stream.take(kind)?.names(), vec!["a", "b", "c"])
    })
}

/// Rule 12: "Once names were given, an empty list later means unsubscribe from everything".
#[test]
fn an_empty_list_after_names_wants_nothing() -> Result<()> {
    let world = World::shared()?;
    for kind in Kind::FULL_STATE {
        let node = world.node();
        node.set(&[(kind, "a", "one"), (kind, "b", "one")])?;
        let mut stream = node.ads(Variant::Sotw);
        stream.subscribe(kind, &["a"]);
        expect("named", stream.take(kind)?.names(), vec!["a"])?;
        stream.subscribe(kind, &[]);
        node.set(&[(kind, "a", "two"), (kind, "c", "one")])?;
        // An empty full state may be told; nothing else.
        stream.subscribe(Kind::Runtime, &["none", "sentinel"]);
        node.set(&[(Kind::Runtime, "sentinel", "s")])?;
        loop {
            let response = stream.next_any()?;
            stream.ack(&response);
            if response.kind == Kind::Runtime {
                break;
            }
            expect("nothing", response.names(), vec![])?;
        }
        node.is_quiet(&mut stream, Service::Ads)?;
        stream.subscribe(kind, &["b"]);
        expect("names again", stream.take(kind)?.names(), vec!["b"])?;
    }
    Ok(())
}

/// Rule 12: "going from wildcard to names and back works".
#[test]
fn from_wildcard_to_names_and_back() -> Result<()> {
    tell(&Kind::FULL_STATE, |node, service, kind| {
        node.set(&[(kind, "a", "one"), (kind, "b", "one")])?;
        let mut stream = open(node, service);
        stream.subscribe(kind, &[]);
        expect("all", stream.take(kind)?.names(), vec!["a", "b"])?;
        stream.subscribe(kind, &["*", "a"]);
        node.set(&[(kind, "b", "two")])?;
        stream.take_until("b's change under a wildcard and a name", |stream| {
            stream.has(kind)["b"].holds("mark=two") && stream.has(kind).len() == 2
        })?;
        stream.subscribe(kind, &["a"]);
        node.set(&[(kind, "a", "three"), (kind, "b", "three")])?;
        stream.take_until("a alone", |stream| {
            let has = stream.has(kind);
            has.len() == 1 && has["a"].holds("mark=three")
        })?;
        stream.subscribe(kind, &["*"]);
        stream.take_until("all again", |stream| stream.has(kind).len() == 2)?;
        Ok(())
    })
}

/// Rule 15: Envoy asks again for what a changed cluster, listener or filter needs, with the same names
/// and versions, and waits.
#[test]
fn who_asks_again_for_the_same_is_answered_again() -> Result<()> {
    tell(&Kind::NAMED, |node, service, kind| {
        node.set(&[(kind, "a", "one"), (kind, "b", "one")])?;
        let mut stream = open(node, service);
        stream.subscribe(kind, &["a", "b"]);
        let response = stream.take(kind)?;
        stream.subscribe(kind, &["a", "b"]);
        let again = stream.take(kind)?;
        expect("again", again.marks(), response.marks())
    })
}

/// Rule 3: an ACK is no question. Said twice it may be one, and is answered once; never in a loop.
#[test]
fn an_ack_said_again_and_again_is_not_answered_for_ever() -> Result<()> {
    tell(&Kind::ALL, |node, service, kind| {
        node.set(&[(kind, "a", "one"), (kind, "sentinel", "s")])?;
        let mut stream = open(node, service);
        stream.subscribe(kind, &["a", "sentinel"]);
        let mut response = stream.take(kind)?;
        if !kind.is_full_state() {
            stream.ack(&response);
            response = stream.take(kind)?;
        }
        for _ in 0..5 {
            stream.ack(&response);
        }
        let provable = service == Service::Ads || !kind.is_full_state();
        if provable {
            node.is_quiet(&mut stream, service)?;
        }
        Ok(())
    })
}

/// Rule 3: nor is a rejection taken back by the same request without an error.
#[test]
fn what_was_rejected_is_not_sent_to_who_asks_for_the_same_again() -> Result<()> {
    tell(&Kind::NAMED, |node, service, kind| {
        node.set(&[(kind, "a", "bad"), (kind, "sentinel", "s")])?;
        let mut stream = open(node, service);
        stream.subscribe(kind, &["a", "sentinel"]);
        let response = stream.next(kind)?;
        stream.nack(&response, "a is bad");
        stream.subscribe(kind, &["a", "sentinel"]);
        node.is_quiet(&mut stream, service)
    })
}

/// Rule 15: a changed cluster warms until it is told its endpoints, whether Envoy asks again or not.
#[test]
fn a_changed_cluster_is_told_its_endpoints_again() -> Result<()> {
    let world = World::shared()?;
    let node = world.node();
    let (cluster, endpoints) = (Kind::Cluster, Kind::Endpoints);
    node.set(&[(cluster, "a", "one"), (cluster, "b", "one")])?;
    node.set(&[(endpoints, "a", "one"), (endpoints, "b", "one")])?;
    let mut stream = node.ads(Variant::Sotw);
    stream.subscribe(cluster, &[]);
    stream.take(cluster)?;
    stream.subscribe(endpoints, &["a", "b"]);
    stream.take(endpoints)?;
    node.set(&[(cluster, "a", "two")])?;
    stream.take(cluster)?;
    stream.subscribe(endpoints, &["a", "b"]);
    let response = stream.take(endpoints)?;
    ensure!(response.marks().contains(&"a=one".into()), "{response:?}");
    Ok(())
}

/// Rule 5: "versions are content-derived": a client that comes back with what it would be sent is left
/// alone or told the same; one that missed something is told.
#[test]
fn who_comes_back_with_an_old_version_is_told_the_new_state() -> Result<()> {
    tell(&Kind::ALL, |node, service, kind| {
        node.set(&[(kind, "a", "one")])?;
        let mut stream = open(node, service);
        stream.subscribe(kind, &["a"]);
        let old = stream.take(kind)?;
        drop(stream);
        node.set(&[(kind, "a", "two")])?;
        let mut stream = open(node, service);
        let back = Request::of(kind).names(&["a"]).version(&old.version);
        stream.send(back.nonce(&old.nonce));
        let new = stream.next(kind)?;
        expect("new", new.marks(), vec!["a=two".into()])?;
        ensure!(
            new.version != old.version,
            "another content, version {}",
            new.version
        );
        // Back to the old content: the old version again.
        node.set(&[(kind, "a", "one")])?;
        let mut fresh = open(node, service);
        fresh.subscribe(kind, &["a"]);
        expect("version", fresh.take(kind)?.version, old.version)
    })
}

/// Rule 5: nothing is sent to a client that has it all.
#[test]
fn who_comes_back_with_the_version_in_force_is_sent_nothing() -> Result<()> {
    let world = World::shared()?;
    for kind in Kind::ALL {
        let node = world.node();
        node.set(&[(kind, "a", "one"), (kind, "b", "one")])?;
        let mut stream = node.ads(Variant::Sotw);
        stream.subscribe(kind, &["a", "b"]);
        let old = stream.take(kind)?;
        let mut stream = node.ads(Variant::Sotw);
        let back = Request::of(kind).names(&["a", "b"]).version(&old.version);
        stream.send(back);
        node.is_quiet(&mut stream, Service::Ads)?;
        node.set(&[(kind, "a", "two")])?;
        let response = stream.take(kind)?;
        ensure!(response.marks().contains(&"a=two".into()), "{response:?}");
    }
    Ok(())
}
