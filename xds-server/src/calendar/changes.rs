//! What changes from an instant on, in the order in which it comes.

use std::{ops::Range, time::Duration};

use policy::{
    canary::{Ramp, Step},
    time::WallTime,
    timetable::{Festival, Freeze, Timetable, Window},
    units::{DisplayName, ServiceName},
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::mesh::Mesh;

/// What lies further ahead is not told: four years, as long as ramps are followed.
const AHEAD: Duration = Duration::from_secs(1461 * 24 * 60 * 60);

/// A calendar from one instant on.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "CalendarOutlook")]
pub struct Outlook {
    /// From when on, with the mesh's offset.
    pub at: String,
    /// IANA name of the mesh's zone.
    pub timezone: String,
    /// What holds at that instant.
    pub now: Standing,
    /// What changes after it, the next one first.
    pub changes: Vec<Change>,
    /// Whether more changes follow these within four years.
    pub more: bool,
}

/// What holds at an instant, in every zone of the mesh.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "CalendarNow")]
pub struct Standing {
    /// `normal`, `peak_hour` or `festival`.
    pub traffic_state: &'static str,
    /// Names of all windows that hold.
    pub windows: Vec<String>,
    /// Names of all festivals that hold.
    pub festivals: Vec<String>,
}

/// One thing that changes.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "CalendarChange")]
pub struct Change {
    /// When, with the mesh's offset.
    pub at: String,
    /// How long from the instant that was asked about.
    #[serde(rename = "in")]
    pub in_: String,
    /// What kind of change.
    pub kind: Kind,
    /// The window's or the festival's name; none of a canary.
    pub name: Option<String>,
    /// The zone that a window is for; none is all.
    pub zone: Option<String>,
    /// The canary's service.
    pub service: Option<String>,
    /// The canary's version.
    pub version: Option<String>,
    /// The canary's share from then on, in percent.
    pub weight: Option<f64>,
    /// The state from then on, as an Envoy without a zone sees it.
    pub traffic_state: &'static str,
    /// All of it in words.
    pub sentence: String,
}

/// Kinds of changes. At one instant they come in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "CalendarChangeKind")]
pub enum Kind {
    /// A window ends.
    WindowEnds,
    /// A festival ends.
    FestivalEnds,
    /// A window begins.
    WindowBegins,
    /// A festival begins.
    FestivalBegins,
    /// A ramp goes on.
    FreezeEnds,
    /// A ramp's weight grows.
    RampStep,
    /// A ramp stands still.
    FreezeBegins,
}

/// A change that is not told yet.
struct Event<'m> {
    at: WallTime,
    kind: Kind,
    of: Of<'m>,
}

/// Whose change it is.
enum Of<'m> {
    /// Until when it holds, where that is known.
    Window(&'m Window, Option<WallTime>),
    Festival(&'m Festival, Option<WallTime>),
    Canary(Canary<'m>),
}

struct Canary<'m> {
    service: &'m ServiceName,
    version: &'m str,
    /// The share from then on.
    weight: f64,
    detail: String,
}

/// The next `count` changes after `at`.
pub fn outlook(mesh: &Mesh, at: WallTime, count: usize) -> Outlook {
    let until = at.saturating_add(AHEAD);
    let mut events = Vec::new();
    // Of each only as many as could be told; and one more, to know whether there are more.
    let enough = count.saturating_add(1);
    let timetable = &mesh.timetable;
    for window in timetable.windows() {
        let held = timetable.window_holds(window, at, until);
        let of = |end| Of::Window(window, end);
        let kinds = (Kind::WindowBegins, Kind::WindowEnds);
        events.extend(edges(held, kinds, of, at..until).take(enough));
    }
    for festival in timetable.festivals() {
        let held = timetable.festival_holds(festival, at, until);
        let of = |end| Of::Festival(festival, end);
        let kinds = (Kind::FestivalBegins, Kind::FestivalEnds);
        events.extend(edges(held, kinds, of, at..until).take(enough));
    }
    events.extend(ramps(mesh, at, until, enough));
    events.sort_by_key(|event| (event.at, event.kind));
    let more = events.len() > count;
    events.truncate(count);
    Outlook {
        at: timetable.zone().rfc3339(at),
        timezone: timetable.zone().name().to_string(),
        now: standing(timetable, at),
        changes: events
            .iter()
            .map(|event| event.told(timetable, at))
            .collect(),
        more,
    }
}

/// Beginnings and ends after the first instant of `within`.
fn edges<'m>(
    stretches: impl Iterator<Item = Range<WallTime>>,
    (begins, ends): (Kind, Kind),
    of: impl Fn(Option<WallTime>) -> Of<'m>,
    within: Range<WallTime>,
) -> impl Iterator<Item = Event<'m>> {
    stretches.flat_map(move |stretch| {
        // What holds still at the end of what is looked at has no end that is known.
        let end = (stretch.end < within.end).then_some(stretch.end);
        let begin = (within.start < stretch.start).then_some(stretch.start);
        let event = |at, kind, end| Event {
            at,
            kind,
            of: of(end),
        };
        let begin = begin.map(|at| event(at, begins, end));
        let end = end.map(|at| event(at, ends, None));
        [begin, end].into_iter().flatten().collect::<Vec<_>>()
    })
}

