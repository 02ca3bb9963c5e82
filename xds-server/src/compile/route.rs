//! Routes. What the filter decided, it wrote into headers: they choose among the routes of one match.

use std::collections::BTreeMap;

use policy::{
    breaker::BreakerRules,
    names,
    traffic_class::{PathMatch, RequestMatch},
    units::{ServiceName, VersionLabel},
};
use serde_json::Value;

use super::{Draft, FILTER_NAME, duration, listener::OUTBOUND, retry};
use crate::{
    mesh::{
        Forward, Gateway, HostPattern, Mesh, Redirect, Retries, Rewrite, Route, RouteAction,
        Service, Thresholds,
    },
    resource::ResourceType,
};

/// The class whose requests have Envoy's higher priority.
const GOLD: &str = "gold";

pub(super) fn gateway(mesh: &Mesh, name: &str, gateway: &Gateway) -> Draft {
    let hosts: Vec<Value> = virtual_hosts(gateway)
        .into_iter()
        .enumerate()
        .map(|(number, (routes, domains))| {
            let routes = routes.into_iter();
            let mut routes: Vec<Value> = routes
                .flat_map(|route| gateway_routes(mesh, route))
                .collect();
            routes.insert(0, health());
            let name = match number {
                0 => name.to_string(),
                _ => format!("{name}|{number}"),
            };
            tree!({"name": name, "domains": domains, "routes": routes})
        })
        .collect();
    configuration(name, hosts)
}

/// Routes by the hosts for which they are. Envoy looks at the routes of the most specific host only, so
/// each has all that hold for it. Health checks are answered whatever the host.
fn virtual_hosts(gateway: &Gateway) -> Vec<(Vec<&Route>, Vec<String>)> {
    let own = gateway.hosts.iter();
    let mut hosts: Vec<&HostPattern> = own
        .chain(gateway.routes.iter().flat_map(|route| &route.hosts))
        .chain([&HostPattern::Any])
        .collect();
    hosts.sort_unstable();
    hosts.dedup();
    let mut groups: BTreeMap<Vec<usize>, Vec<String>> = BTreeMap::new();
    for host in hosts {
        let covered = |patterns: &[HostPattern]| patterns.iter().any(|known| known.covers(host));
        let routes = gateway.routes.iter().enumerate().filter(|(_, route)| {
            covered(&gateway.hosts) && (route.hosts.is_empty() || covered(&route.hosts))
        });
        let routes = routes.map(|(index, _)| index).collect();
        groups.entry(routes).or_default().push(host.to_string());
    }
    // Those with most routes first: the gateway's name is theirs.
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(routes, _)| std::cmp::Reverse(routes.len()));
    groups
        .into_iter()
        .map(|(routes, domains)| {
            let routes = routes
                .into_iter()
                .filter_map(|index| gateway.routes.get(index));
            (routes.collect(), domains)
        })
        .collect()
}

fn gateway_routes(mesh: &Mesh, route: &Route) -> Vec<Value> {
    let matched = request_match(&route.request);
    let template = template(&route.request);
    match &route.action {
        RouteAction::Redirect(redirect) => {
            vec![tree!({
                "name": template,
                "match": matched,
                "redirect": redirection(&route.request, redirect),
                "typed_per_filter_config": without_policy(),
            })]
        }
        RouteAction::Forward(forward) => {
            let Some(service) = mesh.services.get(&forward.service) else {
                return Vec::new();
            };
            let call = Call {
                template: &template,
                matched,
                method: route.request.method.as_deref(),
                action: forward_action(&route.request, forward, service),
                retries: forward.retries.as_ref().or(service.retries.as_ref()),
                zones_stand_in: zones_stand_in(service),
            };
            to_service(mesh, &call, &forward.service, service)
        }
    }
}

/// A sidecar's routes, of the virtual hosts of the services that it may call.
pub(super) fn outbound<'v>(hosts: impl Iterator<Item = &'v Value>) -> Draft {
    configuration(OUTBOUND, hosts.cloned().collect())
}

/// A service as sidecars call it: by its name, with any port.
pub(super) fn virtual_host(mesh: &Mesh, name: &ServiceName, service: &Service) -> Value {
    let call = Call {
        template: "/*",
        matched: tree!({"prefix": "/"}),
        method: None,
        action: with_timeout(tree!({}), service.timeout),
        retries: service.retries.as_ref(),
        zones_stand_in: zones_stand_in(service),
    };
    let routes = to_service(mesh, &call, name, service);
    tree!({"name": name.as_str(), "domains": [name.as_str()], "routes": routes})
}

