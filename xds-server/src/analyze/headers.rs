//! Findings of headers that never arrive as clients send them: what is matched by them, and whom they are
//! to keep on one side.

use policy::{names, units::HeaderName};

use super::{Finding, Rule, Severity};
use crate::mesh::{Entrance, Fate, Gateway, Mesh};

pub(super) const NEVER_ARRIVES: Rule = Rule {
    code: "header-never-arrives",
    severity: Severity::Warning,
    finds: "a match or a `sticky_by` names a header that Envoy takes away or writes itself before anything reads it (at gateways also names with `_`, which is `-` to many applications, and all that begin with `x-mumbai-`): the match holds for no request, and users are not told apart",
    fix: "name a header that passes as the client sends it, with hyphens, such as `x-user-id`",
};

pub(super) fn look(mesh: &Mesh, findings: &mut Vec<Finding>) {
    for (name, service) in &mesh.services {
        let canary = service.canary.as_ref();
        if let Some(header) = canary.and_then(|canary| canary.sticky_by.as_ref()) {
            let path = format!("services.{name}.canary.sticky_by.header");
            let calls = |gateway: &Gateway| gateway.calls().any(|call| call.service == *name);
            sticky(mesh, header, path, calls, findings);
        }
    }
    for class in &mesh.traffic_classes {
        let path = format!("traffic_classes.{}", class.name);
        let shed = class.shed.as_ref();
        if let Some(header) = shed.and_then(|shed| shed.sticky_by.as_ref()) {
            let path = format!("{path}.sticky_by.header");
            sticky(mesh, header, path, calls_any, findings);
        }
        for (at, request) in class.matches.iter().enumerate() {
            for (header, value) in &request.headers {
                let is_lost = |fate| is_lost_to_match(header, fate, value);
                let Some((who, fate)) = lost(mesh, header, is_lost, calls_any) else {
                    continue;
                };
                let through = match who {
                    Who::EveryEnvoy => "",
                    Who::Gateway(_) if mesh.services.values().any(|service| service.sidecar) => {
                        " that comes through a gateway"
                    }
                    Who::Gateway(_) => "",
                };
                let sentence = format!("matches no request{through}: {who} {}", fate.words());
                push(
                    findings,
                    format!("{path}.match[{at}].header.{header}"),
                    sentence,
                    header,
                );
            }
        }
    }
    for (name, gateway) in &mesh.gateways {
        routes(name.as_str(), gateway, findings);
    }
}

fn routes(name: &str, gateway: &Gateway, findings: &mut Vec<Finding>) {
    let entrance = Entrance::of_gateway(gateway.clients);
    for (index, route) in gateway.routes.iter().enumerate() {
        for (header, value) in &route.request.headers {
            // The filter writes ours, and the route is then chosen anew.
            let is_set = names::REQUEST_HEADERS.contains(&header.as_str());
            let Some(fate) = entrance.fate(header.as_str()).filter(|_| !is_set) else {
                continue;
            };
            // Routes find a host by its old name.
            if fate != Fate::Renamed && is_lost_to_match(header, fate, value) {
                let path = format!("gateways.{name}.routes[{index}].match.header.{header}");
                let words = fate.words();
                let sentence =
                    format!("matches no request: the gateway {words} before it chooses a route");
                push(findings, path, sentence, header);
            }
        }
    }
}

/// Who it is that lets a header not pass.
enum Who<'m> {
    EveryEnvoy,
    Gateway(&'m str),
}

impl std::fmt::Display for Who<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::EveryEnvoy => formatter.write_str("Envoy"),
            Self::Gateway(name) => write!(formatter, "gateway {name}"),
        }
    }
}

/// Sidecars pass more than gateways do, so these matter only where they call.
fn lost<'m>(
    mesh: &'m Mesh,
    header: &HeaderName,
    is_lost: impl Fn(Fate) -> bool,
    calls: impl Fn(&Gateway) -> bool,
) -> Option<(Who<'m>, Fate)> {
    let of = |entrance: Entrance| entrance.fate(header.as_str()).filter(|fate| is_lost(*fate));
    if let Some(fate) = of(Entrance::SIDECAR) {
        return Some((Who::EveryEnvoy, fate));
    }
    mesh.gateways.iter().find_map(|(name, gateway)| {
        let fate = of(Entrance::of_gateway(gateway.clients))?;
        calls(gateway).then_some((Who::Gateway(name.as_str()), fate))
    })
}

fn calls_any(gateway: &Gateway) -> bool {
    gateway.calls().next().is_some()
}

/// Whether a header cannot have this value any more.
fn is_lost_to_match(header: &HeaderName, fate: Fate, value: &str) -> bool {
    let is_upgrade = header.as_str() == "connection" && value.eq_ignore_ascii_case("upgrade");
    !is_upgrade && !matches!(fate, Fate::Replaced(always) if always == value)
}

fn sticky(
    mesh: &Mesh,
    header: &HeaderName,
    path: String,
    calls: impl Fn(&Gateway) -> bool,
    findings: &mut Vec<Finding>,
) {
    // By their addresses users are told apart, more or less.
    let is_lost = |fate| fate != Fate::ClientAddress;
    if let Some((who, fate)) = lost(mesh, header, is_lost, calls) {
        let what = match fate {
            Fate::Replaced(_) => "all users are one to it",
            _ => "each request is drawn anew",
        };
        let sentence = format!(
            "keeps no user on one side: {who} {}, so {what}",
            fate.words()
        );
        push(findings, path, sentence, header);
    }
}

