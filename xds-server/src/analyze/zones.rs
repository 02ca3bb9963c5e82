//! Findings of zones and regions in which nothing is.

use std::collections::BTreeSet;

use policy::units::ZoneName;

use super::{Finding, Rule, Severity};
use crate::mesh::Mesh;

/// Gateways and nodes may be in zones of their own (`bootstrap --zone`), so it is no error. Where no
/// endpoint is in any zone, all zones are such.
pub(super) const WINDOW_ZONE_EMPTY: Rule = Rule {
    code: "window-zone-empty",
    severity: Severity::Warning,
    finds: "a window's zone has no endpoint, while other zones have some",
    fix: "name a zone in which endpoints are, if it is a slip of the pen",
};

pub(super) const FAILOVER_REGION_EMPTY: Rule = Rule {
    code: "failover-region-empty",
    severity: Severity::Warning,
    finds: "a service's `failover` names a region in which no endpoint of the mesh is",
    fix: "name a region in which endpoints are, if it is a slip of the pen",
};

pub(super) fn look(mesh: &Mesh, findings: &mut Vec<Finding>) {
    window_zones(mesh, findings);
    failover_regions(mesh, findings);
}

/// Several services may have one list, so the regions of all of them are known.
fn failover_regions(mesh: &Mesh, findings: &mut Vec<Finding>) {
    let endpoints = || {
        mesh.services
            .values()
            .flat_map(|service| &service.endpoints)
    };
    let regions = endpoints().filter_map(|endpoint| endpoint.region.as_deref());
    let regions: BTreeSet<&str> = regions.collect();
    if endpoints().next().is_none() {
        return;
    }
    let known: Vec<&str> = regions.iter().copied().collect();
    let fix = match known.is_empty() {
        true => "give the endpoints their region".to_string(),
        false => format!("regions of endpoints: {}", known.join(", ")),
    };
    for (name, service) in &mesh.services {
        for (index, region) in service.placement.failover.iter().enumerate() {
            if !regions.contains(region.as_str()) {
                findings.push(Finding::new(
                    &FAILOVER_REGION_EMPTY,
                    format!("services.{name}.failover[{index}]"),
                    format!("no endpoint is in region {region}: nothing is ever sent there"),
                    fix.clone(),
                ));
            }
        }
    }
}

fn window_zones(mesh: &Mesh, findings: &mut Vec<Finding>) {
    let services = mesh.services.values();
    let endpoints = services.flat_map(|service| &service.endpoints);
    let zones: BTreeSet<&str> = endpoints
        .filter_map(|endpoint| endpoint.zone.as_ref().map(ZoneName::as_str))
        .collect();
    if zones.is_empty() {
        return;
    }
    for window in mesh.timetable.windows() {
        let zone = window.zone().map(ZoneName::as_str);
        let Some(zone) = zone.filter(|zone| !zones.contains(zone)) else {
            continue;
        };
        let known: Vec<&str> = zones.iter().copied().collect();
        findings.push(Finding::new(
            &WINDOW_ZONE_EMPTY,
            format!("peak_hours.{}.zone", window.name()),
            format!("no endpoint is in zone {zone}: only an Envoy that was started in it sees this window"),
            format!("zones of endpoints: {}", known.join(", ")),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{Defaults, read};

    #[test]
    fn a_zone_without_endpoints_is_found_where_endpoints_have_zones() {
        let found = |zone: &str, of_endpoint: &str| -> Vec<String> {
            let text = format!(
                "peak_hours: {{morning: {{start: 7, end: 11, zone: {zone}}}}}\n\
                 services: {{pay: {{sidecar: false, endpoints: [{{host: 10.0.0.1, port: 80{of_endpoint}}}]}}}}"
            );
            let mut findings = Vec::new();
            look(&read(&text, &Defaults::default()).unwrap(), &mut findings);
            findings.iter().map(ToString::to_string).collect()
        };
        let told = found("mumbai-wset", ", zone: mumbai-west");
        assert_eq!(told.len(), 1);
        assert!(
            told[0].contains(WINDOW_ZONE_EMPTY.code) && told[0].contains("peak_hours.morning.zone"),
            "{told:?}"
        );
        assert_eq!(found("mumbai-west", ", zone: mumbai-west"), [""; 0]);
        assert_eq!(found("mumbai-west", ", region: mumbai, az: west"), [""; 0]);
        assert_eq!(found("mumbai-west", ""), [""; 0]);
    }

    #[test]
    fn a_region_of_failover_in_which_nothing_is_is_found() {
        let told = |failover: &str, region: &str| {
            let text = format!(
                "services: {{pay: {{failover: [{failover}], endpoints: [{{host: 10.0.0.1, port: 80{region}}}]}}}}"
            );
            crate::analyze::tests::found(&text, &[&FAILOVER_REGION_EMPTY])
        };
        let empty = "no endpoint is in region mumbia: nothing is ever sent there";
        assert_eq!(
            told("mumbai, mumbia", ", region: mumbai"),
            [format!("services.pay.failover[1]: {empty}")]
        );
        assert_eq!(
            told("mumbia", ""),
            [format!("services.pay.failover[0]: {empty}")]
        );
        assert_eq!(told("mumbai", ", region: mumbai"), [""; 0]);
    }
}
