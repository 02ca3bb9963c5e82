//! `mumbai-mesh restore`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::{BadData, output::print, passphrase, passphrase_of, zone};
use crate::{
    app::Restored,
    archive::{Archive, open},
    clock,
    explain::rfc3339,
    store::Log,
};

/// Bring a backup back, into a state dir that holds nothing.
///
/// Start the server with that --state-dir afterwards: it has the same revisions, certificate authority and tokens, so
/// Envoys go on as if it had been away. With `serve --store etcd://…` what is in the state dir moves into an etcd that
/// holds nothing yet. All of it is brought back, or nothing.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  mumbai-mesh restore mesh.backup --passphrase-file backup.pass --state-dir /var/lib/mumbai-mesh\n  mumbai-mesh serve --state-dir /var/lib/mumbai-mesh --config mesh.yaml"
)]
pub(super) struct Restore {
    /// What `mumbai-mesh backup` wrote.
    file: PathBuf,
    /// File with the passphrase with which it was made.
    #[arg(long, value_name = "FILE")]
    passphrase_file: PathBuf,
    /// Where to put it: a folder that is empty or not there.
    #[arg(long, value_name = "DIR", default_value = ".mumbai-mesh")]
    state_dir: PathBuf,
    /// File with the passphrase under which the authority's keys are to lie in the state dir, as with `serve`.
    #[arg(long, value_name = "FILE")]
    ca_passphrase_file: Option<PathBuf>,
}

impl Restore {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let shown = self.file.display();
        let sealed = std::fs::read(&self.file).with_context(|| shown.to_string())?;
        let words = passphrase_of("--passphrase-file", &self.passphrase_file)?;
        let ca_words = passphrase(self.ca_passphrase_file.as_deref())?;
        let bad = |error: &dyn std::fmt::Display| BadData(format!("{shown}: {error}"));
        let text = open(&words, &sealed).map_err(|error| bad(&error))?;
        let archive = Archive::read(&text).map_err(|error| bad(&error))?;
        Restored::of(&archive, ca_words, clock::now())
            .place(&self.state_dir)
            .with_context(|| format!("--state-dir {}", self.state_dir.display()))?;
        print(&format!(
            "{}: the mesh at revision {}, resources at {}, as of {}; start the server with this --state-dir\n",
            self.state_dir.display(),
            archive.revision(Log::Mesh),
            archive.revision(Log::Resources),
            rfc3339(&zone(), archive.made_at()),
        ))?;
        Ok(())
    }
}
