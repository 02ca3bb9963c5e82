//! Raw resources: any Envoy resource as protobuf JSON, by API or from a folder. What makes this a general
//! xDS server.
//!
//! `request` reads a call and `offer` each of its resources (`document` finds the place of what is wrong), `changes` says what a call changes,
//! `files` what the folder holds; `rows` is how the store keeps it, `state` is what is in force, `owner` lets
//! one change in after the other. `folder` follows `--resources`.

mod changes;
mod document;
mod files;
pub mod folder;
mod held;
mod key;
mod merge;
mod names;
mod offer;
mod owner;
mod problem;
mod request;
mod rows;
mod state;

#[cfg(test)]
mod file_tests;
#[cfg(test)]
mod place_tests;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use changes::Refusal;
pub use files::FileProblem;
pub use held::HeldFiles;
pub use key::{Entry, Key, Nodes, Source};
pub use owner::{Applied, Mode, RawResources};
pub use problem::Problem;
pub use request::CallForm;
pub use state::{LayersKey, RawState};
