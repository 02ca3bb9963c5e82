//! Whether an answer is what was foretold.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use harness::http::Response;
use serde_json::Value;

use super::{requests::Request, world::Caller};

/// What was judged, by how it ended.
#[derive(Debug, Default, Clone, Copy)]
pub struct Judgement {
    pub served: u64,
    pub refused: u64,
    pub redirected: u64,
    pub not_found: u64,
    pub health: u64,
    /// Of those served or refused: what dice decide in part, and cannot be foretold.
    pub by_dice: u64,
}

impl Judgement {
    pub fn all(&self) -> u64 {
        self.served + self.refused + self.redirected + self.not_found + self.health
    }

    pub fn add(&mut self, other: Self) {
        self.served += other.served;
        self.refused += other.refused;
        self.redirected += other.redirected;
        self.not_found += other.not_found;
        self.health += other.health;
        self.by_dice += other.by_dice;
    }
}

pub fn judge(
    request: &Request,
    caller: &Caller,
    foretold: &Response,
    answer: &Response,
    judgement: &mut Judgement,
) -> Result<()> {
    if foretold.status == 400 && !caller.is_gateway {
        ensure!(
            is_not_found(request, answer),
            "the sidecar knows a service that the mesh does not"
        );
        judgement.not_found += 1;
        return Ok(());
    }
    ensure!(foretold.status == 200, "no answer of explain");
    let told = foretold.json()?;
    let reasons: Vec<&str> = list(&told["reasons"]).filter_map(Value::as_str).collect();
    let says = |words: &str| reasons.iter().any(|reason| reason.contains(words));
    let is_refused = answer.header("x-mumbai-reason").is_some();
    // Without a key, each such request draws anew.
    let shed_by_dice = says(" now: a draw is ");
    let version_by_dice = says("drawn at random");
    judgement.by_dice += u64::from(shed_by_dice || version_by_dice);
    if let Some(reason) = told["refused"].as_str() {
        judgement.refused += 1;
        return refused(request, reason, answer);
    }
    if shed_by_dice && is_refused {
        judgement.refused += 1;
        return refused(request, "shed", answer);
    }
    if told["cluster"].is_null() {
        ensure!(
            told["endpoints"] == Value::Array(Vec::new()),
            "endpoints of no cluster"
        );
        return itself(request, &says, answer, judgement);
    }
    judgement.served += 1;
    ensure!(answer.status == 200 && !is_refused, "not served");
    served(&told, answer, version_by_dice)
}

fn refused(request: &Request, reason: &str, answer: &Response) -> Result<()> {
    let told = answer
        .header("x-mumbai-reason")
        .context("no reason: it was served")?;
    ensure!(told == reason.as_bytes(), "another reason");
    let after = answer.header("retry-after").context("no retry-after")?;
    let after: u64 = String::from_utf8_lossy(after).parse()?;
    // A limit of nothing asks to stay away for a minute, and up to a fifth more.
    ensure!((1..=72).contains(&after), "retry-after {after}");
    match request.is_grpc() {
        true => {
            let status = answer.header("grpc-status").context("no grpc-status")?;
            ensure!(answer.status == 200 && status == b"8", "no gRPC refusal");
        }
        false => ensure!(answer.status == 429, "status"),
    }
    Ok(())
}

/// What the Envoy answers itself.
fn itself(
    request: &Request,
    says: &impl Fn(&str) -> bool,
    answer: &Response,
    judgement: &mut Judgement,
) -> Result<()> {
    if says("/health itself with 200") {
        judgement.health += 1;
        ensure!(
            answer.status == 200 && answer.json().is_err(),
            "an application answered"
        );
    } else if says("a redirect with ") {
        judgement.redirected += 1;
        let words = format!("a redirect with {}", answer.status);
        // A gRPC client reads 200 and a status of its own.
        let is_grpc = request.is_grpc() && answer.header("grpc-status") == Some(b"2");
        ensure!(is_grpc || says(&words), "no such redirect");
        ensure!(answer.header("location").is_some(), "a redirect to nowhere");
    } else {
        judgement.not_found += 1;
        ensure!(
            says(": 404") && is_not_found(request, answer),
            "not foretold"
        );
    }
    Ok(())
}

/// A gRPC client reads a status of its own: UNIMPLEMENTED.
fn is_not_found(request: &Request, answer: &Response) -> bool {
    match request.is_grpc() {
        true => answer.status == 200 && answer.header("grpc-status") == Some(b"12"),
        false => answer.status == 404,
    }
}

/// By whom, and with which of our headers.
fn served(told: &Value, answer: &Response, version_by_dice: bool) -> Result<()> {
    let seen = answer.json()?;
    ensure!(seen["service"] == told["service"], "another service");
    let by = seen["version"].as_str().context("no endpoint")?;
    let first = list(&told["endpoints"]).filter(|endpoint| endpoint["priority"] == 0);
    let first: Vec<&str> = first
        .filter_map(|endpoint| endpoint["id"].as_str())
        .collect();
    ensure!(!first.is_empty(), "no endpoint was foretold");
    ensure!(
        version_by_dice || first.contains(&by),
        "another endpoint: {by}, not of {first:?}"
    );
    let ours = |headers: &Value| -> BTreeMap<String, Value> {
        let fields = headers.as_object().into_iter().flatten();
        let ours = fields.filter(|(name, _)| {
            name.starts_with("x-mumbai-") && !(version_by_dice && *name == "x-mumbai-version")
        });
        ours.map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    let (seen, told) = (ours(&seen["headers"]), ours(&told["headers"]));
    ensure!(seen == told, "headers: {seen:?}, foretold {told:?}");
    Ok(())
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
