//! Where two answers to one question differ.

use std::net::SocketAddr;

use serde::Serialize;
use serde_json::Value;

use crate::differences::{self, Lists, Step};

/// One place in which an Envoy's answer is another than its mesh's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The field, by its path: `canary.weight`, `endpoints.10.0.0.1:80.priority`.
    pub field: String,
    /// What the Envoy decides by.
    pub proxy: Value,
    /// What the mesh says.
    pub mesh: Value,
}

/// What decides, and not what is told of it.
const COMPARED: [&str; 15] = [
    "service",
    "traffic_state",
    "window",
    "festival",
    "multiplier",
    "festival_factor",
    "class",
    "limits",
    "shed",
    "refused",
    "would_be_refused",
    "breaker",
    "version",
    "canary",
    "cluster",
];
/// What only one side can know.
const OF_ONE_SIDE: [&str; 4] = ["id", "health", "ejected", "state"];
/// Of a limit that proxies share: how many they are is no matter of the mesh.
const OF_THE_FLEET: [&str; 3] = ["proxies", "own_per_second", "own_burst"];

/// Where the answers of an Envoy and of its mesh to one question differ; both as `explain` gives them.
pub fn differences(proxy: &Value, mesh: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    for field in COMPARED {
        match field {
            "limits" => {
                let (proxy, mesh) = (whole_limits(proxy), whole_limits(mesh));
                compare(field, &proxy, &mesh, &mut found);
            }
            _ => compare(field, &proxy[field], &mesh[field], &mut found),
        }
    }
    compare("headers", &proxy["headers"], &mesh["headers"], &mut found);
    let by_address = |answer: &Value| -> Value {
        let endpoints = answer["endpoints"].as_array().into_iter().flatten();
        let named = endpoints.map(|one| {
            let address = one["address"].as_str().unwrap_or_default();
            (address.to_string(), one.clone())
        });
        Value::Object(named.collect())
    };
    if !are_names(&mesh["endpoints"]) {
        let (proxy, mesh) = (by_address(proxy), by_address(mesh));
        compare("endpoints", &proxy, &mesh, &mut found);
    }
    found
}

fn whole_limits(answer: &Value) -> Value {
    let mut limits = answer["limits"].clone();
    for limit in limits.as_array_mut().into_iter().flatten() {
        if let Some(fields) = limit.as_object_mut() {
            fields.retain(|name, _| !OF_THE_FLEET.contains(&name.as_str()));
        }
    }
    limits
}

/// Whether the mesh knows endpoints by names alone: what addresses these have, the Envoy has asked.
fn are_names(endpoints: &Value) -> bool {
    let endpoints = endpoints.as_array().map_or(&[][..], Vec::as_slice);
    let is_address = |one: &Value| {
        let address = one["address"].as_str().unwrap_or_default();
        address.parse::<SocketAddr>().is_ok()
    };
    !endpoints.is_empty() && !endpoints.iter().any(is_address)
}

fn compare(field: &str, proxy: &Value, mesh: &Value, found: &mut Vec<Difference>) {
    let of_one_side =
        |step: &Step| matches!(step, Step::Field(name) if OF_ONE_SIDE.contains(&name.as_str()));
    let all = differences::differences(proxy, mesh, Lists::Whole);
    let decide = all
        .into_iter()
        .filter(|one| !one.path.steps().iter().any(of_one_side));
    found.extend(decide.map(|one| {
        let dot = if one.path.steps().is_empty() { "" } else { "." };
        Difference {
            field: format!("{field}{dot}{}", one.path),
            proxy: one.before,
            mesh: one.after,
        }
    }));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn how_many_share_a_limit_is_no_difference() {
        let of = |proxies: u32, per_second: u32| {
            json!({"limits": [{"of": "service", "per_second": per_second, "scope": "fleet", "proxies": proxies,
                "own_per_second": f64::from(per_second) / f64::from(proxies), "own_burst": 1}]})
        };
        assert_eq!(differences(&of(3, 10), &of(1, 10)), []);
        assert_eq!(differences(&of(3, 10), &of(3, 20)).len(), 1);
    }

    #[test]
    fn every_difference_has_its_path_and_both_values() {
        let endpoint = |address: &str, priority: u32| json!({"address": address, "priority": priority, "health": "healthy", "id": "x"});
        let proxy = json!({
            "class": "gold", "canary": {"weight": 10.0, "ramp": null}, "breaker": {"state": "open"},
            "endpoints": [endpoint("10.0.0.1:1", 0), endpoint("10.0.0.2:1", 1)], "reasons": ["one"],
        });
        let mesh = json!({
            "class": "gold", "canary": {"weight": 25.0}, "breaker": {"state": "closed"},
            "endpoints": [{"address": "10.0.0.2:1", "priority": 0}, {"address": "10.0.0.3:1", "priority": 0}],
            "reasons": ["other"],
        });
        let found: Vec<String> = differences(&proxy, &mesh)
            .into_iter()
            .map(|one| format!("{}: {} {}", one.field, one.proxy, one.mesh))
            .collect();
        assert_eq!(
            found,
            [
                "canary.weight: 10.0 25.0",
                "endpoints.10.0.0.1:1: {\"address\":\"10.0.0.1:1\",\"priority\":0,\"health\":\"healthy\",\"id\":\"x\"} null",
                "endpoints.10.0.0.2:1.priority: 1 0",
                "endpoints.10.0.0.3:1: null {\"address\":\"10.0.0.3:1\",\"priority\":0}",
            ]
        );
        assert_eq!(differences(&mesh, &mesh), []);
    }

    #[test]
    fn addresses_of_names_are_not_compared() {
        let one = |address: &str| json!({"endpoints": [{"address": address, "priority": 0}]});
        let named = one("orders.internal:8080");
        assert_eq!(differences(&one("10.0.0.1:8080"), &named), []);
    }
}
