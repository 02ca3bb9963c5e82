//! The mesh: the user's YAML, checked whole, as a model.

mod check;
mod model;
mod read;
mod zone;

#[cfg(test)]
mod tests;

pub use model::{ClientOptions, Endpoint, Gateway, Mesh, PathMatch, Route, Service};
pub use read::{Defaults, empty, read};
