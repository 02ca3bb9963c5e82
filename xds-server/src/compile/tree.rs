//! JSON trees, written as JSON.

/// As `serde_json::json!`, but what is put in is moved in. That one takes everything by serializing it: a tree
/// within a tree is copied once for each level above it.
macro_rules! tree {
    (@members $map:ident) => {};
    (@members $map:ident $name:tt: {$($inner:tt)*} $(, $($rest:tt)*)?) => {
        $map.insert(::std::string::String::from($name), tree!({$($inner)*}));
        $(tree!(@members $map $($rest)*);)?
    };
    (@members $map:ident $name:tt: [$($inner:tt)*] $(, $($rest:tt)*)?) => {
        $map.insert(::std::string::String::from($name), tree!([$($inner)*]));
        $(tree!(@members $map $($rest)*);)?
    };
    (@members $map:ident $name:tt: $value:expr $(, $($rest:tt)*)?) => {
        $map.insert(::std::string::String::from($name), ::serde_json::Value::from($value));
        $(tree!(@members $map $($rest)*);)?
    };
    (@elements $list:ident) => {};
    (@elements $list:ident {$($inner:tt)*} $(, $($rest:tt)*)?) => {
        $list.extend([tree!({$($inner)*})]);
        $(tree!(@elements $list $($rest)*);)?
    };
    (@elements $list:ident [$($inner:tt)*] $(, $($rest:tt)*)?) => {
        $list.extend([tree!([$($inner)*])]);
        $(tree!(@elements $list $($rest)*);)?
    };
    (@elements $list:ident $value:expr $(, $($rest:tt)*)?) => {
        $list.extend([::serde_json::Value::from($value)]);
        $(tree!(@elements $list $($rest)*);)?
    };
    ({}) => { ::serde_json::Value::Object(::serde_json::Map::new()) };
    ({$($members:tt)+}) => {{
        let mut map = ::serde_json::Map::new();
        tree!(@members map $($members)+);
        ::serde_json::Value::Object(map)
    }};
    ([]) => { ::serde_json::Value::Array(::std::vec::Vec::new()) };
    ([$($elements:tt)+]) => {{
        let mut list = ::std::vec::Vec::new();
        tree!(@elements list $($elements)+);
        ::serde_json::Value::Array(list)
    }};
    ($value:expr) => { ::serde_json::Value::from($value) };
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    #[test]
    fn a_tree_is_what_the_librarys_macro_makes() {
        const NAME: &str = "name";
        let inner = json!({"deep": [1, 2.5, null, true]});
        let list = vec![Value::from(1)];
        let number = Some(5_u32);
        let made = tree!({
            "empty": {}, "list": [], NAME: {"inner": inner.clone(), "text": format!("{}-{}", 1, 2)},
            "numbers": [1, {"two": 2}, [3], number], "moved": list.clone(),
            "negative": -1,
        });
        let theirs = json!({
            "empty": {}, "list": [], NAME: {"inner": inner, "text": "1-2"},
            "numbers": [1, {"two": 2}, [3], 5], "moved": list,
            "negative": -1,
        });
        assert_eq!(made.to_string(), theirs.to_string());
        assert_eq!(tree!("text"), json!("text"));
    }
}
