//! What a client is told of what it wants, alike in both variants: what is not there yet, what it wants
//! again, what did not change, bursts.

use anyhow::{Result, ensure};
use harness::xds::{Kind, Request, Service, Variant};

use super::world::{World, expect, on_ads, through_every_door};

/// Rule 6: "sent as soon as it exists".
#[test]
fn what_does_not_exist_yet_is_sent_as_soon_as_it_does() -> Result<()> {
    through_every_door(&Kind::ALL, |node, variant, service, kind| {
        let mut stream = node.stream(variant, service);
        stream.subscribe(kind, &["later"]);
        if variant == Variant::Delta {
            // Rule 20: the client is told that there is none, and need not wait.
            let response = stream.take(kind)?;
            expect("absent", response.removed(), vec!["later"])?;
        } else if kind.is_full_state() {
            expect("nothing", stream.take(kind)?.names(), vec![])?;
        }
        node.set(&[(kind, "later", "one")])?;
        expect(
            "created",
            stream.take(kind)?.marks(),
            vec!["later=one".into()],
        )
    })
}

/// Rule 6: "A resource subscribed again after an unsubscribe is sent again, even if unchanged."
#[test]
fn what_is_wanted_again_is_sent_again() -> Result<()> {
    through_every_door(&Kind::ALL, |node, variant, service, kind| {
        node.set(&[(kind, "a", "one"), (kind, "b", "one")])?;
        let mut stream = node.stream(variant, service);
        stream.subscribe(kind, &["a", "b"]);
        expect("both", stream.take(kind)?.names(), vec!["a", "b"])?;
        stream.subscribe(kind, &["b"]);
        stream.subscribe(kind, &["a", "b"]);
        let mut response = stream.take(kind)?;
        if variant == Variant::Sotw && kind.is_full_state() && response.names() == ["b"] {
            // The smaller state may be told in between.
            response = stream.take(kind)?;
        }
        ensure!(response.marks().contains(&"a=one".into()), "{response:?}");
        Ok(())
    })
}

/// Rule 13, and in delta rule 18: what is not wanted any more is not sent.
#[test]
fn what_is_not_wanted_any_more_is_not_sent() -> Result<()> {
    through_every_door(&Kind::NAMED, |node, variant, service, kind| {
        node.set(&[
            (kind, "a", "one"),
            (kind, "b", "one"),
            (kind, "sentinel", "s"),
        ])?;
        let mut stream = node.stream(variant, service);
        stream.subscribe(kind, &["a", "b", "sentinel"]);
        stream.take(kind)?;
        stream.subscribe(kind, &["a", "sentinel"]);
        // The next answer proves that the request was taken.
        node.is_quiet(&mut stream, service)?;
        node.set(&[(kind, "b", "two")])?;
        node.is_quiet(&mut stream, service)?;
        node.set(&[(kind, "a", "two"), (kind, "b", "three")])?;
        expect("a alone", stream.take(kind)?.marks(), vec!["a=two".into()])
    })
}

/// Rule 13: "newly named resources are sent though no version changed".
#[test]
fn a_name_more_is_sent_though_nothing_changed() -> Result<()> {
    through_every_door(&Kind::ALL, |node, variant, service, kind| {
        node.set(&[(kind, "a", "one"), (kind, "b", "one")])?;
        let mut stream = node.stream(variant, service);
        stream.subscribe(kind, &["a"]);
        expect("first", stream.take(kind)?.names(), vec!["a"])?;
        stream.subscribe(kind, &["a", "b"]);
        let response = stream.take(kind)?;
        ensure!(response.marks().contains(&"b=one".into()), "{response:?}");
        let has: Vec<String> = stream.has(kind).into_keys().collect();
        expect("has", has, vec!["a".into(), "b".into()])
    })
}

/// Rule 7: "Unchanged content is not pushed".
#[test]
fn the_same_content_applied_again_is_not_pushed() -> Result<()> {
    on_ads(|node, variant| {
        let all = Kind::ALL.map(|kind| (kind, "a", "one"));
        node.set(&all)?;
        let mut stream = node.ads(variant);
        for kind in Kind::ALL {
            stream.subscribe(kind, &["a"]);
            stream.take(kind)?;
        }
        node.set(&all)?;
        for one in all {
            node.set(&[one])?;
        }
        node.is_quiet(&mut stream, Service::Ads)
    })
}

