//! What happens to one request: the single entry for the filter, for `explain` and for the dashboard.
//! Class, then limits, then shedding, then canary version, then the breaker of that version and
//! class, then the headers.

mod rules;
mod services;

use std::time::Duration;

pub use rules::{
    CanaryRules, CellId, CellRules, ClassId, ClassRules, LimitId, LimitRules, Rules, ServiceId,
    ServiceRules,
};

use crate::{
    breaker::{self, Admission, BreakerRules, Ticket},
    canary::{CanarySplit, Draw, DrawSource},
    limit::Rate,
    names,
    overrides::OverrideKind,
    timetable::{Traffic, TrafficState},
    traffic_class::{RefusalBody, ShedDraw},
    units::{BasisPoints, ClassName, VersionLabel},
};

pub use crate::traffic_class::Headers;

/// Status of a refusal by a breaker.
const STATUS_UNAVAILABLE: u16 = 503;
/// Status of a refusal by a limit or by shedding.
const STATUS_TOO_MANY: u16 = 429;
/// Clients that were shed are asked to stay away for so long: longer than a retry, shorter than a
/// peak.
const SHED_RETRY_AFTER: Duration = Duration::from_secs(5);

/// One request, as far as decisions see it.
pub struct RequestView<'a> {
    /// From [`Rules::resolve_service`].
    pub service: ServiceId,
    /// Its headers, with the pseudo headers `:path` and `:method`.
    pub headers: &'a dyn Headers,
}

/// What decisions ask of the world: dice, and what all workers share.
pub trait Environment {
    /// A random number, evenly distributed.
    fn random(&mut self) -> u64;
    /// Asks a breaker to let a request through.
    fn admit(&mut self, cell: CellId, rules: &BreakerRules) -> Admission;
    /// Takes one of a limit's tokens.
    ///
    /// # Errors
    /// When there is none: how long until there is.
    fn take(&mut self, limit: LimitId, rate: Rate) -> Result<(), Duration>;
    /// Gives back a token that [`take`](Self::take) took for this request.
    fn give_back(&mut self, limit: LimitId, rate: Rate);
}

/// Everything decided about one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision<'r> {
    /// The service it is for.
    pub service: ServiceId,
    /// Its class.
    pub class: &'r ClassName,
    /// The traffic state it was decided in.
    pub state: TrafficState,
    /// Where shedding drew, while something of its class is shed.
    pub shed: Option<ShedDraw>,
    /// Where the canary's split sent it; none when the service has no canary or it was refused
    /// before.
    pub canary: Option<CanaryDecision<'r>>,
    /// Let through or refused.
    pub verdict: Verdict<'r>,
    /// What rules in `mode: observe` would have refused it for.
    pub observed: Option<Reason>,
    /// The value of `x-mumbai-version`; none when the service has no canary.
    pub version_header: Option<&'r str>,
}

/// Where the canary's split sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CanaryDecision<'r> {
    /// The canary's share at that time.
    pub weight: BasisPoints,
    /// The draw.
    pub draw: Draw,
    /// The version that serves it: the canary's label, or none for stable.
    pub version: Option<&'r VersionLabel>,
    /// It was the canary's, whose breaker refused: stable serves it.
    pub fell_back: bool,
    /// It would be the canary's, which only observes: the label that would serve it.
    pub observed: Option<&'r VersionLabel>,
}

/// Let through or refused.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict<'r> {
    /// Let through.
    Proceed {
        /// The breaker that admitted it, to be told how it ends.
        cell: Option<CellId>,
        /// Proof of admission.
        ticket: Option<Ticket>,
    },
    /// Answered here; no byte reaches an upstream.
    Refuse {
        /// HTTP status: 503 by a breaker, 429 by a limit or by shedding.
        status: u16,
        /// Value of `x-mumbai-reason`.
        reason: Reason,
        /// Value of `retry-after`, at least 1.
        retry_after_seconds: u32,
        /// What the class tells refused clients; one line of text unless given.
        body: Option<&'r RefusalBody>,
    },
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Its breaker is open.
    BreakerOpen,
    /// Its breaker is half-open, and all probes are out.
    BreakerHalfOpen,
    /// Its class is shed now.
    Shed,
    /// A limit of its class or service is used up.
    Limit,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 4] = [
        Self::BreakerOpen,
        Self::BreakerHalfOpen,
        Self::Shed,
        Self::Limit,
    ];

    /// The value of `x-mumbai-reason` and of the metrics' label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BreakerOpen => "breaker_open",
            Self::BreakerHalfOpen => "breaker_half_open",
            Self::Shed => "shed",
            Self::Limit => "limit",
        }
    }

    /// The gRPC status that a gRPC client is answered with: UNAVAILABLE by a breaker,
    /// RESOURCE_EXHAUSTED else.
    pub fn grpc_status(self) -> u8 {
        match self {
            Self::BreakerOpen | Self::BreakerHalfOpen => 14,
            Self::Shed | Self::Limit => 8,
        }
    }
}

