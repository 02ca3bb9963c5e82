//! One tree laid over another: what both have belongs to the one below.

use serde_json::{Map, Value};

/// A path that both trees have something at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Both {
    pub(super) path: Vec<String>,
    /// The same, so nobody is contradicted.
    pub(super) same: bool,
}

/// Adds what `base` does not say; the paths at which it says something itself.
pub(super) fn lay_over(base: &mut Value, written: &Value) -> Vec<Both> {
    let mut both = Vec::new();
    lay(base, written, &mut Vec::new(), &mut both);
    both
}

fn lay(base: &mut Value, written: &Value, path: &mut Vec<String>, both: &mut Vec<Both>) {
    match (base, written) {
        (Value::Object(base), Value::Object(written)) if !is_one(path) => {
            for (name, value) in written {
                path.push(name.clone());
                match base.get_mut(name) {
                    Some(known) => lay(known, value, path, both),
                    None => _ = base.insert(name.clone(), value.clone()),
                }
                path.pop();
            }
        }
        (base, written) => both.push(Both {
            path: path.clone(),
            same: base == written,
        }),
    }
}

/// Whose fields belong together: half a canary of one and half of another is nobody's.
fn is_one(path: &[String]) -> bool {
    matches!(path, [services, _, canary] if services == "services" && canary == "canary")
}

/// Whether a tree says something at a path, or something else than an object on the way there: then nobody
/// can write below it.
pub(super) fn says(tree: &Value, path: &[&str]) -> bool {
    let mut at = tree;
    for name in path {
        let Value::Object(fields) = at else {
            return true;
        };
        match fields.get(*name) {
            Some(value) => at = value,
            None => return false,
        }
    }
    true
}

/// What stands at a path.
pub(super) fn at<'t>(tree: &'t Value, path: &[&str]) -> Option<&'t Value> {
    path.iter().try_fold(tree, |at, name| at.get(name))
}

/// Puts a value at a path, or takes what stands there away, with the objects that hold nothing else then.
pub(super) fn put(tree: &mut Value, path: &[&str], value: Option<Value>) {
    let Some((name, rest)) = path.split_first() else {
        *tree = value.unwrap_or_default();
        return;
    };
    if !tree.is_object() {
        if value.is_none() {
            return;
        }
        *tree = Value::Object(Map::new());
    }
    let Some(fields) = tree.as_object_mut() else {
        return;
    };
    match (value, rest.is_empty()) {
        (None, true) => _ = fields.shift_remove(*name),
        (None, false) => {
            let Some(below) = fields.get_mut(*name) else {
                return;
            };
            put(below, rest, None);
            if below.as_object().is_some_and(Map::is_empty) {
                fields.shift_remove(*name);
            }
        }
        (value, _) => put(fields.entry(*name).or_insert(Value::Null), rest, value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_both_have_belongs_to_the_one_below() {
        let canary = json!({"weight": 1});
        let mut base = json!({
            "services": {"a": {"port": 1, "uses": ["b"]}, "c": {"canary": canary}},
            "timezone": "UTC",
        });
        let written = json!({
            "services": {
                "a": {"port": 2, "uses": ["c"], "canary": canary},
                "b": {},
                "c": {"canary": {"resumed": 1}},
            },
            "timezone": "UTC",
        });
        let both = lay_over(&mut base, &written);
        assert_eq!(
            base,
            json!({
                "services": {
                    "a": {"port": 1, "uses": ["b"], "canary": canary},
                    "b": {},
                    "c": {"canary": canary},
                },
                "timezone": "UTC",
            })
        );
        let both: Vec<(String, bool)> = both
            .iter()
            .map(|both| (both.path.join("."), both.same))
            .collect();
        let expected = [
            ("services.a.port", false),
            ("services.a.uses", false),
            ("services.c.canary", false),
            ("timezone", true),
        ];
        assert_eq!(both, expected.map(|(path, same)| (path.to_string(), same)));
    }

    #[test]
    fn a_path_is_said_where_something_stands_or_stands_in_its_way() {
        let tree = json!({"a": {"b": 1, "c": {}}});
        for path in [&["a"][..], &["a", "b"], &["a", "b", "deeper"], &["a", "c"]] {
            assert!(says(&tree, path), "{path:?}");
        }
        for path in [&["x"][..], &["a", "x"], &["a", "c", "x"]] {
            assert!(!says(&tree, path), "{path:?}");
        }
    }

    #[test]
    fn what_is_taken_away_leaves_no_empty_objects() {
        let mut tree = Value::Null;
        put(&mut tree, &["a", "b"], Some(json!(1)));
        put(&mut tree, &["a", "c"], Some(json!(2)));
        assert_eq!(tree, json!({"a": {"b": 1, "c": 2}}));
        put(&mut tree, &["a", "b"], None);
        put(&mut tree, &["a", "nothing", "there"], None);
        assert_eq!(tree, json!({"a": {"c": 2}}));
        put(&mut tree, &["a", "c"], None);
        assert_eq!(tree, json!({}));
    }
}
