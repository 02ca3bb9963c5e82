//! The rules of the protocol, one story each, told to one stream.

mod rejections;

use std::{collections::HashMap, sync::Arc};

use super::{Endpoints, Interest, Memo, Others, Request, Response, Session, Variant};
use crate::resource::{Resource, ResourceType, View};

use ResourceType::{Cluster, ClusterLoadAssignment, Listener, RouteConfiguration};

/// A view of resources. A route's version says which clusters it names: `to a and b`.
pub(super) fn view(resources: &[(ResourceType, &str, &str)]) -> Arc<View> {
    let resources = resources.iter().map(|(kind, name, version)| {
        let resource = Resource::new(*kind, name, version, b"");
        let clusters = match *kind {
            RouteConfiguration => version.trim_start_matches("to ").split(" and "),
            _ => "".split(" and "),
        };
        let clusters = clusters.filter(|name| !name.is_empty()).map(Arc::from);
        (*kind, Arc::new(resource.naming(clusters.collect())))
    });
    Arc::new(View::new(resources.collect()))
}

/// A stream of that node.
pub(super) fn session(variant: Variant, view: &Arc<View>) -> Session {
    Session::new(Arc::new(Memo::default()), variant, 0xa1, Arc::clone(view))
}

/// What a client says, as the session takes it.
pub(super) fn request(
    kind: ResourceType,
    nonce: &str,
    error: Option<&str>,
    interest: Interest,
) -> Request {
    Request {
        kind,
        nonce: bytes::Bytes::copy_from_slice(nonce.as_bytes()),
        error: error.map(str::to_string),
        asked: interest.into(),
    }
}

/// A stream and its client's side of the bookkeeping.
struct Stream {
    session: Session,
    nonces: HashMap<ResourceType, String>,
    delta: bool,
}

impl Stream {
    fn new(variant: Variant, view: &Arc<View>) -> Self {
        Self {
            session: session(variant, view),
            nonces: HashMap::new(),
            delta: variant == Variant::Delta,
        }
    }

    fn sotw(view: &Arc<View>) -> Self {
        Self::new(Variant::StateOfTheWorld, view)
    }

    fn delta(view: &Arc<View>) -> Self {
        Self::new(Variant::Delta, view)
    }

    fn noted(&mut self, responses: Vec<Response>) -> Vec<Response> {
        for response in &responses {
            self.nonces
                .insert(response.payload.kind, response.nonce.clone());
        }
        responses
    }

    /// State of the world: asks for exactly these names, answering the newest response.
    fn ask(&mut self, kind: ResourceType, names: &[&str]) -> Vec<Response> {
        let nonce = self.nonces.get(&kind).cloned().unwrap_or_default();
        self.send(kind, &nonce, None, names_of(names, ""))
    }

    /// Delta: subscribes and unsubscribes, answering nothing.
    fn change(&mut self, kind: ResourceType, add: &[&str], remove: &[&str]) -> Vec<Response> {
        self.send(kind, "", None, changes(add, remove, &[]))
    }

    fn send(
        &mut self,
        kind: ResourceType,
        nonce: &str,
        error: Option<&str>,
        interest: Interest,
    ) -> Vec<Response> {
        let mut responses = Vec::new();
        let request = request(kind, nonce, error, interest);
        self.session.on_request(request, &mut responses).unwrap();
        self.noted(responses)
    }

    /// Answers the newest response of a type, wanting what it wanted.
    fn answer(&mut self, kind: ResourceType, names: &[&str], error: Option<&str>) -> Vec<Response> {
        let nonce = self.nonces[&kind].clone();
        let interest = match self.delta {
            true => changes(&[], &[], &[]),
            false => names_of(names, ""),
        };
        self.send(kind, &nonce, error, interest)
    }

    fn see(&mut self, view: &Arc<View>) -> Vec<Response> {
        let mut responses = Vec::new();
        self.session.on_view(Arc::clone(view), &mut responses);
        self.noted(responses)
    }

    fn lose_patience(&mut self) -> Vec<Response> {
        let mut responses = Vec::new();
        self.session.on_patience_over(&mut responses);
        self.noted(responses)
    }
}

