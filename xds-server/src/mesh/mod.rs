//! The mesh: the user's YAML, checked whole, as a model.

mod attempts;
mod check;
mod document;
mod entrance;
mod model;
mod name;
mod outline;
mod place;
mod read;
mod trust_domain;
mod yaml;
mod zone;

#[cfg(test)]
mod tests;

pub use attempts::{WorstCase, worst_case_attempts};
pub use check::{Labels, versions_without_endpoints};
pub use document::{
    Document, FILES_BYTES_MAX, FILES_MAX, FILES_TOO_LARGE, MeshFile, include_problem, includes,
};
pub use entrance::{Entrance, Fate};
pub use model::{
    CertificateDays, ChangeFreeze, ClientOptions, Endpoint, Forward, Frozen, FrozenFiles, Gateway,
    HealthCheck, HealthCheckKind, Host, HostPattern, Members, Mesh, MutualTls, OutlierDetection,
    Placement, Protocol, Proxies, Redirect, Retries, RetryBudget, Rewrite, Route, RouteAction,
    Service, Standing, Thresholds, Tracing,
};
pub use outline::Outline;
pub use place::{MeshProblem, Place, Position, plain};
/// A tree needs no places, and tests read many.
#[cfg(test)]
pub(crate) use read::read_mesh;
pub use read::{Defaults, Registration, empty, read};
pub use trust_domain::TrustDomain;
