//! Everything that a running mesh is made of, built or fetched: what the tests and the demo start.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{apt, envoy::ENVOY, progress::Progress, run, wasm, workspace::Workspace};

/// Absolute paths of files that exist.
pub struct Artifacts {
    /// The filter, `mumbai_mesh.wasm`.
    pub wasm: PathBuf,
    /// A stock Envoy.
    pub envoy: PathBuf,
    /// The program `mumbai-mesh`.
    pub server: PathBuf,
    /// The program `demo-service`, which stands for an application.
    pub demo_service: PathBuf,
    /// The program `black-box`, which tests docker-compose.yml from inside.
    pub black_box: PathBuf,
    /// The program `bench-load`: load and upstream of benchmarks.
    pub bench_load: PathBuf,
}

impl Artifacts {
    /// The variables by which tests find them.
    pub fn environment(&self) -> [(&'static str, &Path); 4] {
        [
            ("MUMBAI_MESH_WASM", &self.wasm),
            ("ENVOY_BIN", &self.envoy),
            ("MUMBAI_MESH_BIN", &self.server),
            ("MUMBAI_MESH_DEMO_SERVICE", &self.demo_service),
        ]
    }

    /// As the harness takes them.
    pub fn for_harness(&self) -> harness::artifacts::Artifacts {
        harness::artifacts::Artifacts {
            wasm: self.wasm.clone(),
            envoy: self.envoy.clone(),
            server: self.server.clone(),
            demo_service: self.demo_service.clone(),
        }
    }
}

/// Builds and fetches what is missing or out of date.
pub fn all(workspace: &Workspace, progress: &Progress) -> Result<Artifacts> {
    make(
        workspace,
        progress,
        &[
            "--package",
            "mumbai-mesh",
            "--package",
            "mumbai-mesh-tests",
            "--bins",
        ],
    )
}

/// As [`all`], and compiles the tests along with the programs: built apart, the two would differ in their dependencies'
/// features, and the server would be compiled twice.
pub fn all_with_tests(workspace: &Workspace, progress: &Progress) -> Result<Artifacts> {
    make(workspace, progress, &["--workspace", "--bins", "--tests"])
}

/// The server alone, as users build it.
pub fn release_server(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    progress.step("Building mumbai-mesh in release.");
    let selection = ["--release", "--package", "mumbai-mesh", "--bins"];
    let programs = programs(workspace, progress, &selection)?;
    let is_server = |path: &PathBuf| path.file_name().is_some_and(|file| file == "mumbai-mesh");
    let server = programs.into_iter().find(is_server);
    server.context("cargo built no program `mumbai-mesh`")
}

fn make(workspace: &Workspace, progress: &Progress, selection: &[&str]) -> Result<Artifacts> {
    let filter = wasm::build(workspace, progress)?;
    filter.refuse_if_too_large()?;
    let envoy = ENVOY.find_or_fetch(workspace, progress)?;
    progress.step("Building mumbai-mesh and demo-service.");
    let programs = programs(workspace, progress, selection)?;
    let program = |name: &str| {
        let found = programs
            .iter()
            .find(|path| path.file_name().is_some_and(|file| file == name));
        found
            .cloned()
            .with_context(|| format!("cargo built no program `{name}`"))
    };
    let artifacts = Artifacts {
        wasm: filter.path,
        envoy,
        server: program("mumbai-mesh")?,
        demo_service: program("demo-service")?,
        black_box: program("black-box")?,
        bench_load: program("bench-load")?,
    };
    progress.step("Everything is built.");
    Ok(artifacts)
}

/// One cargo call for both programs. cargo itself says where it put them.
fn programs(
    workspace: &Workspace,
    progress: &Progress,
    selection: &[&str],
) -> Result<Vec<PathBuf>> {
    if run::on_path("make").is_none() {
        apt::install(&["make"], "build the server's memory allocator", progress)?;
    }
    let mut cargo: Command = run::cargo();
    cargo
        .current_dir(&workspace.root)
        .arg("build")
        .args(selection)
        .arg("--message-format=json-render-diagnostics");
    let output = cargo
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the programs do not build");
    }
    let messages = String::from_utf8(output.stdout).context("cargo's messages are not UTF-8")?;
    Ok(executables(&messages))
}

fn executables(messages: &str) -> Vec<PathBuf> {
    let message = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok();
    messages
        .lines()
        .filter_map(message)
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_cargos_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\nnoise\n\
                        {\"reason\":\"compiler-artifact\",\"executable\":\"/t/debug/mumbai-mesh\"}\n";
        assert_eq!(
            executables(messages),
            [PathBuf::from("/t/debug/mumbai-mesh")]
        );
    }
}
