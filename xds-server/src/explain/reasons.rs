//! Why, one sentence each, in the order of the decision.

use policy::{
    breaker::BreakerState,
    canary::{DrawSource, Fallback},
    decision::{
        CellId, CellRules, Decision, LimitId, Rules, ServiceId, Verdict, override_of, traffic_of,
    },
    limit::{FleetSize, Limit, Rate, Scope},
    names,
    overrides::OverrideKind,
    time::{WallTime, format_duration},
    timetable::Traffic,
};

use super::{
    imagined::{Imagined, Said},
    ramp::Standing,
    shown,
};
use crate::text::mode;

pub(super) fn window(rules: &Rules, traffic: &Traffic) -> Option<String> {
    let window = rules.timetable().windows().get(traffic.window?)?;
    Some(window.name().to_string())
}

pub(super) fn festival(rules: &Rules, traffic: &Traffic) -> Option<String> {
    let festival = rules.timetable().festivals().get(traffic.festival?)?;
    Some(festival.name.to_string())
}
pub(super) fn traffic_reasons(
    rules: &Rules,
    traffic: &Traffic,
    at: WallTime,
    reasons: &mut Vec<String>,
) {
    let timetable = rules.timetable();
    let mut said = Vec::new();
    if let Some(name) = festival(rules, traffic) {
        said.push(format!("festival {name} (factor {})", traffic.factor));
    }
    if let Some(name) = window(rules, traffic) {
        said.push(format!("window {name} (multiplier {})", traffic.multiplier));
    }
    if said.is_empty() {
        said.push("no window and no festival".into());
    }
    let zone = match rules.zone() {
        Some(zone) => format!("zone {zone}"),
        None => "an Envoy without a zone".into(),
    };
    reasons.push(format!(
        "{} in {} for {zone}: {}",
        timetable.zone().rfc3339(at),
        timetable.zone().name(),
        said.join(", ")
    ));
    if let Some(next) = timetable.next_change(at, rules.zone()) {
        reasons.push(format!(
            "this changes next at {}",
            timetable.zone().rfc3339(next)
        ));
    }
}

/// What was asked and decided.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) rules: &'a Rules,
    pub(super) traffic: &'a Traffic,
    pub(super) decision: &'a Decision<'a>,
    pub(super) breakers: &'a Imagined<'a>,
    pub(super) at: WallTime,
}

pub(super) fn decision_reasons(asked: &Asked<'_>, reasons: &mut Vec<String>) {
    let (rules, decision) = (asked.rules, asked.decision);
    class_reasons(asked, reasons);
    reasons.extend(override_reason(asked));
    if override_of(asked.traffic, decision.service) == Some(OverrideKind::Bypass) {
        return;
    }
    limit_reasons(asked, reasons);
    reasons.extend(shed_reason(asked));
    canary_reasons(asked, reasons);
    if let Some(standing) = Standing::of(rules, decision, asked.at).filter(|_| !refused(decision)) {
        reasons.push(standing.sentence());
    }
    reasons.extend(breaker_reason(asked));
    if let Verdict::Refuse {
        status,
        reason,
        retry_after_seconds,
        ..
    } = &decision.verdict
    {
        reasons.push(format!(
            "refused with {status}, {}: {}, {}: {retry_after_seconds} or up to 20 % more; no byte reaches \
             the service",
            names::HEADER_REASON,
            reason.as_str(),
            names::HEADER_RETRY_AFTER,
        ));
    }
}

fn breaker_reason(asked: &Asked<'_>) -> Option<String> {
    let (id, cell) = cell(asked)?;
    let key = &cell.shared_key;
    let observes = match cell.observe {
        true => "; it only observes: open, it would refuse nothing",
        false => "",
    };
    let state = match asked.breakers.said(id) {
        None => "is taken as closed; each Envoy knows its own".into(),
        Some(Said::Is(BreakerState::HalfOpen)) => {
            "is half-open in this Envoy: a few requests pass as probes, all others are refused; taken as a probe"
                .into()
        }
        Some(Said::Is(state)) => format!("is {state} in this Envoy"),
        Some(Said::OneOfThemIs(state)) => format!(
            "may be {state}: one class of its service and version is, and this Envoy's gauge does not say \
             which; taken as closed"
        ),
        Some(Said::Nothing) => "is taken as closed: this Envoy shows no gauge of it".into(),
    };
    Some(format!("circuit breaker {key} {state}{observes}"))
}

fn refused(decision: &Decision<'_>) -> bool {
    matches!(decision.verdict, Verdict::Refuse { .. })
}