fn configuration(name: &str, hosts: Vec<Value>) -> Draft {
    let body = tree!({
        "name": name,
        "virtual_hosts": hosts,
        "ignore_port_in_host_matching": true,
    });
    Draft::new(ResourceType::RouteConfiguration, name, body)
}

/// Gateways answer `GET /health` themselves, and no policy counts it.
fn health() -> Value {
    tree!({
        "name": "/health",
        "match": {"path": "/health", "headers": [exactly(":method", "GET")]},
        "direct_response": {"status": 200, "body": {"inline_string": "ok\n"}},
        "typed_per_filter_config": without_policy(),
    })
}

fn without_policy() -> Value {
    tree!({FILTER_NAME: {
        "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig",
        "disabled": true,
    }})
}

/// What people are shown of a route in place of paths, which carry data of their own.
fn template(request: &RequestMatch) -> String {
    match (&request.path, &request.grpc_service) {
        (Some(PathMatch::Exact(path)), _) => path.to_string(),
        (Some(PathMatch::Prefix(prefix)), _) if &**prefix != "/" => format!("{prefix}/*"),
        (_, Some(service)) => format!("/{service}/*"),
        _ => "/*".into(),
    }
}

fn request_match(request: &RequestMatch) -> Value {
    let mut matched = match (&request.path, &request.grpc_service) {
        (Some(PathMatch::Exact(path)), _) => tree!({"path": &**path}),
        (Some(PathMatch::Prefix(prefix)), _) if &**prefix != "/" => {
            tree!({"path_separated_prefix": &**prefix})
        }
        (_, Some(service)) => tree!({"prefix": format!("/{service}/"), "grpc": {}}),
        _ => tree!({"prefix": "/"}),
    };
    if let Some(method) = &request.method {
        add_header(&mut matched, exactly(":method", method));
    }
    for (name, value) in &request.headers {
        add_header(&mut matched, exactly(name.as_str(), value));
    }
    matched
}

fn exactly(name: &str, value: &str) -> Value {
    tree!({"name": name, "string_match": {"exact": value}})
}

fn add_header(matched: &mut Value, header: Value) {
    match &mut matched["headers"] {
        Value::Array(headers) => headers.push(header),
        absent => *absent = tree!([header]),
    }
}

fn with_timeout(mut action: Value, timeout: Option<std::time::Duration>) -> Value {
    // Envoy's own, written out, is no change for it.
    if let Some(timeout) = timeout.filter(|one| *one != BreakerRules::DEFAULT_ROUTE_TIMEOUT) {
        action["timeout"] = duration(timeout);
    }
    action
}

fn forward_action(request: &RequestMatch, forward: &Forward, service: &Service) -> Value {
    let mut action = with_timeout(tree!({}), forward.timeout.or(service.timeout));
    let Rewrite { path, host } = &forward.rewrite;
    if let Some(path) = path {
        put_new_path(&mut action, request, path);
    }
    if let Some(host) = host {
        action["host_rewrite_literal"] = tree!(&**host);
    }
    action
}

/// Envoy replaces what the route matches, to the letter: `/` in `/orders` would lead to `//orders`, and
/// `/new` in place of `/` to `/neworders`.
fn put_new_path(action: &mut Value, request: &RequestMatch, new: &str) {
    let prefix = match &request.path {
        Some(PathMatch::Exact(_)) => {
            action["prefix_rewrite"] = tree!(new);
            return;
        }
        Some(PathMatch::Prefix(prefix)) => prefix.trim_end_matches('/'),
        None => "",
    };
    match (prefix, new) {
        ("", "/") => {}
        ("", new) => action["prefix_rewrite"] = tree!(format!("{new}/")),
        (prefix, "/") => {
            action["regex_rewrite"] = tree!({
                "pattern": {"regex": format!("^{}/?", escaped(prefix))},
                "substitution": "/",
            });
        }
        (_, new) => action["prefix_rewrite"] = tree!(new),
    }
}

