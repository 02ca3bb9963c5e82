//! What a live Envoy would do with a request, by its own word: its filter's configuration, its routes, its
//! clusters and endpoints, its gauges. The decision is policy's, as in the filter.

mod place;
mod shares;

use policy::{
    breaker::BreakerState,
    canary::Fallback,
    decision::{Rules, ServiceId},
    names,
    reader::Problem,
    time::WallTime,
    traffic_class,
    units::{VersionLabel, ZoneName},
    wire::{FilterConfig, ServiceSource},
};
use serde::Serialize;
use serde_json::Value;

use super::{
    Explanation, Question, QuestionError, Request, at, decided,
    endpoints::{self, SentEndpoint},
    imagined::{GivenHeaders, Imagined, Said},
    matching::{self, AUTHORITY, Taken},
    path::normalized,
};
use crate::{
    dump::{Dump, Gauges, Host},
    resource::ResourceType,
};
pub use place::OUTBOUND;
use place::Place;

/// An Envoy by its own word.
#[derive(Debug, Clone, Copy)]
pub struct Live<'d> {
    /// Its configuration.
    pub dump: &'d Dump,
    /// Its endpoints.
    pub hosts: &'d [Host],
    /// Its breakers; None takes them as closed.
    pub gauges: Option<&'d Gauges>,
}

/// The answer, and what of it is this Envoy's alone.
#[derive(Debug, Clone, Serialize)]
pub struct LiveExplanation {
    /// Which Envoy it is.
    pub proxy: Proxy,
    /// As of a mesh.
    #[serde(flatten)]
    pub explanation: Explanation,
    /// Breakers that are not closed, by its gauges.
    pub breakers: Vec<Breaker>,
    /// What its admin interface does not tell.
    pub unknown: Vec<String>,
}

/// An Envoy.
#[derive(Debug, Clone, Serialize)]
pub struct Proxy {
    /// `node.id`.
    pub id: String,
    /// `node.cluster`.
    pub cluster: String,
    /// In which it decides: its configuration's, else its node's.
    pub zone: Option<String>,
    /// The listener that takes the request.
    pub listener: String,
    /// Its routes.
    pub route_config: String,
}

/// Breakers of a service's version.
#[derive(Debug, Clone, Serialize)]
pub struct Breaker {
    /// The service.
    pub service: String,
    /// The canary's label, or `stable`.
    pub version: String,
    /// The state of the worst of them.
    pub state: &'static str,
    /// Of these classes it may be.
    pub classes: Vec<String>,
}

/// What no page of an admin interface tells.
const UNKNOWN: [&str; 3] = [
    "how far an open breaker's time has run, and what closed ones have counted in their windows: only the \
     worst state of a service's version is a gauge",
    "how much of a limit is used up: each Envoy keeps its own tokens, and they are taken as there",
    "which of several healthy endpoints comes next, and what each request without a key draws",
];

/// Answers a question by what an Envoy says of itself; `now` is used when it names no time.
///
/// # Errors
/// An Envoy without a configuration of ours, or a question that it cannot be asked.
pub fn explain_live(
    live: &Live<'_>,
    question: &Question,
    now: WallTime,
) -> Result<LiveExplanation, QuestionError> {
    let at = at(question)?.unwrap_or(now);
    let rules = Rules::new(configuration(live.dump)?);
    let place = Place::find(live.dump, question)?;
    let mut headers = GivenHeaders::read(question)?;
    let mut unknown: Vec<String> = Vec::new();
    let mut reasons = vec![place.sentence()];
    prepare(&mut headers, &place, question, &mut reasons);
    let said = said(&rules, live.gauges);
    let first = matching::route(place.routes, &headers, &mut unknown);
    let service = service(&rules, first.as_ref(), &headers);
    let request = Request {
        rules: &rules,
        at,
        service: first
            .as_ref()
            .filter(|taken| has_policy(taken))
            .map(|_| service),
        headers: &headers,
        breakers: Imagined {
            breakers: live.gauges.is_some().then_some(&*said),
        },
    };
    let is_judged = request.service.is_some();
    let mut explanation = decided(request, &mut reasons);
    if explanation.refused.is_none() {
        for (name, value) in &explanation.headers {
            headers.put(name, value);
        }
        let taken = matching::route(place.routes, &headers, &mut unknown);
        let sent = Sent::of(live, taken.as_ref(), is_judged, &headers);
        reasons.extend(sent.reasons);
        explanation.endpoints = sent.endpoints;
        explanation.cluster = sent.cluster;
    }
    explanation.reasons = reasons;
    unknown.extend(UNKNOWN.map(str::to_string));
    Ok(LiveExplanation {
        proxy: Proxy {
            id: live.dump.node("/id").into(),
            cluster: live.dump.node("/cluster").into(),
            zone: rules.zone().map(ToString::to_string),
            listener: place.listener.into(),
            route_config: place.name.into(),
        },
        explanation,
        breakers: breakers(&rules, live.gauges),
        unknown,
    })
}