impl From<breaker::RefusalReason> for Reason {
    fn from(reason: breaker::RefusalReason) -> Self {
        match reason {
            breaker::RefusalReason::BreakerOpen | breaker::RefusalReason::Latched => {
                Self::BreakerOpen
            }
            breaker::RefusalReason::BreakerHalfOpen => Self::BreakerHalfOpen,
        }
    }
}

/// A refusal, before it is jittered and dressed.
struct Refusal {
    reason: Reason,
    retry_after: Duration,
    /// By a canary's breaker that latched.
    latched: bool,
}

/// Decides one request.
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
            shed: None,
            canary: None,
            verdict: PASS,
            observed: None,
            version_header: None,
        };
    };
    let class_id = rules.class_of(service, request.headers);
    let class = rules.class(class_id);
    let overall = traffic;
    let traffic = traffic_of(overall, request.service);
    let mut decider = Decider {
        rules,
        overall,
        traffic,
        says: override_of(overall, request.service),
        service,
        class_id,
        class,
        headers: request.headers,
        env,
        observed: None,
        shed: None,
    };
    let (canary, verdict) = decider.run();
    let (observed, shed, says) = (decider.observed, decider.shed, decider.says);
    // A request must come to stable, even where a canary decided nothing.
    let bypassed = service.canary.is_some() && says == Some(OverrideKind::Bypass);
    Decision {
        service: request.service,
        class: class.map_or(rules.default_class(), |class| &class.name),
        state: traffic.state,
        shed,
        version_header: canary
            .map(|canary| canary.version.map_or(names::STABLE, VersionLabel::as_str))
            .or(bypassed.then_some(names::STABLE)),
        canary,
        verdict,
        observed,
    }
}

/// The answer of the calendar for a service: an override may say otherwise.
pub fn traffic_of(traffic: &Traffic, service: ServiceId) -> &Traffic {
    match service {
        ServiceId::Known(number) => traffic.of_service(number),
        ServiceId::Other => traffic,
    }
}

/// What somebody says of a service now.
pub fn override_of(traffic: &Traffic, service: ServiceId) -> Option<OverrideKind> {
    match service {
        ServiceId::Known(number) => traffic.override_of(number).map(|own| own.kind),
        ServiceId::Other => None,
    }
}

const PASS: Verdict<'static> = Verdict::Proceed {
    cell: None,
    ticket: None,
};

/// One decision under way.
struct Decider<'r, 'a, E> {
    rules: &'r Rules,
    /// Of all services.
    overall: &'a Traffic,
    /// Of this one.
    traffic: &'a Traffic,
    /// What somebody says of it.
    says: Option<OverrideKind>,
    service: &'r ServiceRules,
    class_id: ClassId,
    class: Option<&'r ClassRules>,
    headers: &'a dyn Headers,
    env: &'a mut E,
    observed: Option<Reason>,
    shed: Option<ShedDraw>,
}

