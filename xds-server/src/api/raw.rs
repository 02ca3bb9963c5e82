//! Raw resources: `POST /api/v1/resources:apply` and `GET /api/v1/resources`.

use std::sync::Arc;

use axum::{
    extract::State as Extract,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::warn;

use super::{
    State,
    answer::{Answer, Answered, Tagged},
    asked::{Content, PageOf},
    change::{self, while_frozen},
    guard::Wrote,
    how::Unawaited,
    made_apart, problem,
    problems::{Detail, ProblemBody},
    revisions::{WaitingFiles, waiting_files},
    unkept,
};
use crate::{
    page::{Listed, Page, Paged},
    raw::{Applied, CallForm, Entry, FileProblem, Key, Mode, Nodes, RawState, Refusal, Source},
    redact::Redactor,
    resource::ResourceType,
};

/// Of one call.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What became of a call.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AppliedResources")]
pub(super) struct Outcome {
    /// The revision of raw resources in force.
    revision: u64,
    /// It was only tried.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    /// How many resources would be set or removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<usize>,
}

/// Sets and removes resources: all of a call, or nothing.
pub(super) async fn apply(
    Extract(state): Extract<State>,
    Unawaited(how): Unawaited,
    Content(body, _): Content<CallForm>,
) -> Answer<Tagged<Outcome>> {
    let how = match how.checked() {
        Ok(how) => how,
        Err(refusal) => return change::refused(&refusal).into(),
    };
    let mode = if how.dry_run {
        Mode::DryRun
    } else {
        Mode::Apply
    };
    if mode == Mode::Apply
        && let Err(refusal) = while_frozen(&state, &how)
    {
        return refusal.into();
    }
    // It waits for the disk.
    let (resources, about) = (Arc::clone(&state.resources), how.about("resources:apply"));
    let if_match = how.if_match.clone();
    let applying = tokio::task::spawn_blocking(move || {
        resources.apply_if(&body, mode, &about, if_match.as_ref())
    });
    let applied = match applying.await {
        Ok(applied) => applied,
        Err(error) => return problem(StatusCode::INTERNAL_SERVER_ERROR, &error).into(),
    };
    let is_dry = mode == Mode::DryRun;
    let Applied { revision, changes } = match applied {
        Ok(applied) => applied,
        Err(refusal) => {
            let wrote = match mode {
                Mode::Apply => Wrote::done("nothing was applied"),
                Mode::DryRun => Wrote::Nothing,
            };
            return Answer::from(refused(refusal)).with(wrote);
        }
    };
    if !is_dry {
        // Who connects after the answer is sent what was applied. An error is the server's end.
        let mut published = state.published.clone();
        let _ = published.wait_for(|published| *published >= revision).await;
    }
    let answer = Outcome {
        revision,
        dry_run: is_dry,
        changes: is_dry.then_some(changes),
    };
    let wrote = how.wrote(format!("resources set or removed: {changes}"));
    Answered::of(&answer).tagged(revision).with(wrote)
}

fn refused(refusal: Refusal) -> Response {
    let (status, problems, sentence) = match refusal {
        Refusal::Invalid(problems) => (
            StatusCode::BAD_REQUEST,
            problems,
            "problem(s); nothing was applied",
        ),
        Refusal::Conflict(problems) => (
            StatusCode::CONFLICT,
            problems,
            "resource(s) that somebody else holds; nothing was applied",
        ),
        Refusal::Moved(newest) => return change::moved(newest),
        Refusal::Store(error) => {
            warn!(%error, "resources were not applied");
            return unkept(&error);
        }
    };
    let first = problems
        .first()
        .map(ToString::to_string)
        .unwrap_or_default();
    let detail = format!("{} {sentence}: {first}", problems.len());
    ProblemBody::new(status, detail)
        .with(problems.into_iter().map(Detail::Resource).collect())
        .into_response()
}

/// Which resources are shown.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ResourcesQuery")]
pub(super) struct Wanted {
    /// Those of this type alone, by its URL.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Those of this name alone.
    name: Option<String>,
    /// With their JSON; when it is left out, where a name is given.
    full: Option<bool>,
    /// Those after this one: the `next` of an earlier page.
    after: Option<String>,
    /// At most so many.
    limit: Option<usize>,
}

impl Paged for Wanted {
    fn limit(&self) -> Option<usize> {
        self.limit
    }
}

/// Raw resources in force.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RawResources")]
pub(super) struct Resources {
    /// Their revision.
    revision: u64,
    /// What is wrong with files of `--resources`.
    problems: Vec<FileProblem>,
    /// Files of `--resources` that wait for the end of a freeze.
    waiting: Option<WaitingFiles>,
    #[serde(flatten)]
    page: Page<Shown>,
}

/// One resource, as people are shown it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RawResource")]
struct Shown {
    /// Its type's URL.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Its name.
    name: String,
    /// Whose Envoys are sent it; null for all.
    nodes: Nodes,
    /// Hash of its content.
    version: String,
    /// `api` or `file`.
    source: &'static str,
    /// Which file.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// Whether it replaces what the mesh produces under its name.
    #[serde(rename = "override")]
    overrides: bool,
    /// As `set` takes it, private keys redacted.
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<Value>,
    #[serde(skip)]
    mark: String,
}

impl Listed for Shown {
    type Key = String;
    const NAME: &'static str = "resources";

    fn key(&self) -> String {
        self.mark.clone()
    }
}

/// Those in force.
pub(super) async fn list(
    Extract(state): Extract<State>,
    PageOf(wanted): PageOf<Wanted>,
) -> Answer<Tagged<Resources>> {
    let refusal = |said: String| problem(StatusCode::BAD_REQUEST, &said).into();
    let kind = match wanted.kind.as_deref() {
        None => None,
        Some(url) => match ResourceType::from_url(url) {
            Some(kind) => Some(kind),
            None => {
                let known = ResourceType::IN_ORDER.map(ResourceType::url).join(", ");
                return refusal(format!(
                    "type={url:?} is not served; must be one of {known}"
                ));
            }
        },
    };
    let after = match wanted.after.as_deref().map(Key::of_mark) {
        None => None,
        Some(Some(key)) => Some(key),
        Some(None) => return refusal("after: must be the next of an earlier page".into()),
    };
    let raw = Arc::clone(&state.raw.borrow());
    let revision = raw.revision();
    let page = made_apart(move || page(&state, &raw, kind, after.as_ref(), &wanted));
    page.await.tagged(revision)
}

fn page(
    state: &State,
    raw: &Arc<RawState>,
    kind: Option<ResourceType>,
    after: Option<&Key>,
    wanted: &Wanted,
) -> Resources {
    let is_full = wanted.full.unwrap_or(wanted.name.is_some());
    let is_wanted = |key: &Key| {
        kind.is_none_or(|kind| key.kind == kind)
            && wanted.name.as_deref().is_none_or(|name| *key.name == *name)
            && after.is_none_or(|after| key > after)
    };
    let mut problems: Vec<FileProblem> = state.resource_problems.borrow().to_vec();
    problems.extend(state.resources.hidden_by_the_mesh(raw));
    let mesh = Arc::clone(&state.revisions.borrow().mesh);
    let held = state.resources.waiting().borrow().clone();
    let rest = raw.iter().filter(|(key, _)| is_wanted(key));
    Resources {
        revision: raw.revision(),
        problems,
        waiting: held.map(|held| waiting_files(&held, mesh.timetable.zone())),
        page: Page::of(rest, wanted.size(), |(key, entry)| {
            listed(key, entry, is_full.then_some(&*state.redactor))
        }),
    }
}

fn listed(key: &Key, entry: &Entry, full: Option<&Redactor>) -> Shown {
    let (source, file) = match &entry.source {
        Source::Api => ("api", None),
        Source::File(file) => ("file", Some(file.to_string())),
    };
    Shown {
        kind: key.kind.url(),
        name: key.name.to_string(),
        nodes: key.nodes.clone(),
        version: entry.resource.version.to_string(),
        source,
        file,
        overrides: entry.overrides,
        resource: full.and_then(|redactor| shown(key.kind, entry, redactor)),
        mark: key.mark(),
    }
}

/// As `set` takes it, but for what is secret.
fn shown(kind: ResourceType, entry: &Entry, redactor: &Redactor) -> Option<Value> {
    let mut shown = json!({"@type": kind.url()});
    let resource = redactor.json(kind, &entry.resource.body())?;
    let members = shown.as_object_mut()?;
    members.extend(resource.as_object()?.clone());
    Some(shown)
}
