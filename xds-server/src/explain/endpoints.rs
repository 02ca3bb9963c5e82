//! The endpoints that a caller is sent.

use std::collections::{BTreeMap, BTreeSet};

use policy::{names, units::VersionLabel};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::{
    compile::assignment,
    mesh::{Endpoint, Service},
    text,
};

/// One endpoint of a cluster, as callers of one zone are sent it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SentEndpoint {
    /// Its id in the mesh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `10.0.1.10:15006`.
    pub address: String,
    /// Its region; empty for none.
    pub region: String,
    /// Its zone; empty for none.
    pub zone: String,
    /// 0 is used first; the next when too few of it are healthy.
    pub priority: u64,
    /// Its share among those of its zone.
    pub weight: u64,
    /// Its zone's share among those of its priority.
    pub locality_weight: u64,
    /// What an Envoy says of it: `healthy`, or why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// Left out by that Envoy's outlier detection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ejected: Option<bool>,
}

/// Those of a version's cluster. `version` is the canary's label, or none or `stable`.
pub(super) fn sent(
    cluster: &str,
    service: &Service,
    version: Option<&str>,
    zone: &str,
) -> Vec<SentEndpoint> {
    let label = version
        .filter(|label| *label != names::STABLE)
        .and_then(|label| VersionLabel::new(label).ok());
    let mut sent = read(&assignment(
        cluster,
        service,
        label.as_ref(),
        zone,
        &BTreeSet::new(),
    ));
    let mut known: BTreeMap<String, Vec<&Endpoint>> = BTreeMap::new();
    for endpoint in service.endpoints_of(label.as_ref()) {
        let address = text::address(&endpoint.host.to_string(), u64::from(endpoint.port));
        known.entry(address).or_default().push(endpoint);
    }
    for endpoint in &mut sent {
        let of_address = known.get(&endpoint.address).map_or(&[][..], Vec::as_slice);
        if let [only] = of_address {
            endpoint.id = Some(only.id.clone());
        }
    }
    sent
}

/// Those of a ClusterLoadAssignment in protobuf JSON.
pub(super) fn read(assignment: &Value) -> Vec<SentEndpoint> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut sent = Vec::new();
    for locality in list(&assignment["endpoints"]) {
        let text = |field: &str| {
            let text = locality["locality"][field].as_str();
            text.unwrap_or_default().to_string()
        };
        let number = |value: &Value, absent| value.as_u64().unwrap_or(absent);
        for endpoint in list(&locality["lb_endpoints"]) {
            let socket = &endpoint["endpoint"]["address"]["socket_address"];
            let host = socket["address"].as_str().unwrap_or_default();
            sent.push(SentEndpoint {
                id: None,
                address: text::address(host, number(&socket["port_value"], 0)),
                region: text("region"),
                zone: text("zone"),
                priority: number(&locality["priority"], 0),
                weight: number(&endpoint["load_balancing_weight"], 1),
                locality_weight: number(&locality["load_balancing_weight"], 1),
                health: None,
                ejected: None,
            });
        }
    }
    sent
}

/// How many there are, by priority and zone.
pub(super) fn sentence(cluster: &str, sent: &[SentEndpoint], zone: &str) -> String {
    let caller = match zone {
        "" => "a caller without a zone".into(),
        zone => format!("a caller in {zone}"),
    };
    let mut groups: BTreeMap<(u64, &str), usize> = BTreeMap::new();
    for endpoint in sent {
        let zone = match endpoint.zone.as_str() {
            "" => "no zone",
            zone => zone,
        };
        *groups.entry((endpoint.priority, zone)).or_default() += 1;
    }
    let groups: Vec<String> = groups
        .iter()
        .map(|((priority, zone), count)| format!("{count} in {zone} with priority {priority}"))
        .collect();
    match groups.is_empty() {
        true => format!("{cluster} has no endpoint: Envoy answers 503"),
        false => format!("{caller} is sent of {cluster}: {}", groups.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use policy::time::WallTime;

    use crate::{
        explain::{Explanation, Question, explain},
        mesh::{Defaults, read as read_mesh},
    };

    const MESH: &str = "\
mesh: {name: test, region: mumbai}
services:
  pay:
    sidecar: false
    endpoints:
      - {id: west-1, host: 10.0.0.1, port: 80, zone: mumbai-west, weight: 30}
      - {id: west-2, host: 10.0.0.2, port: 80, zone: mumbai-west, weight: 10}
      - {id: central-1, host: 10.0.1.1, port: 80, zone: mumbai-central, weight: 40}
      - {id: canary-1, host: 10.0.2.1, port: 80, zone: mumbai-west, version: v2}
    canary: {version: v2, weight: 100}
gateways: {edge: {listen: \"127.0.0.1:1\", routes: [{match: {path_prefix: /}, service: pay}]}}
";

    fn told(zone: Option<&str>, weight: u8) -> Explanation {
        let question = Question {
            service: Some("pay".into()),
            zone: zone.map(str::to_string),
            ..Question::default()
        };
        let text = MESH.replace("weight: 100", &format!("weight: {weight}"));
        let mesh = read_mesh(&text, &Defaults::default()).unwrap();
        explain(&mesh, &question, WallTime::from_unix_millis(0)).unwrap()
    }

    fn shown(told: &Explanation) -> Vec<(&str, u64, u64)> {
        let endpoints = told.endpoints.iter();
        endpoints
            .map(|one| (one.id.as_deref().unwrap(), one.priority, one.weight))
            .collect()
    }

    #[test]
    fn a_caller_is_told_the_endpoints_of_the_chosen_version_as_its_zone_is_sent_them() {
        let west = told(Some("mumbai-west"), 0);
        assert_eq!(
            shown(&west),
            [("west-1", 0, 30), ("west-2", 0, 10), ("central-1", 1, 40)]
        );
        let words = "a caller in mumbai-west is sent of pay: 2 in mumbai-west with priority 0, \
                     1 in mumbai-central with priority 1";
        assert!(
            west.reasons.iter().any(|reason| reason == words),
            "{:#?}",
            west.reasons
        );
        let nowhere = told(None, 0);
        assert!(nowhere.endpoints.iter().all(|one| one.priority == 0));
        assert_eq!(
            shown(&told(Some("mumbai-west"), 100)),
            [("canary-1", 0, 100)]
        );
    }
}
