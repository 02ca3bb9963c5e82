//! What holds at one instant: in the mesh, in each of its zones, for a service.

use policy::{
    decision::{Rules, ServiceId, override_of, traffic_of},
    overrides::OverrideKind,
    time::WallTime,
    timetable::{Timetable, Traffic, Window},
    units::{ServiceName, ZoneName},
    wire::ServiceSource,
};
use serde::Serialize;

use crate::mesh::{ClientOptions, Mesh, Service};

/// What holds at an instant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrafficNow {
    /// The instant, with the mesh's offset.
    pub at: String,
    /// IANA name of the mesh's zone.
    pub timezone: String,
    /// Of whom that is told: nodes of this zone, else those without one, who see all windows.
    pub zone: Option<String>,
    #[serde(flatten)]
    holds: Holds,
    /// The same by zone: of each that a window names. Who stands elsewhere sees the windows without a zone:
    /// ask with `?zone=`.
    pub zones: Vec<InZone>,
    /// Services of which somebody says otherwise, or the one that was asked about.
    pub services: Vec<OfService>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Holds {
    /// `normal`, `peak_hour` or `festival`.
    traffic_state: &'static str,
    /// The window that holds.
    window: Option<String>,
    /// The festival that holds.
    festival: Option<String>,
    /// The window's.
    multiplier: f64,
    /// The festival's.
    festival_factor: f64,
    /// The next instant at which one of these changes; none where nothing changes any more.
    until: Option<String>,
}

/// What holds in a zone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InZone {
    zone: String,
    #[serde(flatten)]
    holds: Holds,
}

/// What holds for a service.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OfService {
    service: String,
    #[serde(flatten)]
    holds: Holds,
    /// What somebody says of it, and until when.
    #[serde(rename = "override")]
    overridden: Option<SaidOfService>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct SaidOfService {
    kind: &'static str,
    until: String,
}

/// What holds at `at` for nodes of `zone`; none where the mesh has no such service.
pub fn traffic_state(
    mesh: &Mesh,
    at: WallTime,
    zone: Option<&ZoneName>,
    service: Option<&ServiceName>,
) -> Option<TrafficNow> {
    let timetable = &mesh.timetable;
    let holds_in = |zone: Option<&ZoneName>| {
        let until = timetable.next_change(at, zone);
        holds(timetable, &timetable.at(at, zone), until)
    };
    let named = match service {
        Some(name) => vec![mesh.services.get_key_value(name)?],
        None => {
            let says = |service: &Service| service.overridden.is_some_and(|said| said.acts(at));
            mesh.services.iter().filter(|(_, one)| says(one)).collect()
        }
    };
    let mut zones: Vec<&ZoneName> = timetable
        .windows()
        .iter()
        .filter_map(Window::zone)
        .collect();
    zones.sort_unstable();
    zones.dedup();
    let in_zone = |zone: &ZoneName| InZone {
        zone: zone.to_string(),
        holds: holds_in(Some(zone)),
    };
    Some(TrafficNow {
        at: timetable.zone().rfc3339(at),
        timezone: timetable.zone().name().to_string(),
        zone: zone.map(ToString::to_string),
        holds: holds_in(zone),
        zones: zones.into_iter().map(in_zone).collect(),
        services: named
            .into_iter()
            .map(|(name, service)| of_service(mesh, at, zone, (name, service)))
            .collect(),
    })
}

fn of_service(
    mesh: &Mesh,
    at: WallTime,
    zone: Option<&ZoneName>,
    (name, service): (&ServiceName, &Service),
) -> OfService {
    let timetable = &mesh.timetable;
    let alone = std::iter::once((name, service));
    let (clients, source) = (ClientOptions::default(), ServiceSource::default());
    let rules = Rules::new(mesh.filter_config_for(alone, clients, source));
    let traffic = rules.traffic_in(at, zone);
    let id = ServiceId::Known(0);
    let said = service
        .overridden
        .filter(|_| override_of(&traffic, id).is_some());
    let change = timetable.next_change(at, zone);
    let until = match said {
        None => change,
        // The calendar says nothing while it holds.
        Some(said) if said.kind == OverrideKind::Normal => Some(said.until),
        Some(said) => Some(change.map_or(said.until, |change| change.min(said.until))),
    };
    OfService {
        service: name.to_string(),
        holds: holds(timetable, traffic_of(&traffic, id), until),
        overridden: said.map(|said| SaidOfService {
            kind: said.kind.as_str(),
            until: timetable.zone().rfc3339(said.until),
        }),
    }
}

fn holds(timetable: &Timetable, traffic: &Traffic, until: Option<WallTime>) -> Holds {
    let window = traffic.window.and_then(|at| timetable.windows().get(at));
    let festival = traffic
        .festival
        .and_then(|at| timetable.festivals().get(at));
    Holds {
        traffic_state: traffic.state.as_str(),
        window: window.map(|window| window.name().to_string()),
        festival: festival.map(|festival| festival.name.to_string()),
        multiplier: traffic.multiplier.as_f64(),
        festival_factor: traffic.factor.as_f64(),
        until: until.map(|until| timetable.zone().rfc3339(until)),
    }
}
