//! Small meshes at random, for property tests: four services, and what else acts on what nodes are sent.

use std::fmt::Write as _;

use proptest::prelude::*;

use crate::mesh::{Defaults, Mesh, read};

pub(crate) const SERVICES: usize = 4;

/// What a test changes of a service.
#[derive(Debug, Clone)]
pub(crate) struct Drawn {
    pub(crate) exists: bool,
    pub(crate) sidecar: bool,
    pub(crate) endpoints: Vec<(u16, bool)>,
    pub(crate) canary: Option<u8>,
    pub(crate) timeout: Option<u8>,
    pub(crate) retries: bool,
    pub(crate) uses: Option<Vec<usize>>,
}

/// What a test changes of the rest.
#[derive(Debug, Clone)]
pub(crate) struct Rest {
    pub(crate) peak: u8,
    pub(crate) tracing: bool,
    pub(crate) gateway: Option<bool>,
}

pub(crate) fn drawn() -> impl Strategy<Value = Drawn> {
    let endpoints = proptest::collection::vec((9_000..9_004_u16, any::<bool>()), 0..3);
    let canary = proptest::option::of(0..3_u8);
    let uses = proptest::option::of(proptest::sample::subsequence(vec![0, 1, 2, 3], 0..=4));
    let timeout = proptest::option::of(1..3_u8);
    (
        prop::bool::weighted(0.8),
        any::<bool>(),
        endpoints,
        canary,
        timeout,
        any::<bool>(),
        uses,
    )
        .prop_map(
            |(exists, sidecar, endpoints, canary, timeout, retries, uses)| Drawn {
                exists,
                sidecar,
                endpoints,
                canary,
                timeout,
                retries,
                uses,
            },
        )
}

pub(crate) fn rest() -> impl Strategy<Value = Rest> {
    (0..2_u8, any::<bool>(), proptest::option::of(any::<bool>())).prop_map(
        |(peak, tracing, gateway)| Rest {
            peak,
            tracing,
            gateway,
        },
    )
}

pub(crate) fn mesh(services: &[Drawn], rest: &Rest) -> Mesh {
    let exists = |at: &usize| services[*at].exists;
    let mut text = format!(
        "peak_hours: {{day: {{start: 10, end: 1{}}}}}\n",
        rest.peak + 1
    );
    if rest.tracing {
        text.push_str("tracing: {otlp: \"127.0.0.1:4317\"}\n");
    }
    text.push_str("services:\n");
    for (at, service) in services.iter().enumerate().filter(|(at, _)| exists(at)) {
        let _ = writeln!(
            text,
            "  s{at}:\n    port: 80\n    sidecar: {}",
            service.sidecar
        );
        text.push_str("    endpoints:\n");
        text.push_str("      - {host: 10.0.0.1, port: 8000, version: v2, zone: mumbai-west}\n");
        for (number, (port, west)) in service.endpoints.iter().enumerate() {
            let zone = if *west { "mumbai-west" } else { "mumbai-east" };
            let _ = writeln!(
                text,
                "      - {{id: e{at}-{number}, host: 10.0.{at}.{number}, port: {port}, zone: {zone}}}"
            );
        }
        if let Some(weight) = service.canary {
            let _ = writeln!(text, "    canary: {{version: v2, weight: {weight}}}");
        }
        if let Some(timeout) = service.timeout {
            let _ = writeln!(text, "    timeout: {timeout}s");
        }
        if service.retries {
            text.push_str("    retries: {attempts: 2}\n");
        }
        if let Some(uses) = &service.uses {
            let uses: Vec<String> = uses
                .iter()
                .filter(|at| exists(at))
                .map(|at| format!("s{at}"))
                .collect();
            let _ = writeln!(text, "    uses: [{}]", uses.join(", "));
        }
    }
    if !(0..SERVICES).any(|at| exists(&at)) {
        text.push_str("  {}\n");
    }
    if let Some(debug) = rest.gateway {
        let _ = writeln!(
            text,
            "gateways:\n  edge:\n    listen: 127.0.0.1:10000\n    debug_headers: {debug}\n    routes:"
        );
        for at in (0..SERVICES).filter(exists) {
            let _ = writeln!(
                text,
                "      - {{match: {{path_prefix: /s{at}}}, service: s{at}}}"
            );
        }
        if !(0..SERVICES).any(|at| exists(&at)) {
            text.push_str("      []\n");
        }
    }
    read(&text, &Defaults::default()).unwrap_or_else(|problems| panic!("{text}\n{problems:#?}"))
}
