//! What a mesh costs the server: read and compiled whole, and after a change of one endpoint or one weight.
//! Run by `cargo xtask bench mesh`.

use std::{
    env,
    fmt::Write as _,
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use mumbai_mesh_server::{
    compile::{Encoder, FilterCode, NodeSpec, Shelf, Spot, Unhealthy, compile},
    mesh::{Defaults, Mesh, read},
    resource::{Collection, NodeKey, View},
};

/// The server's.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ENDPOINTS: usize = 10;
const CHANGES: usize = 20;

/// What one size of mesh costs.
struct Costs {
    services: usize,
    read: Duration,
    compile: Duration,
    endpoint: Duration,
    weight: Duration,
    /// The same endpoint's change, by one who keeps nothing, for one node.
    anew: Duration,
    resident: u64,
}

/// Services that differ in what a file lets differ; `endpoint` and `weight` are those of the last one.
fn file(services: usize, endpoint: usize, weight: usize) -> String {
    let mut text = String::from(
        "peak_hours: {evening: {start: 17, end: 22, multiplier: 1.5}}\n\
         festivals: [{name: Diwali, date: 2026-11-08, factor: 2}]\n\
         traffic_classes: {gold: {match: [{path_prefix: /pay}]}}\nservices:\n",
    );
    for service in 0..services {
        let last = service + 1 == services;
        let _ = writeln!(
            text,
            "  service-{service}:\n    port: 8080\n    timeout: 2s\n    retries: {{attempts: 2}}\n    \
             circuit_breaker: {{consecutive_failures: 5, open_for: 5s}}\n    \
             canary: {{version: v2, weight: {}, sticky_by: {{header: x-user-id}}}}\n    endpoints:",
            if last { weight } else { 10 }
        );
        for number in 0..ENDPOINTS {
            let port = if last && number == 0 {
                15_006 + endpoint
            } else {
                15_006
            };
            let zone = ["mumbai-west", "mumbai-central", "mumbai-east"][number % 3];
            let version = if number % 5 == 4 { "v2" } else { "v1" };
            let (high, low) = (service / 250, service % 250);
            let _ = writeln!(
                text,
                "      - {{id: service-{service}-{number}, host: 10.{high}.{low}.{number}, port: {port}, \
                 zone: {zone}, version: {version}}}"
            );
        }
    }
    text.push_str("gateways:\n  edge:\n    listen: 0.0.0.0:10000\n    routes:\n");
    for service in 0..services {
        let _ = writeln!(
            text,
            "      - {{match: {{path_prefix: /service-{service}}}, service: service-{service}}}"
        );
    }
    text
}

fn mesh(text: &str) -> Mesh {
    read(text, &Defaults::default()).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// Sidecars of all services in turn, and one gateway.
fn nodes(mesh: &Mesh, count: usize, code: &FilterCode) -> Vec<NodeKey> {
    let services: Vec<_> = mesh.services.iter().collect();
    (0..count)
        .map(|number| {
            let (name, service) = services[number % services.len()];
            let endpoint = &service.endpoints[number / services.len() % ENDPOINTS];
            let mut node = NodeKey {
                id: endpoint.id.clone(),
                cluster: name.to_string(),
                ..NodeKey::default()
            };
            if number == 0 {
                node.cluster = "edge".into();
            }
            node.metadata.filter_path = Some("/etc/envoy/mumbai_mesh.wasm".into());
            node.metadata.filter_sha256 = Some(code.sha256().into());
            node
        })
        .collect()
}

/// What the server holds of a connected node.
struct Node {
    key: NodeKey,
    spot: Spot,
    view: Arc<View>,
}

/// As the server does it for its nodes when it starts to serve a mesh.
fn connect(shelf: &mut Shelf, keys: &[NodeKey], secrets: &Arc<Collection>) -> Vec<Node> {
    let mut connected = Vec::with_capacity(keys.len());
    for key in keys {
        let spot = shelf.spot(&NodeSpec::of(shelf.mesh(), key));
        let view = shelf.view(&spot, secrets);
        let key = key.clone();
        connected.push(Node { key, spot, view });
    }
    connected
}

/// As the server does it when the mesh changes.
fn change(shelf: &mut Shelf, mesh: Arc<Mesh>, nodes: &mut [Node], secrets: &Arc<Collection>) {
    let changed = shelf.next(mesh, Arc::default());
    for node in nodes {
        if changed.may_be_of(&node.key.cluster) {
            let spec = NodeSpec::of(shelf.mesh(), &node.key);
            node.spot = shelf.spot(&spec);
        }
        node.view = shelf.view(&node.spot, secrets);
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

fn measure(services: usize, known: usize) -> Costs {
    let code = Arc::new(FilterCode::new(bytes::Bytes::from_static(b"\0asm")));
    let encoder = Arc::new(Encoder::new().expect("Envoy's descriptors"));
    let secrets = Arc::default();
    let text = file(services, 0, 10);
    let begun = Instant::now();
    let first = Arc::new(mesh(&text));
    let read = begun.elapsed();
    let keys = nodes(&first, known, &code);
    let begun = Instant::now();
    let mut shelf = Shelf::new(Arc::clone(&first), Arc::clone(&code), Arc::clone(&encoder));
    let mut connected = connect(&mut shelf, &keys, &secrets);
    let compiled = begun.elapsed();
    let mut change = |endpoint: usize, weight: usize| {
        let next = Arc::new(mesh(&file(services, endpoint, weight)));
        let begun = Instant::now();
        change(&mut shelf, next, &mut connected, &secrets);
        begun.elapsed()
    };
    let endpoint = median((1..=CHANGES).map(|number| change(number, 10)).collect());
    let weight = median(
        (1..=CHANGES)
            .map(|number| change(CHANGES, number))
            .collect(),
    );
    let resident = resident_kib();
    let anew = (1..=3).map(|_| {
        let next = mesh(&file(services, 1, 10));
        let spec = NodeSpec::of(&next, &keys[known - 1]);
        let begun = Instant::now();
        for draft in compile(&next, &spec, &code, &Unhealthy::default()) {
            std::hint::black_box(encoder.encode(draft).expect("a resource"));
        }
        begun.elapsed()
    });
    Costs {
        services,
        read,
        compile: compiled,
        endpoint,
        weight,
        anew: median(anew.collect()),
        resident,
    }
}

/// `SERVICES NODES`: one size of mesh; a process of its own, so that memory is its own.
fn main() {
    let mut numbers = env::args()
        .skip(1)
        .filter_map(|argument| argument.parse().ok());
    let (Some(services), Some(known)) = (numbers.next(), numbers.next()) else {
        eprintln!("usage: mesh SERVICES NODES (cargo xtask bench mesh says the rest)");
        return;
    };
    let costs = measure(services, known);
    let millis = |time: Duration| time.as_secs_f64() * 1_000.0;
    println!(
        "{} {:.3} {:.3} {:.3} {:.3} {:.3} {}",
        costs.services,
        millis(costs.read),
        millis(costs.compile),
        millis(costs.endpoint),
        millis(costs.weight),
        millis(costs.anew),
        costs.resident,
    );
}
