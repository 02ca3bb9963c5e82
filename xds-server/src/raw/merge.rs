//! Merged collections, kept as long as what they were merged from: equal inputs give the same `Arc`, by
//! which others see that nothing changed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use crate::resource::Collection;

/// Shared by all revisions.
#[derive(Debug, Default)]
pub struct Merges(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    merged: HashMap<Vec<Input>, Arc<Collection>>,
    /// How many stayed when it was tidied last.
    stayed: usize,
}

/// A collection by its identity. The weak pointer keeps the address from being used for another one.
#[derive(Debug)]
struct Input(Weak<Collection>);

impl PartialEq for Input {
    fn eq(&self, other: &Self) -> bool {
        self.0.ptr_eq(&other.0)
    }
}

impl Eq for Input {}

impl std::hash::Hash for Input {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.as_ptr().hash(state);
    }
}

const TIDIED_FROM: usize = 64;

impl Merges {
    /// What was merged from these inputs before, else what `merge` makes of them now. Nothing is kept
    /// where it makes nothing.
    pub fn get_or_merge(
        &self,
        inputs: &[&Arc<Collection>],
        merge: impl FnOnce() -> Option<Arc<Collection>>,
    ) -> Option<Arc<Collection>> {
        let key: Vec<Input> = inputs
            .iter()
            .map(|input| Input(Arc::downgrade(input)))
            .collect();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(merged) = known.merged.get(&key) {
            return Some(Arc::clone(merged));
        }
        let merged = merge()?;
        if known.merged.len() >= TIDIED_FROM.max(known.stayed * 2) {
            let is_used = |input: &Input| input.0.strong_count() > 0;
            known.merged.retain(|inputs, _| inputs.iter().all(is_used));
            known.stayed = known.merged.len();
        }
        known.merged.insert(key, Arc::clone(&merged));
        Some(merged)
    }
}
