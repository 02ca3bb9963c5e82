//! A resource that is offered: read so far as to know what it is and what it is called.

use std::{collections::HashMap, sync::Arc};

use serde_json::Value;

use super::{
    document,
    key::{Entry, Key, Nodes, Source},
    problem::{PROBLEMS_MAX, Problem},
};
use crate::{
    compile::{self, Encoder, Misfit, Step},
    resource::{Resource, ResourceType},
};

/// A resource larger than this is refused: its tree takes many times as much memory.
pub const RESOURCE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A resource that is well-formed JSON with a type and a name.
#[derive(Debug)]
pub struct Offer<'t> {
    /// Which of `set`.
    pub index: usize,
    /// What it is.
    pub kind: ResourceType,
    /// Its name.
    pub name: Arc<str>,
    /// Its JSON, keys sorted, with `@type`.
    pub canonical: String,
    /// Its version.
    pub version: String,
    /// The tree without `@type`.
    body: Value,
    document: &'t str,
    part: &'t str,
}

impl Offer<'_> {
    /// What it is found by.
    pub fn key(&self, nodes: &Nodes) -> Key {
        Key {
            nodes: nodes.clone(),
            kind: self.kind,
            name: Arc::clone(&self.name),
        }
    }

    /// What is kept of it. Content that is `known` keeps its bytes.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn entry(
        self,
        overrides: bool,
        source: &Source,
        known: Option<&Arc<Entry>>,
        encoder: &Encoder,
    ) -> Result<Arc<Entry>, Problem> {
        let resource = match known {
            Some(known) if *known.resource.version == self.version => Arc::clone(&known.resource),
            _ => Arc::new(self.encode(encoder)?),
        };
        Ok(Arc::new(Entry {
            resource,
            body: self.canonical.into(),
            overrides,
            source: source.clone(),
        }))
    }

    /// The resource, encoded.
    ///
    /// # Errors
    /// The first field that is not what its type's descriptor says.
    pub fn encode(&self, encoder: &Encoder) -> Result<Resource, Problem> {
        let made = match encoder.given_twice(self.kind, &self.body) {
            Some(misfit) => Err(misfit),
            None => encoder.resource(self.kind, &self.name, &self.version, &self.body),
        };
        made.map_err(|misfit| {
            let place = document::place_of(self.document, self.part, &misfit);
            self.problem(misfit.message.clone())
                .field(misfit.field())
                .at(place)
        })
    }

    /// About this resource as a whole.
    pub fn problem(&self, message: impl Into<Box<str>>) -> Problem {
        Problem {
            index: Some(self.index),
            kind: Some(self.kind.url().into()),
            name: Some((&*self.name).into()),
            ..Problem::new(message)
        }
        .at(document::place_in(self.document, self.part))
    }
}

/// The resources of a document, each read when it is asked for. After too many problems they end.
#[derive(Debug)]
pub struct Offers<'t> {
    document: &'t str,
    encoder: &'t Encoder,
    parts: std::iter::Enumerate<std::vec::IntoIter<&'t str>>,
    seen: HashMap<(ResourceType, Arc<str>), usize>,
    problems: usize,
}

impl<'t> Offers<'t> {
    /// Of these parts of it.
    pub fn new(document: &'t str, parts: Vec<&'t str>, encoder: &'t Encoder) -> Self {
        Self {
            document,
            encoder,
            parts: parts.into_iter().enumerate(),
            seen: HashMap::new(),
            problems: 0,
        }
    }
}

impl<'t> Iterator for Offers<'t> {
    type Item = Result<Offer<'t>, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.problems == PROBLEMS_MAX {
            return None;
        }
        let (index, part) = self.parts.next()?;
        let offer = offer(self.document, part, index, self.encoder).and_then(|offer| {
            let key = (offer.kind, Arc::clone(&offer.name));
            match self.seen.insert(key, index) {
                None => Ok(offer),
                Some(first) => Err(offer.problem(format!("is in set[{first}] already"))),
            }
        });
        self.problems += usize::from(offer.is_err());
        Some(offer)
    }
}

/// Reads a part of a document.
///
/// # Errors
/// What is wrong with its form, its type or its name.
pub fn offer<'t>(
    document: &'t str,
    part: &'t str,
    index: usize,
    encoder: &Encoder,
) -> Result<Offer<'t>, Problem> {
    // Places are counted from the document's begin: only where something is wrong.
    let about = |message: String| Problem {
        index: Some(index),
        ..Problem::new(message).at(document::place_in(document, part))
    };
    let about_field = |field: &str, message: String| {
        let misfit = Misfit {
            steps: vec![Step::Key(field.into())],
            message: String::new(),
            key: None,
        };
        let place = document::place_of(document, part, &misfit);
        about(message).field(field).at(place)
    };
    if part.len() > RESOURCE_BYTES_MAX {
        return Err(about("larger than 16 MiB".into()));
    }
    let tree = document::tree(document, part).map_err(|(message, at)| about(message).at(at))?;
    let canonical = tree.to_string();
    let Value::Object(mut body) = tree else {
        return Err(about("must be an object with \"@type\"".into()));
    };
    let url = match body.shift_remove("@type") {
        Some(Value::String(url)) => url,
        Some(_) => return Err(about_field("@type", "must be a text".into())),
        None => return Err(about_field("@type", "must be given".into())),
    };
    let kind = ResourceType::from_url(&url).ok_or_else(|| Problem {
        kind: Some(url.as_str().into()),
        ..about_field("@type", unknown_type(&url))
    })?;
    let name = name_of(kind, &body);
    let body = Value::Object(body);
    let name = name.map_err(|(field, message)| {
        // Perhaps it is there, spelled wrong.
        let unknown = encoder.unknown_field(kind, &body);
        let problem = match unknown {
            Some(misfit) => {
                let place = document::place_of(document, part, &misfit);
                about(misfit.message.clone())
                    .field(misfit.field())
                    .at(place)
            }
            None => about_field(field, message),
        };
        let kind = Some(url.as_str().into());
        Problem { kind, ..problem }
    })?;
    Ok(Offer {
        index,
        kind,
        name,
        version: compile::version(&canonical),
        canonical,
        body,
        document,
        part,
    })
}

fn name_of(
    kind: ResourceType,
    body: &serde_json::Map<String, Value>,
) -> Result<Arc<str>, (&'static str, String)> {
    let (field, camel) = match kind {
        ResourceType::ClusterLoadAssignment => ("cluster_name", "clusterName"),
        _ => ("name", "name"),
    };
    let spelled = match body.contains_key(camel) && !body.contains_key(field) {
        true => camel,
        false => field,
    };
    let name = match body.get(spelled) {
        Some(Value::String(name)) => name.as_str(),
        Some(_) => return Err((spelled, "must be a text".into())),
        None => "",
    };
    match name {
        "" => Err((spelled, "must be given: it is the resource's name".into())),
        "*" => Err((spelled, "\"*\" means every resource; choose another".into())),
        name => Ok(name.into()),
    }
}

/// Said of a type that is not served.
pub fn unknown_type(kind: &str) -> String {
    let known = ResourceType::IN_ORDER.map(ResourceType::url).join(", ");
    format!("{kind:?} is not served; must be one of {known}")
}
