//! `POST /api/v1/files:apply`: files that a freeze keeps waiting (`freeze: {files: hold}`) are let in before it ends.

use std::sync::Arc;

use axum::{extract::State as Extract, http::StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    State,
    change::{ChangeOf, Made, failed, made, refused},
    how::{How, Unawaited},
    problem, unkept,
};
use crate::{catalog::Changed, desired::Refusal};

/// What is said of files that were let in.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Files {
    /// Files of `--resources` that were let in too, by name.
    files: Vec<String>,
    /// The revision of raw resources then.
    resources: u64,
}

/// Lets in what waits.
pub(super) async fn apply(
    Extract(state): Extract<State>,
    Unawaited(how): Unawaited,
) -> ChangeOf<Files> {
    let how = match checked(&state, how) {
        Ok(how) => how,
        Err(refusal) => return refused(&refusal).into(),
    };
    let what = "files that waited are let in".to_string();
    let (catalog, asked, about) = (Arc::clone(&state.catalog), how.clone(), how.about(&what));
    let letting = tokio::task::spawn_blocking(move || {
        catalog.let_in(&about, asked.if_match.as_ref(), asked.dry_run)
    });
    let changed = match letting.await {
        Ok(Ok(changed)) => changed,
        Ok(Err(error)) => return failed(error).into(),
        Err(error) => return problem(StatusCode::INTERNAL_SERVER_ERROR, &error).into(),
    };
    // The mesh file may have waited for nothing, or changed since.
    let current = Arc::clone(&state.revisions.borrow());
    let changed = changed.unwrap_or_else(|| Changed {
        number: current.number,
        mesh: Arc::clone(&current.mesh),
        before: current,
        is_new: false,
    });
    let held = state.resources.waiting().borrow().clone();
    let mut more = Files {
        files: held.map(|held| held.files.clone()).unwrap_or_default(),
        resources: state.raw.borrow().revision(),
    };
    if !how.dry_run && !more.files.is_empty() {
        let (resources, about) = (Arc::clone(&state.resources), how.about(&what));
        let letting = tokio::task::spawn_blocking(move || resources.let_in(&about));
        match letting.await {
            Ok(Ok(revision)) => more.resources = revision,
            Ok(Err(error)) => return unkept(&error).into(),
            Err(error) => return problem(StatusCode::INTERNAL_SERVER_ERROR, &error).into(),
        }
    }
    if !how.dry_run {
        // An error is the server's end.
        let mut published = state.publisher.published_mesh();
        let _ = published
            .wait_for(|published| *published >= changed.number)
            .await;
    }
    made(&how, what, Made::of(changed), Some(more))
}

/// Nobody passes a freeze without saying so, and why.
fn checked(state: &State, how: How) -> Result<How, Refusal> {
    let is_waiting =
        state.waiting.borrow().is_some() || state.resources.waiting().borrow().is_some();
    if !is_waiting {
        let said =
            "no file waits for the end of a freeze; `mumbai-mesh history` shows those that do";
        return Err(Refusal::Conflict(said.into()));
    }
    let how = how.checked()?;
    if !how.force && !how.dry_run {
        return Err(Refusal::Frozen(
            "frozen: files wait for its end (to let them in all the same: --force --reason WHY)"
                .into(),
        ));
    }
    Ok(how)
}
