//! `mumbai-mesh plan`.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use clap::Args;
use policy::{
    reader::Problem,
    time::{WallTime, parse_instant},
};
use serde_json::{Value, json};

use super::{
    BadData, Changes, UsageError,
    bootstrap::mesh,
    output::{Output, show},
    remote::{Answer, Credentials},
};
use crate::{
    clock,
    compile::Encoder,
    mesh::{MeshProblem, Place, plain},
    plan::plan,
    redact::Redactor,
    source::{self, Loader},
};

/// Say what a mesh file would change, and change nothing.
///
/// In words first, then for each group of proxies the resources that would appear (+), change (~) or go (-),
/// field by field. The mesh in force is the server's, or that of another file with --against.
///
/// Exit codes: 0 nothing would change, 2 something would, 65 the file cannot be used, 1 failed.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mumbai-mesh plan mesh.yaml\n  mumbai-mesh plan mesh.yaml --against in-force.yaml -o json | jq -r '.mesh[].sentence'"
)]
pub(super) struct Plan {
    /// The mesh file that is offered, or a folder of them.
    file: PathBuf,
    /// The server whose mesh would be changed.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8088")]
    server: String,
    #[command(flatten)]
    credentials: Credentials,
    /// Ask no server: the mesh in force is that of this file or folder.
    #[arg(long, value_name = "FILE", conflicts_with = "server")]
    against: Option<PathBuf>,
    /// As of when: RFC 3339 with an offset, seconds optional [default: now].
    #[arg(long, value_name = "RFC3339")]
    at: Option<String>,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Plan {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let at = match self.at.as_deref().map(parse_instant).transpose() {
            Ok(at) => at,
            Err(error) => return Err(UsageError(format!("--at: {error}")).into()),
        };
        let answer = match &self.against {
            Some(against) => {
                let (before, after) = (mesh(against)?, mesh(&self.file)?);
                let encoder = Arc::new(Encoder::new()?);
                let redactor = Redactor::new(encoder.descriptors());
                let meshes = [before, after].map(Arc::new);
                let now = at.unwrap_or_else(clock::now);
                let [before, after] = &meshes;
                serde_json::to_value(plan(before, after, now, &encoder, &redactor, None))?
            }
            None => self.ask(at)?,
        };
        show(&answer, self.output, table)?;
        match is_empty(&answer) {
            true => Ok(()),
            false => Err(Changes.into()),
        }
    }

    fn ask(&self, at: Option<WallTime>) -> anyhow::Result<Value> {
        let body = body(&self.file)?;
        let at = at.map(|at| ("at", policy::time::format_instant(at)));
        let query: Vec<_> = at.into_iter().collect();
        let answer =
            self.credentials
                .post(&self.server, "/api/v1/plan", &query, body.as_bytes())?;
        answered(&self.server, answer, Some(&self.file))
    }
}

/// Whether nothing would change.
pub(super) fn is_empty(answer: &Value) -> bool {
    let is_empty = |field: &str| answer[field].as_array().is_none_or(Vec::is_empty);
    is_empty("mesh") && is_empty("groups")
}

/// All files of a mesh, as the API takes them.
pub(super) fn body(file: &Path) -> anyhow::Result<String> {
    let loaded = Loader::new(file).look();
    let unread = [&*loaded.problems, &*loaded.cycles].concat();
    if !unread.is_empty() {
        return Err(refused(file, &unread));
    }
    let files: Vec<Value> = loaded
        .files
        .iter()
        .map(|file| json!({"name": file.name, "text": &*file.text}))
        .collect();
    Ok(json!({"files": files}).to_string())
}

/// What a server says to a mesh that it was sent.
pub(super) fn answered(server: &str, answer: Answer, file: Option<&Path>) -> anyhow::Result<Value> {
    let value: Value = serde_json::from_slice(&answer.body)
        .with_context(|| format!("{server} answers {}", answer.status))?;
    if let (Some(file), Some(problems)) = (file, value["problems"].as_array()) {
        let problems: Vec<MeshProblem> = problems.iter().map(mesh_problem).collect();
        return Err(refused(file, &problems));
    }
    answer.success(server)?;
    Ok(value)
}

fn refused(file: &Path, problems: &[MeshProblem]) -> anyhow::Error {
    source::report_fatal(file, problems);
    BadData(format!("{} is refused", file.display())).into()
}

/// As the API writes it.
pub(super) fn mesh_problem(told: &Value) -> MeshProblem {
    let text = |field: &str| told[field].as_str().map(str::to_string);
    let place = &told["place"];
    let number = |field: &str| usize::try_from(place[field].as_u64()?).ok();
    let place = place["file"].as_str().and_then(|file| {
        Some(Place {
            file: file.into(),
            line: number("line")?,
            column: number("column")?,
        })
    });
    MeshProblem {
        place,
        problem: Problem {
            path: text("path").unwrap_or_default(),
            message: text("message").unwrap_or_default(),
            hint: text("hint"),
        },
    }
}

