//! Findings of canaries.

use policy::{canary::Weight, time::WallTime, units::BasisPoints};

use super::{Finding, Rule, Severity};
use crate::mesh::{Mesh, Service};

/// With any more weight it is refused.
pub(super) const WITHOUT_ENDPOINTS: Rule = Rule {
    code: "canary-without-endpoints",
    severity: Severity::Info,
    finds: "a stopped canary's version has no endpoints (with a weight it is refused)",
    fix: "take the canary out, or add the endpoints before its weight is raised",
};

pub(super) const WITHOUT_STABLE: Rule = Rule {
    code: "canary-without-stable",
    severity: Severity::Error,
    finds: "all endpoints of a service carry its canary's version: the users of stable are answered with 503",
    fix: "add endpoints of another version, or take the canary out",
};

pub(super) const COMPLETE: Rule = Rule {
    code: "canary-complete",
    severity: Severity::Warning,
    finds: "a canary has all users, so nobody is left to compare with and no breaker sends them back to stable",
    fix: "name its version `stable_version` and take the canary out, or lower its weight",
};

pub(super) const NOT_STICKY: Rule = Rule {
    code: "canary-not-sticky",
    severity: Severity::Info,
    finds: "a canary draws each request anew, so a user meets both versions",
    fix: "name the header of a user's id: `sticky_by: {header: x-user-id}`",
};

pub(super) const RAMP_FROZEN: Rule = Rule {
    code: "ramp-frozen",
    severity: Severity::Warning,
    finds: "steps of a ramp never come: within four years of its start `freeze_during` leaves too little time for them",
    fix: "name fewer times in `freeze_during`, or let `every` be shorter",
};

pub(super) fn look(mesh: &Mesh, now: WallTime, findings: &mut Vec<Finding>) {
    for (name, service) in &mesh.services {
        let Some(canary) = &service.canary else {
            continue;
        };
        let version = &canary.version;
        let mut push = |rule: &Rule, field: &str, sentence: String, fix: String| {
            let path = format!("services.{name}.canary{field}");
            findings.push(Finding::new(rule, path, sentence, fix));
        };
        if service.endpoints_of(Some(version)).next().is_none() {
            push(
                &WITHOUT_ENDPOINTS,
                ".version",
                format!("no endpoint of {name} has version: {version}"),
                WITHOUT_ENDPOINTS.fix.into(),
            );
            continue;
        }
        let weight = weight_at(mesh, service, now);
        if weight == BasisPoints::ALL {
            push(
                &COMPLETE,
                "",
                format!("{version} has all users of {name}: its canary is over"),
                format!("write stable_version: {version} and take the canary out"),
            );
        } else if service.endpoints_of(None).next().is_none() {
            let others = BasisPoints::ALL.percent() - weight.percent();
            push(
                &WITHOUT_STABLE,
                "",
                format!(
                    "all endpoints of {name} are {version}: the {others} % of its users who are stable's are answered with 503"
                ),
                WITHOUT_STABLE.fix.into(),
            );
        }
        if let Some((come, all)) = steps_that_come(mesh, service)
            && come < all
        {
            let when: Vec<&str> = canary
                .freeze_during
                .times()
                .iter()
                .map(|when| when.as_str())
                .collect();
            let when = when.join(", ");
            let sentence = match come {
                0 => format!(
                    "stands still for ever: its start is frozen ({when}), and so are four years after it"
                ),
                come => format!(
                    "only {come} of its {all} steps come within four years: it is frozen too often ({when})"
                ),
            };
            push(&RAMP_FROZEN, ".ramp", sentence, RAMP_FROZEN.fix.into());
        }
        let splits = canary.weight.highest() > BasisPoints::ZERO && weight < BasisPoints::ALL;
        if splits && canary.sticky_by.is_none() {
            push(
                &NOT_STICKY,
                "",
                format!("draws each request to {name} anew, so a user meets both versions"),
                NOT_STICKY.fix.into(),
            );
        }
    }
}

