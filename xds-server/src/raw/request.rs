//! An apply call, or a file that says the same: what it names, each resource on its own, so that the
//! first problem of each bad one can be told.

use std::{collections::HashMap, marker::PhantomData, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

use super::{
    document,
    key::{Entry, Key, Nodes, Source},
    problem::{PROBLEMS_MAX, Problem},
};
use crate::{
    compile::{self, Encoder},
    resource::{Resource, ResourceType},
};

/// A resource larger than this is refused: its tree takes many times as much memory.
pub const RESOURCE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Resources named by one call.
const NAMED_MAX: usize = 100_000;
/// A call.
#[derive(Debug)]
pub struct Request<'t> {
    /// Within which it acts.
    pub nodes: Nodes,
    /// Whether what it sets replaces what the mesh produces.
    pub overrides: bool,
    /// Whether everything within `nodes` is removed first.
    pub remove_all: bool,
    /// What is removed first.
    pub remove: Vec<(ResourceType, Arc<str>)>,
    /// What is set, in the call's order. Read one by one: a tree takes many times its text's memory.
    pub set: Offers<'t>,
}

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
        let made = encoder.resource(self.kind, &self.name, &self.version, &self.body);
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'t> {
    #[serde(borrow, default)]
    set: Bounded<&'t RawValue>,
    #[serde(default)]
    remove: Bounded<Removal>,
    #[serde(default)]
    remove_all: bool,
    nodes: Option<NodesBody>,
    #[serde(default, rename = "override")]
    overrides: bool,
}

/// An array that does not fill the memory.
struct Bounded<T>(Vec<T>);

impl<T> Default for Bounded<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Bounded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Collect<T> {
            type Value = Bounded<T>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut elements: A,
            ) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(element) = elements.next_element()? {
                    if all.len() == NAMED_MAX {
                        let message = format!("more than {NAMED_MAX} resources in one call");
                        return Err(A::Error::custom(message));
                    }
                    all.push(element);
                }
                Ok(Bounded(all))
            }
        }
        deserializer.deserialize_seq(Collect(PhantomData))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Removal {
    #[serde(rename = "type")]
    kind: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodesBody {
    cluster: Option<Box<str>>,
    id: Option<Box<str>>,
}

/// Reads a call.
///
/// # Errors
/// Problems of the call itself. Those of single resources are in [`Request::set`].
pub fn read(document: &str) -> Result<Request<'_>, Problem> {
    let body: Body<'_> =
        serde_json::from_str(document).map_err(|error| unreadable(document, &error))?;
    let remove = body.remove.0.into_iter().enumerate();
    let parts = body.set.0.into_iter().map(RawValue::get).collect();
    Ok(Request {
        nodes: nodes(body.nodes)?,
        overrides: body.overrides,
        remove_all: body.remove_all,
        remove: remove.map(removal).collect::<Result<_, _>>()?,
        set: Offers::new(document, parts),
    })
}

/// Reads a resource alone.
///
/// # Errors
/// Its first problem.
pub fn read_one(document: &str) -> Result<Offer<'_>, Problem> {
    offer(document, document, 0)
}

/// Reads a file: a call, or a resource alone.
///
/// # Errors
/// As [`read`]; and a file that would remove something.
pub fn read_file(document: &str) -> Result<Request<'_>, Problem> {
    /// As much as tells which of the two it is.
    #[derive(Deserialize)]
    struct Kind {
        #[serde(rename = "@type")]
        kind: Option<serde::de::IgnoredAny>,
    }
    let found: Kind =
        serde_json::from_str(document).map_err(|error| unreadable(document, &error))?;
    if found.kind.is_some() {
        return Ok(Request {
            nodes: Nodes::All,
            overrides: false,
            remove_all: false,
            remove: Vec::new(),
            set: Offers::new(document, vec![document.trim()]),
        });
    }
    let request = read(document)?;
    let field = match (request.remove.is_empty(), request.remove_all) {
        (false, _) => "remove",
        (_, true) => "remove_all",
        (true, false) => return Ok(request),
    };
    Err(Problem::new(
        "a file removes nothing: a resource goes with its file, or with its entry in `set`",
    )
    .field(field))
}

