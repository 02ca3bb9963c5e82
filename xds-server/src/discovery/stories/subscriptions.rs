//! What a client wants, and what it is sent of it.

use super::{Stream, changes, names_of, request, session, told, view};
use crate::{
    discovery::{NAME_BYTES_MAX, RequestError, STREAM_NAME_BYTES_MAX, Variant},
    resource::ResourceType,
};

use ResourceType::{Cluster, ClusterLoadAssignment, Listener, RouteConfiguration};

/// "Knowing When a Requested Resource Does Not Exist": the server remembers what was asked for and sends it when it
/// springs into existence; in the incremental variants it says at once, by `removed_resources`, that it is not there.
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

/// "Subscribing to Resources": a server must provide what is subscribed to, although it believes that the client
/// has it. "How the client specifies what resources to return": newly requested is sent, changed or not.
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

/// "Grouping Resources into Responses": of listeners and clusters the complete state, of others what changed.
/// "Deleting Resources": a response without resources deletes all of its type.
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

/// "How the client specifies what resources to return": `*` is everything; so is an empty list, until a name was
/// given once. "Unsubscribing from Resources": a name given up under a wildcard that stays is answered with the
/// resource; names that were never subscribed to are ignored.
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

/// "How the client specifies what resources to return": listeners and clusters alone have a wildcard. That nothing
/// is there is its full state, for which a client waits to start.
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

/// "When to send an update": within a stream a request supersedes those before it of the same type.
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

/// What a client may want is bounded: discovery.proto sets no bound, so it is told which one it met.
#[test]
fn names_are_bounded_one_by_one_and_all_of_a_stream_together() {
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
