//! Listeners: a gateway's public one, a sidecar's inbound and outbound ones.

use policy::{names, units::ServiceName};
use serde_json::Value;

use super::{
    Draft, FILTER_NAME, NodeSpec, ads, connection_life, observe, protocol_options, socket_address,
    tls::{self, Inbound},
};
use crate::{
    mesh::{Gateway, Mesh, Service},
    resource::ResourceType,
};

/// Name of a sidecar's outbound listener and of its routes.
pub(super) const OUTBOUND: &str = "outbound";
const INBOUND: &str = "inbound";

pub(super) fn gateway(mesh: &Mesh, name: &str, gateway: &Gateway) -> Draft {
    let mut manager = connection_manager(mesh, name, name, routes_by_ads(name), true);
    // The edge: the peer's own address counts, and paths have one spelling before they are matched.
    manager["use_remote_address"] = tree!(true);
    manager["normalize_path"] = tree!(true);
    manager["merge_slashes"] = tree!(true);
    // `x_mumbai_class` is `x-mumbai-class` to applications behind WSGI or CGI.
    manager["common_http_protocol_options"]["headers_with_underscores_action"] =
        tree!("DROP_HEADER");
    let trusted = gateway.clients.trust_canary_header;
    manager["early_header_mutation_extensions"] = tree!([forget_our_headers(trusted)]);
    let address = socket_address(gateway.listen.ip(), gateway.listen.port());
    listener(name, address, "OUTBOUND", manager, Inbound::Plain)
}

/// Where a sidecar's application finds the mesh: plaintext on loopback.
pub(super) fn outbound(mesh: &Mesh, service: &str, node: &NodeSpec) -> Draft {
    let manager = connection_manager(mesh, service, OUTBOUND, routes_by_ads(OUTBOUND), true);
    let address = socket_address(node.outbound.ip(), node.outbound.port());
    listener(OUTBOUND, address, "OUTBOUND", manager, Inbound::Plain)
}

/// Where a sidecar receives for its application: listener and cluster, when the node's port is
/// known. Policy was decided by the caller's side, so no filter stands here.
pub(super) fn inbound(
    mesh: &Mesh,
    name: &ServiceName,
    service: &Service,
    node: &NodeSpec,
) -> Vec<Draft> {
    let Some(ports) = node.inbound(service) else {
        return Vec::new();
    };
    let cluster = format!("inbound|{}", ports.application);
    let routes = tree!({"route_config": {
        "name": INBOUND,
        "virtual_hosts": [{
            "name": name.as_str(),
            "domains": ["*"],
            // The caller's timeout counts: it takes the request back when it ends.
            "routes": [{
                "name": "/*",
                "match": {"prefix": "/"},
                "route": {"cluster": cluster.as_str(), "timeout": "0s"},
                "metadata": {"filter_metadata": {FILTER_NAME: {"service": name.as_str()}}},
            }],
        }],
    }});
    let loopback = std::net::Ipv4Addr::LOCALHOST.into();
    let application = tree!({
        "name": cluster.as_str(),
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": protocol_options(&mesh.proxies, service.protocol),
        "load_assignment": {
            "cluster_name": cluster.as_str(),
            "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": socket_address(loopback, ports.application)}},
            ]}],
        },
    });
    let address = socket_address(ports.address, ports.listen);
    let mut manager = connection_manager(mesh, name.as_str(), INBOUND, routes, false);
    tls::tell_caller(&mut manager);
    let demanded = Inbound::of(&mesh.trust_domain, service.mtls);
    vec![
        Draft::new(ResourceType::Cluster, cluster, application),
        listener(INBOUND, address, "INBOUND", manager, demanded),
    ]
}

fn listener(
    name: &str,
    address: Value,
    direction: &str,
    manager: Value,
    demanded: Inbound,
) -> Draft {
    let (chains, inspectors) = demanded.chains(manager);
    let mut body = tree!({
        "name": name,
        "address": address,
        "traffic_direction": direction,
        "filter_chains": chains,
    });
    if let Some(inspectors) = inspectors {
        body["listener_filters"] = inspectors;
    }
    Draft::new(ResourceType::Listener, name, body)
}

