//! Order on one ADS stream: make before break. Rules 23 and 24.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::xds::{Kind, Response, Service, Stream, Variant, set_of};
use serde_json::{Value, json};

use super::world::{Marks, Node, World, expect, on_ads, through_doors};

use Kind::{Cluster, Endpoints, Extension, Listener, Route, Secret};

/// A client that subscribes as an Envoy does, and checks after each response that its configuration
/// works. A route's mark is the cluster that it names, a listener's the filter and the secret that it
/// names.
struct Proxy {
    stream: Stream,
    /// It has a whole configuration: from now on nothing may be missing from it.
    is_whole: bool,
    /// What came: its type, and the names in it or what it took away.
    log: Vec<(Kind, Vec<String>)>,
}

impl Proxy {
    /// Connects, and takes the whole configuration.
    fn connect(node: &Node, variant: Variant) -> Self {
        let mut stream = node.ads(variant);
        stream.subscribe(Cluster, &[]);
        stream.subscribe(Listener, &[]);
        stream.subscribe(Route, &["r"]);
        stream.subscribe(Secret, &["old", "new"]);
        stream.subscribe(Extension, &["old", "new"]);
        Self {
            stream,
            is_whole: false,
            log: Vec::new(),
        }
    }

    /// Takes the next response without an answer.
    fn look(&mut self) -> Result<Response> {
        let response = self.stream.next_any()?;
        let names = response.marks().into_iter();
        let gone = response.removed.iter().map(|name| format!("-{name}"));
        self.log.push((response.kind, names.chain(gone).collect()));
        if response.kind == Cluster {
            let has = self.stream.has(Cluster);
            let names: Vec<&str> = has.keys().map(String::as_str).collect();
            self.stream.subscribe(Endpoints, &names);
        }
        self.check()?;
        Ok(response)
    }

    /// Takes and accepts responses until this fits.
    fn until(&mut self, what: &str, fits: impl Fn(&Stream) -> bool) -> Result<()> {
        while !fits(&self.stream) {
            let response = self.look().map_err(|error| {
                error.context(format!("waiting for {what}, after {:?}", self.log))
            })?;
            self.stream.ack(&response);
        }
        self.is_whole = true;
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let clusters = self.stream.has(Cluster);
        for (name, route) in self.stream.has(Route) {
            let named = clusters
                .keys()
                .any(|cluster| route.holds(&format!("mark={cluster}")));
            ensure!(
                named,
                "{name} names no cluster that is there; {:?}",
                self.log
            );
        }
        if !self.is_whole {
            // Envoy asks for these when it has the listener.
            return Ok(());
        }
        let ends = [Extension, Secret].map(|kind| self.stream.has(kind));
        for (name, listener) in self.stream.has(Listener) {
            for has in &ends {
                let named = has
                    .keys()
                    .any(|other| listener.holds(&format!("mark={other}")));
                ensure!(named, "{name} names what is not there; {:?}", self.log);
            }
        }
        Ok(())
    }

    fn place(&self, kind: Kind, word: &str) -> Option<usize> {
        let holds = |words: &[String]| words.iter().any(|found| found.starts_with(word));
        let mut log = self.log.iter();
        log.position(|(found, words)| *found == kind && holds(words))
    }
}

const OLD: Marks<'_> = &[
    (Cluster, "old", "one"),
    (Endpoints, "old", "one"),
    (Secret, "old", "one"),
    (Extension, "old", "one"),
    (Listener, "l", "old"),
    (Route, "r", "old"),
];
const NEW: Marks<'_> = &[
    (Route, "r", "new"),
    (Listener, "l", "new"),
    (Extension, "new", "one"),
    (Secret, "new", "one"),
    (Endpoints, "new", "one"),
    (Cluster, "new", "one"),
];
const GONE: &[(Kind, &str)] = &[
    (Cluster, "old"),
    (Endpoints, "old"),
    (Secret, "old"),
    (Extension, "old"),
];

fn is(mark: &'static str) -> impl Fn(&Stream) -> bool {
    let text = format!("mark={mark}");
    move |stream| {
        let route = stream.has(Route);
        let clusters = stream.has(Cluster);
        route.get("r").is_some_and(|route| route.holds(&text))
            && clusters.keys().eq([mark])
            && stream.has(Listener)["l"].holds(&text)
            && stream.has(Endpoints).contains_key(mark)
    }
}

/// Rule 23, and 24 "even when the change is one transaction".
#[test]
fn everything_replaced_at_once_is_made_before_it_is_broken() -> Result<()> {
    on_ads(|node, variant| {
        node.set(OLD)?;
        let mut proxy = Proxy::connect(node, variant);
        proxy.until("the first state", is("old"))?;
        proxy.log.clear();
        node.change(NEW, GONE)?;
        proxy.until("the second state", is("new"))?;
        let order = [
            (Cluster, "new="),
            (Endpoints, "new="),
            (Listener, "l=new"),
            (Route, "r=new"),
        ];
        let places: Vec<_> = order.map(|(kind, word)| proxy.place(kind, word)).to_vec();
        let log = &proxy.log;
        ensure!(places.iter().all(Option::is_some), "{places:?} of {log:?}");
        ensure!(places.is_sorted(), "not in order: {log:?}");
        for kind in [Secret, Extension] {
            let place = proxy.place(kind, "new=");
            ensure!(
                place.is_some() && place < places[2],
                "{kind:?} came late: {log:?}"
            );
        }
        let last = log.last().map(|(kind, _)| *kind);
        ensure!(
            last > Some(Route) || last == Some(Cluster) || variant == Variant::Delta,
            "{log:?}"
        );
        Ok(())
    })
}

