//! What Envoys tell of requests: access log and spans. Paths and queries carry account data, so neither
//! holds them: a route's template stands in their place.

use policy::names;
use serde_json::Value;

use super::{Draft, host_address, protocol_options};
use crate::{
    mesh::{Host, Mesh, Protocol, Tracing},
    resource::ResourceType,
};

/// The cluster of the collector to which spans go.
pub(super) const COLLECTOR: &str = "mumbai_mesh_otlp";

/// One line of JSON per request, on Envoy's standard output.
pub(super) fn access_log(listener: &str) -> Value {
    let header = |name: &str| format!("%REQ({name})%");
    tree!([{
        "name": "envoy.access_loggers.stdout",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
            "log_format": {"json_format": {
                "start_time": "%START_TIME%",
                "listener": listener,
                "method": "%REQ(:METHOD)%",
                "route": "%ROUTE_NAME%",
                "service": "%METADATA(ROUTE:mumbai_mesh:service)%",
                "cluster": "%UPSTREAM_CLUSTER%",
                "upstream_host": "%UPSTREAM_HOST%",
                "protocol": "%PROTOCOL%",
                "status": "%RESPONSE_CODE%",
                "grpc_status": "%GRPC_STATUS_NUMBER%",
                "flags": "%RESPONSE_FLAGS%",
                "details": "%RESPONSE_CODE_DETAILS%",
                "reason": format!("%RESP({})%", names::HEADER_REASON),
                "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
                "duration_ms": "%DURATION%",
                "first_byte_ms": "%RESPONSE_DURATION%",
                "bytes_received": "%BYTES_RECEIVED%",
                "bytes_sent": "%BYTES_SENT%",
                "request_id": header("x-request-id"),
                // A client's own `traceparent` may hold anything.
                "trace_id": "%TRACE_ID%",
                "traffic_state": header(names::HEADER_TRAFFIC_STATE),
                "window": header(names::HEADER_WINDOW),
                "class": header(names::HEADER_CLASS),
                "version": header(names::HEADER_VERSION),
                // Who is connected, whatever `x-forwarded-for` says.
                "peer_address": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
                "peer_identity": "%DOWNSTREAM_PEER_URI_SAN%",
                "peer_serial": "%DOWNSTREAM_PEER_SERIAL%",
                "upstream_identity": "%UPSTREAM_PEER_URI_SAN%",
            }},
        },
    }])
}

/// Spans by OpenTelemetry, in the name of the node's service or gateway.
pub(super) fn tracing(tracing: &Tracing, node: &str) -> Value {
    let tag = |tag: &str, header: &str| tree!({"tag": tag, "request_header": {"name": header}});
    tree!({
        "random_sampling": {"value": tracing.sampling.percent()},
        "spawn_upstream_span": true,
        "operation": "%REQ(:METHOD)% %ROUTE_NAME%",
        // Else a span's URL holds path and query.
        "max_path_tag_length": 0,
        "custom_tags": [
            {"tag": "mumbai.service", "metadata": {
                "kind": {"route": {}},
                "metadata_key": {"key": "mumbai_mesh", "path": [{"key": "service"}]},
            }},
            tag("mumbai.traffic_state", names::HEADER_TRAFFIC_STATE),
            tag("mumbai.class", names::HEADER_CLASS),
            tag("mumbai.version", names::HEADER_VERSION),
        ],
        "provider": {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
                "grpc_service": {"envoy_grpc": {"cluster_name": COLLECTOR}, "timeout": "1s"},
                "service_name": node,
            },
        },
    })
}

/// The collector's cluster, where spans are sent at all.
pub(super) fn collector(mesh: &Mesh) -> Option<Draft> {
    let tracing = mesh.proxies.tracing.as_ref()?;
    let endpoint = tree!({"address": host_address(&tracing.host, tracing.port)});
    let body = tree!({
        "name": COLLECTOR,
        "type": match tracing.host {
            Host::Address(_) => "STATIC",
            Host::Name(_) => "STRICT_DNS",
        },
        "dns_lookup_family": "V4_PREFERRED",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": protocol_options(&mesh.proxies, Protocol::Http2),
        "load_assignment": {
            "cluster_name": COLLECTOR,
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
        },
    });
    Some(Draft::new(ResourceType::Cluster, COLLECTOR, body))
}
