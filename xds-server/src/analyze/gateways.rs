//! Findings of gateways and their routes.

use std::collections::BTreeMap;

use policy::{traffic_class::PathMatch, units::ServiceName};

use super::{
    Finding, Rule, Severity,
    covers::{covers, impossible},
};
use crate::mesh::{Gateway, HostPattern, Mesh, Route};

pub(super) const ROUTE_SHADOWED: Rule = Rule {
    code: "route-shadowed",
    severity: Severity::Warning,
    finds: "a gateway's route gets no request: an earlier one, or the gateway itself (`GET /health`), answers all of them, or all that were most likely meant",
    fix: "move it before the one that shadows it, or take it out",
};

pub(super) const ROUTE_NEVER_MATCHES: Rule = Rule {
    code: "route-never-matches",
    severity: Severity::Warning,
    finds: "no request can meet all conditions of a route's match",
    fix: "leave out the condition that excludes the other",
};

pub(super) const WITHOUT_ROUTES: Rule = Rule {
    code: "gateway-without-routes",
    severity: Severity::Warning,
    finds: "a gateway has no routes: all but `GET /health` is answered with 404",
    fix: "add a route, such as `{match: {path_prefix: /}, service: order-service}`",
};

pub(super) const ANY_HOST: Rule = Rule {
    code: "gateway-any-host",
    severity: Severity::Info,
    finds: "a gateway listens beyond loopback and answers for every host that a client names",
    fix: "name its `hosts`, so that requests for others are refused",
};

pub(super) fn look(mesh: &Mesh, findings: &mut Vec<Finding>) {
    for (name, gateway) in &mesh.gateways {
        if gateway.routes.is_empty() {
            findings.push(Finding::new(
                &WITHOUT_ROUTES,
                format!("gateways.{name}"),
                "has no routes: all but GET /health is answered with 404",
                "add a route, such as {match: {path_prefix: /}, service: order-service}",
            ));
        }
        if !gateway.listen.ip().is_loopback() && gateway.hosts.contains(&HostPattern::Any) {
            findings.push(Finding::new(
                &ANY_HOST,
                format!("gateways.{name}"),
                format!(
                    "listens on {} and answers for every host that a client names",
                    gateway.listen
                ),
                "name its hosts, such as [api.example.com], so that requests for others are refused",
            ));
        }
        routes(name, gateway, findings);
    }
}

fn routes(name: &ServiceName, gateway: &Gateway, findings: &mut Vec<Finding>) {
    let by_path = ByPath::of(&gateway.routes);
    for (index, route) in gateway.routes.iter().enumerate() {
        let path = format!("gateways.{name}.routes[{index}]");
        if let Some(why) = impossible(&route.request) {
            let (path, fix) = (format!("{path}.match"), ROUTE_NEVER_MATCHES.fix);
            findings.push(Finding::new(
                &ROUTE_NEVER_MATCHES,
                path,
                format!("matches no request: {why}"),
                fix,
            ));
            continue;
        }
        if let Some(lost) = lost_to_own_health(route) {
            findings.push(Finding::new(
                &ROUTE_SHADOWED,
                path,
                format!("gets no {lost}: the gateway answers GET /health itself"),
                "use another path, such as /healthz, or name the method that is meant",
            ));
            continue;
        }
        let shadows = |earlier: &usize| {
            let earlier = gateway.routes.get(*earlier).filter(|_| *earlier < index);
            earlier.is_some_and(|earlier| shadows(gateway, earlier, route))
        };
        if let Some(earlier) = by_path.around(route).filter(shadows).min() {
            findings.push(Finding::new(
                &ROUTE_SHADOWED,
                path,
                format!("gets no request: routes[{earlier}] takes all that it matches"),
                format!("move it before routes[{earlier}], or take it out"),
            ));
        }
    }
}

/// Routes by their paths: only those on the way to a path can take its requests, and there may be thousands.
struct ByPath<'r> {
    routes: BTreeMap<&'r str, Vec<usize>>,
    /// Those that do not look at it.
    anywhere: Vec<usize>,
}

impl<'r> ByPath<'r> {
    fn of(routes: &'r [Route]) -> Self {
        let mut all = Self {
            routes: BTreeMap::new(),
            anywhere: Vec::new(),
        };
        for (index, route) in routes.iter().enumerate() {
            match &route.request.path {
                Some(PathMatch::Exact(path) | PathMatch::Prefix(path)) => {
                    all.routes.entry(path).or_default().push(index);
                }
                None => all.anywhere.push(index),
            }
        }
        all
    }

