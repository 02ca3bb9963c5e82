//! Questions to a running server.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;
use ureq::{
    http,
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
};

use super::UsageError;
use crate::pki;

/// The filter is the largest thing that is asked for.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The whole of an answer.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// What a server said.
pub(super) struct Answer {
    pub(super) status: http::StatusCode,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The body of an answer that says yes.
    ///
    /// # Errors
    /// The server's own sentence.
    pub(super) fn success(self, server: &str) -> anyhow::Result<Vec<u8>> {
        if self.status.is_success() {
            return Ok(self.body);
        }
        let detail = serde_json::from_slice(&self.body)
            .ok()
            .and_then(|problem: Value| Some(problem.get("detail")?.as_str()?.to_string()));
        bail!(
            "{}",
            detail.unwrap_or_else(|| format!("{server} answers {}", self.status))
        );
    }
}

/// What a server may want to be shown, and whom to trust.
#[derive(Debug, Clone, Args)]
pub(super) struct Credentials {
    /// A token for the server, where it needs one (`mumbai-mesh token create`).
    #[arg(
        long,
        value_name = "TOKEN",
        env = "MUMBAI_MESH_TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
    /// Whose certificates to trust (PEM), where the server speaks https.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl Credentials {
    /// `GET` of one path, as bytes.
    ///
    /// # Errors
    /// No answer, or an answer that says no: the server's own sentence.
    pub(super) fn get(
        &self,
        server: &str,
        path: &str,
        query: &[(&str, String)],
    ) -> anyhow::Result<Vec<u8>> {
        self.get_answer(server, path, query)?.success(server)
    }

    /// The same for who wants to know why the answer says no.
    ///
    /// # Errors
    /// No answer.
    pub(super) fn get_answer(
        &self,
        server: &str,
        path: &str,
        query: &[(&str, String)],
    ) -> anyhow::Result<Answer> {
        let mut request = self.agent(server, ANSWER_WITHIN)?.get(url(server, path));
        for (name, value) in query {
            request = request.query(*name, value);
        }
        if let Some(shown) = self.shown() {
            request = request.header("authorization", shown);
        }
        answer(server, request.call())
    }

    /// All pages of a list, one after the other.
    ///
    /// # Errors
    /// No answer, or one that says no or something else than such a list.
    pub(super) fn pages(
        &self,
        server: &str,
        path: &str,
        query: &[(&str, Option<String>)],
        name: &str,
    ) -> anyhow::Result<Vec<Value>> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let asked = query.iter().cloned().chain([("after", after)]);
            let asked: Vec<(&str, String)> = asked
                .filter_map(|(name, value)| Some((name, value?)))
                .collect();
            let answer = self.get(server, path, &asked)?;
            let mut page: Value = serde_json::from_slice(&answer).context("the server's answer")?;
            let Value::Array(shown) = page[name].take() else {
                bail!("{server} answers something else than {name}");
            };
            all.extend(shown);
            after = page["next"].as_str().map(str::to_string);
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// A server that is asked again and again, on the same connection.
    ///
    /// # Errors
    /// Credentials that cannot be used.
    pub(super) fn remote(&self, server: &str, within: Duration) -> anyhow::Result<Remote> {
        Ok(Remote {
            agent: self.agent(server, within)?,
            server: server.into(),
            shown: self.shown(),
        })
    }

    /// `POST` of a body to one path.
    ///
    /// # Errors
    /// No answer.
    pub(super) fn post(
        &self,
        server: &str,
        path: &str,
        query: &[(&str, String)],
        body: &[u8],
    ) -> anyhow::Result<Answer> {
        self.post_believing(server, path, query, body, None, ANSWER_WITHIN)
    }

