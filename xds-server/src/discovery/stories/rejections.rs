//! What becomes of what a client rejected, and of what needs it.

use std::sync::Arc;

use super::{Stream, served, told, view};
use crate::{
    discovery::Variant,
    resource::{ResourceType, View},
};

use ResourceType::{Cluster, ClusterLoadAssignment, Listener, RouteConfiguration};

/// A gateway that has been served, and then rejected what it is shown.
fn rejecting(variant: Variant, before: &Arc<View>, bad: &Arc<View>, kind: ResourceType) -> Stream {
    let mut stream = served(variant, before, &["s"]);
    stream.see(bad);
    let names: &[&str] = match kind {
        ClusterLoadAssignment => &["s"],
        _ => &[],
    };
    let answered = stream.answer(kind, names, Some("no such thing"));
    assert!(answered.is_empty(), "{:?}", told(&answered));
    if kind == Cluster {
        stream.answer(ClusterLoadAssignment, &["s"], None);
    }
    stream
}

/// "When to send an update": what was rejected and did not change is not sent again, nor when another change
/// has to tell of the same resource. "Resource warming": a changed cluster needs endpoints all the same; it gets
/// those that the client last accepted.
#[test]
fn a_changed_cluster_whose_endpoints_were_rejected_is_told_the_last_good_ones() {
    let all = |cluster, endpoints| {
        view(&[
            (Cluster, "s", cluster),
            (ClusterLoadAssignment, "s", endpoints),
            (Listener, "l", "1"),
            (RouteConfiguration, "l", "to s"),
        ])
    };
    for variant in [Variant::StateOfTheWorld, Variant::Delta] {
        let bad = all("1", "bad");
        let mut stream = rejecting(variant, &all("1", "1"), &bad, ClusterLoadAssignment);
        let responses = stream.see(&all("2", "bad"));
        assert_eq!(told(&responses), ["cds s@2", "eds s@1"]);
        stream.answer(Cluster, &[], None);
        stream.answer(ClusterLoadAssignment, &["s"], None);
        let status = |stream: &Stream| stream.session.status_of(ClusterLoadAssignment).cloned();
        let shown = status(&stream).unwrap();
        assert!(shown.nack.is_some(), "what there is is still rejected");
        assert_eq!(
            (&*shown.refused[0].name, &*shown.refused[0].version),
            ("s", "bad")
        );
        if !stream.delta {
            // Envoy asks again while the cluster warms.
            let again = stream.answer(ClusterLoadAssignment, &["s"], None);
            assert_eq!(told(&again), ["eds s@1"]);
            stream.answer(ClusterLoadAssignment, &["s"], None);
        }
        // What is right ends it: other endpoints, or the old ones again, which the client has.
        assert!(stream.see(&all("2", "1")).is_empty());
        assert!(status(&stream).unwrap().nack.is_none());
        assert_eq!(told(&stream.see(&all("2", "3"))), ["eds s@3"]);
    }
}

