//! Waiting for a level: the only place that sleeps.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

const STEP: Duration = Duration::from_millis(10);

/// Asks again and again until `look` gives a value.
///
/// # Errors
/// After `bound`: what was waited for, and the last state that was seen.
pub fn wait_for<T>(
    what: &str,
    bound: Duration,
    mut look: impl FnMut() -> std::result::Result<T, String>,
) -> Result<T> {
    let began = Instant::now();
    loop {
        let state = match look() {
            Ok(value) => return Ok(value),
            Err(state) => state,
        };
        if began.elapsed() > bound {
            bail!("waited {bound:?} for {what}; last seen: {state}");
        }
        thread::sleep(STEP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_it_waited_for_and_what_it_saw() {
        let mut looks = 0;
        let error = wait_for::<()>("the moon", Duration::from_millis(30), || {
            looks += 1;
            Err(format!("look {looks}"))
        })
        .unwrap_err()
        .to_string();
        assert!(error.contains("the moon"), "{error}");
        assert!(error.contains(&format!("look {looks}")), "{error}");
    }
}
