//! Where two answers to one question differ.

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

/// Where the answers of an Envoy and of its mesh to one question differ; both as `explain` gives them.
pub fn differences(proxy: &Value, mesh: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    for field in COMPARED {
        compare(field, &proxy[field], &mesh[field], &mut found);
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
    compare(
        "endpoints",
        &by_address(proxy),
        &by_address(mesh),
        &mut found,
    );
    found
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
    fn every_difference_has_its_path_and_both_values() {
        let endpoint = |address: &str, priority: u32| json!({"address": address, "priority": priority, "health": "healthy", "id": "x"});
        let proxy = json!({
            "class": "gold", "canary": {"weight": 10.0, "ramp": null}, "breaker": {"state": "open"},
            "endpoints": [endpoint("a:1", 0), endpoint("b:1", 1)], "reasons": ["one"],
        });
        let mesh = json!({
            "class": "gold", "canary": {"weight": 25.0}, "breaker": {"state": "closed"},
            "endpoints": [{"address": "b:1", "priority": 0}, {"address": "c:1", "priority": 0}],
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
                "endpoints.a:1: {\"address\":\"a:1\",\"priority\":0,\"health\":\"healthy\",\"id\":\"x\"} null",
                "endpoints.b:1.priority: 1 0",
                "endpoints.c:1: null {\"address\":\"c:1\",\"priority\":0}",
            ]
        );
        assert_eq!(differences(&mesh, &mesh), []);
    }
}
