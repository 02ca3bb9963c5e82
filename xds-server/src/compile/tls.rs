//! TLS between Envoys: what an inbound listener demands and what a cluster shows. Both sides know each
//! other by SPIFFE ID; keys and roots come by SDS.

use policy::units::ServiceName;
use serde_json::Value;

use super::{
    OWN, TRUSTED, ads,
    listener::{filters, forget_our_headers},
};
use crate::mesh::{MutualTls, Service, TrustDomain};

/// What a listener demands of callers. Both rules of `match` stand beside `filters`.
pub(super) enum Inbound {
    /// Plaintext.
    Plain,
    /// A certificate of this mesh.
    Strict(Value),
    /// A certificate, or plaintext.
    Permissive(Value),
}

impl Inbound {
    /// As the service's `mtls` says.
    pub(super) fn of(domain: &TrustDomain, mode: MutualTls) -> Self {
        match mode {
            MutualTls::Off => Self::Plain,
            MutualTls::Strict => Self::Strict(downstream(domain)),
            MutualTls::Permissive => Self::Permissive(downstream(domain)),
        }
    }

    /// A listener's filter chains around this connection manager, and its listener filters.
    pub(super) fn chains(self, manager: Value) -> (Value, Option<Value>) {
        match self {
            Self::Plain => (tree!([{"filters": filters(manager)}]), None),
            Self::Strict(socket) => {
                let chain = tree!({"filters": filters(manager), "transport_socket": socket});
                (tree!([chain]), None)
            }
            Self::Permissive(socket) => {
                // Who shows no certificate is none of the mesh's, and is no one to decide for it.
                let mut stranger = manager.clone();
                stranger["early_header_mutation_extensions"] = tree!([forget_our_headers(false)]);
                let tls = tree!({
                    "filter_chain_match": {"transport_protocol": "tls"},
                    "filters": filters(manager),
                    "transport_socket": socket,
                });
                let plain = tree!({
                    "filter_chain_match": {"transport_protocol": "raw_buffer"},
                    "filters": filters(stranger),
                });
                (tree!([tls, plain]), Some(tree!([inspector()])))
            }
        }
    }
}

/// Sees whether a connection begins as TLS does.
fn inspector() -> Value {
    tree!({
        "name": "envoy.filters.listener.tls_inspector",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
        },
    })
}

/// A client certificate of any service or gateway of the mesh. Sessions are not resumed: every
/// connection proves who it is.
fn downstream(domain: &TrustDomain) -> Value {
    let callers = tree!({"prefix": domain.members()});
    tree!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": true,
            "disable_stateless_session_resumption": true,
            "disable_stateful_session_resumption": true,
            "common_tls_context": common(callers, &["h2", "http/1.1"]),
        },
    })
}

/// How a cluster speaks to a service's sidecars. None when they speak plaintext, or are none.
pub(super) fn upstream(
    domain: &TrustDomain,
    name: &ServiceName,
    service: &Service,
) -> Option<Value> {
    if service.mtls == MutualTls::Off {
        return None;
    }
    let service = tree!({"exact": domain.member(name)});
    Some(tree!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": domain.dns(name),
            "max_session_keys": 0,
            "common_tls_context": common(service, &[]),
        },
    }))
}

/// TLS 1.3, our own certificate, and peers whose SPIFFE ID matches.
fn common(peer: Value, protocols: &[&str]) -> Value {
    let secret = |name: &str| tree!({"name": name, "sds_config": ads()});
    let mut common = tree!({
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
        },
        "tls_certificate_sds_secret_configs": [secret(OWN)],
        "combined_validation_context": {
            "default_validation_context": {
                "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": peer}],
            },
            "validation_context_sds_secret_config": secret(TRUSTED),
        },
    });
    if !protocols.is_empty() {
        common["alpn_protocols"] = tree!(protocols);
    }
    common
}

/// Lets an application know who calls, by `x-forwarded-client-cert`: from the certificate alone, whatever
/// the caller wrote there.
pub(super) fn tell_caller(manager: &mut Value) {
    manager["forward_client_cert_details"] = tree!("SANITIZE_SET");
    manager["set_current_client_cert_details"] = tree!({"uri": true});
}
