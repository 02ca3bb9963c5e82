//! What holds for every type, in both variants: nonces, nodes, types, ACK and NACK, streams beside each
//! other.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use harness::xds::{Kind, Request, Service, Variant};
use tonic::Code;

use super::world::{World, expect, on_ads, through_every_door};

/// Rule 1. That a nonce is fresh, every resource of the response's type, and none there twice, a stream
/// of the harness checks of every response of every test; here all types take part.
#[test]
fn every_response_has_a_fresh_nonce_and_resources_of_its_type() -> Result<()> {
    on_ads(|node, variant| {
        let all = |mark| Kind::ALL.map(|kind| (kind, "a", mark));
        node.set(&all("one"))?;
        let mut stream = node.ads(variant);
        let mut nonces = BTreeSet::new();
        for kind in Kind::ALL {
            stream.subscribe(kind, &["a"]);
            let response = stream.take(kind)?;
            expect("resources", response.marks(), vec!["a=one".into()])?;
            nonces.insert(response.nonce);
        }
        node.set(&all("two"))?;
        for _ in 0..Kind::ALL.len() {
            let response = stream.next_any()?;
            expect("resources", response.marks(), vec!["a=two".into()])?;
            stream.ack(&response);
            nonces.insert(response.nonce);
        }
        expect("nonces", nonces.len(), 2 * Kind::ALL.len())
    })
}

/// Rule 2: "Only the first request on a stream is guaranteed to carry the node identifier."
#[test]
fn the_node_is_that_of_the_first_message() -> Result<()> {
    on_ads(|node, variant| {
        node.set(&[(Kind::Cluster, "a", "mine"), (Kind::Endpoints, "a", "mine")])?;
        let other = node.world.node();
        other.set(&[(Kind::Endpoints, "a", "others")])?;
        let mut stream = node.ads(variant);
        stream.subscribe(Kind::Cluster, &[]);
        expect(
            "clusters",
            stream.take(Kind::Cluster)?.marks(),
            vec!["a=mine".into()],
        )?;
        // Another node's name later on gives nobody what is not theirs.
        stream.send_plain(Request::of(Kind::Endpoints).names(&["a"]).node(&other.id));
        expect(
            "endpoints",
            stream.take(Kind::Endpoints)?.marks(),
            vec!["a=mine".into()],
        )
    })
}

/// Rule 2: types come and go between versions of Envoy.
#[test]
fn a_type_that_the_server_does_not_know_disturbs_nothing_on_ads() -> Result<()> {
    on_ads(|node, variant| {
        node.set(&[(Kind::Cluster, "a", "one")])?;
        let mut stream = node.ads(variant);
        let unknown = "type.googleapis.com/envoy.config.nothing.v3.Nothing";
        stream.send(Request::of_url(unknown).names(&["a"]));
        stream.send(Request::of_url("no url at all"));
        stream.subscribe(Kind::Cluster, &[]);
        expect(
            "clusters",
            stream.take(Kind::Cluster)?.marks(),
            vec!["a=one".into()],
        )?;
        stream.send(Request::of_url(unknown).names(&["b"]).nonce("7"));
        node.is_quiet(&mut stream, Service::Ads)
    })
}

/// Rule 2: on ADS a request without a type says nothing.
#[test]
fn a_request_without_a_type_ends_an_ads_stream() -> Result<()> {
    on_ads(|node, variant| {
        for is_first in [true, false] {
            let mut stream = node.ads(variant);
            if !is_first {
                stream.subscribe(Kind::Cluster, &[]);
            }
            stream.send(Request::of_url(""));
            let end = stream.ended()?;
            expect("code", end.code, Code::InvalidArgument)?;
            ensure!(end.message.contains("type_url"), "{end:?}");
        }
        Ok(())
    })
}

/// Rule 2: "type_url … is implicit in requests made via singleton xDS APIs".
#[test]
fn a_service_of_one_type_serves_only_that_type() -> Result<()> {
    let world = World::shared()?;
    for kind in Kind::ALL {
        for variant in Variant::BOTH {
            let node = world.node();
            node.set(&[(kind, "a", "one"), (other(kind), "a", "other")])?;
            let mut stream = node.stream(variant, Service::Only(kind));
            stream.send(Request::of_url("").names(&["a"]));
            expect(
                "without a type",
                stream.take(kind)?.marks(),
                vec!["a=one".into()],
            )?;
            stream.send(Request::of(other(kind)).names(&["a"]));
            expect("code", stream.ended()?.code, Code::InvalidArgument)?;
        }
    }
    Ok(())
}

