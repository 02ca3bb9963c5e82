//! `circuit_breaker` and `canary` of a service.

use std::time::Duration;

use super::{class::read_mode, duration, number};
use serde_json::Value;

use crate::{
    breaker::{
        BreakerOverride, BreakerPlan, BreakerRules, ErrorRate, HALF_OPEN_PROBES_MAX, SlowCalls,
    },
    canary::{CanarySplit, Fallback, RAMP_EVERY, Ramp, Weight},
    names,
    reader::{ObjectReader, Reader},
    time::parse_instant,
    timetable::{Freeze, FreezeWhen, Timetable},
    units::{BasisPoints, DisplayName, HeaderName, ServiceName, UnitError, VersionLabel},
};

/// Counts are bounded, so that a slip of the pen does not make a rule that never trips.
const COUNT_MAX: i64 = 1_000_000;
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Reads `{error_rate: {percent: 50, minimum_requests: 20, window: 10s}, consecutive_failures: 5,
/// open_for: 5s, half_open_probes: 3}`. Where it names no rule, the default rule holds; where it names
/// one, only that. `timeout` is the route's: a probe may take that long.
pub fn read_circuit_breaker(reader: Reader<'_>, timeout: Option<Duration>) -> BreakerPlan {
    let Some(mut breaker) = reader.object() else {
        return BreakerPlan::default_for(timeout);
    };
    let plan = read_breaker_plan(&mut breaker, timeout);
    breaker.finish();
    plan
}

/// As [`read_circuit_breaker`], of an object that may have further fields: its reader finishes it.
pub fn read_breaker_plan(breaker: &mut ObjectReader<'_>, timeout: Option<Duration>) -> BreakerPlan {
    let observe = read_mode(breaker);
    let fields = read_rules(breaker);
    let at_peak = breaker
        .optional("at_peak")
        .and_then(|at_peak| read_breaker_override(&at_peak));
    let at_festival = breaker
        .optional("at_festival")
        .and_then(|at_festival| read_breaker_override(&at_festival));
    let count_envoy_refusals = breaker
        .optional("count_envoy_refusals")
        .and_then(|count| count.boolean())
        .unwrap_or(true);
    let names_a_rule = fields.consecutive_failures.is_some()
        || fields.error_rate.is_some()
        || fields.slow_calls.is_some();
    let default = BreakerRules::default_for(timeout);
    let open_for = fields.open_for.unwrap_or(default.open_for);
    BreakerPlan {
        rules: BreakerRules {
            consecutive_failures: fields.consecutive_failures,
            error_rate: match names_a_rule {
                true => fields.error_rate,
                false => default.error_rate,
            },
            slow_calls: fields.slow_calls,
            open_for,
            half_open_probes: fields.half_open_probes.unwrap_or(default.half_open_probes),
            lease: BreakerRules::lease_for(open_for, timeout),
            latch: None,
        },
        at_peak,
        at_festival,
        observe,
        count_envoy_refusals,
    }
}

/// Fields that both the rules and their overrides have.
fn read_rules(object: &mut ObjectReader<'_>) -> BreakerOverride {
    BreakerOverride {
        consecutive_failures: object
            .optional("consecutive_failures")
            .and_then(|count| read_count(&count)),
        error_rate: object
            .optional("error_rate")
            .and_then(|rate| read_error_rate(&rate)),
        slow_calls: object
            .optional("slow_calls")
            .and_then(|slow| read_slow_calls(&slow)),
        open_for: object
            .optional("open_for")
            .and_then(|open_for| duration(&open_for, SHORTEST..=LONGEST)),
        half_open_probes: object
            .optional("half_open_probes")
            .and_then(|probes| u8::try_from(probes.integer(1..=HALF_OPEN_PROBES_MAX.into())?).ok()),
    }
}

fn read_breaker_override(reader: &Reader<'_>) -> Option<BreakerOverride> {
    let mut object = reader.object()?;
    let fields = read_rules(&mut object);
    object.finish();
    Some(fields)
}

