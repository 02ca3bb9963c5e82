//! `mumbai-mesh override`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    change::{How, table as changed},
    output::{Output, columns, printable, show},
    remote::Credentials,
};

/// Say something of a service until a time, in every proxy, whatever the calendar and its rules say.
///
/// It ends by itself in every proxy at its time, also while the server is away; and it passes every freeze.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mumbai-mesh override bypass --service order-service --for 30m --reason 'INC-42: limits too tight'\n  mumbai-mesh override list\n  mumbai-mesh override end --service order-service"
)]
pub(super) struct Override {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Stable serves everybody: no limit, no shedding, no canary, no breaker.
    Bypass(Begin),
    /// Limits, shedding and breakers decide and count, and refuse nothing.
    Observe(Begin),
    /// It is a peak hour for this service, unless it is one or a festival already.
    Peak(Begin),
    /// It is a normal hour for this service.
    Normal(Begin),
    /// List those that act.
    List(List),
    /// End one before its time.
    End(End),
}

#[derive(Debug, Args)]
struct Begin {
    /// The service.
    #[arg(long)]
    service: String,
    /// How long, from 1s to 168h.
    #[arg(long = "for", value_name = "TIME")]
    span: String,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
struct End {
    /// The service.
    #[arg(long)]
    service: String,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
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

impl Override {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Bypass(begin) => begin.run("bypass"),
            Command::Observe(begin) => begin.run("observe"),
            Command::Peak(begin) => begin.run("peak"),
            Command::Normal(begin) => begin.run("normal"),
            Command::End(end) => act(&end.service, "/end", &json!({}), &end.how),
            Command::List(list) => list.run(),
        }
    }
}

impl Begin {
    fn run(&self, kind: &str) -> anyhow::Result<()> {
        let body = json!({"kind": kind, "for": self.span});
        act(&self.service, "", &body, &self.how)
    }
}

fn act(service: &str, verb: &str, body: &Value, how: &How) -> anyhow::Result<()> {
    let service = super::canary::escaped(service);
    let path = format!("/api/v1/services/{service}/override{verb}");
    let answer = how.ask(&path, &[], body.to_string().as_bytes(), None)?;
    how.tell(&answer, |answer| match answer["overrides"].is_array() {
        true => format!("{}\n{}", changed(answer), table(answer)),
        false => changed(answer),
    })
}

impl List {
    fn run(self) -> anyhow::Result<()> {
        let overrides =
            self.credentials
                .pages(&self.server, "/api/v1/overrides", &[], "overrides")?;
        show(&json!({"overrides": overrides}), self.output, table)
    }
}

fn table(answer: &Value) -> String {
    const COLUMNS: [(&str, &str); 5] = [
        ("SERVICE", "service"),
        ("OVERRIDE", "kind"),
        ("UNTIL", "until"),
        ("BY", "by"),
        ("REASON", "reason"),
    ];
    let all = answer["overrides"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    if all.is_empty() {
        return "no overrides\n".into();
    }
    let mut rows = vec![COLUMNS.map(|(title, _)| title.to_string()).to_vec()];
    for one in all {
        let cell = |(_, field): (&str, &str)| one[field].as_str().map_or("-".into(), printable);
        rows.push(COLUMNS.map(cell).to_vec());
    }
    columns(&rows)
}
