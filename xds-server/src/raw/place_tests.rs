//! Every problem is told at its field, its line and its column: of calls, and of files in JSON and YAML.

use super::{
    Mode, Refusal,
    files::Look,
    tests::{about, open, open_with, state},
};

/// `line:column field: message` of each problem of a call.
fn told(call: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let resources = open(folder.path());
    let refused = resources.apply(call.as_bytes(), Mode::Apply, &about());
    let problems = match refused {
        Err(Refusal::Invalid(problems)) => problems,
        other => panic!("not refused as invalid: {other:?}"),
    };
    assert_eq!(state(&resources).revision(), 0);
    let place = |place: Option<usize>| place.map_or("-".into(), |place| place.to_string());
    let line = |problem: &super::Problem| {
        let (line, column) = (place(problem.line), place(problem.column));
        let field = problem.field.as_deref().unwrap_or_default();
        format!("{line}:{column} {field}: {}", problem.message)
    };
    problems.iter().map(line).collect()
}

const CLUSTER: &str = "\"@type\": \"type.googleapis.com/envoy.config.cluster.v3.Cluster\"";

/// What is told of one resource, written over several lines behind its type.
fn told_of(resource: &str) -> String {
    let call = format!("{{\"set\": [{{{CLUSTER},\n{resource}}}]}}");
    let mut told = told(&call);
    assert_eq!(told.len(), 1, "{told:?}");
    told.remove(0)
}

fn begins(told: &str, expected: &str) {
    assert!(told.starts_with(expected), "{told:?}, not {expected:?}");
}

#[test]
fn a_call_is_an_object_and_so_are_its_parts() {
    for call in ["[]", " [[], []]", "7", "\"x\"", "null"] {
        let told = told(call);
        let at = if call.starts_with(' ') { 2 } else { 1 };
        begins(
            &told[0],
            &format!("1:{at} : must be an object such as {{\"set\": […]}}"),
        );
    }
    let all = told(
        "{\"nodes\": [\"edge\", \"edge-1\"],\n \"remove\": [[\"Cluster\", \"a\"]],\n \"remove_all\": \"yes\",\n \
         \"override\": null, \"set\": {},\n \"set\": [], \"नाम\": 1}",
    );
    let expected = [
        "5:2 set: is given twice",
        "5:13 नाम: unknown field; known: \"set\", \"remove\", \"remove_all\", \"nodes\", \"override\"",
        "4:27 set: must be an array",
        "2:13 remove[0]: must be an object: {\"type\": …, \"name\": …}",
        "4:14 override: must be true or false",
        "3:16 remove_all: must be true or false",
        "1:11 nodes: must be an object: {\"cluster\": …, \"id\": …}",
    ];
    assert_eq!(all.len(), expected.len(), "{all:#?}");
    for (told, expected) in all.iter().zip(expected) {
        begins(told, expected);
    }
}

#[test]
fn what_is_wrong_with_removals_and_nodes_is_told_all_at_once_at_its_place() {
    let all = told(
        "{\"remove\": [\n  {\"type\": \"Cluster\", \"name\": \"a\"},\n  {\"name\": \"\"},\n  \
         {\"type\": 7, \"nam\": \"a\", \"name\": \"a\"}],\n \"nodes\": {\"cluster\": \"edge\",\n   \"idd\": \"x\"},\n \
         \"set\": [8]}",
    );
    let expected = [
        "2:12 remove[0].type: \"Cluster\" is not served; must be one of",
        "3:12 remove[1].name: must not be empty",
        "4:15 remove[2].nam: unknown field; known: \"type\", \"name\"",
        "4:12 remove[2].type: must be a text",
        "6:4 nodes.idd: unknown field; known: \"cluster\", \"id\"",
        "7:10 : must be an object with \"@type\"",
    ];
    assert_eq!(all.len(), expected.len(), "{all:#?}");
    for (told, expected) in all.iter().zip(expected) {
        begins(told, expected);
    }
    let both = told("{\"nodes\": {\"id\": \"a\", \"cluster\": \"b\"}}");
    begins(
        &both[0],
        "1:11 nodes: names both a cluster and an id: keep one",
    );
}

#[test]
fn a_field_given_by_both_spellings_is_given_twice_wherever_it_stands() {
    let spelled = "\"name\": \"a\", \"connectTimeout\": \"1s\",\n \"connect_timeout\": \"2s\"";
    assert_eq!(
        told_of(spelled),
        "3:2 connect_timeout: is given twice: as \"connectTimeout\" too; keep one of them"
    );
    let names =
        "\"name\": \"a\", \"loadAssignment\": {\"clusterName\": \"a\",\n  \"cluster_name\": \"a\"}";
    begins(
        &told_of(names),
        "3:3 loadAssignment.cluster_name: is given twice",
    );
    let within_any = "\"name\": \"a\", \"transport_socket\": {\"name\": \"tls\", \"typed_config\": {\n \
        \"@type\": \"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext\",\n \
        \"allowRenegotiation\": true,\n \"allow_renegotiation\": true}}";
    begins(
        &told_of(within_any),
        "5:2 transport_socket.typed_config.allow_renegotiation: is given twice",
    );
    let within_map = "\"name\": \"a\", \"typed_extension_protocol_options\": {\"x\": {\"@type\": \n \
        \"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\",\n \
        \"commonHttpProtocolOptions\": {},\n\"common_http_protocol_options\": {}}}";
    begins(
        &told_of(within_map),
        "5:1 typed_extension_protocol_options.x.common_http_protocol_options: is given twice",
    );
}

