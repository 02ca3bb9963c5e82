use std::collections::{BTreeMap, BTreeSet};

use policy::{
    reader::{Problem, Problems, Reader},
    time::{format_duration, parse_duration},
};
use serde_json::{Value, json};

use super::{schema::default_value, *};
use crate::mesh::{Defaults, Document, Mesh, MeshFile, read_mesh};

const FULL: &str = include_str!("full.yaml");
/// Close to no field's name, so that the reader lists them all.
const UNKNOWN: &str = "zzzzzz";
/// Fields that a reader knows only in order to refuse them, by object.
const REFUSED: [(&str, &str); 1] = [("Retries of a route", "budget_percent")];
/// Followed before the tree of all files is made, which never holds it.
const READ_ELSEWHERE: [(&str, &str); 1] = [("The file", "include")];

fn tree(text: &str) -> Value {
    let file = MeshFile {
        name: "mesh.yaml".into(),
        text: text.into(),
    };
    Document::new(&[file], &[]).tree().clone()
}

fn read_tree(tree: &Value) -> Result<Mesh, Vec<Problem>> {
    let problems = Problems::new();
    let mesh = read_mesh(&Reader::root(tree, &problems), &Defaults::default());
    let problems = problems.into_vec();
    mesh.filter(|_| problems.is_empty()).ok_or(problems)
}

fn validator() -> jsonschema::Validator {
    let schema = json_schema();
    jsonschema::draft202012::meta::validate(&schema).unwrap();
    jsonschema::draft202012::new(&schema).unwrap()
}

/// Where something stands in a tree.
#[derive(Debug, Clone, Default)]
struct At {
    /// As JSON Pointer has it.
    pointer: String,
    /// As problems have it.
    path: String,
}

impl At {
    fn field(&self, name: &str) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        Self {
            pointer: format!("{}/{name}", self.pointer),
            path: format!("{}{dot}{name}", self.path),
        }
    }

    fn element(&self, index: usize) -> Self {
        Self {
            pointer: format!("{}/{index}", self.pointer),
            path: format!("{}[{index}]", self.path),
        }
    }
}

/// Everything in a tree that the table knows, from the root on.
#[derive(Default)]
struct Walk {
    objects: Vec<(At, &'static Object)>,
    fields: Vec<(At, &'static Object, &'static Field)>,
}

impl Walk {
    fn of(tree: &Value) -> Self {
        let mut walk = Self::default();
        walk.object(&At::default(), &MESH_FILE, tree);
        walk
    }

    fn object(&mut self, at: &At, object: &'static Object, value: &Value) {
        self.objects.push((at.clone(), object));
        for (name, value) in value.as_object().unwrap() {
            let field = object.fields.iter().find(|field| field.name == name);
            let field = field.unwrap_or_else(|| panic!("{}: {name} is not in the table", at.path));
            self.fields.push((at.clone(), object, field));
            self.value(&at.field(name), &field.kind, value);
        }
    }

