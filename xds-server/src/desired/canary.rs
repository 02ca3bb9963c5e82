//! Canaries by hand: start, set and promote write; pause, resume and abort are operations, which pass where files
//! say what is written too.

use policy::{
    canary::{CanarySplit, Weight},
    time::format_instant,
    units::{BasisPoints, HeaderName, ServiceName, VersionLabel},
};
use serde_json::{Value, json};

use super::{
    Editor, Refusal,
    operation::{By, Kind, Operation, RampAgain, resumed},
    overlay,
};
use crate::mesh::{Mesh, Service};

/// A canary that shall begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The label of its endpoints.
    pub version: VersionLabel,
    /// Its share of the users.
    pub weight: BasisPoints,
    /// The header that keeps a user on one side.
    pub sticky_by: Option<HeaderName>,
}

/// What somebody does with a service's canary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Begins, or begins anew.
    Start(Start),
    /// Another weight.
    Set(BasisPoints),
    /// The weight stays where it is.
    Pause,
    /// A paused one goes on with its step; any other begins anew, and what latched is let go.
    Resume,
    /// All users go to it: it is the stable version.
    Promote,
    /// Nobody is sent to it.
    Abort,
}

impl Verb {
    /// In a few words, for the history.
    pub fn sentence(&self, service: &str) -> String {
        let what = match self {
            Self::Start(Start {
                version, weight, ..
            }) => format!("start {version} at {weight}"),
            Self::Set(weight) => format!("set to {weight}"),
            Self::Pause => "pause".into(),
            Self::Resume => "resume".into(),
            Self::Promote => "promote".into(),
            Self::Abort => "abort".into(),
        };
        format!("canary of {service}: {what}")
    }

    /// Whether it passes whatever is frozen.
    pub fn always_passes(&self) -> bool {
        matches!(self, Self::Pause | Self::Abort)
    }
}

/// A service's canary, as it is written and as it is in force.
struct Canary<'m> {
    service: &'m str,
    mesh: &'m Mesh,
    in_force: &'m Service,
    /// None: there is none.
    written: Option<Value>,
    operation: Option<Operation>,
}

/// Does something with the canary of a service of the mesh in force.
///
/// # Errors
/// Why that may not be.
pub fn carry_out(
    editor: &mut Editor<'_>,
    mesh: &Mesh,
    service: &ServiceName,
    verb: &Verb,
    by: &By,
) -> Result<(), Refusal> {
    editor.forget_ended(by.at);
    let in_force = known(mesh, service)?;
    let path = ["services", service.as_str(), "canary"];
    let canary = Canary {
        service: service.as_str(),
        mesh,
        in_force,
        written: overlay::at(&editor.written(), &path).cloned(),
        operation: editor.layers.operations.get(service.as_str()).cloned(),
    };
    let operation = match verb {
        Verb::Start(start) => {
            editor.put(&path, Some(canary.started(start)?))?;
            None
        }
        Verb::Set(weight) => {
            let mut written = canary.written()?;
            set_weight(&mut written, *weight);
            canary.keep_count(&mut written);
            editor.put(&path, Some(written))?;
            None
        }
        Verb::Promote => {
            canary.written()?;
            let version = &canary.split()?.version;
            editor.put(&path, None)?;
            let stable = ["services", service.as_str(), "stable_version"];
            editor.put(&stable, Some(json!(version.as_str())))?;
            None
        }
        Verb::Pause => Some(canary.paused(by)?),
        Verb::Resume => Some(canary.resumed(by)?),
        Verb::Abort => Some(canary.aborted(by)?),
    };
    let operations = &mut editor.layers.operations;
    match operation {
        Some(operation) => _ = operations.insert(service.to_string(), operation),
        None => _ = operations.remove(service.as_str()),
    }
    Ok(())
}

/// A service of the mesh in force.
pub(super) fn known<'m>(mesh: &'m Mesh, service: &ServiceName) -> Result<&'m Service, Refusal> {
    const NAMED_MAX: usize = 20;
    mesh.services.get(service).ok_or_else(|| {
        let names = mesh.services.keys().map(ServiceName::as_str);
        let names: Vec<&str> = names.take(NAMED_MAX).collect();
        Refusal::Unknown(format!(
            "no service {service}; there are: {}",
            names.join(", ")
        ))
    })
}