fn names_of(names: &[&str], version: &str) -> Interest {
    Interest::Names {
        names: names.iter().map(|name| (*name).into()).collect(),
        version: version.to_string(),
    }
}

fn changes(add: &[&str], remove: &[&str], known: &[(&str, &str)]) -> Interest {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).into()).collect();
    let known = known.iter();
    Interest::Changes {
        subscribe: texts(add),
        unsubscribe: texts(remove),
        known: known
            .map(|(name, version)| ((*name).into(), (*version).into()))
            .collect(),
    }
}

/// `cluster a,b -c`: what a response says, for comparing.
fn told(responses: &[Response]) -> Vec<String> {
    responses.iter().map(one_told).collect()
}

fn one_told(response: &Response) -> String {
    let response = &response.payload;
    let kind = match response.kind {
        Cluster => "cds",
        ClusterLoadAssignment => "eds",
        Listener => "lds",
        RouteConfiguration => "rds",
        _ => "other",
    };
    let mut words: Vec<String> = vec![kind.into()];
    words.extend(
        response
            .resources
            .iter()
            .map(|one| format!("{}@{}", one.name, one.version)),
    );
    words.extend(response.removed.iter().map(|name| format!("-{name}")));
    words.join(" ")
}

#[test]
fn every_nonce_is_fresh_within_its_stream() {
    let mut stream = Stream::sotw(&view(&[(Cluster, "a", "1"), (Listener, "l", "1")]));
    let mut nonces = Vec::new();
    nonces.extend(stream.ask(Cluster, &[]));
    nonces.extend(stream.ask(Listener, &[]));
    nonces.extend(stream.see(&view(&[(Cluster, "a", "2"), (Listener, "l", "1")])));
    let mut nonces: Vec<_> = nonces.into_iter().map(|response| response.nonce).collect();
    assert_eq!(nonces.len(), 3);
    nonces.sort();
    nonces.dedup();
    assert_eq!(nonces.len(), 3);
}

#[test]
fn an_ack_is_answered_with_silence() {
    for mut stream in [
        Stream::sotw(&view(&[(Cluster, "a", "1")])),
        Stream::delta(&view(&[(Cluster, "a", "1")])),
    ] {
        let first = match stream.delta {
            true => stream.change(Cluster, &[], &[]),
            false => stream.ask(Cluster, &[]),
        };
        assert_eq!(told(&first), ["cds a@1"]);
        assert!(stream.answer(Cluster, &[], None).is_empty());
        let status = stream.session.status_of(Cluster).unwrap();
        assert_eq!((&status.acked, &status.nack), (&status.sent, &None));
    }
}

#[test]
fn what_was_rejected_is_not_sent_again_until_it_changes() {
    let first = view(&[(Cluster, "a", "1"), (Listener, "l", "1")]);
    for mut stream in [Stream::sotw(&first), Stream::delta(&first)] {
        let delta = stream.delta;
        let ask = |stream: &mut Stream, kind| match delta {
            true => stream.change(kind, &[], &[]),
            false => stream.ask(kind, &[]),
        };
        ask(&mut stream, Cluster);
        ask(&mut stream, Listener);
        assert!(stream.answer(Cluster, &[], Some("bad cluster")).is_empty());
        let nack = stream
            .session
            .status_of(Cluster)
            .unwrap()
            .nack
            .clone()
            .unwrap();
        assert_eq!(nack.message, "bad cluster");
        // Another type goes on undisturbed, and the rejected one stays silent.
        let other = view(&[(Cluster, "a", "1"), (Listener, "l", "2")]);
        assert!(stream.answer(Listener, &[], None).is_empty());
        assert_eq!(told(&stream.see(&other)), ["lds l@2"]);
        assert!(stream.answer(Listener, &[], None).is_empty());
        let good = view(&[(Cluster, "a", "3"), (Listener, "l", "2")]);
        assert_eq!(told(&stream.see(&good)), ["cds a@3"]);
        stream.answer(Cluster, &[], None);
        assert_eq!(stream.session.status_of(Cluster).unwrap().nack, None);
    }
}