/// Rule 23: "a cluster is not removed before the route that used it is changed", and changed it is when the
/// client says so.
#[test]
fn a_cluster_stays_until_the_client_has_answered_for_its_route() -> Result<()> {
    on_ads(|node, variant| {
        node.set(OLD)?;
        let mut proxy = Proxy::connect(node, variant);
        proxy.until("the first state", is("old"))?;
        node.change(NEW, GONE)?;
        let route = loop {
            let response = proxy.look()?;
            if response.kind == Route {
                break response;
            }
            proxy.stream.ack(&response);
        };
        let clusters: Vec<String> = proxy.stream.has(Cluster).into_keys().collect();
        expect("still there", clusters, vec!["new".into(), "old".into()])?;
        node.is_quiet(&mut proxy.stream, Service::Ads)?;
        proxy.stream.ack(&route);
        proxy.until("the second state", is("new"))
    })
}

/// Rule 23: a first configuration comes in order, whatever is asked for first.
#[test]
fn what_is_asked_for_first_does_not_change_the_order() -> Result<()> {
    on_ads(|node, variant| {
        node.set(OLD)?;
        let mut proxy = Proxy::connect(node, variant);
        proxy.until("the first state", is("old"))?;
        // A route of a cluster that came, and went, and came with others.
        for _ in 0..3 {
            node.change(NEW, GONE)?;
            proxy.until("the second state", is("new"))?;
            let gone: Vec<(Kind, &str)> = GONE.iter().map(|(kind, _)| (*kind, "new")).collect();
            node.change(OLD, &gone)?;
            proxy.until("the first state again", is("old"))?;
        }
        Ok(())
    })
}

/// Rule 24: "even … when an earlier response is not yet acknowledged".
#[test]
fn the_order_holds_while_an_earlier_response_is_unanswered() -> Result<()> {
    on_ads(|node, variant| {
        node.set(OLD)?;
        let mut proxy = Proxy::connect(node, variant);
        proxy.until("the first state", is("old"))?;
        node.set(&[(Cluster, "old", "two")])?;
        let open = proxy.stream.next(Cluster)?;
        proxy.log.clear();
        node.change(NEW, GONE)?;
        let next = proxy.look()?;
        // The older response is answered late, the newer one at once.
        proxy.stream.ack(&next);
        proxy.stream.ack(&open);
        proxy.until("the second state", is("new"))
    })
}

/// Rule 24: silence "must not block other nodes, nor this node for ever".
#[test]
fn a_client_that_never_answers_for_clusters_delays_itself_a_little_and_others_not_at_all()
-> Result<()> {
    on_ads(|node, variant| {
        node.set(OLD)?;
        let mut silent = Proxy::connect(node, variant);
        silent.until("the first state", is("old"))?;
        let twin = node.world.node();
        twin.set(OLD)?;
        let mut other = Proxy::connect(&twin, variant);
        other.until("the first state", is("old"))?;
        node.change(NEW, GONE)?;
        twin.change(NEW, GONE)?;
        let began = Instant::now();
        other.until("the second state", is("new"))?;
        let took = began.elapsed();
        ensure!(
            took < Duration::from_secs(5),
            "the other node waited {took:?}"
        );
        while !is("new")(&silent.stream) {
            let response = silent.look()?;
            if response.kind != Cluster {
                silent.stream.ack(&response);
            }
        }
        Ok(())
    })
}

/// Rule 24: a rejection "must not block … this node for ever"; what mends it goes through at once.
#[test]
fn a_rejected_cluster_holds_its_routes_back_until_it_is_mended() -> Result<()> {
    on_ads(|node, variant| {
        node.set(OLD)?;
        let mut proxy = Proxy::connect(node, variant);
        proxy.until("the first state", is("old"))?;
        node.change(NEW, GONE)?;
        let response = proxy.look()?;
        expect("first", response.kind, Cluster)?;
        proxy.stream.nack(&response, "no such thing");
        node.set(&[(Cluster, "new", "mended")])?;
        proxy.until("the mended state", is("new"))?;
        ensure!(proxy.stream.has(Cluster)["new"].holds("mark=mended"));
        Ok(())
    })
}

/// A route configuration that leads to a cluster.
fn route_to(name: &str, cluster: &str) -> Value {
    json!({"@type": Route.url(), "name": name, "virtual_hosts": [
        {"name": format!("mark={cluster}"), "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": cluster}},
        ]},
    ]})
}

