//! The bootstrap that `envoy -c` needs to join the mesh: pure, from a name to Envoy's configuration.

mod member;

use std::net::{IpAddr, Ipv4Addr};

use policy::names;
use serde_json::{Value, json};

pub use member::{Elsewhere, Member, MemberEndpoint, MemberError};

use crate::compile::FILTER_NAME;

/// What one Envoy is told before it finds the server.
#[derive(Debug, Clone)]
pub struct BootstrapSpec {
    /// Gateway or service: `node.cluster`.
    pub name: String,
    /// `node.id`, unique; an endpoint's id where it stands beside one.
    pub node_id: String,
    /// Host of the xDS server: IP address or DNS name.
    pub xds_host: String,
    /// Its port.
    pub xds_port: u16,
    /// Where Envoy's admin interface listens.
    pub admin: (IpAddr, u16),
    /// Locality, for windows that hold in one zone.
    pub region: Option<String>,
    /// The node's zone, e.g. `mumbai-west`.
    pub zone: Option<String>,
    /// Port of the sidecar's outbound listener, when not 15001.
    pub outbound_port: Option<u16>,
    /// The filter beside the bootstrap: absolute path and SHA-256. Without one it comes from the server.
    pub filter: Option<(String, String)>,
    /// Where it has a certificate for the xDS server.
    pub identity: Option<NodeIdentity>,
}

/// What a node shows the xDS server, and how it knows the server. Certificates stand in files, which
/// Envoy reads again when they are replaced by rename: a bootstrap's cluster cannot have them by xDS.
#[derive(Debug, Clone)]
pub struct NodeIdentity {
    /// File with the certificate and key, as SDS.
    pub certificate: String,
    /// File with the roots to trust, as SDS.
    pub roots: String,
    /// SPIFFE ID of the server.
    pub server: String,
}

const XDS_CLUSTER: &str = "mumbai_mesh_xds";

/// The whole bootstrap.
pub fn bootstrap(spec: &BootstrapSpec) -> Value {
    let xds = json!({
        "api_type": "DELTA_GRPC",
        "transport_api_version": "V3",
        "set_node_on_first_message_only": true,
        "grpc_services": [{"envoy_grpc": {"cluster_name": XDS_CLUSTER}}],
    });
    let ads = json!({"ads": {}, "resource_api_version": "V3"});
    let streamed = json!({
        "api_type": "GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": XDS_CLUSTER}}],
    });
    json!({
        "node": node(spec),
        "admin": admin(spec.admin),
        "dynamic_resources": {"ads_config": xds, "cds_config": &ads, "lds_config": &ads},
        "cluster_manager": {"load_stats_config": &streamed},
        "hds_config": &streamed,
        "static_resources": {"clusters": [xds_cluster(spec)]},
        "stats_config": stats_config(),
    })
}

/// Beyond loopback it shows things and does none: whoever reaches it could stop the Envoy there.
fn admin((host, port): (IpAddr, u16)) -> Value {
    const WHOLE: [&str; 3] = ["/", "/stats", "/runtime"];
    const BEGINNINGS: [&str; 9] = [
        "/ready",
        "/server_info",
        "/stats?",
        "/stats/prometheus",
        "/config_dump",
        "/clusters",
        "/listeners",
        "/certs",
        "/memory",
    ];
    let mut admin = json!({"address": address(&host.to_string(), port)});
    if !host.is_loopback() {
        let whole = WHOLE.map(|path| json!({"exact": path}));
        let beginnings = BEGINNINGS.map(|path| json!({"prefix": path}));
        admin["allow_paths"] = whole.into_iter().chain(beginnings).collect();
    }
    admin
}

fn node(spec: &BootstrapSpec) -> Value {
    let mut mesh = match &spec.filter {
        Some((path, sha256)) => json!({"filter_path": path, "filter_sha256": sha256}),
        None => json!({}),
    };
    if let Some(port) = spec.outbound_port {
        mesh["outbound_port"] = json!(port);
    }
    let mut node = json!({
        "id": &spec.node_id,
        "cluster": &spec.name,
        "metadata": {FILTER_NAME: mesh},
    });
    if spec.region.is_some() || spec.zone.is_some() {
        node["locality"] = json!({
            "region": spec.region.as_deref().unwrap_or_default(),
            "zone": spec.zone.as_deref().unwrap_or_default(),
        });
    }
    node
}

