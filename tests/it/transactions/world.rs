//! A server, an Envoy that gets everything from it, and applications behind it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use harness::{
    artifacts::Artifacts,
    demo_services::DemoService,
    envoy::{self, Envoy},
    http::Client,
    ports::free_port,
    server::{Options, Server},
    wait::wait_for,
    xds::{Api, Kind, Variant},
};
use serde_json::{Value, json};

use super::model::{Resources, Surroundings, Transaction};
use crate::door1::BOUND;

/// How an Envoy asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// One stream for everything.
    Ads(Variant),
    /// The services of single types.
    Apart(Variant),
}

impl Door {
    fn variant(self) -> Variant {
        match self {
            Self::Ads(variant) | Self::Apart(variant) => variant,
        }
    }

    /// Where resources come from that another one names.
    fn source(self) -> Value {
        match self {
            Self::Ads(_) => json!({"resource_api_version": "V3", "ads": {}}),
            Self::Apart(variant) => json!({
                "resource_api_version": "V3",
                "api_config_source": api(variant),
            }),
        }
    }
}

fn api(variant: Variant) -> Value {
    let kind = match variant {
        Variant::Sotw => "GRPC",
        Variant::Delta => "DELTA_GRPC",
    };
    json!({
        "api_type": kind,
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
    })
}

/// All of them.
pub struct World {
    pub server: Server,
    pub api: Api,
    pub around: Surroundings,
    artifacts: Artifacts,
    door: Door,
    _applications: Vec<DemoService>,
    pub dir: tempfile::TempDir,
}

impl World {
    pub fn start(door: Door) -> Result<Self> {
        let artifacts = Artifacts::from_env()?;
        let dir = tempfile::tempdir()?;
        let applications = ["v1", "v2", "v3"].into_iter();
        let applications: Vec<DemoService> = applications
            .map(|version| DemoService::start(&artifacts, dir.path(), "application", version))
            .collect::<Result<_>>()?;
        let server = Server::start(&artifacts, dir.path(), "{}", &Options::default())?;
        Ok(Self {
            api: Api::new(server.api),
            server,
            around: Surroundings {
                port: free_port(),
                other_ports: [free_port(), free_port(), free_port()],
                upstreams: applications.iter().map(|one| one.addr.port()).collect(),
                source: door.source(),
            },
            artifacts,
            door,
            _applications: applications,
            dir,
        })
    }

    /// Starts an Envoy and waits until it serves the listener that always exists.
    pub fn envoy(&self) -> Result<Envoy> {
        let admin_port = free_port();
        let config = bootstrap(self.door, admin_port, self.server.xds.port());
        let options = envoy::Options {
            admin_port,
            ..envoy::Options::default()
        };
        let envoy = Envoy::start(
            &self.artifacts,
            self.dir.path(),
            &config.to_string(),
            &options,
        )?;
        wait_for("the listener to serve", BOUND, || {
            let mut client = Client::new(([127, 0, 0, 1], self.around.port).into());
            match client.get("/", &[]) {
                Ok(response) if response.status == 200 => Ok(()),
                Ok(response) => Err(response.status.to_string()),
                Err(error) => Err(format!("{error:#}")),
            }
        })?;
        Ok(envoy)
    }

    /// Ends the server without a word, and starts another one in its place.
    pub fn kill_and_restart(&mut self, meanwhile: impl FnOnce() -> Result<()>) -> Result<()> {
        let xds_port = self.server.xds.port();
        self.server.process().kill()?;
        meanwhile()?;
        let options = Options {
            xds_port,
            ..Options::default()
        };
        self.server = Server::start(&self.artifacts, self.dir.path(), "{}", &options)?;
        self.api = Api::new(self.server.api);
        Ok(())
    }

    pub fn apply(&self, transaction: &Transaction) -> Result<()> {
        let remove = transaction.remove.iter();
        let remove = remove.map(|(kind, name)| json!({"type": kind.url(), "name": name}));
        let call = json!({"set": transaction.set, "remove": remove.collect::<Vec<_>>()});
        self.api.apply(&call).map(drop)
    }

