//! `POST /api/v1/resources:apply`, and resources that can be told apart.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Kind;

/// Stands before a resource's mark in its message.
pub(super) const MARK: &str = "mark=";
const TIMEOUT: Duration = Duration::from_secs(60);

/// The API of a server.
#[derive(Debug, Clone)]
pub struct Api {
    address: SocketAddr,
    agent: ureq::Agent,
}

impl Api {
    /// Of the server at this address. It connects with the first call.
    pub fn new(address: SocketAddr) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT));
        let agent = config.build().into();
        Self { address, agent }
    }

    /// Makes a call and gives what came of it.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn call(&self, body: &Value) -> Result<(u16, String)> {
        let url = format!("http://{}/api/v1/resources:apply", self.address);
        let request = self.agent.post(url).content_type("application/json");
        let mut answer = request.send(body.to_string().as_bytes())?;
        let text = answer.body_mut().read_to_string()?;
        Ok((answer.status().as_u16(), text))
    }

    /// Makes a call that must be accepted, and gives the revision that it made.
    ///
    /// # Errors
    /// When it is refused: with the server's words.
    pub fn apply(&self, body: &Value) -> Result<u64> {
        let (status, text) = self.call(body)?;
        ensure!(status == 200, "resources:apply: {status}: {text}");
        let answer: Value = serde_json::from_str(&text)?;
        answer["revision"].as_u64().context("no revision")
    }
}

/// A resource of a type in its simplest form, with a text in it by which tests tell its contents apart.
pub fn set_of(kind: Kind, name: &str, mark: &str) -> Value {
    let mark = format!("{MARK}{mark}");
    let mut resource = match kind {
        Kind::Cluster => json!({"name": name, "alt_stat_name": mark, "connect_timeout": "1s"}),
        Kind::Endpoints => json!({"cluster_name": name, "endpoints": [{"lb_endpoints": [
            {"endpoint": {"hostname": mark, "address": {"socket_address":
                {"address": "127.0.0.1", "port_value": 80}}}},
        ]}]}),
        Kind::Listener => json!({"name": name, "stat_prefix": mark}),
        Kind::Route => json!({"name": name, "virtual_hosts": [{"name": mark, "domains": ["*"]}]}),
        Kind::Secret => {
            json!({"name": name, "generic_secret": {"secret": {"inline_string": mark}}})
        }
        Kind::Extension => json!({"name": name, "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
            "upstream_log": [{"name": mark}],
        }}),
        Kind::Runtime => json!({"name": name, "layer": {"text": mark}}),
    };
    resource["@type"] = kind.url().into();
    resource
}
