//! One configuration in force: its rules, and what this VM keeps while it holds.

use std::cell::RefCell;

use policy::{
    breaker::Transition,
    decision::{CellRules, Rules, ServiceId},
    names,
    time::WallTime,
    timetable::Traffic,
    units::{VersionLabel, ZoneName},
    wire::FilterConfig,
};

use crate::{
    host::{self, Level},
    meters::Meters,
    shared::Cells,
};

const ROUTE_SERVICE: &str = "xds\0route_metadata\0filter_metadata\0mumbai_mesh\0service";
const CLUSTER: &str = "xds\0cluster_name";
const NODE_ZONE: &str = "xds\0node\0locality\0zone";

/// Rules and the state of this VM that belongs to them. State of all workers is in [`Cells`].
pub struct Plugin {
    pub rules: Rules,
    pub meters: Meters,
    pub cells: Cells,
    /// Kept until it ends: most requests find the answer here.
    traffic: RefCell<Traffic>,
}

impl Plugin {
    /// Puts a configuration in force. Its zone, when it names none, is the node's.
    pub fn new(mut config: FilterConfig, now: WallTime) -> Self {
        if config.zone.is_none() {
            config.zone = host::property(NODE_ZONE)
                .and_then(|zone| String::from_utf8(zone).ok())
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
            traffic: RefCell::new(traffic),
        };
        plugin.with_known_traffic(|traffic| {
            for (index, _) in (0..).zip(plugin.rules.services()) {
                plugin.show_breakers(ServiceId::Known(index), traffic);
            }
        });
        plugin
    }

    /// Calls `use_it` with the traffic at `now`, evaluated anew only when the last answer ended.
    pub fn with_traffic<T>(&self, now: WallTime, use_it: impl FnOnce(&Traffic) -> T) -> T {
        let mut traffic = self.traffic.borrow_mut();
        if !traffic.holds_at(now) {
            *traffic = self.rules.traffic_at(now);
            self.meters.traffic(&self.rules, &traffic, now);
        }
        use_it(&traffic)
    }

    /// Calls `use_it` with the traffic as the last request or tick found it, at most a tick ago.
    pub fn with_known_traffic<T>(&self, use_it: impl FnOnce(&Traffic) -> T) -> T {
        use_it(&self.traffic.borrow())
    }

    /// Tells of a breaker's transition, in the log and by the service's gauge.
    pub fn breaker_changed(
        &self,
        service: ServiceId,
        cell: &CellRules,
        transition: Transition,
        traffic: &Traffic,
    ) {
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
        self.show_breakers(service, traffic);
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

    /// The service that the current request is for: what its route says, else its cluster, else its
    /// authority.
    pub fn service(&self) -> ServiceId {
        if let Some(service) = host::property(ROUTE_SERVICE) {
            return self.rules.resolve_service(Some(&service), None, None);
        }
        let cluster = host::property(CLUSTER);
        match self.rules.resolve_service(None, cluster.as_deref(), None) {
            ServiceId::Other => {
                let authority = host::request_header(":authority");
                self.rules.resolve_service(None, None, authority.as_deref())
            }
            known @ ServiceId::Known(_) => known,
        }
    }
}
