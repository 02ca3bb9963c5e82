//! `gateways`: listeners for clients from outside, and their routes.

use std::{collections::BTreeMap, net::SocketAddr};

use policy::{
    reader::{ObjectReader, Reader},
    shapes,
    traffic_class::{PathMatch, RequestMatch},
    units::ServiceName,
};

use super::{
    fields::{absolute_path, dns_name, port, switch, timeout},
    upstream::read_route_retries,
};
use crate::mesh::{
    model::{ClientOptions, Forward, Gateway, HostPattern, Redirect, Rewrite, Route, RouteAction},
    name::service_name,
};

/// No gateway may listen on it: it stands for an address that could not be read.
pub(in crate::mesh) const UNREAD: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

/// What could not be read is told, and stands as something that contradicts nothing: the rest is looked at with
/// all other parts of the mesh.
pub(super) fn read_gateways(file: &mut ObjectReader<'_>) -> BTreeMap<ServiceName, Gateway> {
    let Some(gateways) = file.optional("gateways") else {
        return BTreeMap::new();
    };
    gateways
        .entries()
        .into_iter()
        .filter_map(|(name, reader)| {
            let name = service_name(&reader, &name);
            let gateway = read_gateway(&reader);
            Some((name?, gateway?))
        })
        .collect()
}

fn read_gateway(reader: &Reader<'_>) -> Option<Gateway> {
    let mut gateway = reader.object()?;
    gateway.not_supported(&["tls"]);
    let listen = gateway.required("listen").and_then(|listen| {
        listen.parsed(|text| {
            text.parse::<SocketAddr>()
                .ok()
                .filter(|address| address.port() != 0)
                .ok_or("must be ADDRESS:PORT with a port from 1 to 65535, such as 0.0.0.0:10000")
        })
    });
    let hosts = gateway
        .optional("hosts")
        .map_or_else(|| vec![HostPattern::Any], |hosts| read_hosts(&hosts));
    let clients = ClientOptions {
        trust_canary_header: switch(&mut gateway, "trust_canary_header", false),
        debug_headers: switch(&mut gateway, "debug_headers", false),
    };
    let routes = gateway.optional("routes").map_or_else(Vec::new, |list| {
        list.array()
            .iter()
            .map(|route| read_route(route, &hosts).unwrap_or_else(unread_route))
            .collect()
    });
    gateway.finish();
    Some(Gateway {
        listen: listen.unwrap_or(UNREAD),
        hosts,
        clients,
        routes,
    })
}

fn read_hosts(reader: &Reader<'_>) -> Vec<HostPattern> {
    let before = reader.found();
    let mut hosts = Vec::new();
    for host in reader.array() {
        let Some(pattern) = host.parsed(host_pattern) else {
            continue;
        };
        if hosts.contains(&pattern) {
            host.problem(format!("{pattern} stands here twice"), None);
        } else {
            hosts.push(pattern);
        }
    }
    if hosts.is_empty() && reader.found() == before {
        reader.problem(
            "must name at least one host",
            Some("leave it out for all hosts".into()),
        );
    }
    hosts
}

fn host_pattern(text: &str) -> Result<HostPattern, String> {
    let wrong = || {
        format!(
            "{text:?} must be a host such as api.example.com, without port, or *.example.com, or *"
        )
    };
    match text.strip_prefix("*.") {
        _ if text == "*" => Ok(HostPattern::Any),
        Some(rest) => dns_name(rest)
            .map(|name| HostPattern::Below(format!(".{name}").into()))
            .ok_or_else(wrong),
        None => read_host(text)
            .map(|host| HostPattern::Exactly(host.into()))
            .ok_or_else(wrong),
    }
}

/// A DNS name, or an address as it stands in a URL.
fn read_host(text: &str) -> Option<String> {
    let inner = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = match inner {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => text.parse::<std::net::Ipv4Addr>().is_ok(),
    };
    match address {
        true => Some(text.to_ascii_lowercase()),
        false => dns_name(text),
    }
}

/// In the place of a route that could not be read, so that the others keep their numbers.
fn unread_route() -> Route {
    Route {
        hosts: Vec::new(),
        request: RequestMatch::default(),
        action: UNREAD_ACTION,
    }
}

/// It names no service.
const UNREAD_ACTION: RouteAction = RouteAction::Redirect(Redirect {
    https: false,
    host: None,
    port: None,
    path: None,
    path_prefix: None,
    status: 301,
});

fn read_route(reader: &Reader<'_>, gateway_hosts: &[HostPattern]) -> Option<Route> {
    let mut route = reader.object()?;
    let matched = route
        .required("match")
        .and_then(|matched| read_match(&matched, gateway_hosts));
    let redirect = route.optional("redirect");
    let action = match redirect {
        Some(redirect) => {
            for field in ["service", "timeout", "retries", "rewrite"] {
                if route.optional(field).is_some() {
                    let hint =
                        "a redirect is answered by the gateway itself; leave one of them out";
                    route.problem(field, "has no meaning beside redirect", Some(hint.into()));
                }
            }
            let request = matched.as_ref().map(|(_, request)| request);
            read_redirect(&redirect, request).map(RouteAction::Redirect)
        }
        None => read_forward(&mut route, matched.as_ref().map(|(_, request)| request))
            .map(RouteAction::Forward),
    };
    route.finish();
    let (hosts, request) = matched.unwrap_or_default();
    Some(Route {
        hosts,
        request,
        action: action.unwrap_or(UNREAD_ACTION),
    })
}