fn ramps(mesh: &Mesh, at: WallTime, until: WallTime, enough: usize) -> Vec<Event<'_>> {
    let mut events = Vec::new();
    for (service, canary) in canaries(mesh) {
        let Some(ramp) = canary.weight.ramp() else {
            continue;
        };
        let look = Look {
            timetable: &mesh.timetable,
            service,
            version: canary.version.as_str(),
            ramp,
            freeze: &canary.freeze_during,
        };
        events.extend(look.events(at, until, enough));
    }
    events
}

fn canaries(mesh: &Mesh) -> impl Iterator<Item = (&ServiceName, &policy::canary::CanarySplit)> {
    let services = mesh.services.iter();
    services.filter_map(|(name, service)| Some((name, service.canary.as_ref()?)))
}

/// One ramp that is looked at.
struct Look<'m> {
    timetable: &'m Timetable,
    service: &'m ServiceName,
    version: &'m str,
    ramp: &'m Ramp,
    freeze: &'m Freeze,
}

impl<'m> Look<'m> {
    fn events(&self, at: WallTime, until: WallTime, enough: usize) -> Vec<Event<'m>> {
        let schedule = self.ramp.schedule(self.freeze, self.timetable);
        let steps = schedule.steps();
        let of = |at: WallTime, kind, detail| Event {
            at,
            kind,
            of: Of::Canary(Canary {
                service: self.service,
                version: self.version,
                weight: schedule.at(at).percent(),
                detail,
            }),
        };
        let all = self.ramp.steps().len();
        let ahead = (1..)
            .zip(steps)
            .filter(|(_, step)| step.from > at && step.from < until);
        let mut events: Vec<Event<'m>> = ahead
            .take(enough)
            .map(|(number, Step { from, .. })| {
                of(*from, Kind::RampStep, format!("step {number} of {all}"))
            })
            .collect();
        // Afterwards there is nothing left to stand still.
        let last = match steps.last() {
            Some(last) if schedule.is_complete() => last.from.min(until),
            _ => until,
        };
        let frozen = self.frozen(at, last).take(enough);
        for (begin, end) in frozen {
            if let Some(begin) = begin {
                let names = self.timetable.frozen_by(self.freeze, begin);
                let names: Vec<&str> = names.into_iter().map(DisplayName::as_str).collect();
                events.push(of(begin, Kind::FreezeBegins, names.join(", ")));
            }
            if let Some(end) = end {
                events.push(of(end, Kind::FreezeEnds, String::new()));
            }
        }
        events
    }

    /// From when to when it stands still, after `at` and at most until `last`.
    fn frozen(
        &self,
        at: WallTime,
        last: WallTime,
    ) -> impl Iterator<Item = (Option<WallTime>, Option<WallTime>)> {
        let from = at.max(self.ramp.start());
        // A moment more, so that an end at the very step is seen.
        let beyond = last.saturating_add(Duration::from_secs(1));
        let running = match from < last {
            true => Some(self.timetable.unfrozen(self.freeze, from, beyond)),
            false => None,
        };
        // What begins to stand still as the ramp starts, begins then.
        let mut stopped = Some(from);
        let stretches = running.into_iter().flatten();
        stretches.flat_map(move |stretch| {
            let begin = stopped.replace(stretch.end);
            let gap = begin.filter(|begin| *begin < stretch.start);
            gap.map(|begin| ((begin > at).then_some(begin), Some(stretch.start)))
        })
    }
}

