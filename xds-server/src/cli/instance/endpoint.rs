//! What an instance says of itself, as flags.

use std::time::Duration;

use clap::Args;
use policy::time::{format_duration, parse_duration};
use serde_json::{Value, json};

use crate::mesh::Registration;

/// What callers are to know of an instance.
#[derive(Debug, Args)]
pub(in crate::cli) struct Endpoint {
    /// The service of the mesh that it is one of.
    #[arg(long)]
    pub(in crate::cli) service: String,
    /// Unique within the service; the `node.id` of its sidecar, where it has one [default: HOST:PORT].
    #[arg(long)]
    pub(in crate::cli) id: Option<String>,
    /// Port to which callers connect: its sidecar's, where it has one.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(in crate::cli) port: u16,
    /// The application's own port beside its sidecar.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(in crate::cli) app_port: Option<u16>,
    /// Share of the requests, 1 to 65535 [default: 100].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    weight: Option<u16>,
    /// Its version label, by which a canary finds it.
    #[arg(long, value_name = "LABEL")]
    version: Option<String>,
    /// Where it stands.
    #[arg(long)]
    region: Option<String>,
    /// Where it stands within the region: its zone is REGION-AZ.
    #[arg(long)]
    az: Option<String>,
    /// Its zone, in place of REGION-AZ.
    #[arg(long)]
    zone: Option<String>,
    /// Without a heartbeat for so long it is taken for gone: 1s to 1h.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = ttl)]
    pub(in crate::cli) ttl: Duration,
}

fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = parse_duration(text).map_err(|error| error.to_string())?;
    match (Registration::TTL_MIN..=Registration::TTL_MAX).contains(&ttl) {
        true => Ok(ttl),
        false => Err("from 1s to 1h".into()),
    }
}

impl Endpoint {
    /// Its id, with this host.
    pub(in crate::cli) fn id(&self, host: &str) -> String {
        let said = self.id.clone();
        said.unwrap_or_else(|| format!("{host}:{}", self.port))
    }

    /// Its path in the API.
    pub(in crate::cli) fn path(&self, host: &str) -> String {
        path(&self.service, &self.id(host))
    }

    /// What it says when it registers.
    pub(in crate::cli) fn body(&self, host: &str) -> Value {
        let mut body = json!({
            "host": host,
            "port": self.port,
            "ttl": format_duration(self.ttl),
        });
        let said = [
            ("app_port", self.app_port.map(Value::from)),
            ("weight", self.weight.map(Value::from)),
            ("version", self.version.clone().map(Value::from)),
            ("region", self.region.clone().map(Value::from)),
            ("az", self.az.clone().map(Value::from)),
            ("zone", self.zone.clone().map(Value::from)),
        ];
        for (field, value) in said {
            if let Some(value) = value {
                body[field] = value;
            }
        }
        body
    }
}

/// The path of an instance in the API.
pub(in crate::cli) fn path(service: &str, id: &str) -> String {
    format!("/api/v1/instances/{}/{}", segment(service), segment(id))
}

/// A segment of a path, whatever it holds.
fn segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' | b':' => segment.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => segment.push(char::from(byte)),
            byte => segment.push_str(&format!("%{byte:02X}")),
        }
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_somebody_writes_is_one_segment_of_the_path() {
        assert_eq!(
            path("orders", "10.0.0.1:80"),
            "/api/v1/instances/orders/10.0.0.1:80"
        );
        assert_eq!(path("a/b", "../x?"), "/api/v1/instances/a%2Fb/..%2Fx%3F");
    }
}
