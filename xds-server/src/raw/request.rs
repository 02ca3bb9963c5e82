//! An apply call, or a file that says the same: what it names, each resource on its own, so that the
//! first problem of each bad one can be told, together with what is wrong with the rest.

use std::{borrow::Cow, marker::PhantomData, sync::Arc};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    document::{self, Members},
    key::Nodes,
    offer::{Offer, Offers, offer, unknown_type},
    problem::{PROBLEMS_MAX, Problem},
};
use crate::{compile::Encoder, resource::ResourceType};

/// Resources named by one call.
const NAMED_MAX: usize = 100_000;
/// What a call may say.
const FIELDS: [&str; 5] = ["set", "remove", "remove_all", "nodes", "override"];

/// The form of a call; [`read`] reads it.
#[derive(JsonSchema)]
#[schemars(rename = "ResourcesCall", deny_unknown_fields)]
#[expect(dead_code, reason = "its fields are told, and read one by one")]
pub struct CallForm {
    /// Resources as protobuf JSON, each with `@type` and its name.
    #[schemars(default)]
    set: Vec<ResourceForm>,
    /// Carried out before set.
    #[schemars(default)]
    remove: Vec<NameForm>,
    /// Everything that calls have set for these nodes goes, before set.
    #[schemars(default)]
    remove_all: bool,
    /// Whose Envoys it is for, and within which it removes; all when it is left out.
    #[schemars(default)]
    nodes: Option<NodesForm>,
    /// What is set replaces what the mesh produces under its name.
    #[schemars(default)]
    r#override: bool,
}

/// A resource: any that Envoy takes over xDS.
#[derive(JsonSchema)]
#[schemars(rename = "EnvoyResource")]
#[expect(dead_code, reason = "its fields are told")]
struct ResourceForm {
    /// Such as type.googleapis.com/envoy.config.cluster.v3.Cluster.
    #[schemars(rename = "@type")]
    kind: String,
}

/// A resource that goes.
#[derive(JsonSchema)]
#[schemars(rename = "ResourceName", deny_unknown_fields)]
#[expect(dead_code, reason = "its fields are told")]
struct NameForm {
    /// Its type's URL.
    r#type: String,
    /// Its name.
    name: String,
}

/// One of the two.
#[derive(JsonSchema)]
#[schemars(rename = "NodesCall", deny_unknown_fields, extend("minProperties" = 1, "maxProperties" = 1))]
#[expect(dead_code, reason = "its fields are told")]
struct NodesForm {
    /// A `node.cluster`.
    #[schemars(default)]
    cluster: Option<String>,
    /// A `node.id`.
    #[schemars(default)]
    id: Option<String>,
}

const TOO_MANY: &str = "more than";
const FLAG: &str = "true or false";

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
    /// What is wrong with all but `set`. A call that has such is refused.
    pub problems: Vec<Problem>,
}

/// Reads a call.
///
/// # Errors
/// What is no object. Other problems are in [`Request::problems`] and [`Request::set`].
pub fn read<'t>(document: &'t str, encoder: &'t Encoder) -> Result<Request<'t>, Problem> {
    Ok(Call::of(document).read(members(document)?, encoder))
}

/// Reads a resource alone.
///
/// # Errors
/// Its first problem.
pub fn read_one<'t>(document: &'t str, encoder: &'t Encoder) -> Result<Offer<'t>, Problem> {
    offer(document, document, 0, encoder)
}

