//! What all calls that change the mesh have in common: how they are made, why they are refused, and that they wait
//! until whoever asks is sent them.

use std::sync::Arc;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{State, guard::Wrote, how::How, plan, problem, rollout, unkept};
use crate::{
    catalog::{Change, ChangeError, Changed, Current},
    clock,
    desired::{Desired, Editor, Refusal},
    mesh::Mesh,
    plan::words,
};

/// Refuses whatever is not the mesh's while changes are frozen, unless it is forced.
pub(super) fn while_frozen(state: &State, how: &How) -> Result<(), Box<Response>> {
    let mesh = Arc::clone(&state.revisions.borrow().mesh);
    let frozen = mesh.freeze.at(&mesh.timetable, clock::now());
    let Some(frozen) = frozen.filter(|_| !how.force) else {
        return Ok(());
    };
    let said = frozen.sentence(mesh.timetable.zone());
    let refusal = Refusal::Frozen(format!(
        "frozen: {said}, and the mesh's freeze keeps raw resources out; nothing was applied (to do it all the \
         same: ?force=true&reason=WHY)"
    ));
    Err(Box::new(refused(&refusal)))
}

/// A change, and whether a freeze is asked about it.
pub(super) struct Wish<E> {
    /// In a few words.
    pub(super) what: String,
    /// Whatever is frozen.
    pub(super) always_passes: bool,
    pub(super) edit: E,
}

/// What a change came to: what was changed, and the answer so far.
pub(super) struct Made {
    pub(super) changed: Changed,
    pub(super) answer: Value,
}

/// Makes a change, waits until whoever asks is sent it, and for the fleet if that is wanted.
///
/// # Errors
/// The answer that says why nothing was changed, or was taken back.
pub(super) async fn make<E>(state: &State, how: &How, wish: Wish<E>) -> Result<Made, Response>
where
    E: Fn(&Current<'_>) -> Result<Desired, Refusal> + Send + 'static,
{
    let before = rollout::before(state);
    let (catalog, asked, what) = (Arc::clone(&state.catalog), how.clone(), wish.what.clone());
    let changing = tokio::task::spawn_blocking(move || {
        let judge = |before: &Mesh, after: &Mesh| match wish.always_passes {
            true => Ok(()),
            false => asked.judge(before, after),
        };
        catalog.change(&Change {
            about: asked.about(&wish.what),
            if_match: asked.if_match.as_ref(),
            dry_run: asked.dry_run,
            edit: &wish.edit,
            judge: &judge,
        })
    });
    let changed = match changing.await {
        Ok(Ok(changed)) => changed,
        Ok(Err(error)) => return Err(with(how.wrote(format!("{what}: refused")), failed(error))),
        Err(error) => return Err(problem(StatusCode::INTERNAL_SERVER_ERROR, &error)),
    };
    let mut answer = json!({
        "revision": changed.number,
        "changed": changed.is_new,
        "mesh": words(&changed.before.mesh, &changed.mesh),
    });
    if how.dry_run {
        answer["dry_run"] = json!(true);
        return Ok(Made { changed, answer });
    }
    // An error is the server's end.
    let mut published = state.publisher.published_mesh();
    let _ = published
        .wait_for(|published| *published >= changed.number)
        .await;
    if let Some(bound) = how.wait {
        let waited = rollout::wait(state, &changed, &before, bound, how).await;
        match waited {
            Ok(waited) => answer["wait"] = waited,
            Err(refusal) => {
                let wrote = how.wrote(format!("{what}: rejected by Envoys, rolled back"));
                return Err(with(wrote, *refusal));
            }
        }
    }
    Ok(Made { changed, answer })
}

/// What a person does with one thing: the revision's edit, and the answer with what `shown` adds to it.
pub(super) async fn done(
    state: &State,
    how: &How,
    (what, always_passes): (String, bool),
    edit: impl Fn(&mut Editor<'_>, &Mesh) -> Result<(), Refusal> + Send + 'static,
    shown: impl FnOnce(&mut Value),
) -> Response {
    let wish = Wish {
        what: what.clone(),
        always_passes,
        edit: move |current: &Current<'_>| {
            let mut editor = Editor::new(&current.revision.desired, current.file);
            edit(&mut editor, &current.revision.mesh)?;
            Ok(editor.finish())
        },
    };
    match make(state, how, wish).await {
        Ok(mut done) => {
            if !how.dry_run {
                shown(&mut done.answer);
            }
            made(how, what, &done)
        }
        Err(refusal) => refusal,
    }
}

/// The answer of a change that was made, with the revision's tag.
pub(super) fn made(how: &How, what: String, made: &Made) -> Response {
    let mut response = Json(&made.answer).into_response();
    tag(&mut response, made.changed.number);
    with(how.wrote(what), response)
}

/// Names the revision that an answer is of.
pub(super) fn tag(response: &mut Response, revision: u64) {
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{revision}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
}

fn with(wrote: Wrote, mut response: Response) -> Response {
    response.extensions_mut().insert(wrote);
    response
}

fn failed(error: ChangeError) -> Response {
    match error {
        ChangeError::Refused(refusal) => refused(&refusal),
        ChangeError::Mesh(problems) => {
            // Their places are those of a document that nobody wrote.
            let problems = problems.into_iter().map(|problem| problem.problem.into());
            plan::Refused::Mesh(problems.collect()).into_response()
        }
        ChangeError::Moved(newest) => problem(
            StatusCode::PRECONDITION_FAILED,
            &format!(
                "If-Match: revision {newest} is in force; look at it and decide anew; nothing was changed"
            ),
        ),
        ChangeError::Store(error) => unkept(&error),
    }
}

/// Why something may not be, as programs tell it apart.
pub(super) fn refused(refusal: &Refusal) -> Response {
    let (status, reason) = match refusal {
        Refusal::Owned { .. } => (StatusCode::CONFLICT, "file"),
        Refusal::Frozen(_) => (StatusCode::CONFLICT, "frozen"),
        Refusal::Conflict(_) => (StatusCode::CONFLICT, "state"),
        Refusal::Unknown(_) => (StatusCode::NOT_FOUND, "unknown"),
        Refusal::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid"),
    };
    let mut body = json!({
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": refusal.to_string(),
        "reason": reason,
    });
    if let Refusal::Owned { path, place, file } = refusal {
        body["path"] = json!(path);
        body["place"] = json!(place);
        body["file"] = json!(file);
    }
    let kind = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, kind, body.to_string()).into_response()
}