fn standing(timetable: &Timetable, at: WallTime) -> Standing {
    let moment = at.saturating_add(Duration::from_millis(1));
    let windows = timetable.windows().iter();
    let festivals = timetable.festivals().iter();
    Standing {
        traffic_state: timetable.at(at, None).state.as_str(),
        windows: windows
            .filter(|window| timetable.window_holds(window, at, moment).next().is_some())
            .map(|window| window.name().to_string())
            .collect(),
        festivals: festivals
            .filter(|festival| {
                timetable
                    .festival_holds(festival, at, moment)
                    .next()
                    .is_some()
            })
            .map(|festival| festival.name.to_string())
            .collect(),
    }
}

impl Event<'_> {
    fn told(&self, timetable: &Timetable, asked: WallTime) -> Change {
        let name = match &self.of {
            Of::Window(window, _) => Some(window.name().to_string()),
            Of::Festival(festival, _) => Some(festival.name.to_string()),
            Of::Canary(_) => None,
        };
        let zone = match &self.of {
            Of::Window(window, _) => window.zone().map(ToString::to_string),
            _ => None,
        };
        let canary = match &self.of {
            Of::Canary(canary) => Some(canary),
            _ => None,
        };
        Change {
            at: timetable.zone().rfc3339(self.at),
            in_: time_left(asked.until(self.at)),
            kind: self.kind,
            name,
            zone,
            service: canary.map(|canary| canary.service.to_string()),
            version: canary.map(|canary| canary.version.to_string()),
            weight: canary.map(|canary| canary.weight),
            traffic_state: timetable.at(self.at, None).state.as_str(),
            sentence: self.sentence(timetable),
        }
    }

    fn sentence(&self, timetable: &Timetable) -> String {
        let until = |end: &Option<WallTime>| match end {
            Some(end) => format!(", until {}", timetable.zone().rfc3339(*end)),
            None => String::new(),
        };
        match (&self.of, self.kind) {
            (Of::Window(window, end), kind) => {
                let verb = if kind == Kind::WindowBegins {
                    "begins"
                } else {
                    "ends"
                };
                let zone = window.zone().map(|zone| format!(" for zone {zone}"));
                let zone = zone.unwrap_or_default();
                format!("window {} {verb}{zone}{}", window.name(), until(end))
            }
            (Of::Festival(festival, end), kind) => {
                let verb = if kind == Kind::FestivalBegins {
                    "begins"
                } else {
                    "ends"
                };
                format!("festival {} {verb}{}", festival.name, until(end))
            }
            (Of::Canary(canary), kind) => canary.sentence(kind),
        }
    }
}

impl Canary<'_> {
    fn sentence(&self, kind: Kind) -> String {
        let Self {
            service,
            version,
            weight,
            detail,
        } = self;
        match kind {
            Kind::RampStep => format!("canary {version} of {service} takes {weight} % ({detail})"),
            Kind::FreezeBegins => {
                format!("canary {version} of {service} stands still at {weight} % for {detail}")
            }
            _ => format!("canary {version} of {service} stands still no longer"),
        }
    }
}

/// `3d 4h`, `2h 5m`, `1m 30s`: two units say enough.
fn time_left(left: Duration) -> String {
    // Whoever counts down would rather be early.
    let seconds = left.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    let (first, second) = match (days, hours, minutes) {
        (1.., _, _) => (format!("{days}d"), (hours, "h")),
        (0, 1.., _) => (format!("{hours}h"), (minutes, "m")),
        (0, 0, 1..) => (format!("{minutes}m"), (rest, "s")),
        _ => return format!("{rest}s"),
    };
    match second {
        (0, _) => first,
        (number, unit) => format!("{first} {number}{unit}"),
    }
}
