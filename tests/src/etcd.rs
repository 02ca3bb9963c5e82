//! A real etcd, of one member or three.

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

/// One that serves. It keeps its data and its ports over [`Etcd::kill`] and [`Etcd::start_again`].
#[derive(Debug)]
pub struct Etcd {
    dir: PathBuf,
    name: String,
    port: u16,
    peer_port: u16,
    /// All members: names and where they meet.
    cluster: String,
    flags: Vec<String>,
    is_tls: bool,
    process: Option<Process>,
}

impl Etcd {
    /// Starts one of a single member with its data in `dir`, and waits until it serves.
    ///
    /// # Errors
    /// When it does not start: with the end of its log.
    pub fn start(dir: &Path) -> Result<Self> {
        Self::start_with(dir, &[], false)
    }

    /// The same with further flags; with those of TLS it serves by `https`, and is not waited for.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(dir: &Path, flags: &[String], is_tls: bool) -> Result<Self> {
        let mut members = Self::members(dir, 1);
        let mut etcd = members.pop().context("no member")?;
        etcd.flags = flags.to_vec();
        etcd.is_tls = is_tls;
        etcd.start_again()?;
        Ok(etcd)
    }

    /// Starts one of three members, and waits until each serves.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_three(dir: &Path) -> Result<Vec<Self>> {
        let mut members = Self::members(dir, 3);
        for member in &mut members {
            member.spawn()?;
        }
        for member in &members {
            member.wait()?;
        }
        Ok(members)
    }

    fn members(dir: &Path, count: usize) -> Vec<Self> {
        let member = |number: usize| Self {
            dir: dir.to_path_buf(),
            name: format!("etcd-{number}"),
            port: free_port(),
            peer_port: free_port(),
            cluster: String::new(),
            flags: Vec::new(),
            is_tls: false,
            process: None,
        };
        let mut members: Vec<Self> = (0..count).map(member).collect();
        let met = |member: &Self| format!("{}={}", member.name, member.peers());
        let cluster: Vec<String> = members.iter().map(met).collect();
        for member in &mut members {
            member.cluster = cluster.join(",");
        }
        members
    }

    fn peers(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }

    /// Starts it anew over what it had, and waits until it serves.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_again(&mut self) -> Result<()> {
        self.spawn()?;
        if self.is_tls {
            return Ok(());
        }
        self.wait()
    }

    fn wait(&self) -> Result<()> {
        let address = self.address();
        let healthy = wait_for("etcd to serve", READY, || {
            let answer = Client::new(address).get("/health", &[]);
            match answer.map_err(|error| error.to_string())?.status {
                200 => Ok(()),
                status => Err(format!("status {status}")),
            }
        });
        let log = || self.process.as_ref().map(Process::log_tail);
        healthy.with_context(|| log().unwrap_or_default())
    }

    fn spawn(&mut self) -> Result<()> {
        let scheme = if self.is_tls { "https" } else { "http" };
        let clients = format!("{scheme}://127.0.0.1:{}", self.port);
        let peers = self.peers();
        let mut command = Command::new(artifacts::etcd()?);
        command
            .args(["--name", &self.name, "--logger", "zap"])
            .args(["--log-level", "warn"])
            .arg("--data-dir")
            .arg(self.dir.join(&self.name))
            .args(["--listen-client-urls", &clients])
            .args(["--advertise-client-urls", &clients])
            .args(["--listen-peer-urls", &peers])
            .args(["--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &self.cluster])
            .args(&self.flags);
        let log = self.dir.join(format!("{}.log", self.name));
        self.process = Some(Process::spawn(&self.name, command, &log)?);
        Ok(())
    }

    /// Where its data is.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join(&self.name)
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