/// "Eventual consistency considerations": make before break holds for what was rejected too, since a cluster
/// that the client does not have was never made.
#[test]
fn a_route_to_a_new_cluster_that_was_rejected_waits_until_there_is_a_good_one() {
    let all = |clusters: &[(&str, &str)], route: &str| {
        let mut all = vec![(ClusterLoadAssignment, "s", "1"), (Listener, "l", "1")];
        all.extend(
            clusters
                .iter()
                .map(|(name, version)| (Cluster, *name, *version)),
        );
        all.extend([
            (RouteConfiguration, "l", route),
            (RouteConfiguration, "m", "to s"),
        ]);
        view(&all)
    };
    for variant in [Variant::StateOfTheWorld, Variant::Delta] {
        let before = all(&[("s", "1")], "to s");
        let bad = all(&[("new", "bad")], "to new");
        let mut stream = rejecting(variant, &before, &bad, Cluster);
        // Patience ends the waiting and not the reason.
        assert!(stream.lose_patience().is_empty());
        assert!(stream.lose_patience().is_empty());
        assert!(!stream.session.is_waiting());
        let held = &stream.session.status_of(RouteConfiguration).unwrap().held;
        assert_eq!(held.len(), 1);
        assert_eq!((&*held[0].name, &*held[0].because), ("l", "new"));
        // What has nothing to do with it goes on.
        let listener = view(&[
            (Cluster, "new", "bad"),
            (ClusterLoadAssignment, "s", "2"),
            (Listener, "l", "2"),
            (RouteConfiguration, "l", "to new"),
            (RouteConfiguration, "m", "to s"),
        ]);
        let responses = stream.see(&listener);
        assert_eq!(told(&responses), ["eds s@2"]);
        let responses = stream.answer(ClusterLoadAssignment, &["s"], None);
        // The listener's routes are told again as they were.
        assert_eq!(told(&responses), ["lds l@2", "rds l@to s"]);
        stream.answer(Listener, &[], None);
        assert!(
            stream.answer(RouteConfiguration, &["l"], None).is_empty(),
            "s goes on being used"
        );
        // A good one lets all of it through, in order.
        let responses = stream.see(&view(&[
            (Cluster, "new", "good"),
            (ClusterLoadAssignment, "s", "2"),
            (Listener, "l", "2"),
            (RouteConfiguration, "l", "to new"),
        ]));
        let clusters = if stream.delta {
            "cds new@good"
        } else {
            "cds new@good s@1"
        };
        assert_eq!(told(&responses), [clusters]);
        let responses = stream.answer(Cluster, &[], None);
        assert_eq!(told(&responses), ["rds l@to new"]);
        let responses = stream.answer(RouteConfiguration, &["l"], None);
        let gone = if stream.delta {
            "cds -s"
        } else {
            "cds new@good"
        };
        assert_eq!(told(&responses)[0], gone);
    }
}

/// "NACK": the client goes on with its previous version. A cluster of which it has one does not stand in the way of
/// its routes.
#[test]
fn a_route_to_a_cluster_of_which_the_client_has_an_older_version_is_sent() {
    let all = |cluster, route| {
        view(&[
            (Cluster, "s", cluster),
            (ClusterLoadAssignment, "s", "1"),
            (Listener, "l", "1"),
            (RouteConfiguration, "l", route),
        ])
    };
    for variant in [Variant::StateOfTheWorld, Variant::Delta] {
        let before = all("1", "to other");
        let mut stream = rejecting(variant, &before, &all("bad", "to other"), Cluster);
        assert_eq!(told(&stream.see(&all("bad", "to s"))), ["rds l@to s"]);
    }
}

/// "Grouping Resources into Responses": another cluster's change tells of all clusters; "Deleting Resources": what
/// it leaves out is deleted. So of the rejected one it has the version that the client has.
#[test]
fn the_full_state_after_a_rejection_has_the_version_that_the_client_has() {
    let all = |s, other| view(&[(Cluster, "s", s), (Cluster, "other", other)]);
    let mut stream = Stream::sotw(&all("1", "1"));
    stream.ask(Cluster, &[]);
    stream.answer(Cluster, &[], None);
    assert_eq!(told(&stream.see(&all("bad", "1"))), ["cds other@1 s@bad"]);
    stream.answer(Cluster, &[], Some("bad"));
    assert_eq!(told(&stream.see(&all("bad", "2"))), ["cds other@2 s@1"]);
    stream.answer(Cluster, &[], None);
    assert!(stream.session.status_of(Cluster).unwrap().nack.is_some());
    assert_eq!(told(&stream.see(&all("good", "2"))), ["cds other@2 s@good"]);
    stream.answer(Cluster, &[], None);
    assert!(stream.session.status_of(Cluster).unwrap().nack.is_none());
}

