//! Make before break: on one stream, and between the streams of single types.

use super::{Stream, served, told, view, without_and_with_canary};
use crate::{
    discovery::{Endpoints, Others, Variant},
    resource::ResourceType,
};

use ResourceType::{Cluster, ClusterLoadAssignment, Listener, RouteConfiguration};

/// "Resource warming": an updated cluster is warm only when a response with its endpoints was supplied, even though
/// they did not change.
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

/// "Eventual consistency considerations": clusters first, endpoints after their clusters, routes after both. "Routes
/// are not warmed": it is the server that sees to it.
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

/// "Eventual consistency considerations": stale clusters and their endpoints are removed when nothing refers to them
/// any more.
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

/// "ACK and NACK semantics summary": a client should answer every response. One that does not must not keep its own
/// routes for ever.
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

/// "Eventual consistency considerations": a new route waits for its cluster, and for nothing else. Endpoints that change
/// all the time, faster than answers come, keep nobody's routes and removals.
#[test]
fn changes_that_never_end_hold_up_neither_routes_nor_removals() {
    let at = |endpoints: usize, route: &str| {
        let version = endpoints.to_string();
        let mut all = vec![
            (Cluster, "s", "1"),
            (ClusterLoadAssignment, "s", version.as_str()),
            (Listener, "l", "1"),
            (RouteConfiguration, "l", route),
        ];
        if route != "to s" {
            all.push((Cluster, "s|v2", "1"));
            all.push((ClusterLoadAssignment, "s|v2", "1"));
        }
        view(&all)
    };
    let names = &["s", "s|v2"];
    for variant in [Variant::StateOfTheWorld, Variant::Delta] {
        let mut stream = served(variant, &at(0, "to s and s|v2"), names);
        let mut told_of = Vec::new();
        let mut unanswered = std::collections::VecDeque::new();
        let mut now = 0;
        // Each response is answered when two newer ones of its type are under way.
        for _ in 0..20 {
            now += 1;
            let mut responses = stream.see(&at(now, "to s"));
            while let Some(response) = responses.pop() {
                let kind = response.payload.kind;
                told_of.extend(told(std::slice::from_ref(&response)));
                unanswered.push_back((kind, response.nonce));
                if unanswered.len() > 2 {
                    let (kind, nonce) = unanswered.pop_front().unwrap();
                    let wanted: &[&str] = match kind {
                        Cluster | Listener => &[],
                        ClusterLoadAssignment => names,
                        _ => &["l"],
                    };
                    responses.extend(stream.answer_to(&nonce, kind, wanted, None));
                }
            }
        }
        assert!(told_of.contains(&"rds l@to s".to_string()), "{told_of:?}");
        let removal = if stream.delta { "cds -s|v2" } else { "cds s@1" };
        assert!(told_of.contains(&removal.to_string()), "{told_of:?}");
    }
}

/// The same with a client that answers nothing: its patience is not renewed by what comes meanwhile.
#[test]
fn changes_that_never_end_renew_nobodys_patience() {
    let (without, with) = without_and_with_canary();
    let mut stream = served(Variant::Delta, &without, &["s"]);
    stream.see(&with);
    let step = stream.session.step();
    let churn = |version: &str| {
        view(&[
            (Cluster, "s", version),
            (ClusterLoadAssignment, "s", "1"),
            (Cluster, "s|v2", "1"),
            (ClusterLoadAssignment, "s|v2", "1"),
            (Listener, "l", "1"),
            (RouteConfiguration, "l", "to s and s|v2"),
        ])
    };
    stream.see(&churn("2"));
    stream.see(&churn("3"));
    assert_eq!(stream.session.step(), step);
    assert_eq!(told(&stream.lose_patience()), ["rds l@to s and s|v2"]);
    assert_ne!(stream.session.step(), step);
    let step = stream.session.step();
    stream.see(&churn("4"));
    assert_eq!(stream.session.step(), step);
    stream.lose_patience();
    assert!(!stream.session.is_waiting());
}

/// "NACK": the client goes on with what it has. A rejection in a transaction holds up what needs the rejected cluster,
/// and nothing else of it.
#[test]
fn a_rejection_holds_up_only_what_needs_it() {
    let (without, _) = without_and_with_canary();
    for variant in [Variant::StateOfTheWorld, Variant::Delta] {
        let mut stream = served(variant, &without, &["s"]);
        let responses = stream.see(&view(&[
            (Cluster, "s", "1"),
            (Cluster, "bad", "1"),
            (ClusterLoadAssignment, "s", "1"),
            (Listener, "l", "2"),
            (RouteConfiguration, "l", "to s"),
        ]));
        assert_eq!(responses.len(), 1, "{:?}", told(&responses));
        let rest = stream.answer(Cluster, &[], Some("cluster 'bad': not so"));
        assert!(
            told(&rest).contains(&"lds l@2".to_string()),
            "{:?}",
            told(&rest)
        );
    }
}

/// "NACK": after it an update may succeed with another version. What it held up once is over then.
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

/// "Resource updates": requests at an older version become stale when a newer one is ready: the newest state counts.
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

/// "Four Variants": streams of single types are eventually consistent. The order of "Eventual consistency
/// considerations" is kept between them as far as streams can tell each other.
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

/// "Requesting Multiple Resources on a Single Stream": endpoints may come on distinct streams. "Eventual
/// consistency considerations": listeners and routes come after the endpoints of their clusters all the same.
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
        assert_eq!(clusters.session.new_clusters(), ["s|v2".into()]);
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

        // Nor is that waited for for ever.
        let mut clusters = served(variant, Endpoints::Awaited);
        clusters.answer(Cluster, &[], None);
        assert!(clusters.session.is_waiting() && !clusters.session.has_made());
        clusters.lose_patience();
        assert!(clusters.session.has_made());
    }
}
