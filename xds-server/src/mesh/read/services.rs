//! `services`: endpoints, and the rules for calling them.

use std::{collections::BTreeMap, net::IpAddr, str::FromStr};

use policy::{
    breaker::BreakerPlan,
    reader::{ObjectReader, Reader},
    shapes,
    time::parse_duration,
    units::{ClassName, ServiceName, VersionLabel, ZoneName},
};

use super::fields::{named, port, text};
use crate::mesh::model::{Endpoint, Service};

pub(super) fn read_services(file: &mut ObjectReader<'_>) -> BTreeMap<ServiceName, Service> {
    let Some(services) = file.optional("services") else {
        return BTreeMap::new();
    };
    services
        .entries()
        .into_iter()
        .filter_map(|(name, reader)| {
            let name = named(&reader, &name, ServiceName::new);
            let service = read_service(&reader);
            Some((name?, service?))
        })
        .collect()
}

fn read_service(reader: &Reader<'_>) -> Option<Service> {
    let mut service = reader.object()?;
    service.not_supported(&[
        "retries",
        "health_check",
        "uses",
        "mtls",
        "failover",
        "stable_version",
        "traffic_classes",
    ]);
    let port = port(&mut service, "port");
    let sidecar = service
        .optional("sidecar")
        .and_then(|sidecar| sidecar.boolean())
        .unwrap_or(true);
    let endpoints = service.optional("endpoints").map_or_else(Vec::new, |list| {
        list.array()
            .into_iter()
            .filter_map(|endpoint| read_endpoint(&endpoint))
            .collect()
    });
    let class = text(&mut service, "class", ClassName::new);
    let timeout = service.optional("timeout").and_then(|timeout| {
        let parsed = timeout.parsed(parse_duration)?;
        if parsed.is_zero() {
            timeout.problem(
                "must be longer than 0",
                Some("write for example 2s, or leave it out for 15s".into()),
            );
        }
        Some(parsed)
    });
    let breaker = service.optional("circuit_breaker").map_or_else(
        || BreakerPlan::default_for(timeout),
        |rules| shapes::read_circuit_breaker(rules, timeout),
    );
    let canary = service.optional("canary").and_then(shapes::read_canary);
    let limit = service
        .optional("limit")
        .and_then(|limit| shapes::read_limit(&limit));
    service.finish();
    Some(Service {
        port,
        sidecar,
        endpoints,
        class: class.unwrap_or_default(),
        timeout,
        breaker,
        limit,
        canary,
    })
}

fn read_endpoint(reader: &Reader<'_>) -> Option<Endpoint> {
    let mut endpoint = reader.object()?;
    let host = endpoint.required("host").and_then(|host| {
        let text = host.string()?;
        let parsed = IpAddr::from_str(text).ok();
        if parsed.is_none() {
            host.problem(
                format!("{text:?} is no IP address; DNS names are not supported yet"),
                Some("write an IPv4 or IPv6 address such as 10.0.1.10".into()),
            );
        }
        parsed
    });
    let port_number = endpoint
        .required("port")
        .and_then(|port| port.integer(1..=65535));
    let app_port = port(&mut endpoint, "app_port");
    let weight = endpoint
        .optional("weight")
        .and_then(|weight| weight.integer(1..=65535));
    let region = text(&mut endpoint, "region", ZoneName::new);
    let az = text(&mut endpoint, "az", ZoneName::new);
    let zone = text(&mut endpoint, "zone", ZoneName::new);
    let version = text(&mut endpoint, "version", VersionLabel::new);
    let id = text(&mut endpoint, "id", ServiceName::new);
    endpoint.finish();
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
        weight: weight
            .and_then(|weight| u32::try_from(weight).ok())
            .unwrap_or(100),
        region: region.map(|region| region.to_string()),
        zone,
        version,
    })
}
