//! What Istio cannot do, or does otherwise: told with the field and what to do.

use std::{collections::BTreeMap, time::Duration};

use policy::{
    limit::{Limit, Scope},
    reader::Problem,
    units::ServiceName,
};

use super::IstioSpec;
use crate::{
    export::problem,
    mesh::{Endpoint, Host, Mesh, MutualTls, Protocol, Proxies, Service, Thresholds},
};

/// `OutlierDetection.max_ejection_time` where nobody says it.
const ENVOYS_MAX_EJECTION_TIME: Duration = Duration::from_secs(300);

/// What would be wrong, not just missing.
pub(super) fn refused(mesh: &Mesh, spec: &IstioSpec) -> Vec<Problem> {
    let mut found = Vec::new();
    for name in spec.gateways.named.keys() {
        if !mesh.gateways.keys().any(|gateway| gateway.as_str() == name) {
            let known: Vec<&str> = mesh.gateways.keys().map(ServiceName::as_str).collect();
            found.push(problem(
                "--gateway-selector",
                format!("{name} is no gateway of this mesh"),
                &format!("known: {}", known.join(", ")),
            ));
        }
    }
    let mut selected = BTreeMap::new();
    for name in mesh.gateways.keys() {
        let selector = spec.gateways.of(name).to_string();
        if let Some(first) = selected.insert(selector.clone(), name) {
            found.push(problem(
                format!("gateways.{name}"),
                format!("is the pods with {selector}, as {first} is: each request would pass two filters"),
                "tell their pods apart: --gateway-selector NAME:KEY=VALUE for each",
            ));
        }
    }
    if let Some(gateway) = mesh.gateways.keys().next()
        && spec.workloads.is_empty()
        && is_of_root(spec)
    {
        found.push(problem(
            "--namespace",
            format!(
                "{} is Istio's root namespace: a WasmPlugin without selector holds for the whole mesh there, and each request through {gateway} would pass two filters",
                spec.istio_namespace
            ),
            "name the namespaces of the applications, or select their pods: --workload KEY=VALUE",
        ));
    }
    found
}

/// Whether something is for the namespace whose resources hold for all others.
fn is_of_root(spec: &IstioSpec) -> bool {
    spec.namespaces.contains(&spec.istio_namespace)
}

/// Which proxies get the filter, and which do not.
fn of_proxies(mesh: &Mesh, spec: &IstioSpec, found: &mut Vec<Problem>) {
    if is_of_root(spec) {
        let whose = match spec.workloads.is_empty() {
            true => "for every proxy of the mesh, gateways too",
            false => "for pods with its labels in every namespace",
        };
        found.push(problem(
            "--namespace",
            format!(
                "{} is Istio's root namespace: what is there holds {whose}",
                spec.istio_namespace
            ),
            "name the namespaces of the applications, unless that is meant",
        ));
    }
    if spec.is_file() && !mesh.gateways.is_empty() {
        let names: Vec<&str> = mesh.gateways.keys().map(ServiceName::as_str).collect();
        found.push(problem(
            "--url",
            format!(
                "{} is a file, and no annotation mounts files into gateways of Istio: until it is there, every request through {} passes without limit, breaker and canary (FAIL_OPEN)",
                spec.url,
                names.join(", ")
            ),
            "--url oci://… or https://…, or mount it by gateway-mount.yaml of --out",
        ));
    }
}

/// What is not done, and what stands in its place.
pub(super) fn warnings(mesh: &Mesh, spec: &IstioSpec) -> Vec<Problem> {
    let mut found = Vec::new();
    of_proxies(mesh, spec, &mut found);
    for (name, service) in &mesh.services {
        of_pods(&format!("services.{name}"), service, &mut found);
        of_service(&format!("services.{name}"), service, &mut found);
        of_fleet(
            &format!("services.{name}"),
            service.limit.as_ref(),
            &mut found,
        );
    }
    for class in &mesh.traffic_classes {
        let path = format!("traffic_classes.{}", class.name);
        of_fleet(&path, class.limit.as_ref(), &mut found);
    }
    for name in mesh.gateways.keys() {
        found.push(problem(
            format!("gateways.{name}.listen"),
            "is no part of the export: ports and certificates are those of Istio's own Gateway",
            &format!(
                "have a Gateway {}/{name} (networking.istio.io) for {}",
                spec.istio_namespace,
                spec.gateways.of(name)
            ),
        ));
    }
    for window in mesh.timetable.windows() {
        if let (Some(zone), None) = (window.zone(), &spec.zone) {
            found.push(problem(
                format!("peak_hours.{}.zone", window.name()),
                format!(
                    "holds for proxies whose topology.kubernetes.io/zone is {}",
                    zone.as_str()
                ),
                "with zones of other names, export with --zone, once for each",
            ));
        }
    }
    if let Some(tracing) = &mesh.proxies.tracing
        && let Host::Address(address) = &tracing.host
    {
        found.push(problem(
            "tracing.otlp",
            format!(
                "{address} is an address, and Istio sends spans to services that it knows by name"
            ),
            "name the collector's Service, or make a ServiceEntry for it",
        ));
    }
    if mesh.proxies.max_connection_duration != Proxies::default().max_connection_duration {
        found.push(problem(
            "max_connection_duration",
            "has no word in Istio: certificates and connections are its own",
            "leave it out",
        ));
    }
    found
}

