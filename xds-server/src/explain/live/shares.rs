//! How an Envoy spreads requests over a cluster's priorities, by their health.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    compile::{is_in_panic, shares},
    dump::Host,
    mesh::Placement,
};

/// What is worth knowing about a cluster's health; `cluster` is its configuration.
pub(super) fn sentences(name: &str, hosts: &[&Host], cluster: Option<&Value>) -> Vec<String> {
    if hosts.is_empty() {
        return vec![format!(
            "{name} has no endpoint in this Envoy: it answers 503"
        )];
    }
    let mut sentences: Vec<String> = hosts
        .iter()
        .filter(|host| !host.is_healthy)
        .map(|host| format!("{} of {name}: {}", host.address, host.health))
        .collect();
    let mut priorities: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for host in hosts {
        let (healthy, all) = priorities.entry(host.priority).or_default();
        *healthy += u64::from(host.is_healthy);
        *all += 1;
    }
    let counts: Vec<(u64, u64)> = priorities.values().copied().collect();
    let shares = shares(&counts);
    let threshold = cluster.and_then(|cluster| {
        cluster["common_lb_config"]["healthy_panic_threshold"]["value"].as_f64()
    });
    let threshold = threshold.unwrap_or(f64::from(Placement::ENVOYS_PANIC_THRESHOLD));
    for ((priority, (healthy, all)), share) in priorities.iter().zip(&shares) {
        let panics = is_in_panic((*healthy, *all), &counts, threshold);
        let panic = match panics {
            true => format!(", fewer than {threshold} %: health is not looked at"),
            false => String::new(),
        };
        sentences.push(format!(
            "priority {priority} of {name}: {healthy} of {all} healthy, {share} % of the requests{panic}"
        ));
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sick_endpoints_are_named_and_panic_is_told() {
        let host = |address: &str, priority: u64, is_healthy: bool| Host {
            cluster: "pay".into(),
            address: address.into(),
            region: String::new(),
            zone: String::new(),
            priority,
            weight: 1,
            health: if is_healthy { "healthy" } else { "ejected" }.into(),
            is_healthy,
            ejected: !is_healthy,
        };
        let hosts = [
            host("a:1", 0, true),
            host("b:1", 0, false),
            host("c:1", 1, true),
        ];
        let hosts: Vec<&Host> = hosts.iter().collect();
        assert_eq!(
            sentences("pay", &hosts, None),
            [
                "b:1 of pay: ejected",
                "priority 0 of pay: 1 of 2 healthy, 70 % of the requests",
                "priority 1 of pay: 1 of 1 healthy, 30 % of the requests",
            ]
        );
        let sick = host("a:1", 0, false);
        let told = sentences("pay", &[&sick], None);
        assert_eq!(
            told[1],
            "priority 0 of pay: 0 of 1 healthy, 100 % of the requests, fewer than 50 %: health is not looked at"
        );
        assert_eq!(
            sentences("pay", &[], None),
            ["pay has no endpoint in this Envoy: it answers 503"]
        );
    }
}
