//! Mesh files as people keep them: wrong, in parts, in folders, in ConfigMaps, and edited while all runs.

mod bad_input;
mod findings;
mod follow;
mod precedence;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context, Result};
use harness::{
    artifacts::Artifacts,
    server::{Options, Server},
    wait::wait_for,
};
use serde_json::Value;

use crate::door1::BOUND;

/// A server that follows files of a folder of its own.
struct Stage {
    server: Server,
    dir: tempfile::TempDir,
}

impl Stage {
    /// Serves `config`, a path below the folder, after `files` were written there.
    fn start(config: &str, files: &[(&str, &str)]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        for (name, text) in files {
            write(&dir.path().join(name), text.as_bytes())?;
        }
        let config = dir.path().join(config);
        let options = Options {
            config: Some(&config),
            ..Options::default()
        };
        let server = Server::start(&Artifacts::from_env()?, dir.path(), "", &options)?;
        Ok(Self { server, dir })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Replaces a file by rename.
    fn write(&self, name: &str, text: &str) -> Result<()> {
        write(&self.path(name), text.as_bytes())
    }

    fn revisions(&self) -> Result<Value> {
        self.server.api_get("/api/v1/revisions")
    }

    fn revision(&self) -> Result<u64> {
        let revisions = self.revisions()?;
        let revision = revisions["current"]["revision"].as_u64();
        revision.with_context(|| revisions.to_string())
    }

    /// Waits until `revision` is in force, and nothing is refused.
    fn wait_for_revision(&self, revision: u64) -> Result<()> {
        wait_for(&format!("revision {revision}"), BOUND, || {
            let revisions = self.revisions().map_err(|error| error.to_string())?;
            let is_there = revisions["current"]["revision"] == revision;
            match is_there && revisions["refused"].is_null() {
                true => Ok(()),
                false => Err(revisions.to_string()),
            }
        })
    }

    /// Waits until a refusal whose problems, each as `FILE:LINE:COLUMN: PATH: MESSAGE`, fit.
    fn wait_for_refusal(&self, fits: impl Fn(&[String]) -> bool) -> Result<Vec<String>> {
        wait_for("the refusal", BOUND, || {
            let revisions = self.revisions().map_err(|error| error.to_string())?;
            let problems = revisions["refused"]["problems"].as_array();
            let told: Vec<String> = problems.into_iter().flatten().map(told).collect();
            match !told.is_empty() && fits(&told) {
                true => Ok(told),
                false => Err(revisions.to_string()),
            }
        })
    }

    /// Whether the mesh in force has a service or gateway of this name.
    fn has(&self, name: &str) -> Result<bool> {
        let answer = self.server.api_get(&format!("/api/v1/bootstrap/{name}"))?;
        Ok(answer["status"].is_null())
    }

    /// Waits until a metric without labels has this value: it follows what the API tells.
    fn wait_for_metric(&self, name: &str, value: usize) -> Result<()> {
        wait_for(name, BOUND, || match self.metric(name) {
            Ok(now) if now == value => Ok(()),
            Ok(now) => Err(format!("{now}, not {value}")),
            Err(error) => Err(error.to_string()),
        })
    }

    /// The value of a metric without labels.
    fn metric(&self, name: &str) -> Result<usize> {
        let page = harness::http::Client::new(self.server.api).get("/metrics", &[])?;
        let page = String::from_utf8_lossy(&page.body).into_owned();
        let value = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value
            .with_context(|| format!("no {name} in {page}"))?
            .parse()?)
    }
}

/// A problem of the API in one line.
fn told(problem: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let place = &problem["place"];
    let file = text(&place["file"]);
    let name = file.rsplit('/').next().unwrap_or_default();
    format!(
        "{name}:{}:{}: {}: {}",
        place["line"],
        place["column"],
        text(&problem["path"]),
        text(&problem["message"])
    )
}

/// Writes beside and renames, as programs should.
fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    let folder = file.parent().context("no folder")?;
    fs::create_dir_all(folder)?;
    let name = file.file_name().context("no name")?.to_string_lossy();
    let beside = folder.join(format!(".{name}.new"));
    fs::write(&beside, bytes)?;
    fs::rename(&beside, file)?;
    Ok(())
}

fn analyze(file: &Path, more: &[&str]) -> Result<Output> {
    let mut command = Command::new(Artifacts::from_env()?.server);
    for variable in ["REGION", "TIMEZONE", "PEAK_HOURS", "MESH_CONFIG_PATH"] {
        command.env_remove(variable);
    }
    Ok(command.arg("analyze").arg(file).args(more).output()?)
}
