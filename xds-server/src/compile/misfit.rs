//! Where a body is not what Envoy's descriptors say: said so that a person finds it.

use std::fmt;

use prost_reflect::{Kind, MessageDescriptor};
use serde_json::Value;

/// Where a body is not what its type's descriptor says, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// From the body's root to what is wrong; to the object that holds it, when that is a key.
    pub steps: Vec<Step>,
    /// What is wrong. It repeats no value, which may be a private key.
    pub message: String,
    /// The key, when that is wrong and not its value: it is not known, or given twice.
    pub key: Option<String>,
}

/// One step into a JSON tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// To a member, by the key that the body spells.
    Key(String),
    /// To an element.
    Index(usize),
}

impl Misfit {
    /// `load_assignment.endpoints[0].priority`; empty for the whole.
    pub fn field(&self) -> String {
        let key = self.key.iter().cloned().map(Step::Key);
        let mut field = String::new();
        for step in self.steps.iter().cloned().chain(key) {
            match step {
                Step::Index(index) => field += &format!("[{index}]"),
                Step::Key(key) if field.is_empty() => field = key,
                Step::Key(key) => field += &format!(".{key}"),
            }
        }
        field
    }

    pub(super) fn whole(message: String) -> Self {
        Self {
            steps: Vec::new(),
            message,
            key: None,
        }
    }

    pub(super) fn of(
        message: &MessageDescriptor,
        body: &Value,
        path: &serde_path_to_error::Path,
        error: &serde_json::Error,
    ) -> Self {
        use serde_path_to_error::Segment;
        const UNKNOWN_FIELD: &str = "unrecognized field name '";
        let steps = path.iter().filter_map(|segment| match segment {
            Segment::Seq { index } => Some(Step::Index(*index)),
            Segment::Map { key } => Some(Step::Key(key.clone())),
            Segment::Enum { .. } | Segment::Unknown => None,
        });
        let steps: Vec<Step> = steps.collect();
        let said = error.to_string();
        let unknown_field = said
            .strip_prefix(UNKNOWN_FIELD)
            .and_then(|rest| rest.strip_suffix('\''));
        Self {
            message: match unknown_field {
                Some(field) => unknown(message, body, &steps, field),
                None => without_values(&said),
            },
            key: unknown_field.map(Into::into),
            steps,
        }
    }
}

/// `unknown field (did you mean "connect_timeout"?)`.
fn unknown(message: &MessageDescriptor, body: &Value, steps: &[Step], field: &str) -> String {
    const LIKE: f64 = 0.8;
    let Some(message) = message_at(message, body, steps) else {
        return "unknown field".into();
    };
    let closest = message.fields().map(|known| {
        let likeness = strsim::jaro_winkler(field, known.name());
        let in_camel_case = strsim::jaro_winkler(field, known.json_name());
        (likeness.max(in_camel_case), known.name().to_string())
    });
    match closest.max_by(|left, right| left.0.total_cmp(&right.0)) {
        Some((likeness, known)) if likeness > LIKE => {
            format!("unknown field (did you mean {known:?}?)")
        }
        _ => "unknown field".into(),
    }
}

/// What an object of the body is a message of.
fn message_at(
    message: &MessageDescriptor,
    body: &Value,
    steps: &[Step],
) -> Option<MessageDescriptor> {
    let mut message = message.clone();
    let mut here = body;
    let mut map_entry = None;
    for step in steps {
        here = match step {
            Step::Index(index) => here.get(index)?,
            Step::Key(key) => {
                let field = match map_entry.take() {
                    Some(entry) => MessageDescriptor::map_entry_value_field(&entry),
                    None => message
                        .get_field_by_json_name(key)
                        .or_else(|| message.get_field_by_name(key))?,
                };
                let Kind::Message(next) = field.kind() else {
                    return None;
                };
                map_entry = field.is_map().then(|| next.clone());
                message = next;
                here.get(key)?
            }
        };
        if let Some(Value::String(url)) = here.get("@type") {
            let name = url.rsplit('/').next().unwrap_or_default();
            message = message.parent_pool().get_message_by_name(name)?;
        }
    }
    Some(message)
}

impl fmt::Display for Misfit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = self.field();
        if !field.is_empty() {
            write!(formatter, "{field}: ")?;
        }
        formatter.write_str(&self.message)
    }
}

/// serde repeats a text that has the wrong type, and it may be a key: ``string "-----BEGIN…"``.
fn without_values(said: &str) -> String {
    const EXPECTED: &str = ", expected ";
    for (begin, plain) in [
        ("invalid type: string ", "a text"),
        ("invalid value: string ", "this text"),
    ] {
        if let Some(rest) = said.strip_prefix(begin) {
            let expected = rest.rfind(EXPECTED).map_or("", |at| &rest[at..]);
            return format!("{plain} does not belong here{expected}");
        }
    }
    said.to_string()
}
