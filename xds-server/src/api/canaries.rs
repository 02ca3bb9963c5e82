//! Canaries by hand: `/api/v1/canaries`. The place for a controller that does the same by itself is beside these
//! handlers: it would carry out the same verbs.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State as Extract, rejection::BytesRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use policy::units::{BasisPoints, HeaderName, ServiceName, VersionLabel};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;

use super::{
    State,
    change::{done, refused},
    how::How,
    made_apart, problem,
};
use crate::{
    clock,
    desired::{CanaryStatus, Editor, Refusal, Start, Verb, carry_out, statuses},
    mesh::Mesh,
};

/// Of one call.
pub(super) const BODY_BYTES_MAX: usize = 16 * 1024;

/// What a call may say. Which of it, the verb decides.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    version: Option<String>,
    weight: Option<f64>,
    sticky_by: Option<StickyBy>,
    #[serde(default)]
    force: bool,
    reason: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StickyBy {
    header: String,
}

/// All canaries.
pub(super) async fn list(Extract(state): Extract<State>) -> Response {
    made_apart(move || json!({"canaries": all(&state)})).await
}

/// That of one service.
pub(super) async fn one(Extract(state): Extract<State>, Path(service): Path<String>) -> Response {
    match status(&state, &service) {
        Some(status) => Json(status).into_response(),
        None => {
            let said = match knows(&state, &service) {
                true => format!("{service} has no canary"),
                false => format!("no service {service:?}; /services lists them"),
            };
            problem(StatusCode::NOT_FOUND, &said)
        }
    }
}

fn all(state: &State) -> Vec<CanaryStatus> {
    let current = Arc::clone(&state.revisions.borrow());
    let file = state.catalog.file();
    statuses(
        &current.mesh,
        &current.desired,
        file.as_deref(),
        clock::now(),
    )
}

/// What is known of one service's canary.
pub(super) fn status(state: &State, service: &str) -> Option<CanaryStatus> {
    all(state).into_iter().find(|one| one.service == service)
}

fn knows(state: &State, service: &str) -> bool {
    let mesh = Arc::clone(&state.revisions.borrow().mesh);
    mesh.services.keys().any(|name| name.as_str() == service)
}

/// Does something with a service's canary.
pub(super) async fn act(
    Extract(state): Extract<State>,
    Path((service, verb)): Path<(String, String)>,
    how: How,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(error) => return problem(error.status(), &error.body_text()),
    };
    let asked = read(&service, &verb, &body)
        .and_then(|(name, verb, said)| Ok((name, verb, how.and(said.force, said.reason)?)));
    let (name, verb, how) = match asked {
        Ok(asked) => asked,
        Err(refusal) => return refused(&refusal),
    };
    let by = how.by(clock::now());
    let what = verb.sentence(name.as_str());
    let asked = (what, verb.always_passes());
    let edit =
        move |editor: &mut Editor<'_>, mesh: &Mesh| carry_out(editor, mesh, &name, &verb, &by);
    done(&state, &how, asked, edit, |answer| {
        answer["canary"] = json!(status(&state, &service));
    })
    .await
}

fn read(service: &str, verb: &str, body: &[u8]) -> Result<(ServiceName, Verb, Said), Refusal> {
    let (name, mut said): (_, Said) = service_and_body(service, body)?;
    let verb = verb_of(verb, &mut said)?;
    Ok((name, verb, said))
}

/// A service's name, and a body that may be left out.
pub(super) fn service_and_body<T: DeserializeOwned>(
    service: &str,
    body: &[u8],
) -> Result<(ServiceName, T), Refusal> {
    let name = ServiceName::new(service);
    let name = name.map_err(|error| Refusal::Invalid(format!("service: {error}")))?;
    let body = match body.trim_ascii() {
        b"" => b"{}",
        said => said,
    };
    let said = serde_json::from_slice(body);
    let said = said.map_err(|error| Refusal::Invalid(format!("the body: {error}")))?;
    Ok((name, said))
}

fn verb_of(word: &str, said: &mut Said) -> Result<Verb, Refusal> {
    let invalid = |why: String| Refusal::Invalid(why);
    let (version, weight, sticky_by) = (
        said.version.take(),
        said.weight.take(),
        said.sticky_by.take(),
    );
    let weight_of = |weight: Option<f64>| {
        let weight = weight.ok_or_else(|| invalid("weight: must be given, in percent".into()))?;
        BasisPoints::from_percent(weight).map_err(|error| invalid(format!("weight: {error}")))
    };
    let verb = match word {
        "start" => {
            let version = version.ok_or_else(|| invalid("version: must be given".into()))?;
            let version = VersionLabel::new(&version)
                .map_err(|error| invalid(format!("version: {error}")))?;
            let sticky_by = sticky_by.map(|by| HeaderName::new(&by.header)).transpose();
            let sticky_by =
                sticky_by.map_err(|error| invalid(format!("sticky_by.header: {error}")))?;
            let weight = weight_of(weight)?;
            return Ok(Verb::Start(Start {
                version,
                weight,
                sticky_by,
            }));
        }
        "set" => {
            let weight = weight_of(weight)?;
            if version.is_none() && sticky_by.is_none() {
                return Ok(Verb::Set(weight));
            }
            return Err(invalid("set takes a weight, force and reason".into()));
        }
        "pause" => Verb::Pause,
        "resume" => Verb::Resume,
        "promote" => Verb::Promote,
        "abort" => Verb::Abort,
        _ => {
            return Err(Refusal::Unknown(format!(
                "no verb {word:?}; there are start, set, pause, resume, promote and abort"
            )));
        }
    };
    if version.is_some() || weight.is_some() || sticky_by.is_some() {
        return Err(invalid(format!("{word} takes force and reason only")));
    }
    Ok(verb)
}

/// What `explain` says of operations on a service's canary.
pub(super) fn sentence(state: &State, service: &str) -> Option<String> {
    let status = status(state, service)?;
    let operation = status.operation?;
    Some(format!(
        "canary {}: {}",
        status.version,
        operation.sentence()
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn each_verb_takes_what_is_its_own() {
        let verb = |word: &str, body: Value| {
            let mut said: Said = serde_json::from_value(body).unwrap();
            verb_of(word, &mut said)
        };
        let start = json!({"version": "v2", "weight": 10, "sticky_by": {"header": "x-user-id"}});
        assert!(matches!(verb("start", start.clone()), Ok(Verb::Start(_))));
        assert!(matches!(
            verb("set", json!({"weight": 12.5})),
            Ok(Verb::Set(_))
        ));
        assert_eq!(verb("pause", json!({"force": true})), Ok(Verb::Pause));
        for (word, body) in [
            ("start", json!({"version": "v2"})),
            ("start", json!({"weight": 1})),
            ("start", json!({"version": "v2", "weight": 101})),
            ("start", json!({"version": "stable", "weight": 1})),
            ("set", json!({})),
            ("set", start.clone()),
            ("abort", json!({"weight": 1})),
        ] {
            assert!(
                matches!(verb(word, body.clone()), Err(Refusal::Invalid(_))),
                "{word} {body}"
            );
        }
        assert!(matches!(verb("stop", json!({})), Err(Refusal::Unknown(_))));
        assert!(serde_json::from_str::<Said>("{\"weigth\": 1}").is_err());
    }
}
