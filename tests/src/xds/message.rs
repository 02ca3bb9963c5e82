//! Requests and responses of both variants, as one type each.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use anyhow::{Context, Result, ensure};
use envoy_types::pb::{
    envoy::{
        config::core::v3::Node,
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
        },
    },
    google::{protobuf::Any, rpc::Status},
};
use prost::Message as _;

use super::{Kind, Variant};

/// What a client says. Fields of the other variant are left out.
#[derive(Debug, Clone, Default)]
pub struct Request {
    type_url: String,
    node: Option<Node>,
    names: Vec<String>,
    unsubscribe: Vec<String>,
    known: Vec<(String, String)>,
    version: String,
    nonce: String,
    error: Option<String>,
}

impl Request {
    /// About a type.
    pub fn of(kind: Kind) -> Self {
        Self::of_url(kind.url())
    }

    /// About a type that may not exist.
    pub fn of_url(url: &str) -> Self {
        Self {
            type_url: url.into(),
            ..Self::default()
        }
    }

    /// With a node that has this id; its cluster is `test`.
    #[must_use]
    pub fn node(self, id: &str) -> Self {
        self.whole_node(Node {
            id: id.into(),
            cluster: "test".into(),
            ..Node::default()
        })
    }

    /// With this node.
    #[must_use]
    pub fn whole_node(self, node: Node) -> Self {
        let node = Some(node);
        Self { node, ..self }
    }

    /// `resource_names`, or `resource_names_subscribe`.
    #[must_use]
    pub fn names(self, names: &[&str]) -> Self {
        let names = owned(names);
        Self { names, ..self }
    }

    /// Delta: `resource_names_unsubscribe`.
    #[must_use]
    pub fn unsubscribe(self, names: &[&str]) -> Self {
        let unsubscribe = owned(names);
        Self {
            unsubscribe,
            ..self
        }
    }

    /// Delta: `initial_resource_versions`.
    #[must_use]
    pub fn known(self, versions: &[(&str, &str)]) -> Self {
        let known = versions.iter();
        let known = known.map(|(name, version)| ((*name).into(), (*version).into()));
        Self {
            known: known.collect(),
            ..self
        }
    }

    /// State of the world: `version_info`.
    #[must_use]
    pub fn version(self, version: &str) -> Self {
        let version = version.into();
        Self { version, ..self }
    }

    /// `response_nonce`.
    #[must_use]
    pub fn nonce(self, nonce: &str) -> Self {
        let nonce = nonce.into();
        Self { nonce, ..self }
    }

    /// `error_detail`.
    #[must_use]
    pub fn error(self, text: &str) -> Self {
        let error = Some(text.into());
        Self { error, ..self }
    }

    /// The type that it is about, if there is such a one.
    pub(super) fn kind(&self) -> Option<Kind> {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.url() == self.type_url)
    }

    /// Changes what is wanted as it says.
    pub(super) fn note(&self, variant: Variant, wanted: &mut Vec<String>) {
        match variant {
            Variant::Sotw => wanted.clone_from(&self.names),
            Variant::Delta => {
                let gone: HashSet<&String> = self.unsubscribe.iter().collect();
                wanted.retain(|name| !gone.contains(name));
                wanted.extend(self.names.iter().cloned());
                wanted.sort_unstable();
                wanted.dedup();
            }
        }
    }

    /// As it is sent.
    pub fn encode(self, variant: Variant) -> Vec<u8> {
        let error_detail = self.error.map(|message| Status {
            code: 13,
            message,
            details: Vec::new(),
        });
        match variant {
            Variant::Sotw => DiscoveryRequest {
                version_info: self.version,
                node: self.node,
                resource_names: self.names,
                type_url: self.type_url,
                response_nonce: self.nonce,
                error_detail,
                ..DiscoveryRequest::default()
            }
            .encode_to_vec(),
            Variant::Delta => DeltaDiscoveryRequest {
                node: self.node,
                type_url: self.type_url,
                resource_names_subscribe: self.names,
                resource_names_unsubscribe: self.unsubscribe,
                initial_resource_versions: self.known.into_iter().collect(),
                response_nonce: self.nonce,
                error_detail,
                ..DeltaDiscoveryRequest::default()
            }
            .encode_to_vec(),
        }
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).into()).collect()
}

