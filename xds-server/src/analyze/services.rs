//! Findings of services: whom nobody reaches, and who reaches nobody.

use std::collections::{BTreeMap, BTreeSet};

use policy::units::ServiceName;

use super::{Finding, Rule, Severity};
use crate::mesh::{Endpoint, Gateway, Mesh, MutualTls, RouteAction, Service};

pub(super) const WITHOUT_ENDPOINTS: Rule = Rule {
    code: "service-without-endpoints",
    severity: Severity::Warning,
    finds: "a service has no endpoints: calls to it are answered with 503",
    fix: "add its endpoints, or take the service out",
};

pub(super) const CALLS_WITHOUT_ENDPOINTS: Rule = Rule {
    code: "call-without-endpoints",
    severity: Severity::Warning,
    finds: "a gateway's route or a service's `uses` leads to a service that has no endpoints",
    fix: "add the endpoints of the service that is called, or do not call it",
};

pub(super) const WITHOUT_APPLICATION: Rule = Rule {
    code: "sidecar-without-application",
    severity: Severity::Error,
    finds: "a sidecar does not know on which port its application listens: it gets no inbound listener, and calls are answered with 503",
    fix: "give the service `port` or the endpoint `app_port`, or say `sidecar: false`",
};

pub(super) const ENDPOINT_TWICE: Rule = Rule {
    code: "endpoint-twice",
    severity: Severity::Warning,
    finds: "two endpoints of a service have the same host and port: Envoy knows one of them only, with its weight, while all are listed",
    fix: "correct the address, or take one of them out",
};

pub(super) const UNREACHED: Rule = Rule {
    code: "service-unreached",
    severity: Severity::Warning,
    finds: "no route leads to a service and no other service may call it, in a mesh that says who calls whom",
    fix: "add a route, name it in the `uses` of its callers, or take the service out",
};

pub(super) const PLAINTEXT: Rule = Rule {
    code: "plaintext-accepted",
    severity: Severity::Info,
    finds: "a service's sidecars can be reached over the network without a certificate (`mtls: permissive` or `off`)",
    fix: "leave `mtls` out, once all callers have sidecars",
};

pub(super) fn look(mesh: &Mesh, findings: &mut Vec<Finding>) {
    let reached = Reached::of(mesh);
    for (name, service) in &mesh.services {
        if service.endpoints.is_empty() {
            findings.push(Finding::new(
                &WITHOUT_ENDPOINTS,
                format!("services.{name}"),
                format!("{name} has no endpoints: calls to it are answered with 503"),
                WITHOUT_ENDPOINTS.fix,
            ));
        }
        without_application(name, service, findings);
        twice(name, service, findings);
        let mut hosts = service.endpoints.iter().map(|endpoint| &endpoint.host);
        let plain = service.sidecar && service.mtls != MutualTls::Strict;
        if plain && hosts.any(|host| !host.is_loopback()) {
            findings.push(Finding::new(
                &PLAINTEXT,
                format!("services.{name}.mtls"),
                format!("whoever reaches a sidecar of {name} needs no certificate"),
                PLAINTEXT.fix,
            ));
        }
        if reached.is_said && !reached.contains(name) {
            findings.push(Finding::new(
                &UNREACHED,
                format!("services.{name}"),
                format!("no route leads to {name}, and no other service may call it"),
                format!("add a route, name {name} in the uses of its callers, or take it out"),
            ));
        }
    }
    calls_without_endpoints(mesh, findings);
}

/// One finding a service: what is missing is most likely its `port`.
fn without_application(name: &ServiceName, service: &Service, findings: &mut Vec<Finding>) {
    let unknown = |endpoint: &&Endpoint| endpoint.app_port.or(service.port).is_none();
    let unknown: Vec<&Endpoint> = service.endpoints.iter().filter(unknown).collect();
    let Some(first) = unknown.first().filter(|_| service.sidecar) else {
        return;
    };
    let (missing, all) = (unknown.len(), service.endpoints.len());
    let which = match (missing, all) {
        (1, _) => format!("the sidecar of {}", first.id),
        (missing, all) if missing == all => format!("none of the {all} sidecars of {name}"),
        (missing, all) => format!("{missing} of the {all} sidecars of {name}"),
    };
    let verb = match (missing, missing == all) {
        (1, _) => "does not know",
        (_, true) => "knows",
        (_, false) => "do not know",
    };
    findings.push(Finding::new(
        &WITHOUT_APPLICATION,
        format!("services.{name}.endpoints"),
        format!(
            "{which} {verb} on which port its application listens: without an inbound listener calls are answered with 503"
        ),
        format!(
            "write port: N at {name} or app_port: N at the endpoint, or say sidecar: false where the application itself listens on port {}",
            first.port
        ),
    ));
}

