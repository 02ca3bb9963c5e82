//! What a raw resource is found by, and what is kept of it.

use std::{borrow::Cow, fmt, sync::Arc};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::rows::{self, Row};
use crate::resource::{Resource, ResourceType};

/// The nodes that are sent a resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Nodes {
    /// Every node.
    All,
    /// Nodes with this `node.cluster`.
    Cluster(Arc<str>),
    /// Nodes with this `node.id`.
    Id(Arc<str>),
}

impl Serialize for Nodes {
    /// As a call says it; nothing for every node.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_none(),
            Self::Cluster(cluster) => serializer.collect_map([("cluster", &**cluster)]),
            Self::Id(id) => serializer.collect_map([("id", &**id)]),
        }
    }
}

impl JsonSchema for Nodes {
    fn schema_name() -> Cow<'static, str> {
        "Nodes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Whose Envoys: of a node.cluster or of a node.id; null for all.",
            "type": ["object", "null"],
            "properties": {"cluster": {"type": "string"}, "id": {"type": "string"}},
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": false,
        })
    }
}

impl fmt::Display for Nodes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => formatter.write_str("every node"),
            Self::Cluster(cluster) => write!(formatter, "node.cluster {cluster:?}"),
            Self::Id(id) => write!(formatter, "node.id {id:?}"),
        }
    }
}

/// A resource of a type for some nodes. Sorted by nodes, then type, then name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Who is sent it.
    pub nodes: Nodes,
    /// What it is.
    pub kind: ResourceType,
    /// Its name.
    pub name: Arc<str>,
}

impl Key {
    /// As one word, which may stand in a query.
    pub fn mark(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(rows::of_resource(self).as_bytes())
    }

    /// What a [`mark`](Self::mark) is of.
    pub fn of_mark(mark: &str) -> Option<Self> {
        let row = BASE64_URL_SAFE_NO_PAD.decode(mark).ok()?;
        match rows::read(str::from_utf8(&row).ok()?)? {
            Row::Resource(key) => Some(key),
            Row::File(_) => None,
        }
    }
}

/// Who holds a resource: nobody else may change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Calls of the API.
    Api,
    /// The file of this name.
    File(Arc<str>),
}

/// A raw resource.
#[derive(Clone)]
pub struct Entry {
    /// As it is sent.
    pub resource: Arc<Resource>,
    /// Its JSON, keys sorted, `@type` included. It may hold private keys: nobody is shown it.
    pub body: Box<str>,
    /// Whether it replaces what the mesh produces under its name.
    pub overrides: bool,
    /// Who holds it.
    pub source: Source,
}

impl fmt::Debug for Entry {
    /// Without the body, which may hold private keys.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Entry")
            .field("name", &self.resource.name)
            .field("version", &self.resource.version)
            .field("overrides", &self.overrides)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}
