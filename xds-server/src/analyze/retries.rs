//! Findings of retries.

use super::{Finding, Rule, Severity};
use crate::mesh::{Mesh, worst_case_attempts};

/// So many tries of one request are an outage's second wave.
const MANY: u64 = 10;

pub(super) const MULTIPLY: Rule = Rule {
    code: "retries-multiply",
    severity: Severity::Warning,
    finds: "retries along a path multiply: a service may be tried 10 times or more for one request",
    fix: "retry at one place of the path only, best nearest to what fails",
};

pub(super) const WORST_CASE: Rule = Rule {
    code: "retries-worst-case",
    severity: Severity::Info,
    finds: "how often the last service of a path is tried for one request, when everything fails",
    fix: "nothing is to be done",
};

pub(super) fn look(mesh: &Mesh, findings: &mut Vec<Finding>) {
    for case in worst_case_attempts(mesh) {
        let Some((last, _)) = case.hops.last().filter(|_| case.attempts > 1) else {
            continue;
        };
        let rule = match case.attempts {
            MANY.. => &MULTIPLY,
            _ => &WORST_CASE,
        };
        let kind = match mesh.gateways.contains_key(&case.from) {
            true => "gateways",
            false => "services",
        };
        let hops = case.hops.iter();
        let hops: Vec<String> = hops
            .map(|(name, tries)| format!("{name} ({tries})"))
            .collect();
        findings.push(Finding::new(
            rule,
            format!("{kind}.{}", case.from),
            format!(
                "one request may try {last} {} times, when everything fails: {} -> {}",
                case.attempts,
                case.from,
                hops.join(" -> ")
            ),
            rule.fix,
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::tests::found;

    const PATH: &str = "\
services:
  order: {uses: [payment], retries: {attempts: 2}}
  payment: {retries: {attempts: 2}}
gateways: {edge: {listen: \"127.0.0.1:1\", routes: [{match: {path: /}, service: order}]}}
";

    #[test]
    fn the_worst_case_is_told_and_warned_of_from_ten_tries_on() {
        let nine = "gateways.edge: one request may try payment 9 times, when everything fails: edge -> order (3) -> payment (3)";
        assert_eq!(found(PATH, &[&WORST_CASE]), [nine]);
        assert_eq!(found(PATH, &[&MULTIPLY]), [""; 0]);
        let twelve = PATH.replacen("attempts: 2", "attempts: 3", 1);
        let warned = found(&twelve, &[&MULTIPLY]);
        assert_eq!(
            warned,
            [nine
                .replace("9 times", "12 times")
                .replace("order (3)", "order (4)")]
        );
        assert_eq!(found(&twelve, &[&WORST_CASE]), [""; 0]);
    }

    #[test]
    fn without_retries_there_is_nothing_to_tell() {
        let plain = PATH.replace(", retries: {attempts: 2}", "");
        let plain = plain.replace("retries: {attempts: 2}", "");
        assert_eq!(found(&plain, &[&WORST_CASE, &MULTIPLY]), [""; 0]);
    }
}
