use std::{sync::Arc, time::Duration};

use super::{Group, Item, Level, Seen, check};
use crate::{
    compile::Unhealthy,
    discovery::Variant,
    fleet::StreamStatus,
    mesh::{Defaults, Mesh, read},
    pki::authority::Shown,
    proxies::imagined::{Talk, all, answered},
    resource::{Resource, ResourceType, View},
};

const MESH: &str = "\
services:
  pay: {sidecar: false, health_check: {tcp: true}, endpoints: [{id: pay-1, host: 10.0.0.1, port: 80}, {id: pay-2, host: 10.0.0.2, port: 80}]}
gateways:
  edge: {listen: \"0.0.0.0:80\", hosts: [pay.example], routes: [{match: {path_prefix: /}, service: pay}]}
";

fn mesh() -> Mesh {
    read(MESH, &Defaults::default()).unwrap()
}

/// A root that has `left` of a thousand days, and a leaf.
fn certificates(left: u64) -> Vec<Shown> {
    let day = Duration::from_secs(86_400);
    let begin = answered();
    let end = begin.saturating_add(day * u32::try_from(left).unwrap());
    let one = |kind, name: &str| Shown {
        kind,
        name: name.into(),
        spiffe_id: String::new(),
        serial: "01".into(),
        not_before: policy::time::WallTime::from_unix_millis(
            end.unix_millis() - 1_000 * 86_400_000,
        ),
        not_after: end,
        renews_at: (kind == "leaf").then(|| begin.saturating_add(day)),
        problem: None,
    };
    vec![one("root", "mumbai.mesh"), one("leaf", "pay")]
}

struct World {
    mesh: Mesh,
    certificates: Vec<Shown>,
    unhealthy: Unhealthy,
    streams: Vec<Arc<StreamStatus>>,
    refused: Vec<String>,
    store_problem: Option<String>,
    after: Duration,
}

impl World {
    fn new(streams: Vec<Arc<StreamStatus>>) -> Self {
        Self {
            mesh: mesh(),
            certificates: certificates(900),
            unhealthy: Unhealthy::default(),
            streams,
            refused: Vec::new(),
            store_problem: None,
            after: Duration::ZERO,
        }
    }

    fn check(&self) -> Vec<Item> {
        check(&Seen {
            mesh: &self.mesh,
            revision: 7,
            refused: self.refused.clone(),
            resource_problems: Vec::new(),
            store_problem: self.store_problem.clone(),
            certificates: &self.certificates,
            unhealthy: &self.unhealthy,
            streams: &self.streams,
            filter_sha256: "aabbccddeeff0011",
            now: answered().saturating_add(self.after),
        })
    }

    /// Of one code, without what is as it should be.
    fn found(&self, code: &str) -> Vec<(Level, String)> {
        let items = self.check().into_iter();
        let found = items.filter(|item| item.code == code && item.level != Level::Ok);
        found.map(|item| (item.level, item.sentence)).collect()
    }
}

fn view() -> Arc<View> {
    let cluster = Resource::new(ResourceType::Cluster, "pay", "1", b"cluster");
    Arc::new(View::new(vec![(ResourceType::Cluster, Arc::new(cluster))]))
}

/// A node that asked for clusters and was sent one.
fn node(id: &str, cluster: &str, view: &Arc<View>) -> Talk {
    let mut talk = Talk::begin(id, cluster, Variant::StateOfTheWorld, view);
    talk.ask(ResourceType::Cluster, all(&[]));
    talk
}

#[test]
fn a_mesh_that_is_well_has_nothing_to_do_but_what_analyze_says() {
    let mut edge = node("edge-1", "edge", &view());
    edge.answer(ResourceType::Cluster, None);
    let items = World::new(vec![Arc::clone(&edge.status)]).check();
    let errors: Vec<&Item> = items
        .iter()
        .filter(|item| item.level == Level::Error)
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    for (group, code) in [
        (Group::Configuration, "configuration"),
        (Group::Store, "store"),
        (Group::Certificates, "certificates"),
        (Group::Endpoints, "endpoints"),
        (Group::Proxies, "proxies"),
        (Group::Proxies, "envoy-version"),
    ] {
        let ok = items
            .iter()
            .find(|item| (item.group, &*item.code) == (group, code));
        assert_eq!(ok.unwrap().level, Level::Ok, "{code}");
    }
    let groups: Vec<Group> = items.iter().map(|item| item.group).collect();
    assert!(groups.is_sorted());
}

#[test]
fn what_is_in_the_way_is_told_with_its_fix() {
    let mut world = World::new(Vec::new());
    world.refused = (0..30)
        .map(|number| format!("services.s{number}: wrong"))
        .collect();
    world.store_problem = Some("disk full".into());
    world.certificates = certificates(50);
    world.certificates[1].problem = Some("no key".into());
    let name = policy::units::ServiceName::new("pay").unwrap();
    let ids = Arc::new(["pay-1".to_string()].into());
    world.unhealthy.0.insert(name.clone(), ids);
    let refused = world.found("configuration-refused");
    assert_eq!(refused.len(), 21);
    assert_eq!(refused[20].1, "10 more of these");
    let one = |code: &str| {
        let mut found = world.found(code);
        assert_eq!(found.len(), 1, "{code}: {found:?}");
        found.remove(0)
    };
    assert!(one("store-problem").1.contains("disk full"));
    assert_eq!(one("root-ends").0, Level::Warning);
    assert!(
        one("certificate-not-renewed")
            .1
            .contains("leaf pay: not renewed: no key")
    );
    assert_eq!(
        one("endpoints-unhealthy"),
        (Level::Warning, "pay: 1 of 2 unhealthy: pay-1".into())
    );
    assert_eq!(one("no-proxies").0, Level::Info);
    let items = world.check();
    let bad = items.iter().filter(|item| item.level <= Level::Warning);
    assert!(
        bad.into_iter().all(|item| !item.fix.is_empty()),
        "{items:#?}"
    );
    let all = Arc::new(["pay-1".to_string(), "pay-2".to_string()].into());
    world.unhealthy.0.insert(name, all);
    assert_eq!(world.found("endpoints-unhealthy")[0].0, Level::Error);
}

#[test]
fn envoys_that_reject_or_do_not_answer_or_are_strangers_are_named() {
    let mut rejecting = node("edge-1", "edge", &view());
    rejecting.answer(ResourceType::Cluster, Some("no such field"));
    let silent = node("edge-2", "edge", &view());
    let mut stranger = node("lost", "unknown", &Arc::default());
    stranger.answer(ResourceType::Cluster, None);
    let streams = [&rejecting, &silent, &stranger].map(|talk| Arc::clone(&talk.status));
    let mut world = World::new(streams.to_vec());
    let rejects = world.found("proxy-rejects");
    assert_eq!(rejects.len(), 1);
    assert!(
        rejects[0]
            .1
            .starts_with("edge-1 (edge) rejects CDS of pay: ")
            && rejects[0].1.contains("no such field"),
        "{rejects:?}"
    );
    assert!(
        world.found("proxy-behind").is_empty(),
        "it has just been sent"
    );
    world.after = Duration::from_secs(20);
    let behind = world.found("proxy-behind");
    assert_eq!(behind.len(), 1);
    assert!(
        behind[0]
            .1
            .starts_with("edge-2 (edge) has not answered CDS for "),
        "{behind:?}"
    );
    let unknown = world.found("proxy-unknown");
    assert_eq!(
        unknown,
        [(Level::Warning, "lost (unknown) is sent nothing".into())]
    );
}

#[test]
fn an_older_envoy_is_a_warning_and_a_newer_one_is_worth_knowing() {
    let of = |version: &str| {
        let talk = Talk::begin_as("edge-1", "edge", version, &view());
        World::new(vec![talk.status]).found("envoy-version")
    };
    assert!(of("1.40.3").is_empty());
    assert_eq!(of("1.36.0")[0].0, Level::Warning);
    assert_eq!(of("1.41.0")[0].0, Level::Info);
    assert!(of("nightly").is_empty());
}
