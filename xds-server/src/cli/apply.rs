//! `mumbai-mesh apply`.

use std::path::PathBuf;

use clap::Args;

use super::{
    Changes,
    change::{How, table},
    plan,
};

/// Put a mesh file in force on a server that has none of its own.
///
/// All of the file becomes the next revision. A server that was started with --config takes what its own file says
/// nothing about, and refuses the rest: change that file instead.
///
/// Exit codes: 0 done, 65 the file cannot be used, 1 refused, rejected by proxies (and rolled back) or not answered in
/// time; with --dry-run 2 when something would change.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mumbai-mesh apply mesh.yaml --wait\n  mumbai-mesh apply mesh.yaml --dry-run\n  mumbai-mesh apply mesh.yaml --wait=2m --force --reason 'INC-42: payments fail'"
)]
pub(super) struct Apply {
    /// The mesh file, or a folder of them.
    file: PathBuf,
    /// What the history says of it [default: the file's name].
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    #[command(flatten)]
    how: How,
}

impl Apply {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let body = plan::body(&self.file)?;
        let message = self.message.map(|message| ("message", message));
        let more: Vec<_> = message.into_iter().collect();
        let answer = self
            .how
            .ask("/api/v1/apply", &more, body.as_bytes(), Some(&self.file))?;
        if !self.how.dry_run {
            return self.how.tell(&answer, table);
        }
        self.how.tell(&answer, plan::table)?;
        match plan::is_empty(&answer) {
            true => Ok(()),
            false => Err(Changes.into()),
        }
    }
}
