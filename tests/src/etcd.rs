//! A real etcd of one member.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{artifacts, http::Client, ports::free_port, process::Process, wait::wait_for};

const READY: Duration = Duration::from_secs(30);

/// An etcd that serves. It keeps its data and its port over [`Etcd::kill`] and [`Etcd::start_again`].
#[derive(Debug)]
pub struct Etcd {
    dir: PathBuf,
    port: u16,
    peer_port: u16,
    tls: Vec<String>,
    process: Option<Process>,
}

impl Etcd {
    /// Starts one with its data in `dir`, and waits until it serves.
    ///
    /// # Errors
    /// When it does not start: with the end of its log.
    pub fn start(dir: &Path) -> Result<Self> {
        Self::start_with(dir, &[])
    }

    /// The same with further flags; with those of TLS it serves by `https`, and is not waited for.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(dir: &Path, flags: &[String]) -> Result<Self> {
        let mut etcd = Self {
            dir: dir.to_path_buf(),
            port: free_port(),
            peer_port: free_port(),
            tls: flags.to_vec(),
            process: None,
        };
        etcd.start_again()?;
        Ok(etcd)
    }

    /// Starts it anew over what it had, and waits until it serves.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_again(&mut self) -> Result<()> {
        self.spawn()?;
        if self.tls.is_empty() {
            let address = self.address();
            let healthy = wait_for("etcd to serve", READY, || {
                let answer = Client::new(address).get("/health", &[]);
                match answer.map_err(|error| error.to_string())?.status {
                    200 => Ok(()),
                    status => Err(format!("status {status}")),
                }
            });
            let log = || {
                self.process
                    .as_ref()
                    .map(Process::log_tail)
                    .unwrap_or_default()
            };
            healthy.with_context(log)?;
        }
        Ok(())
    }

    /// Starts it anew and waits for nothing.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&mut self) -> Result<()> {
        let scheme = if self.tls.is_empty() { "http" } else { "https" };
        let clients = format!("{scheme}://127.0.0.1:{}", self.port);
        let peers = format!("http://127.0.0.1:{}", self.peer_port);
        let mut command = Command::new(artifacts::etcd()?);
        command
            .args(["--name", "one", "--logger", "zap", "--log-level", "warn"])
            .arg("--data-dir")
            .arg(self.dir.join("etcd"))
            .args(["--listen-client-urls", &clients])
            .args(["--advertise-client-urls", &clients])
            .args(["--listen-peer-urls", &peers])
            .args(["--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &format!("one={peers}")])
            .args(&self.tls);
        self.process = Some(Process::spawn("etcd", command, &self.dir.join("etcd.log"))?);
        Ok(())
    }

    /// Kills it as `kill -9` does.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
        }
        Ok(())
    }

    /// Where clients are served.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// As `--store` names it.
    pub fn store(&self, prefix: &str) -> String {
        format!("etcd://127.0.0.1:{}/{prefix}", self.port)
    }

    /// A call of its gateway for JSON.
    ///
    /// # Errors
    /// When it refuses: with what it says.
    pub fn call(&self, path: &str, body: &Value) -> Result<Value> {
        let answer = Client::new(self.address()).post(path, body.to_string().as_bytes())?;
        ensure!(
            answer.status == 200,
            "{path}: {}",
            String::from_utf8_lossy(&answer.body)
        );
        answer.json()
    }
}
