//! What the mesh produces, beside the raw resources.

use std::sync::{Arc, PoisonError};

use super::{
    FileProblem, Problem, RawResources, RawState,
    changes::Names,
    key::{Entry, Key, Source},
};
use crate::compile;

impl RawResources {
    /// Everything that the mesh in force produces.
    pub(super) fn names(&self) -> Arc<Names> {
        let revision = Arc::clone(&self.revisions.borrow());
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        match &*names {
            Some((number, names)) if *number == revision.number => Arc::clone(names),
            _ => {
                let made = Arc::new(compile::names(&revision.mesh));
                *names = Some((revision.number, Arc::clone(&made)));
                made
            }
        }
    }

    /// Resources of a revision that are not in force, since the mesh came to produce one of their name.
    pub fn hidden_by_the_mesh(&self, state: &RawState) -> Vec<FileProblem> {
        let names = self.names();
        let is_hidden = |(key, entry): &(&Key, &Arc<Entry>)| {
            !entry.overrides && names.contains(&(key.kind, key.name.to_string()))
        };
        let problem = |(key, entry): (&Key, &Arc<Entry>)| FileProblem {
            file: match &entry.source {
                Source::Api => None,
                Source::File(file) => Some(file.to_string()),
            },
            problem: Problem {
                kind: Some(key.kind.url().into()),
                name: Some((&*key.name).into()),
                ..Problem::new(format!(
                    "not in force for {} where the mesh produces a resource of this name; say \
                     \"override\": true to replace it",
                    key.nodes
                ))
            },
        };
        state.iter().filter(is_hidden).map(problem).collect()
    }
}
