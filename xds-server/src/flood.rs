//! Lines of the log that a stranger can cause: of one reason only so many are written in a while, and the
//! next one then says how many were not.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Lines of one reason within [`WHILE`].
const LINES_MAX: u64 = 10;
const WHILE: Duration = Duration::from_secs(10);

/// How much was said of each reason.
#[derive(Debug, Default)]
pub struct Flood(Mutex<HashMap<&'static str, Said>>);

#[derive(Debug)]
struct Said {
    since: Instant,
    lines: u64,
    unsaid: u64,
}

impl Flood {
    /// Whether a line may be written now: how many were not since the last one.
    pub fn admit(&self, reason: &'static str, now: Instant) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = Said {
            since: now,
            lines: 0,
            unsaid: 0,
        };
        let said = said.entry(reason).or_insert(fresh);
        if now.saturating_duration_since(said.since) >= WHILE {
            (said.since, said.lines) = (now, 0);
        }
        if said.lines == LINES_MAX {
            said.unsaid += 1;
            return None;
        }
        said.lines += 1;
        Some(std::mem::take(&mut said.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_reason_is_some_lines_and_a_number_and_hides_no_other_reason() {
        let lines = Flood::default();
        let begin = Instant::now();
        let flood = |at: u64| {
            let at = begin + Duration::from_secs(at);
            let lines = (0..1000).filter_map(|_| lines.admit("too_many", at));
            lines.collect::<Vec<_>>()
        };
        assert_eq!(flood(0), [0; 10]);
        assert!(flood(9).is_empty());
        assert_eq!(lines.admit("bad_node", begin), Some(0));
        let mut later = vec![1990];
        later.extend([0; 9]);
        assert_eq!(flood(10), later);
    }
}
