//! Many clients at once: streams of one node, nodes of one cluster, clients that are silent, slow or gone.
//! Rules 9 and 10.

use std::{fs, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use envoy_types::pb::{
    envoy::config::core::v3::Node as EnvoyNode,
    google::protobuf::{Struct, Value, value::Kind as ValueKind},
};
use harness::{
    wait::wait_for,
    xds::{Connection, Kind, Request, Service, Stream, Variant},
};
use tonic::Code;

use super::{
    abuse::Bystander,
    world::{World, expect, through_every_door},
};
use crate::door1::BOUND;

/// Rule 10.
#[test]
fn two_streams_of_one_node_are_told_alike_and_answer_for_themselves() -> Result<()> {
    through_every_door(&Kind::ALL, |node, variant, service, kind| {
        node.set(&[(kind, "a", "one")])?;
        let mut streams = [node.stream(variant, service), node.stream(variant, service)];
        for stream in &mut streams {
            stream.subscribe(kind, &["a"]);
            expect("first", stream.take(kind)?.marks(), vec!["a=one".into()])?;
        }
        node.set(&[(kind, "a", "two")])?;
        let [one, two] = &mut streams;
        let rejected = one.next(kind)?;
        one.nack(&rejected, "not here");
        expect("the other", two.take(kind)?.marks(), vec!["a=two".into()])?;
        node.set(&[(kind, "a", "three")])?;
        for stream in &mut streams {
            expect("both", stream.take(kind)?.marks(), vec!["a=three".into()])?;
        }
        Ok(())
    })
}

/// Rule 10: many nodes behind one configuration.
#[test]
fn five_hundred_nodes_of_one_cluster_are_told_a_change_each() -> Result<()> {
    let world = World::shared()?;
    let fleet = world.node();
    let set = |mark| {
        world.api.apply(&serde_json::json!({
            "set": [harness::xds::set_of(Kind::Cluster, "shared", mark)],
            "nodes": {"cluster": fleet.id},
        }))
    };
    set("one")?;
    let connections = [
        Connection::open(world.server.xds)?,
        Connection::open(world.server.xds)?,
    ];
    let mut streams = Vec::new();
    for number in 0..500_usize {
        let variant = Variant::BOTH[number % 2];
        let id = format!("{}-{number}", fleet.id);
        let connection = &connections[number * 2 / 500];
        let mut stream = Stream::open(connection, variant, Service::Ads, &id);
        let node = envoy_types::pb::envoy::config::core::v3::Node {
            id,
            cluster: fleet.id.clone(),
            ..Default::default()
        };
        stream.send_plain(Request::of(Kind::Cluster).whole_node(node));
        streams.push(stream);
    }
    for stream in &mut streams {
        expect(
            "first",
            stream.take(Kind::Cluster)?.marks(),
            vec!["shared=one".into()],
        )?;
    }
    set("two")?;
    for stream in &mut streams {
        expect(
            "change",
            stream.take(Kind::Cluster)?.marks(),
            vec!["shared=two".into()],
        )?;
    }
    Ok(())
}

struct Usage {
    descriptors: usize,
    kib: u64,
}

fn usage(pid: u32) -> Result<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = rss.and_then(|rss| rss.split_whitespace().next());
    Ok(Usage {
        descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        kib: kib.context("no VmRSS")?.parse()?,
    })
}

/// Rule 9: "Thousands of silent or cancelled streams give their descriptors and memory back."
#[test]
fn thousands_of_silent_and_reset_streams_give_everything_back() -> Result<()> {
    const CONNECTIONS: usize = 20;
    const STREAMS: usize = 150;
    const KIB_PER_STREAM: u64 = 32;
    let mut world = World::start()?;
    let pid = world.server.process().pid();
    let world = Arc::new(world);
    let node = world.node();
    let mut bystander = Bystander::of(&node)?;
    let before = usage(pid)?;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS {
        let connection = Connection::open(world.server.xds)?;
        for number in 0..STREAMS {
            let variant = Variant::BOTH[number % 2];
            let mut stream = Stream::open(&connection, variant, Service::Ads, &node.id);
            match number % 3 {
                // Never says a word.
                0 => {}
                // Asks, and does not answer.
                1 => stream.subscribe(Kind::Cluster, &[]),
                // Begins a message, and never ends it.
                _ => stream.send_raw(Bytes::from_static(b"\x00\x00\x00\x10\x00")),
            }
            silent.push(stream);
        }
    }
    bystander.is_served()?;
    let count = (CONNECTIONS * STREAMS) as u64;
    let during = usage(pid)?;
    let grown = during.kib.saturating_sub(before.kib);
    ensure!(
        grown < count * KIB_PER_STREAM,
        "{grown} KiB for {count} streams"
    );
    drop(silent);
    wait_for("descriptors to come back", BOUND, || {
        let now = usage(pid).map_err(|error| error.to_string())?.descriptors;
        match now <= before.descriptors + 2 {
            true => Ok(()),
            false => Err(format!("{now}, {} before", before.descriptors)),
        }
    })?;
    // Opened and reset at once, again and again on one connection: memory stays what it was.
    let after = usage(pid)?;
    let connection = Connection::open(world.server.xds)?;
    for number in 0..3_000 {
        let mut stream = Stream::open(
            &connection,
            Variant::BOTH[number % 2],
            Service::Ads,
            &node.id,
        );
        stream.subscribe(Kind::Cluster, &[]);
    }
    bystander.is_served()?;
    let reset = usage(pid)?;
    let grown = reset.kib.saturating_sub(after.kib);
    ensure!(
        grown < 16 * 1024,
        "{grown} KiB after 3,000 streams that were reset"
    );
    wait_for("every stream to be forgotten", BOUND, || {
        let proxy = world.proxy(&node.id).map_err(|error| error.to_string())?;
        match proxy["streams"].as_array().map(Vec::len) {
            Some(1) => Ok(()),
            other => Err(format!("{other:?} streams")),
        }
    })
}

