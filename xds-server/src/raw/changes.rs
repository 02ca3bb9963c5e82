//! What a call changes, or why it may not.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    key::{Entry, Key, Source},
    problem::{PROBLEMS_MAX, Problem},
    request::Request,
    state::{Changes, RawState},
};
use crate::{compile::Encoder, resource::ResourceType, store::StoreError};

/// What the mesh produces.
pub type Names = BTreeSet<(ResourceType, String)>;

/// Why a call was refused. Nothing was changed.
#[derive(Debug)]
pub enum Refusal {
    /// It cannot be read, or says what is no resource: the first problem of each bad one.
    Invalid(Vec<Problem>),
    /// Somebody else holds what it names.
    Conflict(Vec<Problem>),
    /// Another revision is in force than the caller believes: this one.
    Moved(u64),
    /// It cannot be kept.
    Store(StoreError),
}

/// What a call changes: removals first, then what it sets, all within its nodes. Content that is there
/// already is no change.
///
/// # Errors
/// Every problem, else every conflict.
pub fn of(
    request: Request<'_>,
    state: &RawState,
    names: &Names,
    encoder: &Encoder,
) -> Result<Changes, Refusal> {
    let mut changes = Changes::new();
    let mut conflicts = Vec::new();
    let mut problems = request.problems;
    if request.remove_all {
        let held = state.of_nodes(&request.nodes);
        let held = held.filter(|(_, entry)| entry.source == Source::Api);
        changes.extend(held.map(|(key, _)| (key.clone(), None)));
    }
    for (index, (kind, name)) in request.remove.into_iter().enumerate() {
        let key = Key {
            nodes: request.nodes.clone(),
            kind,
            name,
        };
        match state.get(&key).map(|entry| &entry.source) {
            None => {}
            Some(Source::Api) => _ = changes.insert(key, None),
            Some(Source::File(file)) => conflicts.push(Problem {
                kind: Some(kind.url().into()),
                name: Some((&*key.name).into()),
                ..Problem::new(held_by(file)).field(format!("remove[{index}]"))
            }),
        }
    }
    for offer in request.set {
        if problems.len() >= PROBLEMS_MAX || conflicts.len() >= PROBLEMS_MAX {
            break;
        }
        let offer = match offer {
            Ok(offer) => offer,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        let key = offer.key(&request.nodes);
        let known = state.get(&key);
        if let Some(Source::File(file)) = known.map(|entry| &entry.source) {
            conflicts.push(offer.problem(held_by(file)));
        } else if !request.overrides && names.contains(&(key.kind, key.name.to_string())) {
            conflicts.push(offer.problem(HELD_BY_THE_MESH));
        }
        match offer.entry(request.overrides, &Source::Api, known, encoder) {
            Err(problem) => problems.push(problem),
            Ok(entry) if known.is_some_and(|known| known.is_same(&entry)) => {
                changes.remove(&key);
            }
            Ok(entry) => _ = changes.insert(key, Some(entry)),
        }
    }
    if !problems.is_empty() {
        Err(Refusal::Invalid(problems))
    } else if !conflicts.is_empty() {
        Err(Refusal::Conflict(conflicts))
    } else {
        Ok(changes)
    }
}

/// Said of a call that is refused.
const HELD_BY_THE_MESH: &str =
    "the mesh produces a resource of this name; say \"override\": true to replace it";

fn held_by(file: &Arc<str>) -> String {
    format!("the file {file} of --resources holds it; change it there")
}

impl Entry {
    /// Whether nothing would change if this became the other.
    pub fn is_same(&self, other: &Self) -> bool {
        self.resource.version == other.resource.version
            && self.overrides == other.overrides
            && self.source == other.source
    }
}
