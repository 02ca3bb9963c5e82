//! docker-compose.yml as a project of its own: whatever else a person runs of it, with its volumes, is left alone.

use std::{ffi::OsString, fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use harness::clock::Clock;
use serde_json::Value;

use super::{docker::Docker, images::Images};
use crate::{run, workspace::Workspace};

const NAME: &str = "mumbai-mesh-xtask";
/// Those that decide by the clock, or that show it.
const WITH_CLOCK: [&str; 6] = [
    "controlplane",
    "gateway",
    "order-v1-envoy",
    "order-v2-envoy",
    "payment-envoy",
    "ledger-envoy",
];

/// Dropped, it is taken down with all that it has.
pub struct Project<'d> {
    docker: &'d Docker,
    root: PathBuf,
    environment: Vec<(&'static str, OsString)>,
    /// The mesh file, a copy that may be changed.
    pub mesh: PathBuf,
    /// The clock of the server and all Envoys.
    pub clock: Clock,
}

impl<'d> Project<'d> {
    pub fn new(docker: &'d Docker, workspace: &Workspace, images: &Images) -> Result<Self> {
        let folder = workspace.target.join("compose");
        let _ = fs::remove_dir_all(&folder);
        let [mesh, clock] = ["mesh", "clock"].map(|name| folder.join(name));
        for made in [&mesh, &clock] {
            fs::create_dir_all(made)?;
            // Users of containers are others.
            fs::set_permissions(made, fs::Permissions::from_mode(0o755))?;
        }
        let example = "envoy/examples/compose/mesh/mesh.yaml";
        fs::copy(workspace.root.join(example), mesh.join("mesh.yaml")).context(example)?;
        let shown = Clock::new(&clock)?;
        let over = folder.join("clock.yml");
        fs::write(&over, with_clock(&clock.display().to_string()))?;
        let files = format!(
            "docker-compose.yml:docker-compose.test.yml:{}",
            over.display()
        );
        let project = Self {
            docker,
            root: workspace.root.clone(),
            environment: vec![
                ("COMPOSE_PROJECT_NAME", NAME.into()),
                ("COMPOSE_FILE", files.into()),
                ("COMPOSE_PROFILES", images.profiles.into()),
                ("COMPOSE_PROGRESS", "quiet".into()),
                ("MUMBAI_MESH_CONFIG", mesh.clone().into()),
            ],
            mesh: mesh.join("mesh.yaml"),
            clock: shown,
        };
        // What a run that was killed left.
        project.down()?;
        Ok(project)
    }

    /// `docker compose ARGS`.
    pub fn compose(&self, args: &[&str]) -> Command {
        let mut command = self.docker.command(&["compose"]);
        command
            .args(args)
            .envs(self.environment.iter().cloned())
            .current_dir(&self.root);
        command
    }

    /// What a person types.
    pub fn shell(&self, line: &str) -> Result<String> {
        let mut command = Command::new("sh");
        command
            .args(["-c", line])
            .envs(self.docker.environment().iter().cloned())
            .envs(self.environment.iter().cloned())
            .current_dir(&self.root);
        run::text(&mut command)
    }

    /// How everything stands, for whoever looks for a mistake.
    pub fn tell(&self) {
        for args in [
            &["ps", "--all"][..],
            &["logs", "--no-color", "--tail", "30"],
        ] {
            // What cannot be told is no reason to hide the mistake itself.
            let _ = run::loud(&mut self.compose(args));
        }
    }

    pub fn down(&self) -> Result<()> {
        run::silent(&mut self.down_command())
    }

    /// To be run by whoever is left to do it.
    pub fn down_command(&self) -> Command {
        self.compose(&["down", "--volumes", "--remove-orphans", "--timeout", "1"])
    }

    /// Services that ended, by their exit codes.
    pub fn exit_codes(&self) -> Result<Vec<(String, i64)>> {
        let said = run::text(&mut self.compose(&["ps", "--all", "--format", "json"]))?;
        let one = |line: &str| -> Result<(String, i64)> {
            let container: Value = serde_json::from_str(line)?;
            let service = container["Service"].as_str().context("no Service")?;
            let state = container["State"].as_str().context("no State")?;
            ensure!(state == "exited", "{service} is {state}");
            let code = container["ExitCode"].as_i64().context("no ExitCode")?;
            Ok((service.to_owned(), code))
        };
        said.lines().map(one).collect()
    }

    /// Containers, volumes and networks of this project that are still there.
    pub fn left(&self) -> Result<Vec<String>> {
        let label = format!("label=com.docker.compose.project={NAME}");
        let mut left = Vec::new();
        for kind in [&["ps", "--all"][..], &["volume", "ls"], &["network", "ls"]] {
            let mut list = self.docker.command(kind);
            let said = run::text(list.args(["--quiet", "--filter", &label]))?;
            left.extend(said.lines().map(|line| format!("{} {line}", kind[0])));
        }
        Ok(left)
    }

    /// The ports that it publishes, as ADDRESS:PORT.
    pub fn published(&self) -> Result<Vec<String>> {
        let said = run::text(&mut self.compose(&["--profile", "*", "config", "--format", "json"]))?;
        let config: Value = serde_json::from_str(&said)?;
        let services = config["services"].as_object().context("no services")?;
        let ports = services
            .values()
            .filter_map(|service| service["ports"].as_array())
            .flatten();
        let shown = |port: &Value| {
            let text = |field: &str| port[field].as_str().unwrap_or_default().to_owned();
            format!("{}:{}", text("host_ip"), text("published"))
        };
        Ok(ports.map(shown).collect())
    }
}

impl Drop for Project<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.down() {
            eprintln!("warning: {error:#}");
        }
    }
}

fn with_clock(folder: &str) -> String {
    let one = |service: &str| {
        format!(
            "  {service}:\n    environment:\n      LD_PRELOAD: /clock/clock_shim.so\n      \
             MUMBAI_MESH_CLOCK_OFFSET_FILE: /clock/clock_offset\n    volumes: [\"{folder}:/clock:ro\"]\n"
        )
    };
    let services: String = WITH_CLOCK.map(one).concat();
    format!("services:\n{services}")
}
