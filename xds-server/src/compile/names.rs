//! Which clusters a resource names, wherever in it: routes, weights, mirrors, inline route configurations,
//! proxies of TCP, services of filters and access logs. By the names of the fields, since Envoy's API marks
//! them in no other way.

use std::{collections::BTreeSet, sync::Arc};

use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, Value};

use crate::resource::ResourceType;

/// Messages packed into messages; nothing of Envoy's comes near it.
const PACKED_DEPTH_MAX: usize = 16;

/// Each once, in order. Empty for types that name none.
pub(super) fn clusters_of(
    kind: ResourceType,
    message: &DynamicMessage,
    descriptors: &DescriptorPool,
) -> Box<[Arc<str>]> {
    if kind.is_named_by_others() {
        return Box::default();
    }
    let mut found = BTreeSet::new();
    walk(message, descriptors, 0, &mut found);
    found.into_iter().map(Arc::from).collect()
}

fn walk(
    message: &DynamicMessage,
    descriptors: &DescriptorPool,
    depth: usize,
    found: &mut BTreeSet<String>,
) {
    let descriptor = message.descriptor();
    if descriptor.full_name() == "google.protobuf.Any" {
        if depth < PACKED_DEPTH_MAX
            && let Some(packed) = unpacked(message, descriptors)
        {
            walk(&packed, descriptors, depth + 1, found);
        }
        return;
    }
    let is_weight = descriptor.name() == "ClusterWeight";
    for (field, value) in message.fields() {
        let names = matches!(field.name(), "cluster" | "cluster_name")
            || (is_weight && field.name() == "name");
        match value {
            Value::String(name) if names && !name.is_empty() => _ = found.insert(name.clone()),
            Value::Message(inner) => walk(inner, descriptors, depth, found),
            Value::List(values) => values.iter().for_each(|value| {
                if let Value::Message(inner) = value {
                    walk(inner, descriptors, depth, found);
                }
            }),
            Value::Map(values) => values.values().for_each(|value| {
                if let Value::Message(inner) = value {
                    walk(inner, descriptors, depth, found);
                }
            }),
            _ => {}
        }
    }
}

fn unpacked(any: &DynamicMessage, descriptors: &DescriptorPool) -> Option<DynamicMessage> {
    let url = any.get_field_by_name("type_url")?;
    let name = url.as_str()?.rsplit('/').next()?.to_string();
    let body = any.get_field_by_name("value")?;
    let descriptor = descriptors.get_message_by_name(&name)?;
    DynamicMessage::decode(descriptor, &**body.as_bytes()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::compile::Encoder;

    fn named(kind: ResourceType, body: &serde_json::Value) -> Vec<String> {
        let resource = Encoder::new().unwrap().resource(kind, "x", "1", body);
        let clusters = resource.unwrap().clusters;
        clusters.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_route_configuration_names_its_clusters_wherever_they_stand() {
        let route = |action: serde_json::Value| json!({"match": {"prefix": "/"}, "route": action});
        let body = json!({"name": "no", "virtual_hosts": [{"name": "no", "domains": ["no"], "routes": [
            route(json!({"cluster": "plain"})),
            route(json!({"weighted_clusters": {"clusters": [
                {"name": "stable", "weight": 90}, {"name": "canary", "weight": 10},
            ]}})),
            route(json!({"cluster_header": "no", "request_mirror_policies": [{"cluster": "mirror"}]})),
        ]}]});
        let found = named(ResourceType::RouteConfiguration, &body);
        assert_eq!(found, ["canary", "mirror", "plain", "stable"]);
    }

    #[test]
    fn a_listener_names_those_of_its_filters_too() {
        let http = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "no",
            "route_config": {"virtual_hosts": [{"name": "no", "domains": ["*"], "routes": [
                {"match": {"prefix": "/"}, "route": {"cluster": "inline"}},
            ]}]},
            "http_filters": [{"name": "no", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
                "grpc_service": {"envoy_grpc": {"cluster_name": "authz"}},
            }}],
        });
        let tcp = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "no", "cluster": "tcp",
        });
        let filters = [http, tcp].map(|config| json!({"name": "no", "typed_config": config}));
        let body = json!({"name": "no", "filter_chains": [{"filters": filters}]});
        let found = named(ResourceType::Listener, &body);
        assert_eq!(found, ["authz", "inline", "tcp"]);
    }
}
