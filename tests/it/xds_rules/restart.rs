//! Restarts and replicas: versions are derived from content, so who comes back is sent nothing that it
//! has. Rules 5, 7, 19 and 26.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use harness::{
    artifacts::Artifacts,
    server::{Options, Server},
    wait::wait_for,
    xds::{Api, Connection, Kind, Request, Response, Service, Stream, Variant},
};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tonic::Code;

use super::world::{World, expect};
use crate::door1::BOUND;

const NODE: &str = "node-that-stays";

fn state(api: &Api) -> Result<()> {
    let names = ["a", "b"].into_iter();
    let set = names.flat_map(|name| Kind::ALL.map(|kind| harness::xds::set_of(kind, name, "one")));
    let call = serde_json::json!({"set": set.collect::<Vec<_>>()});
    api.apply(&call).map(drop)
}

/// What a fresh client is sent of every type.
fn all(connection: &Connection, variant: Variant) -> Result<BTreeMap<Kind, Response>> {
    let mut stream = Stream::open(connection, variant, Service::Ads, NODE);
    let mut all = BTreeMap::new();
    for kind in Kind::ALL {
        stream.subscribe(kind, &["a", "b"]);
        let response = stream.take(kind)?;
        expect("names", response.names(), vec!["a", "b"])?;
        all.insert(kind, response);
    }
    Ok(all)
}

/// Comes back with what it had: nothing of it may be sent.
fn come_back(
    connection: &Connection,
    api: &Api,
    variant: Variant,
    had: &BTreeMap<Kind, Response>,
) -> Result<()> {
    let mut stream = Stream::open(connection, variant, Service::Ads, NODE);
    for (kind, response) in had {
        let versions = response.resources.values();
        let known: Vec<_> = versions.map(|one| (&*one.name, &*one.version)).collect();
        let back = Request::of(*kind).names(&["a", "b"]).known(&known);
        stream.send(back.version(&response.version).nonce(&response.nonce));
    }
    // A later change proves that nothing came before it.
    let change = harness::xds::set_of(Kind::Cluster, "a", "two");
    api.apply(&serde_json::json!({"set": [change]}))?;
    loop {
        let response = stream.next_any()?;
        stream.ack(&response);
        if response.resources.is_empty() && response.removed.is_empty() {
            continue;
        }
        expect("type", response.kind, Kind::Cluster)?;
        ensure!(
            response.marks().contains(&"a=two".into()),
            "{:?}",
            response.marks()
        );
        let change = harness::xds::set_of(Kind::Cluster, "a", "one");
        return api.apply(&serde_json::json!({"set": [change]})).map(drop);
    }
}

#[test]
fn who_comes_back_after_kill_minus_nine_is_sent_nothing_that_it_has() -> Result<()> {
    let mut world = World::start()?;
    state(&world.api)?;
    let before: Vec<_> = Variant::BOTH
        .map(|variant| all(&world.connection, variant))
        .into_iter()
        .collect::<Result<_>>()?;
    let process = world.server.process();
    process.signal(libc::SIGKILL);
    wait_for("it to be dead", BOUND, || {
        process.ended().ok_or_else(|| "it lives".to_string())
    })?;
    let artifacts = Artifacts::from_env()?;
    let server = Server::start(&artifacts, world.dir.path(), "{}", &Options::default())?;
    let (connection, api) = (Connection::open(server.xds)?, Api::new(server.api));
    for (variant, had) in Variant::BOTH.into_iter().zip(&before) {
        come_back(&connection, &api, variant, had)?;
        expect_equal(had, &all(&connection, variant)?)?;
    }
    Ok(())
}

fn expect_equal(one: &BTreeMap<Kind, Response>, two: &BTreeMap<Kind, Response>) -> Result<()> {
    for (kind, one) in one {
        let two = two.get(kind).context("a type less")?;
        expect("resources", &two.resources, &one.resources)?;
        expect("version", &two.version, &one.version)?;
    }
    Ok(())
}

#[test]
fn replicas_give_equal_content_equal_versions() -> Result<()> {
    let replicas = [World::start()?, World::start()?];
    for world in &replicas {
        state(&world.api)?;
    }
    for variant in Variant::BOTH {
        let first = all(&replicas[0].connection, variant)?;
        expect_equal(&first, &all(&replicas[1].connection, variant)?)?;
        come_back(&replicas[1].connection, &replicas[1].api, variant, &first)?;
    }
    Ok(())
}

