//! What happens to one request: the single entry for the filter, for `explain` and for the dashboard.
//! Class, then canary version, then the breaker of that version and class, then the headers.

mod rules;

use std::{borrow::Cow, time::Duration};

pub use rules::{CanaryRules, CellId, CellRules, Rules, ServiceId, ServiceRules};

use crate::{
    breaker::{Admission, BreakerRules, RefusalReason, Ticket},
    canary::{Draw, DrawSource},
    names,
    timetable::{Traffic, TrafficState},
    units::{ClassName, VersionLabel},
};

/// Status of a request that a breaker refuses.
const STATUS_UNAVAILABLE: u16 = 503;

/// A request's headers.
pub trait Headers {
    /// The value of the header `name` (lower case); bytes, since no peer is bound to send UTF-8.
    fn get(&self, name: &str) -> Option<Cow<'_, [u8]>>;
}

/// One request, as far as decisions see it.
pub struct RequestView<'a> {
    /// From [`Rules::resolve_service`].
    pub service: ServiceId,
    /// Its headers, as the client sent them.
    pub headers: &'a dyn Headers,
}

/// What decisions ask of the world: dice, and the breakers that all workers share.
pub trait Environment {
    /// A random number, evenly distributed.
    fn random(&mut self) -> u64;
    /// Asks a breaker to let a request through.
    fn admit(&mut self, cell: CellId, rules: &BreakerRules) -> Admission;
}

/// What was decided, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision<'r> {
    /// The service.
    pub service: ServiceId,
    /// The traffic class; `silver` where no service is known.
    pub class: &'r ClassName,
    /// The traffic state it was decided in.
    pub state: TrafficState,
    /// The canary's side, if the service has a canary.
    pub canary: Option<CanaryDecision<'r>>,
    /// Whether the request goes on.
    pub verdict: Verdict,
    /// Value of `x-mumbai-version`: the canary's label or `stable`; none where there is no canary.
    pub version_header: Option<&'r str>,
}

/// Which version serves the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CanaryDecision<'r> {
    /// How it was drawn.
    pub draw: Draw,
    /// What was chosen in the end; none is stable.
    pub version: Option<&'r VersionLabel>,
    /// Drawn for the canary, but its breaker refused: stable serves it.
    pub fell_back: bool,
}

/// Whether a request goes on.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It does.
    Proceed {
        /// The breaker that wants to know how it ends.
        cell: Option<CellId>,
        /// What that breaker gave for it.
        ticket: Option<Ticket>,
    },
    /// It is answered here; no byte of it reaches the upstream.
    Refuse {
        /// HTTP status.
        status: u16,
        /// Value of `x-mumbai-reason`.
        reason: RefusalReason,
        /// Value of `retry-after`, at least 1.
        retry_after_seconds: u32,
    },
}

/// Decides one request. Asks each breaker at most once, and stable's only if the canary's did not
/// admit it.
pub fn decide<'r>(
    rules: &'r Rules,
    traffic: &Traffic,
    request: &RequestView<'_>,
    env: &mut impl Environment,
) -> Decision<'r> {
    let Some(service) = rules.service(request.service) else {
        return Decision {
            service: ServiceId::Other,
            class: rules.default_class(),
            state: traffic.state,
            canary: None,
            verdict: Verdict::Proceed {
                cell: None,
                ticket: None,
            },
            version_header: None,
        };
    };
    let (canary, verdict) = match &service.canary {
        Some(canary) => {
            let draw = draw(rules, service, canary, request.headers, env);
            let (decision, verdict) = choose(rules, service, canary, draw, env);
            (Some(decision), verdict)
        }
        None => (None, ask(rules, service.stable_cell, env)),
    };
    Decision {
        service: request.service,
        class: &service.class,
        state: traffic.state,
        version_header: canary
            .map(|canary| canary.version.map_or(names::STABLE, VersionLabel::as_str)),
        canary,
        verdict,
    }
}

/// The request's side of the split; a header that names neither side is as if it were not there.
fn draw(
    rules: &Rules,
    service: &ServiceRules,
    canary: &CanaryRules,
    headers: &dyn Headers,
    env: &mut impl Environment,
) -> Draw {
    if rules.trust_canary_header()
        && let Some(asked) = headers.get(names::HEADER_CANARY)
    {
        let wants_canary = *asked == *canary.split.version.as_str().as_bytes();
        if wants_canary || *asked == *names::STABLE.as_bytes() {
            return Draw {
                bucket: None,
                source: DrawSource::Header,
                canary: wants_canary,
            };
        }
    }
    let sticky_by = canary.split.sticky_by.as_ref();
    let key = sticky_by.and_then(|header| headers.get(header.as_str()));
    canary
        .split
        .draw(&service.name, key.as_deref(), || env.random())
}

fn choose<'r>(
    rules: &'r Rules,
    service: &'r ServiceRules,
    canary: &'r CanaryRules,
    draw: Draw,
    env: &mut impl Environment,
) -> (CanaryDecision<'r>, Verdict) {
    let decision = |version, fell_back| CanaryDecision {
        draw,
        version,
        fell_back,
    };
    if !draw.canary {
        return (decision(None, false), ask(rules, service.stable_cell, env));
    }
    match ask(rules, canary.cell, env) {
        Verdict::Refuse { .. } if canary.falls_back() => {
            (decision(None, true), ask(rules, service.stable_cell, env))
        }
        verdict => (decision(Some(&canary.split.version), false), verdict),
    }
}

/// Asks one breaker.
fn ask(rules: &Rules, cell: Option<CellId>, env: &mut impl Environment) -> Verdict {
    let known = cell.and_then(|id| Some((id, rules.cell(id)?)));
    let Some((id, cell)) = known else {
        return Verdict::Proceed {
            cell: None,
            ticket: None,
        };
    };
    match env.admit(id, &cell.rules) {
        Admission::Admitted(ticket) => Verdict::Proceed {
            cell: Some(id),
            ticket: Some(ticket),
        },
        Admission::Refused {
            reason,
            retry_after,
        } => Verdict::Refuse {
            status: STATUS_UNAVAILABLE,
            reason,
            retry_after_seconds: retry_after_seconds(retry_after, env.random()),
        },
    }
}

/// Whole seconds, at least 1, up to a fifth more than asked for: clients come back one by one.
fn retry_after_seconds(retry_after: Duration, random: u64) -> u32 {
    let millis = retry_after.as_millis();
    let jitter = millis.saturating_mul(u128::from(random % 201)) / 1000;
    let seconds = millis.saturating_add(jitter).div_ceil(1000);
    u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
}

impl Decision<'_> {
    /// The headers for the upstream, in a fixed order. Every value is visible ASCII. Client copies of
    /// all of [`names::REQUEST_HEADERS`] must be removed first.
    pub fn request_headers<'s>(
        &'s self,
        traffic: &'s Traffic,
    ) -> impl Iterator<Item = (&'static str, &'s str)> {
        [
            (names::HEADER_TRAFFIC_STATE, Some(traffic.state.as_str())),
            (names::HEADER_WINDOW, traffic.window_header.as_deref()),
            (
                names::HEADER_MULTIPLIER,
                traffic.multiplier_header.as_deref(),
            ),
            (names::HEADER_CLASS, Some(self.class.as_str())),
            (names::HEADER_VERSION, self.version_header),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

#[cfg(test)]
mod tests;