/// The filter's configuration, in the node's zone where it names none: as the filter reads it.
fn configuration(dump: &Dump) -> Result<FilterConfig, QuestionError> {
    let text = dump
        .filter()
        .map_err(|error| QuestionError(error.to_string()))?;
    let mut config = FilterConfig::parse(text.as_bytes()).map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(Problem::to_string).collect();
        QuestionError(format!(
            "the filter's configuration on this Envoy is none that this version reads: {}",
            problems.join("; ")
        ))
    })?;
    if config.zone.is_none() {
        config.zone = ZoneName::new(dump.node("/locality/zone")).ok();
    }
    Ok(config)
}

/// What the Envoy does to a request before anything looks at it.
fn prepare(
    headers: &mut GivenHeaders,
    place: &Place<'_>,
    question: &Question,
    reasons: &mut Vec<String>,
) {
    headers.enter(place.entrance(), "this Envoy", reasons);
    if headers.text(AUTHORITY).is_empty() {
        let host = match &question.service {
            Some(service) => service.clone(),
            None => place.example_host(),
        };
        headers.put(AUTHORITY, &host);
    }
    // The filter takes client copies away, and our gateways before anything chooses by them.
    for name in names::REQUEST_HEADERS {
        headers.remove(name);
    }
    if place.has_one_spelling() {
        headers.set(traffic_class::PATH, |path| normalized(&path));
    }
}

/// Of a route for which the filter is switched off, it decides nothing.
fn has_policy(taken: &Taken<'_>) -> bool {
    let own = &taken.route["typed_per_filter_config"]["mumbai_mesh"];
    own["disabled"] != true
}

/// As the filter finds it.
fn service(rules: &Rules, taken: Option<&Taken<'_>>, headers: &GivenHeaders) -> ServiceId {
    let source = rules.service_from();
    let authority = headers.text(AUTHORITY);
    let by_route = taken.and_then(|taken| {
        let metadata = &taken.route["metadata"]["filter_metadata"]["mumbai_mesh"]["service"];
        let metadata = metadata.as_str().filter(|_| source == ServiceSource::Route);
        if let Some(service) = metadata {
            return Some(rules.resolve_service(Some(service.as_bytes()), None, None));
        }
        let cluster = taken.route["route"]["cluster"].as_str();
        let cluster = cluster.filter(|_| source != ServiceSource::Authority)?;
        let known = rules.resolve_service(None, Some(cluster.as_bytes()), None);
        (known != ServiceId::Other).then_some(known)
    });
    by_route.unwrap_or_else(|| rules.resolve_service(None, None, Some(authority.as_bytes())))
}

/// What gauges say of each breaker.
fn said(rules: &Rules, gauges: Option<&Gauges>) -> Vec<Said> {
    let mut said = vec![Said::Nothing; rules.cells().len()];
    for (service, version, cells) in versions(rules) {
        let state = gauges.and_then(|gauges| gauges.worst(service, version));
        let Some(state) = state else { continue };
        let latches = version.is_some() && falls_back_for_all(rules, service);
        // The worst state is everyone's where it is the best one, where there is one breaker only, and
        // where a latch takes all along.
        let is_everyones = state == BreakerState::Closed
            || cells.len() == 1
            || (latches && state == BreakerState::Open);
        let each = match is_everyones {
            true => Said::Is(state),
            false => Said::OneOfThemIs(state),
        };
        for cell in cells {
            if let Some(place) = said.get_mut(cell) {
                *place = each;
            }
        }
    }
    said
}

/// A canary that latches takes all of its classes along.
fn falls_back_for_all(rules: &Rules, service: &str) -> bool {
    let mut services = rules.services().iter();
    let found = services.find(|known| known.name.as_str() == service);
    let canary = found.and_then(|service| service.canary.as_ref());
    canary.is_some_and(|canary| canary.split.fallback == Fallback::Latch)
}

/// Every version of every service, with the places of its breakers.
fn versions(rules: &Rules) -> impl Iterator<Item = (&str, Option<&str>, Vec<usize>)> {
    let place = |cell: policy::decision::CellId| usize::try_from(cell.0).unwrap_or(usize::MAX);
    rules.services().iter().flat_map(move |service| {
        let name = service.name.as_str();
        let stable = (name, None, service.stable_cells().map(place).collect());
        let canary = service.canary.as_ref().map(|canary| {
            let label = VersionLabel::as_str(&canary.split.version);
            (name, Some(label), canary.cells().map(place).collect())
        });
        [Some(stable), canary].into_iter().flatten()
    })
}

