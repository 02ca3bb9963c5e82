//! Metrics, each defined once per VM.

use std::{cell::RefCell, collections::BTreeMap};

use policy::{
    breaker::{BreakerState, Transition},
    decision::{CanaryDecision, Decision, Rules, ServiceId, Verdict},
    names,
    time::WallTime,
    timetable::{Traffic, TrafficState, zone_label},
    units::ZoneName,
};

use crate::host::{self, Metric};

/// Ids of this VM's metrics. A metric that the host refuses is left out; requests go on.
pub struct Meters {
    /// By index of the configuration; the last one is for requests of no configured service.
    services: Vec<ServiceMeters>,
    states: [(TrafficState, Option<u32>); 3],
    /// In the order of the timetable's zones.
    multipliers: Vec<Option<u32>>,
    factor: Option<u32>,
}

struct ServiceMeters {
    label: String,
    active: Option<u32>,
    time: Option<u32>,
    breaker: Option<u32>,
    canary_breaker: Option<u32>,
    /// By status: at most as many as there are status codes.
    requests: RefCell<BTreeMap<u16, Option<u32>>>,
    /// Counters with one more label, whose values come from the configuration: defined when they
    /// first count.
    /// Sorted by value, then metric: the values differ sooner.
    others: RefCell<Vec<Labelled>>,
}

/// A label's value, the metric's name, its id.
type Labelled = (Box<str>, &'static str, Option<u32>);

impl ServiceMeters {
    fn new(label: &str, has_breaker: bool, canary: Option<&str>) -> Self {
        let define = |kind, name| {
            let labels = [(names::LABEL_SERVICE, label)];
            host::define(kind, &names::metric_name(&labels, name))
        };
        Self {
            active: define(Metric::Gauge, names::METRIC_ACTIVE_CONNECTIONS),
            time: define(Metric::Histogram, names::METRIC_RESPONSE_TIME_MILLISECONDS),
            breaker: has_breaker
                .then(|| define(Metric::Gauge, names::METRIC_CIRCUIT_BREAKER_STATE))
                .flatten(),
            canary_breaker: canary.and_then(|version| {
                let labels = [
                    (names::LABEL_SERVICE, label),
                    (names::LABEL_VERSION, version),
                ];
                let name = names::metric_name(&labels, names::METRIC_CANARY_BREAKER_STATE);
                host::define(Metric::Gauge, &name)
            }),
            requests: RefCell::default(),
            others: RefCell::default(),
            label: label.to_owned(),
        }
    }

    /// Adds one to a counter of this service with one more label.
    fn count(&self, metric: &'static str, label: &str, value: &str) {
        let mut others = self.others.borrow_mut();
        let place =
            others.binary_search_by(|(known, name, _)| (&**known, *name).cmp(&(value, metric)));
        let id = match place {
            Ok(place) => others.get(place).and_then(|(_, _, id)| *id),
            Err(place) => {
                let labels = [(names::LABEL_SERVICE, self.label.as_str()), (label, value)];
                let id = host::define(Metric::Counter, &names::metric_name(&labels, metric));
                others.insert(place, (value.into(), metric, id));
                id
            }
        };
        add(id, 1);
    }

    fn requests(&self, status: u16) -> Option<u32> {
        *self.requests.borrow_mut().entry(status).or_insert_with(|| {
            let status = status.to_string();
            let labels = [
                (names::LABEL_SERVICE, self.label.as_str()),
                (names::LABEL_STATUS, status.as_str()),
            ];
            let name = names::metric_name(&labels, names::METRIC_REQUESTS_TOTAL);
            host::define(Metric::Counter, &name)
        })
    }
}

fn add(metric: Option<u32>, offset: i64) {
    if let Some(metric) = metric {
        host::add(metric, offset);
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
        let known = rules.services().iter();
        let mut services: Vec<_> = known
            .map(|service| {
                let canary = service.canary.as_ref();
                let version = canary.map(|canary| canary.split.version.as_str());
                ServiceMeters::new(service.name.as_str(), true, version)
            })
            .collect();
        services.push(ServiceMeters::new(names::OTHER_SERVICE, false, None));
        let state = |state: TrafficState| {
            let labels = [(names::LABEL_STATE, state.as_str())];
            let name = names::metric_name(&labels, names::METRIC_TRAFFIC_STATE);
            (state, host::define(Metric::Gauge, &name))
        };
        // Which zones there are does not depend on the time.
        let epoch = WallTime::from_unix_seconds(0);
        let zones = rules.timetable().zone_multipliers(epoch);
        let multipliers = zones.into_iter().map(|(zone, _)| {
            let labels = [(names::LABEL_ZONE, label(rules, zone))];
            let name = names::metric_name(&labels, names::METRIC_PEAK_HOUR_MULTIPLIER_PERCENT);
            host::define(Metric::Gauge, &name)
        });
        Self {
            services,
            states: [
                state(TrafficState::Normal),
                state(TrafficState::PeakHour),
                state(TrafficState::Festival),
            ],
            multipliers: multipliers.collect(),
            factor: host::define(Metric::Gauge, names::METRIC_FESTIVAL_TRAFFIC_FACTOR_PERCENT),
        }
    }

    fn service(&self, service: ServiceId) -> Option<&ServiceMeters> {
        match service {
            ServiceId::Known(index) => self.services.get(usize::from(index)),
            ServiceId::Other => self.services.last(),
        }
    }

    /// A request reached us.
    pub fn begin(&self, service: ServiceId) {
        add(self.service(service).and_then(|meters| meters.active), 1);
    }

    /// It ended. Unit of `milliseconds` as in the metric's name.
    pub fn end(&self, service: ServiceId, status: u16, milliseconds: u64) {
        if let Some(meters) = self.service(service) {
            add(meters.active, -1);
            add(meters.requests(status), 1);
            record(meters.time, milliseconds);
        }
    }

    /// Counts what a decision says beyond its status: refusals and near refusals by reason, canary
    /// versions, classes.
    pub fn decided(&self, decision: &Decision<'_>) {
        let Some(meters) = self.service(decision.service) else {
            return;
        };
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
        if let Some(meters) = self.service(service) {
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
        let gauge = self
            .service(service)
            .and_then(|meters| meters.canary_breaker);
        record(gauge, u64::from(worst as u8));
    }

    /// A breaker of this service's stable version changed its state.
    pub fn breaker(&self, service: ServiceId, worst: BreakerState) {
        let breaker = self.service(service).and_then(|meters| meters.breaker);
        record(breaker, u64::from(worst as u8));
    }

    /// The traffic changed.
    pub fn traffic(&self, rules: &Rules, traffic: &Traffic, now: WallTime) {
        for (state, metric) in self.states {
            record(metric, u64::from(state == traffic.state));
        }
        record(self.factor, u64::from(traffic.factor.percent()));
        let multipliers = rules.timetable().zone_multipliers(now);
        for (metric, (_, multiplier)) in self.multipliers.iter().zip(multipliers) {
            record(*metric, u64::from(multiplier.percent()));
        }
    }
}
