//! Findings of retries.

use std::time::Duration;

use policy::{breaker::BreakerRules, time::format_duration};

use super::{Finding, Rule, Severity};
use crate::mesh::{Mesh, Retries, RouteAction, worst_case_attempts};

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

pub(super) const NEVER_BEGIN: Rule = Rule {
    code: "retries-beyond-timeout",
    severity: Severity::Warning,
    finds: "tries do not fit into the timeout: where each takes its `per_try_timeout`, the last ones never begin",
    fix: "lower `attempts` or `per_try_timeout`, or lengthen the timeout",
};

/// A route's own word outranks the service's; what it leaves to the service is told there alone.
fn never_begin(mesh: &Mesh, findings: &mut Vec<Finding>) {
    for (name, service) in &mesh.services {
        let path = format!("services.{name}.retries");
        fits(&path, service.retries, service.timeout, findings);
    }
    for (name, gateway) in &mesh.gateways {
        for (index, route) in gateway.routes.iter().enumerate() {
            let RouteAction::Forward(forward) = &route.action else {
                continue;
            };
            let Some(service) = mesh.services.get(&forward.service) else {
                continue;
            };
            let path = format!("gateways.{name}.routes[{index}]");
            let path = match (&forward.retries, forward.timeout) {
                (Some(_), _) => format!("{path}.retries"),
                (None, Some(_)) => format!("{path}.timeout"),
                (None, None) => continue,
            };
            let retries = forward.retries.or(service.retries);
            fits(
                &path,
                retries,
                forward.timeout.or(service.timeout),
                findings,
            );
        }
    }
}

fn fits(
    path: &str,
    retries: Option<Retries>,
    timeout: Option<Duration>,
    findings: &mut Vec<Finding>,
) {
    let Some((tries, one)) =
        retries.and_then(|retries| Some((retries.attempts, retries.per_try_timeout?)))
    else {
        return;
    };
    let timeout = timeout.unwrap_or(BreakerRules::DEFAULT_ROUTE_TIMEOUT);
    let begins_after = |before: &u32| one.saturating_mul(*before) < timeout;
    let begin = (1..=tries).take_while(begins_after).count();
    let (all, never) = (tries + 1, tries as usize - begin);
    if never == 0 {
        return;
    }
    let (one, timeout) = (format_duration(one), format_duration(timeout));
    findings.push(Finding::new(
        &NEVER_BEGIN,
        path,
        format!(
            "{all} tries of {one} each do not fit into the timeout of {timeout}: where all are slow, the last {never} never begin"
        ),
        NEVER_BEGIN.fix,
    ));
}

pub(super) fn look(mesh: &Mesh, findings: &mut Vec<Finding>) {
    never_begin(mesh, findings);
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

    #[test]
    fn tries_that_do_not_fit_into_the_timeout_are_found_where_they_are_written() {
        let text = |service: &str, route: &str| {
            format!(
                "services: {{a: {{{service}}}}}\ngateways: {{edge: {{listen: \"127.0.0.1:1\", routes: [{{match: {{path: /}}, service: a{route}}}]}}}}"
            )
        };
        let retries = "retries: {attempts: 2, per_try_timeout: 1s}";
        let two = "3 tries of 1s each do not fit into the timeout of 1s500ms: where all are slow, the last 1 never begin";
        assert_eq!(
            found(
                &text(&format!("timeout: 1500ms, {retries}"), ""),
                &[&NEVER_BEGIN]
            ),
            [format!("services.a.retries: {two}")]
        );
        assert_eq!(
            found(&text(retries, ", timeout: 1500ms"), &[&NEVER_BEGIN]),
            [format!("gateways.edge.routes[0].timeout: {two}")]
        );
        let own = format!(", timeout: 1s, {retries}");
        assert!(
            found(&text("", &own), &[&NEVER_BEGIN])[0]
                .starts_with("gateways.edge.routes[0].retries: 3 tries of 1s each")
        );
        let default = "retries: {attempts: 10, per_try_timeout: 2s}";
        assert!(found(&text(default, ""), &[&NEVER_BEGIN])[0].contains("the last 3 never begin"));
        for fine in [
            format!("timeout: 2500ms, {retries}"),
            "timeout: 1s, retries: {attempts: 5}".into(),
            retries.into(),
        ] {
            assert_eq!(found(&text(&fine, ""), &[&NEVER_BEGIN]), [""; 0], "{fine}");
        }
    }
}