fn routes_by_ads(name: &str) -> Value {
    tree!({"rds": {"route_config_name": name, "config_source": ads()}})
}

/// An HTTP connection manager with `routes` (its route specifier), with or without our filter. `node` is
/// the gateway or service that it stands for.
fn connection_manager(
    mesh: &Mesh,
    node: &str,
    stat_prefix: &str,
    routes: Value,
    with_policy: bool,
) -> Value {
    let mut filters = Vec::new();
    if with_policy {
        filters.push(tree!({
            "name": FILTER_NAME,
            "config_discovery": {
                "config_source": ads(),
                "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"],
            },
        }));
    }
    filters.push(tree!({
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        },
    }));
    let mut manager = tree!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": stat_prefix,
        "common_http_protocol_options": connection_life(&mesh.proxies),
        // HTTP/1.1 clients are told with an answer, never cut off between two requests.
        "http1_safe_max_connection_duration": true,
        "http_filters": filters,
    });
    if mesh.proxies.access_log {
        manager["access_log"] = observe::access_log(stat_prefix);
    }
    if let Some(tracing) = &mesh.proxies.tracing {
        manager["tracing"] = observe::tracing(tracing, node);
    }
    if let (Value::Object(manager), Value::Object(routes)) = (&mut manager, routes) {
        manager.extend(routes);
    }
    manager
}

/// The network filter around a connection manager.
pub(super) fn filters(manager: Value) -> Value {
    tree!([{
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": manager,
    }])
}

/// Removes whatever clients say in headers that begin like ours, before anything reads them: also while the
/// filter is not there (route-level removal would come too late to keep them from choosing a route).
pub(super) fn forget_our_headers(but_canary: bool) -> Value {
    let prefix = names::HEADER_PREFIX;
    let ours = match (but_canary, names::HEADER_CANARY.strip_prefix(prefix)) {
        (true, Some(canary)) => {
            tree!({"safe_regex": {"regex": format!("{prefix}({})", not(canary))}})
        }
        _ => tree!({"prefix": prefix}),
    };
    let removals = tree!([{"remove_on_match": {"key_matcher": ours}}]);
    tree!({
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            "mutations": removals,
        },
    })
}

/// A regular expression for every text but this one, of letters; Envoy's have no word for that.
fn not(word: &str) -> String {
    let mut others = Vec::new();
    for (at, letter) in word.char_indices() {
        let same = &word[..at];
        others.push(same.to_string());
        others.push(format!("{same}[^{letter}].*"));
    }
    others.push(format!("{word}.+"));
    others.join("|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        mesh::{Defaults, Entrance, read},
        resource::NodeKey,
    };

    /// What people are told of headers is what these listeners do.
    #[test]
    fn listeners_change_headers_as_they_are_said_to() {
        let manager = |draft: Draft| -> Value {
            let chain = &draft.body["filter_chains"][0]["filters"][0];
            chain["typed_config"].clone()
        };
        for trusted in [false, true] {
            let text = format!(
                "services: {{a: {{port: 1}}}}\ngateways: {{edge: {{listen: \"127.0.0.1:1\", trust_canary_header: {trusted}}}}}"
            );
            let mesh = read(&text, &Defaults::default()).unwrap();
            let (name, edge) = mesh.gateways.iter().next().unwrap();
            assert_eq!(
                Entrance::of_manager(&manager(gateway(&mesh, name.as_str(), edge))),
                Entrance::of_gateway(edge.clients)
            );
            let node = NodeKey {
                id: "a".into(),
                cluster: "a".into(),
                ..NodeKey::default()
            };
            let node = NodeSpec::of(&mesh, &node);
            assert_eq!(
                Entrance::of_manager(&manager(outbound(&mesh, "a", &node))),
                Entrance::SIDECAR
            );
        }
    }

    #[test]
    fn every_text_but_one_is_matched() {
        assert_eq!(not("ab"), "|[^a].*|a|a[^b].*|ab.+");
    }
}
