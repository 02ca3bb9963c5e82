//! A configuration that changes at random and is consistent after each change: routes name clusters
//! that exist, clusters have endpoints, listeners have routes.

use std::collections::{BTreeMap, BTreeSet};

use harness::xds::Kind;
use serde_json::{Value, json};

const CLUSTERS_MAX: usize = 8;
const LISTENERS_MAX: usize = 3;

/// A resource, by type and name.
pub type Resources = BTreeMap<(Kind, String), Value>;

/// One transaction.
pub struct Transaction {
    pub set: Vec<Value>,
    pub remove: Vec<(Kind, String)>,
}

/// What the configuration is made of besides chance.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Of the listener that always exists.
    pub port: u16,
    /// Of those that come and go.
    pub other_ports: [u16; LISTENERS_MAX],
    /// Of the applications.
    pub upstreams: Vec<u16>,
    /// Where Envoys get what a resource names: ADS, or the services of single types.
    pub source: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Cluster {
    timeout: u64,
    /// Port and weight of each endpoint.
    endpoints: BTreeMap<u16, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Listener {
    buffer: u64,
    /// Its route's cluster.
    cluster: String,
}

/// The configuration.
pub struct Model {
    random: fastrand::Rng,
    around: Surroundings,
    clusters: BTreeMap<String, Cluster>,
    /// Clusters of the listener that always exists: of all requests, and of paths.
    main: String,
    paths: BTreeMap<String, String>,
    listeners: BTreeMap<usize, Listener>,
    made: u64,
}

impl Model {
    pub fn new(seed: u64, around: Surroundings) -> Self {
        let mut model = Self {
            random: fastrand::Rng::with_seed(seed),
            around,
            clusters: BTreeMap::new(),
            main: String::new(),
            paths: BTreeMap::new(),
            listeners: BTreeMap::new(),
            made: 0,
        };
        model.add_cluster();
        model.main = model.any_cluster();
        model
    }

    /// Everything that exists now.
    pub fn resources(&self) -> Resources {
        let mut all = Resources::new();
        let mut add = |kind: Kind, name: &str, mut body: Value| {
            body["@type"] = kind.url().into();
            all.insert((kind, name.into()), body);
        };
        for (name, cluster) in &self.clusters {
            add(Kind::Cluster, name, self.cluster(name, cluster));
            add(Kind::Endpoints, name, endpoints(name, cluster));
        }
        let paths = self.paths.iter();
        let paths = paths.map(|(path, cluster)| route(&format!("/{path}"), cluster));
        let main: Vec<Value> = paths.chain([route("/", &self.main)]).collect();
        add(Kind::Route, "always", routes("always", &main));
        let always = self.listener("always", self.around.port, 1_048_576);
        add(Kind::Listener, "always", always);
        for (number, listener) in &self.listeners {
            let name = format!("l{number}");
            let port = self.around.other_ports[*number];
            let routes = routes(&name, &[route("/", &listener.cluster)]);
            add(Kind::Route, &name, routes);
            add(
                Kind::Listener,
                &name,
                self.listener(&name, port, listener.buffer),
            );
        }
        all
    }

    /// Changes something, and gives what is to be applied.
    pub fn change(&mut self) -> Transaction {
        let before = self.resources();
        loop {
            for _ in 0..self.random.usize(1..=4) {
                self.step();
            }
            let after = self.resources();
            if after != before {
                return difference(&before, after);
            }
        }
    }

    /// Changes the endpoints of one cluster, and nothing else.
    pub fn change_endpoints(&mut self) -> Transaction {
        let before = self.resources();
        while self.resources() == before {
            let endpoints = self.some_endpoints();
            self.some_cluster().endpoints = endpoints;
        }
        difference(&before, self.resources())
    }

    fn step(&mut self) {
        match self.random.u8(0..12) {
            0 | 1 => self.add_cluster(),
            2 | 3 => self.remove_cluster(),
            4 => {
                let timeout = self.random.u64(1..=9);
                self.some_cluster().timeout = timeout;
            }
            5 | 6 => {
                let endpoints = self.some_endpoints();
                self.some_cluster().endpoints = endpoints;
            }
            7 => self.main = self.any_cluster(),
            8 => {
                let path = format!("p{}", self.random.u8(0..4));
                let cluster = self.any_cluster();
                self.paths.insert(path, cluster);
            }
            9 => {
                let path = format!("p{}", self.random.u8(0..4));
                self.paths.remove(&path);
            }
            10 => {
                let listener = Listener {
                    buffer: 1_024 * self.random.u64(1..=64),
                    cluster: self.any_cluster(),
                };
                let number = self.random.usize(0..LISTENERS_MAX);
                self.listeners.insert(number, listener);
            }
            _ => {
                let number = self.random.usize(0..LISTENERS_MAX);
                self.listeners.remove(&number);
            }
        }
    }

    fn add_cluster(&mut self) {
        if self.clusters.len() == CLUSTERS_MAX {
            return;
        }
        self.made += 1;
        // Some names come back, others are new.
        let name = match self.random.bool() {
            true => format!("c{}", self.random.u8(0..6)),
            false => format!("n{}", self.made),
        };
        let cluster = Cluster {
            timeout: self.random.u64(1..=9),
            endpoints: self.some_endpoints(),
        };
        self.clusters.entry(name).or_insert(cluster);
    }

    /// Its routes go elsewhere in the same transaction.
    fn remove_cluster(&mut self) {
        if self.clusters.len() < 2 {
            return;
        }
        let gone = self.any_cluster();
        self.clusters.remove(&gone);
        if self.main == gone {
            self.main = self.any_cluster();
        }
        self.paths.retain(|_, cluster| *cluster != gone);
        let elsewhere = self.any_cluster();
        for listener in self.listeners.values_mut() {
            if listener.cluster == gone {
                listener.cluster.clone_from(&elsewhere);
            }
        }
    }

    fn any_cluster(&mut self) -> String {
        let number = self.random.usize(0..self.clusters.len());
        self.clusters
            .keys()
            .nth(number)
            .cloned()
            .unwrap_or_default()
    }

    fn some_cluster(&mut self) -> &mut Cluster {
        let name = self.any_cluster();
        self.clusters.get_mut(&name).expect("it was just found")
    }

    fn some_endpoints(&mut self) -> BTreeMap<u16, u64> {
        let upstreams = self.around.upstreams.clone();
        let mut endpoints = BTreeMap::new();
        while endpoints.is_empty() {
            for port in &upstreams {
                if self.random.bool() {
                    endpoints.insert(*port, self.random.u64(1..=100));
                }
            }
        }
        endpoints
    }

    fn cluster(&self, name: &str, cluster: &Cluster) -> Value {
        json!({
            "name": name,
            "type": "EDS",
            "connect_timeout": format!("{}s", cluster.timeout),
            "eds_cluster_config": {"eds_config": self.around.source},
        })
    }

    fn listener(&self, name: &str, port: u16, buffer: u64) -> Value {
        json!({
            "name": name,
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            "per_connection_buffer_limit_bytes": buffer,
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                    "stat_prefix": name,
                    "rds": {"route_config_name": name, "config_source": self.around.source},
                    "http_filters": [{
                        "name": "envoy.filters.http.router",
                        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                    }],
                },
            }]}],
        })
    }
}

fn endpoints(name: &str, cluster: &Cluster) -> Value {
    let endpoints = cluster.endpoints.iter().map(|(port, weight)| {
        json!({
            "endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}},
            "load_balancing_weight": weight,
        })
    });
    let endpoints: Vec<Value> = endpoints.collect();
    json!({"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]})
}

fn route(prefix: &str, cluster: &str) -> Value {
    json!({"match": {"prefix": prefix}, "route": {"cluster": cluster}})
}

fn routes(name: &str, routes: &[Value]) -> Value {
    json!({"name": name, "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]})
}

fn difference(before: &Resources, after: Resources) -> Transaction {
    let kept: BTreeSet<&(Kind, String)> = after.keys().collect();
    let gone = before.keys().filter(|key| !kept.contains(key)).cloned();
    let remove = gone.collect();
    let changed = after
        .into_iter()
        .filter(|(key, body)| before.get(key) != Some(body));
    Transaction {
        remove,
        set: changed.map(|(_, body)| body).collect(),
    }
}
