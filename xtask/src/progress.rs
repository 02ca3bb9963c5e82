//! What the person at the terminal sees while a command works.

use std::time::{Duration, Instant};

/// Lines on stderr, each with the time since the command began.
pub struct Progress {
    began: Instant,
}

impl Progress {
    pub fn start() -> Self {
        Self {
            began: Instant::now(),
        }
    }

    /// One finished or beginning step, in plain words.
    pub fn step(&self, what: impl AsRef<str>) {
        eprintln!("[{}] {}", clock(self.elapsed()), what.as_ref());
    }

    /// Something that does not stop the command but that a person should know.
    pub fn warn(&self, what: impl AsRef<str>) {
        eprintln!("[{}] warning: {}", clock(self.elapsed()), what.as_ref());
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

/// Milliseconds while they are telling, seconds afterwards; seven columns wide.
fn clock(elapsed: Duration) -> String {
    if elapsed < Duration::from_secs(1) {
        format!("{:>4} ms", elapsed.as_millis())
    } else {
        format!("{:>5.1} s", elapsed.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elapsed_time_keeps_its_width() {
        assert_eq!(clock(Duration::from_millis(7)), "   7 ms");
        assert_eq!(clock(Duration::from_millis(61_240)), " 61.2 s");
    }
}
