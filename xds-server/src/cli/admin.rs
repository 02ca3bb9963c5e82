//! Questions to the admin interface of a live Envoy: plaintext HTTP/1.1.

use std::time::Duration;

use anyhow::{Context, bail};
use jiff::fmt::rfc2822::DateTimeParser;
use policy::time::WallTime;
use serde_json::Value;

use super::UsageError;

/// A page of a large Envoy; ten thousand clusters have less.
const PAGE_BYTES_MAX: u64 = 256 * 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(30);

/// An Envoy's admin interface.
pub(super) struct Admin {
    /// `HOST:PORT`.
    pub(super) address: String,
    agent: ureq::Agent,
}

/// What it said, and when by its own clock.
pub(super) struct Page {
    pub(super) json: Value,
    /// To the second; none where it told no time.
    pub(super) at: Option<WallTime>,
}

impl Admin {
    /// That at `HOST:PORT`.
    ///
    /// # Errors
    /// A text that is no such address.
    pub(super) fn new(address: &str) -> Result<Self, UsageError> {
        let plain = address.strip_prefix("http://").unwrap_or(address);
        let plain = plain.trim_end_matches('/');
        let port = plain.rsplit_once(':').filter(|(host, port)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if port.is_none() || plain.contains('/') {
            return Err(UsageError(format!(
                "{address:?}: must be HOST:PORT of an Envoy's admin interface, such as 127.0.0.1:9901"
            )));
        }
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // It is asked itself, whatever proxy the environment names.
            .proxy(None)
            .timeout_global(Some(TIMEOUT))
            .build()
            .into();
        Ok(Self {
            address: plain.to_string(),
            agent,
        })
    }

    /// A page in JSON.
    ///
    /// # Errors
    /// Nobody there, or somebody else than an Envoy's admin interface.
    pub(super) fn page(&self, path: &str) -> anyhow::Result<Page> {
        let address = &self.address;
        let no_admin = |what: &dyn std::fmt::Display| {
            format!(
                "{address} is no admin interface of an Envoy: {what} to {path}. An admin interface speaks \
                 HTTP/1.1 without TLS, and nothing else; its port is --admin-port of `mumbai-mesh bootstrap`"
            )
        };
        let answer = self.agent.get(format!("http://{address}{path}")).call();
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(ureq::Error::Io(error)) if is_absent(&error) => bail!(
                "no Envoy can be reached at {address}: {error}. Is it running, and is this its admin \
                 interface (--admin-port of `mumbai-mesh bootstrap`)?"
            ),
            Err(ureq::Error::Timeout(_)) => bail!(
                "{address} does not answer within {} s: an Envoy's admin interface would",
                TIMEOUT.as_secs()
            ),
            Err(error) => bail!("{}", no_admin(&format_args!("it answers with {error}"))),
        };
        let status = answer.status();
        if !status.is_success() {
            bail!("{}", no_admin(&format_args!("it answers {status}")));
        }
        let date = answer.headers().get("date");
        let at = date.and_then(|date| time(date.to_str().ok()?));
        let body = answer
            .body_mut()
            .with_config()
            .limit(PAGE_BYTES_MAX)
            .read_to_vec()
            .with_context(|| format!("{address}{path}"))?;
        match serde_json::from_slice(&body) {
            Ok(json) => Ok(Page { json, at }),
            Err(error) => bail!(
                "{}",
                no_admin(&format_args!("what it answers is no JSON ({error})"))
            ),
        }
    }
}

fn is_absent(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{
        AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable,
    };
    let absent = [
        ConnectionRefused,
        HostUnreachable,
        NetworkUnreachable,
        AddrNotAvailable,
    ];
    // A name that nobody knows has no kind of its own.
    absent.contains(&error.kind()) || error.to_string().contains("lookup")
}

/// `Sun, 08 Nov 2026 13:00:05 GMT`.
fn time(date: &str) -> Option<WallTime> {
    let instant = DateTimeParser::new().parse_timestamp(date).ok()?;
    Some(WallTime::from_unix_millis(instant.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["127.0.0.1:9901", "http://localhost:9901/", "[::1]:1"] {
            assert!(Admin::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "9901",
            "localhost",
            "localhost:0",
            ":9901",
            "a:1/clusters",
            "a:70000",
        ] {
            assert!(Admin::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_time_of_an_answer_is_read() {
        let at = time("Sun, 08 Nov 2026 13:00:05 GMT");
        assert_eq!(at, Some(WallTime::from_unix_seconds(1_794_142_805)));
        assert_eq!(time("soon"), None);
    }
}
