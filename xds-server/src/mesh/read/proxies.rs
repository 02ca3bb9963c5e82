//! `access_log`, `tracing`, `max_connection_duration`: what every Envoy of the mesh does alike.

use std::time::Duration;

use policy::{
    reader::{ObjectReader, Reader},
    shapes,
    units::BasisPoints,
};
use serde_json::Value;

use super::{fields::duration, services::read_host};
use crate::mesh::model::{Host, Proxies, Tracing};

const CONNECTION_MIN: Duration = Duration::from_secs(1);
const CONNECTION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn read_proxies(file: &mut ObjectReader<'_>) -> Proxies {
    let default = Proxies::default();
    let access_log = file
        .optional("access_log")
        .and_then(|log| read_on_off(&log))
        .unwrap_or(default.access_log);
    let tracing = file
        .optional("tracing")
        .and_then(|tracing| read_tracing(&tracing));
    let max_connection_duration = duration(
        file,
        "max_connection_duration",
        CONNECTION_MIN..=CONNECTION_MAX,
    )
    .unwrap_or(default.max_connection_duration);
    Proxies {
        access_log,
        tracing,
        max_connection_duration,
    }
}

/// Some readers of YAML take `on` for a text, others for a truth value.
fn read_on_off(reader: &Reader<'_>) -> Option<bool> {
    match reader.value() {
        Value::Bool(value) => Some(*value),
        Value::String(text) if text == "on" => Some(true),
        Value::String(text) if text == "off" => Some(false),
        other => {
            reader.problem(format!("must be on or off, not {other}"), None);
            None
        }
    }
}

/// Reads `{otlp: "jaeger:4317", sampling: 10}`; `sampling` is percent.
fn read_tracing(reader: &Reader<'_>) -> Option<Tracing> {
    let mut tracing = reader.object()?;
    let collector = tracing
        .required("otlp")
        .and_then(|address| address.parsed(host_and_port));
    let sampling = tracing
        .optional("sampling")
        .and_then(|percent| shapes::number(&percent, BasisPoints::from_percent));
    tracing.finish();
    let (host, port) = collector?;
    Some(Tracing {
        host,
        port,
        sampling: sampling.unwrap_or(BasisPoints::ALL),
    })
}

fn host_and_port(text: &str) -> Result<(Host, u16), String> {
    let parts = text.rsplit_once(':').and_then(|(host, port)| {
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
        Some((read_host(host).ok()?, port))
    });
    parts.ok_or_else(|| {
        format!("{text:?} must be HOST:PORT of an OTLP collector over gRPC, such as jaeger:4317")
    })
}
