//! `POST /api/v1/apply`: a mesh file becomes what is wanted; `POST /api/v1/revisions/REVISION/rollback`: what a
//! revision said is wanted again; `GET /api/v1/revisions/REVISION/diff`: what differs between two of them.

use std::sync::Arc;

use axum::{
    extract::State as Extract,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    State,
    answer::{Answer, Answered, Tagged},
    asked::{Path, Query},
    change::{ChangeAnswer, ChangeOf, Wish, made, make, refused},
    how::How,
    plan::{self, MeshFiles, Refused, read_files},
    problem,
};
use crate::{
    clock,
    desired::{Desired, Editor},
    mesh::{Document, Labels, Mesh},
    plan::Plan,
};

/// What is said of a mesh file that was applied: nothing more than of any change.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Apply {}

/// What became of a mesh file.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "an answer is one of them, and is made as such")]
pub(super) enum Applied {
    /// It is in force.
    Change(ChangeAnswer<Apply>),
    /// With dry_run: what it would do.
    Plan(Plan),
}

/// Puts a mesh file in force.
pub(super) async fn apply(
    Extract(state): Extract<State>,
    how: How,
    MeshFiles(body): MeshFiles,
) -> Answer<Tagged<Applied>> {
    let how = match how.checked() {
        Ok(how) => how,
        Err(refusal) => return refused(&refusal).into(),
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
            // Whose versions lack endpoints, is decided as everything stands then.
            let labels = Labels::Any;
            document
                .mesh_with(&defaults, labels)
                .map_err(Refused::Mesh)?;
        }
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        Ok((document.tree().clone(), names.join(", ")))
    });
    let (tree, names) = match reading.await {
        Ok(Ok(read)) => read,
        Ok(Err(refused)) => return refused.into_response().into(),
        Err(error) => return problem(StatusCode::INTERNAL_SERVER_ERROR, &error).into(),
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
        Err(refusal) => return refusal.into(),
    };
    if how.dry_run {
        // Who registered stays, whatever the file says.
        let over = |mesh: &Mesh| Arc::new(state.instances.over(mesh));
        let (before, after) = (over(&done.changed.before.mesh), over(&done.changed.mesh));
        let number = done.changed.number;
        let planned = plan::differing(state, before, after, clock::now(), number).await;
        let planned = planned.tagged(number).with(how.wrote(what));
        return planned.into_part_of();
    }
    made::<Apply>(&how, what, done, None).into_part_of()
}

/// What is said of a rollback.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Rollback {
    /// The revision that it holds in force, where files say what is wanted.
    pinned: Option<u64>,
    /// Until these files change.
    until_changed: Option<String>,
}

/// Puts what a revision said in force again.
pub(super) async fn rollback(
    Extract(state): Extract<State>,
    Path(revision): Path<u64>,
    how: How,
) -> ChangeOf<Rollback> {
    let how = match how.checked() {
        Ok(how) => how,
        Err(refusal) => return refused(&refusal).into(),
    };
    let (desired, _) = match kept(&state, revision).await {
        Ok(kept) => kept,
        Err(refusal) => return refusal.into(),
    };
    let what = format!("rollback to {revision}");
    let wish = Wish {
        what: what.clone(),
        always_passes: true,
        edit: move |current: &crate::catalog::Current<'_>| {
            let in_force = &current.revision.desired;
            Ok(desired.again(revision, in_force, current.file, clock::now()))
        },
    };
    match make(&state, &how, wish).await {
        Ok(done) => {
            let file = state.catalog.file();
            let pinned = state.revisions.borrow().desired.layers().pinned;
            let file = file.filter(|_| pinned.is_some());
            let more = Rollback {
                pinned,
                until_changed: file.map(|file| file.path().to_string()),
            };
            made(&how, what, done, Some(more))
        }
        Err(refusal) => refusal.into(),
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct To {
    /// The other revision; that in force when it is left out.
    to: Option<u64>,
}

/// What differs between two revisions, or one and what is in force.
pub(super) async fn diff(
    Extract(state): Extract<State>,
    Path(revision): Path<u64>,
    Query(To { to }): Query<To>,
) -> Answered<Plan> {
    let before = match kept(&state, revision).await {
        Ok((_, mesh)) => mesh,
        Err(refusal) => return refusal.into(),
    };
    let current = Arc::clone(&state.revisions.borrow());
    let (after, number) = match to {
        None => (Arc::clone(&current.mesh), current.number),
        Some(to) => match kept(&state, to).await {
            Ok((_, mesh)) => (mesh, to),
            Err(refusal) => return refusal.into(),
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
