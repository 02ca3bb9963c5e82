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
            "services: {b: {}}\nmesh: {region: pune}\nfestivals: []\n",
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
    assert_eq!(told.len(), 4, "{told:#?}");
    assert!(
        told[0].starts_with("a.yaml:1:11: not readable as YAML"),
        "{told:#?}"
    );
    assert!(
        told[1].starts_with("b.yaml:1:1: a: unknown field")
            && told[2].starts_with("b.yaml:2:1: a: is here a second time"),
        "{told:#?}"
    );
    assert_eq!(told[3], "c.yaml:1:12: gateways.edge.listen: must be given");
}

#[test]
fn a_field_without_a_value_is_refused_whether_it_is_known_or_not() {
    for (text, expected) in [
        (
            "servces:\n",
            "mesh.yaml:1:1: servces: unknown field \"servces\" (did you mean \"services\"?)",
        ),
        (
            "services: {a: {}}\nservces:\n",
            "mesh.yaml:2:1: servces: unknown field \"servces\" (did you mean \"services\"?)",
        ),
        (
            "services:\n",
            "mesh.yaml:1:1: services: has no value (is the file cut off? If it is meant to be empty, write services: {})",
        ),
        (
            "services: {}\ntimezone: ~\n",
            "mesh.yaml:2:1: timezone: has no value (give it a value, or take the line out)",
        ),
        (
            "include:\n",
            "mesh.yaml:1:1: include: has no value (name files, such as include: [calendars/npci-peak.yaml])",
        ),
    ] {
        assert_eq!(told(&[("mesh.yaml", text)]), [expected], "{text:?}");
    }
    let other = told(&[("mesh.yaml", "services: {a: {}}\nx: ~\n")]);
    assert!(
        other[0].contains("unknown field \"x\" (known fields: mesh, include, timezone, "),
        "{other:#?}"
    );
    // In the other order of files too.
    let files = [("a.yaml", "services: {a: {}}\n"), ("b.yaml", "services:\n")];
    assert!(told(&files)[0].starts_with("b.yaml:1:1: services: has no value"));
    let both = told(&[("a.yaml", "x:\n"), ("b.yaml", "x: {}\n")]);
    assert!(
        both[0].starts_with("a.yaml:1:1: x: unknown field"),
        "{both:#?}"
    );
    assert!(read(&[("mesh.yaml", "services: {}\nfestivals: []\n")]).is_ok());
}

#[test]
fn fields_without_a_value_are_refused_however_deep_and_all_at_once() {
    let calendar =
        "holidays:\n  - \"2027-01-26\"\npeak_hours:\n  evening:\n    start: 17\n    end:\n";
    let mesh = "\
services:
  a:
    timeout:
    endpoints:
      - {host: 10.0.0.1, port: 80, zone: ~}
      -
    canary: {version: v2, weight: }
    health_check: {path: /, interval: null}
    tmeout:
  b:
  c: {port: 0, uses: [~]}
holidays: [2027-08-15, ~]
gateways:
  edge:
    listen: 127.0.0.1:10000
    routes:
";
    let told = told(&[("calendar.yaml", calendar), ("mesh.yaml", mesh)]);
    let expected = [
        "calendar.yaml:6:5: peak_hours.evening.end: has no value (it must be given",
        "mesh.yaml:3:5: services.a.timeout: has no value (is the file cut off? Write a value",
        "mesh.yaml:5:36: services.a.endpoints[0].zone: has no value",
        "mesh.yaml:6:8: services.a.endpoints[1]: has no value",
        "mesh.yaml:7:27: services.a.canary.weight: has no value",
        "mesh.yaml:8:29: services.a.health_check.interval: has no value",
        "mesh.yaml:9:5: services.a.tmeout: unknown field \"tmeout\" (did you mean \"timeout\"?)",
        "mesh.yaml:10:3: services.b: has no value",
        "mesh.yaml:11:7: services.c.port: must be a whole number",
        "mesh.yaml:11:23: services.c.uses[0]: has no value",
        "mesh.yaml:12:24: holidays[2]: has no value",
        "mesh.yaml:16:5: gateways.edge.routes: has no value",
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(expected), "{expected}: {told}");
    }
    // What says that it is empty is.
    let empty =
        "services: {a: {endpoints: []}}\ngateways: {edge: {listen: \"127.0.0.1:1\", routes: []}}\n";
    assert!(read(&[("mesh.yaml", empty)]).is_ok());
}

#[test]
fn of_very_many_fields_without_a_value_a_hundred_are_told() {
    let text = format!("services: {{a: {{uses: [{}]}}}}", "~,".repeat(500));
    let told = told(&[("mesh.yaml", text.as_str())]);
    assert!((100..=202).contains(&told.len()), "{}", told.len());
}

#[test]
fn a_number_where_a_text_is_meant_needs_quotes_and_a_duration_its_unit() {
    for (text, expected) in [
        (
            "services: {a: {endpoints: [{host: 10.0.0.1, port: 1, version: 1.10}]}}",
            "put it in quotes: without them YAML takes it for a number",
        ),
        (
            "festivals: [{name: 2027, date: 2027-01-01}]",
            "put it in quotes",
        ),
        ("services: {a: {timeout: 2}}", "such as 2ms or 2s"),
        ("max_connection_duration: 60", "such as 60ms or 60s"),
    ] {
        let told = told(&[("mesh.yaml", text)]);
        assert!(told.len() == 1 && told[0].contains(expected), "{told:#?}");
    }
}

#[test]
fn a_wrong_time_zone_hides_nothing() {
    let text = "\
timezone: Asia/Kolkatta
services: {a: {uses: [nope]}}
gateways: {edge: {listen: \"127.0.0.1:1\", routes: [{match: {path: /}, service: gone}]}}
";
    let told = told(&[("mesh.yaml", text)]);
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(told[0].contains("did you mean \"Asia/Kolkata\"?"));
    assert!(told[1].contains("no service is named \"nope\""));
    assert!(told[2].contains("no service is named \"gone\""));
}

#[test]
fn a_region_from_the_environment_is_checked_as_the_files() {
    let defaults = Defaults {
        region: "a b".into(),
        ..Defaults::default()
    };
    let told = |text: &str| {
        let files = files(&[("mesh.yaml", text)]);
        let mesh = Document::new(&files, &[]).mesh(&defaults);
        mesh.map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let environment = told("{}").unwrap_err();
    let file = told("mesh: {region: a b}").unwrap_err();
    let said = file[0]
        .strip_prefix("mesh.yaml:1:8: mesh.region: ")
        .unwrap();
    assert_eq!(
        environment,
        [format!(
            "mesh.region: {said} (from REGION in the environment) (use a name such as mumbai)"
        )]
    );
    // The file's word counts, and the environment's is not asked for.
    assert!(told("mesh: {region: pune}").is_ok());
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