#[test]
fn a_nonce_of_another_response_or_type_proves_nothing() {
    let mut stream = Stream::sotw(&view(&[(Cluster, "a", "1"), (Listener, "l", "1")]));
    stream.ask(Cluster, &[]);
    stream.ask(Listener, &[]);
    let of_listeners = stream.nonces[&Listener].clone();
    for stale in [of_listeners.as_str(), "77", "nonsense"] {
        assert!(
            stream
                .send(Cluster, stale, None, names_of(&[], ""))
                .is_empty()
        );
        assert!(
            stream
                .send(Cluster, stale, Some("no"), names_of(&["b"], ""))
                .is_empty()
        );
    }
    let status = stream.session.status_of(Cluster).unwrap();
    assert_eq!((&*status.acked, &status.nack), ("", &None));
}

#[test]
fn in_delta_a_stale_request_still_changes_the_subscription() {
    let mut stream = Stream::delta(&view(&[(RouteConfiguration, "r", "1")]));
    stream.change(RouteConfiguration, &["other"], &[]);
    let interest = changes(&["r"], &[], &[]);
    let responses = stream.send(RouteConfiguration, "stale", Some("no"), interest);
    assert_eq!(told(&responses), ["rds r@1"]);
    assert_eq!(
        stream.session.status_of(RouteConfiguration).unwrap().nack,
        None
    );
}

#[test]
fn who_comes_back_with_what_is_current_is_sent_nothing() {
    let current = view(&[
        (Cluster, "a", "1"),
        (Cluster, "b", "1"),
        (RouteConfiguration, "r", "1"),
    ]);
    let mut before = Stream::sotw(&current);
    let version = before.ask(Cluster, &[])[0].payload.version.clone();
    let mut again = Stream::sotw(&current);
    assert!(
        again
            .send(Cluster, "", None, names_of(&[], &version))
            .is_empty()
    );
    let mut changed = Stream::sotw(&view(&[(Cluster, "a", "2"), (Cluster, "b", "1")]));
    let responses = changed.send(Cluster, "", None, names_of(&[], &version));
    assert_eq!(told(&responses), ["cds a@2 b@1"]);

    let mut again = Stream::delta(&current);
    let known = [("a", "1"), ("b", "1")];
    assert!(
        again
            .send(Cluster, "", None, changes(&[], &[], &known))
            .is_empty()
    );
    let mut changed = Stream::delta(&current);
    let known = [("a", "0"), ("b", "1"), ("gone", "1")];
    let responses = changed.send(Cluster, "", None, changes(&[], &[], &known));
    assert_eq!(told(&responses), ["cds a@1 -gone"]);
}

#[test]
fn what_does_not_exist_yet_is_sent_as_soon_as_it_does() {
    let (empty, full) = (view(&[]), view(&[(RouteConfiguration, "r", "1")]));
    let mut stream = Stream::sotw(&empty);
    assert!(stream.ask(RouteConfiguration, &["r"]).is_empty());
    assert_eq!(told(&stream.see(&full)), ["rds r@1"]);
    let mut stream = Stream::delta(&empty);
    let first = stream.change(RouteConfiguration, &["r"], &[]);
    assert_eq!(told(&first), ["rds -r"], "Envoy would wait for its timeout");
    stream.answer(RouteConfiguration, &[], None);
    assert_eq!(told(&stream.see(&full)), ["rds r@1"]);
    stream.answer(RouteConfiguration, &[], None);
    assert_eq!(told(&stream.see(&empty)), ["rds -r"]);
}

#[test]
fn what_is_asked_for_again_is_sent_again() {
    let current = view(&[
        (RouteConfiguration, "r", "1"),
        (RouteConfiguration, "s", "1"),
    ]);
    let mut stream = Stream::sotw(&current);
    stream.ask(RouteConfiguration, &["r"]);
    assert!(stream.ask(RouteConfiguration, &[]).is_empty());
    assert_eq!(told(&stream.ask(RouteConfiguration, &["r"])), ["rds r@1"]);
    let mut stream = Stream::delta(&current);
    stream.change(RouteConfiguration, &["r"], &[]);
    assert_eq!(
        told(&stream.change(RouteConfiguration, &["r"], &[])),
        ["rds r@1"]
    );
    stream.change(RouteConfiguration, &[], &["r"]);
    assert_eq!(
        told(&stream.change(RouteConfiguration, &["r", "s"], &[])),
        ["rds r@1 s@1"]
    );
}

