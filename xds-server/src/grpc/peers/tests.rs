//! Streams of one node that tell each other how far they are.

use std::{sync::Arc, task::Waker};

use bytes::Bytes;

use super::*;
use crate::{
    discovery::{Interest, Request, Response, Variant},
    resource::{Resource, View},
};

use ResourceType::RouteConfiguration;

fn view(clusters: &[&str], route: &str) -> Arc<View> {
    let one = |kind, name: &str, version| (kind, Arc::new(Resource::new(kind, name, version, b"")));
    let both = |name: &&str| [Cluster, ClusterLoadAssignment].map(|kind| one(kind, name, "1"));
    let clusters = clusters.iter().flat_map(both);
    let route = one(RouteConfiguration, "r", route);
    Arc::new(View::new(clusters.chain([route]).collect()))
}

/// A stream of one type, and how its client answers.
struct Stream {
    kind: ResourceType,
    session: Session,
    peer: Peer,
    update: u64,
    open: Vec<Response>,
}

impl Stream {
    /// Of a node that is told its `update`-th view.
    fn join(
        peers: &Arc<Peers>,
        number: u64,
        kind: ResourceType,
        view: &Arc<View>,
        update: u64,
    ) -> Self {
        let variant = Variant::StateOfTheWorld;
        Self {
            kind,
            session: Session::new(Arc::default(), variant, number, Arc::clone(view)),
            peer: peers.join(&NodeKey::default(), number, kind, update),
            update,
            open: Vec::new(),
        }
    }

    fn ask(&mut self, names: &[&str]) {
        self.send("", None, names);
    }

    fn answer(&mut self, error: Option<&str>, names: &[&str]) {
        let nonce = self.open.pop().unwrap().nonce;
        self.send(&nonce, error, names);
    }

    fn send(&mut self, nonce: &str, error: Option<&str>, names: &[&str]) {
        let request = Request {
            kind: self.kind,
            nonce: Bytes::copy_from_slice(nonce.as_bytes()),
            error: error.map(Into::into),
            asked: Interest::Names {
                names: names.iter().map(|name| (*name).into()).collect(),
                version: String::new(),
            }
            .into(),
        };
        self.session.on_request(request, &mut self.open).unwrap();
        self.peer.report(self.update, &self.session);
    }

    /// As a stream looks at a newer view.
    fn see(&mut self, view: &Arc<View>) {
        self.update += 1;
        self.session.expect(self.peer.others(self.update));
        self.session.on_view(Arc::clone(view), &mut self.open);
        self.peer.report(self.update, &self.session);
        let others = self.peer.others(self.update);
        self.session.on_others(others, &mut self.open);
    }

    /// Does what a stream does when others went on. Whether they had.
    fn follow(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let is_changed = self.peer.poll_changed(&mut context).is_ready();
        if is_changed {
            let others = self.peer.others(self.update);
            self.session.on_others(others, &mut self.open);
            self.peer.report(self.update, &self.session);
        }
        is_changed
    }
}

/// Clusters, routes, and endpoints of `old`; all accepted.
fn served(peers: &Arc<Peers>) -> [Stream; 3] {
    let before = view(&["old"], "old");
    let kinds: [(ResourceType, &[&str]); 3] = [
        (Cluster, &[]),
        (RouteConfiguration, &["r"]),
        (ClusterLoadAssignment, &["old"]),
    ];
    let mut number = 0;
    let mut streams = kinds.map(|(kind, names)| {
        number += 1;
        let mut stream = Stream::join(peers, number, kind, &before, 1);
        stream.ask(names);
        stream.answer(None, names);
        stream
    });
    for _ in 0..2 {
        for stream in &mut streams {
            while stream.follow() {}
        }
    }
    streams
}

/// An Envoy opens another stream for the endpoints of another cluster.
#[test]
fn a_route_waits_for_the_endpoints_of_its_new_cluster_on_whichever_stream_they_come() {
    for error in [None, Some("no such thing")] {
        let peers = Arc::default();
        let [mut clusters, mut routes, mut old] = served(&peers);
        let both = view(&["new", "old"], "new");
        for stream in [&mut routes, &mut clusters, &mut old] {
            stream.see(&both);
        }
        clusters.answer(None, &[]);
        assert!(!routes.follow(), "the clusters' stream waits itself");
        let mut new = Stream::join(&peers, 4, ClusterLoadAssignment, &both, 2);
        new.ask(&["new"]);
        assert!(!clusters.follow(), "they are on their way");
        new.answer(error, &["new"]);
        assert!(clusters.follow());
        assert!(routes.open.is_empty());
        assert!(routes.follow());
        assert_eq!(routes.open.len(), 1, "the route that names it");
    }
}

#[test]
fn without_a_stream_of_endpoints_or_when_the_last_goes_nobody_waits_for_them() {
    let peers = Arc::default();
    let [mut clusters, mut routes, old] = served(&peers);
    for stream in [&mut routes, &mut clusters] {
        stream.see(&view(&["new", "old"], "new"));
    }
    clusters.answer(None, &[]);
    assert!(!routes.follow());
    drop(old);
    assert!(clusters.follow());
    assert!(routes.follow());
    assert_eq!(routes.open.len(), 1);

    routes.answer(None, &["r"]);
    while clusters.follow() {}
    for stream in [&mut routes, &mut clusters] {
        stream.see(&view(&["newer", "old"], "newer"));
    }
    clusters.answer(None, &[]);
    while routes.follow() {}
    assert_eq!(routes.open.len(), 1, "there is nobody to wait for");
}

/// A node may have thousands of streams.
#[test]
fn a_stream_is_woken_by_the_last_that_it_waits_for_and_not_by_each() {
    let peers = Arc::default();
    let names = ["a", "b", "c"];
    let before = view(&names, "a");
    let mut routes = Stream::join(&peers, 9, RouteConfiguration, &before, 1);
    routes.ask(&["r"]);
    routes.answer(None, &["r"]);
    let mut number = 0;
    let mut endpoints = names.map(|name| {
        number += 1;
        let mut stream = Stream::join(&peers, number, ClusterLoadAssignment, &before, 1);
        stream.ask(&[name]);
        stream.answer(None, &[name]);
        stream
    });
    while routes.follow() {}
    let after = view(&names, "b");
    routes.see(&after);
    let [first, second, last] = &mut endpoints;
    first.see(&after);
    second.see(&after);
    assert!(!routes.follow());
    last.see(&after);
    assert!(routes.follow());
    assert_eq!(routes.open.len(), 1);
}
