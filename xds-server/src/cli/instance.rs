//! `mumbai-mesh instance`.

pub(super) mod endpoint;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    output::{Output, columns, printable, show},
    remote::{ANSWER_WITHIN, Answer, Credentials, Remote},
};
use endpoint::{Endpoint, path};

/// Instances of services: those of the mesh file, and those that registered with a lease.
///
/// An instance that registered sends a heartbeat every third of its TTL; without one for a TTL it expires and callers
/// know it no more. When too many of a service fall silent at once (more than one and more than a fifth) they stay, as
/// unhealthy, until they come back or are released.
#[derive(Debug, Args)]
pub(super) struct Instance {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(List),
    Register(Register),
    /// Say that an instance is alive.
    Heartbeat(One),
    /// Give an instance no new requests: callers are told that it is draining.
    Drain(One),
    /// Take an instance out.
    Deregister(One),
    Release(Release),
}

/// The server to ask.
#[derive(Debug, Args)]
struct Server {
    /// The server to ask.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8088")]
    server: String,
    #[command(flatten)]
    credentials: Credentials,
}

impl Server {
    fn remote(&self) -> anyhow::Result<Remote> {
        self.credentials.remote(&self.server, ANSWER_WITHIN)
    }
}

/// List instances, with how they stand and when they were last heard.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mumbai-mesh instance list --service order-service\n  mumbai-mesh instance list --state vanished -o json"
)]
struct List {
    /// Of this service only.
    #[arg(long)]
    service: Option<String>,
    /// Of this state only.
    #[arg(long, value_parser = ["up", "draining", "expired", "vanished"])]
    state: Option<String>,
    #[command(flatten)]
    server: Server,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Register an instance, or change what is known of it.
///
/// It counts until its TTL is over: send heartbeats, or let `mumbai-mesh register` run the application.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  mumbai-mesh instance register --service order-service --id order-7 --host 10.0.1.7 --port 8080 --ttl 30s"
)]
struct Register {
    #[command(flatten)]
    endpoint: Endpoint,
    /// Address at which callers reach it: an IP address, or a DNS name.
    #[arg(long)]
    host: String,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
struct One {
    /// Its service.
    #[arg(long)]
    service: String,
    /// Its id, as `instance list` shows it.
    #[arg(long)]
    id: String,
    #[command(flatten)]
    server: Server,
}

/// Let instances go that fell silent together with too many others, and will not come back.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mumbai-mesh instance release --service order-service\n  mumbai-mesh instance release --service order-service --id order-7"
)]
struct Release {
    /// Of which service.
    #[arg(long)]
    service: String,
    /// This one alone.
    #[arg(long)]
    id: Option<String>,
    #[command(flatten)]
    server: Server,
}

impl Instance {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::List(list) => list.run(),
            Command::Register(register) => register.run(),
            Command::Heartbeat(one) => {
                one.run(|remote, path| remote.post(&format!("{path}/heartbeat"), None))
            }
            Command::Drain(one) => {
                one.run(|remote, path| remote.post(&format!("{path}/drain"), None))
            }
            Command::Deregister(one) => one.run(Remote::delete),
            Command::Release(release) => release.run(),
        }
    }
}

impl List {
    fn run(self) -> anyhow::Result<()> {
        let instances = self.ask()?;
        show(&json!({"instances": instances}), self.output, |answer| {
            table(answer["instances"].as_array().map_or(&[], Vec::as_slice))
        })
    }

    /// All pages.
    fn ask(&self) -> anyhow::Result<Vec<Value>> {
        let Server {
            server,
            credentials,
        } = &self.server;
        let query = [
            ("service", self.service.clone()),
            ("state", self.state.clone()),
        ];
        credentials.pages(server, "/api/v1/instances", &query, "instances")
    }
}

fn table(instances: &[Value]) -> String {
    const COLUMNS: [(&str, &str); 8] = [
        ("SERVICE", "service"),
        ("ID", "id"),
        ("ZONE", "zone"),
        ("VERSION", "version"),
        ("SOURCE", "source"),
        ("STATE", "state"),
        ("TTL", "ttl"),
        ("LAST HEARTBEAT", "last_heartbeat"),
    ];
    let mut titles: Vec<String> = COLUMNS.iter().map(|(title, _)| (*title).into()).collect();
    titles.insert(2, "ADDRESS".into());
    let mut rows = vec![titles];
    let mut notes = String::new();
    for one in instances {
        let mut row: Vec<String> = COLUMNS
            .iter()
            .map(|(_, field)| cell(&one[*field]))
            .collect();
        row.insert(2, format!("{}:{}", cell(&one["host"]), one["port"]));
        if let Some(problem) = one["problem"].as_str() {
            notes += &format!(
                "\n{}/{} gets no calls: {}",
                row[0],
                row[1],
                printable(problem)
            );
        }
        rows.push(row);
    }
    let vanished = instances
        .iter()
        .filter(|one| one["state"] == "vanished")
        .count();
    if vanished > 0 {
        notes += &format!(
            "\n{vanished} fell silent at once and stay as unhealthy: `mumbai-mesh instance release --service …` lets \
             them go"
        );
    }
    let notes = if notes.is_empty() {
        notes
    } else {
        notes + "\n"
    };
    columns(&rows) + &notes
}

/// Instances say what they like of themselves; a terminal must not obey it.
fn cell(value: &Value) -> String {
    value.as_str().map_or_else(|| "-".into(), printable)
}

impl Register {
    fn run(self) -> anyhow::Result<()> {
        let Server { server, .. } = &self.server;
        let path = self.endpoint.path(&self.host);
        let answer = self
            .server
            .remote()?
            .put(&path, &self.endpoint.body(&self.host))?
            .success(server)?;
        let answer: Value = serde_json::from_slice(&answer).context("the server's answer")?;
        for warning in answer["warnings"].as_array().into_iter().flatten() {
            eprintln!("mumbai-mesh: {}", cell(warning));
        }
        Ok(())
    }
}

impl One {
    fn run(self, ask: impl FnOnce(&Remote, &str) -> anyhow::Result<Answer>) -> anyhow::Result<()> {
        let answer = ask(&self.server.remote()?, &path(&self.service, &self.id))?;
        answer.success(&self.server.server)?;
        Ok(())
    }
}

impl Release {
    fn run(self) -> anyhow::Result<()> {
        let mut body = json!({"service": self.service});
        if let Some(id) = &self.id {
            body["id"] = json!(id);
        }
        let remote = self.server.remote()?;
        let answer = remote
            .post("/api/v1/instances:release", Some(&body))?
            .success(&self.server.server)?;
        let answer: Value = serde_json::from_slice(&answer).context("the server's answer")?;
        let ids: Vec<String> = answer["released"]
            .as_array()
            .into_iter()
            .flatten()
            .map(cell)
            .collect();
        eprintln!("mumbai-mesh: released {}", ids.join(", "));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_who_gets_no_calls_and_what_to_do_about_those_that_vanished() {
        let shown = table(&[
            json!({"service": "orders", "id": "a", "host": "10.0.0.1", "port": 80, "state": "vanished",
                "source": "registered", "problem": null}),
            json!({"service": "orders", "id": "\u{1b}[2J", "host": "x", "port": 81, "state": "up",
                "problem": "its service is not in the mesh (any more)"}),
        ]);
        assert!(shown.contains("10.0.0.1:80"), "{shown}");
        assert!(shown.contains("instance release"), "{shown}");
        assert!(shown.contains("gets no calls: its service"), "{shown}");
        assert!(!shown.contains('\u{1b}'), "{shown}");
    }
}
