//! The incremental variant. Rules 17 to 22, and 5.

use anyhow::{Result, ensure};
use harness::xds::{Connection, Kind, Request, Response, Service, Stream, Variant};

use super::world::{Node, World, expect, through_doors};

/// Runs a story in delta, on ADS and on the type's own service.
fn tell(kinds: &[Kind], story: impl Fn(&Node, Service, Kind) -> Result<()> + Sync) -> Result<()> {
    through_doors(&[Variant::Delta], kinds, |node, _, service, kind| {
        story(node, service, kind)
    })
}

fn open(node: &Node, service: Service) -> Stream {
    node.stream(Variant::Delta, service)
}

fn told(response: &Response) -> (Vec<String>, Vec<&str>) {
    (response.marks(), response.removed())
}

/// Rule 17.
#[test]
fn only_changes_are_sent_each_with_its_version_and_removals_by_name() -> Result<()> {
    tell(&Kind::ALL, |node, service, kind| {
        node.set(&[(kind, "a", "one"), (kind, "b", "one"), (kind, "c", "one")])?;
        let mut stream = open(node, service);
        stream.subscribe(kind, &["a", "b", "c"]);
        let first = stream.take(kind)?;
        expect("all", first.names(), vec!["a", "b", "c"])?;
        node.change(&[(kind, "a", "two")], &[(kind, "c")])?;
        stream.take_until("change and removal", |stream| {
            let has = stream.has(kind);
            has.len() == 2 && has["a"].holds("mark=two")
        })?;
        let has = stream.has(kind);
        ensure!(
            has["a"].version != first.resources["a"].version,
            "one version, two contents"
        );
        ensure!(
            has["b"].version == first.resources["b"].version,
            "two versions, one content"
        );
        node.set(&[(kind, "c", "one")])?;
        let again = stream.take(kind)?;
        expect("made again", told(&again), (vec!["c=one".into()], vec![]))?;
        ensure!(
            again.resources["c"].version == first.resources["c"].version,
            "equal content, another version"
        );
        node.remove(&[(kind, "a"), (kind, "b"), (kind, "c")])?;
        stream.take_until("the last removals", |stream| stream.has(kind).is_empty())?;
        Ok(())
    })
}

/// Rule 18.
#[test]
fn an_empty_first_request_is_a_wildcard_for_cds_and_lds() -> Result<()> {
    tell(&Kind::FULL_STATE, |node, service, kind| {
        let mut stream = open(node, service);
        stream.subscribe(kind, &[]);
        // A wildcard over nothing is answered, so that nobody waits.
        expect("nothing", told(&stream.take(kind)?), (vec![], vec![]))?;
        node.set(&[(kind, "a", "one"), (kind, "b", "one")])?;
        expect("both", stream.take(kind)?.names(), vec!["a", "b"])?;
        node.remove(&[(kind, "a")])?;
        expect("gone", told(&stream.take(kind)?), (vec![], vec!["a"]))
    })
}

/// Rule 18.
#[test]
fn an_empty_first_request_wants_nothing_of_other_types() -> Result<()> {
    let world = World::shared()?;
    for kind in Kind::NAMED {
        let node = world.node();
        node.set(&[(kind, "a", "one")])?;
        let mut stream = node.ads(Variant::Delta);
        stream.subscribe(kind, &[]);
        node.is_quiet(&mut stream, Service::Ads)?;
        stream.subscribe(kind, &["a"]);
        let named = stream.take(kind)?;
        expect("named", named.marks(), vec!["a=one".into()])?;
    }
    Ok(())
}