/// One resource of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// Delta: its version.
    pub version: String,
    /// The message.
    pub body: Vec<u8>,
}

impl Resource {
    /// Whether this text is somewhere in it.
    pub fn holds(&self, text: &str) -> bool {
        let text = text.as_bytes();
        self.body.windows(text.len()).any(|window| window == text)
    }
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Its type.
    pub kind: Kind,
    /// Its nonce.
    pub nonce: String,
    /// `version_info`, or `system_version_info`.
    pub version: String,
    /// Its resources, by name.
    pub resources: BTreeMap<String, Resource>,
    /// Delta: `removed_resources`.
    pub removed: BTreeSet<String>,
}

impl Response {
    /// Names of its resources, in order.
    pub fn names(&self) -> Vec<&str> {
        self.resources.keys().map(String::as_str).collect()
    }

    /// Names of what it says is gone, in order.
    pub fn removed(&self) -> Vec<&str> {
        self.removed.iter().map(String::as_str).collect()
    }

    /// The names, each with the last word of its message: `a=mark-1`. See [`super::set_of`].
    pub fn marks(&self) -> Vec<String> {
        let marks = self.resources.values();
        marks
            .map(|one| format!("{}={}", one.name, mark(&one.body)))
            .collect()
    }

    /// Reads it, and checks what must hold of every response.
    pub(super) fn decode(variant: Variant, bytes: &[u8]) -> Result<Self> {
        let (url, nonce, version, entries, gone) = match variant {
            Variant::Sotw => {
                let all = DiscoveryResponse::decode(bytes)?;
                let plain = all.resources.into_iter();
                let entries = plain.map(|any| Ok((name_of(&any)?, String::new(), any)));
                let entries: Result<Vec<_>> = entries.collect();
                (all.type_url, all.nonce, all.version_info, entries?, vec![])
            }
            Variant::Delta => {
                let all = DeltaDiscoveryResponse::decode(bytes)?;
                let wrapped = all.resources.into_iter();
                let entries = wrapped.map(|one| {
                    let any = one.resource.context("a resource without its message")?;
                    ensure!(
                        name_of(&any)? == one.name,
                        "{} is named otherwise",
                        one.name
                    );
                    ensure!(!one.version.is_empty(), "{} has no version", one.name);
                    Ok((one.name, one.version, any))
                });
                let entries: Result<Vec<_>> = entries.collect();
                let version = all.system_version_info;
                (
                    all.type_url,
                    all.nonce,
                    version,
                    entries?,
                    all.removed_resources,
                )
            }
        };
        let kind = Kind::ALL.into_iter().find(|kind| kind.url() == url);
        let mut response = Self {
            kind: kind.with_context(|| format!("a response of type {url:?}"))?,
            nonce,
            version,
            resources: BTreeMap::new(),
            removed: BTreeSet::new(),
        };
        ensure!(!response.nonce.is_empty(), "a response without a nonce");
        for (name, version, any) in entries {
            ensure!(any.type_url == url, "{name} is {}, not {url}", any.type_url);
            let body = any.value;
            let resource = Resource {
                name: name.clone(),
                version,
                body,
            };
            let twice = response.resources.insert(name, resource);
            ensure!(twice.is_none(), "{twice:?} twice in one response");
        }
        for name in gone {
            let both = response.resources.contains_key(&name);
            ensure!(!both, "{name} is there and removed in one response");
            ensure!(
                response.removed.insert(name),
                "removed twice in one response"
            );
        }
        Ok(response)
    }
}

/// Every type that is served has its resource's name in field 1.
fn name_of(any: &Any) -> Result<String> {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Named {
        #[prost(string, tag = "1")]
        name: String,
    }
    Ok(Named::decode(&*any.value)?.name)
}

/// The text that [`super::set_of`] put into it.
fn mark(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let begin = text.find(super::apply::MARK);
    let found = begin.map(|begin| &text[begin + super::apply::MARK.len()..]);
    let word = |text: &str| -> String {
        let is_word = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
        text.chars().take_while(is_word).collect()
    };
    found.map_or_else(|| "?".into(), word)
}
