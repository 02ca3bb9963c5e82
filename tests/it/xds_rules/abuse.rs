//! Bad input: at most the stream that it came on ends, with a status that says why; memory, descriptors
//! and other clients are untouched. Rule 9.

use anyhow::{Result, ensure};
use bytes::Bytes;
use envoy_types::pb::{
    envoy::config::core::v3::Node as EnvoyNode,
    google::protobuf::{Struct, Value, value::Kind as ValueKind},
};
use harness::{
    http,
    xds::{Kind, Request, Service, Stream, Variant},
};
use tonic::Code;

use super::world::{Node, World, expect, on_ads};

/// Another client on the same connection, which must not notice anything.
pub struct Bystander<'n> {
    node: &'n Node,
    stream: Stream,
}

impl<'n> Bystander<'n> {
    pub fn of(node: &'n Node) -> Result<Self> {
        node.set(&[(Kind::Cluster, "a", "one")])?;
        let mut stream = node.ads(Variant::Delta);
        stream.subscribe(Kind::Cluster, &[]);
        stream.take(Kind::Cluster)?;
        Ok(Self { node, stream })
    }

    pub fn is_served(&mut self) -> Result<()> {
        self.node.is_quiet(&mut self.stream, Service::Ads)
    }
}

fn misbehave(
    variant: Variant,
    node: &Node,
    act: impl FnOnce(&mut Stream),
) -> Result<(Code, String)> {
    let mut bystander = Bystander::of(node)?;
    let mut stream = node.ads(variant);
    stream.subscribe(Kind::Cluster, &[]);
    stream.take(Kind::Cluster)?;
    act(&mut stream);
    let end = stream.ended()?;
    bystander.is_served()?;
    Ok((end.code, end.message))
}

#[test]
fn garbage_messages_end_their_stream_alone() -> Result<()> {
    on_ads(|node, variant| {
        let not_utf8 = [0x0a, 0x02, 0xff, 0xfe, 0x12, 0x01, 0xff, 0x22, 0x01, 0xff];
        for garbage in [
            &b"\xff\xff\xff\xff\xff"[..],
            &[0x0a, 0xff, 0xff, 0x03],
            b"\x08",
        ] {
            let (code, text) = misbehave(variant, node, |stream| stream.send_bytes(garbage))?;
            expect(&text, code, Code::InvalidArgument)?;
        }
        // Texts that are no texts: whatever of it is looked at, nobody else is hurt.
        let mut bystander = Bystander::of(node)?;
        let mut stream = node.ads(variant);
        stream.send_bytes(&not_utf8);
        let _ = stream.ended();
        bystander.is_served()
    })
}

#[test]
fn frames_that_are_no_grpc_end_their_stream_alone() -> Result<()> {
    on_ads(|node, variant| {
        // A flag that there is not, and a message that says it is compressed (gzip) though nobody agreed.
        let frames: [&'static [u8]; 3] = [
            b"\x02\x00\x00\x00\x01x",
            b"\x01\x00\x00\x00\x04\x1f\x8b\x08\x00",
            b"\x63GET / HTTP/1.1\r\n\r\n",
        ];
        for frame in frames {
            let raw = |stream: &mut Stream| stream.send_raw(Bytes::from_static(frame));
            let (code, text) = misbehave(variant, node, raw)?;
            ensure!(
                code != Code::Ok && !text.is_empty(),
                "{frame:?}: {code:?} {text:?}"
            );
        }
        Ok(())
    })
}

