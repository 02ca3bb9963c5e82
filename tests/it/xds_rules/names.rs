//! Names and wildcards beyond the usual: "*" of every type, odd names, doubled ones, odd first requests.

use anyhow::{Result, ensure};
use harness::xds::{Kind, Request, Service, Variant};

use super::world::{expect, on_ads, through_doors, through_every_door};

/// Rules 12 and 18: "*" is a wildcard of every type, also of those that have none by an empty list.
#[test]
fn a_star_is_a_wildcard_of_every_type() -> Result<()> {
    through_every_door(&Kind::ALL, |node, variant, service, kind| {
        node.set(&[(kind, "a", "one"), (kind, "b", "one")])?;
        let mut stream = node.stream(variant, service);
        stream.subscribe(kind, &["*"]);
        expect("all", stream.take(kind)?.names(), vec!["a", "b"])?;
        node.set(&[(kind, "c", "one")])?;
        let response = stream.take(kind)?;
        ensure!(response.marks().contains(&"c=one".into()), "{response:?}");
        Ok(())
    })
}

/// Rules 18 and 20: a name beside the wildcard that does not exist is told to be absent, and told when it
/// comes and goes.
#[test]
fn a_name_beside_a_wildcard_is_told_while_it_does_not_exist() -> Result<()> {
    through_doors(
        &[Variant::Delta],
        &Kind::FULL_STATE,
        |node, _, service, kind| {
            node.set(&[(kind, "a", "one"), (kind, "sentinel", "s")])?;
            let mut stream = node.stream(Variant::Delta, service);
            stream.send(Request::of(kind).names(&["*", "none", "sentinel"]));
            let first = stream.take(kind)?;
            expect("there", first.names(), vec!["a", "sentinel"])?;
            expect("absent", first.removed(), vec!["none"])?;
            node.set(&[(kind, "none", "one")])?;
            expect(
                "it comes",
                stream.take(kind)?.marks(),
                vec!["none=one".into()],
            )?;
            node.remove(&[(kind, "none")])?;
            expect("it goes", stream.take(kind)?.removed(), vec!["none"])?;
            node.is_quiet(&mut stream, service)
        },
    )
}

/// Rule 18: what is given up is not told of, for clusters and listeners as well.
#[test]
fn a_cluster_or_listener_given_up_by_name_is_not_told_of() -> Result<()> {
    through_doors(
        &[Variant::Delta],
        &Kind::FULL_STATE,
        |node, _, service, kind| {
            node.set(&[
                (kind, "a", "one"),
                (kind, "b", "one"),
                (kind, "sentinel", "s"),
            ])?;
            let mut stream = node.stream(Variant::Delta, service);
            stream.subscribe(kind, &["a", "b", "sentinel"]);
            stream.take(kind)?;
            stream.send(Request::of(kind).unsubscribe(&["b"]));
            node.is_quiet(&mut stream, service)?;
            node.change(&[(kind, "a", "two")], &[(kind, "b")])?;
            let response = stream.take(kind)?;
            expect("a alone", response.marks(), vec!["a=two".into()])?;
            expect("no removal", response.removed(), vec![])?;
            node.is_quiet(&mut stream, service)
        },
    )
}

/// Nobody is told anything twice for having asked twice.
#[test]
fn a_name_said_twice_is_one_name() -> Result<()> {
    through_every_door(&Kind::ALL, |node, variant, service, kind| {
        node.set(&[(kind, "a", "one")])?;
        let mut stream = node.stream(variant, service);
        stream.send(Request::of(kind).names(&["a", "a", "a"]));
        expect("once", stream.take(kind)?.marks(), vec!["a=one".into()])
    })
}

#[test]
fn names_may_be_anything_that_is_a_text() -> Result<()> {
    through_every_door(&Kind::ALL, |node, variant, service, kind| {
        let names = [
            "xdstp://authority/envoy.config/x?a=1",
            "with space/and|bar",
            "नमस्ते",
            "\"quoted\"",
        ];
        node.set(&names.map(|name| (kind, name, "one")))?;
        let mut stream = node.stream(variant, service);
        stream.subscribe(kind, &names);
        let response = stream.take(kind)?;
        expect("all", response.resources.len(), names.len())?;
        node.remove(&[(kind, names[2])])?;
        node.set(&[(kind, names[0], "two")])?;
        stream.take_until("the change", |stream| {
            stream.has(kind)[names[0]].holds("mark=two")
        })?;
        Ok(())
    })
}

/// Rule 5: "First message of a stream": what it says about an earlier stream's responses is history.
#[test]
fn a_first_request_may_carry_what_an_earlier_stream_left() -> Result<()> {
    through_every_door(&Kind::ALL, |node, variant, service, kind| {
        node.set(&[(kind, "a", "one")])?;
        for left in [
            Request::of(kind).nonce("of-another-life"),
            Request::of(kind)
                .nonce("of-another-life")
                .version("unknown"),
            Request::of(kind)
                .nonce("of-another-life")
                .error("it was bad"),
            Request::of(kind).error("it was bad"),
        ] {
            let mut stream = node.stream(variant, service);
            stream.send(left.names(&["a"]));
            expect("served", stream.take(kind)?.marks(), vec!["a=one".into()])?;
            node.wait_type(kind, "it to be in step", |found| {
                found["state"] == "SYNCED" && found["nack"].is_null()
            })?;
        }
        Ok(())
    })
}

/// Rule 5: one content, one version, whoever asks and however it came to be.
#[test]
fn equal_content_has_one_version_on_every_stream() -> Result<()> {
    through_every_door(&Kind::ALL, |node, variant, service, kind| {
        node.set(&[(kind, "a", "one"), (kind, "b", "one")])?;
        let version = |names: &[&str]| -> Result<(String, Vec<String>)> {
            let mut stream = node.stream(variant, service);
            stream.subscribe(kind, names);
            let response = stream.take(kind)?;
            let versions = response.resources.values();
            let versions = versions.map(|one| one.version.clone()).collect();
            Ok((response.version, versions))
        };
        let first = version(&["a", "b"])?;
        expect(
            "asked in another order",
            version(&["b", "a"])?,
            first.clone(),
        )?;
        node.set(&[(kind, "a", "two")])?;
        ensure!(
            version(&["a", "b"])? != first,
            "another content, one version"
        );
        node.set(&[(kind, "a", "one")])?;
        expect("back again", version(&["a", "b"])?, first)
    })
}

/// Types have nothing to do with each other.
#[test]
fn what_is_given_up_of_one_type_stays_of_another() -> Result<()> {
    on_ads(|node, variant| {
        let kinds = [Kind::Endpoints, Kind::Route, Kind::Extension];
        node.set(&kinds.map(|kind| (kind, "a", "one")))?;
        node.set(&kinds.map(|kind| (kind, "b", "one")))?;
        let mut stream = node.ads(variant);
        for kind in kinds {
            stream.subscribe(kind, &["a", "b"]);
            stream.take(kind)?;
        }
        stream.subscribe(Kind::Endpoints, &["b"]);
        node.is_quiet(&mut stream, Service::Ads)?;
        node.set(&kinds.map(|kind| (kind, "a", "two")))?;
        for kind in [Kind::Extension, Kind::Route] {
            expect(
                "still told",
                stream.take(kind)?.marks(),
                vec!["a=two".into()],
            )?;
        }
        node.is_quiet(&mut stream, Service::Ads)
    })
}