fn xds_cluster(spec: &BootstrapSpec) -> Value {
    let kind = if spec.xds_host.parse::<IpAddr>().is_ok() {
        "STATIC"
    } else {
        "STRICT_DNS"
    };
    let endpoint = json!({"address": address(&spec.xds_host, spec.xds_port)});
    let mut cluster = json!({
        "name": XDS_CLUSTER,
        "type": kind,
        // `localhost` and the like: a server that listens on IPv4 alone is found.
        "dns_lookup_family": "V4_PREFERRED",
        "connect_timeout": "5s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {
                    // Finds a server that vanished without a word.
                    "connection_keepalive": {"interval": "30s", "timeout": "5s"},
                }},
            },
        },
        "load_assignment": {
            "cluster_name": XDS_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
        },
    });
    if let Some(identity) = &spec.identity {
        cluster["transport_socket"] = xds_tls(identity);
    }
    cluster
}

/// Names of the secrets in their files.
const CERTIFICATE: &str = "xds_certificate";
const ROOTS: &str = "xds_roots";

fn xds_tls(identity: &NodeIdentity) -> Value {
    let file = |name: &str, path: &str| {
        json!({"name": name, "sds_config": {
            "path_config_source": {"path": path},
            "resource_api_version": "V3",
        }})
    };
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": {
                "tls_params": {
                    "tls_minimum_protocol_version": "TLSv1_3",
                    "tls_maximum_protocol_version": "TLSv1_3",
                },
                "alpn_protocols": ["h2"],
                "tls_certificate_sds_secret_configs": [file(CERTIFICATE, &identity.certificate)],
                "combined_validation_context": {
                    "default_validation_context": {"match_typed_subject_alt_names": [
                        {"san_type": "URI", "matcher": {"exact": &identity.server}},
                    ]},
                    "validation_context_sds_secret_config": file(ROOTS, &identity.roots),
                },
            },
        },
    })
}

/// Contents of the two files: the certificate with its key, and the roots.
pub fn identity_files(chain: &str, key: &str, roots: &str) -> [Value; 2] {
    let text = |text: &str| json!({"inline_string": text});
    let certificate = json!({"certificate_chain": text(chain), "private_key": text(key)});
    let roots = json!({"trusted_ca": text(roots)});
    [
        secret_file(CERTIFICATE, "tls_certificate", &certificate),
        secret_file(ROOTS, "validation_context", &roots),
    ]
}

/// Names of those secrets in the files that [`certificate_in_files`] makes for a bootstrap.
pub const XDS_SECRETS: [&str; 2] = [CERTIFICATE, ROOTS];

/// Contents of the two files where the certificate, its key and the roots lie in a folder as Kubernetes mounts
/// a Secret of type TLS. Envoy reads them again when the folder's content is replaced.
pub fn certificate_in_files(folder: &str, [certificate, roots]: [&str; 2]) -> [Value; 2] {
    let at = |file: &str| json!({"filename": format!("{folder}/{file}")});
    let followed = json!({"path": folder});
    let own = json!({
        "certificate_chain": at("tls.crt"),
        "private_key": at("tls.key"),
        "watched_directory": followed,
    });
    let trusted = json!({"trusted_ca": at("ca.crt"), "watched_directory": followed});
    [
        secret_file(certificate, "tls_certificate", &own),
        secret_file(roots, "validation_context", &trusted),
    ]
}

fn secret_file(name: &str, kind: &str, content: &Value) -> Value {
    json!({"resources": [{
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": name,
        kind: content,
    }]})
}

/// Labels of our metrics, as Envoy extracts them from a metric's name, and the histogram's buckets.
pub fn stats_config() -> Value {
    let tags: Vec<Value> = names::LABELS
        .iter()
        .map(|label| json!({"tag_name": label, "regex": format!("({label}\\.=\\.(.*?);\\.)")}))
        .collect();
    json!({
        "stats_tags": tags,
        "histogram_bucket_settings": [{
            "match": {"contains": names::METRIC_RESPONSE_TIME_MILLISECONDS},
            "buckets": [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000],
        }],
    })
}

fn address(host: &str, port: u16) -> Value {
    json!({"socket_address": {"address": host, "port_value": port}})
}

/// Admin interfaces stay on loopback unless somebody says otherwise.
pub const DEFAULT_ADMIN_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
