//! The xDS protocol of one stream, pure: requests and views in, responses out. No clock, no
//! transport. Source of truth: "xDS REST and gRPC protocol" in Envoy's documentation, and the
//! comments of `envoy/service/discovery/v3/discovery.proto`.
//!
//! `session` keeps a stream's subscriptions and the order between types; `subscription` is one type
//! of it, and knows both variants of the protocol.

mod session;
mod subscription;

#[cfg(test)]
mod model;
#[cfg(test)]
mod stories;

use std::{collections::HashMap, sync::Arc};

pub use session::Session;
pub use subscription::{Nack, Status};

use crate::resource::{Resource, ResourceType};

/// The two variants of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// `StreamAggregatedResources`: each response of LDS and CDS is the full state.
    StateOfTheWorld,
    /// `DeltaAggregatedResources`: differences only.
    Delta,
}

/// What a client said about one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The type.
    pub kind: ResourceType,
    /// Nonce of the response it answers; empty when it answers none.
    pub nonce: String,
    /// Why that response was rejected, if it was.
    pub error: Option<String>,
    /// What it wants.
    pub interest: Interest,
}

/// Names in a request, by variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interest {
    /// State of the world: all names wanted from now on, and the version it has.
    Names {
        /// `resource_names`.
        names: Vec<String>,
        /// `version_info`.
        version: String,
    },
    /// Delta: changes of what is wanted.
    Changes {
        /// `resource_names_subscribe`.
        subscribe: Vec<String>,
        /// `resource_names_unsubscribe`.
        unsubscribe: Vec<String>,
        /// `initial_resource_versions`: what it kept from an earlier stream, by name.
        known: HashMap<String, String>,
    },
}

/// What a client is told about one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The type.
    pub kind: ResourceType,
    /// Unique in its stream.
    pub nonce: String,
    /// Version of all that the client has of this type after this response.
    pub version: String,
    /// Resources, each once.
    pub resources: Vec<Arc<Resource>>,
    /// Names that are no more (delta only).
    pub removed: Vec<String>,
}