/// Reads `{over: 1s, percent: 60}`, with the window and volume of an error rate.
fn read_slow_calls(reader: &Reader<'_>) -> Option<SlowCalls> {
    let mut slow = reader.object()?;
    let over = slow
        .required("over")
        .and_then(|over| duration(&over, Duration::from_millis(1)..=LONGEST));
    let percent = slow
        .required("percent")
        .and_then(|percent| read_share(&percent));
    let (minimum_requests, window) = read_volume(&mut slow);
    slow.finish();
    let default = SlowCalls::new(over?, percent?);
    Some(SlowCalls {
        minimum_requests: minimum_requests.unwrap_or(default.minimum_requests),
        window: window.unwrap_or(default.window),
        ..default
    })
}

/// A share that some request must reach.
fn read_share(reader: &Reader<'_>) -> Option<BasisPoints> {
    number(reader, |percent| {
        let share = BasisPoints::from_percent(percent).ok();
        share
            .filter(|share| *share != BasisPoints::ZERO)
            .ok_or_else(|| UnitError::OutOfRange {
                range: "0.01 to 100 percent with at most 2 decimals",
                found: percent.to_string(),
            })
    })
}

fn read_volume(object: &mut ObjectReader<'_>) -> (Option<u32>, Option<Duration>) {
    let minimum_requests = object
        .optional("minimum_requests")
        .and_then(|count| read_count(&count));
    let window = object
        .optional("window")
        .and_then(|window| duration(&window, SHORTEST..=LONGEST));
    (minimum_requests, window)
}

fn read_count(reader: &Reader<'_>) -> Option<u32> {
    u32::try_from(reader.integer(1..=COUNT_MAX)?).ok()
}

/// What the rate leaves out is as in the default rule.
fn read_error_rate(reader: &Reader<'_>) -> Option<ErrorRate> {
    let default = ErrorRate::default();
    let mut rate = reader.object()?;
    let percent = rate
        .optional("percent")
        .and_then(|percent| read_share(&percent));
    let (minimum_requests, window) = read_volume(&mut rate);
    rate.finish();
    Some(ErrorRate {
        percent: percent.unwrap_or(default.percent),
        minimum_requests: minimum_requests.unwrap_or(default.minimum_requests),
        window: window.unwrap_or(default.window),
    })
}

/// Reads `{version: v2, weight: 10, sticky_by: {header: x-user-id}}`; `weight` is percent. Instead of a
/// weight there may be a `ramp`.
pub fn read_canary(reader: Reader<'_>) -> Option<CanarySplit> {
    let mut canary = reader.object()?;
    let version = canary
        .required("version")
        .and_then(|version| version.parsed(VersionLabel::new));
    let weight = read_weight(&mut canary);
    let freeze_during = canary
        .optional("freeze_during")
        .map_or_else(Freeze::default, |during| read_freeze(&during));
    let sticky_by = canary.optional("sticky_by").and_then(read_sticky_by);
    let fallback = canary.optional("fallback").and_then(|kind| {
        // YAML reads off as false.
        if kind.value() == &Value::Bool(false) {
            return Some(Fallback::Off);
        }
        kind.parsed(|text| {
            let mut kinds = Fallback::ALL.into_iter();
            kinds
                .find(|kind| kind.as_str() == text)
                .ok_or_else(|| format!("must be latch, probe or off, not {text:?}"))
        })
    });
    let observe = read_mode(&mut canary);
    let resumed = canary
        .optional("resumed")
        .and_then(|times| u32::try_from(times.integer(0..=COUNT_MAX)?).ok());
    canary.finish();
    Some(CanarySplit {
        version: version?,
        // What could not be read is told: any weight will do to look at the rest.
        weight: weight.unwrap_or(Weight::Fixed(BasisPoints::ALL)),
        freeze_during,
        sticky_by,
        fallback: fallback.unwrap_or_default(),
        observe,
        resumed: resumed.unwrap_or_default(),
    })
}

/// Either `weight` or `ramp`.
fn read_weight(canary: &mut ObjectReader<'_>) -> Option<Weight> {
    let (weight, ramp) = (canary.optional("weight"), canary.optional("ramp"));
    if weight.is_none() && ramp.is_none() {
        canary.missing("weight", None);
        return None;
    }
    if let (Some(_), Some(ramp)) = (&weight, &ramp) {
        ramp.problem(
            "must not stand beside weight: a ramp is a weight that grows by the time",
            Some("leave one of them out; weight: 0 stops a canary".into()),
        );
    }
    let weight = weight
        .and_then(|weight| number(&weight, BasisPoints::from_percent))
        .map(Weight::Fixed);
    let ramp = ramp.and_then(|ramp| read_ramp(&ramp)).map(Weight::Ramp);
    weight.or(ramp)
}

