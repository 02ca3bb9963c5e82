//! What all calls that change the mesh have in common: how they are made, why they are refused, and that they wait
//! until whoever asks is sent them.

use std::sync::Arc;

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    State,
    answer::{Answer, Answered, Tagged},
    guard::Wrote,
    how::How,
    plan, problem,
    problems::ProblemBody,
    rollout::{self, Waited},
    unkept,
};
use crate::{
    catalog::{Change, ChangeError, Changed, Current},
    clock,
    desired::{Desired, Editor, Refusal},
    mesh::Mesh,
    plan::{Told, words},
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

/// What a change came to.
pub(super) struct Made {
    pub(super) changed: Changed,
    waited: Option<Waited>,
}

impl Made {
    /// Nobody waited for it.
    pub(super) fn of(changed: Changed) -> Self {
        Self {
            changed,
            waited: None,
        }
    }
}

/// What a change came to, and what else is said of it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "{M}Change")]
pub(super) struct ChangeAnswer<M> {
    /// The revision in force.
    revision: u64,
    /// Whether it is a new one.
    changed: bool,
    /// What is otherwise than before, in words.
    mesh: Vec<Told>,
    /// It was only tried.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    /// What became of it, where somebody waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    wait: Option<Waited>,
    #[serde(flatten)]
    more: Option<M>,
}

/// An answer of a change.
pub(super) type ChangeOf<M> = Answer<Tagged<ChangeAnswer<M>>>;

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
    let mut made = Made::of(changed);
    if how.dry_run {
        return Ok(made);
    }
    let changed = &made.changed;
    // An error is the server's end.
    let mut published = state.publisher.published_mesh();
    let _ = published
        .wait_for(|published| *published >= changed.number)
        .await;
    if let Some(bound) = how.wait {
        let waited = rollout::wait(state, changed, &before, bound, how).await;
        match waited {
            Ok(waited) => made.waited = Some(waited),
            Err(refusal) => {
                let wrote = how.wrote(format!("{what}: rejected by Envoys, rolled back"));
                return Err(with(wrote, *refusal));
            }
        }
    }
    Ok(made)
}

/// What a person does with one thing: the revision's edit, and the answer with what is `shown` of it then.
pub(super) async fn done<M: Serialize>(
    state: &State,
    how: &How,
    (what, always_passes): (String, bool),
    edit: impl Fn(&mut Editor<'_>, &Mesh) -> Result<(), Refusal> + Send + 'static,
    shown: impl FnOnce() -> M,
) -> ChangeOf<M> {
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
        Ok(done) => {
            let more = (!how.dry_run).then(shown);
            made(how, what, done, more)
        }
        Err(refusal) => refusal.into(),
    }
}

/// The answer of a change that was made, with the revision's tag.
pub(super) fn made<M: Serialize>(
    how: &How,
    what: String,
    Made { changed, waited }: Made,
    more: Option<M>,
) -> ChangeOf<M> {
    let answer = ChangeAnswer {
        revision: changed.number,
        changed: changed.is_new,
        mesh: words(&changed.before.mesh, &changed.mesh, clock::now()),
        dry_run: how.dry_run,
        wait: waited,
        more,
    };
    let answered = Answered::of(&answer).tagged(changed.number);
    answered.with(how.wrote(what))
}

fn with(wrote: Wrote, mut response: Response) -> Response {
    response.extensions_mut().insert(wrote);
    response
}

/// Why nothing was changed.
pub(super) fn failed(error: ChangeError) -> Response {
    match error {
        ChangeError::Refused(refusal) => refused(&refusal),
        ChangeError::Mesh(problems) => {
            // Their places are those of a document that nobody wrote.
            let problems = problems.into_iter().map(|problem| problem.problem.into());
            plan::Refused::Mesh(problems.collect()).into_response()
        }
        ChangeError::Moved(newest) => moved(newest),
        ChangeError::Store(error) => unkept(&error),
    }
}

/// Another revision is in force than the caller believes.
pub(super) fn moved(newest: u64) -> Response {
    let said = format!(
        "If-Match: revision {newest} is in force; look at it and decide anew; nothing was changed"
    );
    problem(StatusCode::PRECONDITION_FAILED, &said)
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
    let body = ProblemBody::new(status, refusal.to_string()).because(reason);
    match refusal {
        Refusal::Owned { path, place, file } => body.owned(path, place.as_ref(), file),
        _ => body,
    }
    .into_response()
}