/// "NACK": the message of `error_detail` has details. Of several resources those tell which one is bad; where they
/// do not, none is taken away.
#[test]
fn of_a_rejected_response_those_are_bad_that_the_client_names() {
    let all = |a, b, c| view(&[(Cluster, "a", a), (Cluster, "b", b), (Cluster, "c", c)]);
    let refused = |stream: &Stream| -> Vec<String> {
        let status = stream.session.status_of(Cluster).unwrap();
        status
            .refused
            .iter()
            .map(|one| one.name.to_string())
            .collect()
    };
    let mut stream = Stream::sotw(&all("1", "1", "1"));
    stream.ask(Cluster, &[]);
    stream.answer(Cluster, &[], Some("Error adding/updating cluster(s) b: no"));
    assert_eq!(refused(&stream), ["b"]);
    assert_eq!(told(&stream.see(&all("2", "1", "1"))), ["cds a@2 c@1"]);

    let mut stream = Stream::sotw(&all("1", "1", "1"));
    stream.ask(Cluster, &[]);
    stream.answer(Cluster, &[], Some("no"));
    assert_eq!(refused(&stream), ["a", "b", "c"]);
    assert_eq!(told(&stream.see(&all("2", "1", "1"))), ["cds a@2 b@1 c@1"]);
}

/// "When to send an update": a server that sends the same again and again makes needless work. "Resource warming":
/// Envoy may ask again for what it has, with an ACK said twice. So that is answered, and once.
#[test]
fn an_ack_said_again_and_again_is_answered_at_most_once() {
    let all = |cluster| {
        view(&[
            (Cluster, "a", cluster),
            (ClusterLoadAssignment, "a", "1"),
            (Listener, "l", "1"),
        ])
    };
    let mut stream = Stream::sotw(&all("1"));
    for kind in [Cluster, Listener] {
        stream.ask(kind, &[]);
        for _ in 0..3 {
            assert!(stream.answer(kind, &[], None).is_empty());
        }
    }
    let again = |stream: &mut Stream| -> usize {
        let many = (0..10).map(|_| stream.answer(ClusterLoadAssignment, &["a"], None).len());
        many.sum()
    };
    stream.ask(ClusterLoadAssignment, &["a"]);
    assert_eq!(again(&mut stream), 1);
    assert_eq!(again(&mut stream), 0);
    // Its cluster changed: it may ask once more.
    stream.see(&all("2"));
    assert_eq!(again(&mut stream), 1);
}

/// "Resource updates": a request may follow at the same version with other names. It is no reason to send what
/// was rejected again, unless it was given up and asked for anew.
#[test]
fn a_rejected_version_asked_for_with_the_same_names_stays_unsent() {
    let mut stream = Stream::sotw(&view(&[(ClusterLoadAssignment, "a", "1")]));
    stream.ask(ClusterLoadAssignment, &["a"]);
    stream.answer(ClusterLoadAssignment, &["a"], Some("no"));
    assert!(
        stream
            .answer(ClusterLoadAssignment, &["a"], None)
            .is_empty()
    );
    assert!(
        stream
            .answer(ClusterLoadAssignment, &["a", "b"], None)
            .is_empty()
    );
    // Given up and asked for anew, it is told.
    stream.answer(ClusterLoadAssignment, &["b"], None);
    let anew = stream.answer(ClusterLoadAssignment, &["a", "b"], None);
    assert_eq!(told(&anew), ["eds a@1"]);
}

/// "When to send an update": what is offered in place of a rejected version may be rejected as well, and that is no
/// reason to send the rejected one again.
#[test]
fn what_was_offered_instead_and_rejected_too_lets_nothing_rejected_through() {
    let all = |a, d| view(&[(Cluster, "a", a), (Cluster, "d", d)]);
    let mut stream = Stream::sotw(&all("1", "1"));
    stream.ask(Cluster, &[]);
    stream.answer(Cluster, &[], None);
    stream.see(&all("bad", "1"));
    stream.answer(Cluster, &[], Some("no"));
    assert_eq!(told(&stream.see(&all("bad", "2"))), ["cds a@1 d@2"]);
    let answered = stream.answer(Cluster, &[], Some("no"));
    assert!(answered.is_empty(), "{:?}", told(&answered));
    let refused = &stream.session.status_of(Cluster).unwrap().refused;
    let refused: Vec<(&str, &str)> = refused
        .iter()
        .map(|one| (&*one.name, &*one.version))
        .collect();
    assert_eq!(refused, [("a", "bad"), ("d", "2")]);
}
