//! Canaries as people look at them.

use policy::{
    canary::{CanarySplit, Weight},
    time::WallTime,
    units::{BasisPoints, ServiceName},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{Desired, FileContent, Operation, Refusal, canary::percent, overlay, tree};
use crate::{
    mesh::{Mesh, Service},
    page::Listed,
};

/// A service's canary.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Canary")]
pub struct CanaryStatus {
    /// Whose.
    pub service: String,
    /// Its endpoints' label.
    pub version: String,
    /// `running`, `ramping`, `waiting` (its ramp has not begun), `frozen` (its ramp stands still), `paused`, `aborted`
    /// or `stopped`.
    pub state: &'static str,
    /// Percent of the users, now.
    #[schemars(with = "f64")]
    pub weight: Value,
    /// Where its ramp stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ramp: Option<RampStatus>,
    /// The header that keeps a user on one side.
    pub sticky_by: Option<String>,
    /// Endpoints with its label.
    pub endpoints: usize,
    /// The label of the stable endpoints, where one is named.
    pub stable_version: Option<String>,
    /// Who says what it is: `file`, `api` or `rollback`.
    pub owner: &'static str,
    /// Where the files say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// What somebody does with it.
    pub operation: Option<OperationStatus>,
}

/// Where a ramp stands.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "CanaryRamp")]
pub struct RampStatus {
    /// When it begins, or began.
    pub start: String,
    /// All that it would take.
    pub steps: usize,
    /// How many it has taken.
    pub steps_taken: usize,
    /// The next one; none where there is none.
    pub next: Option<StepStatus>,
}

/// A step that a ramp will take.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "CanaryStep")]
pub struct StepStatus {
    /// When.
    pub at: String,
    /// Percent of the users from then on.
    #[schemars(with = "f64")]
    pub weight: Value,
}

impl Listed for CanaryStatus {
    type Key = String;
    const NAME: &'static str = "canaries";

    fn key(&self) -> String {
        self.service.clone()
    }
}

/// An operation.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "CanaryOperation")]
pub struct OperationStatus {
    /// `paused`, `aborted` or `resumed`.
    pub what: &'static str,
    /// A token's name.
    pub by: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub at: String,
}

impl OperationStatus {
    /// `paused by alice at 2026-11-08T18:30:00+05:30: errors`.
    pub fn sentence(&self) -> String {
        let mut text = self.what.to_string();
        if let Some(by) = &self.by {
            text += &format!(" by {by}");
        }
        text += &format!(" at {}", self.at);
        if let Some(reason) = &self.reason {
            text += &format!(": {reason}");
        }
        text
    }
}

/// Every canary of a mesh in force, by service.
pub fn statuses(
    mesh: &Mesh,
    desired: &Desired,
    file: Option<&FileContent>,
    now: WallTime,
) -> Vec<CanaryStatus> {
    // Only where there is one: a document may be large.
    let said = file
        .filter(|_| {
            mesh.services
                .values()
                .any(|service| service.canary.is_some())
        })
        .map(|file| (file, tree(file.document())));
    let canaries = mesh
        .services
        .iter()
        .filter_map(|(name, service)| Some((name, service, service.canary.as_ref()?)));
    canaries
        .map(|(name, service, split)| {
            let operation = desired.layers.operations.get(name.as_str());
            let (owner, place) = owner(desired, said.as_ref(), name);
            CanaryStatus {
                service: name.to_string(),
                version: split.version.to_string(),
                state: state(mesh, split, operation, now),
                weight: percent(weight(mesh, split, now)),
                ramp: ramp(mesh, split, now),
                sticky_by: split.sticky_by.as_ref().map(ToString::to_string),
                endpoints: endpoints(service, split),
                stable_version: service.stable_version.as_ref().map(ToString::to_string),
                owner,
                place,
                operation: operation.map(|operation| OperationStatus {
                    what: operation.word(),
                    by: operation.by.clone(),
                    reason: operation.reason.clone(),
                    at: mesh.timetable.zone().rfc3339(operation.at()),
                }),
            }
        })
        .collect()
}

fn endpoints(service: &Service, split: &CanarySplit) -> usize {
    service.endpoints_of(Some(&split.version)).count()
}

fn owner(
    desired: &Desired,
    said: Option<&(&FileContent, Value)>,
    service: &ServiceName,
) -> (&'static str, Option<String>) {
    let path = ["services", service.as_str(), "canary"];
    match said {
        Some((file, tree)) if overlay::says(tree, &path) => match file.owns(&path) {
            Refusal::Owned { place, file, .. } => {
                let place = place.map_or(file, |place| place.to_string());
                ("file", Some(place))
            }
            _ => ("file", None),
        },
        Some(_) if desired.layers.pinned.is_some() => ("rollback", None),
        _ => ("api", None),
    }
}

fn weight(mesh: &Mesh, split: &CanarySplit, now: WallTime) -> BasisPoints {
    match &split.weight {
        Weight::Fixed(weight) => *weight,
        Weight::Ramp(ramp) => ramp.schedule(&split.freeze_during, &mesh.timetable).at(now),
    }
}

fn state(
    mesh: &Mesh,
    split: &CanarySplit,
    operation: Option<&Operation>,
    now: WallTime,
) -> &'static str {
    match (operation.map(Operation::word), &split.weight) {
        (Some(word @ ("paused" | "aborted")), _) => word,
        (_, Weight::Fixed(BasisPoints::ZERO)) => "stopped",
        (_, Weight::Fixed(_)) => "running",
        (_, Weight::Ramp(ramp)) if now < ramp.start() => "waiting",
        (_, Weight::Ramp(_))
            if !mesh
                .timetable
                .frozen_by(&split.freeze_during, now)
                .is_empty() =>
        {
            "frozen"
        }
        (_, Weight::Ramp(ramp)) => {
            let schedule = ramp.schedule(&split.freeze_during, &mesh.timetable);
            match schedule.taken(now) < ramp.steps().len() {
                true => "ramping",
                false => "running",
            }
        }
    }
}

fn ramp(mesh: &Mesh, split: &CanarySplit, now: WallTime) -> Option<RampStatus> {
    let ramp = split.weight.ramp()?;
    let zone = mesh.timetable.zone();
    let schedule = ramp.schedule(&split.freeze_during, &mesh.timetable);
    let next = schedule.next_after(now);
    Some(RampStatus {
        start: zone.rfc3339(ramp.start()),
        steps: ramp.steps().len(),
        steps_taken: schedule.taken(now),
        next: next.map(|step| StepStatus {
            at: zone.rfc3339(step.from),
            weight: percent(step.weight),
        }),
    })
}