fn canary_reasons(asked: &Asked<'_>, reasons: &mut Vec<String>) {
    let service = asked.rules.service(asked.decision.service);
    let rules = service.and_then(|service| service.canary.as_ref());
    let (Some(rules), Some(canary)) = (rules, &asked.decision.canary) else {
        return;
    };
    let split = &rules.split;
    let weight = canary.weight.percent();
    let draw = &canary.draw;
    reasons.push(match (draw.source, draw.bucket) {
        (DrawSource::Header, _) => {
            let header = names::HEADER_CANARY;
            format!("{header} chooses the version on this listener")
        }
        (DrawSource::Key, Some(bucket)) => format!(
            "bucket {bucket} of 10000 by {}; below {} is {} ({weight} %)",
            split
                .sticky_by
                .as_ref()
                .map_or_else(String::new, ToString::to_string),
            canary.weight.get(),
            split.version
        ),
        _ => format!(
            "no key in the request: each such request is drawn at random, {weight} % go to {}; shown is \
             the draw 9999",
            split.version
        ),
    });
    if split.observe {
        let would = match draw.canary {
            true => split.version.as_str(),
            false => names::STABLE,
        };
        reasons.push(format!(
            "the canary only observes: this request would be served by {would}, all are by stable"
        ));
    }
    if canary.fell_back {
        reasons.push(format!(
            "the breaker of {} is open in this Envoy: stable serves this request in its place",
            split.version
        ));
    }
    reasons.push(format!(
        "fallback: {}: while the canary's breaker is open, {}",
        split.fallback.as_str(),
        match split.fallback {
            Fallback::Latch =>
                "stable serves its users of all classes, until the canary's fields are changed; not above 50 %",
            Fallback::Probe =>
                "stable serves its users, until probes show that it recovered; not above 50 %",
            Fallback::Off => "its users are refused",
        }
    ));
}

fn class_reasons(asked: &Asked<'_>, reasons: &mut Vec<String>) {
    let class = asked.decision.class;
    let rules = asked.rules;
    let service = rules.service(asked.decision.service);
    let own = service.and_then(|service| rules.class(service.class));
    let from = match own {
        None => "of requests to no service that the filter knows",
        Some(own) if own.name == *class => "the service's own",
        Some(_) => "the first of traffic_classes that matches",
    };
    reasons.push(format!("class {class}: {from}"));
}

fn override_reason(asked: &Asked<'_>) -> Option<String> {
    let service = asked.rules.service(asked.decision.service)?;
    let said = service.overridden.filter(|said| said.acts(asked.at))?;
    Some(format!(
        "override {} of {}: it {} until {}",
        said.kind.as_str(),
        service.name,
        said.kind.sentence(),
        asked.rules.timetable().zone().rfc3339(said.until)
    ))
}

/// Those that were asked: the class's, then, unless that refused, the service's.
fn limit_reasons(asked: &Asked<'_>, reasons: &mut Vec<String>) {
    let rules = asked.rules;
    let class = asked.decision.class;
    let listed = rules.classes().iter().find(|listed| listed.name == *class);
    let own = traffic_of(asked.traffic, asked.decision.service);
    let limits = [
        (listed.and_then(|listed| listed.limit), asked.traffic),
        (limit_of(rules, asked.decision.service), own),
    ];
    let limits = limits
        .into_iter()
        .filter_map(|(id, traffic)| Some((rules.limit(id?)?, traffic)));
    for (limit, traffic) in limits {
        let rate = limit.rate(traffic);
        let observe = limit.limit.observe;
        let state = match (rate.per_second, observe) {
            (0, false) => "refuses all",
            (0, true) => "would refuse all, and only observes",
            (_, false) => "taken as not used up, each Envoy counts its own",
            (_, true) => "it only observes: used up, it would refuse nothing",
        };
        reasons.push(format!(
            "limit {}: {} requests per second ({}){}, {} at once; {state}",
            limit.shared_key,
            rate.per_second,
            rate_field(&limit.limit, traffic),
            share(limit.limit.scope, rate),
            rate.burst,
        ));
        if rate.per_second == 0 && !observe {
            break;
        }
    }
}

/// What of a limit that proxies share is this one's.
fn share(scope: Scope, rate: Rate) -> String {
    match (scope, rate.shared_by) {
        (Scope::Envoy, _) => String::new(),
        (Scope::Fleet, FleetSize::ONE) => {
            ", divided among the proxies of the gateway or service that calls: taken as one".into()
        }
        (Scope::Fleet, size) => format!(
            ", {} of them here: one of {} proxies",
            number(rate.own_per_second()),
            size.get()
        ),
    }
}

