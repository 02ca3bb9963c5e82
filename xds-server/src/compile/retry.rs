//! Which failed requests Envoy tries again: one that may have done something is tried again only when it
//! surely reached nobody.

use serde_json::Value;

use super::duration;
use crate::mesh::Retries;

/// Methods that may be sent twice (RFC 9110, section 9.2.2).
pub const IDEMPOTENT: [&str; 6] = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];

/// Requests that one retry policy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Methods {
    /// That may be sent twice.
    Idempotent,
    /// All others, or all.
    Any,
}

impl Methods {
    /// After what they are tried again: Envoy's words.
    pub fn retry_on(self) -> &'static str {
        match self {
            Self::Idempotent => "connect-failure,refused-stream,reset,gateway-error",
            Self::Any => "connect-failure,refused-stream",
        }
    }
}

/// The kinds of requests of a route that are tried again differently, in the order in which they must be
/// matched. `method` is the only one that the route matches.
pub fn kinds(retries: Option<&Retries>, method: Option<&str>) -> &'static [Methods] {
    match (retries, method) {
        (None, _) => &[Methods::Any],
        (Some(_), Some(method)) if IDEMPOTENT.contains(&method) => &[Methods::Idempotent],
        (Some(_), Some(_)) => &[Methods::Any],
        (Some(_), None) => &[Methods::Idempotent, Methods::Any],
    }
}

/// The header match by which requests of idempotent methods are told apart.
pub(super) fn idempotent() -> Value {
    tree!({
        "name": ":method",
        "string_match": {"safe_regex": {"regex": IDEMPOTENT.join("|")}},
    })
}

/// `leave_priority`: a further try may go to endpoints of another priority, however healthy those of the
/// first one are thought to be.
pub(super) fn policy(retries: &Retries, methods: Methods, leave_priority: bool) -> Value {
    let mut body = tree!({
        "num_retries": retries.attempts,
        "retry_host_predicate": [{
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
            },
        }],
        "host_selection_retry_max_attempts": 3,
    });
    if leave_priority {
        body["retry_priority"] = tree!({
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                "update_frequency": 1,
            },
        });
    }
    body["retry_on"] = tree!(methods.retry_on());
    // Others have no timeout of one try: nothing may be tried again after it.
    if let (Methods::Idempotent, Some(timeout)) = (methods, retries.per_try_timeout) {
        body["per_try_timeout"] = duration(timeout);
    }
    body
}
