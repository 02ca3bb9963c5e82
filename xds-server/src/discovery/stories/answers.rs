//! What an answer is, and what it asks for.

use super::{Stream, changes, names_of, told, view};
use crate::resource::ResourceType;

use ResourceType::{Cluster, Listener, RouteConfiguration};

/// "Basic Protocol Overview": all responses have a nonce, which tells which of them a request answers, and
/// which is valid in the context of its stream only.
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

/// "When to send an update": only when resources changed; a server that answers an ACK with the same again makes
/// needless work.
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

/// "ACK and NACK semantics summary": `error_detail` says that the configuration was not taken. "When to send an
/// update": what did not change since is not sent again. "ACK/NACK and resource type instance version": types are
/// separate.
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

/// "Resource updates": no response for a request with a stale nonce. "Aggregated Discovery Service": the types'
/// sequences are independent of each other.
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

/// "Incremental xDS": changes of the subscription are honoured even if the nonce is stale; it only relates an
/// answer to its response.
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

/// "ACK/NACK and resource type instance version": a version is a property of resources and not of a stream, so
/// what a client saw on the stream before need not be sent again. "Incremental xDS": `initial_resource_versions`
/// spare the same.
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

/// "When to send an update": only when the resources have changed.
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