fn read_match(
    reader: &Reader<'_>,
    gateway_hosts: &[HostPattern],
) -> Option<(Vec<HostPattern>, RequestMatch)> {
    let before = reader.found();
    let mut matched = reader.object()?;
    let hosts = matched
        .optional("hosts")
        .map_or_else(Vec::new, |hosts| read_hosts(&hosts));
    let request = shapes::read_conditions(&mut matched);
    if request.grpc_service.is_some() && request.path.is_some() {
        matched.problem(
            "grpc_service",
            "is a path by itself: neither path nor path_prefix may stand beside it",
            Some("leave one of them out".into()),
        );
    }
    for host in &hosts {
        if !gateway_hosts.iter().any(|known| known.covers(host)) {
            matched.problem(
                "hosts",
                format!("the gateway does not answer for {host}"),
                Some("add it to the gateway's hosts".into()),
            );
        }
    }
    matched.finish();
    let nothing = hosts.is_empty() && request == RequestMatch::default();
    if nothing && reader.found() == before {
        reader.problem(
            "must name path_prefix, path, method, header, grpc_service or hosts",
            Some("for example {path_prefix: /orders}".into()),
        );
    }
    Some((hosts, request))
}

fn read_forward(route: &mut ObjectReader<'_>, request: Option<&RequestMatch>) -> Option<Forward> {
    let service = match route.optional("service") {
        Some(service) => service.parsed(ServiceName::new),
        None => {
            let hint = "name the service that answers, or a redirect";
            route.missing("service", Some(hint.into()));
            None
        }
    };
    let timeout = timeout(route);
    let retries = route
        .optional("retries")
        .and_then(|retries| read_route_retries(&retries, timeout));
    let rewrite = route
        .optional("rewrite")
        .and_then(|rewrite| read_rewrite(&rewrite, request));
    Some(Forward {
        service: service?,
        timeout,
        retries,
        rewrite: rewrite.unwrap_or_default(),
    })
}

/// Reads `{path: /v2/best}` or `{path_prefix: /v2}`, and `{host: orders.internal}`.
fn read_rewrite(reader: &Reader<'_>, request: Option<&RequestMatch>) -> Option<Rewrite> {
    let mut rewrite = reader.object()?;
    let (path, path_prefix) = read_new_path(&mut rewrite, request, true);
    let host = rewrite
        .optional("host")
        .and_then(|host| read_new_host(&host));
    rewrite.finish();
    Some(Rewrite {
        path: path.or(path_prefix),
        host,
    })
}

/// Reads `{https: true, host: www.example.com, port: 443, path_prefix: /new, status: 308}`.
fn read_redirect(reader: &Reader<'_>, request: Option<&RequestMatch>) -> Option<Redirect> {
    let before = reader.found();
    let mut redirect = reader.object()?;
    let https = switch(&mut redirect, "https", false);
    let host = redirect
        .optional("host")
        .and_then(|host| read_new_host(&host));
    let port = port(&mut redirect, "port");
    let (path, path_prefix) = read_new_path(&mut redirect, request, false);
    let status = redirect.optional("status").and_then(|status| {
        let number = u16::try_from(status.integer(300..=399)?).ok()?;
        if !Redirect::STATUSES.contains(&number) {
            status.problem(
                format!("must be 301, 302, 303, 307 or 308, not {number}"),
                Some("308 keeps the method and is remembered by clients; 307 is not".into()),
            );
        }
        Some(number)
    });
    redirect.finish();
    let same =
        !https && host.is_none() && port.is_none() && path.is_none() && path_prefix.is_none();
    if same && reader.found() == before {
        reader.problem(
            "leads back to where the client came from",
            Some("name https: true, host, port, path or path_prefix".into()),
        );
    }
    Some(Redirect {
        https,
        host,
        port,
        path,
        path_prefix,
        status: status.unwrap_or(301),
    })
}

/// A whole path, or a prefix for the one that the route matches. `exact` wants a route that matches one
/// path for the former: others would lose the rest of theirs.
fn read_new_path(
    object: &mut ObjectReader<'_>,
    request: Option<&RequestMatch>,
    exact: bool,
) -> (Option<Box<str>>, Option<Box<str>>) {
    let mut read = |field: &str| {
        let reader = object.optional(field)?;
        let path = reader.parsed(absolute_path)?;
        Some((reader, Box::<str>::from(path)))
    };
    let (path, prefix) = (read("path"), read("path_prefix"));
    if path.is_some() && prefix.is_some() {
        object.problem(
            "path",
            "at most one of path and path_prefix may be given",
            None,
        );
    }
    let Some(request) = request else {
        return (path.map(|(_, path)| path), prefix.map(|(_, prefix)| prefix));
    };
    let matches_exactly = matches!(request.path, Some(PathMatch::Exact(_)));
    if let Some((reader, _)) = &path
        && exact
        && !matches_exactly
    {
        reader.problem(
            "needs a route whose match names a path",
            Some("use path_prefix, which keeps what follows".into()),
        );
    }
    if let Some((reader, _)) = &prefix
        && (matches_exactly || request.grpc_service.is_some())
    {
        reader.problem(
            "needs a route that matches by path_prefix",
            Some("match by path_prefix, or use path".into()),
        );
    }
    (
        path.map(|(_, path)| path),
        prefix.map(|(_, prefix)| match prefix.trim_end_matches('/') {
            "" => "/".into(),
            trimmed => trimmed.into(),
        }),
    )
}

fn read_new_host(reader: &Reader<'_>) -> Option<Box<str>> {
    reader.parsed(|text| {
        let host = read_host(text).ok_or_else(|| {
            format!("{text:?} must be a host such as api.example.com, without port")
        })?;
        Ok::<_, String>(host.into())
    })
}
