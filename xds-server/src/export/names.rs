//! What Kubernetes takes as names and how much it takes.

use std::{fmt, str::FromStr};

use policy::reader::Problem;
use serde_json::{Map, Value};

use super::problem;

/// All keys and values of a ConfigMap together; of a Secret too.
pub(super) const DATA_BYTES_MAX: usize = 1024 * 1024;
const LABEL_BYTES_MAX: usize = 63;

/// A namespace: a DNS label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Namespace(String);

impl Namespace {
    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for Namespace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_dns_label(text) {
            return Ok(Self(text.into()));
        }
        Err(format!(
            "no name of a namespace: 1 to {LABEL_BYTES_MAX} of a-z, 0-9 and -, without - at its ends"
        ))
    }
}

/// RFC 1123: what most objects may be named.
pub fn is_dns_label(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=LABEL_BYTES_MAX).contains(&name.len())
        && name.bytes().all(legal)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// What a label's value may be; it may be empty too, which says nothing here.
pub(super) fn is_label_value(value: &str) -> bool {
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = value.as_bytes();
    bytes.len() <= LABEL_BYTES_MAX
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// A Service's name is an RFC 1035 label: it begins with a letter.
pub(super) fn no_service_name(path: &str, name: &str) -> Option<Problem> {
    let begins = name.starts_with(|first: char| first.is_ascii_lowercase());
    if begins && is_dns_label(name) {
        return None;
    }
    Some(problem(
        path,
        format!(
            "{name:?} is no name of a Kubernetes Service: 1 to {LABEL_BYTES_MAX} of a-z, 0-9 and -, beginning with a letter"
        ),
        "rename it in the mesh file, such as svc-NAME",
    ))
}

/// Names of objects that are made of a service's: `NAME-mtls-certs`.
pub(super) fn no_object_name(path: &str, name: &str) -> Option<Problem> {
    if is_dns_label(name) {
        return None;
    }
    Some(problem(
        path,
        format!(
            "{name:?} is no name of a Kubernetes object: 1 to {LABEL_BYTES_MAX} of a-z, 0-9 and -, without - at its ends"
        ),
        "give the service or gateway a shorter name in the mesh file",
    ))
}

/// Whether Kubernetes refuses this much; `fix` says what to do then.
pub(super) fn too_large(object: &str, data: &Map<String, Value>, fix: &str) -> Option<Problem> {
    let length = |value: &Value| value.as_str().map_or(0, str::len);
    let bytes: usize = data
        .iter()
        .map(|(key, value)| key.len() + length(value))
        .sum();
    if bytes <= DATA_BYTES_MAX {
        return None;
    }
    let largest = data.iter().max_by_key(|(_, value)| length(value));
    let (key, value) = largest?;
    Some(problem(
        format!("{object}.data[{key:?}]"),
        format!(
            "has {} bytes, all of {object} {bytes}: Kubernetes takes {DATA_BYTES_MAX} (1 MiB) at most",
            length(value)
        ),
        fix,
    ))
}

/// Labels that every object of ours carries, besides its own `name`.
pub(super) fn labels(name: &str, component: &str) -> Value {
    serde_json::json!({
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": "mumbai-mesh",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_begin_with_a_letter_and_other_objects_need_not() {
        assert!(no_service_name("services.a", "order-service").is_none());
        let told = no_service_name("services.7-eleven", "7-eleven")
            .unwrap()
            .to_string();
        assert!(
            told.starts_with("services.7-eleven: ") && told.contains("beginning with a letter")
        );
        assert!(no_object_name("x", "7-eleven").is_none());
        assert!(no_object_name("x", &format!("{}-mtls-certs", "a".repeat(60))).is_some());
    }

    #[test]
    fn values_of_labels() {
        for legal in ["v2", "2026.11_8", "V1-rc.1", &"a".repeat(63)] {
            assert!(is_label_value(legal), "{legal}");
        }
        for wrong in ["", "-v2", "v2.", "v 2", "v+2", &"a".repeat(64)] {
            assert!(!is_label_value(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_mebibyte_of_keys_and_values_is_the_most() {
        let mut data = Map::new();
        data.insert("k".into(), "x".repeat(DATA_BYTES_MAX - 1).into());
        assert!(too_large("ConfigMap a", &data, "fix").is_none());
        data.insert("l".into(), "".into());
        let told = too_large("ConfigMap a", &data, "fix").unwrap().to_string();
        assert!(
            told.starts_with("ConfigMap a.data[\"k\"]: has 1048575 bytes, all of "),
            "{told}"
        );
        assert!(told.ends_with("(fix)"), "{told}");
    }
}
