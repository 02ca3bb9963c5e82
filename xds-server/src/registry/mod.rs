//! Instances that register themselves, with leases: what is registered is kept in the store, heartbeats are in
//! memory. Pure, but for its owner.
//!
//! Where servers share a store, each lease is watched by one of them, its keeper. Heartbeats may come to any: before
//! a keeper takes a silent instance for gone it asks, by a revision of the log, and who has heard of it lately
//! becomes its keeper. So nothing is written while heartbeats come.

mod ask;
mod instance;
mod merge;
pub mod metrics;
pub mod owner;
mod state;
mod tell;
#[cfg(test)]
mod tests;
mod vanish;
pub mod view;
mod wish;

pub use ask::{Ask, Believed};
pub use instance::{Instance, InstanceId, Phase};
pub use merge::LeftOut;
pub use state::{Beat, State};
pub use tell::{Alarm, Became, InstancesBecame, Vanished};
pub use wish::{Done, Refused, Wish};
