//! The application that runs below this program.

use std::{
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Command, ExitStatus},
    thread,
};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;

/// One that runs, or has ended.
pub(super) struct Application {
    pid: Option<Pid>,
    ended: watch::Receiver<Option<u8>>,
}

impl Application {
    /// Starts it, with our own standard streams.
    ///
    /// # Errors
    /// A program that is not there, say.
    pub(super) fn start(command: &[String]) -> anyhow::Result<Self> {
        let (program, arguments) = command.split_first().context("no command")?;
        let mut child = Command::new(program)
            .args(arguments)
            // Ctrl-C at the terminal is for us: it is drained before it hears of it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("{program} cannot be started"))?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let (ending, ended) = watch::channel(None);
        thread::spawn(move || {
            let code = child.wait().map_or(1, code_of);
            ending.send_replace(Some(code));
        });
        Ok(Self { pid, ended })
    }

    /// Waits for its end: its exit code.
    pub(super) async fn ended(&self) -> u8 {
        let mut ended = self.ended.clone();
        let code = ended.wait_for(Option::is_some).await;
        code.ok().and_then(|code| *code).unwrap_or(1)
    }

    /// Asks it to end, if it has not.
    pub(super) fn terminate(&self) {
        if self.ended.borrow().is_none()
            && let Some(pid) = self.pid
        {
            // One that has just ended needs no signal.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

/// As shells have it.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code();
    let code = code.unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    u8::try_from(code).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Application {
        let command = ["sh", "-c", script].map(String::from);
        Application::start(&command).unwrap()
    }

    #[tokio::test]
    async fn its_exit_code_is_told_and_a_signal_as_shells_tell_it() {
        assert_eq!(sh("exit 7").ended().await, 7);
        let killed = sh("exec tail -f /dev/null");
        killed.terminate();
        assert_eq!(killed.ended().await, 128 + 15);
        killed.terminate();
        assert!(Application::start(&["/no/such/program".into()]).is_err());
    }
}