#[test]
fn unchanged_content_is_not_pushed() {
    let current = view(&[(Cluster, "a", "1"), (Listener, "l", "1")]);
    for mut stream in [Stream::sotw(&current), Stream::delta(&current)] {
        let names: &[&str] = &[];
        if stream.delta {
            stream.change(Cluster, names, names);
        } else {
            stream.ask(Cluster, names);
        }
        stream.answer(Cluster, names, None);
        let same = view(&[(Cluster, "a", "1"), (Listener, "l", "1")]);
        assert!(stream.see(&same).is_empty());
    }
}

#[test]
fn listeners_and_clusters_are_told_whole_and_others_in_part() {
    let first = view(&[
        (Cluster, "a", "1"),
        (Cluster, "b", "1"),
        (ClusterLoadAssignment, "a", "1"),
        (ClusterLoadAssignment, "b", "1"),
    ]);
    let mut stream = Stream::sotw(&first);
    stream.ask(Cluster, &[]);
    stream.ask(ClusterLoadAssignment, &["a", "b"]);
    stream.answer(Cluster, &[], None);
    stream.answer(ClusterLoadAssignment, &["a", "b"], None);
    let second = view(&[
        (Cluster, "a", "1"),
        (Cluster, "b", "1"),
        (ClusterLoadAssignment, "a", "1"),
        (ClusterLoadAssignment, "b", "2"),
    ]);
    assert_eq!(told(&stream.see(&second)), ["eds b@2"]);
    stream.answer(ClusterLoadAssignment, &["a", "b"], None);
    // The last cluster's removal is an empty full state.
    let one = view(&[(Cluster, "a", "1")]);
    assert_eq!(told(&stream.see(&one)), ["cds a@1"]);
    stream.answer(Cluster, &[], None);
    assert_eq!(told(&stream.see(&view(&[]))), ["cds"]);
}

#[test]
fn wildcards_come_and_go() {
    let current = view(&[(Cluster, "a", "1"), (Cluster, "b", "1")]);
    let mut stream = Stream::sotw(&current);
    assert_eq!(told(&stream.ask(Cluster, &[])), ["cds a@1 b@1"]);
    assert_eq!(told(&stream.ask(Cluster, &["a"])), ["cds a@1"]);
    assert!(
        stream.ask(Cluster, &[]).is_empty(),
        "names were given: empty is nothing"
    );
    assert!(
        stream
            .see(&view(&[(Cluster, "a", "2"), (Cluster, "b", "1")]))
            .is_empty()
    );
    assert_eq!(told(&stream.ask(Cluster, &["*"])), ["cds a@2 b@1"]);

    let mut stream = Stream::delta(&current);
    assert_eq!(told(&stream.change(Cluster, &["a"], &[])), ["cds a@1"]);
    assert_eq!(told(&stream.change(Cluster, &["*"], &[])), ["cds b@1"]);
    assert!(stream.change(Cluster, &[], &["*"]).is_empty());
    let changed = view(&[(Cluster, "a", "2"), (Cluster, "b", "2")]);
    assert_eq!(told(&stream.see(&changed)), ["cds a@2"]);

    let mut stream = Stream::delta(&current);
    stream.change(Cluster, &[], &[]);
    stream.change(Cluster, &["a"], &[]);
    // The wildcard still holds it, so it is told again rather than taken away.
    assert_eq!(told(&stream.change(Cluster, &[], &["a"])), ["cds a@1"]);
    assert!(stream.change(Cluster, &[], &["never"]).is_empty());
}

#[test]
fn an_empty_wildcard_is_an_answer_too() {
    let empty = view(&[]);
    assert_eq!(told(&Stream::sotw(&empty).ask(Cluster, &[])), ["cds"]);
    assert_eq!(
        told(&Stream::delta(&empty).change(Cluster, &[], &[])),
        ["cds"]
    );
    assert!(Stream::sotw(&empty).ask(RouteConfiguration, &[]).is_empty());
    assert!(
        Stream::delta(&empty)
            .change(RouteConfiguration, &[], &[])
            .is_empty()
    );
}

