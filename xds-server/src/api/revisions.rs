//! `GET /api/v1/revisions`: the mesh in force, what was refused since, and those that came before;
//! `GET /api/v1/revisions/REVISION`: one of them.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State as Extract, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use policy::time::CivilZone;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{State, apply::unkept, change::tag, made_apart, mesh_problem, page, problem};
use crate::{
    catalog::{Refusal, Waiting},
    clock, explain,
    store::{About, KEPT, StoreError},
};

/// Which revisions are shown.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Those older than this one: the `next` of an earlier page.
    after: Option<u64>,
    /// At most so many; [`LIMIT`] when left out.
    limit: Option<usize>,
    /// Of what; of the mesh when left out.
    #[serde(default)]
    of: Of,
}

/// What revisions are of.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Of {
    #[default]
    Mesh,
    /// Raw resources.
    Resources,
}

/// Revisions of a page, when nobody says how many.
const LIMIT: usize = 20;
/// Revisions of the largest page: all that are kept.
const LIMIT_MAX: usize = KEPT as usize;

/// The revision in force; why what was offered since is not; and kept revisions, a page at a time, the newest
/// first.
pub(super) async fn revisions(
    Extract(state): Extract<State>,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    let wanted = match page::read(query, LIMIT_MAX, |wanted: &Wanted| wanted.limit) {
        Ok(wanted) => wanted,
        Err(refusal) => return *refusal,
    };
    let number = state.revisions.borrow().number;
    let mut answer = made_apart(move || shown(&state, &wanted)).await;
    tag(&mut answer, number);
    answer
}

/// One kept revision, with all that it said.
pub(super) async fn one(Extract(state): Extract<State>, Path(number): Path<u64>) -> Response {
    let kept = tokio::task::spawn_blocking(move || {
        let zone = state.revisions.borrow().mesh.timetable.zone().clone();
        let kept = state.catalog.kept(number)?;
        Ok::<_, StoreError>(kept.map(|(about, desired)| {
            let mut shown = revision(&(number, about), &zone);
            shown["pinned"] = json!(desired.layers().pinned);
            // The mesh in one file. It was read before it was kept.
            shown["document"] = serde_json::from_str(desired.document()).unwrap_or_default();
            shown
        }))
    });
    match kept.await {
        Ok(Ok(Some(shown))) => Json(shown).into_response(),
        Ok(Ok(None)) => unkept(number),
        Ok(Err(error)) => problem(StatusCode::SERVICE_UNAVAILABLE, &error),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
}

fn shown(state: &State, wanted: &Wanted) -> Value {
    let current = Arc::clone(&state.revisions.borrow());
    let zone = current.mesh.timetable.zone();
    let refused = state.refusal.borrow().clone();
    let waiting = state.waiting.borrow().clone();
    let frozen = current
        .mesh
        .freeze
        .at(&current.mesh.timetable, clock::now());
    let mut answer = json!({
        "current": {
            "revision": current.number,
            "accepted_at": explain::rfc3339(zone, current.accepted_at),
            "mesh": current.mesh.name,
            "file": state.catalog.file().map(|file| file.path().to_string()),
            "pinned": current.desired.layers().pinned,
        },
        "frozen": frozen.map(|frozen| frozen.sentence(zone)),
        "waiting": waiting.map(|waiting| waiting_of(&waiting, zone)),
        "refused": refused.map(|refusal| refusal_of(&refusal, zone)),
    });
    let (before, limit) = (
        wanted.after.unwrap_or(u64::MAX),
        wanted.limit.unwrap_or(LIMIT),
    );
    let history = match wanted.of {
        Of::Mesh => state.catalog.history(before, limit + 1),
        Of::Resources => {
            answer["of"] = json!("resources");
            answer["resources"] = json!({"revision": state.raw.borrow().revision()});
            state.resources.history(before, limit + 1)
        }
    };
    match history {
        Ok(mut kept) => {
            let has_more = kept.len() > limit;
            kept.truncate(limit);
            let next = kept.last().filter(|_| has_more).map(|(number, _)| *number);
            let revisions: Vec<Value> = kept.iter().map(|one| revision(one, zone)).collect();
            answer["revisions"] = json!(revisions);
            answer["next"] = json!(next);
        }
        // What is in force is known all the same.
        Err(error) => {
            answer["revisions"] = json!([]);
            answer["next"] = Value::Null;
            answer["problem"] = json!(error.to_string());
        }
    }
    answer
}

fn revision((number, about): &(u64, About), zone: &CivilZone) -> Value {
    json!({
        "revision": number,
        "accepted_at": explain::rfc3339(zone, about.at),
        "origin": about.origin,
        "author": about.author,
        "message": about.message,
    })
}

fn waiting_of(waiting: &Waiting, zone: &CivilZone) -> Value {
    json!({
        "since": explain::rfc3339(zone, waiting.since),
        "because": waiting.frozen.sentence(zone),
        "until": waiting.frozen.until.map(|until| explain::rfc3339(zone, until)),
        "changes": waiting.changes,
    })
}

fn refusal_of(refusal: &Refusal, zone: &CivilZone) -> Value {
    let problems: Vec<Value> = refusal.problems.iter().map(mesh_problem).collect();
    json!({"at": explain::rfc3339(zone, refusal.at), "problems": problems})
}
