//! Overrides that end by themselves: `/api/v1/overrides`, and `/api/v1/services/SERVICE/override`.

use std::{sync::Arc, time::Duration};

use axum::extract::State as Extract;
use policy::{overrides::OverrideKind, time::parse_duration, units::ServiceName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    State,
    answer::{Answer, Tagged},
    asked::{Body, PageOf, Path},
    canaries::service_name,
    change::{ChangeOf, done, refused},
    how::How,
    made_apart,
};
use crate::{
    clock,
    desired::{Editor, OverrideStatus, Refusal, end_override, override_service, overrides},
    mesh::Mesh,
    page::{After, Page},
};

/// The shortest and the longest override.
const FOR_MIN: Duration = Duration::from_secs(1);
const FOR_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What is said of a service.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Override")]
pub(super) struct Said {
    /// `bypass`, `observe`, `peak` or `normal`.
    kind: Option<String>,
    /// For how long: 1s to 168h.
    #[serde(rename = "for")]
    span: Option<String>,
    /// Why: kept in the history and in the audit log.
    reason: Option<String>,
}

/// Why what was said is taken back.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Ending {
    /// Why: kept in the history and in the audit log.
    reason: Option<String>,
}

/// All that act.
pub(super) async fn list(
    Extract(state): Extract<State>,
    PageOf(wanted): PageOf<After>,
) -> Answer<Tagged<Page<OverrideStatus>>> {
    let number = state.revisions.borrow().number;
    let page = made_apart(move || wanted.page(all(&state)));
    page.await.tagged(number)
}

fn all(state: &State) -> Vec<OverrideStatus> {
    let current = Arc::clone(&state.revisions.borrow());
    overrides(&current.mesh, &current.desired, clock::now())
}

/// What is said of overrides after a change.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Overrides {
    /// All that act then.
    overrides: Vec<OverrideStatus>,
}

/// Says something of a service until a time.
pub(super) async fn begin(
    Extract(state): Extract<State>,
    Path(service): Path<String>,
    how: How,
    Body(said): Body<Said>,
) -> ChangeOf<Overrides> {
    let (name, kind, span, how) = match beginning(&service, said, how) {
        Ok(asked) => asked,
        Err(refusal) => return refused(&refusal).into(),
    };
    let by = how.by(clock::now());
    let until = by.at.saturating_add(span);
    let what = format!(
        "override {} of {name} for {}",
        kind.as_str(),
        policy::time::format_duration(span)
    );
    let edit = move |editor: &mut Editor<'_>, mesh: &Mesh| {
        override_service(editor, mesh, &name, kind, until, &by)
    };
    answered(&state, &how, what, edit).await
}

/// Takes back what was said of a service.
pub(super) async fn end(
    Extract(state): Extract<State>,
    Path(service): Path<String>,
    how: How,
    Body(Ending { reason }): Body<Ending>,
) -> ChangeOf<Overrides> {
    let named = service_name(&service).and_then(|name| Ok((name, how.and(false, reason)?)));
    let (name, how) = match named {
        Ok(asked) => asked,
        Err(refusal) => return refused(&refusal).into(),
    };
    let by = how.by(clock::now());
    let what = format!("override of {name} ends");
    let edit = move |editor: &mut Editor<'_>, mesh: &Mesh| end_override(editor, mesh, &name, &by);
    answered(&state, &how, what, edit).await
}

/// With all that act then. An override passes whatever is frozen.
async fn answered(
    state: &State,
    how: &How,
    what: String,
    edit: impl Fn(&mut Editor<'_>, &Mesh) -> Result<(), Refusal> + Send + 'static,
) -> ChangeOf<Overrides> {
    done(state, how, (what, true), edit, || Overrides {
        overrides: all(state),
    })
    .await
}

fn beginning(
    service: &str,
    said: Said,
    how: How,
) -> Result<(ServiceName, OverrideKind, Duration, How), Refusal> {
    let name = service_name(service)?;
    let (kind, span) = kind_and_span(&said)?;
    let how = how.and(false, said.reason)?;
    match how.has_reason() {
        true => Ok((name, kind, span, how)),
        false => Err(Refusal::Invalid(
            "reason: say why; it is kept in the history and in the audit log".into(),
        )),
    }
}

fn kind_and_span(said: &Said) -> Result<(OverrideKind, Duration), Refusal> {
    let invalid = |why: String| Refusal::Invalid(why);
    let mut kinds = OverrideKind::ALL.into_iter();
    let kind = kinds.find(|kind| Some(kind.as_str()) == said.kind.as_deref());
    let kind =
        kind.ok_or_else(|| invalid("kind: must be bypass, observe, peak or normal".into()))?;
    let span = said
        .span
        .as_deref()
        .and_then(|span| parse_duration(span).ok());
    let span = span.filter(|span| (FOR_MIN..=FOR_MAX).contains(span));
    let span = span.ok_or_else(|| invalid("for: must be 1s to 168h, such as 30m".into()))?;
    Ok((kind, span))
}