#[test]
fn of_two_requests_in_a_row_the_second_ones_names_are_honoured() {
    let current = view(&[
        (RouteConfiguration, "r", "1"),
        (RouteConfiguration, "s", "1"),
    ]);
    let mut stream = Stream::sotw(&current);
    let first = stream.send(RouteConfiguration, "", None, names_of(&["r"], ""));
    let second = stream.send(RouteConfiguration, "", None, names_of(&["r", "s"], ""));
    assert_eq!(
        (told(&first), told(&second)),
        (vec!["rds r@1".into()], vec!["rds s@1".into()])
    );
}

#[test]
fn who_warms_a_cluster_anew_is_told_its_endpoints_again() {
    let first = view(&[(Cluster, "a", "1"), (ClusterLoadAssignment, "a", "1")]);
    let second = view(&[(Cluster, "a", "2"), (ClusterLoadAssignment, "a", "1")]);
    let mut stream = Stream::sotw(&first);
    stream.ask(Cluster, &[]);
    stream.answer(Cluster, &[], None);
    stream.ask(ClusterLoadAssignment, &["a"]);
    stream.answer(ClusterLoadAssignment, &["a"], None);
    assert_eq!(told(&stream.see(&second)), ["cds a@2", "eds a@1"]);
    stream.answer(Cluster, &[], None);
    stream.answer(ClusterLoadAssignment, &["a"], None);
    // The same request once more answers nothing: it is a question.
    let again = stream.answer(ClusterLoadAssignment, &["a"], None);
    assert_eq!(told(&again), ["eds a@1"]);
}

/// What a gateway of one service knows, and what it knows when a canary came.
fn without_and_with_canary() -> (Arc<View>, Arc<View>) {
    let without = view(&[
        (Cluster, "s", "1"),
        (ClusterLoadAssignment, "s", "1"),
        (Listener, "l", "1"),
        (RouteConfiguration, "l", "to s"),
    ]);
    let with = view(&[
        (Cluster, "s", "1"),
        (Cluster, "s|v2", "1"),
        (ClusterLoadAssignment, "s", "1"),
        (ClusterLoadAssignment, "s|v2", "1"),
        (Listener, "l", "1"),
        (RouteConfiguration, "l", "to s and s|v2"),
    ]);
    (without, with)
}

/// A gateway that has been served and has acknowledged everything.
fn served(variant: Variant, view: &Arc<View>, endpoints: &[&str]) -> Stream {
    let mut stream = Stream::new(variant, view);
    let wanted: [(ResourceType, &[&str]); 4] = [
        (Cluster, &[]),
        (ClusterLoadAssignment, endpoints),
        (Listener, &[]),
        (RouteConfiguration, &["l"]),
    ];
    for (kind, names) in wanted {
        let responses = match stream.delta {
            true => stream.change(kind, names, &[]),
            false => stream.ask(kind, names),
        };
        assert_eq!(responses.len(), 1);
        stream.answer(kind, names, None);
    }
    stream
}

#[test]
fn a_route_waits_until_its_new_cluster_has_its_endpoints() {
    let (without, with) = without_and_with_canary();
    for variant in [Variant::StateOfTheWorld, Variant::Delta] {
        let mut stream = served(variant, &without, &["s"]);
        let delta = stream.delta;
        let first = stream.see(&with);
        let clusters = if delta {
            "cds s|v2@1"
        } else {
            "cds s@1 s|v2@1"
        };
        assert_eq!(told(&first), [clusters]);
        assert!(
            stream.answer(Cluster, &[], None).is_empty(),
            "its endpoints are not asked for yet"
        );
        let endpoints = match delta {
            true => stream.change(ClusterLoadAssignment, &["s|v2"], &[]),
            false => stream.ask(ClusterLoadAssignment, &["s", "s|v2"]),
        };
        assert_eq!(told(&endpoints), ["eds s|v2@1"]);
        let names: &[&str] = &["s", "s|v2"];
        let routes = stream.answer(ClusterLoadAssignment, names, None);
        assert_eq!(told(&routes), ["rds l@to s and s|v2"]);
        stream.answer(RouteConfiguration, &["l"], None);
        assert!(!stream.session.is_waiting());
    }
}