fn breakers(rules: &Rules, gauges: Option<&Gauges>) -> Vec<Breaker> {
    let mut found = Vec::new();
    for (service, version, cells) in versions(rules) {
        let state = gauges.and_then(|gauges| gauges.worst(service, version));
        let Some(state) = state.filter(|state| *state != BreakerState::Closed) else {
            continue;
        };
        let classes = cells.iter().filter_map(|cell| rules.cells().get(*cell));
        found.push(Breaker {
            service: service.into(),
            version: version.unwrap_or(names::STABLE).into(),
            state: state.as_str(),
            classes: classes.map(|cell| cell.class.to_string()).collect(),
        });
    }
    found
}

/// Where Envoy sends what the filter let through.
#[derive(Default)]
struct Sent {
    cluster: Option<String>,
    endpoints: Vec<SentEndpoint>,
    reasons: Vec<String>,
}

impl Sent {
    fn of(
        live: &Live<'_>,
        taken: Option<&Taken<'_>>,
        is_judged: bool,
        headers: &GivenHeaders,
    ) -> Self {
        let request = format!(
            "{} {} for host {}",
            headers.text(traffic_class::METHOD),
            headers.text(traffic_class::PATH),
            headers.text(AUTHORITY)
        );
        let answered = |sentence: String| Self {
            reasons: vec![sentence],
            ..Self::default()
        };
        let Some(Taken { host, route }) = taken else {
            return answered(format!(
                "no route for {request}: this Envoy answers 404, or status 12 to a gRPC client"
            ));
        };
        let by = format!(
            "route {} of {host}",
            route["name"].as_str().unwrap_or("without a name")
        );
        let not_judged = match is_judged {
            true => "",
            false => "; the filter is switched off for it",
        };
        if let Some(cluster) = route["route"]["cluster"].as_str() {
            let mut sent = Self::to(live, cluster);
            let sentence = format!("{request} takes {by} to {cluster}{not_judged}");
            sent.reasons.insert(0, sentence);
            return sent;
        }
        if let Some(status) = route["direct_response"]["status"].as_u64() {
            return answered(format!(
                "{request}: {by} answers {status} itself{not_judged}"
            ));
        }
        if !route["redirect"].is_null() {
            let code = route["redirect"]["response_code"].as_str();
            let code = code.unwrap_or("MOVED_PERMANENTLY");
            return answered(format!(
                "{request}: {by} answers with a redirect, {code}{not_judged}"
            ));
        }
        answered(format!(
            "{request} takes {by}, whose cluster Envoy chooses anew for each request"
        ))
    }

    /// The endpoints of a cluster, with their health.
    fn to(live: &Live<'_>, cluster: &str) -> Self {
        let hosts: Vec<&Host> = live
            .hosts
            .iter()
            .filter(|host| host.cluster == cluster)
            .collect();
        let assignments = live.dump.in_force(ResourceType::ClusterLoadAssignment);
        let clusters = live.dump.in_force(ResourceType::Cluster);
        let known = clusters.filter(|(name, _)| *name == cluster);
        let known: Vec<&Value> = known.map(|(_, cluster)| cluster).collect();
        let within = known.iter().map(|cluster| &cluster["load_assignment"]);
        let by_eds = assignments.filter(|(name, _)| *name == cluster);
        let weights = by_eds.map(|(_, assignment)| assignment).chain(within);
        let weights: Vec<SentEndpoint> = weights.flat_map(endpoints::read).collect();
        let endpoints = hosts.iter().map(|host| {
            let sent = weights.iter().find(|sent| sent.address == host.address);
            SentEndpoint {
                id: None,
                address: host.address.clone(),
                region: host.region.clone(),
                zone: host.zone.clone(),
                priority: host.priority,
                weight: host.weight,
                locality_weight: sent.map_or(1, |sent| sent.locality_weight),
                health: Some(host.health.clone()),
                ejected: Some(host.ejected),
            }
        });
        let mut reasons = Vec::new();
        if known.is_empty() {
            reasons.push(format!(
                "this Envoy has no cluster {cluster}: it answers 503"
            ));
        }
        reasons.extend(shares::sentences(cluster, &hosts, known.first().copied()));
        Self {
            cluster: Some(cluster.into()),
            endpoints: endpoints.collect(),
            reasons,
        }
    }
}

#[cfg(test)]
mod tests;