fn unreadable(document: &str, error: &serde_json::Error) -> Problem {
    let at = document::offset_of(document, error);
    Problem::new(document::message_of(error)).at(document::position(document, at))
}

fn nodes(body: Option<NodesBody>) -> Result<Nodes, Problem> {
    let nodes = match body {
        None => return Ok(Nodes::All),
        Some(NodesBody {
            cluster: Some(cluster),
            id: None,
        }) if !cluster.is_empty() => Nodes::Cluster(cluster.into()),
        Some(NodesBody {
            cluster: None,
            id: Some(id),
        }) if !id.is_empty() => Nodes::Id(id.into()),
        Some(_) => {
            return Err(Problem::new(
                "must be {\"cluster\": \"…\"} or {\"id\": \"…\"}, not empty; leave it out for every node",
            )
            .field("nodes"));
        }
    };
    Ok(nodes)
}

fn removal((index, removal): (usize, Removal)) -> Result<(ResourceType, Arc<str>), Problem> {
    let kind = ResourceType::from_url(&removal.kind).ok_or_else(|| {
        Problem::new(unknown_type(&removal.kind)).field(format!("remove[{index}].type"))
    })?;
    Ok((kind, removal.name.into()))
}

fn unknown_type(kind: &str) -> String {
    let known = ResourceType::IN_ORDER.map(ResourceType::url).join(", ");
    format!("{kind:?} is not served; must be one of {known}")
}

/// The resources of a document, each read when it is asked for. After too many problems they end.
#[derive(Debug)]
pub struct Offers<'t> {
    document: &'t str,
    parts: std::iter::Enumerate<std::vec::IntoIter<&'t str>>,
    seen: HashMap<(ResourceType, Arc<str>), usize>,
    problems: usize,
}

impl<'t> Offers<'t> {
    fn new(document: &'t str, parts: Vec<&'t str>) -> Self {
        Self {
            document,
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
        let offer = offer(self.document, part, index).and_then(|offer| {
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

fn offer<'t>(document: &'t str, part: &'t str, index: usize) -> Result<Offer<'t>, Problem> {
    // Places are counted from the document's begin: only where something is wrong.
    let about = |message: String| Problem {
        index: Some(index),
        ..Problem::new(message).at(document::place_in(document, part))
    };
    if part.len() > RESOURCE_BYTES_MAX {
        return Err(about("larger than 16 MiB".into()));
    }
    let tree = document::tree(document, part).map_err(|(message, at)| about(message).at(at))?;
    let canonical = tree.to_string();
    let Value::Object(mut body) = tree else {
        return Err(about("must be an object with \"@type\"".into()));
    };
    let (name_field, url) = match body.shift_remove("@type") {
        Some(Value::String(url)) => ("@type", url),
        Some(_) => return Err(about("must be a text".into()).field("@type")),
        None => return Err(about("must be given".into()).field("@type")),
    };
    let kind = ResourceType::from_url(&url).ok_or_else(|| Problem {
        kind: Some(url.as_str().into()),
        ..about(unknown_type(&url)).field(name_field)
    })?;
    let name = name_of(kind, &body).map_err(|(field, message)| Problem {
        kind: Some(url.into()),
        ..about(message).field(field)
    })?;
    Ok(Offer {
        index,
        kind,
        name,
        version: compile::version(&canonical),
        canonical,
        body: Value::Object(body),
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
    let name = match body.get(field).or_else(|| body.get(camel)) {
        Some(Value::String(name)) => name.as_str(),
        Some(_) => return Err((field, "must be a text".into())),
        None => "",
    };
    match name {
        "" => Err((field, "must be given: it is the resource's name".into())),
        "*" => Err((field, "\"*\" means every resource; choose another".into())),
        name => Ok(name.into()),
    }
}
