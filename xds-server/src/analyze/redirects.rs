//! Findings of redirects: a client that is sent to where it comes from asks for ever.

use std::borrow::Cow;

use policy::traffic_class::{Headers, METHOD, PATH, PathMatch, RequestMatch};

use super::{Finding, Rule, Severity};
use crate::mesh::{Gateway, HostPattern, Mesh, Redirect, Route, RouteAction};

pub(super) const LOOP: Rule = Rule {
    code: "redirect-loop",
    severity: Severity::Error,
    finds: "a redirect leads to its own route: the client is sent around until it gives up",
    fix: "send it to a path or host that another route answers",
};

pub(super) fn look(mesh: &Mesh, findings: &mut Vec<Finding>) {
    for (name, gateway) in &mesh.gateways {
        for (index, route) in gateway.routes.iter().enumerate() {
            let RouteAction::Redirect(redirect) = &route.action else {
                continue;
            };
            if let Some((from, to)) = own_target(gateway, route, redirect) {
                findings.push(Finding::new(
                    &LOOP,
                    format!("gateways.{name}.routes[{index}].redirect"),
                    format!("sends {from} to {to}, which this route takes again"),
                    LOOP.fix,
                ));
            }
        }
    }
}

/// A request as the client would send it after the redirect.
struct Sent<'r> {
    path: &'r str,
    method: &'r str,
    request: &'r RequestMatch,
}

impl Headers for Sent<'_> {
    fn get(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let text = match name {
            PATH => self.path,
            METHOD => self.method,
            name => {
                let mut headers = self.request.headers.iter();
                &headers.find(|(known, _)| known.as_str() == name)?.1
            }
        };
        Some(Cow::Borrowed(text.as_bytes()))
    }
}

/// What a request of the route asks for, and where it is sent, if the gateway takes it by the same route
/// there. Where TLS or another port is, somebody else may answer.
fn own_target(gateway: &Gateway, route: &Route, redirect: &Redirect) -> Option<(String, String)> {
    let port = gateway.listen.port();
    if redirect.https || redirect.port.is_some_and(|other| other != port) {
        return None;
    }
    let from = match &route.request.path {
        Some(PathMatch::Exact(path) | PathMatch::Prefix(path)) => &**path,
        None => "/",
    };
    let to = match (&redirect.path, &redirect.path_prefix) {
        (Some(path), _) | (None, Some(path)) => &**path,
        (None, None) => from,
    };
    let hosts = match route.hosts.is_empty() {
        true => &gateway.hosts,
        false => &route.hosts,
    };
    let host = match &redirect.host {
        // With `*` the gateway need not be the one that such a host leads to.
        Some(_) if hosts.contains(&HostPattern::Any) => return None,
        Some(host) => host.to_string(),
        None => hosts.first()?.example(),
    };
    let before = Sent {
        path: from,
        method: route.request.method.as_deref().unwrap_or("GET"),
        request: &route.request,
    };
    let after = Sent {
        path: to,
        // Of the others clients make a GET.
        method: match redirect.status {
            307 | 308 => before.method,
            _ => "GET",
        },
        request: &route.request,
    };
    let takes = |sent: &Sent<'_>| {
        let taken = gateway.route(&host, sent);
        taken.is_some_and(|taken| std::ptr::eq(taken, route))
    };
    // Where an earlier route takes such requests, none comes to this one.
    (takes(&before) && takes(&after)).then(|| (from.into(), to.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::tests::found;

    fn told(matched: &str, redirect: &str, earlier: &str) -> Vec<String> {
        let text = format!(
            "services: {{a: {{}}}}\ngateways: {{edge: {{listen: \"127.0.0.1:8080\", hosts: [a.example, \"*.b.example\"], routes: [{earlier}{{match: {{{matched}}}, redirect: {{{redirect}}}}}]}}}}"
        );
        found(&text, &[&LOOP])
    }

    #[test]
    fn a_redirect_to_its_own_route_is_a_loop() {
        assert_eq!(
            told("path: /x", "path: /x", ""),
            ["gateways.edge.routes[0].redirect: sends /x to /x, which this route takes again"]
        );
        for (matched, redirect) in [
            ("path_prefix: /", "path: /new"),
            ("path_prefix: /old", "path_prefix: /old/new"),
            ("path: /x", "path: /x, port: 8080"),
            ("path: /x", "path: /x, host: a.example"),
            ("path: /x, hosts: [\"*.b.example\"]", "host: x.b.example"),
            ("path: /x, method: POST", "path: /x, status: 308"),
            ("path: /x, header: {x-a: \"1\"}", "path: /x"),
        ] {
            assert_eq!(told(matched, redirect, "").len(), 1, "{matched} {redirect}");
        }
    }

    #[test]
    fn a_redirect_that_leads_elsewhere_is_fine() {
        for (matched, redirect) in [
            ("path: /x", "path: /y"),
            ("path: /x", "https: true"),
            ("path: /x", "path: /x, port: 80"),
            ("path_prefix: /old", "path_prefix: /new"),
            ("path: /x", "host: other.example"),
            ("path: /x, hosts: [a.example]", "host: x.b.example"),
            ("path: /x, method: POST", "path: /x, status: 301"),
        ] {
            assert_eq!(told(matched, redirect, ""), [""; 0], "{matched} {redirect}");
        }
        let earlier = "{match: {path: /new}, service: a}, ";
        assert_eq!(told("path_prefix: /", "path: /new", earlier), [""; 0]);
    }
}