#[test]
fn a_message_beyond_four_mebibytes_ends_its_stream_and_one_below_is_taken() -> Result<()> {
    const LIMIT: usize = 4 * 1024 * 1024;
    on_ads(|node, variant| {
        let large = |stream: &mut Stream| stream.send_bytes(&vec![0; LIMIT + 1]);
        let (code, text) = misbehave(variant, node, large)?;
        ensure!(
            matches!(code, Code::OutOfRange | Code::ResourceExhausted),
            "{code:?}"
        );
        ensure!(text.contains("4194304"), "does not tell the limit: {text}");
        // Only its length is told, and nothing is reserved for what never comes.
        let promise = |stream: &mut Stream| {
            stream.send_raw(Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff]));
        };
        let (code, text) = misbehave(variant, node, promise)?;
        ensure!(
            matches!(code, Code::OutOfRange | Code::ResourceExhausted),
            "{code:?} {text}"
        );
        // A long name is a name, up to a bound that is told.
        let name = "x".repeat(4096);
        node.set(&[(Kind::Endpoints, "a", "one")])?;
        let mut stream = node.ads(variant);
        stream.send(Request::of(Kind::Endpoints).names(&[&name, "a"]));
        expect("served", stream.next(Kind::Endpoints)?.names(), vec!["a"])?;
        let longer = "x".repeat(4097);
        let longer = |stream: &mut Stream| {
            stream.send(Request::of(Kind::Endpoints).names(&[&longer]));
        };
        let (code, text) = misbehave(variant, node, longer)?;
        expect("code", code, Code::ResourceExhausted)?;
        ensure!(text.contains("4096"), "does not tell the limit: {text}");
        Ok(())
    })
}

