//! What would happen to a request, and why: the filter's own code, asked with a time of choice. Pure.

mod imagined;
mod ramp;
mod reasons;

use std::collections::BTreeMap;

use policy::{
    decision::{RequestView, Rules, ServiceId, Verdict, decide},
    names,
    time::{CivilZone, WallTime, parse_instant},
    units::{ServiceName, ZoneName},
    wire::ServiceSource,
};
use serde::Serialize;
use serde_json::Value;

use self::{
    imagined::{GivenHeaders, Imagined},
    ramp::canary,
    reasons::{breaker, decision_reasons, festival, traffic_reasons, window},
};
use crate::mesh::{ClientOptions, Mesh, Service};

/// A request that somebody wonders about.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// The service called through a sidecar…
    pub service: Option<String>,
    /// …or the gateway that is called.
    pub gateway: Option<String>,
    /// RFC 3339, seconds optional; now when absent.
    pub at: Option<String>,
    /// Path, for a gateway's routes; `/` when absent.
    pub path: Option<String>,
    /// Method, for traffic classes; `GET` when absent.
    pub method: Option<String>,
    /// Zone of the Envoy that decides.
    pub zone: Option<String>,
    /// Request headers, each `name:value`.
    pub headers: Vec<String>,
}

/// A question that has no answer: what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct QuestionError(String);

/// The answer.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// The instant in question, with the mesh's offset.
    pub at: String,
    /// The service that the request is for, if any.
    pub service: Option<String>,
    /// `normal`, `peak_hour` or `festival`.
    pub traffic_state: &'static str,
    /// The active window.
    pub window: Option<String>,
    /// The active festival.
    pub festival: Option<String>,
    /// The window's multiplier.
    pub multiplier: f64,
    /// The festival's factor.
    pub festival_factor: f64,
    /// The traffic class.
    pub class: Option<String>,
    /// Whether its class sheds the request.
    pub shed: bool,
    /// The circuit breaker's rules, taken as closed; none when no breaker is asked.
    pub breaker: Option<Value>,
    /// The canary's label or `stable`; none when the service has no canary.
    pub version: Option<String>,
    /// The canary's weight at that time, and where its ramp stands; none when no canary was asked.
    pub canary: Option<Value>,
    /// The Envoy cluster.
    pub cluster: Option<String>,
    /// Headers that the upstream is sent.
    pub headers: BTreeMap<&'static str, String>,
    /// Why, one sentence each, in the order of the decision.
    pub reasons: Vec<String>,
}

/// RFC 3339 with the zone's offset: every time shown to a person carries it.
pub fn rfc3339(zone: &CivilZone, at: WallTime) -> String {
    zone.rfc3339(at)
}

/// Answers a question; `now` is used when it names no time.
///
/// # Errors
/// A question about something that this mesh does not have, or that cannot be read.
pub fn explain(
    mesh: &Mesh,
    question: &Question,
    now: WallTime,
) -> Result<Explanation, QuestionError> {
    let at = match &question.at {
        Some(at) => parse_instant(at).map_err(|error| QuestionError(format!("at: {error}")))?,
        None => now,
    };
    let (target, clients, mut reasons) = target(mesh, question)?;
    let headers = GivenHeaders::read(question)?;
    let mut config = mesh.filter_config(clients, ServiceSource::default());
    config.zone = zone(question)?;
    let rules = Rules::new(config);
    let traffic = rules.traffic_at(at);
    let service = target.map_or(ServiceId::Other, |(name, _)| {
        rules.resolve_service(Some(name.as_str().as_bytes()), None, None)
    });
    let request = RequestView {
        service,
        headers: &headers,
    };
    let decision = decide(&rules, &traffic, &request, &mut Imagined);
    traffic_reasons(&rules, &traffic, at, &mut reasons);
    let reached = target.is_some();
    let refused = matches!(decision.verdict, Verdict::Refuse { .. });
    if reached {
        decision_reasons(
            &rules,
            &decision,
            target.map(|(_, service)| service),
            at,
            &mut reasons,
        );
    }
    let version = decision
        .version_header
        .filter(|_| reached)
        .map(str::to_string);
    Ok(Explanation {
        at: rules.timetable().zone().rfc3339(at),
        service: target.map(|(name, _)| name.to_string()),
        traffic_state: traffic.state.as_str(),
        window: window(&rules, &traffic),
        festival: festival(&rules, &traffic),
        multiplier: traffic.multiplier.as_f64(),
        festival_factor: traffic.factor.as_f64(),
        class: target.map(|_| decision.class.to_string()),
        shed: decision.shed.is_some_and(|draw| draw.shed),
        breaker: breaker(&rules, &traffic, &decision).filter(|_| reached),
        canary: canary(&rules, &decision, at).filter(|_| reached),
        cluster: target
            .filter(|_| !refused)
            .map(|(name, _)| match version.as_deref() {
                Some(label) if label != names::STABLE => format!("{name}|{label}"),
                _ => name.to_string(),
            }),
        version,
        headers: decision
            .request_headers(&traffic)
            .filter(|_| reached && !refused)
            .map(|(name, value)| (name, value.to_string()))
            .collect(),
        reasons,
    })
}

type Target<'m> = Option<(&'m ServiceName, &'m Service)>;

/// The service asked about, what its clients may choose, and how it was found.
fn target<'m>(
    mesh: &'m Mesh,
    question: &Question,
) -> Result<(Target<'m>, ClientOptions, Vec<String>), QuestionError> {
    let listed = |names: Vec<&ServiceName>| {
        let names: Vec<&str> = names.into_iter().map(ServiceName::as_str).collect();
        names.join(", ")
    };
    match (&question.service, &question.gateway) {
        (Some(name), None) => {
            let found = ServiceName::new(name)
                .ok()
                .and_then(|name| mesh.services.get_key_value(&name));
            let Some((name, service)) = found else {
                let known = listed(mesh.services.keys().collect());
                return Err(QuestionError(format!(
                    "service: {name:?} is not in this mesh; known: {known}"
                )));
            };
            let reason = format!("called as {name} through a sidecar's outbound listener");
            Ok((
                Some((name, service)),
                ClientOptions::default(),
                vec![reason],
            ))
        }
        (None, Some(name)) => {
            let found = ServiceName::new(name)
                .ok()
                .and_then(|name| mesh.gateways.get(&name));
            let Some(gateway) = found else {
                let known = listed(mesh.gateways.keys().collect());
                return Err(QuestionError(format!(
                    "gateway: {name:?} is not in this mesh; known: {known}"
                )));
            };
            let path = question.path.as_deref().unwrap_or("/");
            let clients = gateway.clients;
            if path.split(['?', '#']).next() == Some("/health") {
                let reason = format!("gateway {name} answers /health itself with 200");
                return Ok((None, clients, vec![reason]));
            }
            let target = mesh
                .route(gateway, path)
                .and_then(|service| mesh.services.get_key_value(service));
            let reason = match target {
                Some((service, _)) => format!("gateway {name} routes {path} to {service}"),
                None => format!("gateway {name} has no route for {path}: 404"),
            };
            Ok((target, clients, vec![reason]))
        }
        _ => Err(QuestionError(
            "name either a service or a gateway to ask about".into(),
        )),
    }
}

fn zone(question: &Question) -> Result<Option<ZoneName>, QuestionError> {
    let zone = question.zone.as_deref().map(ZoneName::new).transpose();
    zone.map_err(|error| QuestionError(format!("zone: {error}")))
}