fn other(kind: Kind) -> Kind {
    match kind {
        Kind::Cluster => Kind::Listener,
        _ => Kind::Cluster,
    }
}

/// Rule 3: a rejected version is recorded and never sent again; a good later one is.
#[test]
fn a_rejected_version_is_recorded_and_not_sent_again_but_the_next_one_is() -> Result<()> {
    through_every_door(&Kind::ALL, |node, variant, service, kind| {
        // On its own service a type with a full state has no other resource to prove silence with.
        let provable = service == Service::Ads || !kind.is_full_state();
        node.set(&[(kind, "a", "good"), (kind, "sentinel", "s")])?;
        let mut stream = node.stream(variant, service);
        stream.subscribe(kind, &["a", "sentinel"]);
        stream.take(kind)?;
        node.set(&[(kind, "a", "bad")])?;
        let response = stream.next(kind)?;
        stream.nack(&response, "it is bad, says the client");
        node.wait_type(kind, "the rejection", |found| {
            found["state"] == "REJECTED"
                && found["nack"]["message"] == "it is bad, says the client"
                && found["nack"]["version"] == response.version.as_str()
        })?;
        if provable {
            node.is_quiet(&mut stream, service)?;
        }
        // The same content once more is no news either.
        node.set(&[(kind, "a", "bad")])?;
        if provable {
            node.is_quiet(&mut stream, service)?;
        }
        node.set(&[(kind, "a", "better")])?;
        let response = stream.take(kind)?;
        ensure!(
            response.marks().contains(&"a=better".into()),
            "{response:?}"
        );
        node.wait_type(kind, "it to be in step again", |found| {
            found["state"] == "SYNCED" && found["nack"].is_null()
        })
    })
}

/// Rule 3: a client that says it twice is not told again.
#[test]
fn a_rejection_said_twice_brings_nothing_back() -> Result<()> {
    let world = World::shared()?;
    for kind in Kind::ALL {
        for variant in Variant::BOTH {
            let node = world.node();
            node.set(&[(kind, "a", "good")])?;
            let mut stream = node.ads(variant);
            stream.subscribe(kind, &["a"]);
            stream.take(kind)?;
            node.set(&[(kind, "a", "bad")])?;
            let response = stream.next(kind)?;
            for _ in 0..3 {
                stream.nack(&response, "bad");
            }
            node.is_quiet(&mut stream, Service::Ads)?;
        }
    }
    Ok(())
}

/// Rule 3: "a NACK of one type does not disturb others".
#[test]
fn a_rejection_of_one_type_holds_no_other_up() -> Result<()> {
    on_ads(|node, variant| {
        let (a, b) = ((Kind::Cluster, "a", "one"), (Kind::Endpoints, "a", "one"));
        node.set(&[a, b, (Kind::Secret, "s", "one")])?;
        let mut stream = node.ads(variant);
        stream.subscribe(Kind::Cluster, &[]);
        stream.take(Kind::Cluster)?;
        stream.subscribe(Kind::Endpoints, &["a"]);
        stream.take(Kind::Endpoints)?;
        stream.subscribe(Kind::Secret, &["s"]);
        stream.take(Kind::Secret)?;
        node.set(&[(Kind::Secret, "s", "bad")])?;
        let response = stream.next(Kind::Secret)?;
        stream.nack(&response, "bad");
        node.set(&[(Kind::Endpoints, "a", "two")])?;
        expect(
            "endpoints",
            stream.take(Kind::Endpoints)?.marks(),
            vec!["a=two".into()],
        )?;
        node.set(&[(Kind::Cluster, "a", "two")])?;
        expect(
            "clusters",
            stream.take(Kind::Cluster)?.marks(),
            vec!["a=two".into()],
        )
    })
}

/// Rule 3: the first response may be the bad one.
#[test]
fn a_rejected_first_response_is_mended_by_the_next_version() -> Result<()> {
    through_every_door(&Kind::ALL, |node, variant, service, kind| {
        node.set(&[(kind, "a", "bad")])?;
        let mut stream = node.stream(variant, service);
        stream.subscribe(kind, &["a"]);
        let response = stream.next(kind)?;
        stream.nack(&response, "bad");
        node.wait_type(kind, "the rejection", |found| found["state"] == "REJECTED")?;
        node.set(&[(kind, "a", "good")])?;
        expect("then", stream.take(kind)?.marks(), vec!["a=good".into()])?;
        node.wait_type(kind, "what was rejected once", |found| {
            found["nack"].is_null() && found["last_nack"]["message"] == "bad"
        })
    })
}

