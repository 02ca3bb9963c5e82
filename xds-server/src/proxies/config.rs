//! What one connected node was sent, resource by resource, and what it made of it. Secrets are redacted.

use std::sync::Arc;

use policy::time::CivilZone;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{Locality, State, Type, locality, told};
use crate::{
    discovery::Has,
    fleet::{StreamStatus, TypeStatus},
    redact::Redactor,
    resource::{Resource, ResourceType},
};

/// What somebody wants to see.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The `node.id`.
    pub node: String,
    /// Its `node.cluster`, where several have the id.
    pub cluster: Option<String>,
    /// Resources of this type only.
    pub kind: Option<ResourceType>,
    /// Those of this name only.
    pub name: Option<String>,
}

/// Every connected node of the id; one, unless two services have given the same one away.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ProxyConfigs")]
pub struct Configs {
    /// In the order of their clusters.
    pub proxies: Vec<NodeConfig>,
}

/// One node.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ProxyConfig")]
pub struct NodeConfig {
    id: String,
    cluster: String,
    user_agent: String,
    version: String,
    locality: Locality,
    types: Vec<TypeConfig>,
}

/// Resources of one type.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ProxyTypeConfig")]
struct TypeConfig {
    #[serde(flatten)]
    of: Type,
    /// Resources that it came with from an earlier stream, and was not sent again: this server knows
    /// their versions, not their contents.
    kept: usize,
    /// What it was sent on this stream, and what it rejected.
    configs: Vec<Shown>,
}

/// A resource, and what became of it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "SentResource")]
struct Shown {
    name: String,
    version: String,
    state: State,
    /// Of one that it rejected: whether it still has an older version.
    #[serde(skip_serializing_if = "Option::is_none")]
    keeps_older: Option<bool>,
    /// None where only the rejection is known.
    resource: Option<Value>,
}

/// No such node.
#[derive(Debug, thiserror::Error)]
#[error("no proxy {node:?} is connected{}", hint(near))]
pub struct UnknownNode {
    node: String,
    near: Vec<String>,
}

fn hint(near: &[String]) -> String {
    match near {
        [] => "; `mumbai-mesh proxy status` lists those that are".into(),
        near => format!("; did you mean {}?", near.join(" or ")),
    }
}

/// What a node was sent.
///
/// # Errors
/// [`UnknownNode`], with ids that are near.
pub fn config(
    streams: &[Arc<StreamStatus>],
    asked: &Asked,
    redactor: &Redactor,
    zone: &CivilZone,
) -> Result<Configs, UnknownNode> {
    let is_asked = |stream: &&Arc<StreamStatus>| {
        let cluster = asked.cluster.as_deref();
        stream.node.id == asked.node && cluster.is_none_or(|wanted| wanted == stream.node.cluster)
    };
    let mut found: Vec<&Arc<StreamStatus>> = streams.iter().filter(is_asked).collect();
    if found.is_empty() {
        return Err(UnknownNode {
            node: asked.node.clone(),
            near: near(streams, &asked.node),
        });
    }
    found.sort_by_key(|stream| stream.node.cluster.clone());
    let nodes = found.chunk_by(|one, other| one.node.cluster == other.node.cluster);
    let proxies = nodes.filter_map(|streams| node(streams, asked, redactor, zone));
    Ok(Configs {
        proxies: proxies.collect(),
    })
}

/// At most three ids that look alike, the likeliest first.
fn near(streams: &[Arc<StreamStatus>], wrong: &str) -> Vec<String> {
    const LIKENESS_MIN: f64 = 0.8;
    const SHOWN_MAX: usize = 3;
    let wrong = wrong.to_ascii_lowercase();
    let mut known: Vec<(f64, &str)> = streams
        .iter()
        .map(|stream| stream.node.id.as_str())
        .map(|id| (strsim::jaro_winkler(&wrong, &id.to_ascii_lowercase()), id))
        .filter(|(likeness, _)| *likeness > LIKENESS_MIN)
        .collect();
    known.sort_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(right.1)));
    known.dedup();
    let known = known.into_iter().take(SHOWN_MAX);
    known.map(|(_, id)| format!("{id:?}")).collect()
}

fn node(
    streams: &[&Arc<StreamStatus>],
    asked: &Asked,
    redactor: &Redactor,
    zone: &CivilZone,
) -> Option<NodeConfig> {
    let node = &streams.first()?.node;
    let types = streams.iter().flat_map(|stream| stream.types());
    let wanted = types.filter(|(kind, _)| asked.kind.is_none_or(|wanted| wanted == *kind));
    let types = wanted.map(|(kind, status)| TypeConfig {
        kept: kept(&status),
        configs: shown(kind, &status, asked.name.as_deref(), redactor),
        of: told(kind, &status, zone),
    });
    Some(NodeConfig {
        id: node.id.clone(),
        cluster: node.cluster.clone(),
        user_agent: node.user_agent.clone(),
        version: node.version.clone(),
        locality: locality(node),
        types: types.collect(),
    })
}

