//! What of a change a freeze keeps out: all but endpoints, and canaries that get fewer users.

use policy::{
    canary::{CanarySplit, Weight},
    time::WallTime,
    units::BasisPoints,
};

use super::words::{Told, words};
use crate::mesh::Mesh;

/// The changes that a freeze keeps out.
pub fn kept_out(before: &Mesh, after: &Mesh, now: WallTime) -> Vec<Told> {
    let mut told = words(before, after, now);
    told.retain(|one| !passes(one, before, after, now));
    told
}

fn passes(one: &Told, before: &Mesh, after: &Mesh, now: WallTime) -> bool {
    let names: Vec<&str> = one.names.iter().map(String::as_str).collect();
    match names.as_slice() {
        ["services", _, "endpoints", ..] => true,
        ["services", service, "canary", ..] => {
            let of = |mesh: &Mesh| {
                let mut services = mesh.services.iter();
                let found = services.find(|(name, _)| name.as_str() == *service);
                found.and_then(|(_, service)| service.canary.clone())
            };
            eases(before, of(before).as_ref(), of(after).as_ref(), now)
        }
        _ => false,
    }
}

/// Whether a canary gets no more users than it has now, by nothing else than that.
fn eases(
    mesh: &Mesh,
    before: Option<&CanarySplit>,
    after: Option<&CanarySplit>,
    now: WallTime,
) -> bool {
    let Some(before) = before else {
        return after.is_none_or(|after| after.weight.highest() == BasisPoints::ZERO);
    };
    let Some(after) = after else {
        return true;
    };
    let weight = match &before.weight {
        Weight::Fixed(weight) => *weight,
        Weight::Ramp(ramp) => ramp
            .schedule(&before.freeze_during, &mesh.timetable)
            .at(now),
    };
    let same = CanarySplit {
        weight: before.weight.clone(),
        ..after.clone()
    };
    after.weight.highest() <= weight && same == *before
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{Defaults, read};

    const MESH: &str = "\
peak_hours: {morning: {start: 7, end: 11}}
services:
  orders:
    sidecar: false
    endpoints: [{id: o-1, host: 10.0.0.1, port: 80, version: v1}, {id: o-2, host: 10.0.0.2, port: 80, version: v2}]
    canary: {version: v2, weight: 10}
";

    fn kept(change: impl Fn(&str) -> String) -> Vec<String> {
        let [before, after] =
            [MESH.to_string(), change(MESH)].map(|text| read(&text, &Defaults::default()).unwrap());
        let now = WallTime::from_unix_millis(1_795_000_000_000);
        let kept = kept_out(&before, &after, now);
        kept.into_iter().map(|told| told.path).collect()
    }

    #[test]
    fn an_override_that_has_ended_keeps_nothing_out() {
        let now = WallTime::from_unix_millis(1_795_000_000_000);
        let of = |text: &str| read(text, &Defaults::default()).unwrap();
        let after = of(&MESH.replace("weight: 10", "weight: 5"));
        let with = |until: &str| {
            let said = format!("sidecar: false\n    override: {{kind: observe, until: {until}}}");
            of(&MESH.replace("sidecar: false", &said))
        };
        assert!(kept_out(&with("2026-11-18T11:00:00Z"), &after, now).is_empty());
        let acts = kept_out(&with("2026-11-18T23:00:00Z"), &after, now);
        assert_eq!(
            acts.iter().map(|told| &*told.path).collect::<Vec<_>>(),
            ["services.orders.override"]
        );
    }

    #[test]
    fn endpoints_and_lower_weights_pass_and_nothing_else_does() {
        let with = |from: &'static str, to: &'static str| kept(|text| text.replace(from, to));
        assert!(with("10.0.0.1", "10.0.0.9").is_empty());
        assert!(with("weight: 10", "weight: 3").is_empty());
        assert!(with("    canary: {version: v2, weight: 10}\n", "").is_empty());
        assert_eq!(
            with("weight: 10", "weight: 11"),
            ["services.orders.canary.weight"]
        );
        assert_eq!(
            with("weight: 10", "weight: 9, sticky_by: {header: x-id}").len(),
            2
        );
        assert_eq!(
            with("sidecar: false", "sidecar: false\n    timeout: 3s").len(),
            1
        );
        assert_eq!(with("end: 11", "end: 8"), ["peak_hours.morning.end"]);
        let ramp = "ramp: {start: 2026-11-25T09:00+05:30, steps: [5, 20], every: 30m}";
        assert!(!kept(|text| text.replace("weight: 10", ramp)).is_empty());
    }
}
