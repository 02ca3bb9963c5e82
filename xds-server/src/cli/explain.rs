//! `mumbai-mesh explain`.

use std::{fmt::Write as _, path::PathBuf};

use anyhow::Context;
use clap::{ArgGroup, Args};
use serde_json::{Value, json};

use super::{
    UsageError,
    admin::Admin,
    bootstrap::mesh,
    output::{Output, columns, printable, show},
    remote::Credentials,
};
use crate::{
    clock,
    compile::Encoder,
    dump::{Dump, Gauges, hosts},
    explain::{Live, LiveExplanation, OUTBOUND, Question, differences, explain, explain_live},
    redact::Redactor,
};

/// Say what would happen to a request, at a time of your choice, and why.
///
/// The answer is computed by the very code that runs in the filter. With --from-proxy it is computed by what
/// a live Envoy has in force: its filter's configuration, its routes, its endpoints and their health, its
/// breakers as its gauges show them; with --config or --server too, where that differs from the mesh.
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("mesh").args(["config", "server"])),
    group(ArgGroup::new("target").args(["service", "gateway"])),
    group(ArgGroup::new("asked").args(["config", "server", "from_proxy"]).required(true).multiple(true)),
    after_help = "Examples:\n  mumbai-mesh explain --config mesh.yaml --gateway edge --path /orders/7 \\\n      --at 2026-11-08T18:30+05:30 -H x-user-id:42\n  \
                  mumbai-mesh explain --from-proxy 127.0.0.1:9901 --path /orders/7 -H x-user-id:42 \\\n      --server http://127.0.0.1:8088"
)]
pub(super) struct Explain {
    /// Read this mesh file, or a folder of them.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Ask this running server.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    #[command(flatten)]
    credentials: Credentials,
    /// Ask the live Envoy with this admin interface.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "zone")]
    from_proxy: Option<String>,
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

impl Explain {
    pub(super) fn run(self) -> anyhow::Result<()> {
        check_lines(&self.headers)?;
        let question = Question {
            service: self.service.clone(),
            gateway: self.gateway.clone(),
            at: self.at.clone(),
            path: self.path.clone(),
            method: self.method.clone(),
            zone: self.zone.clone(),
            headers: self.headers.clone(),
        };
        let answer = match &self.from_proxy {
            Some(address) => self.of_envoy(address, &question)?,
            None => {
                if self.service.is_none() && self.gateway.is_none() {
                    return Err(UsageError("name --service or --gateway".into()).into());
                }
                self.of_mesh(&question)?
            }
        };
        show(&answer, self.output, table)
    }

    fn of_mesh(&self, question: &Question) -> anyhow::Result<Value> {
        match (&self.server, &self.config) {
            (Some(server), _) => self.ask(server, question),
            (None, Some(config)) => {
                let explanation = explain(&mesh(config)?, question, clock::now())?;
                Ok(serde_json::to_value(explanation)?)
            }
            (None, None) => Err(UsageError("give --config or --server".into()).into()),
        }
    }

    fn ask(&self, server: &str, question: &Question) -> anyhow::Result<Value> {
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
        let answer = self
            .credentials
            .get_answer(server, "/api/v1/explain", &query)?;
        // All that it finds wrong is the question.
        let is_usage = answer.status.as_u16() == 400;
        let body = answer.success(server).map_err(|error| match is_usage {
            true => anyhow::Error::from(UsageError(error.to_string())),
            false => error,
        })?;
        serde_json::from_slice(&body).context("the server's answer")
    }