    /// The same of a change that counts only while this revision is in force, and that may take so long.
    ///
    /// # Errors
    /// No answer.
    pub(super) fn post_believing(
        &self,
        server: &str,
        path: &str,
        query: &[(&str, String)],
        body: &[u8],
        revision: Option<u64>,
        patience: Duration,
    ) -> anyhow::Result<Answer> {
        let mut request = self.agent(server, patience)?.post(url(server, path));
        for (name, value) in query {
            request = request.query(*name, value);
        }
        if let Some(revision) = revision {
            request = request.header("if-match", format!("\"{revision}\""));
        }
        if let Some(shown) = self.shown() {
            request = request.header("authorization", shown);
        }
        answer(server, request.send(body))
    }

    fn shown(&self) -> Option<String> {
        let token = self.token.as_deref().map(str::trim);
        let token = token.filter(|token| !token.is_empty())?;
        Some(format!("Bearer {token}"))
    }

    fn agent(&self, server: &str, within: Duration) -> anyhow::Result<ureq::Agent> {
        let mut tls = TlsConfig::builder().unversioned_rustls_crypto_provider(pki::provider());
        match &self.ca_file {
            Some(file) => {
                let pem =
                    fs::read(file).with_context(|| format!("--ca-file {}", file.display()))?;
                let roots: Vec<Certificate<'static>> = parse_pem(&pem)
                    .filter_map(|item| match item {
                        Ok(PemItem::Certificate(root)) => Some(root),
                        _ => None,
                    })
                    .collect();
                if roots.is_empty() {
                    let said = format!("--ca-file {}: holds no certificate in PEM", file.display());
                    return Err(UsageError(said).into());
                }
                tls = tls.root_certs(RootCerts::new_with_certs(&roots));
            }
            None if server.starts_with("https:") => {
                let said = format!(
                    "{server}: name the certificates to trust with --ca-file (the server's ca.crt)"
                );
                return Err(UsageError(said).into());
            }
            None => {}
        }
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(tls.build())
            .timeout_global(Some(within));
        Ok(config.build().into())
    }
}

/// A server that is asked again and again.
pub(super) struct Remote {
    agent: ureq::Agent,
    server: String,
    shown: Option<String>,
}

impl Remote {
    /// `PUT` of JSON.
    ///
    /// # Errors
    /// No answer.
    pub(super) fn put(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        let mut request = self.agent.put(url(&self.server, path));
        if let Some(shown) = &self.shown {
            request = request.header("authorization", shown);
        }
        let request = request.header("content-type", "application/json");
        answer(&self.server, request.send(body.to_string()))
    }

    /// `POST` of JSON, or of nothing.
    ///
    /// # Errors
    /// No answer.
    pub(super) fn post(&self, path: &str, body: Option<&Value>) -> anyhow::Result<Answer> {
        let mut request = self.agent.post(url(&self.server, path));
        if let Some(shown) = &self.shown {
            request = request.header("authorization", shown);
        }
        let answered = match body {
            Some(body) => request
                .header("content-type", "application/json")
                .send(body.to_string()),
            None => request.send_empty(),
        };
        answer(&self.server, answered)
    }

    /// `DELETE`.
    ///
    /// # Errors
    /// No answer.
    pub(super) fn delete(&self, path: &str) -> anyhow::Result<Answer> {
        let mut request = self.agent.delete(url(&self.server, path));
        if let Some(shown) = &self.shown {
            request = request.header("authorization", shown);
        }
        answer(&self.server, request.call())
    }
}

fn url(server: &str, path: &str) -> String {
    format!("{}{path}", server.trim_end_matches('/'))
}

fn answer(
    server: &str,
    answered: Result<http::Response<ureq::Body>, ureq::Error>,
) -> anyhow::Result<Answer> {
    let mut response = answered
        .with_context(|| format!("the server {server} does not answer (is it running?)"))?;
    let body = response
        .body_mut()
        .with_config()
        .limit(ANSWER_BYTES_MAX)
        .read_to_vec()?;
    Ok(Answer {
        status: response.status(),
        body,
    })
}
