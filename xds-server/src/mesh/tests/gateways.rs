//! What the mesh file says of gateways, and what is said about a wrong one.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use policy::traffic_class::Headers;

use super::services::{mesh, one, problems};
use crate::mesh::{Gateway, RetryBudget, RouteAction};

struct Request(BTreeMap<&'static str, &'static str>);

impl Headers for Request {
    fn get(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        Some(Cow::Borrowed(self.0.get(name)?.as_bytes()))
    }
}

/// The number of the route that is taken.
fn taken(gateway: &Gateway, host: &str, headers: &[(&'static str, &'static str)]) -> Option<usize> {
    let request = Request(headers.iter().copied().collect());
    let route = gateway.route(host, &request)?;
    gateway
        .routes
        .iter()
        .position(|known| std::ptr::eq(known, route))
}

#[test]
fn the_first_route_that_matches_host_path_method_header_and_grpc_service_is_taken() {
    let mesh = mesh(&one(
        "",
        "{match: {hosts: [api.x.in], path_prefix: /}, service: b},
         {match: {grpc_service: upi.v1.Pay}, service: a},
         {match: {path: /a, method: POST}, service: a},
         {match: {path_prefix: /a, header: {x-beta: \"1\"}}, service: a},
         {match: {path_prefix: /a/}, redirect: {path_prefix: /b}}",
    ));
    let edge = mesh.gateways.values().next().unwrap();
    let get = |host: &str, path: &'static str, more: &[(&'static str, &'static str)]| {
        let mut headers = vec![(":path", path), (":method", "GET")];
        headers.extend(more);
        taken(edge, host, &headers)
    };
    assert_eq!(get("api.x.in:443", "/anything", &[]), Some(0));
    let grpc = ("content-type", "application/grpc");
    assert_eq!(get("x.in", "/upi.v1.Pay/Do", &[grpc]), Some(1));
    assert_eq!(get("x.in", "/upi.v1.Pay/Do", &[]), None);
    assert_eq!(get("x.in", "/a?q", &[(":method", "POST")]), Some(2));
    assert_eq!(get("x.in", "/a/b", &[("x-beta", "1")]), Some(3));
    assert_eq!(get("x.in", "/a", &[("x-beta", "2")]), Some(4));
    assert_eq!(get("x.in", "/ab", &[]), None);
    assert_eq!(
        get("y.in", "/a", &[]),
        None,
        "the gateway does not answer for y.in"
    );
}

#[test]
fn a_routes_timeout_and_retries_count_for_the_services_breaker_and_budget() {
    let route = "{match: {path_prefix: /}, service: a, timeout: 60s, retries: {attempts: 1}}";
    let mesh = mesh(&one("timeout: 2s", route));
    let a = mesh.services.values().next().unwrap();
    assert_eq!(a.timeout, Some(Duration::from_secs(2)));
    assert_eq!(
        a.breaker.rules.lease,
        Duration::from_secs(60),
        "a probe may take so long"
    );
    assert_eq!(a.retry_budget, Some(RetryBudget::default()));
    let RouteAction::Forward(forward) = &mesh.gateways.values().next().unwrap().routes[0].action
    else {
        panic!("a redirect");
    };
    assert_eq!(forward.timeout, Some(Duration::from_secs(60)));
}

const WRONG_IN_A_ROUTE: &[(&str, &str)] = &[
    (
        "{match: {}, service: a}",
        "routes[0].match: must name path_prefix, path, method, header, grpc_service or hosts",
    ),
    (
        "{match: {path: /a, path_prefix: /a}, service: a}",
        "match.path: at most one of path_prefix and path",
    ),
    (
        "{match: {path: /a, grpc_service: a.B}, service: a}",
        "match.grpc_service: is a path by itself",
    ),
    (
        "{match: {method: get}, service: a}",
        "match.method: \"get\" is not legal",
    ),
    (
        "{match: {header: {\"a b\": x}}, service: a}",
        "match.header.a b: name:",
    ),
    (
        "{match: {hosts: [y.in]}, service: a}",
        "match.hosts: the gateway does not answer for y.in (add it to the gateway's hosts)",
    ),
    (
        "{match: {hosts: [\"x.in:80\"]}, service: a}",
        "match.hosts[0]: \"x.in:80\" must be a host such as api.example.com, without port",
    ),
    (
        "{match: {hosts: []}, service: a}",
        "match.hosts: must name at least one host",
    ),
    (
        "{match: {path: /a}}",
        "routes[0].service: must be given (name the service that answers, or a redirect)",
    ),
    (
        "{match: {path: /a}, service: nobody}",
        "routes[0].service: no service is named \"nobody\"",
    ),
    (
        "{match: {path: /a}, service: a, timeout: 0s}",
        "routes[0].timeout: must be longer than 0",
    ),
    (
        "{match: {path: /a}, service: a, retries: {attempts: 1, budget_percent: 5}}",
        "retries.budget_percent: belongs to the service",
    ),
    (
        "{match: {path_prefix: /a}, service: a, rewrite: {path: /b}}",
        "rewrite.path: needs a route whose match names a path (use path_prefix",
    ),
    (
        "{match: {path: /a}, service: a, rewrite: {path_prefix: /b}}",
        "rewrite.path_prefix: needs a route that matches by path_prefix",
    ),
    (
        "{match: {path: /a}, service: a, rewrite: {path: b}}",
        "rewrite.path: must begin with /",
    ),
    (
        "{match: {path: /a}, service: a, rewrite: {host: \"a\\r\\nb\"}}",
        "rewrite.host:",
    ),
    (
        "{match: {path: /a}, redirect: {}}",
        "routes[0].redirect: leads back to where the client came from",
    ),
    (
        "{match: {path: /a}, redirect: {https: true, status: 304}}",
        "redirect.status: must be 301, 302, 303, 307 or 308, not 304",
    ),
    (
        "{match: {path: /a}, redirect: {https: true}, service: a}",
        "routes[0].service: has no meaning beside redirect",
    ),
    (
        "{match: {path: /a}, redirect: {port: 0}}",
        "redirect.port: must be a whole number from 1 to 65535",
    ),
];

#[test]
fn every_wrong_field_of_a_route_says_its_path_what_is_legal_and_a_fix() {
    for (route, words) in WRONG_IN_A_ROUTE {
        let told = problems(&one("", route));
        assert!(
            told.iter().any(|told| told.contains(words)),
            "{route}: {told:#?}"
        );
        assert_eq!(
            told.len(),
            1,
            "{route}: one mistake, one problem: {told:#?}"
        );
    }
}
