//! `GET /api/v1/loads`.

use std::sync::Arc;

use axum::extract::State as Extract;

use super::{State, answer::Answered, asked::PageOf, made_apart};
use crate::{
    clock,
    load_reports::view::{Loads, Wanted},
};

/// The load that each node reported, or those that the query wants, a page at a time.
pub(super) async fn loads(
    Extract(state): Extract<State>,
    PageOf(wanted): PageOf<Wanted>,
) -> Answered<Loads> {
    made_apart(move || {
        let mesh = Arc::clone(&state.revisions.borrow().mesh);
        let zone = mesh.timetable.zone();
        state.loads.page(&wanted, zone, clock::now())
    })
    .await
}
