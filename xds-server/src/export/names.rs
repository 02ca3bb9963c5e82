//! What Kubernetes takes as names and how much it takes.

use std::{fmt, str::FromStr};

use policy::reader::Problem;
use serde_json::{Map, Value};

use super::problem;

/// All keys and values of a ConfigMap together; of a Secret too.
const DATA_BYTES_MAX: usize = 1024 * 1024;
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

/// `[HOST[:PORT]/]NAME[:TAG][@DIGEST]`, as Kubernetes takes it for an image.
pub fn is_image(text: &str) -> bool {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    let is_digest = |digest: &str| {
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let last = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match rest.get(last..).and_then(|end| end.find(':')) {
        Some(colon) => rest.split_at(last + colon),
        None => (rest, ":latest"),
    };
    let tag = tag.strip_prefix(':').unwrap_or_default();
    let is_tag = (1..=128).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let path = match name.split_once('/') {
        Some((host, path)) if host == "localhost" || host.contains(['.', ':']) => {
            is_host(host).then_some(path)
        }
        _ => Some(name),
    };
    let is_part = |part: &str| {
        let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let legal =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
        ends(part.as_bytes().first()) && ends(part.as_bytes().last()) && part.bytes().all(legal)
    };
    digest.is_none_or(is_digest)
        && is_tag
        && name.len() <= 255
        && path.is_some_and(|path| path.split('/').all(is_part))
}

/// Of a registry, with its port.
fn is_host(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, "443"));
    let is_part = |part: &str| is_dns_label(&part.to_ascii_lowercase());
    host.split('.').all(is_part) && port.parse::<u16>().is_ok_and(|port| port > 0)
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

/// The same of an object that is one field of the mesh file, as `what` such as `a VirtualService`.
pub(super) fn makes_too_much(path: &str, what: &str, bytes: usize, fix: &str) -> Option<Problem> {
    let message =
        format!("make {what} of {bytes} bytes: Kubernetes takes {DATA_BYTES_MAX} (1 MiB) at most");
    (bytes > DATA_BYTES_MAX).then(|| problem(path, message, fix))
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
    fn names_of_images() {
        let digest = format!("a@sha256:{}", "0f".repeat(32));
        for legal in [
            "mumbai-mesh:0.1.0",
            "a",
            "library/a_b.c",
            "registry.example/mumbai/mesh",
            "localhost:5000/mesh:V1_rc.2-x",
            "10.0.0.1:5000/mesh",
            &digest,
        ] {
            assert!(is_image(legal), "{legal}");
        }
        for wrong in [
            "",
            "x y",
            " x",
            "x\n",
            "X",
            "a:",
            "a:b c",
            "a:-b",
            "/a",
            "a/",
            "a//b",
            "a:1:2",
            "a::1",
            "a@sha256:12",
            "http://a/b",
            "REGISTRY/mesh",
            "registry.example:0/mesh",
            "-a",
        ] {
            assert!(!is_image(wrong), "{wrong:?}");
        }
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
