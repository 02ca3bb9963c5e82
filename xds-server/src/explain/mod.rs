//! What would happen to a request, and why: the filter's own code, asked with a time of choice. Pure.

mod imagined;
mod path;
mod ramp;
mod reasons;
mod target;

use std::collections::BTreeMap;

use policy::{
    decision::{Reason, RequestView, Rules, ServiceId, Verdict, decide},
    names,
    time::{CivilZone, WallTime, parse_instant},
    units::ZoneName,
    wire::ServiceSource,
};
use serde::Serialize;
use serde_json::Value;

use self::{
    imagined::{GivenHeaders, Imagined},
    ramp::canary,
    reasons::{Asked, breaker, decision_reasons, festival, limits, traffic_reasons, window},
    target::target,
};
use crate::mesh::Mesh;

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
    /// The limits of its class and service at that time, and whether they only observe.
    pub limits: Vec<Value>,
    /// Whether its class sheds the request; one that only observes sheds none.
    pub shed: bool,
    /// Why it is refused (`limit`, `shed`), if it is.
    pub refused: Option<&'static str>,
    /// What a rule that only observes would have refused it for.
    pub would_be_refused: Option<&'static str>,
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
    let mut headers = GivenHeaders::read(question)?;
    let (target, clients, mut reasons) = target(mesh, question, &mut headers)?;
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
    let refusal = match &decision.verdict {
        Verdict::Refuse { reason, .. } => Some(*reason),
        Verdict::Proceed { .. } => None,
    };
    let refused = refusal.is_some();
    if reached {
        let asked = Asked {
            rules: &rules,
            traffic: &traffic,
            decision: &decision,
            service: target.map(|(_, service)| service),
            at,
        };
        decision_reasons(&asked, &mut reasons);
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
        limits: limits(&rules, &traffic, &decision),
        shed: refusal == Some(Reason::Shed),
        refused: refusal.map(Reason::as_str),
        would_be_refused: decision.observed.map(Reason::as_str),
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

fn zone(question: &Question) -> Result<Option<ZoneName>, QuestionError> {
    let zone = question.zone.as_deref().map(ZoneName::new).transpose();
    zone.map_err(|error| QuestionError(format!("zone: {error}")))
}

#[cfg(test)]
mod tests;