#[test]
fn three_hundred_thousand_names_end_their_stream_and_ten_thousand_are_served() -> Result<()> {
    on_ads(|node, variant| {
        let names: Vec<String> = (0..300_000).map(|number| format!("n{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let too_many = |stream: &mut Stream| {
            stream.send(Request::of(Kind::Endpoints).names(&names));
        };
        let (code, text) = misbehave(variant, node, too_many)?;
        expect("code", code, Code::ResourceExhausted)?;
        ensure!(text.contains("100000"), "does not tell the limit: {text}");
        node.set(&[
            (Kind::Endpoints, "n7", "one"),
            (Kind::Endpoints, "n9999", "one"),
        ])?;
        let mut stream = node.ads(variant);
        stream.send(Request::of(Kind::Endpoints).names(&names[..10_000]));
        let response = stream.next(Kind::Endpoints)?;
        expect("served", response.names(), vec!["n7", "n9999"])
    })
}

fn nested(depth: usize) -> EnvoyNode {
    let mut inner = Struct::default();
    for _ in 0..depth {
        let value = Value {
            kind: Some(ValueKind::StructValue(inner)),
        };
        inner = Struct {
            fields: [("x".to_string(), value)].into(),
        };
    }
    EnvoyNode {
        id: "deep".into(),
        cluster: "deep".into(),
        metadata: Some(inner),
        ..EnvoyNode::default()
    }
}

/// A message whose metadata is nested deeper than any stack: made by hand, since encoding it would
/// recurse as well.
fn deep_request(variant: Variant, depth: usize) -> Vec<u8> {
    let field = |tag: u8, body: &[u8]| {
        let mut out = vec![tag << 3 | 2];
        prost::encoding::encode_varint(body.len() as u64, &mut out);
        out.extend_from_slice(body);
        out
    };
    let mut metadata = Vec::new();
    for _ in 0..depth {
        // Struct.fields = { key: "x", value: { struct_value: … } }
        let value = field(5, &metadata);
        let entry = [field(1, b"x"), field(2, &value)].concat();
        metadata = field(1, &entry);
    }
    let node = [field(1, b"deep"), field(3, &metadata)].concat();
    let (node_tag, type_tag) = match variant {
        Variant::Sotw => (2, 4),
        Variant::Delta => (1, 2),
    };
    let url = Kind::Cluster.url().as_bytes();
    [field(node_tag, &node), field(type_tag, url)].concat()
}

#[test]
fn metadata_deeper_than_any_use_ends_its_stream_alone() -> Result<()> {
    on_ads(|node, variant| {
        let mut bystander = Bystander::of(node)?;
        for depth in [1_000, 20_000] {
            let mut stream = node.ads(variant);
            stream.send_bytes(&deep_request(variant, depth));
            let end = stream.ended()?;
            expect(
                &format!("{depth}: {end:?}"),
                end.code,
                Code::InvalidArgument,
            )?;
        }
        let mut stream = node.ads(variant);
        stream.send_plain(Request::of(Kind::Cluster).whole_node(nested(20)));
        expect("of use", stream.next(Kind::Cluster)?.names(), vec![])?;
        bystander.is_served()
    })
}

#[test]
fn a_node_with_an_endless_name_is_refused() -> Result<()> {
    on_ads(|node, variant| {
        let mut stream = node.ads(variant);
        let id = "x".repeat(1_000_000);
        stream.send_plain(Request::of(Kind::Cluster).node(&id));
        let end = stream.ended()?;
        expect("code", end.code, Code::InvalidArgument)?;
        ensure!(end.message.contains("node.id"), "{end:?}");
        Ok(())
    })
}

/// Rule 9: "Half-closed streams end."
#[test]
fn a_half_closed_stream_ends() -> Result<()> {
    on_ads(|node, variant| {
        let (code, _) = misbehave(variant, node, Stream::half_close)?;
        expect("code", code, Code::Ok)?;
        // Also one that never said anything.
        let mut stream = node.ads(variant);
        stream.half_close();
        stream.ended().map(drop)
    })
}

#[test]
fn methods_that_do_not_exist_are_unimplemented() -> Result<()> {
    let world = World::shared()?;
    let node = world.node();
    let mut bystander = Bystander::of(&node)?;
    for path in [
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/Nothing",
        "/envoy.service.discovery.v2.AggregatedDiscoveryService/StreamAggregatedResources",
        "/",
    ] {
        let call = world.connection.call(path, &[]);
        let mut stream = Stream::around(call, Variant::Sotw, &node.id);
        stream.subscribe(Kind::Cluster, &[]);
        expect(path, stream.ended()?.code, Code::Unimplemented)?;
    }
    bystander.is_served()
}

/// A client that offers or demands compression is served without, or told that there is none.
#[test]
fn compression_is_no_obstacle() -> Result<()> {
    on_ads(|node, variant| {
        node.set(&[(Kind::Cluster, "a", "one")])?;
        let path = Service::Ads.path(variant);
        let accepts = [("grpc-accept-encoding", "gzip,deflate,zstd,identity")];
        let mut stream = Stream::around(
            node.world.connection.call(&path, &accepts),
            variant,
            &node.id,
        );
        stream.subscribe(Kind::Cluster, &[]);
        expect(
            "plain",
            stream.take(Kind::Cluster)?.marks(),
            vec!["a=one".into()],
        )?;
        let speaks = [("grpc-encoding", "gzip")];
        let mut stream = Stream::around(
            node.world.connection.call(&path, &speaks),
            variant,
            &node.id,
        );
        stream.send_raw(Bytes::from_static(b"\x01\x00\x00\x00\x04\x1f\x8b\x08\x00"));
        let end = stream.ended()?;
        ensure!(
            matches!(
                end.code,
                Code::Unimplemented | Code::Internal | Code::InvalidArgument
            ),
            "{end:?}"
        );
        Ok(())
    })
}

#[test]
fn bytes_that_are_no_http2_end_their_connection_alone() -> Result<()> {
    let world = World::shared()?;
    let node = world.node();
    let mut bystander = Bystander::of(&node)?;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let garbage: [Vec<u8>; 4] = [
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        vec![0xff; 100_000],
        [&preface[..], &[0xff; 1_000]].concat(),
        [
            &preface[..],
            b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        ]
        .concat(),
    ];
    for bytes in garbage {
        http::raw(world.server.xds, &bytes)?;
    }
    bystander.is_served()
}

/// A client that rejects everything is told each new version once.
#[test]
fn a_client_that_rejects_everything_is_told_each_version_once() -> Result<()> {
    const CHANGES: usize = 30;
    on_ads(|node, variant| {
        node.set(&[(Kind::Endpoints, "a", "m0")])?;
        let mut stream = node.ads(variant);
        stream.subscribe(Kind::Endpoints, &["a"]);
        let mut told = 0;
        for number in 0..=CHANGES {
            let mark = format!("m{number}");
            node.set(&[(Kind::Endpoints, "a", &mark)])?;
            loop {
                let response = stream.next(Kind::Endpoints)?;
                stream.nack(&response, "no");
                told += 1;
                if response.marks() == [format!("a={mark}")] {
                    break;
                }
            }
        }
        node.is_quiet(&mut stream, Service::Ads)?;
        ensure!(
            told <= CHANGES + 1,
            "{told} responses for {CHANGES} changes"
        );
        Ok(())
    })
}
