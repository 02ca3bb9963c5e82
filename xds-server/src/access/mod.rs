//! Who may do what by the API: tokens with roles, in a file of the state dir, and what was written by whom.
//!
//! `token`, `tokens` and `gate` are pure. `file` is the tokens on disk, `owner` follows it while the server
//! runs, and `audit` keeps what was written.

pub mod audit;
mod file;
mod gate;
pub mod owner;
mod token;
mod tokens;

pub use file::{FileError, TokenFile};
pub use gate::{Caller, Gate, Need, Refusal, Request};
pub use token::{Secret, TokenName};
pub use tokens::{Token, Tokens, TokensError};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What somebody may do; each role may do what the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look at everything but secrets.
    Viewer,
    /// Change what is served.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    /// `viewer`, `operator` or `admin`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// `a viewer`, `an operator` or `an admin`.
    pub fn one(self) -> &'static str {
        match self {
            Self::Viewer => "a viewer",
            Self::Operator => "an operator",
            Self::Admin => "an admin",
        }
    }
}
