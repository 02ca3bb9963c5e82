//! `mumbai-mesh apply`.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::{
    Changes,
    change::{How, table},
    output::printable,
    plan,
};

/// Put a mesh file in force on a server that has none of its own.
///
/// All of the file becomes the next revision. A server that was started with --config takes what its own file says
/// nothing about, and refuses the rest: change that file instead.
///
/// Where the mesh says `freeze: {files: hold}`, files that are edited in a freeze wait until it ends; --files lets those
/// of the server in now.
///
/// Exit codes: 0 done, 65 the file cannot be used, 1 refused, rejected by proxies (and rolled back) or not answered in
/// time; with --dry-run 2 when something would change.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mumbai-mesh apply mesh.yaml --wait\n  mumbai-mesh apply mesh.yaml --dry-run\n  mumbai-mesh apply mesh.yaml --wait=2m --force --reason 'INC-42: payments fail'\n  mumbai-mesh apply --files --force --reason 'INC-42: the fix is in the file'"
)]
pub(super) struct Apply {
    /// The mesh file, or a folder of them.
    #[arg(required_unless_present = "files")]
    file: Option<PathBuf>,
    /// Nothing of here: let the server's own files in, which a freeze keeps waiting.
    #[arg(long, conflicts_with_all = ["file", "wait"])]
    files: bool,
    /// What the history says of it [default: the file's name].
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    #[command(flatten)]
    how: How,
}

impl Apply {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let message = self.message.map(|message| ("message", message));
        let more: Vec<_> = message.into_iter().collect();
        let Some(file) = self.file else {
            let answer = self.how.ask("/api/v1/files:apply", &more, b"", None)?;
            return self.how.tell(&answer, let_in);
        };
        let body = plan::body(&file)?;
        let answer = self
            .how
            .ask("/api/v1/apply", &more, body.as_bytes(), Some(&file))?;
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

/// What was let in.
fn let_in(answer: &Value) -> String {
    let mut text = table(answer);
    let files = answer["files"].as_array().into_iter().flatten();
    let names: Vec<String> = files
        .filter_map(|name| Some(printable(name.as_str()?)))
        .collect();
    if !names.is_empty() {
        let revision = &answer["resources"];
        text += &format!(
            "files of --resources, revision {revision} of resources: {}\n",
            names.join(", ")
        );
    }
    text
}
