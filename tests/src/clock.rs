//! A wall clock that can be moved, for the processes that are given it. Their monotonic clock goes on.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};

const SHIM: &str = include_str!("../clock_shim.c");
const NANOS_PER_MILLI: i64 = 1_000_000;

/// One clock; every process to which it is [applied](Clock::apply) follows it.
#[derive(Debug)]
pub struct Clock {
    shim: PathBuf,
    offset: PathBuf,
    file: File,
}

impl Clock {
    /// Prepares a clock that shows the real time, in an existing folder.
    ///
    /// # Errors
    /// When there is no C compiler (`cc`), or the folder cannot be written.
    pub fn new(dir: &Path) -> Result<Self> {
        let (source, shim) = (dir.join("clock_shim.c"), dir.join("clock_shim.so"));
        fs::write(&source, SHIM)?;
        let output = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-o"])
            .args([&shim, &source])
            .output()
            .context("a C compiler is needed to move the clock (apt-get install gcc libc6-dev)")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cc: {errors}");
        let offset = dir.join("clock_offset");
        fs::write(&offset, 0_i64.to_ne_bytes())?;
        let file = OpenOptions::new().write(true).read(true).open(&offset)?;
        Ok(Self { shim, offset, file })
    }

    /// Makes a process follow this clock.
    pub fn apply(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.shim)
            .env("MUMBAI_MESH_CLOCK_OFFSET_FILE", &self.offset);
    }

    /// Moves the clock: from now on it shows `unix_millis` and goes on from there.
    ///
    /// # Errors
    /// When the offset cannot be written, or is more than 292 years.
    pub fn set_now(&self, unix_millis: i64) -> Result<()> {
        let offset = unix_millis
            .checked_sub(real_millis())
            .and_then(|millis| millis.checked_mul(NANOS_PER_MILLI))
            .context("too far from the real time")?;
        // Eight aligned bytes: readers see the old offset or the new one.
        self.file.write_all_at(&offset.to_ne_bytes(), 0)?;
        Ok(())
    }

    /// What the clock shows, in milliseconds since 1970.
    ///
    /// # Errors
    /// When the offset cannot be read.
    pub fn now_millis(&self) -> Result<i64> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(real_millis() + i64::from_ne_bytes(bytes) / NANOS_PER_MILLI)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the clock that is moved starts from the real one"
)]
fn real_millis() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_follows_the_moved_clock() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::new(dir.path()).unwrap();
        let shown = || {
            let mut date = Command::new("date");
            date.arg("+%s");
            clock.apply(&mut date);
            let output = date.output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            text.trim().parse::<i64>().unwrap()
        };
        for millis in [1_794_142_800_500, 1_000_000_000_000, 2_000_000_000_999] {
            clock.set_now(millis).unwrap();
            let seconds = shown();
            assert!((0..60).contains(&(seconds - millis / 1000)), "{seconds}");
        }
        assert!(clock.set_now(i64::MAX).is_err());
    }
}
