//! Child processes that end with their owner.
#![allow(
    unsafe_code,
    reason = "signals, and a promise to the kernel between fork and exec"
)]

use std::{
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{self, Child, Command, ExitStatus, Stdio},
    sync::{LazyLock, Mutex, PoisonError, mpsc},
    thread,
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
        end_with_this_process(&mut command);
        let child = start(command).with_context(|| format!("{name} cannot be started"))?;
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
            // Asked first: what it says before it ends counts.
            let ended = self.ended().is_some();
            let log = self.log();
            let mut lines = log
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'));
            match lines.find_map(|line| line.strip_prefix(prefix)) {
                Some(rest) => Ok(Some(rest.trim().to_string())),
                None if ended => Ok(None),
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

    /// Kills it as `kill -9` does, and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    /// Limits the size of files that it writes, as a full disk would; `None` lifts the limit.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn limit_files(&self, bytes: Option<u64>) -> Result<()> {
        let limit = libc::rlimit {
            rlim_cur: bytes.unwrap_or(libc::RLIM_INFINITY),
            rlim_max: libc::RLIM_INFINITY,
        };
        let pid = i32::try_from(self.pid())?;
        // SAFETY: the limit lives as long as the call, and nothing is written to null; the child is not
        // reaped yet, so the id is its.
        let refused = unsafe {
            libc::prlimit(
                pid,
                libc::RLIMIT_FSIZE,
                &raw const limit,
                std::ptr::null_mut(),
            )
        };
        if refused != 0 {
            return Err(io::Error::last_os_error()).context("prlimit");
        }
        Ok(())
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

fn end_with_this_process(command: &mut Command) {
    let owner = process::id();
    // SAFETY: all these calls are async-signal-safe; nothing is allocated, and of our memory only the
    // signal set of this function is touched, which sigemptyset fills.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The owner may have ended before the promise was made.
            if libc::getppid().cast_unsigned() != owner {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            // A file that may not grow is to be an error like that of a full disk, not the end.
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            // Signals that the owner waits for are blocked in it; a program must hear them.
            let mut none = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
            Ok(())
        });
    }
}

/// Starts a program from a thread that lives as long as this process. The kernel ends a child with the
/// thread that started it, and each test has its own: a program that tests share must outlive the first.
fn start(command: Command) -> Result<Child> {
    type Order = (Command, mpsc::Sender<io::Result<Child>>);
    static STARTER: LazyLock<Mutex<mpsc::Sender<Order>>> = LazyLock::new(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in orders {
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (reply, started) = mpsc::channel();
    let starter = STARTER.lock().unwrap_or_else(PoisonError::into_inner);
    if starter.send((command, reply)).is_err() {
        bail!("the thread that starts programs is gone");
    }
    Ok(started.recv()??)
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

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    const BOUND: Duration = Duration::from_secs(10);

    fn shell(dir: &Path, script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::spawn("script", command, &dir.join("log")).unwrap()
    }

    #[test]
    fn a_program_outlives_the_thread_that_asked_for_it_but_not_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let script = "echo ready here; echo gone >&2; exec tail -f /dev/null";
        let mut process = thread::spawn(move || shell(&path, script)).join().unwrap();
        assert_eq!(process.wait_line("ready ", BOUND).unwrap(), "here");
        process.wait_line("gone", BOUND).unwrap();
        assert!(process.ended().is_none());
        assert_eq!(process.terminate().unwrap().signal(), Some(libc::SIGTERM));
    }

    #[test]
    fn a_program_that_ends_early_is_told_at_once_with_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = shell(dir.path(), "echo no such mesh; exit 3");
        let error = process.wait_line("ready ", BOUND).unwrap_err().to_string();
        assert!(error.contains("no such mesh"), "{error}");
        assert_eq!(process.ended().and_then(|status| status.code()), Some(3));
    }
}
