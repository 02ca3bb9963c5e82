//! What would happen to a request, and why: the filter's own code, asked with a time of choice. Pure.

mod differences;
mod endpoints;
mod imagined;
mod live;
mod matching;
mod path;
mod ramp;
mod reasons;
mod target;

use std::collections::BTreeMap;

use policy::{
    decision::{Reason, RequestView, Rules, ServiceId, Verdict, decide, traffic_of},
    limit::FleetSize,
    names,
    time::{CivilZone, WallTime, parse_instant},
    units::{ServiceName, ZoneName},
    wire::ServiceSource,
};
use serde::Serialize;
use serde_json::Value;

pub use self::{
    differences::{Difference, differences},
    endpoints::SentEndpoint,
    live::{Live, LiveExplanation, OUTBOUND, explain_live},
};
use self::{
    imagined::{GivenHeaders, Imagined},
    ramp::canary,
    reasons::{Asked, breaker, decision_reasons, festival, limits, traffic_reasons, window},
    target::target,
};
use crate::{compile::FleetSizes, mesh::Mesh};

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
    /// The circuit breaker's rules and its state, where nobody says that taken as closed; none when no
    /// breaker is asked.
    pub breaker: Option<Value>,
    /// The canary's label or `stable`; none when the service has no canary.
    pub version: Option<String>,
    /// The canary's weight at that time, and where its ramp stands; none when no canary was asked.
    pub canary: Option<Value>,
    /// The Envoy cluster.
    pub cluster: Option<String>,
    /// The cluster's endpoints, as this caller's zone is sent them; those of priority 0 are used first.
    pub endpoints: Vec<SentEndpoint>,
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
    explain_among(mesh, question, &FleetSizes::default(), now)
}

/// The same where it is known how many proxies share limits.
///
/// # Errors
/// As [`explain`].
pub fn explain_among(
    mesh: &Mesh,
    question: &Question,
    sizes: &FleetSizes,
    now: WallTime,
) -> Result<Explanation, QuestionError> {
    let at = at(question)?.unwrap_or(now);
    let mut headers = GivenHeaders::read(question)?;
    let (target, clients, mut reasons) = target(mesh, question, &mut headers)?;
    let mut config = mesh.filter_config(clients, ServiceSource::default());
    config.zone = zone(question)?;
    // Whose sidecar calls a service is not known.
    let gateway = question.gateway.as_deref().map(ServiceName::new);
    let gateway = gateway.and_then(Result::ok);
    config.fleet_size = gateway.map_or(FleetSize::ONE, |gateway| sizes.of(&gateway));
    let zone = config
        .zone
        .as_ref()
        .map_or("", ZoneName::as_str)
        .to_string();
    let rules = Rules::new(config);
    let service =
        target.map(|(name, _)| rules.resolve_service(Some(name.as_str().as_bytes()), None, None));
    let asked = Request {
        rules: &rules,
        at,
        service,
        headers: &headers,
        breakers: Imagined::default(),
    };
    let mut explanation = decided(asked, &mut reasons);
    if let Some((name, service)) = target
        && explanation.refused.is_none()
    {
        let version = explanation.version.as_deref();
        let cluster = match version {
            Some(label) if label != names::STABLE => format!("{name}|{label}"),
            _ => name.to_string(),
        };
        explanation.endpoints = endpoints::sent(&cluster, service, version, &zone);
        reasons.push(endpoints::sentence(&cluster, &explanation.endpoints, &zone));
        explanation.cluster = Some(cluster);
    }
    explanation.reasons = reasons;
    Ok(explanation)
}

fn at(question: &Question) -> Result<Option<WallTime>, QuestionError> {
    let at = question.at.as_deref().map(parse_instant).transpose();
    at.map_err(|error| QuestionError(format!("at: {error}")))
}

/// A request at the filter.
struct Request<'a> {
    rules: &'a Rules,
    at: WallTime,
    /// None: it never comes to a decision.
    service: Option<ServiceId>,
    headers: &'a GivenHeaders,
    breakers: Imagined<'a>,
}

/// What the filter decides, but for where Envoy then sends it.
fn decided(request: Request<'_>, reasons: &mut Vec<String>) -> Explanation {
    let Request {
        rules,
        at,
        service,
        headers,
        mut breakers,
    } = request;
    let traffic = rules.traffic_at(at);
    let view = RequestView {
        service: service.unwrap_or(ServiceId::Other),
        headers,
    };
    let decision = decide(rules, &traffic, &view, &mut breakers);
    traffic_reasons(rules, &traffic, at, reasons);
    let reached = service.is_some();
    let refusal = match &decision.verdict {
        Verdict::Refuse { reason, .. } => Some(*reason),
        Verdict::Proceed { .. } => None,
    };
    let asked = Asked {
        rules,
        traffic: &traffic,
        decision: &decision,
        breakers: &breakers,
        at,
    };
    if reached {
        decision_reasons(&asked, reasons);
    }
    let known = rules.service(decision.service);
    let own = traffic_of(&traffic, decision.service);
    Explanation {
        at: rules.timetable().zone().rfc3339(at),
        service: known.map(|service| service.name.to_string()),
        traffic_state: own.state.as_str(),
        window: window(rules, own),
        festival: festival(rules, own),
        multiplier: own.multiplier.as_f64(),
        festival_factor: own.factor.as_f64(),
        class: service.map(|_| decision.class.to_string()),
        limits: limits(rules, &traffic, &decision),
        shed: refusal == Some(Reason::Shed),
        refused: refusal.map(Reason::as_str),
        would_be_refused: decision.observed.map(Reason::as_str),
        breaker: breaker(&asked).filter(|_| reached),
        version: decision
            .version_header
            .filter(|_| reached)
            .map(str::to_string),
        canary: canary(rules, &decision, at).filter(|_| reached),
        cluster: None,
        endpoints: Vec::new(),
        headers: decision
            .request_headers(&traffic)
            .filter(|_| reached && refusal.is_none())
            .map(|(name, value)| (name, value.to_string()))
            .collect(),
        reasons: Vec::new(),
    }
}

fn zone(question: &Question) -> Result<Option<ZoneName>, QuestionError> {
    let zone = question.zone.as_deref().map(ZoneName::new).transpose();
    zone.map_err(|error| QuestionError(format!("zone: {error}")))
}

#[cfg(test)]
mod tests;
