//! What a live Envoy says of itself on its admin interface: `/config_dump?include_eds`,
//! `/clusters?format=json` and `/stats?format=json`, read into the words of this server. Pure: whoever
//! asks an Envoy passes its pages in.

mod filter;
mod gauges;
mod hosts;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

pub use self::{
    filter::{FilterError, managers},
    gauges::Gauges,
    hosts::{Host, hosts},
};
use crate::{
    redact::{Redactor, shorten},
    resource::ResourceType,
};

/// What an Envoy makes of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Condition {
    /// In force.
    Active,
    /// In force, from the bootstrap.
    Static,
    /// Waits for what it needs, such as endpoints.
    Warming,
    /// Serves its last connections.
    Draining,
    /// The newest version was rejected; this is what it said about it.
    Rejected,
}

impl Condition {
    /// `ACTIVE`, ….
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Static => "STATIC",
            Self::Warming => "WARMING",
            Self::Draining => "DRAINING",
            Self::Rejected => "REJECTED",
        }
    }

    fn is_in_force(self) -> bool {
        matches!(self, Self::Active | Self::Static)
    }
}

/// One resource of an Envoy.
#[derive(Debug, Clone, Serialize)]
pub struct Held {
    /// Its name.
    pub name: String,
    /// As its server called it; empty for a static one.
    pub version: String,
    /// What the Envoy makes of it.
    pub state: Condition,
    /// When it came, RFC 3339 in UTC, by the Envoy's clock.
    pub updated_at: Option<String>,
    /// Why it was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Its protobuf JSON, without secrets; none where there is none to show.
    pub resource: Option<Value>,
}

/// An Envoy's configuration.
#[derive(Debug, Clone)]
pub struct Dump {
    bootstrap: Value,
    types: BTreeMap<ResourceType, Vec<Held>>,
}

/// No configuration of an Envoy.
#[derive(Debug, thiserror::Error)]
#[error("this is no /config_dump of an Envoy: it has no list `configs`")]
pub struct NoDump;

/// Where a dump keeps resources: its own type, the list, the field, and what being there means.
const LISTS: [(&str, ResourceType, &str, &str, Condition); 13] = {
    use Condition::{Active, Static, Warming};
    use ResourceType::{
        Cluster, ClusterLoadAssignment, ExtensionConfig, RouteConfiguration, Secret,
    };
    [
        (
            "ClustersConfigDump",
            Cluster,
            "static_clusters",
            "cluster",
            Static,
        ),
        (
            "ClustersConfigDump",
            Cluster,
            "dynamic_active_clusters",
            "cluster",
            Active,
        ),
        (
            "ClustersConfigDump",
            Cluster,
            "dynamic_warming_clusters",
            "cluster",
            Warming,
        ),
        (
            "EndpointsConfigDump",
            ClusterLoadAssignment,
            "static_endpoint_configs",
            "endpoint_config",
            Static,
        ),
        (
            "EndpointsConfigDump",
            ClusterLoadAssignment,
            "dynamic_endpoint_configs",
            "endpoint_config",
            Active,
        ),
        (
            "RoutesConfigDump",
            RouteConfiguration,
            "static_route_configs",
            "route_config",
            Static,
        ),
        (
            "RoutesConfigDump",
            RouteConfiguration,
            "dynamic_route_configs",
            "route_config",
            Active,
        ),
        (
            "SecretsConfigDump",
            Secret,
            "static_secrets",
            "secret",
            Static,
        ),
        (
            "SecretsConfigDump",
            Secret,
            "dynamic_active_secrets",
            "secret",
            Active,
        ),
        (
            "SecretsConfigDump",
            Secret,
            "dynamic_warming_secrets",
            "secret",
            Warming,
        ),
        (
            "EcdsConfigDump",
            ExtensionConfig,
            "ecds_filters",
            "ecds_filter",
            Active,
        ),
        (
            "ListenersConfigDump",
            ResourceType::Listener,
            "static_listeners",
            "listener",
            Static,
        ),
        // Each has up to three states.
        (
            "ListenersConfigDump",
            ResourceType::Listener,
            "dynamic_listeners",
            "listener",
            Active,
        ),
    ]
};

