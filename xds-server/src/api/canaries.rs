//! Canaries by hand: `/api/v1/canaries`. The place for a controller that does the same by itself is beside these
//! handlers: it would carry out the same verbs.

use std::sync::Arc;

use axum::{extract::State as Extract, http::StatusCode};
use policy::units::{BasisPoints, HeaderName, ServiceName, VersionLabel};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    State,
    answer::{Answer, Answered, Tagged},
    asked::{Body, PageOf, Path},
    change::{ChangeOf, done, refused},
    how::How,
    made_apart, problem,
};
use crate::{
    clock,
    desired::{CanaryStatus, Editor, Refusal, Start, Verb, carry_out, statuses},
    mesh::Mesh,
    page::{After, Page},
};

/// Of one call.
pub(super) const BODY_BYTES_MAX: usize = 16 * 1024;

/// What a call may say. Which of it, the verb decides.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CanaryCall")]
pub(super) struct Said {
    /// start: the label of the new version's endpoints.
    version: Option<String>,
    /// start, set: percent of the users.
    weight: Option<f64>,
    /// start: what keeps a user on one side.
    sticky_by: Option<StickyBy>,
    /// Pass a freeze of the mesh; say why with reason.
    #[serde(default)]
    force: bool,
    /// Why: kept in the history and in the audit log.
    reason: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StickyBy {
    /// A header of requests.
    header: String,
}

/// What somebody does.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("enum" = ["start", "set", "pause", "resume", "promote", "abort"]))]
pub(super) struct Word(String);

/// All canaries.
pub(super) async fn list(
    Extract(state): Extract<State>,
    PageOf(wanted): PageOf<After>,
) -> Answer<Tagged<Page<CanaryStatus>>> {
    let number = state.revisions.borrow().number;
    let page = made_apart(move || wanted.page(all(&state)));
    page.await.tagged(number)
}

/// That of one service.
pub(super) async fn one(
    Extract(state): Extract<State>,
    Path(service): Path<String>,
) -> Answer<Tagged<CanaryStatus>> {
    let number = state.revisions.borrow().number;
    match status(&state, &service) {
        Some(status) => Answered::of(&status).tagged(number),
        None => {
            let said = match knows(&state, &service) {
                true => format!("{service} has no canary"),
                false => format!("no service {service:?}; /services lists them"),
            };
            problem(StatusCode::NOT_FOUND, &said).into()
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

/// What is said of a canary after a change.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Canary {
    /// As it is then; null where it is none any more.
    canary: Option<CanaryStatus>,
}

/// Does something with a service's canary.
pub(super) async fn act(
    Extract(state): Extract<State>,
    Path((service, Word(word))): Path<(String, Word)>,
    how: How,
    Body(said): Body<Said>,
) -> ChangeOf<Canary> {
    let asked = read(&service, &word, said, how);
    let (name, verb, how) = match asked {
        Ok(asked) => asked,
        Err(refusal) => return refused(&refusal).into(),
    };
    let by = how.by(clock::now());
    let what = verb.sentence(name.as_str());
    let asked = (what, verb.always_passes());
    let edit =
        move |editor: &mut Editor<'_>, mesh: &Mesh| carry_out(editor, mesh, &name, &verb, &by);
    done(&state, &how, asked, edit, || Canary {
        canary: status(&state, &service),
    })
    .await
}

fn read(
    service: &str,
    word: &str,
    mut said: Said,
    how: How,
) -> Result<(ServiceName, Verb, How), Refusal> {
    let name = service_name(service)?;
    let verb = verb_of(word, &mut said)?;
    Ok((name, verb, how.and(said.force, said.reason)?))
}

/// The name in a path.
pub(super) fn service_name(service: &str) -> Result<ServiceName, Refusal> {
    ServiceName::new(service).map_err(|error| Refusal::Invalid(format!("service: {error}")))
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
    use serde_json::{Value, json};

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
