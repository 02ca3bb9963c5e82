//! `POST /api/v1/apply`: a mesh file becomes what is wanted; `POST /api/v1/revisions/REVISION/rollback`: what a
//! revision said is wanted again; `GET /api/v1/revisions/REVISION/diff`: what differs between two of them.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{
        Path, Query, State as Extract,
        rejection::{BytesRejection, QueryRejection},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;

use super::{
    State,
    change::{Wish, made, make, refused},
    how::How,
    plan::{self, Refused, read_files},
    problem,
};
use crate::{
    clock,
    desired::{Desired, Editor},
    mesh::{Document, Mesh},
};

/// Puts a mesh file in force.
pub(super) async fn apply(
    Extract(state): Extract<State>,
    how: How,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let how = match how.checked() {
        Ok(how) => how,
        Err(refusal) => return refused(&refusal),
    };
    let body = match body {
        Ok(body) => body,
        Err(error) => return problem(error.status(), &error.body_text()),
    };
    let has_file = state.catalog.file().is_some();
    let defaults = state.defaults.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let files = read_files(&body)?;
        let document = Document::new(&files, &[]);
        // Beside files it is a part, which is nothing whole by itself.
        if !document.problems().is_empty() {
            return Err(Refused::Mesh(document.problems().to_vec()));
        }
        if !has_file {
            document.mesh(&defaults).map_err(Refused::Mesh)?;
        }
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        Ok((document.tree().clone(), names.join(", ")))
    });
    let (tree, names) = match reading.await {
        Ok(Ok(read)) => read,
        Ok(Err(refused)) => return refused.into_response(),
        Err(error) => return problem(StatusCode::INTERNAL_SERVER_ERROR, &error),
    };
    let what = format!("apply {}", names.chars().take(200).collect::<String>());
    let wish = Wish {
        what: what.clone(),
        always_passes: false,
        edit: move |current: &crate::catalog::Current<'_>| {
            let mut editor = Editor::new(&current.revision.desired, current.file);
            editor.apply(tree.clone())?;
            Ok(editor.finish())
        },
    };
    let done = match make(&state, &how, wish).await {
        Ok(done) => done,
        Err(refusal) => return refusal,
    };
    if how.dry_run {
        // Who registered stays, whatever the file says.
        let over = |mesh: &Mesh| Arc::new(state.instances.over(mesh));
        let (before, after) = (over(&done.changed.before.mesh), over(&done.changed.mesh));
        let mut planned =
            plan::differing(state, before, after, clock::now(), done.changed.number).await;
        planned.extensions_mut().insert(how.wrote(what));
        return planned;
    }
    made(&how, what, &done)
}

/// Puts what a revision said in force again.
pub(super) async fn rollback(
    Extract(state): Extract<State>,
    Path(revision): Path<u64>,
    how: How,
) -> Response {
    let how = match how.checked() {
        Ok(how) => how,
        Err(refusal) => return refused(&refusal),
    };
    let (desired, _) = match kept(&state, revision).await {
        Ok(kept) => kept,
        Err(refusal) => return *refusal,
    };
    let what = format!("rollback to {revision}");
    let wish = Wish {
        what: what.clone(),
        always_passes: true,
        edit: move |current: &crate::catalog::Current<'_>| Ok(desired.again(revision, current.file)),
    };
    match make(&state, &how, wish).await {
        Ok(mut done) => {
            let file = state.catalog.file();
            let pinned = state.revisions.borrow().desired.layers().pinned;
            done.answer["pinned"] = json!(pinned);
            let file = file.filter(|_| pinned.is_some());
            done.answer["until_changed"] = json!(file.map(|file| file.path().to_string()));
            made(&how, what, &done)
        }
        Err(refusal) => refusal,
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct To {
    to: Option<u64>,
}

/// What differs between two revisions, or one and what is in force.
pub(super) async fn diff(
    Extract(state): Extract<State>,
    Path(revision): Path<u64>,
    to: Result<Query<To>, QueryRejection>,
) -> Response {
    let to = match to {
        Ok(Query(To { to })) => to,
        Err(error) => {
            let said = format!("{}; known: to", error.body_text());
            return problem(StatusCode::BAD_REQUEST, &said);
        }
    };
    let before = match kept(&state, revision).await {
        Ok((_, mesh)) => mesh,
        Err(refusal) => return *refusal,
    };
    let current = Arc::clone(&state.revisions.borrow());
    let (after, number) = match to {
        None => (Arc::clone(&current.mesh), current.number),
        Some(to) => match kept(&state, to).await {
            Ok((_, mesh)) => (mesh, to),
            Err(refusal) => return *refusal,
        },
    };
    plan::differing(state, before, after, clock::now(), number).await
}

/// A kept revision, as this version of the program reads it, with those that are registered now.
async fn kept(state: &State, revision: u64) -> Result<(Desired, Arc<Mesh>), Box<Response>> {
    let (catalog, instances) = (Arc::clone(&state.catalog), Arc::clone(&state.instances));
    let reading = tokio::task::spawn_blocking(move || {
        let refused = |answer: Response| Box::new(answer);
        let kept = catalog
            .kept(revision)
            .map_err(|error| refused(problem(StatusCode::SERVICE_UNAVAILABLE, &error)))?;
        let (_, desired) = kept.ok_or_else(|| refused(unkept(revision)))?;
        let mesh = catalog
            .read(&desired, &format!("revision {revision}"))
            .map_err(|problems| refused(Refused::Mesh(problems).into_response()))?;
        Ok((desired, Arc::new(instances.over(&mesh))))
    });
    match reading.await {
        Ok(read) => read,
        Err(error) => Err(Box::new(problem(StatusCode::INTERNAL_SERVER_ERROR, &error))),
    }
}

/// There is no such revision any more, or yet.
pub(super) fn unkept(revision: u64) -> Response {
    let said = format!("revision {revision} is not kept; /api/v1/revisions lists those that are");
    problem(StatusCode::NOT_FOUND, &said)
}
