//! Routes. A service with a canary has two routes per match: the filter's decision, which it wrote
//! into `x-mumbai-version`, chooses between them.

use policy::{names, units::ServiceName};
use serde_json::{Value, json};

use super::{Draft, FILTER_NAME, duration, listener::OUTBOUND};
use crate::{
    mesh::{Gateway, Mesh, PathMatch, Service},
    resource::ResourceType,
};

pub(super) fn gateway(mesh: &Mesh, name: &str, gateway: &Gateway) -> Draft {
    let mut routes = vec![health()];
    for route in &gateway.routes {
        if let Some(service) = mesh.services.get(&route.service) {
            routes.extend(to_service(&path(&route.path), &route.service, service));
        }
    }
    let hosts = json!([{"name": name, "domains": ["*"], "routes": routes}]);
    configuration(name, &hosts)
}

/// One virtual host per service, found by its name with any port.
pub(super) fn outbound(mesh: &Mesh) -> Draft {
    let anything = PathMatch::Prefix("/".into());
    let hosts: Vec<Value> = mesh
        .services
        .iter()
        .map(|(name, service)| {
            let routes = to_service(&path(&anything), name, service);
            json!({"name": name.as_str(), "domains": [name.as_str()], "routes": routes})
        })
        .collect();
    configuration(OUTBOUND, &json!(hosts))
}

fn configuration(name: &str, hosts: &Value) -> Draft {
    let body = json!({
        "name": name,
        "virtual_hosts": hosts,
        "ignore_port_in_host_matching": true,
    });
    Draft::new(ResourceType::RouteConfiguration, name, body)
}

/// Gateways answer health checks themselves, and no policy counts them.
fn health() -> Value {
    json!({
        "match": {"path": "/health"},
        "direct_response": {"status": 200, "body": {"inline_string": "ok\n"}},
        "typed_per_filter_config": {FILTER_NAME: {
            "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig",
            "disabled": true,
        }},
    })
}

fn path(matched: &PathMatch) -> Value {
    match matched {
        PathMatch::Exact(path) => json!({"path": path}),
        PathMatch::Prefix(prefix) if prefix == "/" => json!({"prefix": "/"}),
        PathMatch::Prefix(prefix) => json!({"path_separated_prefix": prefix}),
    }
}

fn to_service(matched: &Value, name: &ServiceName, service: &Service) -> Vec<Value> {
    let mut routes = Vec::new();
    if let Some(canary) = &service.canary {
        let mut with_version = matched.clone();
        with_version["headers"] = json!([{
            "name": names::HEADER_VERSION,
            "string_match": {"exact": canary.version.as_str()},
        }]);
        let cluster = format!("{name}|{}", canary.version);
        routes.push(route(&with_version, name, service, &cluster));
    }
    routes.push(route(matched, name, service, name.as_str()));
    routes
}

fn route(matched: &Value, name: &ServiceName, service: &Service, cluster: &str) -> Value {
    let mut action = json!({"cluster": cluster});
    if let Some(timeout) = service.timeout {
        action["timeout"] = duration(timeout);
    }
    json!({
        "match": matched,
        "route": action,
        "metadata": {"filter_metadata": {FILTER_NAME: {"service": name.as_str()}}},
    })
}