fn push(findings: &mut Vec<Finding>, path: String, sentence: String, header: &HeaderName) {
    let header = header.as_str();
    let fix = match header {
        "host" => {
            "match by the hosts of a gateway or its routes, or name another header".to_string()
        }
        _ if header.contains('_') && !header.starts_with(names::HEADER_PREFIX) => {
            let hyphens = header.replace('_', "-");
            format!("name and send it with hyphens: {hyphens}")
        }
        _ => "name a header that passes as the client sends it, such as x-user-id".into(),
    };
    findings.push(Finding::new(&NEVER_ARRIVES, path, sentence, fix));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::tests::found;

    fn told(service: &str, classes: &str, gateway: &str) -> Vec<String> {
        let text = format!(
            "services: {{a: {{sidecar: false, endpoints: [{{host: 10.0.0.1, port: 1}}{service}}}}}\n{classes}\n{gateway}"
        );
        found(&text, &[&NEVER_ARRIVES])
    }

    const EDGE: &str = "gateways: {edge: {listen: \"127.0.0.1:1\", routes: [{match: {path_prefix: /}, service: a}]}}";

    fn canary(header: &str, gateway: &str) -> Vec<String> {
        let service = format!(
            ", {{host: 10.0.0.2, port: 1, version: v2}}], canary: {{version: v2, weight: 5, sticky_by: {{header: {header}}}}}"
        );
        told(&service, "", gateway)
    }

    #[test]
    fn a_canarys_key_that_its_gateways_drop_is_found() {
        let path = "services.a.canary.sticky_by.header: keeps no user on one side:";
        for (header, why) in [
            (
                "user_id",
                "gateway edge takes it away, so each request is drawn anew",
            ),
            (
                "x-mumbai-user",
                "gateway edge takes it away, so each request is drawn anew",
            ),
            (
                "x-request-id",
                "gateway edge makes it anew for each request, so each request is drawn anew",
            ),
            (
                "host",
                "Envoy has it as :authority, so each request is drawn anew",
            ),
            (
                "x-forwarded-proto",
                "gateway edge writes the scheme of the connection there, so all users are one to it",
            ),
        ] {
            assert_eq!(canary(header, EDGE), [format!("{path} {why}")]);
        }
        for fine in ["x-user-id", "x-forwarded-for"] {
            assert_eq!(canary(fine, EDGE), [""; 0], "{fine}");
        }
        // What only sidecars call keeps what applications send.
        assert_eq!(canary("user_id", ""), [""; 0]);
        assert_eq!(canary("connection", "").len(), 1);
    }

    #[test]
    fn a_class_by_such_a_header_is_found_and_its_shed_too() {
        let class = |header: &str| {
            let classes =
                format!("traffic_classes: {{c: {{match: [{{path: /x, header: {{{header}}}}}]}}}}");
            told("]", &classes, EDGE)
        };
        let path = "traffic_classes.c.match[0].header";
        for (header, value, why) in [
            ("x_under", "a", "gateway edge takes it away"),
            (
                "x-forwarded-for",
                "9.9.9.9",
                "gateway edge writes the client's address there",
            ),
            (
                "x-forwarded-proto",
                "https",
                "gateway edge writes the scheme of the connection there",
            ),
            ("x-envoy-internal", "\"true\"", "Envoy takes it away"),
            ("host", "a.in", "Envoy has it as :authority"),
        ] {
            assert_eq!(
                class(&format!("{header}: {value}")),
                [format!("{path}.{header}: matches no request: {why}")]
            );
        }
        assert_eq!(class("x-forwarded-proto: http"), [""; 0]);
        assert_eq!(class("x-initiated-by: system"), [""; 0]);
        let with_callers = told(
            "]}, b: {port: 1, endpoints: [{host: 10.0.0.2, port: 2}]",
            "traffic_classes: {c: {match: [{header: {x_under: a}}]}}",
            EDGE,
        );
        assert_eq!(
            with_callers,
            [format!(
                "{path}.x_under: matches no request that comes through a gateway: gateway edge takes it away"
            )]
        );
        let shed = "traffic_classes: {c: {match: [{path: /x}], shed_during: {peak: 5}, sticky_by: {header: user_id}}}";
        assert_eq!(told("]", shed, EDGE).len(), 1);
    }

    #[test]
    fn a_route_by_such_a_header_is_found_unless_the_filter_writes_it() {
        let route = |header: &str| {
            let routes = format!("{{match: {{header: {{{header}: \"a\"}}}}, service: a}}");
            let gateway = |more: &str| {
                format!("gateways: {{edge: {{listen: \"127.0.0.1:1\", {more}routes: [{routes}]}}}}")
            };
            (
                told("]", "", &gateway("")),
                told("]", "", &gateway("trust_canary_header: true, ")),
            )
        };
        for lost in ["x_under", "x-mumbai-user", "x-request-id", "expect"] {
            let (untrusted, trusted) = route(lost);
            assert_eq!((untrusted.len(), trusted.len()), (1, 1), "{lost}");
            assert!(
                untrusted[0].starts_with(&format!(
                    "gateways.edge.routes[0].match.header.{lost}: matches no request: the gateway "
                )),
                "{untrusted:?}"
            );
        }
        for fine in ["x-mumbai-class", "host", "x-user-id"] {
            let (untrusted, _) = route(fine);
            assert_eq!(untrusted, [""; 0], "{fine}");
        }
        let (untrusted, trusted) = route("x-mumbai-canary");
        assert_eq!((untrusted.len(), trusted.len()), (1, 0));
    }
}
