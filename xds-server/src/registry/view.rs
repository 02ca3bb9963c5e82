//! Instances as people and programs look at them: those of the mesh file and those that registered.

use std::collections::BTreeMap;

use policy::{
    time::{CivilZone, Now, WallTime, format_duration},
    units::ServiceName,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Phase, State,
    merge::{LeftOut, left_out},
    state::{Held, Instances},
};
use crate::{
    mesh::{Endpoint, Mesh},
    page::{Listed, Page, Paged},
};

/// Which instances are shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "InstancesQuery")]
pub struct Wanted {
    /// Of this service only.
    pub service: Option<String>,
    /// Of this state only: `up`, `draining`, `expired`, `vanished`.
    pub state: Option<Phase>,
    /// Those after this one: the `next` of an earlier page.
    pub after: Option<String>,
    /// At most so many.
    pub limit: Option<usize>,
}

impl Paged for Wanted {
    fn limit(&self) -> Option<usize> {
        self.limit
    }
}

/// An instance as it is shown.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Instance")]
pub struct Shown {
    #[serde(skip)]
    tag: Option<String>,
    service: String,
    id: String,
    host: String,
    port: u16,
    app_port: Option<u16>,
    weight: u32,
    region: Option<String>,
    zone: Option<String>,
    version: Option<String>,
    /// `file` or `registered`.
    source: &'static str,
    /// `up`, `draining`, `expired` or `vanished`.
    state: &'static str,
    /// Since when that holds.
    since: Option<String>,
    /// Without a heartbeat for so long, it is taken for gone.
    ttl: Option<String>,
    /// The last heartbeat that came to this server.
    last_heartbeat: Option<String>,
    /// The server that watches its lease, where several share a store.
    keeper: Option<String>,
    /// Why callers do not know it, where they should.
    problem: Option<&'static str>,
}

impl Shown {
    /// Tells how it stands; none of the file's own.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }
}

impl Listed for Shown {
    type Key = String;
    const NAME: &'static str = "instances";

    fn key(&self) -> String {
        format!("{}/{}", self.service, self.id)
    }
}

/// Each instance's name on a page.
type Name<'n> = (&'n str, &'n str);

/// How many instances of each service stand how.
pub type Counts = BTreeMap<(ServiceName, Phase), i64>;

pub(super) fn counts(state: &State) -> Counts {
    let mut counts = Counts::new();
    for (service, instances) in state.services() {
        for held in instances.values() {
            let phase = held.instance.phase;
            *counts.entry((service.clone(), phase)).or_default() += 1;
        }
    }
    counts
}

pub(super) fn page(mesh: &Mesh, state: &State, wanted: &Wanted, now: Now) -> Page<Shown> {
    let zone = mesh.timetable.zone();
    let after = wanted
        .after
        .as_deref()
        .map(|after| after.split_once('/').unwrap_or((after, "")));
    let mut all: BTreeMap<Name<'_>, Source<'_>> = BTreeMap::new();
    let is_wanted = |name: &ServiceName| {
        let wanted = wanted.service.as_deref();
        wanted.is_none_or(|wanted| wanted == name.as_str())
    };
    for (name, instances) in state.services().iter().filter(|(name, _)| is_wanted(name)) {
        let registered = instances.iter().map(|(id, held)| {
            (
                (name.as_str(), id.as_str()),
                Source::Registered(instances, held),
            )
        });
        all.extend(registered);
    }
    for (name, service) in mesh.services.iter().filter(|(name, _)| is_wanted(name)) {
        let said = service.endpoints.iter();
        all.extend(said.map(|one| ((name.as_str(), one.id.as_str()), Source::File(one))));
    }
    let matching = all
        .into_iter()
        .filter(|(name, _)| after.is_none_or(|after| *name > after))
        .filter(|(_, source)| wanted.state.is_none_or(|wanted| source.phase() == wanted));
    Page::of(matching, wanted.size(), |((service, _), source)| {
        shown(mesh, service, source, zone, now)
    })
}

pub(super) fn one(mesh: &Mesh, state: &State, service: &str, id: &str, now: Now) -> Option<Shown> {
    let name = ServiceName::new(service).ok()?;
    let said = mesh.services.get(&name).and_then(|service| {
        let mut said = service.endpoints.iter();
        said.find(|one| one.id == id)
    });
    let instances = state.instances(&name);
    let source = match said {
        Some(said) => Source::File(said),
        None => Source::Registered(instances, instances.get(id)?),
    };
    Some(shown(mesh, service, source, mesh.timetable.zone(), now))
}

/// Where it comes from.
#[derive(Clone, Copy)]
enum Source<'s> {
    File(&'s Endpoint),
    Registered(&'s Instances, &'s Held),
}

impl Source<'_> {
    fn phase(self) -> Phase {
        match self {
            Self::File(_) => Phase::Up,
            Self::Registered(_, held) => held.instance.phase,
        }
    }
}

fn shown(mesh: &Mesh, service: &str, source: Source<'_>, zone: &CivilZone, now: Now) -> Shown {
    let endpoint = match source {
        Source::File(endpoint) => endpoint,
        Source::Registered(_, held) => &held.instance.endpoint,
    };
    let mut shown = Shown {
        tag: None,
        service: service.into(),
        id: endpoint.id.clone(),
        host: endpoint.host.to_string(),
        port: endpoint.port,
        app_port: endpoint.app_port,
        weight: endpoint.weight,
        region: endpoint.region.clone(),
        zone: endpoint.zone.as_ref().map(ToString::to_string),
        version: endpoint.version.as_ref().map(ToString::to_string),
        source: "file",
        state: source.phase().name(),
        since: None,
        ttl: None,
        last_heartbeat: None,
        keeper: None,
        problem: None,
    };
    if let Source::Registered(instances, held) = source {
        let instance = &held.instance;
        shown.tag = Some(instance.tag());
        shown.source = "registered";
        shown.since = Some(zone.rfc3339(instance.since));
        shown.ttl = Some(format_duration(instance.ttl));
        shown.last_heartbeat = held.lease.heard.map(|heard| at(heard, now, zone));
        shown.keeper = Some(instance.keeper.to_string()).filter(|keeper| !keeper.is_empty());
        let service = ServiceName::new(service).ok();
        let service = service.and_then(|name| mesh.services.get(&name));
        let out = match service {
            Some(service) => left_out(service, instances, endpoint),
            None => Some(LeftOut::Service),
        };
        shown.problem = out.map(LeftOut::sentence);
    }
    shown
}

/// By the clock as it stands now, however it was set since.
fn at(heard: Now, now: Now, zone: &CivilZone) -> String {
    let ago = now.mono.saturating_since(heard.mono);
    let millis = i64::try_from(ago.as_millis()).unwrap_or_default();
    let at = now.wall.unix_millis().saturating_sub(millis);
    zone.rfc3339(WallTime::from_unix_millis(at))
}