/// Rule 18: '"*" is wildcard', with names beside it; 'unsubscribing "*" leaves the explicitly named'.
#[test]
fn a_star_comes_and_goes_beside_names() -> Result<()> {
    tell(&Kind::FULL_STATE, |node, service, kind| {
        node.set(&[
            (kind, "a", "one"),
            (kind, "b", "one"),
            (kind, "sentinel", "s"),
        ])?;
        let mut stream = open(node, service);
        stream.send(Request::of(kind).names(&["a", "sentinel"]));
        expect("named", stream.take(kind)?.names(), vec!["a", "sentinel"])?;
        stream.send(Request::of(kind).names(&["*"]));
        stream.take_until("all", |stream| stream.has(kind).len() == 3)?;
        node.set(&[(kind, "c", "one")])?;
        expect("new ones", stream.take(kind)?.marks(), vec!["c=one".into()])?;
        stream.send(Request::of(kind).unsubscribe(&["*"]));
        // Whether the client is told what it lost is open; it must not be told of changes.
        node.set(&[(kind, "b", "two"), (kind, "c", "two"), (kind, "a", "two")])?;
        let told = stream.take_until("a's change", |stream| {
            stream
                .has(kind)
                .get("a")
                .is_some_and(|a| a.holds("mark=two"))
        })?;
        for response in told {
            let others = response
                .names()
                .into_iter()
                .any(|name| name == "b" || name == "c");
            ensure!(!others, "{response:?}");
        }
        node.is_quiet(&mut stream, service)
    })
}

/// Rule 18: the wildcard by an empty first request is left by "*" as well.
#[test]
fn an_implicit_wildcard_is_left_by_unsubscribing_the_star() -> Result<()> {
    let world = World::shared()?;
    for kind in Kind::FULL_STATE {
        let node = world.node();
        node.set(&[(kind, "a", "one"), (kind, "b", "one")])?;
        let mut stream = node.ads(Variant::Delta);
        stream.send(Request::of(kind));
        expect("all", stream.take(kind)?.names(), vec!["a", "b"])?;
        stream.send(Request::of(kind).names(&["a"]).unsubscribe(&["*"]));
        node.set(&[(kind, "a", "two"), (kind, "b", "two")])?;
        let told = stream.take_until("a's change", |stream| {
            stream.has(kind)["a"].holds("mark=two")
        })?;
        ensure!(
            told.iter().all(|told| !told.names().contains(&"b")),
            "{told:?}"
        );
        node.is_quiet(&mut stream, Service::Ads)?;
    }
    Ok(())
}

/// Rule 18: "unsubscribing a name while wildcard stays keeps it, and the protocol wants it sent again".
#[test]
fn a_name_given_up_under_a_wildcard_stays_and_is_sent_again() -> Result<()> {
    tell(&Kind::FULL_STATE, |node, service, kind| {
        node.set(&[(kind, "a", "one"), (kind, "b", "one")])?;
        let mut stream = open(node, service);
        stream.send(Request::of(kind).names(&["*", "a"]));
        expect("all", stream.take(kind)?.names(), vec!["a", "b"])?;
        stream.send(Request::of(kind).unsubscribe(&["a"]));
        let again = stream.take(kind)?;
        expect("again", told(&again), (vec!["a=one".into()], vec![]))?;
        node.set(&[(kind, "a", "two")])?;
        expect("stays", stream.take(kind)?.marks(), vec!["a=two".into()])
    })
}

/// Rule 18: "A subscribe and an unsubscribe of one name in one message, names never subscribed, and
/// duplicates are handled."
#[test]
fn odd_changes_of_a_subscription_are_handled() -> Result<()> {
    tell(&Kind::NAMED, |node, service, kind| {
        node.set(&[
            (kind, "a", "one"),
            (kind, "b", "one"),
            (kind, "sentinel", "s"),
        ])?;
        let mut stream = open(node, service);
        stream.send(Request::of(kind).names(&["a", "a", "sentinel"]));
        expect("once", stream.take(kind)?.names(), vec!["a", "sentinel"])?;
        stream.send(Request::of(kind).unsubscribe(&["never", "never", "neither"]));
        node.is_quiet(&mut stream, service)?;
        // In either order; what follows must agree with what was told.
        stream.send(Request::of(kind).names(&["b"]).unsubscribe(&["b"]));
        stream.send(Request::of(kind).names(&["a"]));
        let mut got_b = false;
        loop {
            let response = stream.take(kind)?;
            got_b |= response.names().contains(&"b");
            if response.names().contains(&"a") {
                break;
            }
        }
        node.set(&[(kind, "b", "two"), (kind, "a", "two")])?;
        let response = stream.take(kind)?;
        let told_b = response.marks().contains(&"b=two".into());
        ensure!(told_b == got_b, "b was told: {got_b}, its change: {told_b}");
        Ok(())
    })
}

