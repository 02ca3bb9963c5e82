use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::{
    compile::{
        compile,
        imagined::{Drawn, Rest, SERVICES, drawn, mesh, rest},
    },
    resource::NodeKey,
};

/// One step: what one service is now, or the rest.
#[derive(Debug, Clone)]
enum Edit {
    Service(usize, Drawn),
    /// Which of its endpoints are unhealthy.
    Health(usize, Vec<usize>),
    Rest(Rest),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => (0..SERVICES, drawn()).prop_map(|(at, drawn)| Edit::Service(at, drawn)),
        3 => (0..SERVICES, proptest::sample::subsequence(vec![0, 1, 2], 0..=3))
            .prop_map(|(at, ill)| Edit::Health(at, ill)),
        1 => rest().prop_map(Edit::Rest),
    ]
}

fn nodes() -> Vec<NodeKey> {
    let mut nodes = Vec::new();
    for cluster in ["s0", "s1", "s2", "s3", "edge", "stranger"] {
        for id in ["e0-0", "e1-0", "e1-1", "somebody"] {
            nodes.push(NodeKey {
                id: id.into(),
                cluster: cluster.into(),
                zone: if id == "e1-1" {
                    "mumbai-west".into()
                } else {
                    String::new()
                },
                ..NodeKey::default()
            });
        }
    }
    nodes
}

static ENCODER: LazyLock<Arc<Encoder>> = LazyLock::new(|| Arc::new(Encoder::new().unwrap()));

fn code() -> Arc<FilterCode> {
    Arc::new(FilterCode::new(bytes::Bytes::from_static(b"\0asm")))
}

