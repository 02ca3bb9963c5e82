//! What people say of services until a time. It lies over all that is written.

use policy::{
    overrides::OverrideKind,
    time::{WallTime, format_instant, parse_instant},
    units::ServiceName,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{By, Desired, Editor, Refusal};
use crate::{mesh::Mesh, page::Listed};

/// What somebody says of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    kind: String,
    /// RFC 3339.
    until: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// When it was said, in milliseconds since 1970.
    at: i64,
}

impl Said {
    /// As the mesh file has it.
    pub(super) fn written(&self) -> Value {
        json!({"kind": self.kind, "until": self.until})
    }

    fn acts(&self, now: WallTime) -> bool {
        parse_instant(&self.until).is_ok_and(|until| now < until)
    }
}

/// An override that acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "ActingOverride")]
pub struct OverrideStatus {
    /// Of which service.
    pub service: String,
    /// `bypass`, `observe`, `peak` or `normal`.
    pub kind: &'static str,
    /// What that does.
    pub does: &'static str,
    /// When it ends.
    pub until: String,
    /// Who said it; none where the mesh file does.
    pub by: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// When it was said.
    pub at: Option<String>,
}

impl Listed for OverrideStatus {
    type Key = String;
    const NAME: &'static str = "overrides";

    fn key(&self) -> String {
        self.service.clone()
    }
}

/// Says something of a service of the mesh in force.
///
/// # Errors
/// When there is no such service.
pub fn override_service(
    editor: &mut Editor<'_>,
    mesh: &Mesh,
    service: &ServiceName,
    kind: OverrideKind,
    until: WallTime,
    by: &By,
) -> Result<(), Refusal> {
    editor.forget_ended(by.at);
    super::canary::known(mesh, service)?;
    let said = Said {
        kind: kind.as_str().into(),
        until: format_instant(until),
        by: by.author.clone(),
        reason: by.reason.clone(),
        at: by.at.unix_millis(),
    };
    let overrides = &mut editor.layers.overrides;
    overrides.insert(service.to_string(), said);
    Ok(())
}

/// Takes back what was said of a service.
///
/// # Errors
/// When nothing is said of it.
pub fn end_override(
    editor: &mut Editor<'_>,
    mesh: &Mesh,
    service: &ServiceName,
    by: &By,
) -> Result<(), Refusal> {
    editor.forget_ended(by.at);
    super::canary::known(mesh, service)?;
    match editor.layers.overrides.remove(service.as_str()) {
        Some(_) => Ok(()),
        None => Err(Refusal::Unknown(format!("{service} has no override"))),
    }
}

/// Every override that acts, by service.
pub fn overrides(mesh: &Mesh, desired: &Desired, now: WallTime) -> Vec<OverrideStatus> {
    let zone = mesh.timetable.zone();
    let acting = mesh.services.iter().filter_map(|(name, service)| {
        let said = service.overridden.filter(|said| said.acts(now))?;
        Some((name, said))
    });
    acting
        .map(|(name, said)| {
            let by = desired.layers.overrides.get(name.as_str());
            OverrideStatus {
                service: name.to_string(),
                kind: said.kind.as_str(),
                does: said.kind.sentence(),
                until: zone.rfc3339(said.until),
                by: by.and_then(|by| by.by.clone()),
                reason: by.and_then(|by| by.reason.clone()),
                at: by.map(|by| zone.rfc3339(WallTime::from_unix_millis(by.at))),
            }
        })
        .collect()
}

impl Editor<'_> {
    /// What has ended is of no use to anybody.
    pub(super) fn forget_ended(&mut self, now: WallTime) {
        self.layers.overrides.retain(|_, said| said.acts(now));
    }
}
