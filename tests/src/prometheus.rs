//! Questions to a Prometheus.

use std::{fmt::Write as _, net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{http::Client, wait::wait_for};

/// The series of an instant query.
///
/// # Errors
/// When nobody answers, or what is asked is wrong: with Prometheus's words.
pub fn query(prometheus: SocketAddr, expression: &str) -> Result<Vec<Value>> {
    let mut path = String::from("/api/v1/query?query=");
    for byte in expression.bytes() {
        if byte.is_ascii_alphanumeric() {
            path.push(char::from(byte));
        } else {
            let _ = write!(path, "%{byte:02x}");
        }
    }
    let answer = Client::new(prometheus).get(&path, &[])?.json()?;
    let result = answer["data"]["result"].as_array();
    Ok(result
        .with_context(|| format!("{expression}: {answer}"))?
        .clone())
}

/// Asks until the series are good.
///
/// # Errors
/// After `bound`: with the series as they were last.
pub fn wait_for_query(
    prometheus: SocketAddr,
    expression: &str,
    bound: Duration,
    good: impl Fn(&[Value]) -> bool,
) -> Result<()> {
    wait_for(expression, bound, || match query(prometheus, expression) {
        Ok(series) if good(&series) => Ok(()),
        Ok(series) => Err(format!("{series:?}")),
        Err(error) => Err(format!("{error:#}")),
    })
}