/// Rule 7: what changes for others, or what nobody here wants, is no news.
#[test]
fn what_others_are_sent_is_not_pushed_here() -> Result<()> {
    on_ads(|node, variant| {
        node.set(&Kind::ALL.map(|kind| (kind, "a", "one")))?;
        let mut stream = node.ads(variant);
        for kind in Kind::ALL {
            stream.subscribe(kind, &["a"]);
            stream.take(kind)?;
        }
        let other = node.world.node();
        other.set(&Kind::ALL.map(|kind| (kind, "a", "others")))?;
        node.set(&Kind::ALL.map(|kind| (kind, "unwanted", "one")))?;
        node.is_quiet(&mut stream, Service::Ads)?;
        node.remove(&Kind::ALL.map(|kind| (kind, "unwanted")))?;
        node.is_quiet(&mut stream, Service::Ads)
    })
}

/// Rule 8: a burst coalesces, the final state arrives, and what changes together is seen together.
#[test]
fn a_burst_ends_in_the_final_state_and_no_transaction_is_seen_in_halves() -> Result<()> {
    const CHANGES: usize = 100;
    through_every_door(
        &[Kind::Cluster, Kind::Endpoints],
        |node, variant, service, kind| {
            node.set(&[(kind, "a", "m0"), (kind, "b", "m0")])?;
            let mut stream = node.stream(variant, service);
            stream.subscribe(kind, &["a", "b"]);
            stream.take(kind)?;
            for number in 1..=CHANGES {
                let mark = format!("m{number}");
                node.set(&[(kind, "a", &mark), (kind, "b", &mark)])?;
            }
            let last = format!("mark=m{CHANGES}");
            let mut responses = 0;
            loop {
                let response = stream.take(kind)?;
                responses += 1;
                let marks = response.marks();
                let is_whole = marks.len() == 2 && marks[0][2..] == marks[1][2..];
                ensure!(is_whole, "half a transaction: {marks:?}");
                if response.resources["a"].holds(&last) {
                    break;
                }
            }
            ensure!(responses <= CHANGES, "{responses} responses");
            Ok(())
        },
    )
}

/// Rule 14: "Two requests in a row before the first answer: the second's names are honoured."
#[test]
fn two_requests_before_the_first_answer_are_both_heard() -> Result<()> {
    let world = World::shared()?;
    for kind in Kind::ALL {
        for service in [Service::Ads, Service::Only(kind)] {
            let node = world.node();
            node.set(&[(kind, "a", "one"), (kind, "b", "one")])?;
            let mut stream = node.stream(Variant::Sotw, service);
            stream.send(Request::of(kind).names(&["a"]));
            stream.send(Request::of(kind).names(&["b"]));
            stream.subscribe(kind, &["b"]);
            stream.take_until("b", |stream| stream.has(kind).contains_key("b"))?;
            node.set(&[(kind, "b", "two")])?;
            let is_new = |resource: &harness::xds::Resource| resource.holds("mark=two");
            stream.take_until("b's change", |stream| {
                stream.has(kind).get("b").is_some_and(is_new)
            })?;
        }
    }
    Ok(())
}

/// A removal and what is made anew are both told.
#[test]
fn what_is_removed_and_made_again_is_sent_again() -> Result<()> {
    through_every_door(&Kind::ALL, |node, variant, service, kind| {
        node.set(&[(kind, "a", "one"), (kind, "b", "one")])?;
        let mut stream = node.stream(variant, service);
        stream.subscribe(kind, &["a", "b"]);
        stream.take(kind)?;
        node.remove(&[(kind, "a")])?;
        if variant == Variant::Delta {
            let response = stream.take(kind)?;
            expect("removed", response.removed(), vec!["a"])?;
            expect("nothing else", response.names(), vec![])?;
        } else if kind.is_full_state() {
            expect("without it", stream.take(kind)?.names(), vec!["b"])?;
        } else {
            // Nothing can be said; that the server knows of the removal is seen by b's change.
            node.set(&[(kind, "b", "two")])?;
            expect("b alone", stream.take(kind)?.marks(), vec!["b=two".into()])?;
        }
        node.set(&[(kind, "a", "one")])?;
        let response = stream.take(kind)?;
        ensure!(response.marks().contains(&"a=one".into()), "{response:?}");
        Ok(())
    })
}