/// Rule 3: what answers an older response is no answer to the newest.
#[test]
fn an_answer_to_an_older_response_means_nothing() -> Result<()> {
    through_every_door(&Kind::ALL, |node, variant, service, kind| {
        node.set(&[(kind, "a", "one")])?;
        let mut stream = node.stream(variant, service);
        stream.subscribe(kind, &["a"]);
        let first = stream.take(kind)?;
        node.set(&[(kind, "a", "two")])?;
        let second = stream.next(kind)?;
        stream.nack(&first, "too late");
        stream.send(Request::of(kind).names(&["a"]).nonce(&first.nonce));
        if service == Service::Ads && variant == Variant::Sotw {
            node.is_quiet(&mut stream, service)?;
        } else if variant == Variant::Delta {
            // In delta its names still count, and a name said again is told again.
            expect("again", stream.next(kind)?.marks(), vec!["a=two".into()])?;
            return Ok(());
        }
        node.wait_type(kind, "an open answer", |found| {
            found["state"] == "STALE" && found["nack"].is_null()
        })?;
        stream.ack(&second);
        node.wait_type(kind, "the answer", |found| found["state"] == "SYNCED")
    })
}

/// Rule 3: in the state of the world, names in a stale request are overtaken by a newer one's.
#[test]
fn a_stale_request_changes_no_subscription_in_the_state_of_the_world() -> Result<()> {
    let world = World::shared()?;
    for kind in Kind::ALL {
        let node = world.node();
        node.set(&[(kind, "a", "one"), (kind, "b", "one")])?;
        let mut stream = node.ads(Variant::Sotw);
        stream.subscribe(kind, &["a"]);
        let first = stream.take(kind)?;
        node.set(&[(kind, "a", "two")])?;
        let second = stream.next(kind)?;
        stream.send(Request::of(kind).names(&["a", "b"]).nonce(&first.nonce));
        node.is_quiet(&mut stream, Service::Ads)?;
        stream.send(Request::of(kind).names(&["a", "b"]).nonce(&second.nonce));
        let response = stream.next(kind)?;
        ensure!(response.marks().contains(&"b=one".into()), "{response:?}");
    }
    Ok(())
}

/// Rule 3, delta: "its subscription changes still count".
#[test]
fn a_stale_request_still_subscribes_in_delta() -> Result<()> {
    let world = World::shared()?;
    for kind in Kind::ALL {
        let node = world.node();
        node.set(&[(kind, "a", "one"), (kind, "b", "one"), (kind, "c", "one")])?;
        let mut stream = node.ads(Variant::Delta);
        stream.send(Request::of(kind).names(&["a", "c"]));
        let first = stream.take(kind)?;
        node.set(&[(kind, "a", "two")])?;
        stream.next(kind)?;
        let stale = Request::of(kind).nonce(&first.nonce);
        stream.send(stale.names(&["b"]).unsubscribe(&["c"]));
        expect("b", stream.take(kind)?.marks(), vec!["b=one".into()])?;
        node.set(&[(kind, "c", "two")])?;
        node.is_quiet(&mut stream, Service::Ads)?;
    }
    Ok(())
}

/// Rule 4: a nonce of another type or stream proves nothing.
#[test]
fn a_nonce_of_another_type_or_stream_is_no_answer() -> Result<()> {
    on_ads(|node, variant| {
        node.set(&[(Kind::Cluster, "a", "one"), (Kind::Endpoints, "a", "one")])?;
        let mut stream = node.ads(variant);
        stream.subscribe(Kind::Cluster, &["a"]);
        let cluster = stream.next(Kind::Cluster)?;
        stream.subscribe(Kind::Endpoints, &["a"]);
        let endpoints = stream.take(Kind::Endpoints)?;
        let twin = node.world.node();
        twin.set(&[(Kind::Cluster, "a", "one")])?;
        let mut other = twin.ads(variant);
        other.subscribe(Kind::Cluster, &["a"]);
        let foreign = other.next(Kind::Cluster)?;
        ensure!(foreign.nonce != cluster.nonce, "streams share nonces");
        for nonce in [&*endpoints.nonce, &*foreign.nonce, "nonsense", "1", "0.1"] {
            let names: &[&str] = if variant == Variant::Sotw {
                &["a"]
            } else {
                &[]
            };
            let answer = Request::of(Kind::Cluster).names(names).nonce(nonce);
            stream.send(answer.clone());
            stream.send(answer.error("not for this"));
        }
        node.is_quiet(&mut stream, Service::Ads)?;
        node.wait_type(Kind::Cluster, "an open answer", |found| {
            found["state"] == "STALE" && found["nack"].is_null()
        })
    })
}