/// Reads a file: a call, or a resource alone. Which of the two it was is told too.
///
/// # Errors
/// As [`read`].
pub fn read_file<'t>(
    document: &'t str,
    encoder: &'t Encoder,
) -> Result<(Request<'t>, Holds), Problem> {
    let members = members(document)?;
    let is = |key: &str, names: &[&str]| {
        let name = document::name_of(key);
        name.is_some_and(|name| names.contains(&&*name))
    };
    if members.iter().any(|(key, _)| is(key, &["@type"])) {
        let request = Request {
            nodes: Nodes::All,
            overrides: false,
            remove_all: false,
            remove: Vec::new(),
            set: Offers::new(document, vec![document.trim()], encoder),
            problems: Vec::new(),
        };
        return Ok((request, Holds::Resource));
    }
    if !members.is_empty() && !members.iter().any(|(key, _)| is(key, &FIELDS)) {
        return Err(Problem::new(
            "must be a resource with \"@type\", or an object with \"set\", an array of such",
        )
        .at(document::place_in(document, document.trim())));
    }
    let mut request = Call::of(document).read(members.clone(), encoder);
    let removes = match (request.remove.is_empty(), request.remove_all) {
        (false, _) => Some("remove"),
        (_, true) => Some("remove_all"),
        (true, false) => None,
    };
    if let Some(field) = removes
        && let Some((key, _)) = members.iter().find(|(key, _)| is(key, &[field]))
    {
        let problem = Problem::new(
            "a file removes nothing: a resource goes with its file, or with its entry in `set`",
        );
        let place = document::place_in(document, key);
        request.problems.push(problem.field(field).at(place));
    }
    Ok((request, Holds::Call))
}

/// What a file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// One resource.
    Resource,
    /// What a call says.
    Call,
}

/// The members of a document that is an object.
fn members(document: &str) -> Result<Vec<(&str, &str)>, Problem> {
    let begin = document.trim_start();
    if !begin.is_empty() && !begin.starts_with('{') {
        return Err(Problem::new("must be an object such as {\"set\": […]}")
            .at(document::place_in(document, begin)));
    }
    let members: Result<Members<'_>, _> = serde_json::from_str(document);
    let Members(members) = members.map_err(|error| {
        let at = document::offset_of(document, &error);
        Problem::new(document::message_of(&error)).at(document::position(document, at))
    })?;
    Ok(members)
}

/// A text, as it is spelled and as it says.
type Text<'t> = (&'t str, Cow<'t, str>);

/// A call while it is read.
struct Call<'t> {
    document: &'t str,
    problems: Vec<Problem>,
}

impl<'t> Call<'t> {
    fn of(document: &'t str) -> Self {
        Self {
            document,
            problems: Vec::new(),
        }
    }

    fn read(mut self, members: Vec<(&'t str, &'t str)>, encoder: &'t Encoder) -> Request<'t> {
        let [set, remove, remove_all, nodes, overrides] = self.fields("", members, FIELDS);
        let set = self.value(set, "set", "an array");
        let set: Vec<&RawValue> = set.map_or_else(Vec::new, |Bounded(parts)| parts);
        let remove = self.value(remove, "remove", "an array");
        let remove: Vec<&RawValue> = remove.map_or_else(Vec::new, |Bounded(parts)| parts);
        let remove = remove.into_iter().enumerate();
        let remove = remove.filter_map(|(index, part)| self.removal(index, part.get()));
        let remove = remove.collect();
        Request {
            overrides: self.value(overrides, "override", FLAG).unwrap_or(false),
            remove_all: self.value(remove_all, "remove_all", FLAG).unwrap_or(false),
            nodes: self.nodes(nodes.filter(|part| *part != "null")),
            remove,
            set: Offers::new(
                self.document,
                set.into_iter().map(RawValue::get).collect(),
                encoder,
            ),
            problems: self.problems,
        }
    }

    /// A problem of a field, at a part of the document.
    fn problem(&mut self, part: &str, field: &str, message: impl Into<Box<str>>) {
        if self.problems.len() < PROBLEMS_MAX {
            let place = document::place_in(self.document, part);
            self.problems
                .push(Problem::new(message).field(field).at(place));
        }
    }

    /// The values of known fields of an object; others are problems.
    fn fields<const N: usize>(
        &mut self,
        within: &str,
        members: Vec<(&'t str, &'t str)>,
        known: [&str; N],
    ) -> [Option<&'t str>; N] {
        let mut values = [None; N];
        for (key, value) in members {
            let name = document::name_of(key).unwrap_or(Cow::Borrowed(key));
            let field = match within {
                "" => name.to_string(),
                within => format!("{within}.{name}"),
            };
            let mut places = known.iter().zip(&mut values);
            match places.find(|(known, _)| ***known == *name) {
                Some((_, place @ None)) => *place = Some(value),
                Some((_, Some(_))) => self.problem(key, &field, "is given twice; keep one of them"),
                None => {
                    let known = known.map(|known| format!("{known:?}")).join(", ");
                    self.problem(key, &field, format!("unknown field; known: {known}"));
                }
            }
        }
        values
    }

    /// What a part says, if it is there and as it must be.
    fn value<T: Deserialize<'t>>(
        &mut self,
        part: Option<&'t str>,
        field: &str,
        must_be: &str,
    ) -> Option<T> {
        let part = part?;
        let read = serde_json::from_str(part);
        if let Err(error) = &read {
            let said = document::message_of(error);
            let said = match said.starts_with(TOO_MANY) {
                true => said,
                false => format!("must be {must_be}"),
            };
            self.problem(part, field, said);
        }
        read.ok()
    }

