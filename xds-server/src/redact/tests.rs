use serde_json::json;

use super::*;
use crate::compile::Encoder;

const KEY: &str = "-----BEGIN PRIVATE KEY----- known-canary";

struct Subject {
    encoder: Encoder,
    redactor: Redactor,
}

impl Subject {
    fn new() -> Self {
        let encoder = Encoder::new().unwrap();
        Self {
            redactor: Redactor::new(encoder.descriptors()),
            encoder,
        }
    }

    fn encoded(&self, kind: ResourceType, body: &Json) -> Bytes {
        let name = kind.url().rsplit('/').next().unwrap();
        let descriptor = self.encoder.descriptors().get_message_by_name(name);
        let message = DynamicMessage::deserialize(descriptor.unwrap(), body).unwrap();
        message.encode_to_vec().into()
    }

    /// What people are shown. The canary is in none of the forms.
    #[track_caller]
    fn shown(&self, kind: ResourceType, body: &Json) -> Json {
        let encoded = self.encoded(kind, body);
        let plain = self.redactor.body(kind, &encoded);
        let json = self.redactor.json(kind, &encoded).unwrap();
        let in_bytes = String::from_utf8_lossy(&plain).contains("canary");
        assert!(!in_bytes && !json.to_string().contains("canary"), "{json}");
        assert_eq!(self.redactor.json(kind, &plain).unwrap(), json);
        json
    }
}

fn tls(key: &str) -> Json {
    json!({"common_tls_context": {"tls_certificates": [{
        "certificate_chain": {"inline_string": "public chain"},
        "private_key": {"inline_string": key},
        "password": {"inline_bytes": "Y2FuYXJ5"}, // "canary"
    }]}})
}

fn socket(config: &Json) -> Json {
    json!({"name": "orders", "transport_socket": {"name": "tls", "typed_config": config}})
}

fn upstream(context: &Json) -> Json {
    let mut config = context.clone();
    config["@type"] =
        json!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext");
    config
}

#[test]
fn a_secrets_key_is_taken_out_and_its_certificate_stays() {
    let subject = Subject::new();
    let secret = json!({"name": "orders", "tls_certificate": tls(KEY)["common_tls_context"]["tls_certificates"][0]});
    let shown = subject.shown(ResourceType::Secret, &secret);
    let certificate = &shown["tls_certificate"];
    assert_eq!(shown["name"], "orders");
    assert_eq!(
        certificate["certificate_chain"]["inline_string"],
        "public chain"
    );
    assert_eq!(certificate["private_key"]["inline_string"], REDACTED);
    assert_eq!(certificate["password"]["inline_bytes"], "W3JlZGFjdGVkXQ==");
}

#[test]
fn session_tickets_and_generic_secrets_are_taken_out() {
    let subject = Subject::new();
    let tickets = json!({"name": "t", "session_ticket_keys": {"keys": [
        {"inline_string": "canary one"}, {"filename": "/canary"},
    ]}});
    let shown = subject.shown(ResourceType::Secret, &tickets);
    assert_eq!(
        shown["session_ticket_keys"]["keys"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let generic = json!({"name": "g", "generic_secret": {
        "secret": {"inline_string": "canary"}, "secrets": {"user": {"inline_string": "canary"}},
    }});
    let shown = subject.shown(ResourceType::Secret, &generic);
    let secrets = &shown["generic_secret"]["secrets"];
    assert_eq!(secrets["user"]["inline_string"], REDACTED);
}

#[test]
fn a_key_in_a_transport_socket_is_taken_out_however_deep_it_is_packed() {
    let subject = Subject::new();
    let cluster = socket(&upstream(&tls(KEY)));
    let shown = subject.shown(ResourceType::Cluster, &cluster);
    let config = &shown["transport_socket"]["typed_config"];
    let certificate = &config["common_tls_context"]["tls_certificates"][0];
    assert_eq!(certificate["private_key"]["inline_string"], REDACTED);
    assert_eq!(
        certificate["certificate_chain"]["inline_string"],
        "public chain"
    );

    let mut inner = upstream(&tls(KEY));
    for _ in 0..2 * PACKED_DEPTH_MAX {
        inner = json!({
            "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            "name": "wrapper", "typed_config": inner,
        });
    }
    subject.shown(ResourceType::Cluster, &socket(&inner));
}

#[test]
fn what_is_packed_by_an_unknown_type_is_not_shown() {
    use envoy_types::pb::{envoy::config::core::v3::TypedExtensionConfig, google::protobuf::Any};
    let subject = Subject::new();
    let extension = TypedExtensionConfig {
        name: "ours".into(),
        typed_config: Some(Any {
            type_url: "type.googleapis.com/our.own.Thing".into(),
            value: b"canary".to_vec(),
        }),
    };
    let encoded: Bytes = extension.encode_to_vec().into();
    let plain = subject
        .redactor
        .body(ResourceType::ExtensionConfig, &encoded);
    let plain = TypedExtensionConfig::decode(plain).unwrap();
    assert_eq!(plain.name, "ours");
    let packed = plain.typed_config.unwrap();
    assert_eq!(packed.type_url, "type.googleapis.com/our.own.Thing");
    assert!(packed.value.is_empty());
}

#[test]
fn what_has_no_secret_keeps_its_bytes() {
    let subject = Subject::new();
    let cluster = socket(&upstream(&json!({"sni": "orders.example"})));
    let encoded = subject.encoded(ResourceType::Cluster, &cluster);
    assert_eq!(
        subject.redactor.body(ResourceType::Cluster, &encoded),
        encoded
    );
}

#[test]
fn garbage_shows_nothing() {
    let subject = Subject::new();
    let garbage = Bytes::from_static(b"\xff\xff canary");
    assert!(
        subject
            .redactor
            .body(ResourceType::Secret, &garbage)
            .is_empty()
    );
    assert_eq!(subject.redactor.json(ResourceType::Secret, &garbage), None);
}

#[test]
fn what_envoy_marks_is_known() {
    let subject = Subject::new();
    let marked = sensitive_fields(subject.encoder.descriptors());
    let tls = "envoy.extensions.transport_sockets.tls.v3";
    for field in [
        "TlsCertificate.private_key",
        "TlsCertificate.pkcs12",
        "TlsCertificate.password",
        "TlsSessionTicketKeys.keys",
        "GenericSecret.secret",
        "PrivateKeyProvider.typed_config",
    ] {
        assert!(marked.contains(&format!("{tls}.{field}")), "{field}");
    }
}

#[test]
fn what_an_envoy_shows_is_looked_through_once_more() {
    let subject = Subject::new();
    let secret = json!({"name": "orders", "tls_certificate": tls(KEY)["common_tls_context"]["tls_certificates"][0]});
    let shown = subject
        .redactor
        .shown_by_envoy(ResourceType::Secret, &secret);
    let shown = shown.unwrap();
    assert_eq!(
        shown["tls_certificate"]["private_key"]["inline_string"],
        REDACTED
    );
    assert!(!shown.to_string().contains("canary"));
    let unknown = json!({"name": "orders", "no_such_field": KEY});
    assert_eq!(
        subject
            .redactor
            .shown_by_envoy(ResourceType::Secret, &unknown),
        None
    );
}

#[test]
fn long_texts_are_told_by_their_length() {
    let mut shown = json!({"code": ["a".repeat(70_000), "short"]});
    shorten(&mut shown);
    assert_eq!(shown, json!({"code": ["[70000 bytes]", "short"]}));
}
