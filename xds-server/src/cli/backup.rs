//! `mumbai-mesh backup`.

use std::path::PathBuf;

use anyhow::Context;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use clap::Args;
use serde_json::json;

use super::{output::print, passphrase_of, remote::Credentials};
use crate::{
    archive::{Archive, BackupKey, wrap},
    private_file,
    seal::{self, Purpose},
    store::Log,
};

/// Write all that a running server keeps into one file, sealed by a passphrase.
///
/// In it are the revisions of the mesh, everything else in the store, the certificate authority with its keys, and the
/// API's tokens (as hashes). The server goes on meanwhile. It needs the role admin. Before it is written the file is
/// opened again and read to its end.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  openssl rand -base64 32 > backup.pass && chmod 600 backup.pass   # keep it elsewhere\n  mumbai-mesh backup --out mesh.backup --passphrase-file backup.pass\n  mumbai-mesh restore mesh.backup --passphrase-file backup.pass --state-dir /var/lib/mumbai-mesh"
)]
pub(super) struct Backup {
    /// The file to write. One that is there is replaced when the new one is whole.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// File with the passphrase: one line of 12 characters or more. Without it nobody opens the backup.
    #[arg(long, value_name = "FILE")]
    passphrase_file: PathBuf,
    /// The server to ask.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8088")]
    server: String,
    #[command(flatten)]
    credentials: Credentials,
}

impl Backup {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let passphrase = passphrase_of("--passphrase-file", &self.passphrase_file)?;
        let key = BackupKey::make(&passphrase)?;
        let body = json!({"key": BASE64_STANDARD.encode(key.bytes())}).to_string();
        let answer = self
            .credentials
            .post(&self.server, "/api/v1/backup", &[], body.as_bytes())?;
        let sealed = answer.success(&self.server)?;
        let text = seal::open(Purpose::Backup, key.bytes(), &sealed);
        let archive = Archive::read(&text.context("the server's answer")?)?;
        let file = wrap(&key, &sealed);
        let shown = self.out.display();
        private_file::replace(&self.out, &file).with_context(|| format!("--out {shown}"))?;
        print(&format!(
            "{shown}: {} bytes; the mesh at revision {}, resources at {}, the certificate authority{}\n",
            file.len(),
            archive.revision(Log::Mesh),
            archive.revision(Log::Resources),
            if archive.tokens().is_some() {
                ", the API's tokens"
            } else {
                ""
            },
        ))?;
        Ok(())
    }
}
