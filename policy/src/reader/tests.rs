//! Problems are told all at once, each with its path.

use serde_json::json;

use super::*;

fn problems_of(value: &Value, read: impl FnOnce(Reader<'_>)) -> Vec<String> {
    let problems = Problems::new();
    read(Reader::root(value, &problems));
    problems
        .into_vec()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn all_problems_are_told_with_their_paths() {
    let value = json!({"canary": {"wieght": 5, "list": ["a", 1], "mode": "observe"}, "port": 0});
    let found = problems_of(&value, |root| {
        let mut object = root.object().unwrap();
        assert_eq!(object.required("port").unwrap().integer(1..=65535), None);
        let mut canary = object.required("canary").unwrap().object().unwrap();
        assert!(canary.required("weight").is_none());
        for element in canary.optional("list").unwrap().array() {
            let _ = element.string();
        }
        canary.not_supported(&["mode", "ramp"]);
        canary.finish();
        object.finish();
    });
    assert_eq!(
        found,
        [
            "port: must be a whole number from 1 to 65535, not 0",
            "canary.weight: must be given",
            "canary.list[1]: must be a text, not the number 1 (put it in quotes: without them YAML takes it for a number)",
            "canary.mode: not supported yet (leave it out)",
            "canary.wieght: unknown field \"wieght\" (did you mean \"weight\"?)",
        ]
    );
}

#[test]
fn doubles_with_whole_values_are_whole_numbers_and_null_is_absent() {
    let value = json!({"a": 5.0, "b": null, "c": 5.5, "d": 1e300});
    let found = problems_of(&value, |root| {
        let mut object = root.object().unwrap();
        assert_eq!(object.required("a").unwrap().integer(0..=10), Some(5));
        assert!(object.optional("b").is_none());
        assert_eq!(object.required("c").unwrap().integer(0..=10), None);
        assert_eq!(object.required("d").unwrap().integer(0..=10), None);
        object.finish();
    });
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn a_wrong_type_says_what_was_expected_and_what_was_found() {
    let found = problems_of(&json!([1]), |root| {
        assert!(root.object().is_none());
        assert!(root.entries().is_empty());
    });
    assert_eq!(
        found,
        [
            "must be an object, not a list",
            "must be a map of names, not a list"
        ]
    );
}

#[test]
fn what_must_be_there_and_is_null_has_no_value() {
    let value = json!({"a": null, "list": [null], "map": {"x": null}});
    let found = problems_of(&value, |root| {
        let mut object = root.object().unwrap();
        assert!(object.required("a").is_none());
        assert!(object.required("b").is_none());
        for element in object.optional("list").unwrap().array() {
            assert!(element.integer(0..=1).is_none());
        }
        for (_, entry) in object.optional("map").unwrap().entries() {
            assert!(entry.object().is_none());
        }
        object.finish();
    });
    assert_eq!(
        found,
        [
            "a: has no value (it must be given: write its value)".to_string(),
            "b: must be given".to_string(),
            format!("list[0]: has no value ({NO_VALUE_HINT})"),
            format!("map.x: has no value ({NO_VALUE_HINT})"),
        ]
    );
}

#[test]
fn a_hundred_problems_are_enough() {
    let value = json!(vec![0; 500]);
    let found = problems_of(&value, |root| {
        for element in root.array() {
            let _ = element.string();
        }
    });
    assert_eq!(found.len(), 101);
    assert_eq!(found.last().unwrap(), "… and more");
}
