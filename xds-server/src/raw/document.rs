//! JSON as a person wrote it: read strictly, with the place of what is wrong. A tree without places is
//! enough as long as all is well; where something is not, the text is walked again to find it.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value, value::RawValue};

use crate::{
    compile::{Misfit, Step},
    mesh::Position,
};

/// A tree in which no object has a key twice.
#[derive(Debug)]
pub struct Strict(pub Value);

/// The tree of a part of a document, its keys sorted (so that `@type` comes first).
///
/// # Errors
/// What is wrong, and where in the document.
pub fn tree(document: &str, part: &str) -> Result<Value, (String, Position)> {
    match serde_json::from_str::<Strict>(part) {
        Ok(Strict(mut value)) => {
            value.sort_all_objects();
            Ok(value)
        }
        Err(error) => {
            let at = offset_in(document, part) + offset_of(part, &error);
            Err((message_of(&error), position(document, at)))
        }
    }
}

/// What serde_json says, without the place that it adds.
pub fn message_of(error: &serde_json::Error) -> String {
    let said = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    said.strip_suffix(&place).unwrap_or(&said).to_string()
}

/// Where serde_json stopped reading.
pub fn offset_of(text: &str, error: &serde_json::Error) -> usize {
    let before: usize = text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum();
    // Its column is the number of bytes read of the line; the last one is the culprit.
    (before + error.column().saturating_sub(1)).min(text.len())
}

/// Where a part that was borrowed from a document begins.
fn offset_in(document: &str, part: &str) -> usize {
    (part.as_ptr() as usize)
        .saturating_sub(document.as_ptr() as usize)
        .min(document.len())
}

/// Where a part that was borrowed from a document begins, for a person.
pub fn place_in(document: &str, part: &str) -> Position {
    position(document, offset_in(document, part))
}

/// The line and column of an offset.
pub fn position(document: &str, offset: usize) -> Position {
    let bytes = &document.as_bytes()[..offset.min(document.len())];
    let line_begin = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let is_first_of_character = |byte: &&u8| **byte & 0xC0 != 0x80;
    Position {
        line: bytes.iter().filter(|byte| **byte == b'\n').count() + 1,
        column: bytes[line_begin..]
            .iter()
            .filter(is_first_of_character)
            .count()
            + 1,
    }
}

/// Where in a part what does not fit stands: the value, or the key that is not known.
pub fn place_of(document: &str, part: &str, misfit: &Misfit) -> Position {
    let mut here = part;
    for step in &misfit.steps {
        match member(here, step) {
            Some((_, value)) => here = value,
            None => break,
        }
    }
    if let Some(key) = &misfit.key
        && let Some((key, _)) = member(here, &Step::Key(key.clone()))
    {
        here = key;
    }
    place_in(document, here)
}

/// One step down: the key as it is spelled (of an element: the element) and the value.
fn member<'t>(text: &'t str, step: &Step) -> Option<(&'t str, &'t str)> {
    match step {
        Step::Index(index) => {
            let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            let element = elements.get(*index)?.get();
            Some((element, element))
        }
        Step::Key(wanted) => {
            let Members(members) = serde_json::from_str(text).ok()?;
            let mut members = members.into_iter();
            members.find(|(key, _)| name_of(key).is_some_and(|key| key == *wanted))
        }
    }
}

/// What a key says.
pub fn name_of(key: &str) -> Option<Cow<'_, str>> {
    serde_json::from_str(key).ok()
}

/// An object's members as they are spelled: keys, quotes included, and values.
pub struct Members<'t>(pub Vec<(&'t str, &'t str)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                    members.push((key.get(), value.get()));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        // Infinite and "not a number" exist in YAML; protobuf JSON spells them as texts.
        Ok(serde_json::Number::from_f64(value).map_or_else(
            || Value::from(if value.is_nan() { "NaN" } else { sign(value) }),
            Value::Number,
        ))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Strict(element)) = elements.next_element()? {
            array.push(element);
        }
        Ok(array.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!("the key {key:?} is there twice")));
            }
            let Strict(value) = members.next_value()?;
            object.insert(key, value);
        }
        Ok(object.into())
    }
}

fn sign(value: f64) -> &'static str {
    if value > 0.0 { "Infinity" } else { "-Infinity" }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "{\"शहर\": \"मुंबई\",\n  \"a\\u0062\": [1, {\"x\": tru}]}";

    #[test]
    fn places_are_counted_in_characters_of_the_whole_document() {
        let part = &DOCUMENT[DOCUMENT.find("[1").unwrap()..DOCUMENT.len() - 1];
        let (message, at) = tree(DOCUMENT, part).unwrap_err();
        assert_eq!(message, "expected ident");
        assert_eq!((at.line, at.column), (2, 27));
        assert_eq!(position(DOCUMENT, DOCUMENT.find("\"मुं").unwrap()).column, 9);
    }

    #[test]
    fn a_misfit_is_found_by_its_steps_and_an_unknown_field_by_its_key() {
        let document = "[\n {\"a\\u0062\": [1,\n   {\"x\": true}]}]";
        let mut misfit = Misfit {
            steps: vec![Step::Index(0), Step::Key("ab".into()), Step::Index(1)],
            message: String::new(),
            key: None,
        };
        let place = place_of(document, document, &misfit);
        assert_eq!((place.line, place.column), (3, 4));
        misfit.key = Some("x".into());
        let place = place_of(document, document, &misfit);
        assert_eq!((place.line, place.column), (3, 5));
    }

    #[test]
    fn what_is_ambiguous_deep_or_huge_is_refused() {
        let refused = |text: &str| tree(text, text).unwrap_err().0;
        assert_eq!(
            refused("{\"a\": 1, \"a\": 1}"),
            "the key \"a\" is there twice"
        );
        assert_eq!(refused(&"[".repeat(100_000)), "recursion limit exceeded");
        assert_eq!(refused("1e999"), "number out of range");
        let long = "9".repeat(400);
        assert_eq!(refused(&long), "number out of range");
    }
}
