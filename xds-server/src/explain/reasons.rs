//! Why, one sentence each, in the order of the decision.

use policy::{
    canary::DrawSource,
    decision::{CellRules, Decision, LimitId, Rules, ServiceId, Verdict},
    names,
    time::{WallTime, format_duration},
    timetable::Traffic,
};
use serde_json::{Value, json};

use super::ramp::Standing;
use crate::mesh::Service;

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

pub(super) fn decision_reasons(
    rules: &Rules,
    decision: &Decision<'_>,
    service: Option<&Service>,
    at: WallTime,
    reasons: &mut Vec<String>,
) {
    class_reasons(rules, decision, service, reasons);
    let split = service.and_then(|service| service.canary.as_ref());
    if let (Some(split), Some(canary)) = (split, &decision.canary) {
        let weight = canary.weight.percent();
        let draw = &canary.draw;
        reasons.push(match (draw.source, draw.bucket) {
            (DrawSource::Header, _) => {
                format!(
                    "{} chooses the version on this listener",
                    names::HEADER_CANARY
                )
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
                "no key in the request: each such request is drawn at random, {weight} % go to {}; \
                 shown is the draw 9999",
                split.version
            ),
        });
    }
    if let Some(standing) = Standing::of(rules, decision, at) {
        reasons.push(standing.sentence());
    }
    if let Some(cell) = cell(rules, decision) {
        reasons.push(format!(
            "circuit breaker {} is taken as closed; each Envoy knows its own",
            cell.shared_key
        ));
    }
}

fn class_reasons(
    rules: &Rules,
    decision: &Decision<'_>,
    service: Option<&Service>,
    reasons: &mut Vec<String>,
) {
    let class = decision.class;
    let own = service.is_some_and(|service| service.class == *class);
    let from = if own {
        "the service's own"
    } else {
        "the first of traffic_classes that matches"
    };
    reasons.push(format!("class {class}: {from}"));
    let listed = rules.classes().iter().find(|listed| listed.name == *class);
    let limits = [
        listed.and_then(|listed| listed.limit),
        limit_of(rules, decision.service),
    ];
    for limit in limits
        .into_iter()
        .flatten()
        .filter_map(|id| rules.limit(id))
    {
        reasons.push(format!(
            "limit {}: {} requests per second at this time; taken as not used up, each Envoy counts its own",
            limit.shared_key,
            limit.limit.per_second
        ));
    }
    if let Some(draw) = &decision.shed {
        let how = if draw.sticky {
            "the user's bucket"
        } else {
            "a draw"
        };
        let what = if draw.shed {
            "refused with 429"
        } else {
            "let through"
        };
        reasons.push(format!(
            "{} % of class {class} are shed now: {how} is {} of 10000, {what}",
            draw.percent.percent(),
            draw.bucket
        ));
    }
}

fn limit_of(rules: &Rules, service: ServiceId) -> Option<LimitId> {
    rules.service(service)?.limit
}

fn cell<'r>(rules: &'r Rules, decision: &Decision<'_>) -> Option<&'r CellRules> {
    match decision.verdict {
        Verdict::Proceed { cell: Some(id), .. } => rules.cell(id),
        _ => None,
    }
}

pub(super) fn breaker(rules: &Rules, traffic: &Traffic, decision: &Decision<'_>) -> Option<Value> {
    let cell = cell(rules, decision)?;
    let rules = cell.rules.at(traffic);
    let error_rate = rules.error_rate.as_ref().map(|rate| {
        json!({
            "percent": rate.percent.percent(),
            "minimum_requests": rate.minimum_requests,
            "window": format_duration(rate.window),
        })
    });
    let slow_calls = rules.slow_calls.as_ref().map(|slow| {
        json!({
            "over": format_duration(slow.over),
            "percent": slow.percent.percent(),
            "minimum_requests": slow.minimum_requests,
            "window": format_duration(slow.window),
        })
    });
    Some(json!({
        "state": "closed",
        "consecutive_failures": rules.consecutive_failures,
        "error_rate": error_rate,
        "slow_calls": slow_calls,
        "mode": if cell.observe { "observe" } else { "enforce" },
        "open_for": format_duration(rules.open_for),
        "half_open_probes": rules.half_open_probes,
    }))
}