    /// A counter of the server, over all its labels.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let page = Client::new(self.server.api).get("/metrics", &[])?;
        let page = String::from_utf8_lossy(&page.body).into_owned();
        let lines = page.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        let mut values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        let first = values
            .next()
            .with_context(|| format!("no {name} in:\n{page}"))?;
        Ok(first + values.sum::<f64>())
    }

    /// Waits until an Envoy has exactly these resources, as its own dump tells.
    pub fn wait_equal(&self, envoy: &Envoy, expected: &Resources) -> Result<()> {
        let expected = comparable(expected);
        wait_for("Envoy to have the server's state", BOUND, || {
            let dump = dump(envoy).map_err(|error| format!("{error:#}"))?;
            if dump == expected {
                return Ok(());
            }
            let missing = expected
                .iter()
                .filter(|(key, body)| dump.get(key) != Some(*body));
            let extra = dump
                .iter()
                .filter(|(key, body)| expected.get(key) != Some(*body));
            Err(format!(
                "not in Envoy: {:#?}\nin Envoy instead: {:#?}\n{}",
                missing.collect::<Vec<_>>(),
                extra.collect::<Vec<_>>(),
                self.server.api_get("/api/v1/proxies").unwrap_or_default()
            ))
        })
    }

    /// That nobody rejected anything: neither by the server's count nor by Envoy's.
    pub fn nothing_was_rejected(&self, envoy: &Envoy) -> Result<()> {
        ensure!(
            self.metric("xds_nacks_total")? < 0.5,
            "{}",
            self.server.log()
        );
        let stats = envoy.admin("/stats?filter=update_rejected")?;
        let rejected: Vec<&str> = stats
            .lines()
            .filter(|line| !line.ends_with(": 0"))
            .collect();
        ensure!(rejected.is_empty() && !stats.is_empty(), "{rejected:?}");
        Ok(())
    }
}

/// What the server says that it serves.
pub fn of_server(server: &Server) -> Result<Resources> {
    let listed = server.api_get("/api/v1/resources?full=true")?;
    let listed = listed["resources"].as_array().context("no resources")?;
    let mut all = Resources::new();
    for one in listed {
        let kind = Kind::ALL.into_iter().find(|kind| one["type"] == kind.url());
        let name = one["name"].as_str().context("no name")?;
        let mut body = one["resource"].clone();
        let kind = kind.context("an unknown type")?;
        body["@type"] = kind.url().into();
        all.insert((kind, name.into()), body);
    }
    Ok(all)
}

type Comparable = BTreeMap<(Kind, String), Value>;

/// Envoy shows endpoints as it sees them, with their health; of those the ports and weights count.
fn comparable(resources: &Resources) -> Comparable {
    let all = resources.iter().map(|((kind, name), body)| {
        let body = match kind {
            Kind::Endpoints => ports_and_weights(body),
            _ => body.clone(),
        };
        ((*kind, name.clone()), body)
    });
    all.collect()
}

fn ports_and_weights(body: &Value) -> Value {
    let localities = body["endpoints"].as_array().into_iter().flatten();
    let endpoints = localities.flat_map(|one| one["lb_endpoints"].as_array().into_iter().flatten());
    let pairs = endpoints.map(|one| {
        let port = &one["endpoint"]["address"]["socket_address"]["port_value"];
        (port.to_string(), one["load_balancing_weight"].clone())
    });
    Value::Object(pairs.collect())
}

fn dump(envoy: &Envoy) -> Result<Comparable> {
    let dump: Value = serde_json::from_str(&envoy.admin("/config_dump?include_eds")?)?;
    let mut found = Comparable::new();
    let parts = [
        ("dynamic_active_clusters", "cluster", Kind::Cluster),
        ("dynamic_warming_clusters", "cluster", Kind::Cluster),
        ("dynamic_listeners", "active_state", Kind::Listener),
        ("dynamic_route_configs", "route_config", Kind::Route),
        (
            "dynamic_endpoint_configs",
            "endpoint_config",
            Kind::Endpoints,
        ),
    ];
    let sections = dump["configs"].as_array().context("no configs")?;
    for section in sections {
        for (list, field, kind) in parts {
            for one in section[list].as_array().into_iter().flatten() {
                let body = match kind {
                    // One that went away drains for ten minutes.
                    Kind::Listener if one[field].is_null() => continue,
                    Kind::Listener => &one[field]["listener"],
                    _ => &one[field],
                };
                let name = body["name"]
                    .as_str()
                    .or_else(|| body["cluster_name"].as_str());
                let name = name.with_context(|| format!("{list}: {one}"))?;
                let is_warming = list.contains("warming");
                let body = match kind {
                    Kind::Endpoints => ports_and_weights(body),
                    _ if is_warming => json!("it is warming"),
                    _ => body.clone(),
                };
                found.insert((kind, name.into()), body);
            }
        }
    }
    // A listener that went away keeps its route, of the same name, until it is drained.
    let listeners: Vec<String> = found
        .keys()
        .filter(|(kind, _)| *kind == Kind::Listener)
        .map(|(_, name)| name.clone())
        .collect();
    found.retain(|(kind, name), _| *kind != Kind::Route || listeners.contains(name));
    Ok(found)
}

fn bootstrap(door: Door, admin_port: u16, xds_port: u16) -> Value {
    let address =
        |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let mut dynamic = json!({"cds_config": door.source(), "lds_config": door.source()});
    if let Door::Ads(_) = door {
        dynamic["ads_config"] = api(door.variant());
    }
    json!({
        "node": {"id": "envoy-1", "cluster": "transactions"},
        "admin": {"address": address(admin_port)},
        "dynamic_resources": dynamic,
        "static_resources": {"clusters": [{
            "name": "xds",
            "connect_timeout": "5s",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}},
                },
            },
            "load_assignment": {
                "cluster_name": "xds",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(xds_port)}}]}],
            },
        }]},
    })
}
