//! For callers without a proxy: which instance of a service they are to call now, decided by the filter's own code, and
//! what became of their calls, counted by breakers of the same code. The server stands in for the Envoy that they have
//! not.

mod board;
mod cells;
mod form;
pub mod owner;
mod pick;
mod question;
mod selection;
#[cfg(test)]
mod tests;

pub use self::{
    board::{Breakers, Counted, NotCounted},
    form::{ResultsForm, SelectForm},
    question::{Report, Wanted},
    selection::{Refused, Selection, Unanswered},
};
