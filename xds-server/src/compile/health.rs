//! What Envoys are asked to check for the server (HDS), and what the server knows of endpoints' health.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use policy::units::ServiceName;
use serde_json::Value;

use super::{NodeSpec, Role, cluster::health_check, duration, socket_address};
use crate::mesh::{HealthCheck, Mesh, Protocol, Service};

const CHECKED: &str = "health|";

/// Ids of unhealthy endpoints by service; nothing stands there for a service without one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unhealthy(pub BTreeMap<ServiceName, Arc<BTreeSet<String>>>);

impl Unhealthy {
    /// Those of one service.
    pub(super) fn of(&self, service: &ServiceName) -> &BTreeSet<String> {
        static NONE: BTreeSet<String> = BTreeSet::new();
        self.0.get(service).map_or(&NONE, |ids| ids)
    }
}

/// How a service's check is asked: as often in one interval as failures in a row make an endpoint unhealthy.
/// So who dies is known one interval later, however many failures it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Failures in a row, at least 1.
    pub times: u32,
    /// From one check to the next.
    pub every: Duration,
    /// From one report to the next.
    pub report: Duration,
}

impl Asked {
    const EVERY_MIN: Duration = Duration::from_millis(100);
    const REPORT_MIN: Duration = Duration::from_millis(50);
    const REPORT_MAX: Duration = Duration::from_secs(1);

    /// By the check that the mesh file says.
    pub fn of(check: &HealthCheck) -> Self {
        let fit = check.interval.as_millis() / Self::EVERY_MIN.as_millis();
        let fit = u32::try_from(fit).unwrap_or(u32::MAX).max(1);
        let times = check.unhealthy_threshold.clamp(1, fit);
        Self {
            times,
            every: check.interval / times,
            report: (check.interval / 2).clamp(Self::REPORT_MIN, Self::REPORT_MAX),
        }
    }
}

/// The application of the endpoint beside which a sidecar stands: its service, and where it listens. None
/// where the sidecar is not known to stand beside one endpoint.
pub fn application<'m>(
    mesh: &'m Mesh,
    node: &NodeSpec,
) -> Option<(&'m ServiceName, &'m Service, SocketAddr)> {
    let Role::Service(name) = &node.role else {
        return None;
    };
    node.endpoint_id.as_ref()?;
    let (name, service) = mesh.services.get_key_value(name)?;
    if !service.sidecar {
        return None;
    }
    let ports = node.inbound(service)?;
    // As the sidecar's inbound cluster reaches it.
    let address = (Ipv4Addr::LOCALHOST, ports.application).into();
    Some((name, service, address))
}

/// Name under which an Envoy checks a service for the server: not that of the cluster by which it calls it,
/// whose statistics it would share.
pub fn checked_as(service: &ServiceName) -> String {
    format!("{CHECKED}{service}")
}

/// The service that is checked under a name.
pub fn checked(name: &str) -> Option<ServiceName> {
    ServiceName::new(name.strip_prefix(CHECKED)?).ok()
}

/// A `HealthCheckSpecifier`: this check of these addresses of each service, as protobuf JSON.
pub fn specifier<'m>(
    checks: impl Iterator<Item = (&'m ServiceName, Protocol, &'m HealthCheck, Vec<SocketAddr>)>,
) -> Value {
    let mut report = Asked::REPORT_MAX;
    let mut clusters = Vec::new();
    for (name, protocol, check, addresses) in checks {
        let asked = Asked::of(check);
        report = report.min(asked.report);
        let mut question = health_check(name, protocol, check);
        question["interval"] = duration(asked.every);
        question["no_traffic_interval"] = duration(asked.every);
        question["unhealthy_threshold"] = tree!(asked.times);
        let endpoint =
            |address: SocketAddr| tree!({"address": socket_address(address.ip(), address.port())});
        let endpoints: Vec<Value> = addresses.into_iter().map(endpoint).collect();
        clusters.push(tree!({
            "cluster_name": checked_as(name),
            "health_checks": [question],
            "locality_endpoints": [{"endpoints": endpoints}],
        }));
    }
    tree!({"cluster_health_checks": clusters, "interval": duration(report)})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{compile::Encoder, mesh::HealthCheckKind};

    fn asked(interval: u64, unhealthy_threshold: u32) -> (u32, u64, u64) {
        let asked = Asked::of(&HealthCheck {
            kind: HealthCheckKind::Tcp,
            interval: Duration::from_millis(interval),
            timeout: Duration::from_secs(1),
            unhealthy_threshold,
            healthy_threshold: 1,
        });
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap();
        (asked.times, millis(asked.every), millis(asked.report))
    }

    #[test]
    fn every_kind_of_check_is_asked_as_callers_ask_it_but_more_often() {
        let kinds = [
            HealthCheckKind::Http {
                path: "/health".into(),
            },
            HealthCheckKind::Grpc {
                service: "stock.v1.Stock".into(),
            },
            HealthCheckKind::Tcp,
        ];
        let name = ServiceName::new("stock").unwrap();
        let encoder = Encoder::new().unwrap();
        let addresses: Vec<SocketAddr> =
            vec!["127.0.0.1:80".parse().unwrap(), "[::1]:81".parse().unwrap()];
        for (kind, field) in kinds.into_iter().zip(["http", "grpc", "tcp"]) {
            let check = HealthCheck {
                kind,
                interval: Duration::from_secs(1),
                timeout: Duration::from_millis(300),
                unhealthy_threshold: 4,
                healthy_threshold: 3,
            };
            let group = (&name, Protocol::Http2, &check, addresses.clone());
            let body = specifier(std::iter::once(group));
            encoder.specifier(&body).unwrap();
            assert_eq!(body["interval"], "0.500000000s");
            let cluster = &body["cluster_health_checks"][0];
            assert_eq!(
                checked(cluster["cluster_name"].as_str().unwrap()),
                Some(name.clone())
            );
            let asked = &cluster["health_checks"][0];
            let callers = health_check(&name, Protocol::Http2, &check);
            let field = format!("{field}_health_check");
            assert!(
                asked[&field].is_object() && asked[&field] == callers[&field],
                "{asked}"
            );
            assert_eq!(
                (&asked["interval"], &asked["no_traffic_interval"]),
                (&tree!("0.250000000s"), &tree!("0.250000000s"))
            );
            assert_eq!(
                (&asked["unhealthy_threshold"], &asked["healthy_threshold"]),
                (&tree!(4), &tree!(3))
            );
            let endpoints = cluster["locality_endpoints"][0]["endpoints"]
                .as_array()
                .unwrap();
            assert_eq!(endpoints.len(), 2);
        }
    }

    #[test]
    fn an_endpoint_is_asked_so_often_that_two_intervals_are_enough_to_know_of_its_death() {
        assert_eq!(asked(5_000, 2), (2, 2_500, 1_000));
        assert_eq!(asked(5_000, 10), (10, 500, 1_000));
        assert_eq!(asked(1_000, 3), (3, 333, 500));
        assert_eq!(asked(200, 2), (2, 100, 100));
        // No more than ten times in a second.
        assert_eq!(asked(300, 1_000), (3, 100, 150));
        assert_eq!(asked(100, 2), (1, 100, 50));
        for interval in (100..10_000).step_by(37) {
            for threshold in 1..40 {
                let (times, every, report) = asked(interval, threshold);
                assert!(every >= 100, "{interval} {threshold}");
                assert!(u64::from(times) * every + report <= 2 * interval);
            }
        }
    }
}