/// Rule 19: "only differences are sent, and what vanished meanwhile comes as removed_resources".
#[test]
fn who_comes_back_is_told_the_differences_alone() -> Result<()> {
    tell(&Kind::ALL, |node, service, kind| {
        let names = ["changed", "same", "vanished"];
        node.set(&names.map(|name| (kind, name, "one")))?;
        let mut stream = open(node, service);
        stream.subscribe(kind, &names);
        let before = stream.take(kind)?;
        drop(stream);
        node.change(&[(kind, "changed", "two")], &[(kind, "vanished")])?;
        let versions = before.resources.values();
        let known: Vec<_> = versions.map(|one| (&*one.name, &*one.version)).collect();
        let mut stream = open(node, service);
        stream.send(Request::of(kind).names(&names).known(&known));
        let response = stream.take(kind)?;
        let expected = (vec!["changed=two".into()], vec!["vanished"]);
        expect("differences", told(&response), expected)
    })
}

/// Rule 19, under a wildcard.
#[test]
fn who_comes_back_with_a_wildcard_is_told_the_differences_alone() -> Result<()> {
    tell(&Kind::FULL_STATE, |node, service, kind| {
        for first in [&[][..], &["*"]] {
            node.set(&["changed", "same", "vanished"].map(|name| (kind, name, "one")))?;
            node.remove(&[(kind, "new")])?;
            let mut stream = open(node, service);
            stream.subscribe(kind, first);
            let before = stream.take(kind)?;
            drop(stream);
            node.change(
                &[(kind, "changed", "two"), (kind, "new", "one")],
                &[(kind, "vanished")],
            )?;
            let versions = before.resources.values();
            let known: Vec<_> = versions.map(|one| (&*one.name, &*one.version)).collect();
            let mut stream = open(node, service);
            stream.send(Request::of(kind).names(first).known(&known));
            let response = stream.take(kind)?;
            let expected = vec!["changed=two".into(), "new=one".into()];
            expect("differences", told(&response), (expected, vec!["vanished"]))?;
        }
        Ok(())
    })
}

/// Rule 19: "nothing changed -> an empty first response for a wildcard, or silence, but no resend".
#[test]
fn who_comes_back_and_missed_nothing_is_sent_no_resource() -> Result<()> {
    let world = World::shared()?;
    for kind in Kind::ALL {
        let node = world.node();
        node.set(&[(kind, "a", "one"), (kind, "b", "one")])?;
        let mut stream = node.ads(Variant::Delta);
        stream.subscribe(kind, &["a", "b"]);
        let before = stream.take(kind)?;
        let versions = before.resources.values();
        let known: Vec<_> = versions.map(|one| (&*one.name, &*one.version)).collect();
        for names in [&["a", "b"][..], &["*"]] {
            if names == ["*"] && !kind.is_full_state() {
                continue;
            }
            let mut stream = node.ads(Variant::Delta);
            stream.send(Request::of(kind).names(names).known(&known));
            stream.subscribe(Kind::Secret, &["none"]);
            loop {
                let response = stream.next_any()?;
                stream.ack(&response);
                if response.kind == Kind::Secret && response.removed() == ["none"] {
                    break;
                }
                expect("resources", told(&response), (vec![], vec![]))?;
            }
            node.is_quiet(&mut stream, Service::Ads)?;
        }
    }
    Ok(())
}

