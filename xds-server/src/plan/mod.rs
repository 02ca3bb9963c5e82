//! What a change of the mesh would do before it is done: which Envoys would be sent which resources
//! otherwise, and what that means in words. Pure.

mod effects;
mod frozen;
mod groups;
#[cfg(test)]
mod properties;
mod resources;
#[cfg(test)]
mod tests;
mod tree;
mod words;

use std::{borrow::Cow, sync::Arc};

use policy::time::WallTime;
use schemars::JsonSchema;
use serde::Serialize;

pub use self::{
    frozen::kept_out,
    groups::{Fleet, Group, Over, Proxies, ProxyKind},
    resources::{Becomes, Changed, Field},
    words::{Told, words},
};
use crate::{compile::Encoder, mesh::Mesh, redact::Redactor};

/// What a change would do.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Plan {
    /// The revision of the mesh in force, where a server was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Every difference of the two meshes, in words.
    pub mesh: Vec<Told>,
    /// What the change does beside what it says.
    pub warnings: Vec<String>,
    /// The proxies that would be sent something else.
    pub groups: Vec<Group>,
}

impl Plan {
    /// Whether anything would change.
    pub fn has_changes(&self) -> bool {
        !self.mesh.is_empty() || !self.groups.is_empty()
    }
}

/// What would change if `after` were put in the place of `before` now.
pub fn plan(
    before: &Arc<Mesh>,
    after: &Arc<Mesh>,
    now: WallTime,
    encoder: &Arc<Encoder>,
    redactor: &Redactor,
    fleet: Option<&Fleet<'_>>,
) -> Plan {
    let [before, after] = [before, after].map(|mesh| match mesh.as_of(now) {
        Cow::Borrowed(_) => Arc::clone(mesh),
        Cow::Owned(mesh) => Arc::new(mesh),
    });
    let (before, after) = (&before, &after);
    let mut warnings = effects::effects(before, after, now);
    if let Some(fleet) = fleet {
        warnings.extend(effects::left_alone(before, after, &fleet.nodes));
    }
    Plan {
        revision: None,
        mesh: words(before, after, now),
        warnings,
        groups: groups::groups(before, after, encoder, redactor, fleet),
    }
}