/// Reads `{start: 2026-11-25T09:00+05:30, steps: [5, 10, 25, 50, 100], every: 30m}`; steps are percent.
fn read_ramp(reader: &Reader<'_>) -> Option<Ramp> {
    let before = reader.found();
    let mut ramp = reader.object()?;
    let start = ramp
        .required("start")
        .and_then(|start| start.parsed(parse_instant));
    let steps = ramp.required("steps").map(|steps| {
        let elements = steps.array();
        let percent = |step: &Reader<'_>| number(step, BasisPoints::from_percent);
        let weights = elements.iter().map(percent).collect::<Vec<_>>();
        (steps, weights)
    });
    let every = ramp
        .required("every")
        .and_then(|every| duration(&every, RAMP_EVERY));
    ramp.finish();
    let (steps, weights) = steps?;
    let weights: Option<Vec<BasisPoints>> = weights.into_iter().collect();
    let ramp = Ramp::new(start?, weights?, every?);
    // What is wrong with a single field is told already; the rest is about the steps.
    ramp.map_err(|error| {
        if reader.found() == before {
            steps.problem(error.to_string(), None);
        }
    })
    .ok()
}

/// Reads `[peak, festival, evening]`: states of the traffic, and names of windows and festivals.
pub fn read_freeze(reader: &Reader<'_>) -> Freeze {
    let elements = reader.array();
    if elements.is_empty() && reader.value().is_array() {
        reader.problem(
            "must name a time",
            Some("peak, festival, or a window's or festival's name; leave it out for none".into()),
        );
    }
    let time = |element: &Reader<'_>| {
        element.parsed(|word| match word {
            "peak" | "peak_hour" => Ok(FreezeWhen::Peak),
            "festival" => Ok(FreezeWhen::Festival),
            name => DisplayName::new(name).map(FreezeWhen::Named),
        })
    };
    Freeze::new(elements.iter().filter_map(time).collect())
}

/// Reports names of a freeze that are neither a window nor a festival. `path` is the list's own.
pub fn check_freeze_names(root: &Reader<'_>, path: &str, freeze: &Freeze, timetable: &Timetable) {
    for (index, name) in freeze.unknown_names(timetable) {
        root.problem_at(
            &format!("{path}[{index}]"),
            format!(
                "{:?} is neither a window of peak_hours nor a festival",
                name.as_str()
            ),
            Some("use one of their names, or peak, festival".into()),
        );
    }
}

/// Reads the name of a service that may have rules.
pub fn read_service_name(reader: &Reader<'_>) -> Option<ServiceName> {
    let name = reader.parsed(ServiceName::new)?;
    check_service_name(reader, reader.path(), &name);
    Some(name)
}

/// Reports the name that requests of no known service are counted under. `path` is the service's.
pub fn check_service_name(root: &Reader<'_>, path: &str, name: &ServiceName) {
    if name.as_str() == names::OTHER_SERVICE {
        root.problem_at(
            path,
            format!(
                "{name:?} is reserved: requests for no known service are counted under it",
                name = name.as_str()
            ),
            Some("give the service another name".into()),
        );
    }
}

/// Reads `{header: x-user-id}`.
pub(super) fn read_sticky_by(reader: Reader<'_>) -> Option<HeaderName> {
    let mut sticky_by = reader.object()?;
    let before = reader.found();
    sticky_by.not_supported(&["cookie", "query"]);
    // One problem is enough: who names a cookie knows that he names no header.
    let header = match reader.found() == before {
        true => sticky_by.required("header"),
        false => sticky_by.optional("header"),
    };
    let header = header.and_then(|header| header.parsed(sticky_header));
    sticky_by.finish();
    header
}

/// Whether a client's copy of it is removed from requests: it is one of our own.
pub(super) fn is_removed(header: &HeaderName) -> bool {
    let name = header.as_str();
    names::REQUEST_HEADERS.contains(&name) || name == names::HEADER_CANARY
}

/// Client copies of our own headers are removed, so nobody can be told apart by them.
fn sticky_header(name: &str) -> Result<HeaderName, String> {
    let header = HeaderName::new(name).map_err(|error: UnitError| error.to_string())?;
    if is_removed(&header) {
        return Err(format!(
            "{header} is removed from requests; name the header of a user's id"
        ));
    }
    Ok(header)
}
