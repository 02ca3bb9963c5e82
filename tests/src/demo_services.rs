//! Applications to call: processes of `demo-service`.

use std::{net::SocketAddr, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::{artifacts::Artifacts, http::Client, ports::free_port, process::Process};

const READY: Duration = Duration::from_secs(30);

/// A running `demo-service`.
#[derive(Debug)]
pub struct DemoService {
    /// Where it listens.
    pub addr: SocketAddr,
    _process: Process,
}

impl DemoService {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(artifacts: &Artifacts, dir: &Path, name: &str, version: &str) -> Result<Self> {
        Self::start_on(artifacts, dir, name, version, free_port())
    }

    /// Starts one on this port of 127.0.0.1; 0 is any free one.
    ///
    /// # Errors
    /// When the port is taken, or it does not start.
    pub fn start_on(
        artifacts: &Artifacts,
        dir: &Path,
        name: &str,
        version: &str,
        port: u16,
    ) -> Result<Self> {
        Self::start_with(artifacts, dir, name, version, port, &[])
    }

    /// With more arguments.
    ///
    /// # Errors
    /// As [`start_on`](Self::start_on).
    pub fn start_with(
        artifacts: &Artifacts,
        dir: &Path,
        name: &str,
        version: &str,
        port: u16,
        arguments: &[&str],
    ) -> Result<Self> {
        let listen: SocketAddr = ([127, 0, 0, 1], port).into();
        let mut command = Command::new(&artifacts.demo_service);
        command.args([
            "--listen",
            &listen.to_string(),
            "--name",
            name,
            "--version",
            version,
        ]);
        command.args(arguments);
        let label = format!("{name}-{version}");
        let log = dir.join(format!("{label}-{port}.log"));
        let mut process = Process::spawn(&label, command, &log)?;
        let ready = process.wait_line("ready ", READY)?;
        Ok(Self {
            addr: ready
                .parse()
                .with_context(|| format!("no address: {ready:?}"))?,
            _process: process,
        })
    }

    /// Makes all later answers so: `status=503&delay_ms=0`, or `status=reset` for none at all.
    ///
    /// # Errors
    /// When it does not understand.
    pub fn control(&self, query: &str) -> Result<()> {
        let path = format!("/_control?{query}");
        let response = Client::new(self.addr).send("POST", &path, &[])?;
        let body = String::from_utf8_lossy(&response.body);
        ensure!(response.status == 200, "{query}: {body}");
        Ok(())
    }

    /// Requests that reached it so far.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn count(&self) -> Result<u64> {
        let response = Client::new(self.addr).get("/_count", &[])?;
        let text = String::from_utf8_lossy(&response.body).into_owned();
        text.trim().parse().context("no number")
    }
}
