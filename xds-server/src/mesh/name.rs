//! Names of services and gateways. They become host names, SPIFFE ids and Kubernetes objects, so they are
//! DNS labels.

use policy::{reader::Reader, units::ServiceName};

/// Longest label (RFC 1035, section 2.3.4).
const BYTES_MAX: usize = 63;

/// The name that is the key of `reader`'s value.
pub(super) fn service_name(reader: &Reader<'_>, name: &str) -> Option<ServiceName> {
    let parsed = ServiceName::new(name).ok().filter(|_| is_dns_label(name));
    if parsed.is_none() {
        // As it is, not as Rust's escapes: those tear Hindi's vowels off.
        let shown = policy::reader::shown(name);
        reader.problem(
            format!(
                "the name \"{shown}\" is no DNS label: it must be 1 to {BYTES_MAX} of a-z, 0-9 and -, without - at its ends"
            ),
            closest(name).map(|closest| format!("did you mean {closest:?}?")),
        );
    }
    parsed
}

/// RFC 1123, in lower case.
fn is_dns_label(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=BYTES_MAX).contains(&name.len())
        && name.bytes().all(legal)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// The label that somebody most likely meant, where only case and separators are wrong.
fn closest(name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    let label = lower.replace([' ', '_', '.', '/'], "-");
    let label = label.trim_matches('-');
    is_dns_label(label).then(|| label.to_string())
}

#[cfg(test)]
mod tests {
    use policy::reader::Problems;
    use serde_json::Value;

    use super::*;

    fn told(name: &str) -> Option<String> {
        let problems = Problems::new();
        let read = service_name(&Reader::root(&Value::Null, &problems), name);
        let problem = problems.into_vec().pop();
        assert_eq!(read.is_some(), problem.is_none(), "{name:?}");
        problem.map(|problem| problem.to_string())
    }

    #[test]
    fn services_are_dns_labels() {
        for legal in ["a", "order-service", "7-eleven", &"a".repeat(63)] {
            assert_eq!(told(legal), None, "{legal}");
        }
        for wrong in ["", "-", "a\nb", "भुगतान", "متجر", &"a".repeat(64)] {
            let told = told(wrong).unwrap();
            assert!(told.contains("is no DNS label"), "{told}");
            assert!(!told.contains("did you mean"), "{told}");
        }
    }

    #[test]
    fn the_label_that_was_meant_is_named() {
        for wrong in ["Order_Service", "order.service", "-order service-"] {
            let told = told(wrong).unwrap();
            assert!(
                told.ends_with("(did you mean \"order-service\"?)"),
                "{told}"
            );
        }
    }
}