    /// An object's texts, by name; None for what is not there.
    fn texts<const N: usize>(
        &mut self,
        part: &'t str,
        within: &str,
        known: [&'static str; N],
    ) -> Option<[Option<Text<'t>>; N]> {
        if !part.starts_with('{') {
            let fields = known.map(|known| format!("{known:?}: …")).join(", ");
            self.problem(part, within, format!("must be an object: {{{fields}}}"));
            return None;
        }
        let Members(members) = serde_json::from_str(part).ok()?;
        let before = self.problems.len();
        let values = self.fields(within, members, known);
        let mut named = known.into_iter();
        let texts = values.map(|value| {
            let field = format!("{within}.{}", named.next().unwrap_or_default());
            let value = value.filter(|value| *value != "null")?;
            match document::name_of(value) {
                Some(text) if !text.is_empty() => Some((value, text)),
                Some(_) => {
                    self.problem(value, &field, "must not be empty");
                    None
                }
                None => {
                    self.problem(value, &field, "must be a text");
                    None
                }
            }
        });
        (self.problems.len() == before).then_some(texts)
    }

    fn nodes(&mut self, part: Option<&'t str>) -> Nodes {
        let Some(part) = part else {
            return Nodes::All;
        };
        match self.texts(part, "nodes", ["cluster", "id"]) {
            Some([Some((_, cluster)), None]) => return Nodes::Cluster(cluster.into()),
            Some([None, Some((_, id))]) => return Nodes::Id(id.into()),
            Some([Some(_), Some(_)]) => self.problem(
                part,
                "nodes",
                "names both a cluster and an id: keep one of them (an id is enough: ids are unique)",
            ),
            Some([None, None]) => self.problem(
                part,
                "nodes",
                "must be {\"cluster\": \"…\"} or {\"id\": \"…\"}; leave it out for every node",
            ),
            None => {}
        }
        Nodes::All
    }

    fn removal(&mut self, index: usize, part: &'t str) -> Option<(ResourceType, Arc<str>)> {
        let within = format!("remove[{index}]");
        let [kind, name] = self.texts(part, &within, ["type", "name"])?;
        for (found, field) in [(&kind, "type"), (&name, "name")] {
            if found.is_none() {
                self.problem(part, &format!("{within}.{field}"), "must be given");
            }
        }
        let ((kind_part, kind), (_, name)) = (kind?, name?);
        let found = ResourceType::from_url(&kind);
        if found.is_none() {
            self.problem(kind_part, &format!("{within}.type"), unknown_type(&kind));
        }
        Some((found?, name.into()))
    }
}

/// An array that does not fill the memory.
struct Bounded<T>(Vec<T>);

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
                        let message = format!("{TOO_MANY} {NAMED_MAX} resources in one call");
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