    fn value(&mut self, at: &At, kind: &'static Kind, value: &Value) {
        match kind {
            Kind::Object(object) => self.object(at, object, value),
            Kind::List(kind) => {
                for (index, element) in value.as_array().unwrap().iter().enumerate() {
                    self.value(&at.element(index), kind, element);
                }
            }
            Kind::Map(_, kind) => {
                for (key, value) in value.as_object().unwrap() {
                    self.value(&at.field(key), kind, value);
                }
            }
            Kind::Either(kinds) => {
                let of_object = |kind: &&Kind| matches!(kind, Kind::Object(_));
                if value.is_object() {
                    self.value(at, kinds.iter().find(of_object).unwrap(), value);
                }
            }
            _ => {}
        }
    }
}

fn change(tree: &Value, at: &At, change: impl FnOnce(&mut Value)) -> Value {
    let mut tree = tree.clone();
    change(tree.pointer_mut(&at.pointer).unwrap());
    tree
}

#[test]
fn the_full_example_holds_every_field_of_the_table() {
    let walk = Walk::of(&tree(FULL));
    let met: BTreeSet<(&str, &str)> = walk
        .fields
        .iter()
        .map(|(_, object, field)| (object.name, field.name))
        .chain(READ_ELSEWHERE)
        .collect();
    for (object, _) in all_objects() {
        for field in object.fields {
            let name = (object.name, field.name);
            assert!(met.contains(&name), "full.yaml holds no {name:?}");
        }
    }
}

/// A field that a reader learns and the table does not would be unknown to editors and to the reference.
#[test]
fn each_reader_knows_the_fields_of_the_table_and_no_others() {
    let tree = tree(FULL);
    read_tree(&tree).unwrap_or_else(|problems| panic!("{problems:#?}"));
    for (at, object) in Walk::of(&tree).objects {
        let wrong = change(&tree, &at, |value| value[UNKNOWN] = json!(1));
        let problems = read_tree(&wrong).unwrap_err();
        let path = at.field(UNKNOWN).path;
        let problem = problems.iter().find(|problem| problem.path == path);
        let problem = problem.unwrap_or_else(|| panic!("{path}: {problems:#?}"));
        let hint = problem.hint.as_deref().unwrap();
        let known = hint.strip_prefix("known fields: ").unwrap();
        let known: BTreeSet<(&str, &str)> = known
            .split(", ")
            .map(|name| (object.name, name))
            .filter(|name| !REFUSED.contains(name))
            .collect();
        let table: BTreeSet<(&str, &str)> = object
            .fields
            .iter()
            .map(|field| (object.name, field.name))
            .collect();
        assert_eq!(
            table, known,
            "{path}: xds-server/src/reference/fields/ (left) and the reader (right) differ"
        );
    }
}

#[test]
fn the_schema_takes_all_meshes_of_ours_and_refuses_unknown_fields_everywhere() {
    let schema = validator();
    let full = tree(FULL);
    let golden = [
        include_str!("../../golden/health-and-place.yaml"),
        include_str!("../../golden/hosts-and-routes.yaml"),
        include_str!("../../golden/names-and-versions.yaml"),
        include_str!("../../golden/retries-and-limits.yaml"),
        include_str!("../../golden/sidecars.yaml"),
        include_str!("../../../envoy/examples/mesh.yaml"),
        // As the pattern file has it.
        "peak_hours: {morning: {start: 7, end: 11, zone: mumbai-west}}\nfestivals: [\"2024-08-19\"]",
        "include: [calendars/npci-peak.yaml]",
    ];
    for mesh in golden.map(tree).iter().chain([&full]) {
        let errors: Vec<String> = schema
            .iter_errors(mesh)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert_eq!(errors, [""; 0], "{mesh:#}");
    }
    for (at, _) in Walk::of(&full).objects {
        let wrong = change(&full, &at, |value| value[UNKNOWN] = json!(1));
        assert!(!schema.is_valid(&wrong), "{}", at.path);
    }
}

/// Values at the ends of the table's range, and just beyond.
fn edges(kind: &Kind) -> (Vec<Value>, Vec<Value>) {
    match kind {
        Kind::Whole(least, most) => (
            vec![json!(least), json!(most)],
            vec![json!(least - 1), json!(most + 1), json!("many")],
        ),
        Kind::Number(least, most) => (
            vec![json!(least), json!(most)],
            vec![json!(least - 0.01), json!(most + 0.01), json!("many")],
        ),
        Kind::OneOf(numbers) => (
            numbers.iter().map(|number| json!(number)).collect(),
            vec![json!(304)],
        ),
        Kind::Word(words) => (
            words.iter().map(|word| json!(word)).collect(),
            vec![json!("other"), json!(7)],
        ),
        Kind::Switch => (vec![json!(true)], vec![json!("yes"), json!(1)]),
        Kind::OnOff => (
            vec![json!("on"), json!("off"), json!(true), json!(false)],
            vec![json!("yes")],
        ),
        Kind::Text(_) => (Vec::new(), vec![json!(7), json!(["text"])]),
        Kind::Duration(..) => (
            Vec::new(),
            vec![
                json!("250"),
                json!(5),
                json!("1d"),
                json!("5s 1h"),
                json!(""),
            ],
        ),
        _ => (Vec::new(), Vec::new()),
    }
}

/// Durations beyond their range; a pattern cannot know.
fn too_long_or_short(kind: &Kind) -> (Vec<Value>, Vec<Value>) {
    let Kind::Duration(least, most) = kind else {
        return (Vec::new(), Vec::new());
    };
    let nano = std::time::Duration::from_nanos(1);
    let parsed = |text: &str| parse_duration(text).unwrap();
    let mut wrong = vec![json!(format_duration(parsed(least) - nano))];
    wrong.extend(most.map(|most| json!(format_duration(parsed(most) + nano))));
    let legal = [Some(*least), *most].into_iter().flatten();
    (legal.map(|text| json!(text)).collect(), wrong)
}

/// Of the problems of a value by itself; what it must be beside others is told in other words.
fn is_of_range(message: &str) -> bool {
    [
        "must be from",
        "must be a whole",
        "must be a number",
        "must be a text",
        "must be true",
        "must be on",
    ]
    .iter()
    .any(|start| message.starts_with(start))
        || message.contains("percent with at most")
        || message.contains("0.01 to 100 with at most")
        || message.contains("is not legal")
}

#[test]
fn schema_and_reader_have_the_tables_ranges() {
    let schema = validator();
    let tree = tree(FULL);
    for (at, object, field) in Walk::of(&tree).fields {
        let at = at.field(field.name);
        let name = format!("{}: {}", object.name, at.path);
        let with = |new: &Value| change(&tree, &at, |value| *value = new.clone());
        let told = |tree: &Value| -> Vec<String> {
            let problems = read_tree(tree).err().unwrap_or_default();
            let here = problems
                .into_iter()
                .filter(|problem| problem.path == at.path);
            here.map(|problem| problem.message).collect()
        };
        let (legal, wrong) = edges(&field.kind);
        for value in &wrong {
            assert!(
                !schema.is_valid(&with(value)),
                "the schema takes {name} = {value}"
            );
            assert!(
                !told(&with(value)).is_empty(),
                "the reader takes {name} = {value}"
            );
        }
        let (durations, wrong) = too_long_or_short(&field.kind);
        for value in &wrong {
            assert!(
                !told(&with(value)).is_empty(),
                "the reader takes {name} = {value}"
            );
        }
        for value in legal.iter().chain(&durations) {
            assert!(
                schema.is_valid(&with(value)),
                "the schema refuses {name} = {value}"
            );
            let told = told(&with(value));
            assert!(
                !told.iter().any(|message| is_of_range(message)),
                "{name} = {value}: {told:?}"
            );
        }
    }
}

#[test]
fn required_fields_are_missed_by_schema_and_reader() {
    let schema = validator();
    let tree = tree(FULL);
    for (at, object, field) in Walk::of(&tree).fields {
        let without = change(&tree, &at, |value| {
            value.as_object_mut().unwrap().shift_remove(field.name);
        });
        let path = at.field(field.name).path;
        let problems = read_tree(&without).err().unwrap_or_default();
        let missed = problems
            .iter()
            .any(|problem| problem.path == path && problem.message == "must be given");
        assert_eq!(schema.is_valid(&without), !field.required, "{path}");
        // Of two fields one must be given: the schema knows each by itself.
        let either = [("Canary", "weight"), ("Route", "service")];
        if !either.contains(&(object.name, field.name)) {
            assert_eq!(missed, field.required, "{path}");
        }
    }
}

/// Whoever writes a default down changes nothing.
#[test]
fn what_is_left_out_is_what_the_table_says() {
    let tree = tree(FULL);
    let mut compared = BTreeMap::new();
    for (at, object, field) in Walk::of(&tree).fields {
        let Some(default) = field.default else {
            continue;
        };
        let without = change(&tree, &at, |value| {
            value.as_object_mut().unwrap().shift_remove(field.name);
        });
        let with = change(&tree, &at, |value| {
            value[field.name] = default_value(default);
        });
        let compared = compared.entry((object.name, field.name)).or_insert(false);
        // Where other fields need this one, there is another place, or nothing to compare.
        if let Ok(without) = read_tree(&without) {
            let with = read_tree(&with).unwrap_or_else(|problems| panic!("{problems:#?}"));
            let path = at.field(field.name).path;
            let same = with == without || is_known_elsewhere(object, field);
            assert!(same, "{path}: left out is not {default}");
            *compared = true;
        }
    }
    let never: Vec<_> = compared
        .iter()
        .filter(|(_, compared)| !**compared)
        .map(|(name, _)| *name)
        .collect();
    // Without them names lead nowhere.
    let needed = [("The file", "festivals"), ("The file", "services")];
    assert_eq!(never, needed);
}

/// Left to Envoy, which has the same default, or to flags and the environment.
fn is_known_elsewhere(object: &Object, field: &Field) -> bool {
    let elsewhere = [
        ("Identity", "ca_cert_validity_days"),
        ("Identity", "service_cert_validity_days"),
        ("Service", "timeout"),
        ("Circuit breaker", "max_connections"),
        ("Circuit breaker", "max_pending_requests"),
        ("Circuit breaker", "max_requests"),
    ];
    elsewhere.contains(&(object.name, field.name))
}
