//! `services`: endpoints, and the rules for calling them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use policy::{
    breaker::BreakerPlan,
    reader::{ObjectReader, Reader},
    shapes,
    units::{ClassName, ServiceName, VersionLabel, ZoneName},
};
use serde_json::Value;

use super::{
    fields::{count, dns_name, port, switch, text, timeout},
    upstream::{
        read_health_check, read_outlier_detection, read_placement, read_protocol,
        read_service_retries, read_thresholds, retry_budget,
    },
};
use crate::mesh::{
    model::{Endpoint, Host, MutualTls, Service, Standing, Thresholds},
    name::service_name,
};

pub(super) fn read_services(file: &mut ObjectReader<'_>) -> BTreeMap<ServiceName, Service> {
    let Some(services) = file.optional("services") else {
        return BTreeMap::new();
    };
    services
        .entries()
        .into_iter()
        .filter_map(|(name, reader)| {
            let name = service_name(&reader, &name);
            let service = read_service(&reader);
            Some((name?, service?))
        })
        .collect()
}

fn read_service(reader: &Reader<'_>) -> Option<Service> {
    let mut service = reader.object()?;
    service.not_supported(&["traffic_classes"]);
    let port = port(&mut service, "port");
    let sidecar = switch(&mut service, "sidecar", true);
    let mtls = read_mutual_tls(&mut service, sidecar);
    let protocol = read_protocol(&mut service);
    let endpoints = read_endpoints(&mut service);
    let stable_version = text(&mut service, "stable_version", VersionLabel::new);
    let uses = read_uses(&mut service);
    let class = text(&mut service, "class", ClassName::new);
    let timeout = timeout(&mut service);
    let (retries, budget) = service.optional("retries").map_or((None, None), |retries| {
        read_service_retries(&retries, timeout)
    });
    let health_check = service
        .optional("health_check")
        .and_then(|check| read_health_check(&check, protocol));
    let outlier_detection = service
        .optional("outlier_detection")
        .and_then(|outlier| read_outlier_detection(&outlier));
    let placement = read_placement(&mut service);
    let (breaker, thresholds) = read_breaker(&mut service, timeout);
    let retry_budget = retry_budget(&service, retries, budget, &thresholds);
    let canary = service.optional("canary").and_then(shapes::read_canary);
    let limit = service
        .optional("limit")
        .and_then(|limit| shapes::read_limit(&limit));
    let overridden = service
        .optional("override")
        .and_then(|said| shapes::read_override(&said));
    service.finish();
    Some(Service {
        port,
        sidecar,
        mtls,
        protocol,
        endpoints,
        stable_version,
        uses,
        class: class.unwrap_or_default(),
        timeout,
        longest_timeout: timeout,
        retries,
        retry_budget,
        health_check,
        outlier_detection,
        thresholds,
        placement,
        breaker,
        limit,
        canary,
        overridden,
    })
}

/// Strict where there are sidecars; a plain application speaks plaintext.
fn read_mutual_tls(service: &mut ObjectReader<'_>, sidecar: bool) -> MutualTls {
    let unsaid = if sidecar {
        MutualTls::Strict
    } else {
        MutualTls::Off
    };
    let Some(said) = service.optional("mtls") else {
        return unsaid;
    };
    // YAML reads off as false.
    let mode = match said.value() {
        Value::Bool(false) => Some(MutualTls::Off),
        _ => said.parsed(|text| match text {
            "strict" => Ok(MutualTls::Strict),
            "permissive" => Ok(MutualTls::Permissive),
            "off" => Ok(MutualTls::Off),
            _ => Err("must be strict, permissive or off"),
        }),
    };
    if !sidecar && mode.is_some_and(|mode| mode != MutualTls::Off) {
        said.problem(
            "without sidecars there is nobody to speak TLS",
            Some("leave it out, or say sidecar: true".into()),
        );
    }
    mode.unwrap_or(unsaid)
}

/// Our breaker's rules, and Envoy's own limits beside them.
fn read_breaker(
    service: &mut ObjectReader<'_>,
    timeout: Option<Duration>,
) -> (BreakerPlan, Thresholds) {
    let breaker = service.optional("circuit_breaker");
    let Some(mut breaker) = breaker.and_then(|breaker| breaker.object()) else {
        return (BreakerPlan::default_for(timeout), Thresholds::default());
    };
    let thresholds = read_thresholds(&mut breaker);
    let plan = shapes::read_breaker_plan(&mut breaker, timeout);
    breaker.finish();
    (plan, thresholds)
}

fn read_uses(service: &mut ObjectReader<'_>) -> Option<BTreeSet<ServiceName>> {
    let uses = service.optional("uses")?.array();
    let names = uses.iter().filter_map(|name| name.parsed(ServiceName::new));
    Some(names.collect())
}

/// Envoy finds all endpoints of a cluster in one way.
fn read_endpoints(service: &mut ObjectReader<'_>) -> Vec<Endpoint> {
    let Some(list) = service.optional("endpoints") else {
        return Vec::new();
    };
    let endpoints: Vec<Endpoint> = list.array().iter().filter_map(read_endpoint).collect();
    let by_name = |endpoint: &&Endpoint| matches!(endpoint.host, Host::Name(_));
    let named = endpoints.iter().find(by_name);
    let addressed = endpoints.iter().find(|endpoint| !by_name(endpoint));
    if let (Some(named), Some(addressed)) = (named, addressed) {
        list.problem(
            format!(
                "some hosts are DNS names ({}), others are addresses ({}): Envoy finds all endpoints of a service in one way",
                named.host, addressed.host
            ),
            Some("write names only or addresses only, or make two services of it".into()),
        );
    }
    endpoints
}

fn read_endpoint(reader: &Reader<'_>) -> Option<Endpoint> {
    let mut object = reader.object()?;
    let endpoint = endpoint_of(&mut object);
    object.finish();
    endpoint
}

/// The fields of an endpoint, wherever they stand.
pub(super) fn endpoint_of(endpoint: &mut ObjectReader<'_>) -> Option<Endpoint> {
    let host = endpoint
        .required("host")
        .and_then(|host| host.parsed(read_host));
    let port_number = endpoint
        .required("port")
        .and_then(|port| port.integer(1..=65535));
    let app_port = port(endpoint, "app_port");
    let weight = count(endpoint, "weight", 1..=65_535);
    let region = text(endpoint, "region", ZoneName::new);
    let az = text(endpoint, "az", ZoneName::new);
    let zone = text(endpoint, "zone", ZoneName::new);
    let version = text(endpoint, "version", VersionLabel::new);
    let id = text(endpoint, "id", ServiceName::new);
    let (host, port) = (host?, u16::try_from(port_number?).ok()?);
    let zone = zone.or_else(|| {
        let joined = format!("{}-{}", region.as_ref()?, az.as_ref()?);
        ZoneName::new(&joined).ok()
    });
    Some(Endpoint {
        id: id.map_or_else(|| format!("{host}:{port}"), |id| id.to_string()),
        host,
        port,
        app_port,
        weight: weight.unwrap_or(100),
        region: region.map(|region| region.to_string()),
        zone,
        version,
        standing: Standing::File,
    })
}

pub(super) fn read_host(text: &str) -> Result<Host, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Host::Address(address));
    }
    match dns_name(text) {
        Some(name) => Ok(Host::Name(name.into())),
        None => Err(format!(
            "{text:?} is neither an IP address such as 10.0.1.10 nor a DNS name such as orders.internal"
        )),
    }
}
