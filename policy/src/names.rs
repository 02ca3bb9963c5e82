//! One dictionary of the names that other people's scripts rely on: headers, metrics, labels.

use std::fmt::Write as _;

/// Begins every header of ours in requests.
pub const HEADER_PREFIX: &str = "x-mumbai-";

/// To the upstream: `normal`, `peak_hour` or `festival`.
pub const HEADER_TRAFFIC_STATE: &str = "x-mumbai-traffic-state";
/// To the upstream: the festival's and the window's names, e.g. `Diwali,evening`.
pub const HEADER_WINDOW: &str = "x-mumbai-window";
/// To the upstream: the window's multiplier, absent when 1.
pub const HEADER_MULTIPLIER: &str = "x-mumbai-multiplier";
/// To the upstream: the traffic class.
pub const HEADER_CLASS: &str = "x-mumbai-class";
/// To the upstream: the canary's label or [`STABLE`]; absent when the service has no canary.
pub const HEADER_VERSION: &str = "x-mumbai-version";
/// From a client, where its listener trusts it: the version it asks for.
pub const HEADER_CANARY: &str = "x-mumbai-canary";
/// To the client, on a refusal: why.
pub const HEADER_REASON: &str = "x-mumbai-reason";
/// To the client, on a refusal: whole seconds until it may try again.
pub const HEADER_RETRY_AFTER: &str = "retry-after";

/// To the client, where `debug_headers` says so: everything that was decided.
pub const HEADER_DECISION: &str = "x-mumbai-decision";

/// Headers that we set for the upstream. Client copies are removed first, always.
pub const REQUEST_HEADERS: [&str; 5] = [
    HEADER_TRAFFIC_STATE,
    HEADER_WINDOW,
    HEADER_MULTIPLIER,
    HEADER_CLASS,
    HEADER_VERSION,
];

/// The version of every endpoint that is not the canary.
pub const STABLE: &str = "stable";

/// Label of a service.
pub const LABEL_SERVICE: &str = "service";
/// Label of an HTTP status; `0` for a client that left.
pub const LABEL_STATUS: &str = "status";
/// Label of a version: the canary's or [`STABLE`].
pub const LABEL_VERSION: &str = "version";
/// Label of a traffic state.
pub const LABEL_STATE: &str = "state";
/// Label of a zone, without its region's prefix.
pub const LABEL_ZONE: &str = "zone";
/// Label of a traffic class.
pub const LABEL_CLASS: &str = "class";
/// Label of the reason of a refusal.
pub const LABEL_REASON: &str = "reason";

/// Every label that Envoy must be told to extract from the names of our metrics.
pub const LABELS: [&str; 7] = [
    LABEL_SERVICE,
    LABEL_STATUS,
    LABEL_VERSION,
    LABEL_STATE,
    LABEL_ZONE,
    LABEL_CLASS,
    LABEL_REASON,
];

/// Value of [`LABEL_SERVICE`] for requests that belong to no configured service: labels never come
/// from a request.
pub const OTHER_SERVICE: &str = "other";

/// Counter, by service and status: every request that reached request headers, refusals included.
pub const METRIC_REQUESTS_TOTAL: &str = "mumbai_mesh_requests_total";
/// Gauge, by service: requests in flight.
pub const METRIC_ACTIVE_CONNECTIONS: &str = "mumbai_mesh_active_connections";
/// Gauge, by service: state of the worst class, 0 closed, 1 open, 2 half-open.
pub const METRIC_CIRCUIT_BREAKER_STATE: &str = "mumbai_mesh_circuit_breaker_state";
/// Histogram, by service, in Envoy: whole milliseconds.
pub const METRIC_RESPONSE_TIME_MILLISECONDS: &str = "mumbai_mesh_response_time_milliseconds";
/// Histogram, by service, on the server's page: seconds.
pub const METRIC_RESPONSE_TIME_SECONDS: &str = "mumbai_mesh_response_time_seconds";
/// Gauge, by zone, in Envoy: 150 for a multiplier of 1.5.
pub const METRIC_PEAK_HOUR_MULTIPLIER_PERCENT: &str = "mumbai_peak_hour_multiplier_percent";
/// Gauge, by zone, on the server's page: 1.5.
pub const METRIC_PEAK_HOUR_MULTIPLIER: &str = "mumbai_peak_hour_multiplier";
/// Gauge in Envoy: 200 for a festival's factor of 2.
pub const METRIC_FESTIVAL_TRAFFIC_FACTOR_PERCENT: &str = "mumbai_festival_traffic_factor_percent";
/// Gauge on the server's page: 2.0.
pub const METRIC_FESTIVAL_TRAFFIC_FACTOR: &str = "mumbai_festival_traffic_factor";
/// Gauge, by state: 1 for the state in force, 0 for the others.
pub const METRIC_TRAFFIC_STATE: &str = "mumbai_traffic_state";
/// Counter, by service and reason: requests that policy refused.
pub const METRIC_REFUSALS_TOTAL: &str = "mumbai_mesh_refusals_total";
/// Counter, by service and version: requests that the canary's split decided.
pub const METRIC_CANARY_REQUESTS_TOTAL: &str = "mumbai_mesh_canary_requests_total";

/// Counter, by service and version: requests that a canary in `mode: observe` would have served.
pub const METRIC_OBSERVED_CANARY_REQUESTS_TOTAL: &str =
    "mumbai_mesh_observed_canary_requests_total";
/// Counter, by service and version: requests that stable served for a canary whose breaker is open.
pub const METRIC_CANARY_FALLBACKS_TOTAL: &str = "mumbai_mesh_canary_fallbacks_total";
/// Counter, by service and reason: requests that rules in `mode: observe` would have refused.
pub const METRIC_OBSERVED_REFUSALS_TOTAL: &str = "mumbai_mesh_observed_refusals_total";
/// Counter, by service and class.
pub const METRIC_CLASS_REQUESTS_TOTAL: &str = "mumbai_mesh_class_requests_total";
/// Counter, by service and state entered: transitions of its breakers.
pub const METRIC_BREAKER_TRANSITIONS_TOTAL: &str = "mumbai_mesh_circuit_breaker_transitions_total";
/// Gauge, by service: by it workers know whether its breakers' shared memory was written. The number
/// means nothing by itself.
pub const METRIC_BREAKER_MEMORY_VERSION: &str = "mumbai_mesh_circuit_breaker_memory_version";
/// Gauge, by service and version: state of the canary's worst class.
pub const METRIC_CANARY_BREAKER_STATE: &str = "mumbai_mesh_canary_breaker_state";

/// A metric's name as Envoy takes it: each label as `label.=.value;.`, then the name. The tags of the
/// bootstrap turn it back into labels.
pub fn metric_name(labels: &[(&str, &str)], name: &str) -> String {
    let mut encoded = String::new();
    for (label, value) in labels {
        // Writing to a String cannot fail.
        let _ = write!(encoded, "{label}.=.{value};.");
    }
    encoded.push_str(name);
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_headers_of_ours_begin_alike() {
        let ours = REQUEST_HEADERS.iter().chain([&HEADER_CANARY]);
        assert!(ours.into_iter().all(|name| name.starts_with(HEADER_PREFIX)));
    }

    #[test]
    fn labels_stand_before_the_name_in_envoys_and_istios_encoding() {
        let labels = [(LABEL_SERVICE, "order-service"), (LABEL_STATUS, "200")];
        assert_eq!(
            metric_name(&labels, METRIC_REQUESTS_TOTAL),
            "service.=.order-service;.status.=.200;.mumbai_mesh_requests_total"
        );
    }
}
