//! What Envoys would be sent otherwise, resource by resource and field by field.

use std::{collections::HashMap, sync::Arc};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::{
    differences::{Lists, differences},
    redact::{Redactor, shorten},
    resource::{Collection, Resource, ResourceType, View},
};

/// What becomes of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "ResourceChange")]
pub enum Becomes {
    /// It is there from then on.
    Appears,
    /// It is another one.
    Changes,
    /// It is there no longer.
    Goes,
}

/// A resource that would be sent otherwise.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "ChangedResource")]
pub struct Changed {
    /// `CDS`, `EDS`, ….
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// What becomes of it.
    pub change: Becomes,
    /// Of one that changes: where. None of what is secret.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Field>,
}

/// A field of a resource that changes.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "ChangedField")]
pub struct Field {
    /// In Envoy's own names.
    pub path: String,
    /// What is there now; null for nothing.
    pub before: Value,
    /// What would be there.
    pub after: Value,
}

/// What tells the changes of one view from those of another.
pub(super) type Signature = Vec<Line>;

/// A resource, with its versions before and after; an empty one where it is not there.
type Line = (ResourceType, Arc<str>, Box<str>, Box<str>);

/// Compares views, each part once.
pub(super) struct Comparer<'r> {
    redactor: &'r Redactor,
    /// By the addresses of two collections, which their views hold.
    collections: HashMap<(usize, usize), Arc<[Pair]>>,
    /// What was told of resources already.
    told: HashMap<Line, Changed>,
}

/// A resource before and after.
#[derive(Clone)]
pub(super) struct Pair {
    kind: ResourceType,
    name: Arc<str>,
    before: Option<Arc<Resource>>,
    after: Option<Arc<Resource>>,
}

impl<'r> Comparer<'r> {
    pub(super) fn new(redactor: &'r Redactor) -> Self {
        Self {
            redactor,
            collections: HashMap::new(),
            told: HashMap::new(),
        }
    }

    /// What differs. The views must be kept as long as this is asked.
    pub(super) fn pairs(&mut self, before: &View, after: &View) -> Vec<Pair> {
        let mut found = Vec::new();
        for kind in ResourceType::IN_ORDER {
            let (old, new) = (before.collection(kind), after.collection(kind));
            if !Arc::ptr_eq(old, new) {
                let key = (Arc::as_ptr(old).addr(), Arc::as_ptr(new).addr());
                let known = self.collections.entry(key);
                found.extend_from_slice(known.or_insert_with(|| pairs(kind, old, new)));
            }
        }
        found
    }

    /// The changes, as people are told them.
    pub(super) fn changed(&mut self, pairs: &[Pair]) -> Vec<Changed> {
        let mut changed = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let line = line(pair);
            let known = self.told.get(&line).cloned();
            let told = known.unwrap_or_else(|| self.one(pair));
            self.told.entry(line).or_insert_with(|| told.clone());
            changed.push(told);
        }
        changed
    }

    fn one(&self, pair: &Pair) -> Changed {
        let kind = pair.kind;
        let (change, fields) = match (&pair.before, &pair.after) {
            (Some(before), Some(after)) => {
                let shown = |resource: &Resource| self.shown(kind, resource);
                let lists = Lists::ByElement(&identity);
                let found = differences(&shown(before), &shown(after), lists);
                let fields = found.into_iter().map(|one| Field {
                    path: one.path.to_string(),
                    before: one.before,
                    after: one.after,
                });
                (Becomes::Changes, fields.collect())
            }
            (None, _) => (Becomes::Appears, Vec::new()),
            (Some(_), None) => (Becomes::Goes, Vec::new()),
        };
        Changed {
            kind: kind.api(),
            name: pair.name.to_string(),
            change,
            fields,
        }
    }

    /// Without secrets; a text that holds JSON as what it holds.
    fn shown(&self, kind: ResourceType, resource: &Resource) -> Value {
        let mut shown = self
            .redactor
            .json(kind, &resource.body())
            .unwrap_or_default();
        if kind == ResourceType::ExtensionConfig {
            unfold(&mut shown["typed_config"]["config"]["configuration"]["value"]);
        }
        shorten(&mut shown);
        shown
    }
}

/// What tells these changes from others.
pub(super) fn signature(pairs: &[Pair]) -> Signature {
    pairs.iter().map(line).collect()
}

fn line(pair: &Pair) -> Line {
    let version = |one: &Option<Arc<Resource>>| {
        one.as_ref()
            .map_or_else(Box::default, |one| one.version.clone())
    };
    let (before, after) = (version(&pair.before), version(&pair.after));
    (pair.kind, Arc::clone(&pair.name), before, after)
}

/// Both are sorted by name.
fn pairs(kind: ResourceType, before: &Collection, after: &Collection) -> Arc<[Pair]> {
    let pair =
        |one: &Arc<Resource>, before: Option<&Arc<Resource>>, after: Option<&Arc<Resource>>| Pair {
            kind,
            name: Arc::clone(&one.name),
            before: before.cloned(),
            after: after.cloned(),
        };
    let is_same = |one: &Arc<Resource>, other: &Arc<Resource>| {
        Arc::ptr_eq(one, other) || one.version == other.version
    };
    let old = before.iter().filter_map(|old| {
        let new = after.get(&old.name);
        let same = new.is_some_and(|new| is_same(old, new));
        (!same).then(|| pair(old, Some(old), new))
    });
    let new = after.iter().filter(|new| before.get(&new.name).is_none());
    old.chain(new.map(|new| pair(new, None, Some(new))))
        .collect()
}

fn unfold(text: &mut Value) {
    if let Some(json) = text
        .as_str()
        .and_then(|text| serde_json::from_str(text).ok())
    {
        *text = json;
    }
}

/// What tells elements of Envoy's lists apart.
fn identity(element: &Value) -> Option<String> {
    let text = |value: &Value| value.as_str().map(str::to_string);
    let address = &element["endpoint"]["address"]["socket_address"];
    if address.is_object() {
        return Some(format!(
            "{}:{}",
            text(&address["address"])?,
            address["port_value"]
        ));
    }
    if let Some(locality) = element.get("locality") {
        let part = |name: &str| locality[name].as_str().unwrap_or_default();
        return Some(format!("{}/{}", part("region"), part("zone")));
    }
    text(&element["name"])
}
