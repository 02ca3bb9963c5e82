//! What an object gives twice: a field by both of its spellings, or two members of one oneof. Of the first
//! protobuf's readers take the last without a word; of the second they do not say where it is.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::Value;

use super::{Misfit, Step};

/// The first such member of a body, its own members before those within them.
pub(super) fn find(message: &MessageDescriptor, body: &Value) -> Option<Misfit> {
    let mut steps = Vec::new();
    let (key, message) = look(message, body, &mut steps)?;
    Some(Misfit {
        steps,
        message,
        key: Some(key),
    })
}

/// The key at fault and what is wrong with it; `steps` then lead to its object.
fn look(
    message: &MessageDescriptor,
    body: &Value,
    steps: &mut Vec<Step>,
) -> Option<(String, String)> {
    let members = body.as_object()?;
    let message = &plain(message, body)?;
    let mut seen: Vec<(&str, &Value, FieldDescriptor)> = Vec::new();
    for (key, value) in members {
        let field = message.get_field_by_json_name(key);
        let Some(field) = field.or_else(|| message.get_field_by_name(key)) else {
            continue;
        };
        if let Some((other, ..)) = seen.iter().find(|(.., other)| *other == field) {
            let said = format!("is given twice: as {other:?} too; keep one of them");
            return Some((key.clone(), said));
        }
        // What is null is not set.
        if let Some(oneof) = field.containing_oneof().filter(|_| !value.is_null())
            && let Some((other, ..)) = seen.iter().find(|(_, value, known)| {
                known.containing_oneof().as_ref() == Some(&oneof) && !value.is_null()
            })
        {
            let name = oneof.name();
            let said =
                format!("only one of {name:?} may be given, and {other:?} is; keep one of them");
            return Some((key.clone(), said));
        }
        seen.push((key, value, field));
    }
    for (key, value, field) in seen {
        steps.push(Step::Key(key.into()));
        let found = within(&field, value, steps);
        if found.is_some() {
            return found;
        }
        steps.pop();
    }
    None
}

/// The same for a field's value, or its values.
fn within(
    field: &FieldDescriptor,
    value: &Value,
    steps: &mut Vec<Step>,
) -> Option<(String, String)> {
    let Kind::Message(message) = field.kind() else {
        return None;
    };
    let mut each = |step: Step, message: &MessageDescriptor, value: &Value| {
        steps.push(step);
        let found = look(message, value, steps);
        if found.is_none() {
            steps.pop();
        }
        found
    };
    if field.is_map() {
        let Kind::Message(message) = message.map_entry_value_field().kind() else {
            return None;
        };
        let mut members = value.as_object()?.iter();
        return members.find_map(|(key, value)| each(Step::Key(key.clone()), &message, value));
    }
    if field.is_list() {
        let mut elements = value.as_array()?.iter().enumerate();
        return elements.find_map(|(index, value)| each(Step::Index(index), &message, value));
    }
    look(&message, value, steps)
}

/// What an object is a message of, if its members are that message's fields.
fn plain(message: &MessageDescriptor, body: &Value) -> Option<MessageDescriptor> {
    let mut message = message.clone();
    if message.full_name() == "google.protobuf.Any" {
        let name = body.get("@type")?.as_str()?.rsplit('/').next()?;
        message = message.parent_pool().get_message_by_name(name)?;
    }
    // Durations, structs and the like have a JSON of their own.
    (!message.full_name().starts_with("google.protobuf.")).then_some(message)
}
