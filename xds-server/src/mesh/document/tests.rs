//! Several files are one mesh, and every problem has its place.

use super::*;

fn files(texts: &[(&str, &str)]) -> Vec<MeshFile> {
    let file = |(name, text): &(&str, &str)| MeshFile {
        name: (*name).into(),
        text: (*text).into(),
    };
    texts.iter().map(file).collect()
}

fn read(texts: &[(&str, &str)]) -> Result<Mesh, Vec<String>> {
    let files = files(texts);
    let mesh = Document::new(&files, &[]).mesh(&Defaults::default());
    mesh.map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn told(texts: &[(&str, &str)]) -> Vec<String> {
    read(texts).unwrap_err()
}

const CALENDAR: &str = "festivals: [\"2026-11-08\"]\npeak_hours: {evening: {start: 17, end: 22}}\n";

#[test]
fn parts_in_several_files_are_one_mesh() {
    let parts = [
        ("calendar.yaml", CALENDAR),
        (
            "holidays.yaml",
            "festivals:\n- {name: Pongal, date: 2027-01-14}\n",
        ),
        ("team-a.yaml", "services: {a: {}}\nmesh: {name: mumbai}\n"),
        (
            "team-b.yaml",
            "services: {b: {}}\nmesh: {region: pune}\nfestivals:\n",
        ),
    ];
    let one = "\
mesh: {name: mumbai, region: pune}
peak_hours: {evening: {start: 17, end: 22}}
festivals: [\"2026-11-08\", {name: Pongal, date: 2027-01-14}]
services: {a: {}, b: {}}
";
    assert_eq!(read(&parts), read(&[("mesh.yaml", one)]));
}

#[test]
fn problems_name_file_line_and_column_of_the_part() {
    let parts = [
        ("calendar.yaml", CALENDAR),
        (
            "more.yaml",
            "festivals:\n  - \"2027-01-14\"\n  - \"2027-02-31\"\nservices:\n  b: {prot: 80}\n",
        ),
        ("last.yaml", "# nothing\nservices:\n  a:\n    port: 0\n"),
    ];
    let told = told(&parts);
    let begin = |index: usize, expected: &str| {
        assert!(told[index].starts_with(expected), "{expected}: {told:#?}");
    };
    begin(0, "more.yaml:3:5: festivals[2]: ");
    begin(1, "more.yaml:5:7: services.b.prot: unknown field");
    begin(
        2,
        "last.yaml:4:5: services.a.port: must be a whole number from 1 to 65535",
    );
    assert_eq!(told.len(), 3, "{told:#?}");
}

#[test]
fn what_is_missing_is_told_where_it_should_stand_and_the_environment_has_no_place() {
    let text = "gateways:\n  edge:\n    routes: []\n";
    assert_eq!(
        told(&[("mesh.yaml", text)]),
        ["mesh.yaml:2:3: gateways.edge.listen: must be given"]
    );
    let defaults = Defaults {
        timezone: "Mumbai".into(),
        ..Defaults::default()
    };
    let files = files(&[("mesh.yaml", "{}")]);
    let problems = Document::new(&files, &[]).mesh(&defaults).unwrap_err();
    assert_eq!(problems[0].place, None);
}

#[test]
fn a_name_that_is_defined_twice_is_told_with_both_places() {
    let parts = [
        ("a.yaml", "timezone: UTC\nservices:\n  order: {port: 1}\n"),
        (
            "b.yaml",
            "services:\n  pay: {}\n  order: {port: 2}\ntimezone: UTC\n",
        ),
        ("c.yaml", "services: []\n"),
    ];
    assert_eq!(
        told(&parts),
        [
            "b.yaml:3:3: services.order: is defined a second time; it is in a.yaml:3:3 already (keep one of them)",
            "b.yaml:4:1: timezone: is defined a second time; it is in a.yaml:1:1 already (keep one of them)",
            "c.yaml:1:1: services: is defined a second time; it is in a.yaml:2:1 already (keep one of them)",
        ]
    );
}

#[test]
fn a_file_that_is_no_yaml_hides_no_problem_of_the_files_themselves() {
    let told = told(&[
        ("a.yaml", "services: [\n"),
        ("b.yaml", "a: 1\na: 2\n"),
        (
            "c.yaml",
            "gateways: {edge: {routes: [{match: {path: /}, service: hidden}]}}\n",
        ),
    ]);
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(
        told[0].starts_with("a.yaml:1:11: not readable as YAML"),
        "{told:#?}"
    );
    assert!(
        told[1].starts_with("b.yaml:2:1: a: is here a second time"),
        "{told:#?}"
    );
}

#[test]
fn a_wrong_list_of_includes_is_told() {
    assert_eq!(
        told(&[("a.yaml", "include: [b.yaml, 7]\nservices: {}\n")]),
        [
            "a.yaml:1:19: include[1]: must be a text, not the number 7 (name files, such as include: [calendars/npci-peak.yaml])"
        ]
    );
    assert_eq!(
        includes("include: [b.yaml, 7, c.yaml]"),
        ["b.yaml", "c.yaml"]
    );
    assert_eq!(includes("# include: [b.yaml]"), [""; 0]);
}
