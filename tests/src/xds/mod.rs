//! An xDS client that does exactly what it is told to, for tests of a server's every promise: both
//! variants of the protocol, ADS and the services of single types, well-behaved or not.
//!
//! A [`Stream`] checks of each response what must hold of every response (a fresh nonce, one type, no
//! name twice), so no test can forget it. Silence is never proved by waiting: a server answers in
//! order, so a later answer on the same stream proves that nothing came before it.

mod apply;
mod connection;
mod message;
mod stream;

pub use apply::{Api, set_of};
pub use connection::{Connection, Events};
pub use message::{Request, Resource, Response};
pub use stream::{End, Stream};

/// A type of resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// CDS.
    Cluster,
    /// EDS.
    Endpoints,
    /// LDS.
    Listener,
    /// RDS.
    Route,
    /// SDS.
    Secret,
    /// ECDS.
    Extension,
    /// RTDS.
    Runtime,
}

impl Kind {
    /// Every type.
    pub const ALL: [Self; 7] = [
        Self::Cluster,
        Self::Endpoints,
        Self::Listener,
        Self::Route,
        Self::Secret,
        Self::Extension,
        Self::Runtime,
    ];
    /// Those of which a client must name what it wants.
    pub const NAMED: [Self; 5] = [
        Self::Endpoints,
        Self::Route,
        Self::Secret,
        Self::Extension,
        Self::Runtime,
    ];
    /// Those with a wildcard by an empty list of names, and of which a response is the full state.
    pub const FULL_STATE: [Self; 2] = [Self::Cluster, Self::Listener];

    /// Its URL.
    pub fn url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Extension => "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            Self::Runtime => "type.googleapis.com/envoy.service.runtime.v3.Runtime",
        }
    }

    /// Whether a state-of-the-world response says all there is, and an empty list of names asks for it.
    pub fn is_full_state(self) -> bool {
        Self::FULL_STATE.contains(&self)
    }

    fn service(self) -> (&'static str, &'static str) {
        match self {
            Self::Cluster => ("cluster.v3.ClusterDiscoveryService", "Clusters"),
            Self::Endpoints => ("endpoint.v3.EndpointDiscoveryService", "Endpoints"),
            Self::Listener => ("listener.v3.ListenerDiscoveryService", "Listeners"),
            Self::Route => ("route.v3.RouteDiscoveryService", "Routes"),
            Self::Secret => ("secret.v3.SecretDiscoveryService", "Secrets"),
            Self::Extension => (
                "extension.v3.ExtensionConfigDiscoveryService",
                "ExtensionConfigs",
            ),
            Self::Runtime => ("runtime.v3.RuntimeDiscoveryService", "Runtime"),
        }
    }
}

/// The two variants of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// `Stream…`.
    Sotw,
    /// `Delta…`.
    Delta,
}

impl Variant {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Sotw, Self::Delta];
}

/// Which service a stream is opened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// All types on one stream.
    Ads,
    /// The service of one type.
    Only(Kind),
}

impl Service {
    /// Path of its streaming method.
    pub fn path(self, variant: Variant) -> String {
        let prefix = match variant {
            Variant::Sotw => "Stream",
            Variant::Delta => "Delta",
        };
        let (service, method) = match self {
            Self::Ads => (
                "discovery.v3.AggregatedDiscoveryService",
                "AggregatedResources",
            ),
            Self::Only(kind) => kind.service(),
        };
        format!("/envoy.service.{service}/{prefix}{method}")
    }
}
