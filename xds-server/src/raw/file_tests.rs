//! The files of `--resources`: what they hold, and whose a resource is.

use serde_json::json;

use super::{
    files::Look,
    tests::{apply, cluster, conflicts, done, open, open_with, state, told},
};
use crate::resource::ResourceType;

fn look(files: &[(&str, &str)]) -> Look {
    let file = |(name, text): &(&str, &str)| ((*name).into(), Ok((*text).into()));
    files.iter().map(file).collect()
}

#[test]
fn a_file_holds_what_it_says_and_a_bad_one_what_it_said() {
    let folder = tempfile::tempdir().unwrap();
    let one = cluster("one", "1s").to_string();
    let two = format!(
        "nodes: {{cluster: edge}}\nset:\n- \"@type\": {}\n  name: two\n  connect_timeout: 1s\n",
        ResourceType::Cluster.url()
    );
    let resources = open_with(
        folder.path(),
        Some(look(&[("1.json", &one), ("2.yaml", &two)])),
    )
    .unwrap();
    let held = [
        "one of every node by 1.json",
        "two of node.cluster \"edge\" by 2.yaml",
    ];
    let before = state(&resources);
    assert_eq!(
        (before.revision(), told(&before)),
        (1, held.map(Into::into).to_vec())
    );

    // One change and one mistake in one look.
    let (three, bad) = (
        cluster("three", "1s").to_string(),
        two.replace("connect_timeout", "timeout"),
    );
    resources.take_files(Ok(&look(&[("1.json", &three), ("2.yaml", &bad)])));
    let held = [
        "three of every node by 1.json",
        "two of node.cluster \"edge\" by 2.yaml",
    ];
    assert_eq!(
        (state(&resources).revision(), told(&state(&resources))),
        (2, held.map(Into::into).to_vec())
    );
    let problems = resources.problems();
    let problem = problems.borrow()[0].to_string();
    assert!(
        problem.starts_with("2.yaml: set[0] Cluster \"two\" timeout: unknown field"),
        "{problem}"
    );

    // The folder is not there for a moment: nothing goes.
    resources.take_files(Err("no such folder".into()));
    assert_eq!(told(&state(&resources)), held);
    assert_eq!(problems.borrow().len(), 2);

    // A restart while the file is still bad.
    drop(resources);
    let resources = open_with(
        folder.path(),
        Some(look(&[("1.json", &three), ("2.yaml", &bad)])),
    )
    .unwrap();
    assert_eq!(
        (state(&resources).revision(), told(&state(&resources))),
        (2, held.map(Into::into).to_vec())
    );
    assert_eq!(resources.problems().borrow().len(), 1);

    resources.take_files(Ok(&look(&[("1.json", "\n")])));
    assert_eq!(told(&state(&resources)), ["three of every node by 1.json"]);
    resources.take_files(Ok(&Look::new()));
    assert!(told(&state(&resources)).is_empty());
    assert!(resources.problems().borrow().is_empty());
}

#[test]
fn the_api_and_files_keep_out_of_each_others_resources() {
    let folder = tempfile::tempdir().unwrap();
    let held = cluster("held", "1s").to_string();
    let resources = open_with(folder.path(), Some(look(&[("held.json", &held)]))).unwrap();
    let remove = json!({"remove": [{"type": ResourceType::Cluster.url(), "name": "held"}]});
    for call in [json!({"set": [cluster("held", "2s")]}), remove] {
        let conflicts = conflicts(apply(&resources, &call));
        assert!(conflicts[0].contains("held.json"), "{conflicts:?}");
    }
    done(&resources, &json!({"remove_all": true}));
    assert_eq!(
        told(&state(&resources)),
        ["held of every node by held.json"]
    );

    // A file that comes later does not take what the API holds, nor what another file holds.
    done(&resources, &json!({"set": [cluster("mine", "1s")]}));
    let mine = json!({"set": [cluster("mine", "5s"), cluster("held", "5s")]}).to_string();
    resources.take_files(Ok(&look(&[("held.json", &held), ("later.json", &mine)])));
    let both = [
        "held of every node by held.json",
        "mine of every node by api",
    ];
    assert_eq!(told(&state(&resources)), both);
    let problems: Vec<String> = resources
        .problems()
        .borrow()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(
        problems[0].contains("held.json holds it") && problems[1].contains("the API holds it"),
        "{problems:?}"
    );

    // Who lets go, lets the other in.
    done(&resources, &json!({"remove_all": true}));
    resources.take_files(Ok(&look(&[("later.json", &mine)])));
    let later = [
        "held of every node by later.json",
        "mine of every node by later.json",
    ];
    assert_eq!(told(&state(&resources)), later);
    assert!(resources.problems().borrow().is_empty());
}

#[test]
fn a_file_that_would_remove_or_is_half_written_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let resources = open(folder.path());
    done(&resources, &json!({"set": [cluster("a", "1s")]}));
    resources.take_files(Ok(&look(&[("all.json", "{\"remove_all\": true}")])));
    assert_eq!(told(&state(&resources)), ["a of every node by api"]);
    let problem = resources.problems().borrow()[0].to_string();
    assert!(problem.contains("a file removes nothing"), "{problem}");
    let half = r#"{"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster""#;
    resources.take_files(Ok(&look(&[("half.json", half)])));
    let problem = resources.problems().borrow()[0].to_string();
    assert!(
        problem.starts_with("half.json: EOF while parsing an object"),
        "{problem}"
    );
}
