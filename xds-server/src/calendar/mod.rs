//! The mesh's calendar as people look ahead in it: what changes when, and a month by its days. Pure.

mod changes;
mod month;
mod state;
#[cfg(test)]
mod tests;

pub use changes::{Change, Kind, Outlook, Standing, outlook};
pub use month::{Day, DayFestival, DayHoliday, DayWindow, Month, MonthOf, month};
pub use state::{InZone, OfService, TrafficNow, traffic_state};

/// A question about the calendar that has no answer: what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CalendarError(String);

/// How many changes may be asked for.
pub const COUNT_MAX: usize = 1_000;
/// How many are told when nobody says.
pub const COUNT: usize = 10;

/// Reads a count of changes, `1` to [`COUNT_MAX`].
///
/// # Errors
/// Any other number.
pub fn count(asked: Option<usize>) -> Result<usize, CalendarError> {
    match asked {
        None => Ok(COUNT),
        Some(count) if (1..=COUNT_MAX).contains(&count) => Ok(count),
        Some(count) => Err(CalendarError(format!(
            "count: {count} is not from 1 to {COUNT_MAX}"
        ))),
    }
}