impl Canary<'_> {
    fn written(&self) -> Result<Value, Refusal> {
        self.written.clone().ok_or_else(|| {
            let service = self.service;
            Refusal::Unknown(format!(
                "{service} has no canary; `mumbai-mesh canary start {service} VERSION PERCENT` starts one"
            ))
        })
    }

    fn split(&self) -> Result<&CanarySplit, Refusal> {
        let split = self.in_force.canary.as_ref();
        split.ok_or_else(|| Refusal::Unknown(format!("{} has no canary", self.service)))
    }

    /// What it is written as once it begins.
    fn started(&self, start: &Start) -> Result<Value, Refusal> {
        let Start {
            version,
            weight,
            sticky_by,
        } = start;
        let known = self.in_force.canary.as_ref();
        if let Some(other) = known.filter(|known| known.version != *version)
            && other.weight.highest() > BasisPoints::ZERO
        {
            return Err(Refusal::Conflict(format!(
                "a canary of {} runs at {}: promote or abort it before {version} begins",
                other.version,
                weight_at(self.mesh, other, None).0,
            )));
        }
        let same = known.is_some_and(|known| known.version == *version);
        let mut written = match &self.written {
            Some(written) if same => written.clone(),
            _ => json!({"version": version.as_str()}),
        };
        set_weight(&mut written, *weight);
        if let Some(header) = sticky_by {
            written["sticky_by"] = json!({"header": header.as_str()});
        }
        if same {
            self.keep_count(&mut written);
            // Who starts it once more wants it to have users, whatever latched before.
            written["resumed"] = json!(resumed(&written).saturating_add(1));
        }
        Ok(written)
    }

    /// What was resumed once is not forgotten with the operation.
    fn keep_count(&self, written: &mut Value) {
        if let Some(operation) = &self.operation
            && operation.resumed_in_all() > 0
        {
            written["resumed"] = json!(operation.resumed_in_all());
        }
    }

    fn times_resumed(&self) -> u32 {
        self.operation
            .as_ref()
            .map_or(0, |operation| operation.resumed)
    }

    fn paused(&self, by: &By) -> Result<Operation, Refusal> {
        let written = self.written()?;
        match &self.operation {
            Some(operation) if matches!(operation.kind, Kind::Paused { .. }) => {
                return Ok(operation.clone());
            }
            Some(operation) if operation.kind == Kind::Aborted => {
                return Err(Refusal::Conflict(format!(
                    "the canary of {} is aborted: there is nothing to pause",
                    self.service
                )));
            }
            _ => {}
        }
        let (weight, taken) = weight_at(self.mesh, self.split()?, Some(by));
        let step = taken.and_then(|taken| taken.checked_sub(1));
        let kind = Kind::Paused {
            weight: percent(weight),
            step: step.map(|step| step + self.first_step()),
        };
        Ok(Operation::new(written, kind, self.times_resumed(), by))
    }

    fn aborted(&self, by: &By) -> Result<Operation, Refusal> {
        let written = self.written()?;
        match &self.operation {
            Some(operation) if operation.kind == Kind::Aborted => Ok(operation.clone()),
            _ => Ok(Operation::new(
                written,
                Kind::Aborted,
                self.times_resumed(),
                by,
            )),
        }
    }

    fn resumed(&self, by: &By) -> Result<Operation, Refusal> {
        let written = self.written()?;
        let from = match &self.operation {
            Some(Operation {
                kind: Kind::Paused { step, .. },
                ..
            }) => step.unwrap_or_default(),
            _ => 0,
        };
        let ramp = written["ramp"]["start"].as_str().map(|start| {
            let now = format_instant(by.at);
            let later = policy::time::parse_instant(start).is_ok_and(|start| start > by.at);
            RampAgain {
                start: if later && from == 0 {
                    start.to_string()
                } else {
                    now
                },
                from,
            }
        });
        let times = self.times_resumed().saturating_add(1);
        Ok(Operation::new(written, Kind::Resumed { ramp }, times, by))
    }

    /// Of the steps that are written, the first that is in force.
    fn first_step(&self) -> usize {
        match &self.operation {
            Some(Operation {
                kind: Kind::Resumed { ramp: Some(ramp) },
                ..
            }) => ramp.from,
            _ => 0,
        }
    }
}

/// The weight at an instant, and how many steps of a ramp were taken; without one the most that it ever is.
fn weight_at(mesh: &Mesh, split: &CanarySplit, at: Option<&By>) -> (BasisPoints, Option<usize>) {
    match (&split.weight, at) {
        (Weight::Fixed(weight), _) => (*weight, None),
        (Weight::Ramp(ramp), None) => (ramp.highest(), None),
        (Weight::Ramp(ramp), Some(by)) => {
            let schedule = ramp.schedule(&split.freeze_during, &mesh.timetable);
            (schedule.at(by.at), Some(schedule.taken(by.at)))
        }
    }
}

fn set_weight(canary: &mut Value, weight: BasisPoints) {
    if let Some(fields) = canary.as_object_mut() {
        fields.shift_remove("ramp");
        fields.insert("weight".into(), percent(weight));
    }
}

/// `10` rather than `10.0`.
pub(super) fn percent(weight: BasisPoints) -> Value {
    let points = u32::from(weight.get());
    match points % 100 {
        0 => json!(points / 100),
        _ => json!(weight.percent()),
    }
}
