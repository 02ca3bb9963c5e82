//! `mumbai-mesh explain`.

use std::{fmt::Write as _, path::PathBuf};

use anyhow::Context;
use clap::{ArgGroup, Args, ValueEnum};
use serde_json::Value;

use super::{UsageError, bootstrap::mesh, remote};
use crate::{
    clock,
    explain::{Question, explain},
};

/// Say what would happen to a request, at a time of your choice, and why.
///
/// The answer is computed by the very code that runs in the filter.
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("mesh").args(["config", "server"]).required(true)),
    group(ArgGroup::new("target").args(["service", "gateway"]).required(true)),

    after_help = "Example:\n  mumbai-mesh explain --config mesh.yaml --gateway edge --path /orders/7 \\\n      --at 2026-11-08T18:30+05:30 -H x-user-id:42"
)]
pub(super) struct Explain {
    /// Read this mesh file, or a folder of them.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Ask this running server.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The service called, through a sidecar.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// The gateway called.
    #[arg(long, value_name = "NAME")]
    gateway: Option<String>,
    /// When: RFC 3339 with an offset, seconds optional [default: now].
    #[arg(long, value_name = "RFC3339")]
    at: Option<String>,
    /// Path of the request [default: /].
    #[arg(long, value_name = "P")]
    path: Option<String>,
    /// Method of the request [default: GET].
    #[arg(long, value_name = "M")]
    method: Option<String>,
    /// Zone of the Envoy that decides, such as mumbai-west.
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// A request header; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "name:value")]
    headers: Vec<String>,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
}

impl Explain {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let question = Question {
            service: self.service,
            gateway: self.gateway,
            at: self.at,
            path: self.path,
            method: self.method,
            zone: self.zone,
            headers: self.headers,
        };
        let answer = match (&self.server, &self.config) {
            (Some(server), _) => ask(server, &question)?,
            (None, Some(config)) => {
                serde_json::to_value(explain(&mesh(config)?, &question, clock::now())?)?
            }
            (None, None) => return Err(UsageError("give --config or --server".into()).into()),
        };
        match self.output {
            Output::Json => println!("{answer:#}"),
            Output::Table => print!("{}", table(&answer)),
        }
        Ok(())
    }
}

fn ask(server: &str, question: &Question) -> anyhow::Result<Value> {
    let named = [
        ("service", &question.service),
        ("gateway", &question.gateway),
        ("at", &question.at),
        ("path", &question.path),
        ("method", &question.method),
        ("zone", &question.zone),
    ];
    let mut query: Vec<(&str, String)> = named
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.clone()?)))
        .collect();
    if !question.headers.is_empty() {
        query.push(("header", question.headers.join("\n")));
    }
    let answer = remote::get(server, "/api/v1/explain", &query)?;
    serde_json::from_slice(&answer).context("the server's answer")
}

/// One line per field; the reasons last, one a line.
fn table(answer: &Value) -> String {
    let mut text = String::new();
    let fields = answer.as_object().into_iter().flatten();
    for (name, value) in fields.filter(|(name, _)| *name != "reasons") {
        let value = match value {
            Value::Null => "-".to_string(),
            Value::String(text) => text.clone(),
            Value::Object(fields) => fields
                .iter()
                .map(|(name, value)| match value {
                    Value::String(text) => format!("{name}={text}"),
                    other => format!("{name}={other}"),
                })
                .collect::<Vec<_>>()
                .join(" "),
            other => other.to_string(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<16} {value}");
    }
    for reason in answer["reasons"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "  - {}", reason.as_str().unwrap_or_default());
    }
    text
}
