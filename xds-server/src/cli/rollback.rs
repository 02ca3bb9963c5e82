//! `mumbai-mesh rollback`.

use clap::Args;

use super::change::{How, table};

/// Put what an earlier revision said in force again, as a new revision.
///
/// A rollback passes every freeze. Where the server follows files (--config) it is pinned: what the files say now
/// waits until their content changes.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mumbai-mesh history\n  mumbai-mesh diff 7          # what is different now\n  mumbai-mesh rollback 7 --wait --reason 'INC-42'"
)]
pub(super) struct Rollback {
    /// One of those that `mumbai-mesh history` lists.
    revision: u64,
    #[command(flatten)]
    how: How,
}

impl Rollback {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let path = format!("/api/v1/revisions/{}/rollback", self.revision);
        let answer = self.how.ask(&path, &[], b"", None)?;
        self.how.tell(&answer, |answer| {
            let mut text = table(answer);
            if let (Some(pinned), Some(file)) =
                (answer["pinned"].as_u64(), answer["until_changed"].as_str())
            {
                text += &format!("revision {pinned} is pinned until {file} changes\n");
            }
            text
        })
    }
}
