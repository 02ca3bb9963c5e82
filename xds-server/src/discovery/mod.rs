//! The xDS protocol of one stream, pure: requests and views in, responses out. No clock, no
//! transport. Source of truth: "xDS REST and gRPC protocol" in Envoy's documentation, and the
//! comments of `envoy/service/discovery/v3/discovery.proto`.
//!
//! `position` is where a client stands with one type, and knows both variants of the protocol; `memo`
//! lets clients that stand at the same position take steps together; `session` keeps one stream's
//! positions (`track`) and the order between types; `request` reads what a client sends no further than needed,
//! and `payload` is what it is sent.

mod known;
mod memo;
mod payload;
mod position;
mod refusals;
mod request;
mod session;
mod sorted;
mod track;

#[cfg(test)]
mod model;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod stories;

use std::sync::Arc;

pub use known::Has;
pub use memo::Memo;
pub use payload::Payload;
pub use position::{NAME_BYTES_MAX, NAMES_MAX, Position};
pub use refusals::Refused;
pub use request::{Asked, Message, Request, RequestError};
pub use session::{Endpoints, Others, Response, STREAM_NAME_BYTES_MAX, Session};
pub use track::{Answer, Held, Nack, Status};

/// A resource's name.
pub type Name = Arc<str>;

/// The two variants of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// `Stream…`: each response of LDS and CDS is the full state.
    StateOfTheWorld,
    /// `Delta…`: differences only.
    Delta,
}

/// Names in a request, by variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interest {
    /// State of the world: all names wanted from now on, and the version it has.
    Names {
        /// `resource_names`.
        names: Vec<Name>,
        /// `version_info`.
        version: String,
    },
    /// Delta: changes of what is wanted.
    Changes {
        /// `resource_names_subscribe`.
        subscribe: Vec<Name>,
        /// `resource_names_unsubscribe`.
        unsubscribe: Vec<Name>,
        /// `initial_resource_versions`: what it kept from an earlier stream, by name.
        known: Vec<(Name, Box<str>)>,
    },
}

impl Interest {
    fn longest_name(&self) -> usize {
        let longest = |names: &[Name]| names.iter().map(|name| name.len()).max().unwrap_or(0);
        match self {
            Self::Names { names, .. } => longest(names),
            Self::Changes {
                subscribe,
                unsubscribe,
                known,
            } => {
                let known = known.iter().map(|(name, _)| name.len()).max();
                let said = longest(subscribe).max(longest(unsubscribe));
                said.max(known.unwrap_or(0))
            }
        }
    }
}