/// With three digits behind the point at most.
fn number(number: f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').into()
}

/// Which field of a limit holds now.
fn rate_field(limit: &Limit, traffic: &Traffic) -> &'static str {
    if traffic.festival.is_some() && limit.at_festival.is_some() {
        "at_festival"
    } else if traffic.is_peak && limit.at_peak.is_some() {
        "at_peak"
    } else {
        "per_second"
    }
}

fn shed_reason(asked: &Asked<'_>) -> Option<String> {
    let (rules, class) = (asked.rules, asked.decision.class);
    let draw = asked.decision.shed.as_ref()?;
    let listed = rules.classes().iter().find(|listed| listed.name == *class);
    let shed = listed.and_then(|listed| listed.shed.as_ref());
    let observe = shed.is_some_and(|shed| shed.observe);
    let how = match draw.sticky {
        true => "the user's bucket",
        false => "a draw",
    };
    let (shed, what) = match (observe, draw.shed) {
        (false, true) => ("are shed", "refused with 429"),
        (true, true) => (
            "would be shed",
            "would be refused with 429, and passes: it only observes",
        ),
        (false, false) => ("are shed", "let through"),
        (true, false) => ("would be shed", "let through"),
    };
    Some(format!(
        "{} % of class {class} {shed} now: {how} is {} of 10000, {what}",
        draw.percent.percent(),
        draw.bucket
    ))
}

/// The limits that were asked, for programs.
pub(super) fn limits(
    rules: &Rules,
    traffic: &Traffic,
    decision: &Decision<'_>,
) -> Vec<shown::Limit> {
    let class = rules
        .classes()
        .iter()
        .find(|listed| listed.name == *decision.class);
    let limits = [
        ("class", class.and_then(|class| class.limit), traffic),
        (
            "service",
            limit_of(rules, decision.service),
            traffic_of(traffic, decision.service),
        ),
    ];
    let known = limits
        .into_iter()
        .filter_map(|(of, id, traffic)| Some((of, rules.limit(id?)?, traffic)));
    known
        .map(|(of, rules, traffic)| {
            let whole = rules.limit.rate(traffic);
            let own = (rules.limit.scope == Scope::Fleet).then(|| rules.rate(traffic));
            shown::Limit {
                of,
                per_second: whole.per_second,
                burst: whole.burst,
                field: rate_field(&rules.limit, traffic),
                mode: mode(rules.limit.observe),
                scope: rules.limit.scope.as_str(),
                proxies: own.as_ref().map(|own| own.shared_by.get()),
                own_per_second: own.as_ref().map(|own| own.own_per_second()),
                own_burst: own.as_ref().map(|own| own.burst),
            }
        })
        .collect()
}

fn limit_of(rules: &Rules, service: ServiceId) -> Option<LimitId> {
    rules.service(service)?.limit
}

/// The breaker that admitted the request.
fn cell<'a>(asked: &Asked<'a>) -> Option<(CellId, &'a CellRules)> {
    match asked.decision.verdict {
        Verdict::Proceed { cell: Some(id), .. } => Some((id, asked.rules.cell(id)?)),
        _ => None,
    }
}

pub(super) fn breaker(asked: &Asked<'_>) -> Option<shown::Breaker> {
    let (id, cell) = cell(asked)?;
    let state = match asked.breakers.said(id) {
        Some(Said::Is(state)) => state.as_str(),
        Some(Said::OneOfThemIs(_) | Said::Nothing) => "unknown",
        None => BreakerState::Closed.as_str(),
    };
    let rules = cell.at(asked.traffic);
    let error_rate = rules.error_rate.as_ref().map(|rate| shown::ErrorRate {
        percent: rate.percent.percent(),
        minimum_requests: rate.minimum_requests,
        window: format_duration(rate.window),
    });
    let slow_calls = rules.slow_calls.as_ref().map(|slow| shown::SlowCalls {
        over: format_duration(slow.over),
        percent: slow.percent.percent(),
        minimum_requests: slow.minimum_requests,
        window: format_duration(slow.window),
    });
    Some(shown::Breaker {
        state,
        consecutive_failures: rules.consecutive_failures,
        error_rate,
        slow_calls,
        mode: mode(cell.observe),
        open_for: format_duration(rules.open_for),
        half_open_probes: rules.half_open_probes,
    })
}
