//! Findings of limits and sheds that let nothing through.

use policy::{
    limit::Limit,
    traffic_class::{Shed, ShedWhen},
    units::BasisPoints,
};

use super::{Finding, Rule, Severity};
use crate::mesh::Mesh;

pub(super) const ALL_REFUSED: Rule = Rule {
    code: "all-refused",
    severity: Severity::Warning,
    finds: "a limit of 0 requests per second, or a shed of 100 % at normal times, refuses every request",
    fix: "write the number that is meant, or observe it first (`mode: observe`)",
};

pub(super) fn look(mesh: &Mesh, findings: &mut Vec<Finding>) {
    for class in &mesh.traffic_classes {
        let (path, name) = (format!("traffic_classes.{}", class.name), &class.name);
        if let Some(limit) = &class.limit {
            look_at_limit(limit, &path, &format!("of class {name}"), findings);
        }
        if class.shed.as_ref().is_some_and(sheds_all) {
            findings.push(Finding::new(
                &ALL_REFUSED,
                format!("{path}.shed_during.normal"),
                format!(
                    "is 100: whenever there is neither a window nor a festival, every request of class {name} is refused"
                ),
                "write a smaller percentage, or name the times that are meant: peak, festival, a window's name",
            ));
        }
    }
    for (name, service) in &mesh.services {
        if let Some(limit) = &service.limit {
            let path = format!("services.{name}");
            look_at_limit(limit, &path, &format!("to {name}"), findings);
        }
    }
}

/// At a peak or on a festival alone a closed door may be meant.
fn look_at_limit(limit: &Limit, path: &str, of: &str, findings: &mut Vec<Finding>) {
    if limit.observe || limit.per_second > 0 {
        return;
    }
    let others = [limit.at_peak, limit.at_festival];
    let always = others.iter().flatten().all(|rate| *rate == 0);
    let when = match always {
        true => "",
        false => " at times of which no other field speaks",
    };
    findings.push(Finding::new(
        &ALL_REFUSED,
        format!("{path}.limit.per_second"),
        format!("is 0: every request {of} is refused{when}"),
        "write how many requests per second are let through, or leave the limit out",
    ));
}

fn sheds_all(shed: &Shed) -> bool {
    let at_normal = |(when, share): &(ShedWhen, BasisPoints)| {
        *when == ShedWhen::Normal && *share == BasisPoints::ALL
    };
    !shed.observe && shed.during.iter().any(at_normal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::{breaker, tests::found};

    #[test]
    fn a_limit_that_lets_nothing_through_is_found() {
        let text = |limit: &str| {
            format!(
                "traffic_classes: {{bronze: {{match: [{{path: /b}}], limit: {{{limit}}}}}}}\nservices: {{a: {{limit: {{{limit}}}}}}}"
            )
        };
        assert_eq!(
            found(&text("per_second: 0"), &[&ALL_REFUSED]),
            [
                "traffic_classes.bronze.limit.per_second: is 0: every request of class bronze is refused",
                "services.a.limit.per_second: is 0: every request to a is refused",
            ]
        );
        let at_times = found(&text("per_second: 0, at_peak: 5"), &[&ALL_REFUSED]);
        assert!(
            at_times[1].ends_with("refused at times of which no other field speaks"),
            "{at_times:?}"
        );
        for fine in ["per_second: 0, mode: observe", "per_second: 1, at_peak: 0"] {
            assert_eq!(found(&text(fine), &[&ALL_REFUSED]), [""; 0], "{fine}");
        }
    }

    /// Nothing reaches the breaker, and that is no fault of its rule.
    #[test]
    fn where_all_is_refused_nothing_is_said_of_breakers() {
        let text = "services: {a: {limit: {per_second: 0}}}";
        assert_eq!(found(text, &[&breaker::NEVER_TRIPS]), [""; 0]);
    }

    #[test]
    fn a_shed_of_everything_at_normal_times_is_found() {
        let text = |fields: &str| {
            format!("traffic_classes: {{bronze: {{match: [{{path: /b}}], {fields}}}}}")
        };
        assert_eq!(
            found(&text("shed_during: {normal: 100}"), &[&ALL_REFUSED]),
            [
                "traffic_classes.bronze.shed_during.normal: is 100: whenever there is neither a window nor a festival, every request of class bronze is refused"
            ]
        );
        for fine in [
            "shed_during: {normal: 99}",
            "shed_during: {festival: 100}",
            "shed_during: {normal: 100}, mode: observe",
        ] {
            assert_eq!(found(&text(fine), &[&ALL_REFUSED]), [""; 0], "{fine}");
        }
    }
}
