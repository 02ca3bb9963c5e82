//! Questions to a running server.

use anyhow::{Context, bail};
use serde_json::Value;

/// `GET` of one path, as bytes.
///
/// # Errors
/// No answer, or an answer that says no: the server's own sentence.
pub(super) fn get(server: &str, path: &str, query: &[(&str, String)]) -> anyhow::Result<Vec<u8>> {
    /// The filter is the largest thing that is asked for.
    const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(std::time::Duration::from_secs(30)))
        .build()
        .into();
    let mut request = agent.get(format!("{}{path}", server.trim_end_matches('/')));
    for (name, value) in query {
        request = request.query(*name, value);
    }
    let mut response = request
        .call()
        .with_context(|| format!("the server {server} does not answer (is it running?)"))?;
    let status = response.status();
    let body = response
        .body_mut()
        .with_config()
        .limit(ANSWER_BYTES_MAX)
        .read_to_vec()?;
    if !status.is_success() {
        let detail = serde_json::from_slice(&body)
            .ok()
            .and_then(|problem: Value| Some(problem.get("detail")?.as_str()?.to_string()));
        bail!(
            "{}",
            detail.unwrap_or_else(|| format!("{server} answers {status}"))
        );
    }
    Ok(body)
}