/// A text as a regular expression that matches it alone.
fn escaped(text: &str) -> String {
    let mut regex = String::with_capacity(text.len());
    for character in text.chars() {
        if !character.is_ascii_alphanumeric() && character != '/' {
            regex.push('\\');
        }
        regex.push(character);
    }
    regex
}

fn redirection(request: &RequestMatch, redirect: &Redirect) -> Value {
    let mut action = tree!({"response_code": match redirect.status {
        302 => "FOUND",
        303 => "SEE_OTHER",
        307 => "TEMPORARY_REDIRECT",
        308 => "PERMANENT_REDIRECT",
        _ => "MOVED_PERMANENTLY",
    }});
    if redirect.https {
        action["https_redirect"] = tree!(true);
    }
    if let Some(host) = &redirect.host {
        action["host_redirect"] = tree!(&**host);
    }
    if let Some(port) = redirect.port {
        action["port_redirect"] = tree!(port);
    }
    if let Some(path) = &redirect.path {
        action["path_redirect"] = tree!(&**path);
    }
    if let Some(prefix) = &redirect.path_prefix {
        put_new_path(&mut action, request, prefix);
    }
    action
}

/// A match, and what becomes of the requests that it matches.
struct Call<'m> {
    template: &'m str,
    matched: Value,
    method: Option<&'m str>,
    action: Value,
    retries: Option<&'m Retries>,
    /// Priorities are zones that stand in for each other. Regions do so only when one is unhealthy.
    zones_stand_in: bool,
}

/// One route for each combination of what the filter decided and how the request may be tried again; the
/// first that matches counts, so those with more conditions come first.
fn to_service(mesh: &Mesh, call: &Call<'_>, name: &ServiceName, service: &Service) -> Vec<Value> {
    let canary = service.canary.as_ref().map(|canary| &canary.version);
    let versions = canary.map(Some).into_iter().chain([None]);
    let mut routes = Vec::new();
    for priority in priorities(mesh, service) {
        for version in versions.clone() {
            for methods in retry::kinds(call.retries, call.method) {
                routes.push(variant(call, name, *priority, version, *methods));
            }
        }
    }
    routes
}

fn variant(
    call: &Call<'_>,
    name: &ServiceName,
    priority: Priority,
    version: Option<&VersionLabel>,
    methods: retry::Methods,
) -> Value {
    let mut matched = call.matched.clone();
    let mut action = call.action.clone();
    if priority == Priority::OfGold {
        add_header(&mut matched, exactly(names::HEADER_CLASS, GOLD));
    }
    if priority != Priority::Default {
        action["priority"] = tree!("HIGH");
    }
    action["cluster"] = match version {
        Some(label) => {
            add_header(&mut matched, exactly(names::HEADER_VERSION, label.as_str()));
            tree!(format!("{name}|{label}"))
        }
        None => tree!(name.as_str()),
    };
    if methods == retry::Methods::Idempotent && call.method.is_none() {
        add_header(&mut matched, retry::idempotent());
    }
    if let Some(retries) = call.retries {
        let leave_priority = call.zones_stand_in;
        action["retry_policy"] = retry::policy(retries, methods, leave_priority);
    }
    tree!({
        "name": call.template,
        "match": matched,
        "route": action,
        "metadata": {"filter_metadata": {FILTER_NAME: {"service": name.as_str()}}},
    })
}

/// Whether an endpoint of another zone may answer what one of the caller's zone could not.
fn zones_stand_in(service: &Service) -> bool {
    let placement = &service.placement;
    let mut zones = service.endpoints.iter().map(|endpoint| &endpoint.zone);
    let first = zones.next();
    let several = first.is_some_and(|first| zones.any(|zone| zone != first));
    several && placement.zone_aware && placement.failover.is_empty()
}

/// By which of Envoy's two sets of limits requests are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Priority {
    /// High, for requests of class gold.
    OfGold,
    /// High, for every request.
    High,
    Default,
}

/// Where a service has limits of its own, gold is counted apart.
fn priorities(mesh: &Mesh, service: &Service) -> &'static [Priority] {
    let requests_differ = mesh
        .traffic_classes
        .iter()
        .any(|class| !class.matches.is_empty());
    if service.thresholds == Thresholds::default() {
        &[Priority::Default]
    } else if requests_differ {
        &[Priority::OfGold, Priority::Default]
    } else if service.class.as_str() == GOLD {
        &[Priority::High]
    } else {
        &[Priority::Default]
    }
}
