//! `gateways`: listeners for clients from outside, and their routes.

use std::{collections::BTreeMap, net::SocketAddr};

use policy::{
    reader::{ObjectReader, Reader},
    units::ServiceName,
};

use super::fields::named;
use crate::mesh::model::{ClientOptions, Gateway, PathMatch, Route};

pub(super) fn read_gateways(file: &mut ObjectReader<'_>) -> BTreeMap<ServiceName, Gateway> {
    let Some(gateways) = file.optional("gateways") else {
        return BTreeMap::new();
    };
    gateways
        .entries()
        .into_iter()
        .filter_map(|(name, reader)| {
            let name = named(&reader, &name, ServiceName::new);
            let gateway = read_gateway(&reader);
            Some((name?, gateway?))
        })
        .collect()
}

fn read_gateway(reader: &Reader<'_>) -> Option<Gateway> {
    let mut gateway = reader.object()?;
    gateway.not_supported(&["hosts", "tls"]);
    let listen = gateway.required("listen").and_then(|listen| {
        listen.parsed(|text| {
            text.parse::<SocketAddr>()
                .ok()
                .filter(|address| address.port() != 0)
                .ok_or("must be ADDRESS:PORT with a port from 1 to 65535, such as 0.0.0.0:10000")
        })
    });
    let mut switch = |field: &str| {
        let value = gateway.optional(field).and_then(|value| value.boolean());
        value.unwrap_or(false)
    };
    let clients = ClientOptions {
        trust_canary_header: switch("trust_canary_header"),
        debug_headers: switch("debug_headers"),
    };
    let routes = gateway.optional("routes").map_or_else(Vec::new, |list| {
        list.array()
            .into_iter()
            .filter_map(|route| read_route(&route))
            .collect()
    });
    gateway.finish();
    Some(Gateway {
        listen: listen?,
        clients,
        routes,
    })
}

fn read_route(reader: &Reader<'_>) -> Option<Route> {
    let mut route = reader.object()?;
    route.not_supported(&["redirect", "rewrite", "timeout", "retries", "hosts"]);
    let path = route
        .required("match")
        .and_then(|matched| read_match(&matched));
    let service = route
        .required("service")
        .and_then(|service| service.parsed(ServiceName::new));
    route.finish();
    Some(Route {
        path: path?,
        service: service?,
    })
}

fn read_match(reader: &Reader<'_>) -> Option<PathMatch> {
    let mut matched = reader.object()?;
    matched.not_supported(&["header", "headers", "method", "grpc_service", "hosts"]);
    let prefix = matched.optional("path_prefix");
    let exact = matched.optional("path");
    let given = (prefix.is_some(), exact.is_some());
    let prefix = prefix.and_then(|path| path.parsed(absolute_path));
    let exact = exact.and_then(|path| path.parsed(absolute_path));
    matched.finish();
    match (given, prefix, exact) {
        ((true, false), Some(prefix), None) => {
            Some(PathMatch::Prefix(without_trailing_slash(prefix)))
        }
        ((false, true), None, Some(exact)) => Some(PathMatch::Exact(exact)),
        ((true, true) | (false, false), _, _) => {
            reader.problem(
                "exactly one of path_prefix and path must be given",
                Some("for example {path_prefix: /orders}".into()),
            );
            None
        }
        // Told already.
        _ => None,
    }
}

fn absolute_path(text: &str) -> Result<String, &'static str> {
    let clean = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
    if text.starts_with('/') && text.bytes().all(clean) {
        Ok(text.to_string())
    } else {
        Err("must begin with / and hold no spaces, ? or #")
    }
}

/// `/orders/` and `/orders` are one prefix: whole segments are matched.
fn without_trailing_slash(mut prefix: String) -> String {
    while prefix.len() > 1 && prefix.ends_with('/') {
        prefix.pop();
    }
    prefix
}
