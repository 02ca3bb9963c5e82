//! A real Envoy.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, bail};

use crate::{artifacts::Artifacts, clock::Clock, http::Client, process::Process, wait::wait_for};

const READY: Duration = Duration::from_secs(60);

/// How an Envoy is run.
#[derive(Debug, Clone, Copy)]
pub struct Options<'c> {
    /// For its files and messages; unique within a folder.
    pub name: &'c str,
    /// Worker threads.
    pub concurrency: u32,
    /// The clock that it follows.
    pub clock: Option<&'c Clock>,
    /// Port of its admin interface on 127.0.0.1, as its configuration says.
    pub admin_port: u16,
    /// How much its loggers say.
    pub log_level: &'c str,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            name: "envoy",
            concurrency: 2,
            clock: None,
            admin_port: 0,
            log_level: "info",
        }
    }
}

/// An Envoy that is ready to serve.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    admin_port: u16,
}

impl Envoy {
    /// Writes its configuration into `dir`, starts it, and waits until it is ready.
    ///
    /// # Errors
    /// When it refuses its configuration, or is not ready in time: with the end of its log.
    pub fn start(
        artifacts: &Artifacts,
        dir: &Path,
        config: &str,
        options: &Options<'_>,
    ) -> Result<Self> {
        let file = dir.join(format!("{}.yaml", options.name));
        fs::write(&file, config)?;
        Self::start_file(artifacts, dir, &file, options)
    }

    /// As [`start`](Self::start), with a configuration that exists.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_file(
        artifacts: &Artifacts,
        dir: &Path,
        config: &Path,
        options: &Options<'_>,
    ) -> Result<Self> {
        let mut command = Command::new(&artifacts.envoy);
        command
            .arg("-c")
            .arg(config)
            .args(["--concurrency", &options.concurrency.to_string()])
            // Without hot restart Envoys share no memory and no socket, so those started together cannot
            // collide, and one that is killed leaves nothing behind in /dev/shm.
            .arg("--disable-hot-restart")
            .args(["--log-level", options.log_level]);
        if let Some(clock) = options.clock {
            clock.apply(&mut command);
        }
        let log = dir.join(format!("{}.log", options.name));
        let process = Process::spawn(options.name, command, &log)?;
        let mut envoy = Self {
            process,
            admin_port: options.admin_port,
        };
        envoy.wait_ready()?;
        Ok(envoy)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let alive = wait_for("Envoy to be ready", READY, || {
            if self.process.ended().is_some() {
                return Ok(false);
            }
            match self.admin("/ready") {
                Ok(state) if state.trim() == "LIVE" => Ok(true),
                Ok(state) => Err(state),
                Err(error) => Err(format!("{error:#}")),
            }
        });
        match alive {
            Ok(true) => Ok(()),
            Ok(false) => bail!("Envoy ended:\n{}", self.process.log_tail()),
            Err(error) => Err(error.context(self.process.log_tail())),
        }
    }

    /// `HOST:PORT` of its admin interface.
    pub fn admin_address(&self) -> String {
        format!("127.0.0.1:{}", self.admin_port)
    }

    /// A page of its admin interface.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn admin(&self, path: &str) -> Result<String> {
        let mut client = Client::new(([127, 0, 0, 1], self.admin_port).into());
        let response = client.get(path, &[])?;
        Ok(String::from_utf8_lossy(&response.body).into_owned())
    }

    /// A counter or gauge by its full name.
    pub fn stat(&self, name: &str) -> Option<i64> {
        let page = self.admin("/stats").ok()?;
        let mut lines = page.lines().filter_map(|line| line.rsplit_once(": "));
        let (_, value) = lines.find(|(known, _)| *known == name)?;
        value.trim().parse().ok()
    }

    /// The value of one line of its metrics, by all that stands before the value:
    /// `envoy_cluster_upstream_rq_total{envoy_cluster_name="a"}`. `None` when there is no such line.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn counter(&self, line: &str) -> Result<Option<f64>> {
        Ok(value(&self.prometheus()?, line))
    }

    /// All its metrics as Prometheus reads them.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn prometheus(&self) -> Result<String> {
        self.admin("/stats/prometheus").context("Envoy's metrics")
    }

    /// All that it has said.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn value(page: &str, line: &str) -> Option<f64> {
    let mut values = page
        .lines()
        .filter_map(|known| known.strip_prefix(line)?.strip_prefix(' '));
    values.next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_the_whole_of_what_stands_before_its_value() {
        let page = "a_total{b=\"c\"} 3\na_total{b=\"cd\"} 4.5\nnone nothing\n";
        assert_eq!(value(page, "a_total{b=\"cd\"}"), Some(4.5));
        assert_eq!(value(page, "a_total{b=\"c\"}"), Some(3.0));
        assert_eq!(value(page, "a_total"), None);
        assert_eq!(value(page, "none"), None);
    }
}