/// Who is called, as far as the mesh says.
struct Reached<'m> {
    /// Without gateways and `uses` there may be callers that the mesh knows nothing of.
    is_said: bool,
    /// By a route, or by the `uses` of another service.
    called: BTreeSet<&'m ServiceName>,
    /// Those that may call every other service; of more than one each is reached by another.
    call_all: Vec<&'m ServiceName>,
}

impl<'m> Reached<'m> {
    fn of(mesh: &'m Mesh) -> Self {
        let calls = mesh.gateways.values().flat_map(Gateway::calls);
        let mut called: BTreeSet<&ServiceName> = calls.map(|call| &call.service).collect();
        let mut call_all = Vec::new();
        let mut is_said = !mesh.gateways.is_empty();
        for (name, service) in &mesh.services {
            is_said |= service.uses.is_some();
            match &service.uses {
                Some(uses) => called.extend(uses.iter().filter(|used| *used != name)),
                // Only sidecars know what they may call.
                None if service.sidecar && call_all.len() < 2 => call_all.push(name),
                None => {}
            }
        }
        Self {
            is_said,
            called,
            call_all,
        }
    }

    fn contains(&self, name: &ServiceName) -> bool {
        self.called.contains(name) || self.call_all.iter().any(|other| *other != name)
    }
}

/// Envoy keeps one endpoint of an address in each cluster.
fn twice(name: &ServiceName, service: &Service, findings: &mut Vec<Finding>) {
    let canary = service.canary.as_ref().map(|canary| &canary.version);
    let mut known = BTreeMap::new();
    for (index, endpoint) in service.endpoints.iter().enumerate() {
        let of_canary = canary.is_some() && endpoint.version.as_ref() == canary;
        let address = (of_canary, endpoint.host.to_string(), endpoint.port);
        if let Some(first) = known.insert(address, &endpoint.id) {
            findings.push(Finding::new(
                &ENDPOINT_TWICE,
                format!("services.{name}.endpoints[{index}]"),
                format!(
                    "{} is {}:{}, as {first} is: Envoy knows one of them only",
                    endpoint.id, endpoint.host, endpoint.port
                ),
                "correct the address, or take one of them out; for more traffic give it a higher weight",
            ));
        }
    }
}