#[test]
fn a_cluster_goes_only_after_the_route_that_used_it() {
    let (without, with) = without_and_with_canary();
    for variant in [Variant::StateOfTheWorld, Variant::Delta] {
        let mut stream = served(variant, &with, &["s", "s|v2"]);
        let first = stream.see(&without);
        assert_eq!(told(&first), ["rds l@to s"]);
        let removals = stream.answer(RouteConfiguration, &["l"], None);
        let expected: &[&str] = match stream.delta {
            true => &["cds -s|v2", "eds -s|v2"],
            false => &["cds s@1"],
        };
        assert_eq!(told(&removals), expected);
    }
}

#[test]
fn a_client_that_does_not_answer_is_not_waited_for_for_ever() {
    let (without, with) = without_and_with_canary();
    for variant in [Variant::StateOfTheWorld, Variant::Delta] {
        let mut stream = served(variant, &without, &["s"]);
        stream.see(&with);
        assert!(stream.session.is_waiting());
        assert_eq!(told(&stream.lose_patience()), ["rds l@to s and s|v2"]);
        stream.lose_patience();
        assert!(!stream.session.is_waiting());
    }
}

#[test]
fn an_old_rejection_holds_nothing_up_later() {
    let (without, with) = without_and_with_canary();
    let mut stream = served(Variant::Delta, &without, &["s"]);
    stream.see(&view(&[
        (Cluster, "s", "bad"),
        (ClusterLoadAssignment, "s", "1"),
        (Listener, "l", "1"),
        (RouteConfiguration, "l", "to s"),
    ]));
    stream.answer(Cluster, &[], Some("bad"));
    stream.answer(ClusterLoadAssignment, &[], None);
    stream.lose_patience();
    stream.lose_patience();
    let _ = with;
    let responses = stream.see(&view(&[
        (Cluster, "s", "bad"),
        (ClusterLoadAssignment, "s", "1"),
        (Listener, "l", "1"),
        (RouteConfiguration, "l", "elsewhere"),
    ]));
    assert_eq!(told(&responses), ["rds l@elsewhere"]);
}

#[test]
fn a_burst_of_changes_ends_in_the_newest_state() {
    let (without, with) = without_and_with_canary();
    let mut stream = served(Variant::Delta, &without, &["s"]);
    stream.see(&with);
    // Before anything is answered, the canary is gone again: its cluster was sent, so it is removed.
    let responses = stream.see(&without);
    assert!(responses.is_empty(), "{:?}", told(&responses));
    let removals = stream.answer(Cluster, &[], None);
    assert_eq!(told(&removals), ["cds -s|v2"]);
}

#[test]
fn on_streams_of_single_types_routes_wait_for_clusters_and_removals_for_routes() {
    let (without, with) = without_and_with_canary();
    let told_by = |stream: &mut Stream, made: bool, used: bool| {
        let mut responses = Vec::new();
        let others = Others {
            made,
            used,
            ..Others::default()
        };
        stream.session.on_others(others, &mut responses);
        told(&stream.noted(responses))
    };
    for variant in [Variant::StateOfTheWorld, Variant::Delta] {
        let mut routes = Stream::new(variant, &without);
        let mut clusters = Stream::new(variant, &without);
        for (stream, kind, names) in [
            (&mut routes, RouteConfiguration, &["l"][..]),
            (&mut clusters, Cluster, &[]),
        ] {
            match stream.delta {
                true => stream.change(kind, names, &[]),
                false => stream.ask(kind, names),
            };
            stream.answer(kind, names, None);
        }

        // The canary comes: its cluster at once, the route to it when the cluster was accepted.
        let waits = Others {
            made: false,
            ..Others::default()
        };
        routes.session.expect(waits);
        assert!(routes.see(&with).is_empty());
        assert!(!routes.session.has_used());
        assert!(!clusters.see(&with).is_empty());
        assert!(!clusters.session.has_made());
        clusters.answer(Cluster, &[], None);
        assert!(clusters.session.has_made());
        assert_eq!(told_by(&mut routes, true, true), ["rds l@to s and s|v2"]);
        routes.answer(RouteConfiguration, &["l"], None);
        assert!(routes.session.has_used());

        // It goes: the route at once, its cluster when the route was accepted.
        let waits = Others {
            used: false,
            ..Others::default()
        };
        clusters.session.expect(waits);
        assert!(clusters.see(&without).is_empty());
        assert!(clusters.session.has_made(), "nothing new waits for it");
        let removal = if clusters.delta {
            "cds -s|v2"
        } else {
            "cds s@1"
        };
        assert_eq!(told_by(&mut clusters, true, true), [removal]);
    }
}