#[test]
fn two_of_a_oneof_are_told_at_the_second_and_what_is_null_is_none() {
    let both = "\"name\": \"a\", \"clusterType\": {\"name\": \"x\"},\n \"type\": \"EDS\"";
    assert_eq!(
        told_of(both),
        "3:2 type: only one of \"cluster_discovery_type\" may be given, and \"clusterType\" is; keep one of them"
    );
    let null = format!(
        "{{\"set\": [{{{CLUSTER}, \"name\": \"a\", \"cluster_type\": null, \"type\": \"EDS\"}}]}}"
    );
    let folder = tempfile::tempdir().unwrap();
    assert!(
        open(folder.path())
            .apply(null.as_bytes(), Mode::Apply, &about())
            .is_ok()
    );
}

#[test]
fn a_name_that_is_no_name_is_told_at_itself_and_one_that_is_misspelled_by_its_spelling() {
    begins(&told_of("\"name\":\n  7"), "3:3 name: must be a text");
    begins(&told_of("\"name\": \"*\""), "2:9 name: \"*\" means every");
    begins(&told_of("\"name\": \"\""), "2:9 name: must be given");
    begins(&told_of("\"type\": \"EDS\""), "1:10 name: must be given");
    begins(
        &told_of("\"type\": \"EDS\",\n\"nmae\": \"a\""),
        "3:1 nmae: unknown field (did you mean \"name\"?)",
    );
    let endpoints = "{\"set\": [{\"@type\": \n\"type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment\",\n \
        \"clusterName\": 1}]}";
    begins(&told(endpoints)[0], "3:17 clusterName: must be a text");
    let kind = "{\"set\": [{\"name\": \"a\",\n \"@type\": 1}]}";
    begins(&told(kind)[0], "2:11 @type: must be a text");
}

/// What is told of a file of `--resources`.
fn told_of_file(name: &str, text: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let look: Look = [(name.into(), Ok(text.into()))].into();
    let resources = open_with(folder.path(), Some(look)).unwrap();
    let problems = std::sync::Arc::clone(&resources.problems().borrow());
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn problems_of_yaml_files_have_the_files_own_places() {
    let kind = "\"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster";
    let call = format!(
        "# clusters\nset:\n- {kind}\n  name: good\n- {kind}\n  name: typo\n  connect_timeot: 1s\n- {kind}\n  \
         name: enum\n  load_assignment:\n    endpoints:\n    - priority: high\n- {kind}\nnodes: {{clster: edge}}\n"
    );
    let expected = [
        "all.yaml: nodes.clster: unknown field; known: \"cluster\", \"id\" (line 14, column 9)",
        "all.yaml: set[1] Cluster \"typo\" connect_timeot: unknown field (did you mean \"connect_timeout\"?) \
         (line 7, column 3)",
        "all.yaml: set[2] Cluster \"enum\" load_assignment.endpoints[0].priority:",
        "all.yaml: set[3] Cluster name: must be given: it is the resource's name (line 13, column 3)",
    ];
    let told = told_of_file("all.yaml", &call);
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, expected) in told.iter().zip(expected) {
        begins(told, expected);
    }
    assert!(told[2].ends_with("(line 12, column 7)"), "{}", told[2]);

    let alone = format!("{kind}\nname: a\nconnect_timeot: 1s\n");
    let told = told_of_file("alone.yml", &alone);
    assert!(told[0].ends_with("(line 3, column 1)"), "{told:?}");

    for (text, expected) in [
        ("set: [1\nb: {", "not readable as YAML: "),
        ("set: []\nset: []", "not readable as YAML: "),
        ("- set", "must be an object such as"),
        (
            "name: a\nconnect_timeout: 1s",
            "must be a resource with \"@type\"",
        ),
        ("remove_all: true", "remove_all: a file removes nothing"),
    ] {
        let told = told_of_file("x.yaml", text);
        begins(&told[0], &format!("x.yaml: {expected}"));
        assert!(
            told[0].ends_with(')') && told[0].contains("(line "),
            "{told:?}"
        );
    }
}

#[test]
fn problems_of_json_files_have_their_places_too() {
    let told = told_of_file("x.json", "{\"set\": [],\n \"remove\": [{}]}");
    assert!(told[0].ends_with("(line 2, column 13)"), "{told:?}");
    let told = told_of_file("x.json", "\n[]");
    begins(&told[0], "x.json: must be an object");
    assert!(told[0].ends_with("(line 2, column 1)"), "{told:?}");
}
