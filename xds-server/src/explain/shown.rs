//! What is told of a decision's parts, for programs.

use schemars::JsonSchema;
use serde::Serialize;

/// A limit that holds at that time.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "ExplainedLimit")]
pub struct Limit {
    /// `class` or `service`.
    pub of: &'static str,
    /// Requests per second.
    pub per_second: u32,
    /// Requests at once.
    pub burst: u32,
    /// The field that says so: `per_second`, `at_peak` or `at_festival`.
    pub field: &'static str,
    /// `envoy`: each Envoy has all of it; `fleet`: they share it.
    pub scope: &'static str,
    /// Of `fleet`: among how many proxies it is shared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxies: Option<u32>,
    /// Of `fleet`: what one of them has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_per_second: Option<f64>,
    /// Of `fleet`: what one of them lets through at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_burst: Option<u32>,
    /// `enforce` or `observe`.
    pub mode: &'static str,
}

/// The rules of a circuit breaker at that time, and its state.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "ExplainedBreaker")]
pub struct Breaker {
    /// `closed`, `open`, `half_open` or `unknown`.
    pub state: &'static str,
    /// Failures in a row that open it.
    pub consecutive_failures: Option<u32>,
    pub error_rate: Option<ErrorRate>,
    pub slow_calls: Option<SlowCalls>,
    /// `enforce` or `observe`.
    pub mode: &'static str,
    /// How long its first opening lasts.
    pub open_for: String,
    /// How many requests try it out then.
    pub half_open_probes: u8,
}

/// The share of failures that opens a breaker.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "ExplainedErrorRate")]
pub struct ErrorRate {
    pub percent: f64,
    pub minimum_requests: u32,
    pub window: String,
}

/// The share of slow calls that opens a breaker.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "ExplainedSlowCalls")]
pub struct SlowCalls {
    /// What is slow.
    pub over: String,
    pub percent: f64,
    pub minimum_requests: u32,
    pub window: String,
}

/// A canary's weight at that time, and where the request falls.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "ExplainedCanary")]
pub struct Canary {
    /// The label of its endpoints.
    pub version: String,
    /// Percent of the users.
    pub weight: f64,
    /// The user's, of 10,000; null where it is drawn at random.
    pub bucket: Option<u16>,
    /// `latch`, `probe` or `off`.
    pub fallback: &'static str,
    /// `enforce` or `observe`.
    pub mode: &'static str,
    pub ramp: Option<Ramp>,
}

/// Where a ramp stands.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "ExplainedRamp")]
pub struct Ramp {
    pub start: String,
    pub steps_taken: usize,
    pub steps: usize,
    /// Windows and festivals for which it stands still.
    pub frozen_by: Vec<String>,
    pub next: Option<Next>,
}

/// The next step of a ramp.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "ExplainedStep")]
pub struct Next {
    pub at: String,
    /// Percent of the users.
    pub weight: f64,
}
