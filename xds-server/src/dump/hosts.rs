//! Endpoints as an Envoy uses them: `/clusters?format=json`.

use serde::Serialize;
use serde_json::Value;

use crate::text;

/// One endpoint of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Host {
    /// Its cluster.
    pub cluster: String,
    /// `10.0.1.10:15006`.
    pub address: String,
    /// Its region; empty for none.
    pub region: String,
    /// Its zone; empty for none.
    pub zone: String,
    /// 0 is used first.
    pub priority: u64,
    /// Its share among those of its locality.
    pub weight: u64,
    /// `healthy`, or why not.
    pub health: String,
    /// Whether requests are sent to it while enough others are well.
    #[serde(skip)]
    pub is_healthy: bool,
    /// Left out by outlier detection.
    pub ejected: bool,
}

/// What an Envoy may say against an endpoint, and our words for it.
const AGAINST: [(&str, &str); 4] = [
    ("failed_active_health_check", "failed its health check"),
    ("failed_outlier_check", "ejected (outlier detection)"),
    (
        "excluded_via_immediate_hc_fail",
        "excluded by its own answer",
    ),
    ("pending_active_hc", "not yet checked"),
];
/// Said of one that serves all the same.
const DEGRADED: &str = "failed_active_degraded_check";
/// Healths by EDS with which nothing is sent to an endpoint.
const EDS_UNHEALTHY: [&str; 3] = ["UNHEALTHY", "TIMEOUT", "DRAINING"];

/// Reads `/clusters?format=json`.
pub fn hosts(page: &Value) -> Vec<Host> {
    let clusters = page["cluster_statuses"].as_array().into_iter().flatten();
    let of = |cluster: &Value| -> Vec<Host> {
        let name = cluster["name"].as_str().unwrap_or_default();
        let hosts = cluster["host_statuses"].as_array().into_iter().flatten();
        hosts.map(|status| host(name, status)).collect()
    };
    clusters.flat_map(of).collect()
}

fn host(cluster: &str, status: &Value) -> Host {
    let text = |pointer: &str| {
        let text = status.pointer(pointer).and_then(Value::as_str);
        text.unwrap_or_default().to_string()
    };
    let health = &status["health_status"];
    let mut against: Vec<String> = AGAINST
        .into_iter()
        .filter(|(flag, _)| health[*flag] == true)
        .map(|(_, words)| words.to_string())
        .collect();
    let by_eds = health["eds_health_status"].as_str().unwrap_or_default();
    if EDS_UNHEALTHY.contains(&by_eds) {
        against.push(format!("its server says {by_eds}"));
    }
    let is_healthy = against.is_empty();
    if health[DEGRADED] == true || by_eds == "DEGRADED" {
        against.push("degraded".into());
    }
    Host {
        cluster: cluster.into(),
        address: address(&status["address"]),
        region: text("/locality/region"),
        zone: text("/locality/zone"),
        priority: status["priority"].as_u64().unwrap_or_default(),
        weight: status["weight"].as_u64().unwrap_or(1),
        health: match against.is_empty() {
            true => "healthy".into(),
            false => against.join(", "),
        },
        is_healthy,
        ejected: health["failed_outlier_check"] == true,
    }
}

/// `10.0.1.10:15006`, `[::1]:80`, or a pipe's path.
pub(super) fn address(address: &Value) -> String {
    let socket = &address["socket_address"];
    match (socket["address"].as_str(), socket["port_value"].as_u64()) {
        (Some(host), Some(port)) => text::address(host, port),
        _ => {
            let pipe = address["pipe"]["path"].as_str();
            pipe.unwrap_or("?").to_string()
        }
    }
}