/// Rule 19: "It counts only in the first message of a type."
#[test]
fn known_versions_count_only_in_the_first_message_of_a_type() -> Result<()> {
    tell(&Kind::ALL, |node, service, kind| {
        node.set(&[(kind, "a", "one"), (kind, "b", "one")])?;
        let mut stream = open(node, service);
        stream.send(Request::of(kind).names(&["a", "b"]));
        let before = stream.take(kind)?;
        let version = &*before.resources["b"].version;
        let mut stream = open(node, service);
        stream.send(Request::of(kind).names(&["a"]));
        expect("a", stream.take(kind)?.names(), vec!["a"])?;
        stream.send(Request::of(kind).names(&["b"]).known(&[("b", version)]));
        expect("b", stream.take(kind)?.marks(), vec!["b=one".into()])
    })
}

/// Rule 20: "A subscribed name that does not exist is answered with removed_resources naming it".
#[test]
fn a_name_that_does_not_exist_is_answered_at_once() -> Result<()> {
    tell(&Kind::ALL, |node, service, kind| {
        node.set(&[(kind, "a", "one"), (kind, "sentinel", "s")])?;
        let mut stream = open(node, service);
        stream.subscribe(kind, &["a", "none", "sentinel"]);
        let first = stream.take(kind)?;
        expect("there", first.names(), vec!["a", "sentinel"])?;
        expect("not there", first.removed(), vec!["none"])?;
        // Once is enough.
        node.is_quiet(&mut stream, service)?;
        // Asked again, it is answered again.
        stream.send(Request::of(kind).names(&["none"]));
        expect("again", told(&stream.take(kind)?), (vec![], vec!["none"]))
    })
}

/// Rule 21.
#[test]
fn who_subscribes_again_gets_it_again() -> Result<()> {
    tell(&Kind::ALL, |node, service, kind| {
        node.set(&[(kind, "a", "one"), (kind, "b", "one")])?;
        let mut stream = open(node, service);
        stream.send(Request::of(kind).names(&["a", "b"]));
        stream.take(kind)?;
        stream.send(Request::of(kind).names(&["a"]));
        expect(
            "again",
            told(&stream.take(kind)?),
            (vec!["a=one".into()], vec![]),
        )
    })
}

/// A subscription may come with the answer to a response.
#[test]
fn an_answer_may_subscribe_as_well() -> Result<()> {
    tell(&Kind::ALL, |node, service, kind| {
        node.set(&[(kind, "a", "one"), (kind, "b", "one")])?;
        let mut stream = open(node, service);
        stream.send(Request::of(kind).names(&["a"]));
        let first = stream.next(kind)?;
        stream.send(Request::of(kind).names(&["b"]).nonce(&first.nonce));
        expect("b", stream.take(kind)?.marks(), vec!["b=one".into()])?;
        node.set(&[(kind, "a", "two")])?;
        let second = stream.next(kind)?;
        let answer = Request::of(kind).names(&["c"]).nonce(&second.nonce);
        stream.send(answer.error("bad, and c please"));
        expect("c", told(&stream.take(kind)?), (vec![], vec!["c"]))
    })
}

/// Rule 22: "A slow delta client gets the newest version of a resource, not every one between."
#[test]
fn a_slow_client_gets_the_newest_and_not_every_one_between() -> Result<()> {
    const CHANGES: usize = 30;
    let world = World::shared()?;
    let node = world.node();
    let kind = Kind::Endpoints;
    // Larger than what HTTP/2 lets a server send ahead.
    let mark = |number: usize| format!("{number}-{}", "x".repeat(200_000));
    node.set(&[(kind, "a", &mark(0))])?;
    let small = Connection::open_with(world.server.xds, Connection::small_windows)?;
    let mut stream = Stream::open(&small, Variant::Delta, Service::Ads, &node.id);
    stream.subscribe(kind, &["a"]);
    stream.take(kind)?;
    stream.stop_reading();
    for number in 1..=CHANGES {
        node.set(&[(kind, "a", &mark(number))])?;
    }
    stream.read_again();
    let last = format!("mark={CHANGES}-");
    let told = stream.take_until("the newest", |stream| stream.has(kind)["a"].holds(&last))?;
    ensure!(
        told.len() < CHANGES / 3,
        "{} of {CHANGES} states",
        told.len()
    );
    Ok(())
}
