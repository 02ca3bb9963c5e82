//! Order between the streams of single types, as far as a server can keep it. Rules 23 and 24.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::{
    wait::wait_for,
    xds::{Kind, Service, Stream, Variant},
};

use super::world::{Node, both_variants, expect};
use crate::door1::BOUND;

use Kind::{Cluster, Endpoints, Listener, Route};

/// For how long what a client leaves unanswered holds up what depends on it.
const PATIENCE: Duration = Duration::from_secs(5);

/// A client with a stream for each type, which has accepted the cluster `old` and what uses it.
struct Proxy {
    clusters: Stream,
    endpoints: Stream,
    /// Listeners and routes.
    uses: [(Kind, Stream); 2],
}

impl Proxy {
    fn connect(node: &Node, variant: Variant) -> Result<Self> {
        node.set(&[
            (Cluster, "old", "one"),
            (Endpoints, "old", "one"),
            (Listener, "l", "old"),
            (Route, "r", "old"),
        ])?;
        let open = |kind: Kind, names: &[&str]| -> Result<Stream> {
            let mut stream = node.stream(variant, Service::Only(kind));
            stream.subscribe(kind, names);
            stream.take(kind)?;
            Ok(stream)
        };
        let proxy = Self {
            clusters: open(Cluster, &[])?,
            endpoints: open(Endpoints, &["old"])?,
            uses: [
                (Listener, open(Listener, &[])?),
                (Route, open(Route, &["r"])?),
            ],
        };
        proxy.is_settled(node)?;
        Ok(proxy)
    }

    /// Waits until the server knows that everything was accepted.
    fn is_settled(&self, node: &Node) -> Result<()> {
        for kind in [Cluster, Endpoints, Listener, Route] {
            node.wait_type(kind, "it to be accepted", |found| {
                found["state"] == "SYNCED"
            })?;
        }
        Ok(())
    }

    /// A cluster comes with its endpoints and with what uses it, and the client accepts the cluster.
    fn take_new_cluster(&mut self, node: &Node) -> Result<()> {
        node.set(&[
            (Route, "r", "new"),
            (Listener, "l", "new"),
            (Endpoints, "new", "one"),
            (Cluster, "new", "one"),
        ])?;
        let response = self.clusters.take(Cluster)?;
        ensure!(response.names().contains(&"new"), "{response:?}");
        node.wait_type(Cluster, "the cluster to be accepted", |found| {
            found["state"] == "SYNCED"
        })
    }

    /// Nothing that names the new cluster was sent, neither to us nor in the server's books.
    fn nothing_uses_it(&mut self, node: &Node) -> Result<()> {
        let proxy = node.world.proxy(&node.id)?;
        let streams = proxy["streams"].as_array().context("no streams")?;
        for service in ["LDS", "RDS"] {
            let stream = streams.iter().find(|stream| stream["service"] == service);
            let responses = &stream.context(service)?["responses"];
            ensure!(*responses == 1, "{service} was not held back: {proxy}");
        }
        let mut uses = self.uses.iter_mut();
        uses.try_for_each(|(kind, stream)| stream.is_silent().with_context(|| format!("{kind:?}")))
    }

    fn everything_uses_it(&mut self) -> Result<()> {
        for (kind, stream) in &mut self.uses {
            let marks = stream.take(*kind)?.marks();
            ensure!(marks.iter().all(|mark| mark.ends_with("=new")), "{marks:?}");
        }
        Ok(())
    }
}

/// Rule 23, "CDS, then EDS of the new clusters, then LDS, then RDS", where the client asks for them on the
/// stream that it has.
#[test]
fn what_uses_a_new_cluster_waits_for_its_endpoints_on_the_stream_of_endpoints() -> Result<()> {
    both_variants(|node, variant| {
        let mut proxy = Proxy::connect(node, variant)?;
        proxy.take_new_cluster(node)?;
        proxy.endpoints.subscribe(Endpoints, &["old", "new"]);
        let response = proxy.endpoints.next(Endpoints)?;
        expect("endpoints", response.marks(), vec!["new=one".into()])?;
        proxy.nothing_uses_it(node)?;
        proxy.endpoints.ack(&response);
        proxy.everything_uses_it()
    })
}

/// An Envoy opens a stream of its own for the endpoints of each cluster. Rejected is answered too.
#[test]
fn what_uses_a_new_cluster_waits_for_its_endpoints_on_another_stream() -> Result<()> {
    both_variants(|node, variant| {
        for error in [None, Some("no such thing")] {
            let node = node.world.node();
            let mut proxy = Proxy::connect(&node, variant)?;
            proxy.take_new_cluster(&node)?;
            proxy.nothing_uses_it(&node)?;
            let mut another = node.stream(variant, Service::Only(Endpoints));
            another.subscribe(Endpoints, &["new"]);
            let response = another.next(Endpoints)?;
            proxy.nothing_uses_it(&node)?;
            let began = Instant::now();
            match error {
                None => another.ack(&response),
                Some(text) => another.nack(&response, text),
            }
            proxy.everything_uses_it()?;
            let took = began.elapsed();
            ensure!(took < PATIENCE, "{error:?}: it took {took:?}");
        }
        Ok(())
    })
}

/// Rule 24: silence "must not block … this node for ever".
#[test]
fn endpoints_that_nobody_asks_for_hold_up_what_uses_their_cluster_for_a_while() -> Result<()> {
    both_variants(|node, variant| {
        let mut proxy = Proxy::connect(node, variant)?;
        proxy.take_new_cluster(node)?;
        proxy.nothing_uses_it(node)?;
        proxy.everything_uses_it()?;
        // What nobody asked for once is not waited for with the next change.
        let began = Instant::now();
        node.set(&[(Route, "r", "old"), (Cluster, "third", "one")])?;
        proxy.clusters.take(Cluster)?;
        let (_, routes) = &mut proxy.uses[1];
        expect("at once", routes.take(Route)?.marks(), vec!["r=old".into()])?;
        let took = began.elapsed();
        ensure!(took < PATIENCE, "it took {took:?}");
        Ok(())
    })
}

/// Nobody waits where there is nobody to wait for.
#[test]
fn without_a_stream_of_endpoints_what_uses_a_new_cluster_waits_for_the_cluster_alone() -> Result<()>
{
    both_variants(|node, variant| {
        let mut proxy = Proxy::connect(node, variant)?;
        let gone = node.stream(variant, Service::Only(Endpoints));
        drop(std::mem::replace(&mut proxy.endpoints, gone));
        wait_for("its streams to be gone", BOUND, || {
            let found = node.world.proxy(&node.id);
            let found = found.map_err(|error| error.to_string())?;
            let streams = found["streams"].as_array().map_or(0, Vec::len);
            (streams == 3).then_some(()).ok_or(found.to_string())
        })?;
        let began = Instant::now();
        proxy.take_new_cluster(node)?;
        proxy.everything_uses_it()?;
        let took = began.elapsed();
        ensure!(took < PATIENCE, "it took {took:?}");
        Ok(())
    })
}
