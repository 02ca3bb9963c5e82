//! `mumbai-mesh proxy`.

mod config;
mod table;

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    output::{Output, show},
    remote::Credentials,
};

/// What connected Envoys are, and what they made of what they were sent.
#[derive(Debug, Args)]
pub(super) struct Proxy {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Config(config::Config),
    Status(Status),
}

/// Show every connected proxy, or one of them in detail.
///
/// SYNCED: the newest response was accepted. STALE: it is not answered yet. REJECTED: it was rejected
/// (NACK), and the proxy keeps what it had. NOT_SENT: asked for, and there was nothing to send.
/// Exit code 1 when NODE is not connected.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mumbai-mesh proxy status\n  mumbai-mesh proxy status edge-1 --server http://127.0.0.1:8088\n  \
                  mumbai-mesh proxy status -o json | jq -r '.proxies[] | select(.state == \"REJECTED\") | .id'"
)]
struct Status {
    /// One proxy, by its node.id.
    node: Option<String>,
    /// The server to ask.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8088")]
    server: String,
    #[command(flatten)]
    credentials: Credentials,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Proxy {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Config(config) => config.run(),
            Command::Status(status) => status.run(),
        }
    }
}

impl Status {
    fn run(self) -> anyhow::Result<()> {
        let proxies = self.ask()?;
        if let Some(node) = &self.node
            && proxies.is_empty()
        {
            bail!(
                "no proxy {node:?} is connected to {}; `mumbai-mesh proxy status` lists those that are",
                self.server
            );
        }
        show(&json!({"proxies": proxies}), self.output, |_| {
            match self.node {
                Some(_) => table::details(&proxies),
                None => table::overview(&proxies),
            }
        })
    }

    /// All pages.
    fn ask(&self) -> anyhow::Result<Vec<Value>> {
        let query = [("node", self.node.clone())];
        self.credentials
            .pages(&self.server, "/api/v1/proxies", &query, "proxies")
    }
}
