use policy::time::CivilZone;
use serde_json::{Value, json};

use super::{
    imagined::{
        Says::{self, Accepts, Nothing, Rejects},
        connected, sent, stream,
    },
    *,
};
use crate::{
    fleet::{Holding, Nack},
    resource::{Resource, ResourceType, View},
};

/// One cluster and one listener, and nothing else.
fn view() -> Arc<View> {
    let kinds = [ResourceType::Cluster, ResourceType::Listener];
    let resources = kinds.map(|kind| (kind, Arc::new(Resource::new(kind, "orders", "1", b""))));
    Arc::new(View::new(resources.into()))
}

fn node(id: &str, cluster: &str, types: &[(ResourceType, Says)]) -> Arc<StreamStatus> {
    stream(id, cluster, &view(), types)
}

fn accepted() -> TypeStatus {
    TypeStatus {
        sent: "v1".into(),
        sent_at: None,
        acked: "v1".into(),
        acked_at: None,
        nack: None,
        last_nack: None,
        refused: Arc::default(),
        held: Arc::default(),
        wildcard: true,
        names: 0,
        known: 1,
        waiting: false,
        holding: Holding::default(),
    }
}

fn shown(streams: &[Arc<StreamStatus>], wanted: &Wanted) -> Value {
    let zone = CivilZone::new("Asia/Kolkata", "IST-5:30").unwrap();
    serde_json::to_value(page(streams, wanted, &zone)).unwrap()
}

fn ids(page: &Value) -> Vec<&str> {
    let proxies = page["proxies"].as_array().unwrap();
    proxies
        .iter()
        .map(|one| one["id"].as_str().unwrap())
        .collect()
}

#[test]
fn a_type_is_what_became_of_its_newest_response() {
    assert_eq!(State::of(&accepted()), State::Synced);
    let unanswered = TypeStatus {
        waiting: true,
        ..accepted()
    };
    assert_eq!(State::of(&unanswered), State::Stale);
    let rejected = TypeStatus {
        nack: Some(Nack {
            version: "v2".into(),
            update: 0,
            message: "no".into(),
            at: sent(),
        }),
        ..accepted()
    };
    assert_eq!(State::of(&rejected), State::Rejected);
    let mended = TypeStatus {
        waiting: true,
        ..rejected
    };
    assert_eq!(State::of(&mended), State::Stale, "something newer was sent");
    let came_with_it = TypeStatus {
        sent: "".into(),
        acked: "".into(),
        ..accepted()
    };
    assert_eq!(State::of(&came_with_it), State::Synced);
    let nothing = TypeStatus {
        known: 0,
        ..came_with_it
    };
    assert_eq!(State::of(&nothing), State::NotSent);
}

#[test]
fn a_node_is_shown_with_all_that_it_said() {
    let types = [
        (ResourceType::Cluster, Accepts),
        (ResourceType::Listener, Rejects("no such filter")),
    ];
    let streams = [node("edge-1", "edge", &types)];
    let page = shown(&streams, &Wanted::default());
    let proxy = &page["proxies"][0];
    assert_eq!(proxy["state"], "REJECTED", "the worst of its types");
    assert_eq!(proxy["version"], "1.40.0");
    assert_eq!(proxy["locality"]["zone"], "mumbai-west");
    let stream = &proxy["streams"][0];
    assert_eq!(stream["service"], "ADS");
    assert_eq!(stream["peer"], "127.0.0.1:4711");
    assert_eq!((&stream["acks"], &stream["nacks"]), (&json!(1), &json!(1)));
    assert_eq!(stream["bytes_sent"], 200);
    assert_eq!(stream["variant"], "delta");
    assert_eq!(stream["connected_at"], "2026-11-08T18:30:00+05:30");
    let types = stream["types"].as_array().unwrap();
    let names: Vec<&Value> = types.iter().map(|one| &one["type"]).collect();
    assert_eq!(names, ["CDS", "LDS"]);
    let states: Vec<&Value> = types.iter().map(|one| &one["state"]).collect();
    assert_eq!(states, ["SYNCED", "REJECTED"]);
    assert_eq!(types[0]["wildcard"], true);
    assert_eq!(types[0]["resources"], 1);
    assert_eq!(types[0]["acked_at"], "2026-11-08T18:30:02+05:30");
    let version = &types[1]["sent"];
    assert_eq!(
        types[1]["nack"],
        json!({"version": version, "message": "no such filter", "at": "2026-11-08T18:30:02+05:30"})
    );
}

#[test]
fn pages_lose_nobody_and_say_how_many_are_left() {
    let names: Vec<String> = (0..25).map(|number| format!("node-{number:02}")).collect();
    let mut streams: Vec<_> = names.iter().map(|id| node(id, "edge", &[])).collect();
    // Two nodes with one id, and one with two streams.
    streams.push(node("node-09", "other", &[]));
    streams.push(node("node-03", "edge", &[]));
    let mut wanted = Wanted {
        limit: Some(10),
        ..Wanted::default()
    };
    let mut seen = Vec::new();
    loop {
        let page = shown(&streams, &wanted);
        seen.extend(ids(&page).into_iter().map(str::to_string));
        assert_eq!(page["left_off"], 26 - seen.len());
        match page["next"].as_str() {
            Some(next) => wanted.after = Some(next.into()),
            None => break,
        }
    }
    let mut expected = names;
    expected.insert(9, "node-09".into());
    assert_eq!(seen, expected);
}

#[test]
fn node_and_cluster_narrow_what_is_shown() {
    let streams = [("a", "edge"), ("b", "edge"), ("c", "orders")];
    let streams = streams.map(|(id, cluster)| node(id, cluster, &[]));
    let by = |node: Option<&str>, cluster: Option<&str>| Wanted {
        node: node.map(Into::into),
        cluster: cluster.map(Into::into),
        ..Wanted::default()
    };
    assert_eq!(ids(&shown(&streams, &by(Some("b"), None))), ["b"]);
    assert_eq!(ids(&shown(&streams, &by(None, Some("edge")))), ["a", "b"]);
    assert!(ids(&shown(&streams, &by(Some("c"), Some("edge")))).is_empty());
}

#[test]
fn the_metrics_see_the_oldest_wait_and_every_rejection() {
    let streams = [
        node("a", "edge", &[(ResourceType::Cluster, Nothing)]),
        node("a", "edge", &[(ResourceType::Listener, Rejects("no"))]),
        node("b", "edge", &[(ResourceType::Listener, Rejects("no"))]),
    ];
    let now = sent().saturating_add(Duration::from_secs(7));
    let observed = observed(&streams, now);
    assert_eq!(observed.nodes, 2);
    assert_eq!(observed.unanswered, 1);
    assert_eq!(observed.queue_age, Duration::from_secs(7));
    assert_eq!(observed.rejecting[ResourceType::Listener as usize], 2);
    assert_eq!(observed.rejecting[ResourceType::Cluster as usize], 0);
    let set_back = super::observed(&streams, connected());
    assert_eq!(set_back.queue_age, Duration::ZERO);
}