fn shown(
    kind: ResourceType,
    status: &TypeStatus,
    name: Option<&str>,
    redactor: &Redactor,
) -> Vec<Shown> {
    let is_wanted = |known: &str| name.is_none_or(|wanted| wanted == known);
    let sent = status.holding.each().filter_map(|(_, has)| match has {
        Has::Sent(resource) => Some(resource),
        Has::Kept(_) | Has::Absent | Has::Nothing => None,
    });
    let mut shown: Vec<Shown> = sent
        .filter(|resource| is_wanted(&resource.name))
        .map(|resource| {
            let rejected = status.refused.iter().find(|refused| {
                *refused.name == *resource.name && *refused.version == *resource.version
            });
            Shown {
                name: resource.name.to_string(),
                version: resource.version.to_string(),
                state: match rejected {
                    Some(_) => State::Rejected,
                    None => state_of_another(status, resource),
                },
                keeps_older: rejected.map(|refused| refused.usable),
                resource: redactor.json(kind, &resource.body()),
            }
        })
        .collect();
    // Those that are told no second time stand at their older version, or at none.
    let told_apart = status.refused.iter().filter(|refused| {
        let is_shown = |shown: &Shown| *shown.name == *refused.name && shown.keeps_older.is_some();
        is_wanted(&refused.name) && !shown.iter().any(is_shown)
    });
    let told_apart: Vec<Shown> = told_apart
        .map(|refused| Shown {
            name: refused.name.to_string(),
            version: refused.version.to_string(),
            state: State::Rejected,
            keeps_older: Some(refused.usable),
            resource: None,
        })
        .collect();
    shown.extend(told_apart);
    shown
}

/// How many it has from an earlier stream.
fn kept(status: &TypeStatus) -> usize {
    let kept = |(_, has): &(&str, Has<'_>)| matches!(has, Has::Kept(_));
    status.holding.each().filter(kept).count()
}

/// Of a resource that is not known to be rejected.
fn state_of_another(status: &TypeStatus, resource: &Arc<Resource>) -> State {
    if !status.holding.has_answered(resource) {
        State::Stale
    } else if status.rejects_what_it_had() {
        State::Rejected
    } else {
        State::Synced
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        compile::Encoder,
        proxies::imagined::{Says, stream},
        resource::View,
    };

    fn view(encoder: &Encoder) -> Arc<View> {
        let secret = json!({"name": "own", "tls_certificate": {
            "certificate_chain": {"inline_string": "public chain"},
            "private_key": {"inline_string": "known-canary"},
        }});
        let cluster = json!({"name": "order-service", "connect_timeout": "1s"});
        let resources = [
            (ResourceType::Secret, "own", secret),
            (ResourceType::Cluster, "order-service", cluster),
        ];
        let encoded = resources.map(|(kind, name, body)| {
            let resource = encoder.resource(kind, name, "v1", &body).unwrap();
            (kind, Arc::new(resource))
        });
        Arc::new(View::new(encoded.to_vec()))
    }

    fn shown(says: Says, asked: Asked) -> Value {
        let encoder = Encoder::new().unwrap();
        let types = [
            (ResourceType::Cluster, says),
            (ResourceType::Secret, Says::Accepts),
        ];
        let streams = [stream("edge-1", "edge", &view(&encoder), &types)];
        let redactor = Redactor::new(encoder.descriptors());
        let zone = CivilZone::utc();
        let asked = Asked {
            node: "edge-1".into(),
            ..asked
        };
        let configs = config(&streams, &asked, &redactor, &zone).unwrap();
        serde_json::to_value(configs).unwrap()["proxies"][0].clone()
    }

    #[test]
    fn each_resource_is_shown_with_what_became_of_it() {
        let all = shown(Says::Accepts, Asked::default());
        let cluster = &all["types"][0];
        assert_eq!(
            (&cluster["type"], &cluster["kept"]),
            (&json!("CDS"), &json!(0))
        );
        assert_eq!(cluster["configs"][0]["state"], "SYNCED");
        assert_eq!(cluster["configs"][0]["resource"]["name"], "order-service");
        let waiting = shown(Says::Nothing, Asked::default());
        assert_eq!(waiting["types"][0]["configs"][0]["state"], "STALE");
        let words = "order-service: no such thing";
        let rejected = shown(Says::Rejects(words), Asked::default());
        let cluster = &rejected["types"][0];
        assert_eq!(cluster["nack"]["message"], words);
        assert_eq!(cluster["configs"][0]["state"], "REJECTED");
    }

    #[test]
    fn a_private_key_is_never_shown() {
        let asked = Asked {
            kind: Some(ResourceType::Secret),
            ..Asked::default()
        };
        let secrets = shown(Says::Accepts, asked);
        assert_eq!(secrets["types"].as_array().unwrap().len(), 1);
        let certificate = &secrets["types"][0]["configs"][0]["resource"]["tls_certificate"];
        assert_eq!(certificate["private_key"]["inline_string"], "[redacted]");
        assert!(!secrets.to_string().contains("canary"), "{secrets}");
    }

    #[test]
    fn a_node_that_is_not_there_is_told_with_those_that_are_near() {
        let encoder = Encoder::new().unwrap();
        let view = view(&encoder);
        let streams = ["edge-1", "payment-1"].map(|id| stream(id, "edge", &view, &[]));
        let told = |node: &str| {
            let asked = Asked {
                node: node.into(),
                ..Asked::default()
            };
            let redactor = Redactor::new(encoder.descriptors());
            let refused = config(&streams, &asked, &redactor, &CivilZone::utc());
            refused.unwrap_err().to_string()
        };
        assert_eq!(
            told("egde-1"),
            "no proxy \"egde-1\" is connected; did you mean \"edge-1\"?"
        );
        let far = told("zzz");
        assert!(
            far.ends_with("`mumbai-mesh proxy status` lists those that are"),
            "{far}"
        );
    }
}
