//! One configuration in force: its rules, and what this VM keeps while it holds.

use std::cell::RefCell;

use policy::{
    breaker::Transition,
    decision::{CanaryRules, CellRules, Rules, ServiceId},
    names,
    time::{Now, WallTime},
    timetable::Traffic,
    units::{VersionLabel, ZoneName},
    wire::{FilterConfig, ServiceSource},
};

use crate::{
    clock::Clock,
    headers::RequestHeaders,
    host::{self, Level},
    meters::Meters,
    pace::Pace,
    shared::{Cells, Ruled},
};

const ROUTE_SERVICE: &str = "xds\0route_metadata\0filter_metadata\0mumbai_mesh\0service";
const CLUSTER: &str = "xds\0cluster_name";
const NODE_ZONE: &str = "xds\0node\0locality\0zone";

/// Rules and the state of this VM that belongs to them. State of all workers is in [`Cells`].
pub struct Plugin {
    pub rules: Rules,
    pub meters: Meters,
    pub cells: Cells,
    pub pace: Pace,
    clock: Clock,
    /// Kept until it ends: most requests find the answer here.
    traffic: RefCell<Traffic>,
}

impl Plugin {
    /// Puts a configuration in force. Its zone, when it names none, is the node's.
    pub fn new(mut config: FilterConfig) -> Self {
        let clock = Clock::new();
        let Now { wall: now, .. } = clock.now();
        if config.zone.is_none() {
            config.zone = host::property(NODE_ZONE)
                .and_then(|zone| String::from_utf8(zone.to_vec()).ok())
                .and_then(|zone| ZoneName::new(&zone).ok());
        }
        let rules = Rules::new(config);
        let traffic = rules.traffic_at(now);
        let meters = Meters::new(&rules);
        let cells = Cells::new(&rules, &traffic);
        meters.traffic(&rules, &traffic, now);
        let plugin = Self {
            rules,
            meters,
            cells,
            pace: Pace::default(),
            clock,
            traffic: RefCell::new(traffic),
        };
        plugin.with_known_traffic(|traffic| {
            for (index, service) in (0..).zip(plugin.rules.services()) {
                let id = ServiceId::Known(index);
                // A class may be new.
                if let Some(canary) = &service.canary
                    && (plugin.cells).any_latched(&plugin.rules, traffic, canary.cells())
                {
                    plugin.latch(id, canary, traffic);
                }
                plugin.show_breakers(id, traffic);
            }
        });
        plugin
    }

    /// The time now.
    fn now(&self) -> Now {
        self.clock.now()
    }

    /// A request arrives: the time. While the VM rested, the wall clock may have been moved.
    pub fn arrival(&self) -> Now {
        match self.pace.stir() {
            true => self.clock.look(),
            false => self.clock.now(),
        }
    }

    /// What waited for others to know of it is told: successes to the breakers, counts to Envoy.
    /// And both clocks are looked at.
    pub fn tick(&self) {
        self.pace.tick();
        let now = self.clock.look();
        self.with_traffic(now.wall, |traffic| {
            self.cells.flush(&self.rules, traffic, now.mono);
        });
        self.meters.flush();
    }

    /// Calls `use_it` with the traffic at `now`, evaluated anew only when the last answer ended.
    pub fn with_traffic<T>(&self, now: WallTime, use_it: impl FnOnce(&Traffic) -> T) -> T {
        let mut traffic = self.traffic.borrow_mut();
        if !traffic.holds_at(now) {
            self.evaluate(&mut traffic, now);
        }
        use_it(&traffic)
    }

    #[cold]
    fn evaluate(&self, traffic: &mut Traffic, now: WallTime) {
        *traffic = self.rules.traffic_at(now);
        self.meters.traffic(&self.rules, traffic, now);
    }

    /// Calls `use_it` with the traffic as the last request or tick found it, at most a tick ago.
    pub fn with_known_traffic<T>(&self, use_it: impl FnOnce(&Traffic) -> T) -> T {
        use_it(&self.traffic.borrow())
    }

    /// A breaker took a transition. Where it latched, its canary's other ones do.
    #[cold]
    pub fn breaker_changed(
        &self,
        service: ServiceId,
        cell: &CellRules,
        transition: Transition,
        traffic: &Traffic,
    ) {
        self.tell(service, cell, transition);
        let latch = cell.at(traffic).latch;
        let opened = matches!(transition, Transition::Opened | Transition::Reopened);
        if opened
            && latch.is_some_and(|latch| latch.engages)
            && let Some(canary) = (self.rules.service(service)).and_then(|one| one.canary.as_ref())
        {
            self.latch(service, canary, traffic);
        }
        self.show_breakers(service, traffic);
    }

    /// The canary's users go to stable, whatever their class.
    fn latch(&self, service: ServiceId, canary: &CanaryRules, traffic: &Traffic) {
        let now = self.now().mono;
        for id in canary.cells() {
            if let Some(cell) = self.rules.cell(id)
                && let Some(transition) = self.cells.latch(id, Ruled::at(cell, traffic), now)
            {
                self.tell(service, cell, transition);
            }
        }
    }

    /// Tells of a breaker's transition, in the log and by a counter.
    fn tell(&self, service: ServiceId, cell: &CellRules, transition: Transition) {
        let what = match transition {
            Transition::Opened => "opened",
            Transition::HalfOpened => "is half-open",
            Transition::Closed => "closed",
            Transition::Reopened => "opened again",
        };
        let (service_name, class) = (&cell.service, &cell.class);
        let version = cell
            .version
            .as_ref()
            .map_or(names::STABLE, VersionLabel::as_str);
        host::log(
            Level::Info,
            &format!("circuit breaker of {service_name} {version} class {class} {what}"),
        );
        self.meters.transition(service, transition);
    }

    fn show_breakers(&self, id: ServiceId, traffic: &Traffic) {
        let Some(service) = self.rules.service(id) else {
            return;
        };
        let stable = self
            .cells
            .worst(&self.rules, traffic, service.stable_cells());
        self.meters.breaker(id, stable);
        if let Some(canary) = &service.canary {
            let worst = self.cells.worst(&self.rules, traffic, canary.cells());
            self.meters.canary_breaker(id, worst);
        }
    }

    /// The service that the current request is for.
    pub fn service(&self, headers: &RequestHeaders) -> ServiceId {
        let source = self.rules.service_from();
        if source == ServiceSource::Route
            && let Some(service) = host::property(ROUTE_SERVICE)
        {
            return self.rules.resolve_service(Some(&service), None, None);
        }
        if source != ServiceSource::Authority {
            let cluster = host::property(CLUSTER);
            let known = self.rules.resolve_service(None, cluster.as_deref(), None);
            if known != ServiceId::Other {
                return known;
            }
        }
        let authority = headers.authority();
        self.rules.resolve_service(None, None, authority.as_deref())
    }
}
