//! `mumbai-mesh history`.

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;

use super::{
    output::{Output, columns, printable, show},
    plan::mesh_problem,
    remote::Credentials,
};
use crate::mesh::MeshProblem;

/// The revisions of the mesh that a server keeps, the newest first: when, by whom, why.
///
/// The newest 100 are kept. What is in force is marked by *; what was refused since is told below.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  mumbai-mesh history --limit 5\n  mumbai-mesh history 7 > mesh.yaml    # the mesh as it was then"
)]
pub(super) struct History {
    /// Shows all that this revision said, as one mesh file.
    #[arg(value_name = "REVISION", conflicts_with_all = ["after", "limit"])]
    revision: Option<u64>,
    /// The server to ask.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8088")]
    server: String,
    #[command(flatten)]
    credentials: Credentials,
    /// Revisions older than this one only.
    #[arg(long, value_name = "REVISION")]
    after: Option<u64>,
    /// Of raw resources instead of the mesh.
    #[arg(long, conflicts_with_all = ["revision", "instances"])]
    resources: bool,
    /// Of instances that registered instead of the mesh.
    #[arg(long, conflicts_with = "revision")]
    instances: bool,
    /// How many, from 1 to 100.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100))]
    limit: u64,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl History {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if let Some(revision) = self.revision {
            return self.one(revision);
        }
        let mut query = vec![("limit", self.limit.to_string())];
        if self.resources {
            query.push(("of", "resources".into()));
        }
        if self.instances {
            query.push(("of", "instances".into()));
        }
        query.extend(self.after.map(|after| ("after", after.to_string())));
        let answer = self
            .credentials
            .get(&self.server, "/api/v1/revisions", &query)?;
        let answer: Value = serde_json::from_slice(&answer).context("the server's answer")?;
        if !answer["revisions"].is_array() {
            bail!("{} answers something else than revisions", self.server);
        }
        if let Some(problem) = answer["problem"].as_str() {
            bail!("the server's store: {problem}");
        }
        show(&answer, self.output, table)
    }

    fn one(&self, revision: u64) -> anyhow::Result<()> {
        let answer =
            self.credentials
                .get(&self.server, &format!("/api/v1/revisions/{revision}"), &[])?;
        let answer: Value = serde_json::from_slice(&answer).context("the server's answer")?;
        // What is shown may be served again.
        let file = serde_saphyr::to_string(&answer["document"])?;
        show(&answer, self.output, |answer| {
            let told =
                ["accepted_at", "origin", "author", "message"].map(|field| cell(&answer[field]));
            format!("# revision {revision}: {}\n{file}", told.join(", "))
        })
    }
}

fn table(answer: &Value) -> String {
    const COLUMNS: [(&str, &str); 5] = [
        ("REVISION", "revision"),
        ("ACCEPTED AT", "accepted_at"),
        ("ORIGIN", "origin"),
        ("AUTHOR", "author"),
        ("MESSAGE", "message"),
    ];
    let mut titles = vec![" ".to_string()];
    titles.extend(COLUMNS.map(|(title, _)| title.to_string()));
    let mut rows = vec![titles];
    let current = &answer["newest"];
    for one in answer["revisions"].as_array().into_iter().flatten() {
        let mark = if one["revision"] == *current {
            "*"
        } else {
            " "
        };
        let mut row = vec![mark.to_string()];
        row.extend(COLUMNS.map(|(_, field)| cell(&one[field])));
        rows.push(row);
    }
    let mut text = columns(&rows);
    if let Some(next) = answer["next"].as_u64() {
        text += &format!("\nolder ones: --after {next}\n");
    }
    if let Some(pinned) = answer["current"]["pinned"].as_u64() {
        let file = cell(&answer["current"]["file"]);
        text += &format!("\npinned by a rollback to {pinned} until {file} changes\n");
    }
    if let Some(frozen) = answer["frozen"].as_str() {
        text += &format!("\nfrozen: {}\n", printable(frozen));
    }
    if answer["waiting"].is_object() {
        let waiting = &answer["waiting"];
        let (since, because) = (cell(&waiting["since"]), cell(&waiting["because"]));
        text += &format!("\nthe file waits since {since}, for {because}:\n");
        for change in waiting["changes"].as_array().into_iter().flatten() {
            text += &format!("  {}\n", cell(&change["sentence"]));
        }
    }
    let held = &answer["waiting_resources"];
    if held.is_object() {
        let (since, because) = (cell(&held["since"]), cell(&held["because"]));
        let files = held["files"].as_array().into_iter().flatten();
        let files: Vec<String> = files.map(cell).collect();
        let files = files.join(", ");
        text += &format!("\nfiles of --resources wait since {since}, for {because}: {files}\n");
    }
    let problems = answer["refused"]["problems"].as_array();
    let problems: Vec<MeshProblem> = problems.into_iter().flatten().map(mesh_problem).collect();
    if !problems.is_empty() {
        text += &format!("\nrefused at {}:\n", cell(&answer["refused"]["at"]));
    }
    for problem in problems {
        text += &format!("  {problem}\n");
    }
    text
}

/// People and files say what they like; a terminal must not obey it.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => printable(text),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_one_in_force_is_marked_and_a_terminal_obeys_nobody() {
        let answer = json!({
            "current": {"revision": 2},
            "newest": 2,
            "refused": {"at": "c", "problems": [
                {
                    "place": {"file": "mesh.yaml", "line": 4, "column": 7},
                    "path": "services.a.wieght", "message": "unknown\u{1b}[2J", "hint": "weight?",
                },
                {"place": null, "path": "timezone", "message": "wrong", "hint": null},
            ]},
            "revisions": [
                {"revision": 3, "accepted_at": "b", "origin": "api", "author": "\u{1b}[2J", "message": null},
                {"revision": 2, "accepted_at": "a", "origin": "file", "author": null, "message": "mesh.yaml"},
            ],
            "next": 2,
        });
        let shown = table(&answer);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(
            lines[1].starts_with("   3") && lines[2].starts_with("*  2"),
            "{shown}"
        );
        assert!(!shown.contains('\u{1b}'), "{shown}");
        assert!(shown.contains("\nolder ones: --after 2\n"), "{shown}");
        let refused = "\nrefused at c:\n  mesh.yaml:4:7: services.a.wieght: unknown\\u{1b}[2J (weight?)\n  timezone: wrong\n";
        assert!(shown.ends_with(refused), "{shown}");
    }
}
