//! What a change does at once beside what it says: the calendar moves what depends on it.

use std::collections::BTreeMap;

use policy::{
    canary::{CanarySplit, Schedule, Weight},
    time::WallTime,
    timetable::{Timetable, TrafficState},
    units::{BasisPoints, ServiceName},
};

use crate::{mesh::Mesh, resource::NodeKey};

/// Consequences that nobody wrote down.
pub(super) fn effects(before: &Mesh, after: &Mesh, now: WallTime) -> Vec<String> {
    let mut found = Vec::new();
    if before.timetable != after.timetable {
        found.extend(state(before, after, now));
    }
    for (name, service) in &after.services {
        let was = before.services.get(name);
        if let Some(was) = was.and_then(|was| was.canary.as_ref())
            && let Some(is) = &service.canary
        {
            let [was, is] = [(before, was), (after, is)].map(|(mesh, canary)| Standing {
                canary,
                timetable: &mesh.timetable,
            });
            found.extend(moved(&was, &is, now).map(|moved| format!("{name}: {moved}")));
        }
    }
    found
}

fn state(before: &Mesh, after: &Mesh, now: WallTime) -> Option<String> {
    let [was, is] = [before, after].map(|mesh| described(&mesh.timetable, now));
    (was != is).then(|| format!("from the moment it applies it is {is} instead of {was}"))
}

fn described(timetable: &Timetable, now: WallTime) -> String {
    let traffic = timetable.at(now, None);
    let window = traffic.window.and_then(|at| timetable.windows().get(at));
    let festival = traffic
        .festival
        .and_then(|at| timetable.festivals().get(at));
    let names = [
        festival.map(|festival| festival.name.to_string()),
        window.map(|window| window.name().to_string()),
    ];
    let names: Vec<String> = names.into_iter().flatten().collect();
    match traffic.state {
        TrafficState::Normal => "a normal hour".into(),
        TrafficState::PeakHour => format!("a peak hour ({})", names.join(", ")),
        TrafficState::Festival => format!("a festival ({})", names.join(", ")),
    }
}

/// A canary under its calendar.
struct Standing<'m> {
    canary: &'m CanarySplit,
    timetable: &'m Timetable,
}

impl Standing<'_> {
    fn schedule(&self) -> Option<Schedule> {
        let ramp = self.canary.weight.ramp()?;
        Some(ramp.schedule(&self.canary.freeze_during, self.timetable))
    }

    fn weight(&self, now: WallTime) -> BasisPoints {
        match (&self.canary.weight, self.schedule()) {
            (_, Some(schedule)) => schedule.at(now),
            (Weight::Fixed(weight), None) => *weight,
            (Weight::Ramp(ramp), None) => ramp.highest(),
        }
    }

    fn next(&self, now: WallTime) -> Option<String> {
        let step = self.schedule()?.next_after(now)?;
        let at = self.timetable.zone().rfc3339(step.from);
        Some(format!("{} at {at}", step.weight))
    }
}

/// How a ramp's weight now, or its next step, is moved.
fn moved(was: &Standing<'_>, is: &Standing<'_>, now: WallTime) -> Option<String> {
    let version = &is.canary.version;
    if was.canary.version != *version {
        return None;
    }
    let (ramp_was, ramp_is) = (was.canary.weight.ramp(), is.canary.weight.ramp());
    ramp_was.or(ramp_is)?;
    let by = match ramp_was == ramp_is && was.canary.freeze_during == is.canary.freeze_during {
        true => "this edit of the calendar",
        false => "this edit of its ramp",
    };
    let (weight_was, weight_is) = (was.weight(now), is.weight(now));
    if weight_was != weight_is {
        return Some(format!(
            "{by} moves the weight of canary {version} now, {weight_was} -> {weight_is}"
        ));
    }
    let (next_was, next_is) = (was.next(now), is.next(now));
    (next_was != next_is).then(|| {
        let told = |next: Option<String>| next.unwrap_or_else(|| "none".into());
        format!(
            "{by} moves the next step of canary {version}, {} -> {}",
            told(next_was),
            told(next_is)
        )
    })
}

/// Connected proxies that would be sent nothing any more.
pub(super) fn left_alone(before: &Mesh, after: &Mesh, nodes: &[NodeKey]) -> Vec<String> {
    let mut left: BTreeMap<ServiceName, usize> = BTreeMap::new();
    for node in nodes {
        let Ok(name) = ServiceName::new(&node.cluster) else {
            continue;
        };
        let knows =
            |mesh: &Mesh| mesh.services.contains_key(&name) || mesh.gateways.contains_key(&name);
        if knows(before) && !knows(after) {
            *left.entry(name).or_default() += 1;
        }
    }
    let sentence = |(name, count): (ServiceName, usize)| {
        let are = match count {
            1 => "1 connected proxy of it is".to_string(),
            many => format!("{many} connected proxies of it are"),
        };
        format!("{name} goes: {are} sent nothing any more")
    };
    left.into_iter().map(sentence).collect()
}