/// Rule 26: "streams end with GOAWAY/UNAVAILABLE after a drain so that Envoys reconnect elsewhere".
#[test]
fn a_server_that_is_asked_to_end_tells_its_streams() -> Result<()> {
    let mut world = World::start()?;
    let mut streams = Vec::new();
    for variant in Variant::BOTH {
        for service in [Service::Ads, Service::Only(Kind::Cluster)] {
            let mut stream = Stream::open(&world.connection, variant, service, NODE);
            stream.subscribe(Kind::Cluster, &[]);
            stream.take(Kind::Cluster)?;
            streams.push(stream);
        }
    }
    let status = world.server.process().terminate()?;
    ensure!(status.success(), "{status}");
    for stream in &mut streams {
        expect("code", stream.ended()?.code, Code::Unavailable)?;
    }
    Ok(())
}

/// Rule 26: "GOAWAY" comes first, so that who comes back at once does not come back on the same connection; and
/// all of it is over in time, whoever does not let go.
#[test]
fn a_server_that_is_asked_to_end_says_goaway_before_it_ends_its_streams() -> Result<()> {
    /// README's word: 2 s for the xDS port, 3 s for all; and some for a machine that is busy.
    const END_MAX: Duration = Duration::from_secs(3 + 7);
    let mut world = World::start()?;
    // A client of the API that has asked half a question.
    let mut half = std::net::TcpStream::connect(world.server.api)?;
    std::io::Write::write_all(&mut half, b"GET /api/v1/prox")?;
    let address = world.server.xds;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let (send, _open, mut body) = runtime.block_on(open_stream(address))?;
    let began = Instant::now();
    let status = world.server.process().terminate()?;
    ensure!(status.success(), "{status}");
    let took = began.elapsed();
    ensure!(took < END_MAX, "it took {took:?}");
    let ended = runtime.block_on(async {
        while let Some(part) = body.data().await {
            body.flow_control().release_capacity(part?.len())?;
        }
        body.trailers().await
    });
    let trailers = ended?.context("no trailers")?;
    expect("grpc-status", trailers["grpc-status"].to_str()?, "14")?;
    let again = runtime.block_on(send.ready());
    let error = again.err().context("another call would be taken")?;
    ensure!(error.is_go_away() && error.is_remote(), "{error}");
    drop(half);
    Ok(())
}

/// Dropped, the second would be the client's end.
type Opened = (
    h2::client::SendRequest<Bytes>,
    h2::SendStream<Bytes>,
    h2::RecvStream,
);

/// An ADS stream on a connection of its own, once its first response begins to come.
async fn open_stream(address: SocketAddr) -> Result<Opened> {
    let tcp = tokio::net::TcpStream::connect(address).await?;
    let (send, connection) = h2::client::handshake(tcp).await?;
    // Ends with the runtime.
    tokio::spawn(connection);
    let mut send = send.ready().await?;
    let request = hyper::Request::post(Service::Ads.path(Variant::Delta))
        .header("content-type", "application/grpc")
        .body(())?;
    let (answer, mut stream) = send.send_request(request, false)?;
    let clusters = Request::of(Kind::Cluster).encode(Variant::Delta);
    let length = u32::try_from(clusters.len())?.to_be_bytes();
    let frame = [&[0], &length[..], &clusters].concat();
    stream.send_data(frame.into(), false)?;
    let mut body = answer.await?.into_body();
    let part = body.data().await.context("no response")??;
    body.flow_control().release_capacity(part.len())?;
    Ok((send, stream, body))
}

/// Rule 26: everybody comes back at once.
#[test]
fn three_hundred_clients_that_come_back_at_once_are_all_served() -> Result<()> {
    const CLIENTS: usize = 300;
    let world = Arc::new(World::start()?);
    state(&world.api)?;
    let address = world.server.xds;
    let served = std::thread::scope(|scope| {
        let crowd: Vec<_> = (0..10)
            .map(|_| {
                scope.spawn(move || -> Result<usize> {
                    let mut streams = Vec::new();
                    for number in 0..CLIENTS / 10 {
                        let connection = Connection::open(address)?;
                        let variant = Variant::BOTH[number % 2];
                        let mut stream = Stream::open(&connection, variant, Service::Ads, NODE);
                        stream.subscribe(Kind::Cluster, &[]);
                        streams.push(stream);
                    }
                    for stream in &mut streams {
                        expect("names", stream.take(Kind::Cluster)?.names(), vec!["a", "b"])?;
                    }
                    Ok(streams.len())
                })
            })
            .collect();
        let mut served = 0;
        for part in crowd {
            served += part
                .join()
                .map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        Ok::<_, anyhow::Error>(served)
    })?;
    expect("served", served, CLIENTS)
}
