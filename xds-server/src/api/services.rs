//! `GET /services`, and the same as `GET /api/v1/services`.

use std::sync::Arc;

use axum::extract::State as Extract;
use policy::units::ServiceName;

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
        let breaker = |name: &ServiceName| state.callers.breakers(name);
        let zone = mesh.timetable.zone();
        state
            .health
            .page(mesh, &wanted, zone, clock::now(), breaker)
    });
    page.await.tagged(number)
}
