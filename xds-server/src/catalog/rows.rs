//! What is wanted, as the store keeps it: the whole document, which any version reads; and beside it, where there is
//! more to tell, how it came about.

use std::sync::Arc;

use tracing::error;

use crate::{
    desired::{Desired, Layers},
    store::{Change, MESH_KEY, State},
};

/// What the files or an apply say.
const BASE: &str = "base";
/// What lies over it.
const LAYERS: &str = "layers";

/// All of it in one document.
pub(super) fn document(state: &State) -> Option<&Arc<str>> {
    state.values.get(MESH_KEY)
}

/// None where there is no document.
pub(super) fn desired(state: &State) -> Option<Desired> {
    let document = Arc::clone(document(state)?);
    let layers = state
        .values
        .get(LAYERS)
        .map(|text| serde_json::from_str(text));
    let layers: Layers = match layers.transpose() {
        Ok(layers) => layers.unwrap_or_default(),
        Err(error) => {
            // A later version's: the document says what is served all the same.
            error!(revision = state.revision, %error, "how this revision came about is not known here");
            return Some(Desired::of(document));
        }
    };
    Some(Desired::kept(
        document,
        state.values.get(BASE).cloned(),
        layers,
    ))
}

pub(super) fn changes(desired: &Desired) -> Vec<Change> {
    let row = |key: &str, value: Arc<str>| Change {
        key: key.into(),
        value: Some(value),
    };
    let mut changes = vec![row(MESH_KEY, Arc::clone(desired.document()))];
    changes.extend(desired.base().map(|base| row(BASE, Arc::clone(base))));
    if *desired.layers() != Layers::default() {
        // Texts, numbers and trees of JSON: it cannot fail.
        let layers = serde_json::to_string(desired.layers()).unwrap_or_default();
        changes.push(row(LAYERS, layers.into()));
    }
    changes
}
