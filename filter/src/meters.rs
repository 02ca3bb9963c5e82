//! Metrics, each defined once per VM.

use std::cell::{Cell, RefCell};

use policy::{
    breaker::{BreakerState, Transition},
    decision::{CanaryDecision, Decision, Rules, ServiceId, Verdict},
    names,
    time::WallTime,
    timetable::{Traffic, TrafficState, zone_label},
    units::ZoneName,
};

use crate::{
    gauges::{Gauge, Gauges},
    host::{self, Metric},
    tally::{ByStatus, Labelled, Sum, Values},
};

/// Ids of this VM's metrics. A metric that the host refuses is left out; requests go on.
pub struct Meters {
    /// By index of the configuration; the last one is for requests of no configured service.
    services: Vec<ServiceMeters>,
    /// Those of them of which something waits to be told.
    waiting: RefCell<Vec<ServiceId>>,
    in_flight: Cell<u64>,
    states: [(TrafficState, Option<u32>); 3],
    /// In the order of [`Timetable::zone_multipliers`](policy::timetable::Timetable::zone_multipliers).
    multipliers: Vec<Gauge>,
    /// Those of the gauges that are this configuration's.
    gauges: Gauges,
    factor: Option<u32>,
}

struct ServiceMeters {
    label: String,
    active: Sum,
    time: Values,
    breaker: Option<Gauge>,
    canary_breaker: Option<Gauge>,
    requests: ByStatus,
    others: Labelled,
    /// Something of it waits to be told to Envoy.
    waits: Cell<bool>,
}

impl ServiceMeters {
    fn new(gauges: &mut Gauges, label: &str, has_breaker: bool, canary: Option<&str>) -> Self {
        let labels = [(names::LABEL_SERVICE, label)];
        let name = |name| names::metric_name(&labels, name);
        Self {
            active: Sum::new(Metric::Gauge, &name(names::METRIC_ACTIVE_CONNECTIONS)),
            time: Values::new(&name(names::METRIC_RESPONSE_TIME_MILLISECONDS)),
            breaker: has_breaker.then(|| gauges.define(name(names::METRIC_CIRCUIT_BREAKER_STATE))),
            canary_breaker: canary.map(|version| {
                let labels = [
                    (names::LABEL_SERVICE, label),
                    (names::LABEL_VERSION, version),
                ];
                gauges.define(names::metric_name(
                    &labels,
                    names::METRIC_CANARY_BREAKER_STATE,
                ))
            }),
            requests: ByStatus::default(),
            others: Labelled::default(),
            label: label.to_owned(),
            waits: Cell::new(false),
        }
    }

    /// Adds one to a counter of this service with one more label.
    fn count(&self, metric: &'static str, label: &str, value: &str) {
        self.others.count(&self.label, metric, label, value);
    }

    fn flush(&self) {
        self.active.flush();
        self.time.flush();
        self.requests.flush();
        self.others.flush();
    }
}

fn record(metric: Option<u32>, value: u64) {
    if let Some(metric) = metric {
        host::record(metric, value);
    }
}

/// A zone without its region; `all` where no window names a zone.
fn label<'z>(rules: &Rules, zone: Option<&'z ZoneName>) -> &'z str {
    zone.map_or("all", |zone| zone_label(rules.region(), zone))
}

impl Meters {
    /// Defines what is known beforehand.
    pub fn new(rules: &Rules) -> Self {
        let mut gauges = Gauges::new();
        let known = rules.services().iter();
        let mut services: Vec<_> = known
            .map(|service| {
                let canary = service.canary.as_ref();
                let version = canary.map(|canary| canary.split.version.as_str());
                ServiceMeters::new(&mut gauges, service.name.as_str(), true, version)
            })
            .collect();
        services.push(ServiceMeters::new(
            &mut gauges,
            names::OTHER_SERVICE,
            false,
            None,
        ));
        let state = |state: TrafficState| {
            let labels = [(names::LABEL_STATE, state.as_str())];
            let name = names::metric_name(&labels, names::METRIC_TRAFFIC_STATE);
            (state, host::define(Metric::Gauge, &name))
        };
        // Which zones there are does not depend on the time.
        let epoch = WallTime::from_unix_seconds(0);
        let zones = rules.timetable().zone_multipliers(epoch, rules.zone());
        let multipliers = zones.into_iter().map(|(zone, _)| {
            let labels = [(names::LABEL_ZONE, label(rules, zone))];
            let name = names::metric_name(&labels, names::METRIC_PEAK_HOUR_MULTIPLIER_PERCENT);
            gauges.define(name)
        });
        let multipliers = multipliers.collect();
        gauges.take_over();
        Self {
            services,
            waiting: RefCell::default(),
            in_flight: Cell::new(0),
            states: [
                state(TrafficState::Normal),
                state(TrafficState::PeakHour),
                state(TrafficState::Festival),
            ],
            multipliers,
            gauges,
            factor: host::define(Metric::Gauge, names::METRIC_FESTIVAL_TRAFFIC_FACTOR_PERCENT),
        }
    }

