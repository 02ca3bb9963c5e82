//! What may stand in a mesh file, as one table: the JSON Schema for editors and the reference for people
//! are rendered from it, and its tests hold it against the readers.

mod document;
mod fields;
mod registration;
mod rules;
mod schema;

#[cfg(test)]
mod tests;

pub use self::{
    document::mesh_reference, registration::RegistrationForm, rules::rule_reference,
    schema::json_schema,
};

/// The whole file.
pub(crate) use self::fields::MESH_FILE;

/// A map with known fields.
#[derive(Debug)]
pub(crate) struct Object {
    /// Its heading, and its name in the schema.
    pub name: &'static str,
    /// What it is.
    pub says: &'static str,
    pub fields: &'static [Field],
}

/// One field of an object.
#[derive(Debug)]
pub(crate) struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub required: bool,
    /// As it would be written; where it depends on something, `says` tells.
    pub default: Option<&'static str>,
    pub says: &'static str,
}

/// Texts of one kind.
#[derive(Debug)]
pub(crate) struct Text {
    /// In words.
    pub what: &'static str,
    /// As JSON Schema wants it.
    pub pattern: &'static str,
}

/// What a value may be.
#[derive(Debug)]
pub(crate) enum Kind {
    Text(&'static Text),
    Word(&'static [&'static str]),
    Switch,
    /// `on` or `off`, which YAML may read as truth values.
    OnOff,
    Whole(i64, i64),
    /// One of these whole numbers.
    OneOf(&'static [i64]),
    /// With at most two decimals.
    Number(f64, f64),
    /// From, and to where there is an end.
    Duration(&'static str, Option<&'static str>),
    Object(&'static Object),
    List(&'static Kind),
    /// Keys that the author chooses.
    Map(&'static Text, &'static Kind),
    Either(&'static [Kind]),
}

impl Field {
    pub const fn new(name: &'static str, kind: Kind, says: &'static str) -> Self {
        Self {
            name,
            kind,
            required: false,
            default: None,
            says,
        }
    }

    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub const fn default(mut self, written: &'static str) -> Self {
        self.default = Some(written);
        self
    }
}

impl Kind {
    /// The objects directly within, each with what its path adds to this one's.
    fn objects(&self) -> Vec<(String, &'static Object)> {
        let below = |prefix: &str, kind: &Self| -> Vec<(String, &'static Object)> {
            let objects = kind.objects().into_iter();
            objects
                .map(|(path, object)| (format!("{prefix}{path}"), object))
                .collect()
        };
        match self {
            Self::Object(object) => vec![(String::new(), object)],
            Self::List(kind) => below("[]", kind),
            Self::Map(_, kind) => below(".NAME", kind),
            Self::Either(kinds) => kinds.iter().flat_map(Self::objects).collect(),
            Self::Text(_)
            | Self::Word(_)
            | Self::Switch
            | Self::OnOff
            | Self::Whole(..)
            | Self::OneOf(_)
            | Self::Number(..)
            | Self::Duration(..) => Vec::new(),
        }
    }
}

/// An object and all paths at which it stands.
type Placed = (&'static Object, Vec<String>);

/// Every object of the file, in the order of the fields that hold it.
fn all_objects() -> Vec<Placed> {
    let mut found = Vec::new();
    visit(&MESH_FILE, "", &mut found);
    found
}

fn visit(object: &'static Object, path: &str, found: &mut Vec<Placed>) {
    match found
        .iter_mut()
        .find(|(known, _)| known.name == object.name)
    {
        Some((_, paths)) => paths.push(path.to_string()),
        None => found.push((object, vec![path.to_string()])),
    }
    let dot = if path.is_empty() { "" } else { "." };
    for field in object.fields {
        for (suffix, inner) in field.kind.objects() {
            visit(inner, &format!("{path}{dot}{}{suffix}", field.name), found);
        }
    }
}