    /// Routes that may match a path of this one's: by no path, by its own, or by what comes before a slash.
    fn around(&self, route: &Route) -> impl Iterator<Item = usize> {
        let path = match (&route.request.path, &route.request.grpc_service) {
            (Some(PathMatch::Exact(path) | PathMatch::Prefix(path)), _) => path.to_string(),
            (None, Some(service)) => format!("/{service}"),
            (None, None) => String::new(),
        };
        let mut found = self.anywhere.clone();
        let slashes = path.match_indices('/').map(|(at, _)| at.max(1));
        let mut ends: Vec<usize> = slashes.chain([path.len()]).collect();
        ends.dedup();
        for end in ends {
            let routes = path.get(..end).and_then(|path| self.routes.get(path));
            found.extend(routes.into_iter().flatten());
        }
        found.into_iter()
    }
}

/// What of a route for `/health` the gateway answers itself.
fn lost_to_own_health(route: &Route) -> Option<&'static str> {
    let is_health =
        |path: &PathMatch| matches!(path, PathMatch::Exact(path) if &**path == "/health");
    route.request.path.as_ref().filter(|path| is_health(path))?;
    match route.request.method.as_deref() {
        None => Some("GET"),
        Some("GET") => Some("request"),
        Some(_) => None,
    }
}

fn shadows(gateway: &Gateway, earlier: &Route, route: &Route) -> bool {
    let hosts = match route.hosts.is_empty() {
        true => &gateway.hosts,
        false => &route.hosts,
    };
    let covered = |host: &HostPattern| earlier.hosts.iter().any(|earlier| earlier.covers(host));
    let host = earlier.hosts.is_empty() || hosts.iter().all(covered);
    host && covers(&earlier.request, &route.request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::tests::found;

    fn gateway(fields: &str, rules: &[&Rule]) -> Vec<String> {
        let text =
            format!("services: {{a: {{protocol: http2}}}}\ngateways: {{edge: {{{fields}}}}}");
        found(&text, rules)
    }

    fn with_routes(matches: &[&str]) -> Vec<String> {
        let routes = matches
            .iter()
            .map(|matched| format!("{{match: {{{matched}}}, service: a}}"));
        let routes: Vec<String> = routes.collect();
        let routes = routes.join(", ");
        gateway(
            &format!("listen: \"127.0.0.1:1\", hosts: [a.example, b.example], routes: [{routes}]"),
            &[&ROUTE_SHADOWED, &ROUTE_NEVER_MATCHES],
        )
    }

    #[test]
    fn a_route_behind_a_wider_one_is_shadowed() {
        let shadowed =
            "gateways.edge.routes[1]: gets no request: routes[0] takes all that it matches";
        for (wide, narrow) in [
            ("path_prefix: /", "path_prefix: /orders"),
            ("path_prefix: /a", "path: /a/b, method: GET"),
            ("hosts: [a.example]", "path: /a, hosts: [a.example]"),
            ("hosts: [a.example, b.example]", "path: /a"),
        ] {
            assert_eq!(with_routes(&[wide, narrow]), [shadowed], "{wide} {narrow}");
        }
        for (first, second) in [
            ("path_prefix: /orders", "path_prefix: /"),
            ("path_prefix: /, method: GET", "path_prefix: /orders"),
            ("hosts: [a.example]", "path: /a"),
            ("hosts: [a.example]", "hosts: [b.example]"),
            ("path_prefix: /, header: {x-a: \"1\"}", "path: /a"),
        ] {
            assert_eq!(with_routes(&[first, second]), [""; 0], "{first} {second}");
        }
    }

    #[test]
    fn get_health_is_the_gateways_own_and_grpc_is_never_get() {
        let own = "the gateway answers GET /health itself";
        assert_eq!(
            with_routes(&[
                "path: /health, method: POST",
                "path: /health, method: GET",
                "path: /health, header: {x-a: \"1\"}",
                "path: /health",
                "path_prefix: /health"
            ]),
            [
                format!("gateways.edge.routes[1]: gets no request: {own}"),
                format!("gateways.edge.routes[2]: gets no GET: {own}"),
                format!("gateways.edge.routes[3]: gets no GET: {own}"),
            ]
        );
        assert_eq!(
            with_routes(&["grpc_service: a.B, method: GET"]),
            ["gateways.edge.routes[0].match: matches no request: gRPC is always POST, never GET"]
        );
    }

    #[test]
    fn open_gateways_and_those_without_routes_are_told_of() {
        let both = [&ANY_HOST, &WITHOUT_ROUTES];
        let told = gateway("listen: \"0.0.0.0:80\"", &both);
        assert_eq!(told.len(), 2, "{told:?}");
        let routes = "routes: [{match: {path: /a}, service: a}]";
        for fine in [
            "listen: \"127.0.0.1:80\"",
            "listen: \"0.0.0.0:80\", hosts: [a.example]",
        ] {
            assert_eq!(gateway(&format!("{fine}, {routes}"), &both), [""; 0]);
        }
    }
}
