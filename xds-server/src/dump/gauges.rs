//! Breakers as an Envoy's gauges show them: `/stats?format=json`. A gauge says the state of the worst
//! class of a service's version, not of which class it is.

use std::collections::BTreeMap;

use policy::{breaker::BreakerState, names};
use serde_json::Value;

/// Gauges by their names.
#[derive(Debug, Clone, Default)]
pub struct Gauges(BTreeMap<String, u64>);

impl Gauges {
    /// What of an Envoy's statistics is wanted: a regular expression for `filter=`.
    pub const FILTER: &'static str =
        "mumbai_mesh_circuit_breaker_state|mumbai_mesh_canary_breaker_state";

    /// Reads the page.
    pub fn read(page: &Value) -> Self {
        let stats = page["stats"].as_array().into_iter().flatten();
        let named = stats.filter_map(|stat| {
            let name = stat["name"].as_str()?;
            // Envoy puts `wasmcustom.` before it.
            let name = name.strip_prefix("wasmcustom.").unwrap_or(name);
            Some((name.to_string(), stat["value"].as_u64()?))
        });
        Self(named.collect())
    }

    /// The worst class of a service's version: a canary's label, or none for stable. None where the Envoy
    /// has no such gauge.
    pub fn worst(&self, service: &str, version: Option<&str>) -> Option<BreakerState> {
        let service = (names::LABEL_SERVICE, service);
        let name = match version {
            Some(version) => names::metric_name(
                &[service, (names::LABEL_VERSION, version)],
                names::METRIC_CANARY_BREAKER_STATE,
            ),
            None => names::metric_name(&[service], names::METRIC_CIRCUIT_BREAKER_STATE),
        };
        let states = [
            BreakerState::Closed,
            BreakerState::Open,
            BreakerState::HalfOpen,
        ];
        let value = usize::try_from(*self.0.get(&name)?).ok()?;
        states.get(value).copied()
    }
}
