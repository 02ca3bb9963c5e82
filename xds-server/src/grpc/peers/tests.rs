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
        self.peer.report(self.update, &mut self.session);
    }

    /// As a stream looks at a newer view.
    fn see(&mut self, view: &Arc<View>) {
        self.update += 1;
        self.session.expect(self.peer.others(self.update, view));
        self.session.on_view(Arc::clone(view), &mut self.open);
        self.peer.report(self.update, &mut self.session);
        let others = self.peer.others(self.update, self.session.view());
        self.session.on_others(others, &mut self.open);
    }

    /// Does what a stream does when others went on. Whether they had.
    fn follow(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let is_changed = self.peer.poll_changed(&mut context).is_ready();
        if is_changed {
            let again = self.peer.again(&self.session);
            self.session.tell_endpoints_again(&again, &mut self.open);
            let others = self.peer.others(self.update, self.session.view());
            self.session.on_others(others, &mut self.open);
            self.peer.report(self.update, &mut self.session);
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
        while clusters.follow() {}
        while routes.follow() {}
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

/// An Envoy closes the stream of a cluster that goes, and opens another when it comes again. The first may be open
/// for a moment more, and what was answered on it before says nothing.
#[test]
fn a_cluster_that_comes_again_waits_for_endpoints_that_are_told_again() {
    for is_on_another_stream in [false, true] {
        let peers = Arc::default();
        let [mut clusters, mut routes, mut old] = served(&peers);
        for stream in [&mut routes, &mut clusters] {
            stream.see(&view(&[], "old"));
        }
        // Its removal waits for nobody any more.
        clusters.session.on_patience_over(&mut clusters.open);
        clusters.answer(None, &[]);
        let again = view(&["old"], "again");
        for stream in [&mut routes, &mut clusters] {
            stream.see(&again);
        }
        // It never saw that its cluster was gone.
        old.update += 1;
        old.see(&again);
        clusters.answer(None, &[]);
        while clusters.follow() {}
        assert!(old.open.is_empty() && old.follow());
        assert_eq!(old.open.len(), 1, "told again");
        while routes.follow() {}
        assert!(routes.open.is_empty(), "nobody has answered for them");
        if is_on_another_stream {
            let mut another = Stream::join(&peers, 4, ClusterLoadAssignment, &again, 3);
            another.ask(&["old"]);
            another.answer(None, &["old"]);
        } else {
            old.answer(None, &["old"]);
        }
        while clusters.follow() {}
        while routes.follow() {}
        assert_eq!(routes.open.len(), 1);
    }
}

/// It goes and comes again before its endpoints were asked for, and before its removal was told: to the stream of
/// clusters nothing has changed, yet the client has no endpoints of it.
#[test]
fn a_new_cluster_waits_for_its_endpoints_however_often_it_goes_meanwhile() {
    let peers = Arc::default();
    let [mut clusters, mut routes, mut old] = served(&peers);
    let (without, with) = (view(&["old"], "other"), view(&["new", "old"], "new"));
    for view in [&view(&["new", "old"], "old"), &without, &with] {
        for stream in [&mut routes, &mut clusters, &mut old] {
            stream.see(view);
        }
        if !clusters.open.is_empty() {
            clusters.answer(None, &[]);
        }
        for _ in 0..3 {
            while clusters.follow() {}
            while routes.follow() {}
        }
        if view.get(Cluster, "new").is_none() {
            // Its route goes elsewhere, and is not answered for: so the cluster stays.
            routes.open.clear();
        }
    }
    assert!(routes.open.is_empty(), "it has no endpoints yet");
    let mut new = Stream::join(&peers, 4, ClusterLoadAssignment, &with, 4);
    new.ask(&["new"]);
    new.answer(None, &["new"]);
    for _ in 0..3 {
        while clusters.follow() {}
        while routes.follow() {}
    }
    assert_eq!(routes.open.len(), 1);
}

#[test]
fn without_a_stream_of_endpoints_or_when_the_last_goes_nobody_waits_for_them() {
    let peers = Arc::default();
    let [mut clusters, mut routes, old] = served(&peers);
    for stream in [&mut routes, &mut clusters] {
        stream.see(&view(&["new", "old"], "new"));
    }
    clusters.answer(None, &[]);
    while clusters.follow() {}
    while routes.follow() {}
    assert!(routes.open.is_empty() && !clusters.session.has_made());
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
