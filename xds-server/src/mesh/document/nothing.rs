//! Fields with nothing behind them. A file that breaks off after `services:` or after a gateway's `routes:` must
//! not empty them, so what is meant to be empty has to say so.

use policy::reader::{NO_VALUE, NO_VALUE_HINT, Problem, Problems, Reader, joined};
use serde_json::Value;

/// Every top-level field of the file, and what is written behind it where there is nothing to say.
const FIELDS: [(&str, Option<&str>); 12] = [
    ("mesh", Some("{}")),
    ("timezone", None),
    ("peak_hours", Some("{}")),
    ("festivals", Some("[]")),
    ("holidays", Some("[]")),
    ("freeze", None),
    ("traffic_classes", Some("{}")),
    ("services", Some("{}")),
    ("gateways", Some("{}")),
    ("access_log", None),
    ("tracing", None),
    ("max_connection_duration", None),
];

/// What is wrong with a top-level `field:` and no more; `None` where there is no such field anyway.
pub(super) fn problem(field: &str) -> Option<Problem> {
    let (_, empty) = FIELDS.iter().find(|(known, _)| *known == field)?;
    let hint = empty.map_or_else(
        || "give it a value, or take the line out".into(),
        |empty| format!("is the file cut off? If it is meant to be empty, write {field}: {empty}"),
    );
    Some(Problem {
        path: field.into(),
        message: NO_VALUE.into(),
        hint: Some(hint),
    })
}

/// What else in the files has no value, however deep: fields, and elements of lists.
pub(super) fn problems(tree: &Value) -> Vec<Problem> {
    let problems = Problems::new();
    tell(tree, "", &Reader::root(tree, &problems));
    problems.into_vec()
}

/// Asked before paths are made: almost no file needs any.
fn holds_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(elements) => elements.iter().any(holds_null),
        Value::Object(fields) => fields.values().any(holds_null),
        _ => false,
    }
}

fn tell(value: &Value, path: &str, root: &Reader<'_>) {
    if !holds_null(value) {
        return;
    }
    match value {
        Value::Null => root.problem_at(path, NO_VALUE, Some(NO_VALUE_HINT.into())),
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                tell(element, &format!("{path}[{index}]"), root);
            }
        }
        Value::Object(fields) => {
            for (key, field) in fields {
                tell(field, &joined(path, key), root);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_the_file_is_known() {
        let fields = crate::reference::MESH_FILE.fields.iter();
        let names = fields.map(|field| field.name);
        // The list of includes is read apart, and refuses null by itself.
        let names: Vec<&str> = names
            .filter(|name| *name != super::super::INCLUDE)
            .collect();
        assert_eq!(FIELDS.map(|(name, _)| name).to_vec(), names);
    }
}