impl Dump {
    /// Reads `/config_dump?include_eds`.
    ///
    /// # Errors
    /// A page that is something else.
    pub fn read(page: &Value, redactor: &Redactor) -> Result<Self, NoDump> {
        let configs = page["configs"].as_array().ok_or(NoDump)?;
        let mut dump = Self {
            bootstrap: Value::Null,
            types: BTreeMap::new(),
        };
        for config in configs {
            let of = config["@type"].as_str().unwrap_or_default();
            let of = of.rsplit('.').next().unwrap_or_default();
            if of == "BootstrapConfigDump" {
                dump.bootstrap = config["bootstrap"].clone();
                shorten(&mut dump.bootstrap);
            }
            for (_, kind, list, field, state) in LISTS.iter().filter(|(dump, ..)| *dump == of) {
                for entry in config[*list].as_array().into_iter().flatten() {
                    let held = match *list {
                        "dynamic_listeners" => states_of_a_listener(entry),
                        _ => vec![(entry, *state)],
                    };
                    let kept = dump.types.entry(*kind).or_default();
                    for (entry, state) in held {
                        kept.extend(read_held(*kind, entry, field, state, redactor));
                    }
                    kept.extend(read_rejected(*kind, entry, field));
                }
            }
        }
        Ok(dump)
    }

    /// The bootstrap.
    pub fn bootstrap(&self) -> &Value {
        &self.bootstrap
    }

    /// A text of the node, by its pointer: `/cluster`, `/locality/zone`; empty where there is none.
    pub fn node(&self, pointer: &str) -> &str {
        let node = &self.bootstrap["node"];
        let text = node.pointer(pointer).and_then(Value::as_str);
        text.unwrap_or_default()
    }

    /// Everything of a type.
    pub fn held(&self, kind: ResourceType) -> &[Held] {
        self.types.get(&kind).map_or(&[], Vec::as_slice)
    }

    /// Contents of what is in force of a type.
    pub fn in_force(&self, kind: ResourceType) -> impl Iterator<Item = (&str, &Value)> {
        let held = self
            .held(kind)
            .iter()
            .filter(|held| held.state.is_in_force());
        held.filter_map(|held| Some((held.name.as_str(), held.resource.as_ref()?)))
    }

    /// As `/api/v1/proxies/NODE/config` shows a node.
    pub fn to_json(&self) -> Value {
        let types: Vec<Value> = ResourceType::IN_ORDER
            .into_iter()
            .filter(|kind| !self.held(*kind).is_empty())
            .map(|kind| {
                let configs = self.held(kind);
                json!({"type": kind.api(), "type_url": kind.url(), "configs": configs})
            })
            .collect();
        let node = &self.bootstrap["node"];
        let build = &node["user_agent_build_version"]["version"];
        let number = |part: &str| build[part].as_u64().unwrap_or_default();
        let version =
            ["major_number", "minor_number", "patch"].map(|part| number(part).to_string());
        json!({
            "id": node["id"],
            "cluster": node["cluster"],
            "user_agent": node["user_agent_name"],
            "version": version.join("."),
            "locality": node["locality"],
            "types": types,
        })
    }
}

fn states_of_a_listener(entry: &Value) -> Vec<(&Value, Condition)> {
    let states = [
        ("active_state", Condition::Active),
        ("warming_state", Condition::Warming),
        ("draining_state", Condition::Draining),
    ];
    let there = states.into_iter().filter_map(|(field, state)| {
        let found = &entry[field];
        (!found.is_null()).then_some((found, state))
    });
    there.collect()
}

fn read_held(
    kind: ResourceType,
    entry: &Value,
    field: &str,
    state: Condition,
    redactor: &Redactor,
) -> Option<Held> {
    let shown = entry.get(field)?;
    let mut resource = without_type(shown);
    if kind == ResourceType::Secret {
        // What cannot be looked into is not shown.
        resource = redactor.shown_by_envoy(kind, &resource)?;
    }
    shorten(&mut resource);
    Some(Held {
        name: name(kind, entry, &resource),
        version: text(&entry["version_info"]).unwrap_or_default(),
        state,
        updated_at: text(&entry["last_updated"]),
        error: None,
        resource: Some(resource),
    })
}

/// Envoy keeps what it had, and says beside it what it did not take.
fn read_rejected(kind: ResourceType, entry: &Value, field: &str) -> Option<Held> {
    let error = entry.get("error_state")?;
    let resource = entry.get(field).map(without_type).unwrap_or_default();
    Some(Held {
        name: name(kind, entry, &resource),
        version: text(&error["version_info"]).unwrap_or_default(),
        state: Condition::Rejected,
        updated_at: text(&error["last_update_attempt"]),
        error: text(&error["details"]),
        resource: None,
    })
}

fn name(kind: ResourceType, entry: &Value, resource: &Value) -> String {
    let field = match kind {
        ResourceType::ClusterLoadAssignment => "cluster_name",
        _ => "name",
    };
    let own = text(&resource[field]).or_else(|| text(&entry["name"]));
    own.unwrap_or_default()
}

fn without_type(shown: &Value) -> Value {
    let mut resource = shown.clone();
    if let Some(fields) = resource.as_object_mut() {
        fields.shift_remove("@type");
    }
    resource
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_string)
}