#[test]
fn on_its_own_stream_a_new_cluster_is_made_when_another_stream_has_its_endpoints() {
    let (without, with) = without_and_with_canary();
    let others = |endpoints| Others {
        endpoints,
        ..Others::default()
    };
    let served = |variant, endpoints| {
        let mut clusters = Stream::new(variant, &without);
        match clusters.delta {
            true => clusters.change(Cluster, &[], &[]),
            false => clusters.ask(Cluster, &[]),
        };
        clusters.answer(Cluster, &[], None);
        clusters.session.expect(others(endpoints));
        clusters.see(&with);
        clusters
    };
    for variant in [Variant::StateOfTheWorld, Variant::Delta] {
        // No stream of the node has endpoints: there is nothing to wait for.
        let mut clusters = served(variant, Endpoints::NotThere);
        clusters.answer(Cluster, &[], None);
        assert!(clusters.session.has_made());

        let mut clusters = served(variant, Endpoints::Answered);
        let warming: Vec<&str> = clusters.session.warming().map(|name| &**name).collect();
        assert_eq!(warming, ["s|v2"]);
        let tell = |clusters: &mut Stream, endpoints| {
            clusters
                .session
                .on_others(others(endpoints), &mut Vec::new());
        };
        tell(&mut clusters, Endpoints::Awaited);
        clusters.answer(Cluster, &[], None);
        assert!(!clusters.session.has_made());
        tell(&mut clusters, Endpoints::Answered);
        assert!(clusters.session.has_made());
        assert_eq!(clusters.session.warming().count(), 0);

        // Nor is that waited for for ever.
        let mut clusters = served(variant, Endpoints::Awaited);
        clusters.answer(Cluster, &[], None);
        assert!(clusters.session.is_waiting() && !clusters.session.has_made());
        clusters.lose_patience();
        assert!(clusters.session.has_made());
    }
}

/// What a client may want is bounded: discovery.proto sets no bound, so it is told which one it met.
#[test]
fn names_are_bounded_one_by_one_and_all_of_a_stream_together() {
    use super::{NAME_BYTES_MAX, RequestError, STREAM_NAME_BYTES_MAX};
    let wants = |names: Vec<String>, delta: bool| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        match delta {
            true => changes(&names, &[], &[]),
            false => names_of(&names, ""),
        }
    };
    let long = |number: usize, bytes: usize| format!("{number:0bytes$}");
    for variant in [Variant::StateOfTheWorld, Variant::Delta] {
        let delta = variant == Variant::Delta;
        let mut session = session(variant, &view(&[]));
        let mut ask = |kind, names| {
            let mut responses = Vec::new();
            session.on_request(request(kind, "", None, wants(names, delta)), &mut responses)
        };
        assert!(ask(Cluster, vec![long(1, NAME_BYTES_MAX)]).is_ok());
        let bytes = NAME_BYTES_MAX + 1;
        let error = ask(ClusterLoadAssignment, vec![long(1, bytes)]);
        assert_eq!(error, Err(RequestError::LongName { bytes }));
        // Half of it in one type, half of it in another: one more is too much.
        let half = STREAM_NAME_BYTES_MAX / NAME_BYTES_MAX / 2;
        let many = |count| {
            (0..count)
                .map(|number| long(number, NAME_BYTES_MAX))
                .collect()
        };
        assert!(ask(RouteConfiguration, many(half)).is_ok());
        assert!(ask(ClusterLoadAssignment, many(half - 1)).is_ok());
        let error = ask(Listener, vec![long(1, NAME_BYTES_MAX)]);
        assert_eq!(error, Err(RequestError::TooManyNameBytes));
    }
}