impl<'r, E: Environment> Decider<'r, '_, E> {
    fn run(&mut self) -> (Option<CanaryDecision<'r>>, Verdict<'r>) {
        if self.says == Some(OverrideKind::Bypass) {
            return (None, PASS);
        }
        let refusal = self.limit().or_else(|| self.shed());
        if let Some(refusal) = refusal {
            return (None, self.refuse(&refusal));
        }
        match &self.service.canary {
            Some(canary) => {
                let weight = canary.weight(self.traffic);
                let draw = self.draw(canary, weight);
                let (decision, verdict) = self.choose(canary, weight, draw);
                (Some(decision), verdict)
            }
            None => (None, self.ask_stable()),
        }
    }

    /// A refusal by a limit. Most requests have none.
    fn limit(&mut self) -> Option<Refusal> {
        if self.class.is_none_or(|class| class.limit.is_none()) && self.service.limit.is_none() {
            return None;
        }
        self.take_tokens()
    }

    /// Of the class's limit, then of the service's. One that this refuses takes nothing of the class's: other
    /// services share that.
    fn take_tokens(&mut self) -> Option<Refusal> {
        // A class's tokens are those of all services: nothing that is said of one changes how many there are.
        let limits = [
            (self.class.and_then(|class| class.limit), self.overall),
            (self.service.limit, self.traffic),
        ];
        let mut taken = None;
        for (id, traffic) in limits {
            let Some((id, rules)) = id.and_then(|id| Some((id, self.rules.limit(id)?))) else {
                continue;
            };
            let rate = rules.rate(traffic);
            let Err(retry_after) = self.env.take(id, rate) else {
                taken = Some((id, rate));
                continue;
            };
            if rules.limit.observe || self.observes() {
                self.observed.get_or_insert(Reason::Limit);
                continue;
            }
            if let Some((id, rate)) = taken {
                self.env.give_back(id, rate);
            }
            return Some(Refusal {
                reason: Reason::Limit,
                retry_after,
                latched: false,
            });
        }
        None
    }

    /// Whether somebody lets all rules observe only.
    fn observes(&self) -> bool {
        self.says == Some(OverrideKind::Observe)
    }

    fn shed(&mut self) -> Option<Refusal> {
        let class = self.class?;
        let shed = class.shed.as_ref()?;
        let percent = shed.percent(self.rules.timetable(), self.traffic);
        let env = &mut *self.env;
        self.shed = shed.draw(&class.name, percent, self.headers, || env.random());
        if !self.shed.is_some_and(|draw| draw.shed) {
            return None;
        }
        if shed.observe || self.observes() {
            self.observed.get_or_insert(Reason::Shed);
            return None;
        }
        Some(Refusal {
            reason: Reason::Shed,
            retry_after: SHED_RETRY_AFTER,
            latched: false,
        })
    }

    /// The side of the canary's split: as the client says where it is trusted, else by the user's key.
    fn draw(&mut self, canary: &CanaryRules, weight: BasisPoints) -> Draw {
        if self.rules.trust_canary_header()
            && let Some(asked) = self.headers.get(names::HEADER_CANARY)
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
        let key = sticky_by.and_then(|header| self.headers.get(header.as_str()));
        let env = &mut *self.env;
        let name = &self.service.name;
        CanarySplit::draw(weight, name, key.as_deref(), || env.random())
    }

    /// The version and its breaker's word; a canary that refuses may hand over to stable.
    fn choose(
        &mut self,
        canary: &'r CanaryRules,
        weight: BasisPoints,
        draw: Draw,
    ) -> (CanaryDecision<'r>, Verdict<'r>) {
        let decision = |version, fell_back| CanaryDecision {
            weight,
            draw,
            version,
            fell_back,
            observed: None,
        };
        if !draw.canary {
            return (decision(None, false), self.ask_stable());
        }
        if canary.split.observe {
            let observed = CanaryDecision {
                observed: Some(&canary.split.version),
                ..decision(None, false)
            };
            return (observed, self.ask_stable());
        }
        let cell = self.rules.canary_cell(canary, self.class_id);
        match self.ask(cell) {
            // One that latched stays with stable, however far its ramp would be by now.
            Err(refusal) if refusal.latched || canary.falls_back(weight) => {
                (decision(None, true), self.ask_stable())
            }
            Err(refusal) => {
                let verdict = self.refuse(&refusal);
                (decision(Some(&canary.split.version), false), verdict)
            }
            Ok(verdict) => (decision(Some(&canary.split.version), false), verdict),
        }
    }

    fn ask_stable(&mut self) -> Verdict<'r> {
        let cell = self.rules.stable_cell(self.service, self.class_id);
        match self.ask(cell) {
            Ok(verdict) => verdict,
            Err(refusal) => self.refuse(&refusal),
        }
    }

    fn ask(&mut self, cell: Option<CellId>) -> Result<Verdict<'r>, Refusal> {
        let known = cell.and_then(|id| Some((id, self.rules.cell(id)?)));
        let Some((id, cell)) = known else {
            return Ok(PASS);
        };
        match self.env.admit(id, cell.at(self.traffic)) {
            Admission::Admitted(ticket) => Ok(Verdict::Proceed {
                cell: Some(id),
                ticket: Some(ticket),
            }),
            Admission::Refused { reason, .. } if cell.observe || self.observes() => {
                self.observed.get_or_insert(reason.into());
                Ok(PASS)
            }
            Admission::Refused {
                reason,
                retry_after,
            } => Err(Refusal {
                reason: reason.into(),
                retry_after,
                latched: reason == breaker::RefusalReason::Latched,
            }),
        }
    }

    #[cold]
    fn refuse(&mut self, refusal: &Refusal) -> Verdict<'r> {
        let status = match refusal.reason {
            Reason::BreakerOpen | Reason::BreakerHalfOpen => STATUS_UNAVAILABLE,
            Reason::Shed | Reason::Limit => STATUS_TOO_MANY,
        };
        Verdict::Refuse {
            status,
            reason: refusal.reason,
            retry_after_seconds: retry_after_seconds(refusal.retry_after, self.env.random()),
            body: self.class.and_then(|class| class.refusal.as_ref()),
        }
    }
}

