//! `GET /services`, and the same as `GET /api/v1/services`.

use std::sync::Arc;

use axum::extract::State as Extract;

use super::{
    State,
    answer::{Answer, Tagged},
    asked::PageOf,
    made_apart,
};
use crate::{
    clock,
    health::view::{Service, Wanted},
    page::Page,
};

/// Every service with its endpoints and what is known of their health, or those that the query wants, a
/// page at a time.
pub(super) async fn services(
    Extract(state): Extract<State>,
    PageOf(wanted): PageOf<Wanted>,
) -> Answer<Tagged<Page<Service>>> {
    let current = Arc::clone(&state.revisions.borrow());
    let number = current.number;
    let page = made_apart(move || {
        let mesh = &current.mesh;
        state
            .health
            .page(mesh, &wanted, mesh.timetable.zone(), clock::now())
    });
    page.await.tagged(number)
}