fn calls_without_endpoints(mesh: &Mesh, findings: &mut Vec<Finding>) {
    let is_empty = |called: &ServiceName| {
        let service = mesh.services.get(called);
        service.is_some_and(|service| service.endpoints.is_empty())
    };
    let mut push = |path: String, called: &ServiceName| {
        findings.push(Finding::new(
            &CALLS_WITHOUT_ENDPOINTS,
            path,
            format!("leads to {called}, which has no endpoints"),
            format!("add endpoints to {called}, or do not call it"),
        ));
    };
    for (name, gateway) in &mesh.gateways {
        for (index, route) in gateway.routes.iter().enumerate() {
            if let RouteAction::Forward(forward) = &route.action
                && is_empty(&forward.service)
            {
                let path = format!("gateways.{name}.routes[{index}].service");
                push(path, &forward.service);
            }
        }
    }
    for (name, service) in &mesh.services {
        let uses = service.uses.iter().flatten();
        for called in uses.filter(|called| is_empty(called)) {
            push(format!("services.{name}.uses"), called);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::tests::found;

    #[test]
    fn a_service_without_endpoints_is_found_and_so_is_who_calls_it() {
        let text = "\
services:
  empty: {}
  order: {sidecar: false, endpoints: [{host: 10.0.0.1, port: 1}], uses: [empty]}
gateways:
  edge:
    listen: 127.0.0.1:1
    routes:
      - {match: {path_prefix: /empty}, service: empty}
      - {match: {path_prefix: /}, service: order}
";
        assert_eq!(
            found(text, &[&WITHOUT_ENDPOINTS, &CALLS_WITHOUT_ENDPOINTS]),
            [
                "services.empty: empty has no endpoints: calls to it are answered with 503",
                "gateways.edge.routes[0].service: leads to empty, which has no endpoints",
                "services.order.uses: leads to empty, which has no endpoints",
            ]
        );
    }

    #[test]
    fn a_sidecar_that_does_not_know_its_application_is_an_error() {
        let text = |service: &str, first: &str, second: &str| {
            format!(
                "services: {{a: {{{service}endpoints: [{{id: a1, host: 10.0.0.1, port: 81{first}}}, {{id: a2, host: 10.0.0.2, port: 82{second}}}]}}}}"
            )
        };
        let rules = [&WITHOUT_APPLICATION];
        let rest = "on which port its application listens: without an inbound listener calls are answered with 503";
        assert_eq!(
            found(&text("", "", ""), &rules),
            [format!(
                "services.a.endpoints: none of the 2 sidecars of a knows {rest}"
            )]
        );
        assert_eq!(
            found(&text("", ", app_port: 80", ""), &rules),
            [format!(
                "services.a.endpoints: the sidecar of a2 does not know {rest}"
            )]
        );
        for fine in [
            text("port: 80, ", "", ""),
            text("sidecar: false, ", "", ""),
            text("", ", app_port: 80", ", app_port: 80"),
            "services: {a: {}}".into(),
        ] {
            assert_eq!(found(&fine, &rules), [""; 0], "{fine}");
        }
    }

    #[test]
    fn a_service_that_nobody_reaches_is_found_where_the_mesh_says_who_calls_whom() {
        let lonely = "no route leads to lonely, and no other service may call it";
        let with_uses = "services: {a: {uses: [b]}, b: {uses: [a]}, lonely: {uses: [lonely]}}";
        assert_eq!(
            found(with_uses, &[&UNREACHED]),
            [format!("services.lonely: {lonely}")]
        );
        for reached in [
            "services: {lonely: {}}",
            "services: {lonely: {}, second: {}}",
            "services: {lonely: {}, a: {uses: [lonely]}, b: {uses: [a]}}",
            "services: {lonely: {}, a: {}, b: {uses: [a]}}",
        ] {
            assert_eq!(found(reached, &[&UNREACHED]), [""; 0], "{reached}");
        }
    }

    #[test]
    fn a_sidecar_that_takes_plaintext_from_the_network_is_told_of() {
        let text = |mtls: &str, host: &str| {
            format!("services: {{a: {{{mtls}endpoints: [{{host: {host}, port: 1}}]}}}}")
        };
        let told = ["services.a.mtls: whoever reaches a sidecar of a needs no certificate"];
        for mtls in ["mtls: permissive, ", "mtls: off, "] {
            assert_eq!(found(&text(mtls, "10.0.0.1"), &[&PLAINTEXT]), told);
            assert_eq!(found(&text(mtls, "127.0.0.1"), &[&PLAINTEXT]), [""; 0]);
        }
        for fine in ["", "sidecar: false, "] {
            assert_eq!(found(&text(fine, "10.0.0.1"), &[&PLAINTEXT]), [""; 0]);
        }
    }

    #[test]
    fn an_address_that_a_version_has_twice_is_found() {
        let text = |second: &str| {
            format!(
                "services: {{a: {{sidecar: false, endpoints: [{{id: one, host: 10.0.0.1, port: 1}}, {{id: two, {second}}}], canary: {{version: v2, weight: 0}}}}}}"
            )
        };
        let told = |second: &str| found(&text(second), &[&ENDPOINT_TWICE]);
        let same =
            ["services.a.endpoints[1]: two is 10.0.0.1:1, as one is: Envoy knows one of them only"];
        assert_eq!(told("host: 10.0.0.1, port: 1, weight: 5"), same);
        assert_eq!(told("host: 10.0.0.1, port: 1, version: v1"), same);
        for fine in [
            "port: 2, host: 10.0.0.1",
            "host: 10.0.0.2, port: 1",
            "host: 10.0.0.1, port: 1, version: v2",
        ] {
            assert_eq!(told(fine), [""; 0], "{fine}");
        }
    }
}
