//! Questions to a running server.

use anyhow::{Context, bail};
use serde_json::Value;
use ureq::http;

/// The filter is the largest thing that is asked for.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

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

/// `GET` of one path, as bytes.
///
/// # Errors
/// No answer, or an answer that says no: the server's own sentence.
pub(super) fn get(server: &str, path: &str, query: &[(&str, String)]) -> anyhow::Result<Vec<u8>> {
    let mut request = agent().get(url(server, path));
    for (name, value) in query {
        request = request.query(*name, value);
    }
    answer(server, request.call())?.success(server)
}

/// `POST` of a body to one path.
///
/// # Errors
/// No answer.
pub(super) fn post(
    server: &str,
    path: &str,
    query: &[(&str, String)],
    body: &[u8],
) -> anyhow::Result<Answer> {
    let mut request = agent().post(url(server, path));
    for (name, value) in query {
        request = request.query(*name, value);
    }
    answer(server, request.send(body))
}

fn url(server: &str, path: &str) -> String {
    format!("{}{path}", server.trim_end_matches('/'))
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(std::time::Duration::from_secs(30)));
    config.build().into()
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