#[test]
fn another_number_of_proxies_is_told_by_the_filter_of_those_whom_it_concerns_alone() {
    use policy::{limit::FleetSize, units::ServiceName};

    let text = "\
services:
  pay: {port: 80, limit: {per_second: 10, scope: fleet}, endpoints: [{id: p, host: 10.0.0.1, port: 1}]}
  cart: {port: 80, uses: [cart], endpoints: [{id: c, host: 10.0.0.2, port: 1}]}
gateways: {edge: {listen: \"127.0.0.1:1\", routes: [{match: {path_prefix: /}, service: pay}]}}
";
    let read = |text: &str| Arc::new(crate::mesh::read(text, &Default::default()).unwrap());
    let mesh = read(text);
    let mut shelf = Shelf::new(Arc::clone(&mesh), code(), Arc::clone(&ENCODER));
    let secrets = Arc::default();
    let views = |shelf: &mut Shelf, mesh: &Mesh| {
        ["edge", "cart", "pay"].map(|cluster| {
            let node = NodeKey {
                id: "somebody".into(),
                cluster: cluster.into(),
                ..NodeKey::default()
            };
            let spot = shelf.spot(&NodeSpec::of(mesh, &node));
            shelf.view(&spot, &secrets)
        })
    };
    let name = |name: &str| ServiceName::new(name).unwrap();
    let sizes = |size: usize| {
        let sizes = ["edge", "cart", "pay"].map(|of| (name(of), FleetSize::new(size)));
        Arc::new(super::FleetSizes::of_members(sizes))
    };
    let before = views(&mut shelf, &mesh);
    assert_eq!(shelf.divide(&sizes(1)), Changed::Members(BTreeSet::new()));
    let told = shelf.divide(&sizes(3));
    assert_eq!(told, Changed::Members([name("edge"), name("pay")].into()));
    let after = views(&mut shelf, &mesh);
    let differ = |kind: ResourceType, number: usize| {
        let of = |view: &View| {
            let all = view.collection(kind).iter();
            let mut all: Vec<String> = all.map(|one| one.version.to_string()).collect();
            all.sort();
            all
        };
        of(&before[number]) != of(&after[number])
    };
    let kinds = [
        ResourceType::Cluster,
        ResourceType::ClusterLoadAssignment,
        ResourceType::Listener,
        ResourceType::RouteConfiguration,
    ];
    for number in 0..3 {
        assert!(
            !kinds.into_iter().any(|kind| differ(kind, number)),
            "{number}"
        );
        assert_eq!(
            differ(ResourceType::ExtensionConfig, number),
            number != 1,
            "{number}"
        );
    }
    // The same number again is nothing, and neither is one where nothing is divided any more.
    assert_eq!(shelf.divide(&sizes(3)), Changed::Members(BTreeSet::new()));
    let whole = read(&text.replace("fleet", "envoy"));
    assert_eq!(shelf.next(Arc::clone(&whole), Arc::default()), Changed::All);
    assert_eq!(shelf.divide(&sizes(5)), Changed::Members(BTreeSet::new()));
}

/// A node, followed as the publisher follows it.
struct Followed {
    key: NodeKey,
    spot: Spot,
}

impl Followed {
    fn new(shelf: &mut Shelf, key: NodeKey) -> Self {
        let spot = shelf.spot(&NodeSpec::of(shelf.mesh(), &key));
        Self { key, spot }
    }

    fn after(&mut self, changed: &Changed, shelf: &mut Shelf) {
        if changed.may_be_of(&self.key.cluster) {
            self.spot = shelf.spot(&NodeSpec::of(shelf.mesh(), &self.key));
        }
    }

    fn view(&self, shelf: &mut Shelf) -> Arc<View> {
        static SECRETS: LazyLock<Arc<Collection>> = LazyLock::new(Arc::default);
        shelf.view(&self.spot, &SECRETS)
    }
}

/// Without an entry for a service all of whose endpoints are well.
fn unhealthy(ill: &[Vec<usize>]) -> Arc<Unhealthy> {
    let services = ill.iter().enumerate().filter(|(_, ill)| !ill.is_empty());
    let services = services.map(|(at, ill)| {
        let ids = ill.iter().map(|number| format!("e{at}-{number}"));
        let name = ServiceName::new(&format!("s{at}")).unwrap();
        (name, Arc::new(ids.collect()))
    });
    Arc::new(Unhealthy(services.collect()))
}

/// Everything anew, as one compiles who keeps nothing.
fn compiled(mesh: &Mesh, spec: &NodeSpec, unhealthy: &Unhealthy) -> View {
    let drafts = compile(mesh, spec, &code(), unhealthy);
    let resources = drafts.into_iter().map(|draft| {
        let kind = draft.kind;
        (kind, ENCODER.encode(draft).unwrap())
    });
    View::new(resources.collect())
}

fn told(view: &View) -> Vec<String> {
    let kinds = ResourceType::IN_ORDER.into_iter();
    kinds
        .flat_map(|kind| {
            let resources = view.resources(kind);
            resources.map(move |one| format!("{kind:?} {}@{}", one.name, one.version))
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn after_any_changes_every_node_is_sent_what_it_would_be_if_nothing_were_kept(
        mut services in proptest::collection::vec(drawn(), SERVICES),
        mut others in rest(),
        edits in proptest::collection::vec((edit(), any::<bool>()), 1..6),
    ) {
        let mut ill = vec![Vec::new(); SERVICES];
        let mut shelf = Shelf::new(Arc::new(mesh(&services, &others)), code(), Arc::clone(&ENCODER));
        let mut followed: Vec<Followed> = nodes()
            .into_iter()
            .map(|node| Followed::new(&mut shelf, node))
            .collect();
        for (edit, ask) in edits {
            match edit {
                Edit::Service(at, drawn) => services[at] = drawn,
                Edit::Health(at, drawn) => ill[at] = drawn,
                Edit::Rest(drawn) => others = drawn,
            }
            let now = Arc::new(mesh(&services, &others));
            let ill = unhealthy(&ill);
            let changed = shelf.next(Arc::clone(&now), Arc::clone(&ill));
            for node in &mut followed {
                node.after(&changed, &mut shelf);
            }
            // Not everyone is asked about at every revision, and some come anew.
            for node in followed.iter().step_by(if ask { 1 } else { 2 }) {
                let spec = NodeSpec::of(&now, &node.key);
                prop_assert_eq!(told(&node.view(&mut shelf)), told(&compiled(&now, &spec, &ill)), "{:?}", spec);
            }
            followed[0] = Followed::new(&mut shelf, followed[0].key.clone());
        }
    }
}

/// Kinds of which a node is sent another collection after an edit of the mesh.
fn changed_by(edit: impl Fn(&mut Vec<Drawn>, &mut Rest)) -> Vec<ResourceType> {
    changed_by_all(|services, others, _| edit(services, others))
}

/// The same of an edit of the mesh and of its endpoints' health.
fn changed_by_all(
    edit: impl Fn(&mut Vec<Drawn>, &mut Rest, &mut Vec<Vec<usize>>),
) -> Vec<ResourceType> {
    let service = Drawn {
        exists: true,
        sidecar: true,
        endpoints: vec![(9_000, true)],
        canary: Some(1),
        timeout: None,
        retries: false,
        uses: None,
    };
    let mut services = vec![service; SERVICES];
    let mut others = Rest {
        peak: 0,
        tracing: false,
        gateway: Some(false),
    };
    let mut shelf = Shelf::new(
        Arc::new(mesh(&services, &others)),
        code(),
        Arc::clone(&ENCODER),
    );
    let node = NodeKey {
        id: "e1-0".into(),
        cluster: "s1".into(),
        ..NodeKey::default()
    };
    let mut node = Followed::new(&mut shelf, node);
    let before = node.view(&mut shelf);
    let mut ill = vec![Vec::new(); SERVICES];
    edit(&mut services, &mut others, &mut ill);
    let changed = shelf.next(Arc::new(mesh(&services, &others)), unhealthy(&ill));
    node.after(&changed, &mut shelf);
    let after = node.view(&mut shelf);
    let kinds = ResourceType::IN_ORDER.into_iter();
    kinds
        .filter(|kind| !Arc::ptr_eq(before.collection(*kind), after.collection(*kind)))
        .collect()
}

#[test]
fn only_what_depends_on_a_change_is_another_one() {
    use ResourceType::{Cluster, ClusterLoadAssignment, ExtensionConfig, RouteConfiguration};

    assert_eq!(changed_by(|_, _| {}), []);
    let endpoint = changed_by(|services, _| services[0].endpoints[0].0 = 9_001);
    assert_eq!(endpoint, [ClusterLoadAssignment]);
    let health = changed_by_all(|_, _, ill| ill[0] = vec![0]);
    assert_eq!(health, [ClusterLoadAssignment]);
    let stranger = changed_by_all(|_, _, ill| ill[0] = vec![7]);
    assert_eq!(stranger, []);
    let weight = changed_by(|services, _| services[0].canary = Some(2));
    assert_eq!(weight, [ExtensionConfig]);
    let timeout = changed_by(|services, _| services[0].timeout = Some(2));
    assert_eq!(timeout.len(), 2, "{timeout:?}");
    assert!(timeout.contains(&RouteConfiguration) && timeout.contains(&ExtensionConfig));
    let canary = changed_by(|services, _| services[0].canary = None);
    assert!(
        canary.contains(&Cluster) && canary.contains(&RouteConfiguration),
        "{canary:?}"
    );
    let peak = changed_by(|_, others| others.peak = 1);
    assert_eq!(peak, [ExtensionConfig]);
    let gateway = changed_by(|_, others| others.gateway = None);
    assert_eq!(gateway, []);
}
