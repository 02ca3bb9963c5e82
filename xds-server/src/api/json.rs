//! Bodies of JSON, read alike wherever they are taken: what says a field twice is refused, as it is in the mesh file,
//! since nobody knows which of the two was meant.

use std::{collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, MapAccess, SeqAccess, Visitor},
};

/// Reads a body.
///
/// # Errors
/// What is no JSON, says a field twice, or has another form, with its line and column.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> serde_json::Result<T> {
    let Once = serde_json::from_slice(body)?;
    serde_json::from_slice(body)
}

/// Any value each of whose objects has a field once.
struct Once;

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Look)
    }
}

struct Look;

impl<'de> Visitor<'de> for Look {
    type Value = Once;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Once, A::Error> {
        let mut known = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if let Some(twice) = known.replace(name) {
                return Err(A::Error::custom(format_args!("duplicate field `{twice}`")));
            }
            let Once = map.next_value()?;
        }
        Ok(Once)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Once, A::Error> {
        while let Some(Once) = list.next_element()? {}
        Ok(Once)
    }

    fn visit_unit<E>(self) -> Result<Once, E> {
        Ok(Once)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Once, E> {
        Ok(Once)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Once, E> {
        Ok(Once)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Once, E> {
        Ok(Once)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Once, E> {
        Ok(Once)
    }

    fn visit_str<E>(self, _: &str) -> Result<Once, E> {
        Ok(Once)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_field_that_is_said_twice_is_refused_wherever_it_stands() {
        for twice in [
            r#"{"port": 80, "port": 81}"#,
            r#"{"results": [{"status": 200, "status": 500}]}"#,
            r#"{"headers": {"a": "1", "\u0061": "2"}}"#,
        ] {
            let refused = read::<Value>(twice.as_bytes()).unwrap_err().to_string();
            assert!(
                refused.starts_with("duplicate field `") && refused.contains("line 1 column"),
                "{refused}"
            );
        }
        let good = r#" {"a": {"a": [1, -1, 1.5, null, true, "a", {}]}, "b": {"a": 1}} "#;
        let expected = json!({"a": {"a": [1, -1, 1.5, null, true, "a", {}]}, "b": {"a": 1}});
        assert_eq!(read::<Value>(good.as_bytes()).unwrap(), expected);
        for bad in ["", "{", "{} {}", "{\"a\":}", &"[".repeat(1_000)] {
            assert!(read::<Value>(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