/// Rules 3 and 23: a route does not reach Envoy before the cluster it names, however long that is rejected;
/// what does not name it is not held up, and the reason is there to see.
#[test]
fn a_route_waits_for_as_long_as_its_new_cluster_is_rejected() -> Result<()> {
    through_doors(&Variant::BOTH, &[Route], |node, variant, service, _| {
        node.set(&[(Cluster, "old", "one")])?;
        node.apply(vec![route_to("r", "old"), route_to("other", "old")], &[])?;
        let single = |kind| match service {
            Service::Ads => Service::Ads,
            Service::Only(_) => Service::Only(kind),
        };
        let mut routes = node.stream(variant, service);
        let mut clusters_alone =
            (service != Service::Ads).then(|| node.stream(variant, single(Cluster)));
        {
            let clusters = clusters_alone.as_mut().unwrap_or(&mut routes);
            clusters.subscribe(Cluster, &[]);
            clusters.take(Cluster)?;
        }
        routes.subscribe(Route, &["r", "other", "sentinel"]);
        routes.take(Route)?;
        let new = set_of(Cluster, "new", "bad");
        node.apply(
            vec![new, route_to("r", "new"), route_to("other", "new-too")],
            &[],
        )?;
        {
            let clusters = clusters_alone.as_mut().unwrap_or(&mut routes);
            let response = clusters.next(Cluster)?;
            clusters.nack(&response, "no such thing");
        }
        // Patience over, the rest goes on.
        let marks = vec!["other=new-too".into()];
        expect("what is independent", routes.take(Route)?.marks(), marks)?;
        node.is_quiet(&mut routes, service)?;
        node.wait_type(Route, "the reason to be shown", |found| {
            found["held_back"] == json!([{"name": "r", "because_type": "CDS", "because": "new"}])
        })?;
        node.wait_type(Cluster, "the rejection to be shown", |found| {
            found["rejected"] == json!(["new"]) && found["state"] == "REJECTED"
        })?;
        node.set(&[(Cluster, "new", "good")])?;
        {
            let clusters = clusters_alone.as_mut().unwrap_or(&mut routes);
            clusters.take(Cluster)?;
        }
        expect("at last", routes.take(Route)?.marks(), vec!["r=new".into()])?;
        node.wait_type(Route, "nothing to be held", |found| {
            found["held_back"] == json!([])
        })
    })
}

/// Rules 3 and 15 together: a changed cluster needs its endpoints again, and the newest were rejected.
#[test]
fn a_changed_cluster_whose_endpoints_were_rejected_gets_the_last_good_ones() -> Result<()> {
    on_ads(|node, variant| {
        node.set(&[(Cluster, "a", "one"), (Endpoints, "a", "good")])?;
        let mut stream = node.ads(variant);
        stream.subscribe(Cluster, &[]);
        stream.take(Cluster)?;
        stream.subscribe(Endpoints, &["a"]);
        stream.take(Endpoints)?;
        node.set(&[(Endpoints, "a", "bad")])?;
        let response = stream.next(Endpoints)?;
        stream.nack(&response, "no such thing");
        node.set(&[(Cluster, "a", "two")])?;
        expect(
            "the cluster",
            stream.take(Cluster)?.marks(),
            vec!["a=two".into()],
        )?;
        let marks = vec!["a=good".into()];
        expect(
            "its endpoints",
            stream.take(Endpoints)?.marks(),
            marks.clone(),
        )?;
        if variant == Variant::Sotw {
            stream.subscribe(Endpoints, &["a"]);
            expect("asked again", stream.take(Endpoints)?.marks(), marks)?;
        }
        node.wait_type(Endpoints, "the rejection", |found| {
            found["state"] == "REJECTED" && found["rejected"] == json!(["a"])
        })?;
        node.set(&[(Endpoints, "a", "better")])?;
        expect(
            "mended",
            stream.take(Endpoints)?.marks(),
            vec!["a=better".into()],
        )?;
        node.wait_type(Endpoints, "it to be in step", |found| {
            found["state"] == "SYNCED"
        })
    })
}

/// Rule 24: a rejection that nobody mends ends in the server's state as far as the client takes it.
#[test]
fn a_rejection_that_nobody_mends_blocks_nothing_for_ever() -> Result<()> {
    let world = World::shared()?;
    for variant in Variant::BOTH {
        let node = world.node();
        node.set(OLD)?;
        let mut proxy = Proxy::connect(&node, variant);
        proxy.until("the first state", is("old"))?;
        node.set(&[
            (Secret, "old", "bad"),
            (Route, "r", "old-too"),
            (Cluster, "old-too", "one"),
        ])?;
        let mut rejected = 0;
        while !proxy.stream.has(Route)["r"].holds("mark=old-too") {
            let response = proxy.look()?;
            if response.kind == Secret {
                rejected += 1;
                proxy.stream.nack(&response, "no such thing");
            } else {
                proxy.stream.ack(&response);
            }
        }
        expect("the rejected version came", rejected, 1)?;
    }
    Ok(())
}