    fn service(&self, service: ServiceId) -> Option<&ServiceMeters> {
        match service {
            ServiceId::Known(index) => self.services.get(usize::from(index)),
            ServiceId::Other => self.services.last(),
        }
    }

    /// The meters of a service, of which something will wait from now on.
    fn change(&self, id: ServiceId) -> Option<&ServiceMeters> {
        let meters = self.service(id)?;
        if !meters.waits.replace(true) {
            self.waiting.borrow_mut().push(id);
        }
        Some(meters)
    }

    /// Tells Envoy what waits. At each tick; and whenever no request is under way any more, so that
    /// one request alone is seen at once, and a VM that a new one replaced leaves nothing behind.
    pub fn flush(&self) {
        for id in self.waiting.borrow_mut().drain(..) {
            if let Some(meters) = self.service(id) {
                meters.waits.set(false);
                meters.flush();
            }
        }
    }

    /// A request reached us. Counts what its decision says beyond its status: refusals and near refusals
    /// by reason, canary versions, classes.
    pub fn begin(&self, decision: &Decision<'_>) {
        self.in_flight.set(self.in_flight.get() + 1);
        let Some(meters) = self.change(decision.service) else {
            return;
        };
        meters.active.add(1);
        let class = decision.class.as_str();
        meters.count(
            names::METRIC_CLASS_REQUESTS_TOTAL,
            names::LABEL_CLASS,
            class,
        );
        if let Some(version) = decision.version_header {
            meters.count(
                names::METRIC_CANARY_REQUESTS_TOTAL,
                names::LABEL_VERSION,
                version,
            );
        }
        if let Some(canary) = &decision.canary {
            self.canary(meters, canary);
        }
        if let Verdict::Refuse { reason, .. } = &decision.verdict {
            let reason = reason.as_str();
            meters.count(names::METRIC_REFUSALS_TOTAL, names::LABEL_REASON, reason);
        }
        if let Some(reason) = decision.observed {
            let reason = reason.as_str();
            meters.count(
                names::METRIC_OBSERVED_REFUSALS_TOTAL,
                names::LABEL_REASON,
                reason,
            );
        }
    }

    /// It ended, after so many milliseconds.
    pub fn end(&self, service: ServiceId, status: u16, milliseconds: u32) {
        if let Some(meters) = self.change(service) {
            meters.active.add(-1);
            meters.requests.count(&meters.label, status);
            meters.time.record(milliseconds);
        }
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
        if self.in_flight.get() == 0 {
            self.flush();
        }
    }

    fn canary(&self, meters: &ServiceMeters, canary: &CanaryDecision<'_>) {
        if let Some(version) = canary.observed {
            meters.count(
                names::METRIC_OBSERVED_CANARY_REQUESTS_TOTAL,
                names::LABEL_VERSION,
                version.as_str(),
            );
        }
        if canary.fell_back {
            meters.count(
                names::METRIC_CANARY_FALLBACKS_TOTAL,
                names::LABEL_VERSION,
                names::STABLE,
            );
        }
    }

    /// Counts a transition of one of this service's breakers.
    pub fn transition(&self, service: ServiceId, transition: Transition) {
        if let Some(meters) = self.change(service) {
            let to = match transition {
                Transition::Opened | Transition::Reopened => BreakerState::Open,
                Transition::HalfOpened => BreakerState::HalfOpen,
                Transition::Closed => BreakerState::Closed,
            };
            meters.count(
                names::METRIC_BREAKER_TRANSITIONS_TOTAL,
                names::LABEL_STATE,
                to.as_str(),
            );
        }
    }

    /// The canary's breaker of this service changed its state.
    pub fn canary_breaker(&self, service: ServiceId, worst: BreakerState) {
        let gauge = self.service(service);
        if let Some(gauge) = gauge.and_then(|meters| meters.canary_breaker.as_ref()) {
            self.gauges.record(gauge, u64::from(worst as u8));
        }
    }

    /// A breaker of this service's stable version changed its state.
    pub fn breaker(&self, service: ServiceId, worst: BreakerState) {
        let gauge = self.service(service);
        if let Some(gauge) = gauge.and_then(|meters| meters.breaker.as_ref()) {
            self.gauges.record(gauge, u64::from(worst as u8));
        }
    }

    /// The traffic changed.
    pub fn traffic(&self, rules: &Rules, traffic: &Traffic, now: WallTime) {
        for (state, metric) in self.states {
            record(metric, u64::from(state == traffic.state));
        }
        record(self.factor, u64::from(traffic.factor.percent()));
        let multipliers = rules.timetable().zone_multipliers(now, rules.zone());
        for (gauge, (_, multiplier)) in self.multipliers.iter().zip(multipliers) {
            self.gauges.record(gauge, u64::from(multiplier.percent()));
        }
    }
}
