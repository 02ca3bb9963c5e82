//! Callers without a proxy: whom the real server tells them to call, what it makes of their results, and what it says
//! of the hour.

mod breaker;
mod choice;
mod hour;

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::Artifacts,
    http::{Client, Response},
    server::{Options, Server},
};
use serde_json::{Value, json};

/// A server of its own.
pub struct World {
    pub server: Server,
    // Dropped last: the server writes into it.
    _dir: tempfile::TempDir,
}

impl World {
    pub fn start(mesh: &str) -> Result<Self> {
        Self::start_with(mesh, &Options::default())
    }

    pub fn start_with(mesh: &str, options: &Options<'_>) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let server = Server::start(&Artifacts::from_env()?, dir.path(), mesh, options)?;
        Ok(Self { server, _dir: dir })
    }

    pub fn client(&self) -> Client {
        Client::new(self.server.api)
    }
}

pub fn asked(client: &mut Client, wanted: &Value) -> Result<Response> {
    client.post("/api/v1/select", wanted.to_string().as_bytes())
}

/// What is to be called.
pub fn selected(client: &mut Client, wanted: &Value) -> Result<Value> {
    let answer = asked(client, wanted)?;
    let shown = answer.json()?;
    ensure!(answer.status == 200, "{}: {shown}", answer.status);
    Ok(shown)
}

/// Why nobody is to be called: the status and the reason, which are told as a proxy tells them.
pub fn refused(client: &mut Client, wanted: &Value) -> Result<(u16, String)> {
    let answer = asked(client, wanted)?;
    let shown = answer.json()?;
    ensure!(answer.status != 200, "{shown}");
    let reason = shown["reason"].as_str().context("no reason")?.to_string();
    let kind = answer.header("content-type");
    ensure!(kind == Some(b"application/problem+json"), "{kind:?}");
    let seconds = shown["retry_after_seconds"].as_u64().unwrap_or_default();
    let said = answer.header("retry-after").unwrap_or_default();
    let said: u64 = std::str::from_utf8(said)?.parse()?;
    ensure!(said == seconds && said >= 1, "retry-after {said}: {shown}");
    if reason != "no_instance" {
        let header = answer.header("x-mumbai-reason");
        ensure!(header == Some(reason.as_bytes()), "{header:?}: {shown}");
    }
    Ok((answer.status, reason))
}

/// How calls ended: how many breakers took notice of.
pub fn told(client: &mut Client, results: &[Value]) -> Result<u64> {
    let body = json!({"results": results}).to_string();
    let answer = client.post("/api/v1/results", body.as_bytes())?;
    let shown = answer.json()?;
    ensure!(answer.status == 200, "{}: {shown}", answer.status);
    shown["counted"].as_u64().context("no count")
}

/// The id of whom to call.
pub fn id(shown: &Value) -> Result<String> {
    let id = shown["instance"]["id"].as_str();
    Ok(id.with_context(|| format!("no instance: {shown}"))?.into())
}
