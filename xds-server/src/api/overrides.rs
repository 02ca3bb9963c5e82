//! Overrides that end by themselves: `/api/v1/overrides`, and `/api/v1/services/SERVICE/override`.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Bytes,
    extract::{Path, State as Extract, rejection::BytesRejection},
    response::Response,
};
use policy::{overrides::OverrideKind, time::parse_duration, units::ServiceName};
use serde::Deserialize;
use serde_json::json;

use super::{
    State,
    canaries::service_and_body,
    change::{done, refused},
    how::How,
    made_apart, problem,
};
use crate::{
    clock,
    desired::{Editor, OverrideStatus, Refusal, end_override, override_service, overrides},
    mesh::Mesh,
};

/// The shortest and the longest override.
const FOR_MIN: Duration = Duration::from_secs(1);
const FOR_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    kind: Option<String>,
    #[serde(rename = "for")]
    span: Option<String>,
    reason: Option<String>,
}

/// All that act.
pub(super) async fn list(Extract(state): Extract<State>) -> Response {
    made_apart(move || json!({"overrides": all(&state)})).await
}

fn all(state: &State) -> Vec<OverrideStatus> {
    let current = Arc::clone(&state.revisions.borrow());
    overrides(&current.mesh, &current.desired, clock::now())
}

/// Says something of a service until a time.
pub(super) async fn begin(
    Extract(state): Extract<State>,
    Path(service): Path<String>,
    how: How,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(error) => return problem(error.status(), &error.body_text()),
    };
    let (name, kind, span, how) = match beginning(&service, &body, how) {
        Ok(asked) => asked,
        Err(refusal) => return refused(&refusal),
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
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(error) => return problem(error.status(), &error.body_text()),
    };
    let (name, how) = match ending(&service, &body, how) {
        Ok(asked) => asked,
        Err(refusal) => return refused(&refusal),
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
) -> Response {
    done(state, how, (what, true), edit, |answer| {
        answer["overrides"] = json!(all(state));
    })
    .await
}

fn beginning(
    service: &str,
    body: &[u8],
    how: How,
) -> Result<(ServiceName, OverrideKind, Duration, How), Refusal> {
    let (name, said): (_, Said) = service_and_body(service, body)?;
    let (kind, span) = kind_and_span(&said)?;
    let how = how.and(false, said.reason)?;
    match how.has_reason() {
        true => Ok((name, kind, span, how)),
        false => Err(Refusal::Invalid(
            "reason: say why; it is kept in the history and in the audit log".into(),
        )),
    }
}

fn ending(service: &str, body: &[u8], how: How) -> Result<(ServiceName, How), Refusal> {
    let (name, said): (_, Said) = service_and_body(service, body)?;
    match (said.kind, said.span) {
        (None, None) => Ok((name, how.and(false, said.reason)?)),
        _ => Err(Refusal::Invalid("end takes a reason only".into())),
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
