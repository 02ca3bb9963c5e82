use proptest::prelude::*;
use serde_json::json;

use super::*;

fn by_name(value: &Value) -> Option<String> {
    value["name"].as_str().map(str::to_string)
}

fn told(before: &Value, after: &Value) -> Vec<String> {
    let found = differences(before, after, Lists::ByElement(&by_name));
    let line = |one: Difference| format!("{}: {} {}", one.path, one.before, one.after);
    found.into_iter().map(line).collect()
}

#[test]
fn elements_with_names_are_compared_with_those_of_the_same_name() {
    let before =
        json!({"a": [{"name": "x", "n": 1}, {"name": "y", "n": 2}, {"name": "z", "n": 3}]});
    let after = json!({"a": [{"name": "w", "n": 0}, {"name": "y", "n": 2}, {"name": "x", "n": 4}]});
    assert_eq!(
        told(&before, &after),
        [
            "a[x].n: 1 4",
            r#"a[z]: {"name":"z","n":3} null"#,
            r#"a[w]: null {"name":"w","n":0}"#,
            r#"a (order): ["x","y"] ["y","x"]"#,
        ]
    );
}

#[test]
fn other_elements_are_compared_where_a_list_was_changed_and_not_behind_it() {
    let before = json!([{"p": "/a"}, {"p": "/b", "t": 1}, {"p": "/c"}]);
    assert_eq!(
        told(
            &before,
            &json!([{"p": "/new"}, {"p": "/a"}, {"t": 1, "p": "/b"}, {"p": "/c"}])
        ),
        [r#"[0]: null {"p":"/new"}"#]
    );
    assert_eq!(
        told(
            &before,
            &json!([{"p": "/a"}, {"p": "/b", "t": 2}, {"p": "/c"}])
        ),
        ["[1].t: 1 2"]
    );
    assert_eq!(
        told(&before, &json!([{"p": "/a"}, {"p": "/c"}])),
        [r#"[1]: {"p":"/b","t":1} null"#]
    );
}

#[test]
fn a_list_may_be_one_value() {
    let found = differences(&json!({"a": [1, 2]}), &json!({"a": [1]}), Lists::Whole);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].path.to_string(), "a");
}

/// Null stands for what is not there, so there is none.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        (0..3_u8).prop_map(Value::from),
        "[ab]".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec(
                (inner.clone(), "[ab]").prop_map(|(value, name)| json!({"name": name, "v": value})),
                0..3
            )
            .prop_map(Value::from),
            proptest::collection::hash_map("[abc]", inner, 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn there_is_a_difference_exactly_where_two_values_are_not_equal(before in value(), after in value()) {
        let lists = Lists::ByElement(&by_name);
        prop_assert_eq!(differences(&before, &after, lists).is_empty(), before == after);
        prop_assert_eq!(differences(&before, &after, Lists::Whole).is_empty(), before == after);
        prop_assert!(differences(&before, &before, lists).is_empty());
    }
}
