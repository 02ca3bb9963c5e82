//! Findings of traffic classes.

use policy::{traffic_class::TrafficClass, units::ClassName};

use super::{
    Finding, Rule, Severity,
    covers::{covers, impossible},
};
use crate::mesh::Mesh;

/// Names that mean something without being listed.
const WELL_KNOWN: [&str; 3] = ["gold", "silver", "bronze"];

pub(super) const NEVER_MATCHES: Rule = Rule {
    code: "class-never-matches",
    severity: Severity::Warning,
    finds: "no request is ever of a class: it matches none and no service names it, or a match contradicts itself",
    fix: "add a `match`, name it as a service's `class`, or take it out",
};

pub(super) const SHADOWED: Rule = Rule {
    code: "class-shadowed",
    severity: Severity::Warning,
    finds: "a class's match gets no request: an earlier class takes all of them",
    fix: "move the class before the one that shadows it, or take the match out",
};

pub(super) const UNKNOWN: Rule = Rule {
    code: "class-unknown",
    severity: Severity::Warning,
    finds: "a service names a class that is neither listed nor gold, silver or bronze",
    fix: "name a class of `traffic_classes`, or add it there",
};

pub(super) fn look(mesh: &Mesh, findings: &mut Vec<Finding>) {
    for (index, class) in mesh.traffic_classes.iter().enumerate() {
        never_matches(mesh, class, findings);
        let earlier = mesh.traffic_classes.get(..index).unwrap_or_default();
        shadowed(earlier, class, findings);
    }
    let listed = |name: &ClassName| mesh.traffic_classes.iter().any(|class| class.name == *name);
    for (name, service) in &mesh.services {
        let class = &service.class;
        if !listed(class) && !WELL_KNOWN.contains(&class.as_str()) {
            findings.push(Finding::new(
                &UNKNOWN,
                format!("services.{name}.class"),
                format!("no class is named {class}"),
                UNKNOWN.fix,
            ));
        }
    }
}

fn never_matches(mesh: &Mesh, class: &TrafficClass, findings: &mut Vec<Finding>) {
    let name = &class.name;
    let is_named = mesh.services.values().any(|service| service.class == *name);
    // Silver is what no other class claims.
    let is_default = *name == ClassName::default();
    if class.matches.is_empty() && !is_named && !is_default {
        findings.push(Finding::new(
            &NEVER_MATCHES,
            format!("traffic_classes.{name}"),
            "no request is of this class: it has no match, and no service names it",
            NEVER_MATCHES.fix,
        ));
    }
    for (at, request) in class.matches.iter().enumerate() {
        if let Some(why) = impossible(request) {
            findings.push(Finding::new(
                &NEVER_MATCHES,
                format!("traffic_classes.{name}.match[{at}]"),
                format!("matches no request: {why}"),
                "leave out the condition that excludes the other",
            ));
        }
    }
}

fn shadowed(earlier: &[TrafficClass], class: &TrafficClass, findings: &mut Vec<Finding>) {
    for (at, request) in class.matches.iter().enumerate() {
        let takes = |other: &&TrafficClass| other.matches.iter().any(|wide| covers(wide, request));
        let Some(other) = earlier.iter().find(takes) else {
            continue;
        };
        let (name, other) = (&class.name, &other.name);
        findings.push(Finding::new(
            &SHADOWED,
            format!("traffic_classes.{name}.match[{at}]"),
            format!("gets no request: {other}, which comes before {name}, takes all of them"),
            format!("move {name} before {other}, or take the match out"),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::tests::found;

    #[test]
    fn a_class_behind_a_wider_one_is_shadowed() {
        let text = |first: &str, second: &str| {
            format!(
                "traffic_classes: {{gold: {{match: [{{{first}}}]}}, bronze: {{match: [{{path: /b}}, {{{second}}}]}}}}"
            )
        };
        assert_eq!(
            found(
                &text("path_prefix: /upi", "path_prefix: /upi/check-status"),
                &[&SHADOWED]
            ),
            [
                "traffic_classes.bronze.match[1]: gets no request: gold, which comes before bronze, takes all of them"
            ]
        );
        let narrow_first = text("path_prefix: /upi/pay", "path_prefix: /upi");
        assert_eq!(found(&narrow_first, &[&SHADOWED]), [""; 0]);
    }

    #[test]
    fn a_class_that_nothing_leads_to_is_found() {
        let text = "\
services: {a: {class: iron}, b: {class: god}, c: {class: gold}}
traffic_classes:
  iron: {}
  lead: {}
  silver: {limit: {per_second: 5}}
  tin: {match: [{grpc_service: a.B, path_prefix: /orders}]}
";
        assert_eq!(
            found(text, &[&NEVER_MATCHES, &UNKNOWN]),
            [
                "traffic_classes.lead: no request is of this class: it has no match, and no service names it",
                "traffic_classes.tin.match[0]: matches no request: paths of a.B begin with /a.B/",
                "services.b.class: no class is named god",
            ]
        );
    }
}
