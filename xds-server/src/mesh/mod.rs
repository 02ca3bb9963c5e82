//! The mesh: the user's YAML, checked whole, as a model.

mod check;
mod model;
mod read;
mod zone;

#[cfg(test)]
mod tests;

pub use model::{
    ClientOptions, Endpoint, Forward, Gateway, HealthCheck, HealthCheckKind, Host, HostPattern,
    Mesh, OutlierDetection, Placement, Protocol, Proxies, Redirect, Retries, RetryBudget, Rewrite,
    Route, RouteAction, Service, Thresholds, Tracing,
};
pub use read::{Defaults, empty, read};
