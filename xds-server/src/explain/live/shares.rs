//! How an Envoy spreads requests over a cluster's priorities, by their health.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::dump::Host;

/// With more than this share healthy, a priority takes all of its load: Envoy's overprovisioning factor.
const OVERPROVISIONING_PERCENT: u64 = 140;
/// With a smaller share healthy over all priorities, health is not looked at, unless the cluster says else.
const PANIC_PERCENT: f64 = 50.0;

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
    let shares = shares(priorities.values().copied());
    let threshold = cluster.and_then(|cluster| {
        cluster["common_lb_config"]["healthy_panic_threshold"]["value"].as_f64()
    });
    let threshold = threshold.unwrap_or(PANIC_PERCENT);
    for ((priority, (healthy, all)), share) in priorities.iter().zip(&shares) {
        let panics = is_in_panic(*healthy, *all, &priorities, threshold);
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

/// Priorities whose healthy hosts can carry everything together never panic.
fn is_in_panic(
    healthy: u64,
    all: u64,
    priorities: &BTreeMap<u64, (u64, u64)>,
    threshold: f64,
) -> bool {
    let total: u64 = priorities
        .values()
        .map(|(healthy, all)| available(*healthy, *all))
        .sum();
    let percent = u32::try_from(healthy * 100 / all.max(1)).unwrap_or(100);
    total < 100 && f64::from(percent) < threshold
}

/// How much of the load a priority can take, in percent.
fn available(healthy: u64, all: u64) -> u64 {
    (healthy * OVERPROVISIONING_PERCENT / all.max(1)).min(100)
}

/// The share of the requests that each priority is sent, in percent, as Envoy works it out.
fn shares(priorities: impl Iterator<Item = (u64, u64)>) -> Vec<u64> {
    let available: Vec<u64> = priorities
        .map(|(healthy, all)| available(healthy, all))
        .collect();
    let total = available.iter().sum::<u64>().min(100);
    let mut left = 100;
    let mut shares: Vec<u64> = available
        .iter()
        .map(|available| {
            let share = match total {
                0 => 0,
                total => (available * 100 / total).min(left),
            };
            left -= share;
            share
        })
        .collect();
    // What rounding leaves goes to the first that takes any; with nobody healthy, to the first of all.
    let first = shares.iter().position(|share| *share > 0).unwrap_or(0);
    if let Some(share) = shares.get_mut(first) {
        *share += left;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_gives_away_what_its_healthy_endpoints_cannot_carry() {
        for (priorities, expected) in [
            (&[(2, 2), (2, 2)][..], &[100, 0][..]),
            (&[(3, 4), (2, 2)], &[100, 0]),
            (&[(1, 2), (2, 2)], &[70, 30]),
            (&[(0, 2), (2, 2)], &[0, 100]),
            (&[(1, 4), (1, 4)], &[50, 50]),
            (&[(0, 2), (0, 2)], &[100, 0]),
            (&[(1, 3)], &[100]),
        ] {
            let shares = shares(priorities.iter().copied());
            assert_eq!(shares, expected, "{priorities:?}");
        }
    }

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