/// Rule 9: what one stream may want is bounded over all types and told; what it filled others use after it.
#[test]
fn what_streams_filled_with_names_and_metadata_is_given_back() -> Result<()> {
    const STREAMS: usize = 6;
    const MIB: u64 = 1024;
    let mut world = World::start()?;
    let pid = world.server.process().pid();
    let world = Arc::new(world);
    let node = world.node();
    let mut bystander = Bystander::of(&node)?;
    let names: Vec<String> = (0..900).map(|name| format!("{name:04000}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let kinds = [Kind::Endpoints, Kind::Route, Kind::Secret, Kind::Extension];
    let mut filled = Vec::new();
    for _ in 0..4 {
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            let mut stream = node.ads(Variant::Delta);
            for kind in kinds {
                stream.send(Request::of(kind).names(&names));
                let none = stream.next(kind)?.removed().len();
                expect("none of them", none, names.len())?;
            }
            streams.push(stream);
            let metadata = [("large".to_string(), text_of(4_000_000))].into();
            let about = EnvoyNode {
                id: "large".into(),
                metadata: Some(Struct { fields: metadata }),
                ..EnvoyNode::default()
            };
            let mut stream = node.ads(Variant::Delta);
            stream.send_plain(Request::of(Kind::Cluster).whole_node(about));
            stream.next(Kind::Cluster)?;
            streams.push(stream);
        }
        filled.push(usage(pid)?.kib);
        drop(streams);
        wait_for("the streams to be forgotten", BOUND, || {
            let proxy = world.proxy(&node.id).map_err(|error| error.to_string())?;
            match proxy["streams"].as_array().map(Vec::len) {
                Some(1) => Ok(()),
                other => Err(format!("{other:?} streams")),
            }
        })?;
    }
    // Names alone would have come to 250 MiB more, had they been kept.
    ensure!(filled[3] < filled[0] + 160 * MIB, "{filled:?} KiB");
    let mut one_more = node.ads(Variant::Delta);
    for kind in kinds.into_iter().chain([Kind::Runtime]) {
        one_more.send(Request::of(kind).names(&names));
    }
    let end = one_more.ended()?;
    expect("code", end.code, Code::ResourceExhausted)?;
    ensure!(end.message.contains("16777216"), "{end:?}");
    bystander.is_served()
}

fn text_of(bytes: usize) -> Value {
    Value {
        kind: Some(ValueKind::StringValue("x".repeat(bytes))),
    }
}

/// Rule 9: "One slow, stuck or dead client delays nobody and holds bounded memory."
#[test]
fn clients_that_do_not_read_delay_nobody_and_hold_bounded_memory() -> Result<()> {
    const SLOW: usize = 40;
    const CHANGES: usize = 60;
    let mut world = World::start()?;
    let pid = world.server.process().pid();
    let world = Arc::new(world);
    let node = world.node();
    let mark = |number: usize| format!("{number}-{}", "x".repeat(100_000));
    node.set(&[(Kind::Endpoints, "a", &mark(0))])?;
    let mut slow = Vec::new();
    for number in 0..SLOW {
        let connection = Connection::open_with(world.server.xds, Connection::small_windows)?;
        let variant = Variant::BOTH[number % 2];
        let mut stream = Stream::open(&connection, variant, Service::Ads, &node.id);
        stream.subscribe(Kind::Endpoints, &["a"]);
        stream.take(Kind::Endpoints)?;
        stream.stop_reading();
        slow.push(stream);
    }
    let mut reader = node.ads(Variant::Delta);
    reader.subscribe(Kind::Endpoints, &["a"]);
    reader.take(Kind::Endpoints)?;
    let before = usage(pid)?;
    for number in 1..=CHANGES {
        node.set(&[(Kind::Endpoints, "a", &mark(number))])?;
        let text = format!("mark={number}-");
        reader.take_until("the change", |stream| {
            stream.has(Kind::Endpoints)["a"].holds(&text)
        })?;
    }
    let after = usage(pid)?;
    // Each may hold the one response that it is reading, no matter how many follow it.
    let grown = after.kib.saturating_sub(before.kib);
    let allowed = (SLOW as u64) * 2 * 100 + 16 * 1024;
    ensure!(grown < allowed, "{grown} KiB, more than {allowed}");
    let last = format!("mark={CHANGES}-");
    for stream in &mut slow {
        stream.read_again();
        stream.take_until("the newest", |stream| {
            stream.has(Kind::Endpoints)["a"].holds(&last)
        })?;
    }
    Ok(())
}
