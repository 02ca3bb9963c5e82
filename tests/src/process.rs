//! Child processes that end with their owner.
#![allow(
    unsafe_code,
    reason = "signals, and a promise to the kernel between fork and exec"
)]

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::wait::wait_for;

const LOG_TAIL_LINES: usize = 40;
const PATIENCE: Duration = Duration::from_secs(10);

/// A running program, its output in a file. Dropping it ends it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program. Its stdout and stderr go to `log`.
    ///
    /// # Errors
    /// A program that cannot be started, or a log that cannot be written.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("log {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            // Ctrl-C at the terminal is for its owner, who ends it in order.
            .process_group(0);
        // SAFETY: prctl is async-signal-safe and touches no memory of ours.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = command
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        Ok(Self {
            name: name.into(),
            child,
            log: log.into(),
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it has said.
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines that it has said.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for a line that begins so, and gives the rest of it.
    ///
    /// # Errors
    /// When it does not come, or the process ends before: with the end of its log.
    pub fn wait_line(&mut self, prefix: &str, bound: Duration) -> Result<String> {
        let what = format!("{} to say {prefix:?}", self.name);
        let line = wait_for(&what, bound, || {
            let log = self.log();
            let mut lines = log
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'));
            match lines.find_map(|line| line.strip_prefix(prefix)) {
                Some(rest) => Ok(Some(rest.trim().to_string())),
                None if self.ended().is_some() => Ok(None),
                None => Err(self.log_tail()),
            }
        })?;
        match line {
            Some(line) => Ok(line),
            None => bail!("{} ended: {}", self.name, self.log_tail()),
        }
    }

    /// Sends a signal to it.
    pub fn signal(&self, signal: i32) {
        if let Ok(pid) = i32::try_from(self.pid()) {
            // SAFETY: a system call without pointers; the child is not reaped yet, so the id is its.
            unsafe { libc::kill(pid, signal) };
        }
    }

    /// Asks it to end, waits, and ends it if it does not.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.ended() {
            return Ok(status);
        }
        self.signal(libc::SIGTERM);
        let ended = wait_for("the process to end", PATIENCE, || {
            self.ended().ok_or_else(|| "still running".to_string())
        });
        match ended {
            Ok(status) => Ok(status),
            Err(_) => {
                self.child.kill()?;
                Ok(self.child.wait()?)
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {} said at last:\n{}", self.name, self.log_tail());
        }
        // Nobody is left to tell.
        let _ = self.terminate();
    }
}
