use std::collections::BTreeSet;

use policy::time::parse_instant;

use super::*;
use crate::mesh::{Defaults, read};

/// When the tests of rules look: a Wednesday.
pub(super) const NOW: &str = "2026-11-25T12:00+05:30";

/// What the rules of these codes find, each as `PATH: SENTENCE`.
pub(super) fn found(text: &str, rules: &[&Rule]) -> Vec<String> {
    let mesh = read(text, &Defaults::default()).unwrap_or_else(|problems| panic!("{problems:#?}"));
    analyze(&mesh, parse_instant(NOW).unwrap())
        .iter()
        .filter(|finding| rules.iter().any(|rule| rule.code == finding.code))
        .map(|finding| format!("{}: {}", finding.path, finding.sentence))
        .collect()
}

#[test]
fn codes_are_words_with_hyphens_and_each_is_one_rules() {
    let codes: BTreeSet<&str> = RULES.iter().map(|rule| rule.code).collect();
    assert_eq!(codes.len(), RULES.len());
    for rule in RULES {
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        assert!(rule.code.bytes().all(legal), "{}", rule.code);
        assert!(!rule.finds.is_empty() && !rule.fix.is_empty());
    }
}

/// Ours are what others copy.
#[test]
fn in_the_example_mesh_there_is_nothing_to_warn_of() {
    let text = include_str!("../../../envoy/examples/mesh.yaml");
    let mesh = read(text, &Defaults::default()).unwrap();
    let findings = analyze(&mesh, parse_instant("2026-11-01T12:00+05:30").unwrap());
    let bad = findings
        .iter()
        .find(|finding| finding.severity <= Severity::Warning);
    assert_eq!(bad, None);
}

#[test]
fn in_readmes_mesh_there_is_no_error() {
    let readme = include_str!("../../../README.md");
    let (_, reference) = readme.split_once("```yaml\n").unwrap();
    let (reference, _) = reference.split_once("```").unwrap();
    let mesh = read(reference, &Defaults::default()).unwrap();
    let findings = analyze(&mesh, parse_instant("2026-11-01T12:00+05:30").unwrap());
    let bad = findings
        .iter()
        .find(|finding| finding.severity == Severity::Error);
    assert_eq!(bad, None);
}

#[test]
fn errors_come_first_then_warnings_and_all_name_a_known_rule() {
    let text = "\
services:
  a: {sidecar: false, endpoints: [{host: 10.0.0.1, port: 1, version: v2}], canary: {version: v2, weight: 1}}
  b: {}
gateways: {edge: {listen: \"0.0.0.0:80\", routes: [{match: {path_prefix: /}, service: a}]}}
";
    let mesh = read(text, &Defaults::default()).unwrap();
    let findings = analyze(&mesh, parse_instant(NOW).unwrap());
    let severities: Vec<Severity> = findings.iter().map(|finding| finding.severity).collect();
    assert!(severities.is_sorted(), "{findings:#?}");
    assert_eq!(severities.first(), Some(&Severity::Error));
    assert_eq!(severities.last(), Some(&Severity::Info));
    for finding in &findings {
        let rule = RULES.iter().find(|rule| rule.code == finding.code);
        assert!(rule.is_some_and(|rule| rule.severity == finding.severity));
    }
}

#[test]
fn of_one_rule_so_many_are_told_and_then_their_number() {
    let services: Vec<String> = (0..25).map(|number| format!("s{number}: {{}}")).collect();
    let text = format!("services: {{{}}}", services.join(", "));
    let mesh = read(&text, &Defaults::default()).unwrap();
    let findings = analyze(&mesh, parse_instant(NOW).unwrap());
    let of = |findings: &[Finding], rule: &Rule| {
        let found = findings.iter().filter(|finding| finding.code == rule.code);
        found.count()
    };
    assert_eq!(of(&findings, &services::WITHOUT_ENDPOINTS), 25);
    let told = bounded(&findings);
    assert_eq!(of(&told, &services::WITHOUT_ENDPOINTS), 21);
    assert!(
        told.iter()
            .any(|finding| finding.sentence == "and 5 more of these")
    );
    let few = findings.into_iter().take(20).collect::<Vec<_>>();
    assert_eq!(bounded(&few), few);
}

/// A mesh that was analysed for minutes.
#[test]
fn what_grows_with_the_square_of_windows_is_not_looked_at_whole() {
    let windows: Vec<String> = (0..1_000)
        .map(|number| format!("w{number}: {{start: {}, end: 24}}", number % 24))
        .collect();
    let text = format!("peak_hours: {{{}}}", windows.join(", "));
    let found = found(&text, &[&windows::OVERLAP]);
    assert!(
        found[0].contains("more were not looked for"),
        "{}",
        found[0]
    );
    assert!(found.len() < 20_000, "{}", found.len());
}
