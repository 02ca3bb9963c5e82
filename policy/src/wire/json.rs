//! JSON in which no object names a field twice: of two peak hours with one name, neither is meant to be lost.

use std::{cell::RefCell, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

use crate::reader::{Problem, joined};

/// Reads one value.
///
/// # Errors
/// What is wrong, with line and column, and of a field that is given twice its path.
pub(super) fn read(bytes: &[u8]) -> Result<Value, Problem> {
    let twice = RefCell::default();
    let root = Unique {
        place: &Place::Root,
        twice: &twice,
    };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = root.deserialize(&mut deserializer);
    let value = value.and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| match twice.take() {
        Some(path) => Problem {
            path,
            message: error.to_string(),
            hint: Some("keep one of them; so neither is lost unseen".into()),
        },
        None => Problem {
            path: String::new(),
            message: format!("not readable as JSON: {error}"),
            hint: Some("an object with \"version\": 1 is expected".into()),
        },
    })
}

/// Where a value stands.
enum Place<'p> {
    Root,
    Field(&'p Place<'p>, &'p str),
    Element(&'p Place<'p>, usize),
}

impl Place<'_> {
    fn path(&self) -> String {
        match self {
            Self::Root => String::new(),
            Self::Field(of, name) => joined(&of.path(), name),
            Self::Element(of, index) => format!("{}[{index}]", of.path()),
        }
    }
}

#[derive(Clone, Copy)]
struct Unique<'p> {
    place: &'p Place<'p>,
    /// The path of the field that is given twice.
    twice: &'p RefCell<Option<String>>,
}

impl Unique<'_> {
    fn at<'q>(&'q self, place: &'q Place<'q>) -> Unique<'q> {
        Unique {
            place,
            twice: self.twice,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Unique<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        loop {
            let place = Place::Element(self.place, array.len());
            match elements.next_element_seed(self.at(&place))? {
                Some(element) => array.push(element),
                None => return Ok(array.into()),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let place = Place::Field(self.place, &name);
            if object.contains_key(&name) {
                self.twice.replace(Some(place.path()));
                return Err(A::Error::custom("is given twice"));
            }
            let value = fields.next_value_seed(self.at(&place))?;
            object.insert(name, value);
        }
        Ok(object.into())
    }
}
