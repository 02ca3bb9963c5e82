//! Gateways and their routes.

use serde_json::{Value, json};

use super::{duration, object, retries_of, text, texts};
use crate::mesh::{ClientOptions, Forward, Gateway, Redirect, Rewrite, Route, RouteAction};

pub(super) fn gateway(gateway: &Gateway) -> Value {
    let Gateway {
        listen,
        hosts,
        clients:
            ClientOptions {
                trust_canary_header,
                debug_headers,
            },
        routes,
    } = gateway;
    json!({
        "listen": listen.to_string(),
        "hosts": texts(hosts),
        "trust_canary_header": trust_canary_header,
        "debug_headers": debug_headers,
        "routes": routes.iter().map(route).collect::<Vec<_>>(),
    })
}

fn route(route: &Route) -> Value {
    let Route {
        hosts,
        request,
        action,
    } = route;
    let mut conditions = request.to_json();
    if !hosts.is_empty() {
        conditions["hosts"] = texts(hosts);
    }
    let mut tree = match action {
        RouteAction::Forward(forward) => forward_of(forward),
        RouteAction::Redirect(redirect) => json!({"redirect": redirect_of(redirect)}),
    };
    tree["match"] = conditions;
    tree
}

fn forward_of(forward: &Forward) -> Value {
    let Forward {
        service,
        timeout,
        retries,
        rewrite: Rewrite { path, host },
    } = forward;
    let rewrite = object([("path", text(path.as_ref())), ("host", text(host.as_ref()))]);
    let is_rewritten = path.is_some() || host.is_some();
    object([
        ("service", Some(json!(service.as_str()))),
        ("timeout", timeout.map(duration)),
        ("retries", retries.map(retries_of)),
        ("rewrite", is_rewritten.then_some(rewrite)),
    ])
}

fn redirect_of(redirect: &Redirect) -> Value {
    let Redirect {
        https,
        host,
        port,
        path,
        path_prefix,
        status,
    } = redirect;
    object([
        ("https", Some(json!(https))),
        ("host", text(host.as_ref())),
        ("port", port.map(Value::from)),
        ("path", text(path.as_ref())),
        ("path_prefix", text(path_prefix.as_ref())),
        ("status", Some(json!(status))),
    ])
}
