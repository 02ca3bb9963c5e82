//! What the data plane says of endpoints' health: who is asked about whom, who is believed, and what
//! follows. Pure, but for its owner.

mod assign;
mod known;
pub mod owner;
mod state;
#[cfg(test)]
mod tests;
pub mod view;

pub use assign::{Group, Question, Task};
pub use known::Verdict;
pub use state::{Change, Heard, State};
