//! Findings of redirects: a client that is sent to where it comes from asks for ever.

use std::borrow::Cow;

use policy::traffic_class::{Headers, METHOD, PATH, PathMatch, RequestMatch};

use super::{Finding, Rule, Severity};
use crate::mesh::{Gateway, HostPattern, Mesh, Redirect, Route, RouteAction};

pub(super) const LOOP: Rule = Rule {
    code: "redirect-loop",
    severity: Severity::Error,
    finds: "a redirect leads to its own route, or over others back to it: the client is sent around until it gives up",
    fix: "send it to a path or host that another route answers",
};

pub(super) fn look(mesh: &Mesh, findings: &mut Vec<Finding>) {
    for (name, gateway) in &mesh.gateways {
        for index in 0..gateway.routes.len() {
            let Some(circle) = circle(gateway, index) else {
                continue;
            };
            let (from, to) = (&circle.from, &circle.to);
            let sentence = match circle.over.as_slice() {
                [] => format!("sends {from} to {to}, which this route takes again"),
                // Each circle is told once.
                over if over.iter().any(|other| *other < index) => continue,
                over => {
                    let over: Vec<String> = over
                        .iter()
                        .map(|other| format!("routes[{other}]"))
                        .collect();
                    format!(
                        "sends {from} to {to}, and {} back to this route: a client is sent around",
                        over.join(", then ")
                    )
                }
            };
            let path = format!("gateways.{name}.routes[{index}].redirect");
            findings.push(Finding::new(&LOOP, path, sentence, LOOP.fix));
        }
    }
}

/// A circle of redirects.
struct Circle {
    /// A path that the first route takes…
    from: String,
    /// …and where it sends it.
    to: String,
    /// The routes on the way back, by their indexes.
    over: Vec<usize>,
}

/// A request as the client would send it after the redirect.
struct Sent<'r> {
    path: String,
    method: &'r str,
    request: &'r RequestMatch,
}

impl Headers for Sent<'_> {
    fn get(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let text = match name {
            PATH => self.path.as_str(),
            METHOD => self.method,
            name => {
                let mut headers = self.request.headers.iter();
                &headers.find(|(known, _)| known.as_str() == name)?.1
            }
        };
        Some(Cow::Borrowed(text.as_bytes()))
    }
}

/// The way of a request of a route's through the gateway's redirects, if it comes back to that route.
fn circle(gateway: &Gateway, start: usize) -> Option<Circle> {
    let route = gateway.routes.get(start)?;
    let hosts = match route.hosts.is_empty() {
        true => &gateway.hosts,
        false => &route.hosts,
    };
    let mut host = hosts.first()?.example();
    let mut sent = Sent {
        path: match &route.request.path {
            Some(PathMatch::Exact(path) | PathMatch::Prefix(path)) => path.to_string(),
            None => "/".into(),
        },
        method: route.request.method.as_deref().unwrap_or("GET"),
        request: &route.request,
    };
    let (from, mut to, mut over) = (sent.path.clone(), None, Vec::new());
    // Where an earlier route takes such requests, none comes to this one.
    let mut taken = Some(start).filter(|_| takes(gateway, &host, &sent) == Some(start));
    while let Some(index) = taken {
        let RouteAction::Redirect(redirect) = &gateway.routes.get(index)?.action else {
            return None;
        };
        host = next_host(gateway, redirect, host)?;
        sent = next(gateway.routes.get(index)?, redirect, sent);
        to.get_or_insert_with(|| sent.path.clone());
        taken = takes(gateway, &host, &sent);
        match taken {
            Some(back) if back == start => {
                let to = to.unwrap_or_default();
                return Some(Circle { from, to, over });
            }
            // A circle of which this route is no part.
            Some(next) if over.contains(&next) => return None,
            Some(next) => over.push(next),
            None => {}
        }
    }
    None
}

fn takes(gateway: &Gateway, host: &str, sent: &Sent<'_>) -> Option<usize> {
    let taken = gateway.route(host, sent)?;
    let mut routes = gateway.routes.iter();
    routes.position(|route| std::ptr::eq(route, taken))
}

/// Where the client asks after a redirect, if it is this gateway. Where TLS or another port is, somebody else
/// may answer.
fn next_host(gateway: &Gateway, redirect: &Redirect, host: String) -> Option<String> {
    let port = gateway.listen.port();
    if redirect.https || redirect.port.is_some_and(|other| other != port) {
        return None;
    }
    match &redirect.host {
        // With `*` the gateway need not be the one that such a host leads to.
        Some(_) if gateway.hosts.contains(&HostPattern::Any) => None,
        Some(host) => Some(host.to_string()),
        None => Some(host),
    }
}

/// What the client asks for then.
fn next<'r>(route: &Route, redirect: &Redirect, sent: Sent<'r>) -> Sent<'r> {
    let path = match (&redirect.path, &redirect.path_prefix) {
        (Some(path), _) => path.to_string(),
        (None, Some(prefix)) => {
            let matched = match &route.request.path {
                Some(PathMatch::Prefix(matched)) => matched.trim_end_matches('/'),
                _ => "",
            };
            let rest = sent.path.strip_prefix(matched).unwrap_or_default();
            match rest {
                "/" if matched.is_empty() => prefix.to_string(),
                rest => format!("{}{rest}", prefix.trim_end_matches('/')),
            }
        }
        (None, None) => sent.path,
    };
    Sent {
        path,
        // Of the others clients make a GET.
        method: match redirect.status {
            307 | 308 => sent.method,
            _ => "GET",
        },
        request: sent.request,
    }
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

    #[test]
    fn redirects_that_lead_over_others_back_are_found_once() {
        let told = |routes: &[(&str, &str)]| {
            let routes: Vec<String> = routes
                .iter()
                .map(|(matched, redirect)| {
                    format!("{{match: {{{matched}}}, redirect: {{{redirect}}}}}")
                })
                .collect();
            let text = format!(
                "gateways: {{edge: {{listen: \"127.0.0.1:8080\", routes: [{}]}}}}",
                routes.join(", ")
            );
            found(&text, &[&LOOP])
        };
        assert_eq!(
            told(&[("path: /m", "path: /n"), ("path: /n", "path: /m")]),
            [
                "gateways.edge.routes[0].redirect: sends /m to /n, and routes[1] back to this route: a client is sent around"
            ]
        );
        let three = [
            ("path: /start", "path: /a"),
            ("path_prefix: /a", "path_prefix: /b"),
            ("path_prefix: /b", "path_prefix: /c"),
            ("path_prefix: /c", "path_prefix: /a"),
        ];
        assert_eq!(
            told(&three),
            [
                "gateways.edge.routes[1].redirect: sends /a to /b, and routes[2], then routes[3] back to this route: a client is sent around"
            ]
        );
        assert_eq!(told(&three[..3]), [""; 0]);
        let elsewhere = [("path: /m", "path: /n"), ("path: /n", "path: /m, port: 80")];
        assert_eq!(told(&elsewhere), [""; 0]);
    }
}