    /// By what an Envoy says of itself; it is now what its own clock says.
    fn of_envoy(&self, address: &str, question: &Question) -> anyhow::Result<Value> {
        let admin = Admin::new(address)?;
        let redactor = Redactor::new(Encoder::new()?.descriptors());
        let page = admin.page("/config_dump?include_eds")?;
        let dump = Dump::read(&page.json, &redactor)
            .with_context(|| format!("{} answers", admin.address))?;
        let hosts = hosts(&admin.page("/clusters?format=json")?.json);
        let filter = Gauges::FILTER;
        let stats = admin.page(&format!("/stats?format=json&filter={}", encoded(filter)))?;
        let gauges = Gauges::read(&stats.json);
        let live = Live {
            dump: &dump,
            hosts: &hosts,
            gauges: Some(&gauges),
        };
        let here = clock::now();
        let now = page.at.unwrap_or(here);
        let mut answer = serde_json::to_value(explain_live(&live, question, now)?)?;
        let ahead = now.unix_millis() - here.unix_millis();
        if question.at.is_none() && ahead.abs() > CLOCKS_MILLIS_MAX {
            let (seconds, way) = (
                ahead.abs() / 1000,
                if ahead > 0 { "ahead" } else { "behind" },
            );
            let sentence = format!("this Envoy's clock is {seconds} s {way} of the one here");
            push(&mut answer["reasons"], json!(sentence));
        }
        if self.server.is_some() || self.config.is_some() {
            // Breakers are nothing that a mesh knows: they are left out of what is compared.
            let closed = Live {
                gauges: None,
                ..live
            };
            let closed = explain_live(&closed, question, now)?;
            let zone = closed.proxy.zone.clone();
            let Some((service, gateway)) = asked_of_mesh(question, &closed) else {
                let sentence =
                    "not compared with the mesh: this sidecar knows no service for the request";
                push(&mut answer["reasons"], json!(sentence));
                return Ok(answer);
            };
            let asked = Question {
                at: Some(closed.explanation.at.clone()),
                zone,
                service,
                gateway,
                ..question.clone()
            };
            let mesh = self.of_mesh(&asked)?;
            answer["differences"] = json!(differences(&serde_json::to_value(closed)?, &mesh));
        }
        Ok(answer)
    }
}

/// The API takes headers as lines: a break within one would make two of it.
fn check_lines(headers: &[String]) -> Result<(), UsageError> {
    let mut headers = headers.iter();
    match headers.find(|header| header.contains(['\r', '\n'])) {
        Some(header) => Err(UsageError(format!(
            "header: {header:?} is none that a client could send: it holds a line break"
        ))),
        None => Ok(()),
    }
}

/// Whom the mesh is asked about: whom the question names, else the gateway that the Envoy is, or the service to which
/// a sidecar sends the request. None where it sends it nowhere.
fn asked_of_mesh(
    question: &Question,
    live: &LiveExplanation,
) -> Option<(Option<String>, Option<String>)> {
    if question.service.is_some() || question.gateway.is_some() {
        return Some((question.service.clone(), question.gateway.clone()));
    }
    if live.proxy.route_config == OUTBOUND {
        return Some((Some(live.explanation.service.clone()?), None));
    }
    Some((None, Some(live.proxy.route_config.clone())))
}

/// Clocks that differ by less are told to be one: an answer's time is in whole seconds.
const CLOCKS_MILLIS_MAX: i64 = 2_000;

fn push(list: &mut Value, value: Value) {
    if let Some(list) = list.as_array_mut() {
        list.push(value);
    }
}

/// `|` as a query holds it.
fn encoded(text: &str) -> String {
    text.replace('|', "%7C")
}

/// One line for each field; lists below them.
fn table(answer: &Value) -> String {
    const LISTS: [&str; 5] = ["reasons", "endpoints", "breakers", "differences", "unknown"];
    let mut text = String::new();
    let fields = answer.as_object().into_iter().flatten();
    for (name, value) in fields.filter(|(name, _)| !LISTS.contains(&name.as_str())) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<16} {}", plain(value));
    }
    for reason in list(&answer["reasons"]) {
        let _ = writeln!(text, "  - {}", plain(reason));
    }
    text += &endpoints(&answer["endpoints"]);
    for breaker in list(&answer["breakers"]) {
        let _ = writeln!(
            text,
            "breaker of {} {}: {}, of one or more of the classes {}",
            plain(&breaker["service"]),
            plain(&breaker["version"]),
            plain(&breaker["state"]),
            list(&breaker["classes"])
                .map(plain)
                .collect::<Vec<_>>()
                .join(", "),
        );
    }
    if let Some(differences) = answer["differences"].as_array() {
        text += match differences.is_empty() {
            true => "this Envoy decides as the mesh says\n",
            false => "this Envoy decides otherwise than the mesh says:\n",
        };
        for one in differences {
            let (field, proxy, mesh) = (&one["field"], &one["proxy"], &one["mesh"]);
            let _ = writeln!(
                text,
                "  {}: here {}, the mesh {}",
                plain(field),
                plain(proxy),
                plain(mesh)
            );
        }
    }
    for sentence in list(&answer["unknown"]) {
        let _ = writeln!(text, "not known: {}", plain(sentence));
    }
    text
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn endpoints(all: &Value) -> String {
    let header = [
        "ENDPOINT",
        "ID",
        "ZONE",
        "PRIORITY",
        "WEIGHT",
        "ZONE'S WEIGHT",
        "HEALTH",
    ];
    let mut rows = vec![header.map(str::to_string).to_vec()];
    let fields = [
        "address",
        "id",
        "zone",
        "priority",
        "weight",
        "locality_weight",
        "health",
    ];
    rows.extend(list(all).map(|endpoint| fields.map(|field| plain(&endpoint[field])).to_vec()));
    match rows.len() {
        1 => String::new(),
        _ => columns(&rows),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_string(),
        Value::String(text) if text.is_empty() => "-".to_string(),
        Value::String(text) => printable(text),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| match value {
                Value::String(text) => format!("{name}={}", printable(text)),
                other => format!("{name}={other}"),
            });
            fields.collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_makes_no_second_header() {
        let told = |headers: &[&str]| {
            let headers: Vec<String> = headers.iter().map(ToString::to_string).collect();
            check_lines(&headers).map_err(|error| error.to_string())
        };
        assert_eq!(told(&["a:b", "c:d"]), Ok(()));
        for wrong in ["a:b\r\nc:d", "a:b\nc:d", "a:b\rc", "a:b\n"] {
            let refused = told(&["x:y", wrong]).unwrap_err();
            assert!(refused.contains(&format!("{wrong:?} is none")), "{refused}");
        }
    }
}