/// Whole seconds, at least 1, lengthened by up to 20 %: refused clients do not all come back at once.
fn retry_after_seconds(retry_after: Duration, random: u64) -> u32 {
    let millis = retry_after.as_millis();
    let jitter = millis.saturating_mul(u128::from(random % 201)) / 1000;
    let seconds = millis.saturating_add(jitter).div_ceil(1000);
    u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
}

impl Decision<'_> {
    /// The decision in one line for `x-mumbai-decision`, e.g. `state=festival window=Diwali,evening
    /// class=gold version=v2 bucket=695 verdict=proceed`.
    #[cold]
    pub fn summary(&self, traffic: &Traffic) -> String {
        let says = override_of(traffic, self.service);
        let traffic = traffic_of(traffic, self.service);
        let mut words = vec![format!("state={}", traffic.state.as_str())];
        let mut say = |name: &str, value: Option<&str>| {
            words.extend(value.map(|value| format!("{name}={value}")));
        };
        say("window", traffic.window_header.as_deref());
        say("multiplier", traffic.multiplier_header.as_deref());
        say("class", Some(self.class.as_str()));
        say("version", self.version_header);
        let shed = self.shed.map(|draw| draw.bucket.to_string());
        say("shed_bucket", shed.as_deref());
        let draw = self.canary.as_ref().map(|canary| canary.draw);
        let bucket = draw
            .and_then(|draw| draw.bucket)
            .map(|bucket| bucket.to_string());
        say("bucket", bucket.as_deref());
        say("by", draw.map(|draw| draw.source.as_str()));
        let fell_back = self.canary.as_ref().filter(|canary| canary.fell_back);
        say("fallback", fell_back.map(|_| "canary_breaker"));
        say("override", says.map(OverrideKind::as_str));
        say("observed", self.observed.map(Reason::as_str));
        say(
            "verdict",
            Some(match &self.verdict {
                Verdict::Proceed { .. } => "proceed",
                Verdict::Refuse { reason, .. } => reason.as_str(),
            }),
        );
        words.join(" ")
    }

    /// The headers for the upstream, without those that have nothing to say.
    #[inline]
    pub fn request_headers<'s>(
        &'s self,
        traffic: &'s Traffic,
    ) -> impl Iterator<Item = (&'static str, &'s str)> {
        let traffic = traffic_of(traffic, self.service);
        let (window, multiplier) = (&traffic.window_header, &traffic.multiplier_header);
        // A chain becomes straight code, where an array would be written first.
        let header = |name, value: Option<&'s str>| value.map(|value| (name, value)).into_iter();
        header(names::HEADER_TRAFFIC_STATE, Some(traffic.state.as_str()))
            .chain(header(names::HEADER_WINDOW, window.as_deref()))
            .chain(header(names::HEADER_MULTIPLIER, multiplier.as_deref()))
            .chain(header(names::HEADER_CLASS, Some(self.class.as_str())))
            .chain(header(names::HEADER_VERSION, self.version_header))
    }
}

#[cfg(test)]
mod class_tests;
#[cfg(test)]
mod override_tests;
#[cfg(test)]
mod tests;
