//! `mumbai-mesh certs`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    output::{Output, columns, show},
    remote::Credentials,
};

/// The certificates that the mesh's authority has issued.
#[derive(Debug, Args)]
pub(super) struct Certs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(List),
}

/// List the certificates in use: the authority's own, and one for each service and gateway that has a
/// proxy. Private keys are never shown.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  mumbai-mesh certs list -o json | jq -r '.certificates[] | select(.problem != null)'"
)]
struct List {
    /// The server to ask.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8088")]
    server: String,
    #[command(flatten)]
    credentials: Credentials,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Certs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Command::List(list) = self.command;
        list.run()
    }
}

impl List {
    fn run(self) -> anyhow::Result<()> {
        let certificates =
            self.credentials
                .pages(&self.server, "/api/v1/certificates", &[], "certificates")?;
        let all = json!({"certificates": certificates});
        show(&all, self.output, |_| table(&certificates))
    }
}

fn table(certificates: &[Value]) -> String {
    const COLUMNS: [(&str, &str); 7] = [
        ("KIND", "kind"),
        ("NAME", "name"),
        ("SERIAL", "serial"),
        ("NOT BEFORE", "not_before"),
        ("NOT AFTER", "not_after"),
        ("RENEWS AT", "renews_at"),
        ("SPIFFE ID", "spiffe_id"),
    ];
    let mut rows = vec![COLUMNS.map(|(title, _)| title.to_string()).to_vec()];
    rows.extend(certificates.iter().map(|one| {
        let cell = |(_, field): (&str, &str)| match one[field].as_str() {
            None | Some("") => "-".to_string(),
            Some(text) => text.to_string(),
        };
        COLUMNS.map(cell).to_vec()
    }));
    let mut text = columns(&rows);
    for one in certificates {
        if let (Some(name), Some(problem)) = (one["name"].as_str(), one["problem"].as_str()) {
            text += &format!("\n{name}: not renewed: {problem}\n");
        }
    }
    text
}