fn of_fleet(path: &str, limit: Option<&Limit>, found: &mut Vec<Problem>) {
    if limit.is_some_and(|limit| limit.scope == Scope::Fleet) {
        found.push(problem(
            format!("{path}.limit.scope"),
            "is not divided: nobody counts the proxies of Istio, and each has all of the limit",
            "divide it by the number of proxies yourself",
        ));
    }
}

/// What Istio goes by in the place of these fields stands in other resources.
fn of_pods(path: &str, service: &Service, found: &mut Vec<Problem>) {
    let mode = match service.mtls {
        MutualTls::Permissive => Some("PERMISSIVE"),
        MutualTls::Off if service.sidecar => Some("DISABLE"),
        MutualTls::Off | MutualTls::Strict => None,
    };
    if let Some(mode) = mode {
        found.push(problem(
            format!("{path}.mtls"),
            "is not exported: in Istio a PeerAuthentication says who must show a certificate",
            &format!("write one for its pods, with mtls.mode {mode}"),
        ));
    }
    if service.protocol == Protocol::Http2 {
        found.push(problem(
            format!("{path}.protocol"),
            "is not exported: Istio goes by the port of the Service",
            "give that port appProtocol: grpc or http2, or a name such as grpc-api",
        ));
    }
    let first = service.endpoints.first().map(|endpoint| endpoint.weight);
    let other = |endpoint: &Endpoint| Some(endpoint.weight) != first;
    if let Some(number) = service.endpoints.iter().position(other) {
        found.push(problem(
            format!("{path}.endpoints[{number}].weight"),
            "is not exported: endpoints are pods in Istio, and all have the same weight",
            "run more of those pods that shall serve more",
        ));
    }
    if service.uses.is_some() {
        found.push(problem(
            format!("{path}.uses"),
            "is not exported: sidecars of Istio know all services",
            "write a Sidecar (networking.istio.io) for its pods, with egress.hosts",
        ));
    }
}

fn of_service(path: &str, service: &Service, found: &mut Vec<Problem>) {
    if service.health_check.is_some() {
        found.push(problem(
            format!("{path}.health_check"),
            "is not done: proxies of Istio ask no endpoint for its health",
            "give its pods a readiness probe with the same question, and the service outlier_detection",
        ));
    }
    if !service.placement.failover.is_empty() {
        found.push(problem(
            format!("{path}.failover"),
            "is not exported: Istio orders regions by its own labels",
            "write localityLbSetting into the DestinationRule",
        ));
    }
    if service.placement.panic_threshold.is_some() && service.outlier_detection.is_none() {
        found.push(problem(
            format!("{path}.panic_threshold"),
            "holds in Istio only beside outlier detection",
            "give the service outlier_detection",
        ));
    }
    if let Some(outlier) = &service.outlier_detection
        && outlier.max_ejection_time != outlier.base_ejection_time.max(ENVOYS_MAX_EJECTION_TIME)
    {
        found.push(problem(
            format!("{path}.outlier_detection.max_ejection_time"),
            "has no word in Istio: an endpoint is left out for 300s at most, or for base_ejection_time where that is longer",
            "leave it out, or write an EnvoyFilter for it",
        ));
    }
    if service.thresholds != Thresholds::default() {
        found.push(problem(
            format!("{path}.circuit_breaker"),
            "its max_connections, max_requests and so on count all classes together in Istio: gold has no share of its own",
            "limit the other classes (traffic_classes.NAME.limit)",
        ));
    }
}