/// How many steps of the ramp ever come, and of how many.
fn steps_that_come(mesh: &Mesh, service: &Service) -> Option<(usize, usize)> {
    let canary = service.canary.as_ref()?;
    let ramp = canary.weight.ramp()?;
    let schedule = ramp.schedule(&canary.freeze_during, &mesh.timetable);
    Some((schedule.steps().len(), ramp.steps().len()))
}

fn weight_at(mesh: &Mesh, service: &Service, now: WallTime) -> BasisPoints {
    let Some(canary) = &service.canary else {
        return BasisPoints::ZERO;
    };
    match &canary.weight {
        Weight::Fixed(weight) => *weight,
        Weight::Ramp(ramp) => {
            let schedule = ramp.schedule(&canary.freeze_during, &mesh.timetable);
            schedule.at(now)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::tests::found;

    const ALL: [&Rule; 4] = [&WITHOUT_ENDPOINTS, &WITHOUT_STABLE, &COMPLETE, &NOT_STICKY];
    const BOTH: &str = "{host: 10.0.0.1, port: 1}, {host: 10.0.0.2, port: 1, version: v2}";

    fn canary(canary: &str, endpoints: &str) -> Vec<String> {
        let text = format!("services: {{a: {{canary: {{{canary}}}, endpoints: [{endpoints}]}}}}");
        found(&text, &ALL)
    }

    #[test]
    fn a_sticky_canary_with_endpoints_on_both_sides_is_fine() {
        let sticky = "version: v2, weight: 10, sticky_by: {header: x-user-id}";
        assert_eq!(canary(sticky, BOTH), [""; 0]);
        assert_eq!(
            canary("version: v2, weight: 10", BOTH),
            ["services.a.canary: draws each request to a anew, so a user meets both versions"]
        );
    }

    #[test]
    fn a_canary_that_has_everybody_is_over_and_so_is_a_ramp_at_its_end() {
        let over = ["services.a.canary: v2 has all users of a: its canary is over"];
        assert_eq!(canary("version: v2, weight: 100", BOTH), over);
        let ramp = |start: &str| {
            format!(
                "version: v2, sticky_by: {{header: x-user-id}}, ramp: {{start: \"{start}\", steps: [50, 100], every: 1h}}"
            )
        };
        assert_eq!(canary(&ramp("2026-11-25T10:59+05:30"), BOTH), over);
        assert_eq!(canary(&ramp("2026-11-25T11:01+05:30"), BOTH), [""; 0]);
    }

    #[test]
    fn a_ramp_that_is_frozen_for_ever_is_found() {
        let told = |windows: &str, every: &str| {
            let ramp = format!(
                "ramp: {{start: \"2026-11-25T09:00+05:30\", steps: [5, 50], every: {every}}}, freeze_during: [peak]"
            );
            let text = format!(
                "peak_hours: {{{windows}}}\nservices: {{a: {{canary: {{version: v2, {ramp}}}, endpoints: [{BOTH}]}}}}"
            );
            found(&text, &[&RAMP_FROZEN])
        };
        assert_eq!(
            told("always: {start: 0, end: 24}", "1h"),
            [
                "services.a.canary.ramp: stands still for ever: its start is frozen (peak), and so are four years after it"
            ]
        );
        // A minute a day.
        assert_eq!(
            told("most: {start: \"00:01\", end: 24}", "168h"),
            [
                "services.a.canary.ramp: only 1 of its 2 steps come within four years: it is frozen too often (peak)"
            ]
        );
        assert_eq!(told("most: {start: 1, end: 24}", "1h"), [""; 0]);
    }

    #[test]
    fn sides_without_endpoints_are_found() {
        let only_canary = "{host: 10.0.0.2, port: 1, version: v2}";
        assert_eq!(
            canary(
                "version: v2, weight: 10, sticky_by: {header: x-user-id}",
                only_canary
            ),
            [
                "services.a.canary: all endpoints of a are v2: the 90 % of its users who are stable's are answered with 503"
            ]
        );
        assert_eq!(
            canary("version: v3, weight: 0", BOTH),
            ["services.a.canary.version: no endpoint of a has version: v3"]
        );
    }
}
