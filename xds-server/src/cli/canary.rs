//! `mumbai-mesh canary`.

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    change::{How, table as changed},
    output::{Output, columns, printable, show},
    remote::Credentials,
};

/// Send a share of a service's users to another version, and more of them when it does well.
///
/// Each step is a revision: `mumbai-mesh history` tells who did what. Where the server's own file says what the canary
/// is, start, set and promote are done there; pause, resume and abort lie over the file, until the file says something
/// else about it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mumbai-mesh canary start order-service v2 10 --sticky-by x-user-id --wait\n  mumbai-mesh canary set order-service 25\n  mumbai-mesh canary status\n  mumbai-mesh canary promote order-service\n  mumbai-mesh canary abort order-service --reason 'errors in checkout'"
)]
pub(super) struct Canary {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Start(Start),
    Set(Set),
    /// Leave the weight where it is: a ramp stands still.
    Pause(Act),
    /// Let a paused ramp go on with its step, or any other canary begin anew; users return to one that latched.
    Resume(Act),
    /// Make it the stable version: all users go there.
    Promote(Act),
    /// Send nobody to it; passes every freeze.
    Abort(Act),
    Status(Status),
}

/// Begin: send a percentage of a service's users to the endpoints with a label.
#[derive(Debug, Args)]
struct Start {
    /// The service.
    service: String,
    /// The label of the new version's endpoints.
    version: String,
    /// Percent of the users.
    weight: f64,
    /// The header that keeps a user on one side; without it each request is drawn anew.
    #[arg(long, value_name = "HEADER")]
    sticky_by: Option<String>,
    #[command(flatten)]
    how: How,
}

/// Another percentage of the users.
#[derive(Debug, Args)]
struct Set {
    /// The service.
    service: String,
    /// Percent of the users.
    weight: f64,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
struct Act {
    /// The service.
    service: String,
    #[command(flatten)]
    how: How,
}

/// Show canaries: of one service, or all.
#[derive(Debug, Args)]
struct Status {
    /// The service.
    service: Option<String>,
    /// The server to ask.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8088")]
    server: String,
    #[command(flatten)]
    credentials: Credentials,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Canary {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Start(start) => {
                let mut body = json!({"version": start.version, "weight": start.weight});
                if let Some(header) = start.sticky_by {
                    body["sticky_by"] = json!({"header": header});
                }
                act(&start.service, "start", &body, &start.how)
            }
            Command::Set(set) => act(
                &set.service,
                "set",
                &json!({"weight": set.weight}),
                &set.how,
            ),
            Command::Pause(one) => act(&one.service, "pause", &json!({}), &one.how),
            Command::Resume(one) => act(&one.service, "resume", &json!({}), &one.how),
            Command::Promote(one) => act(&one.service, "promote", &json!({}), &one.how),
            Command::Abort(one) => act(&one.service, "abort", &json!({}), &one.how),
            Command::Status(status) => status.run(),
        }
    }
}

fn act(service: &str, verb: &str, body: &Value, how: &How) -> anyhow::Result<()> {
    let path = format!("/api/v1/canaries/{}/{verb}", escaped(service));
    let answer = how.ask(&path, &[], body.to_string().as_bytes(), None)?;
    how.tell(&answer, |answer| {
        let canary = &answer["canary"];
        let mut text = changed(answer);
        if canary.is_object() {
            text += &format!("\n{}", table(std::slice::from_ref(canary)));
            if canary["sticky_by"].is_null() && verb == "start" {
                text +=
                    "\neach request is drawn anew: --sticky-by HEADER keeps a user on one side\n";
            }
        }
        text
    })
}

/// As one segment of a path; a service's name needs no escapes, and nothing else passes the server.
pub(super) fn escaped(service: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    service
        .bytes()
        .map(|byte| match is_plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

impl Status {
    fn run(self) -> anyhow::Result<()> {
        let Some(service) = &self.service else {
            let canaries =
                self.credentials
                    .pages(&self.server, "/api/v1/canaries", &[], "canaries")?;
            let all = json!({"canaries": canaries});
            return show(&all, self.output, |_| match canaries.is_empty() {
                true => "no canaries\n".into(),
                false => table(&canaries),
            });
        };
        let path = format!("/api/v1/canaries/{}", escaped(service));
        let answer = self.credentials.get(&self.server, &path, &[])?;
        let answer: Value = serde_json::from_slice(&answer).context("the server's answer")?;
        show(&answer, self.output, |answer| {
            table(std::slice::from_ref(answer))
        })
    }
}

fn table(canaries: &[Value]) -> String {
    let titles = [
        "SERVICE",
        "VERSION",
        "STATE",
        "WEIGHT",
        "STICKY BY",
        "ENDPOINTS",
        "SAID BY",
    ];
    let mut rows = vec![titles.map(str::to_string).to_vec()];
    let mut notes = String::new();
    for one in canaries {
        let text = |field: &str| one[field].as_str().map_or("-".into(), printable);
        let owner = match one["place"].as_str() {
            Some(place) => printable(place),
            None => text("owner"),
        };
        rows.push(vec![
            text("service"),
            text("version"),
            text("state"),
            format!("{} %", one["weight"]),
            text("sticky_by"),
            one["endpoints"].to_string(),
            owner,
        ]);
        notes += &note(one);
    }
    columns(&rows) + &notes
}

/// What does not fit into a row.
fn note(one: &Value) -> String {
    let service = one["service"].as_str().map_or(String::new(), printable);
    let mut text = String::new();
    let operation = &one["operation"];
    if let (Some(what), Some(at)) = (operation["what"].as_str(), operation["at"].as_str()) {
        let by = operation["by"]
            .as_str()
            .map_or(String::new(), |by| format!(" by {by}"));
        let why = operation["reason"]
            .as_str()
            .map_or(String::new(), |why| format!(": {why}"));
        text += &printable(&format!("{service}: {what}{by} at {at}{why}"));
        text.push('\n');
    }
    if let Some(steps) = one["ramp"]["steps"].as_u64() {
        let next = &one["ramp"]["next"];
        let next = next["at"].as_str().map_or(String::new(), |at| {
            format!(", {} % from {at} on", next["weight"])
        });
        let taken = &one["ramp"]["steps_taken"];
        text += &printable(&format!(
            "{service}: {taken} of {steps} steps of its ramp{next}"
        ));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_is_a_row_and_what_somebody_did_with_it_a_line() {
        let one = json!({
            "service": "orders", "version": "v2", "state": "paused", "weight": 5, "sticky_by": null, "endpoints": 1,
            "owner": "file", "place": "mesh.yaml:7:5",
            "operation": {"what": "paused", "by": "alice", "at": "2026-11-08T18:30:00+05:30", "reason": "look"},
            "ramp": {"steps": 3, "steps_taken": 1, "next": {"at": "2026-11-08T19:00:00+05:30", "weight": 10}},
        });
        let told = table(&[one]);
        assert!(told.contains("paused  5 %"), "{told}");
        assert!(told.contains("mesh.yaml:7:5"), "{told}");
        assert!(
            told.ends_with(
                "orders: paused by alice at 2026-11-08T18:30:00+05:30: look\n\
                 orders: 1 of 3 steps of its ramp, 10 % from 2026-11-08T19:00:00+05:30 on\n"
            ),
            "{told}"
        );
        assert_eq!(escaped("a/b c"), "a%2Fb%20c");
    }
}
