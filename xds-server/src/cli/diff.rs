//! `mumbai-mesh diff`.

use anyhow::Context;
use clap::Args;
use serde_json::Value;

use super::{
    output::{Output, show},
    plan::table,
    remote::Credentials,
};

/// Say what differs between two revisions, or between one and what is in force, as `plan` does.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mumbai-mesh diff 7 9\n  mumbai-mesh diff 7    # what became different since"
)]
pub(super) struct Diff {
    /// The earlier one.
    revision: u64,
    /// The later one [default: what is in force].
    to: Option<u64>,
    /// The server to ask.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8088")]
    server: String,
    #[command(flatten)]
    credentials: Credentials,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Diff {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let path = format!("/api/v1/revisions/{}/diff", self.revision);
        let to = self.to.map(|to| ("to", to.to_string()));
        let query: Vec<_> = to.into_iter().collect();
        let answer = self.credentials.get(&self.server, &path, &query)?;
        let answer: Value = serde_json::from_slice(&answer).context("the server's answer")?;
        show(&answer, self.output, |answer| {
            table(answer).replace("nothing would change", "nothing differs")
        })
    }
}