pub(super) fn table(answer: &Value) -> String {
    let mut text = String::new();
    let sentences = list(&answer["mesh"]).filter_map(|one| one["sentence"].as_str());
    for sentence in sentences.clone() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", plain(sentence));
    }
    for warning in list(&answer["warnings"]).filter_map(Value::as_str) {
        let _ = writeln!(text, "warning: {}", plain(warning));
    }
    let (mut groups, mut resources) = (0, 0);
    for group in list(&answer["groups"]) {
        let _ = writeln!(text, "\n{}:", plain(&who(group)));
        for resource in list(&group["resources"]) {
            text += &changed(resource);
            resources += 1;
        }
        groups += 1;
    }
    match (sentences.count(), groups) {
        (0, 0) => "nothing would change\n".into(),
        (_, 0) => format!("{text}\nno proxy would be sent anything else\n"),
        _ => {
            let s = |count: usize| if count == 1 { "" } else { "s" };
            format!(
                "{text}\n{groups} group{} of proxies, {resources} change{} of resources\n",
                s(groups),
                s(resources)
            )
        }
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> + Clone {
    value.as_array().into_iter().flatten()
}

/// `gateway edge, sidecars of order-service (zone mumbai-west), 3 connected`.
fn who(group: &Value) -> String {
    let mut words: Vec<String> = list(&group["proxies"]).map(proxies).collect();
    const NAMED_MAX: usize = 10;
    if words.len() > NAMED_MAX {
        let more = words.len() - NAMED_MAX;
        words.truncate(NAMED_MAX);
        words.push(format!("and {more} more"));
    }
    let connected = group["connected"].as_u64();
    words.extend(connected.map(|connected| format!("{connected} connected")));
    words.join(", ")
}

fn proxies(one: &Value) -> String {
    let name = one["name"].as_str().unwrap_or_default();
    let (words, zones) = match one["kind"].as_str() {
        Some("gateway") => (format!("gateway {name}"), "zone"),
        _ => (format!("sidecars of {name}"), "beside none in zone"),
    };
    let named = |field: &str, what: &str| {
        let names: Vec<&str> = list(&one[field])
            .filter_map(Value::as_str)
            .map(|name| if name.is_empty() { "elsewhere" } else { name })
            .collect();
        (!names.is_empty()).then(|| format!("{what} {}", names.join(" ")))
    };
    let narrowed: Vec<String> = [
        named("zones", zones),
        named("endpoints", "beside"),
        named("nodes", "node"),
    ]
    .into_iter()
    .flatten()
    .collect();
    match narrowed.is_empty() {
        true => words,
        false => format!("{words} ({})", narrowed.join("; ")),
    }
}

fn changed(resource: &Value) -> String {
    let mark = match resource["change"].as_str() {
        Some("appears") => '+',
        Some("goes") => '-',
        _ => '~',
    };
    let of = |field: &str| resource[field].as_str().unwrap_or_default();
    let mut text = format!("  {mark} {} {}", of("type"), plain(of("name")));
    if mark == '~' && list(&resource["fields"]).next().is_none() {
        text += " (what differs is secret)";
    }
    text.push('\n');
    for field in list(&resource["fields"]) {
        let path = plain(field["path"].as_str().unwrap_or_default());
        let change = match (&field["before"], &field["after"]) {
            (Value::Null, after) => format!("+ {path}: {}", short(after)),
            (before, Value::Null) => format!("- {path}: {}", short(before)),
            (before, after) => format!("{path}: {} -> {}", short(before), short(after)),
        };
        let _ = writeln!(text, "      {change}");
    }
    text
}

/// In a line; the whole of it is in the other forms of the answer.
fn short(value: &Value) -> String {
    const CHARS_MAX: usize = 120;
    let text = value.to_string();
    let text = plain(&text);
    match text.char_indices().nth(CHARS_MAX) {
        None => text.into_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_who_would_be_sent_what_and_how_many_of_them_are_there() {
        let answer = json!({
            "mesh": [{"sentence": "order-service: timeout 2s -> 1s"}],
            "warnings": ["look"],
            "groups": [{
                "proxies": [
                    {"kind": "gateway", "name": "edge"},
                    {"kind": "sidecars", "name": "pay", "zones": ["", "west"], "endpoints": ["pay-1"]},
                ],
                "connected": 3,
                "resources": [
                    {"type": "RDS", "name": "edge", "change": "changes", "fields": [
                        {"path": "a[b].c", "before": 1, "after": 2},
                        {"path": "a[d]", "before": null, "after": {"x": "y"}},
                    ]},
                    {"type": "SDS", "name": "default", "change": "changes"},
                    {"type": "CDS", "name": "new", "change": "appears"},
                ],
            }],
        });
        assert_eq!(
            table(&answer),
            "order-service: timeout 2s -> 1s\nwarning: look\n\n\
             gateway edge, sidecars of pay (beside none in zone elsewhere west; beside pay-1), 3 connected:\n  \
             ~ RDS edge\n      a[b].c: 1 -> 2\n      + a[d]: {\"x\":\"y\"}\n  \
             ~ SDS default (what differs is secret)\n  + CDS new\n\n\
             1 group of proxies, 3 changes of resources\n"
        );
        assert_eq!(
            table(&json!({"mesh": [], "groups": []})),
            "nothing would change\n"
        );
    }
}
