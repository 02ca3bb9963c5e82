//! `mumbai-mesh export`.

mod configmap;
mod folder;
mod istio;
mod kubernetes;
mod secret;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use policy::reader::Problem;

use super::{BadData, output::print};
use crate::export::{self as exported, Manifest};

/// Write what other tools need of a mesh: manifests for Kubernetes and Istio, a configuration for a single
/// Envoy, a certificate as a Secret.
///
/// To stdout as YAML for `kubectl apply -f -`, or with --out as files into a folder, which replace those of an
/// earlier export together: all of them or none.
#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Kubernetes(kubernetes::Kubernetes),
    Configmap(configmap::Configmap),
    Secret(secret::Secret),
    Istio(istio::Istio),
}

impl Export {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Kubernetes(kubernetes) => kubernetes.run(),
            Command::Configmap(configmap) => configmap.run(),
            Command::Secret(secret) => secret.run(),
            Command::Istio(istio) => istio.run(),
        }
    }
}

/// Where it is written.
#[derive(Debug, Args)]
struct Destination {
    /// Folder for the files, made when it is not there [default: stdout].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Destination {
    /// Writes an export, or tells all that keeps it from being one.
    fn give(
        &self,
        config: &Path,
        made: Result<exported::Export, Vec<Problem>>,
    ) -> anyhow::Result<()> {
        let export = made.map_err(|problems| refused(config, &problems))?;
        for warning in &export.warnings {
            eprintln!("warning: {warning}");
        }
        self.write(&export.files)
    }

    fn write(&self, files: &[Manifest]) -> anyhow::Result<()> {
        if let Some(folder) = &self.out {
            let written = folder::replace(folder, files)
                .with_context(|| format!("--out {}", folder.display()))?;
            print(
                &written
                    .iter()
                    .map(|path| format!("{}\n", path.display()))
                    .collect::<String>(),
            )?;
            return Ok(());
        }
        let applied: Vec<&Manifest> = files.iter().filter(|file| file.is_applied).collect();
        let mut text = String::new();
        for (number, file) in applied.iter().enumerate() {
            if number > 0 {
                text += "---\n";
            }
            text += &file.text()?;
        }
        print(&text)?;
        let others: Vec<&str> = files
            .iter()
            .filter(|file| !file.is_applied)
            .map(|file| file.name)
            .collect();
        if !others.is_empty() {
            eprintln!(
                "not for kubectl, and written with --out only: {}",
                others.join(", ")
            );
        }
        Ok(())
    }
}

fn refused(config: &Path, problems: &[Problem]) -> anyhow::Error {
    eprintln!("{}: {} problem(s)", config.display(), problems.len());
    for problem in problems {
        eprintln!("  {problem}");
    }
    BadData(format!(
        "{} cannot be exported; nothing was written",
        config.display()
    ))
    .into()
}
