//! What is shown a page at a time: every list that may be long. Pure.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap as _};

/// Something of which there may be many.
pub trait Listed: Serialize + JsonSchema {
    /// What tells it from the others: the list is in the order of it.
    type Key: Serialize + JsonSchema;
    /// What they are called on a page.
    const NAME: &'static str;

    /// What to give as `after` for those that follow it.
    fn key(&self) -> Self::Key;
}

/// A query for a page.
pub trait Paged {
    /// How many it has, when nobody says.
    const LIMIT: usize = 1_000;
    /// The most that somebody may want.
    const LIMIT_MAX: usize = 10_000;

    /// How many somebody wants.
    fn limit(&self) -> Option<usize>;

    /// How many it has.
    fn size(&self) -> usize {
        self.limit().unwrap_or(Self::LIMIT)
    }

    /// How many it may have.
    ///
    /// # Errors
    /// What is no such number.
    fn check(&self) -> Result<(), String> {
        match self.limit() {
            Some(limit) if !(1..=Self::LIMIT_MAX).contains(&limit) => Err(format!(
                "limit: {limit} is not from 1 to {}; use after for more",
                Self::LIMIT_MAX
            )),
            _ => Ok(()),
        }
    }
}

/// Of a list of which nothing else is chosen.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct After {
    /// Those after this one: the `next` of an earlier page.
    after: Option<String>,
    /// At most so many.
    limit: Option<usize>,
}

impl Paged for After {
    fn limit(&self) -> Option<usize> {
        self.limit
    }
}

impl After {
    /// That page of all, which come in their order.
    pub fn page<T: Listed<Key = String>>(&self, all: Vec<T>) -> Page<T> {
        let after = self.after.as_deref();
        let rest = all.into_iter();
        let rest = rest.filter(|one| after.is_none_or(|after| *one.key() > *after));
        Page::of(rest, self.size(), |one| one)
    }
}

/// Some of a list, in its order.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// Those shown.
    pub items: Vec<T>,
    /// How many come after them.
    pub left_off: usize,
}

impl<T> Page<T> {
    /// The first of these, as many as a page holds; `show` is asked about no others.
    pub fn of<S>(all: impl IntoIterator<Item = S>, size: usize, show: impl FnMut(S) -> T) -> Self {
        let mut all = all.into_iter();
        let items = all.by_ref().take(size).map(show).collect();
        Self {
            items,
            left_off: all.count(),
        }
    }
}

impl<T: Listed> Page<T> {
    /// What to give as `after` for the next page, where there is one.
    pub fn next(&self) -> Option<T::Key> {
        let last = self.items.last().filter(|_| self.left_off > 0);
        last.map(Listed::key)
    }
}

impl<T: Listed> Serialize for Page<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry(T::NAME, &self.items)?;
        map.serialize_entry("left_off", &self.left_off)?;
        map.serialize_entry("next", &self.next())?;
        map.end()
    }
}

impl<T: Listed> JsonSchema for Page<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}Page", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let items = generator.subschema_for::<T>();
        let next = generator.subschema_for::<Option<T::Key>>();
        let mut properties = serde_json::Map::new();
        properties.insert(
            T::NAME.into(),
            serde_json::json!({"type": "array", "items": items}),
        );
        let left_off = "How many come after these.";
        properties.insert(
            "left_off".into(),
            serde_json::json!({"type": "integer", "minimum": 0, "description": left_off}),
        );
        let told = "What to give as `after` for the next page; null when this is the last.";
        properties.insert(
            "next".into(),
            serde_json::json!({"allOf": [next], "description": told}),
        );
        json_schema!({
            "type": "object",
            "properties": properties,
            "required": [T::NAME, "left_off", "next"],
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Serialize, JsonSchema)]
    struct Number(u32);

    impl Listed for Number {
        type Key = u32;
        const NAME: &'static str = "numbers";

        fn key(&self) -> u32 {
            self.0
        }
    }

    #[test]
    fn pages_follow_each_other_and_leave_nobody_out() {
        let all = [1, 2, 3, 4, 5];
        let mut seen = Vec::new();
        let mut after = 0;
        loop {
            let rest = all.iter().filter(|number| **number > after);
            let page = Page::of(rest, 2, |number| Number(*number));
            assert_eq!(page.left_off, all.len() - seen.len() - page.items.len());
            seen.extend(page.items.iter().map(|one| one.0));
            match page.next() {
                Some(next) => after = next,
                None => break,
            }
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn the_last_page_says_so() {
        let page = Page::of([7], 1, Number);
        let shown = serde_json::to_value(&page).unwrap();
        assert_eq!(shown, json!({"numbers": [7], "left_off": 0, "next": null}));
        let empty = Page::of([], 1, Number);
        assert_eq!(serde_json::to_value(&empty).unwrap()["next"], json!(null));
    }
}
