//! `GET /api/v1/revisions`: the mesh in force, what was refused since, and those that came before;
//! `GET /api/v1/revisions/REVISION`: one of them.

use std::sync::Arc;

use axum::{extract::State as Extract, http::StatusCode};
use policy::time::CivilZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    State,
    answer::{Answer, Answered, Tagged},
    apply::unkept,
    asked::{NoQuery, PageOf, Path},
    made_apart, problem,
    problems::MeshDetail,
};
use crate::{
    catalog::{self, Refusal},
    clock, explain,
    page::{Listed, Page, Paged},
    plan::Told,
    raw::HeldFiles,
    store::{About, KEPT, Origin, StoreError},
};

/// Which revisions are shown.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RevisionsQuery")]
pub(super) struct Wanted {
    /// Those older than this one: the `next` of an earlier page.
    after: Option<u64>,
    /// At most so many.
    limit: Option<usize>,
    /// Of what.
    #[serde(default)]
    of: Of,
}

impl Paged for Wanted {
    const LIMIT: usize = 20;
    /// All that are kept.
    const LIMIT_MAX: usize = KEPT as usize;

    fn limit(&self) -> Option<usize> {
        self.limit
    }
}

/// What revisions are of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "RevisionsOf", inline)]
enum Of {
    #[default]
    Mesh,
    /// Raw resources.
    Resources,
    /// Instances that registered.
    Instances,
}

/// Revisions, and how everything stands.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Revisions {
    /// The revision of the mesh in force.
    current: Current,
    /// The freeze that holds.
    frozen: Option<String>,
    /// Mesh files that wait for its end.
    waiting: Option<Waiting>,
    /// Files of `--resources` that wait for its end.
    waiting_resources: Option<WaitingFiles>,
    /// Why what was offered since is not in force.
    refused: Option<Refused>,
    /// Of what the revisions below are.
    of: Of,
    /// The newest of them.
    newest: u64,
    /// Why there are none below, where the store cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    #[serde(flatten)]
    page: Page<Revision>,
}

/// A mesh in force.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CurrentRevision")]
struct Current {
    revision: u64,
    accepted_at: String,
    /// The mesh's name.
    mesh: String,
    /// What `--config` names, where files say what is wanted.
    file: Option<String>,
    /// The revision that a rollback holds in force until the files change.
    pinned: Option<u64>,
}

/// A kept revision.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Revision {
    revision: u64,
    accepted_at: String,
    origin: Origin,
    /// The name of the token that made it, or `file`.
    author: Option<String>,
    /// Why, or what was done.
    message: Option<String>,
}

impl Listed for Revision {
    type Key = u64;
    const NAME: &'static str = "revisions";

    fn key(&self) -> u64 {
        self.revision
    }
}

/// A kept revision with all that it said.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "WholeRevision")]
pub(super) struct Whole {
    #[serde(flatten)]
    revision: Revision,
    /// The revision that it held in force.
    pinned: Option<u64>,
    /// The mesh in one file.
    document: Value,
}

/// Files that wait for the end of a freeze.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "WaitingFile")]
struct Waiting {
    since: String,
    /// The windows and festivals.
    because: String,
    until: Option<String>,
    /// What of them is kept out.
    changes: Vec<Told>,
}

/// Files of `--resources` that wait for the end of a freeze.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "WaitingResources")]
pub(super) struct WaitingFiles {
    since: String,
    /// The windows and festivals.
    because: String,
    until: Option<String>,
    /// By name, those that are gone too.
    files: Vec<String>,
}

/// What was refused.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RefusedMesh")]
struct Refused {
    at: String,
    problems: Vec<MeshDetail>,
}

/// The revision in force; why what was offered since is not; and kept revisions, a page at a time, the newest
/// first.
pub(super) async fn revisions(
    Extract(state): Extract<State>,
    PageOf(wanted): PageOf<Wanted>,
) -> Answer<Tagged<Revisions>> {
    let number = state.revisions.borrow().number;
    let answer = made_apart(move || shown(&state, &wanted));
    answer.await.tagged(number)
}

/// One kept revision, with all that it said.
pub(super) async fn one(
    Extract(state): Extract<State>,
    Path(number): Path<u64>,
    _: NoQuery,
) -> Answered<Whole> {
    let kept = tokio::task::spawn_blocking(move || {
        let zone = state.revisions.borrow().mesh.timetable.zone().clone();
        let kept = state.catalog.kept(number)?;
        Ok::<_, StoreError>(kept.map(|(about, desired)| Whole {
            revision: revision((number, about), &zone),
            pinned: desired.layers().pinned,
            // It was read before it was kept.
            document: serde_json::from_str(desired.document()).unwrap_or_default(),
        }))
    });
    match kept.await {
        Ok(Ok(Some(shown))) => Answered::of(&shown),
        Ok(Ok(None)) => unkept(number).into(),
        Ok(Err(error)) => problem(StatusCode::SERVICE_UNAVAILABLE, &error).into(),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error).into(),
    }
}

fn shown(state: &State, wanted: &Wanted) -> Revisions {
    let current = Arc::clone(&state.revisions.borrow());
    let zone = current.mesh.timetable.zone();
    let refused = state.refusal.borrow().clone();
    let waiting = state.waiting.borrow().clone();
    let held = state.resources.waiting().borrow().clone();
    let frozen = current
        .mesh
        .freeze
        .at(&current.mesh.timetable, clock::now());
    let before = wanted.after.unwrap_or(u64::MAX);
    let all = LIMIT_OF_HISTORY;
    let (newest, history) = match wanted.of {
        Of::Mesh => (current.number, state.catalog.history(before, all)),
        Of::Resources => {
            let newest = state.raw.borrow().revision();
            (newest, state.resources.history(before, all))
        }
        Of::Instances => {
            let newest = state.instances.revision();
            (newest, state.instances.history(before, all))
        }
    };
    // What is in force is known all the same.
    let (kept, problem) = match history {
        Ok(kept) => (kept, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    Revisions {
        current: Current {
            revision: current.number,
            accepted_at: explain::rfc3339(zone, current.accepted_at),
            mesh: current.mesh.name.to_string(),
            file: state.catalog.file().map(|file| file.path().to_string()),
            pinned: current.desired.layers().pinned,
        },
        frozen: frozen.map(|frozen| frozen.sentence(zone)),
        waiting: waiting.map(|waiting| waiting_of(&waiting, zone)),
        waiting_resources: held.map(|held| waiting_files(&held, zone)),
        refused: refused.map(|refusal| refusal_of(&refusal, zone)),
        of: wanted.of,
        newest,
        problem,
        page: Page::of(kept, wanted.size(), |one| revision(one, zone)),
    }
}

/// All that are kept.
const LIMIT_OF_HISTORY: usize = KEPT as usize;

fn revision((number, about): (u64, About), zone: &CivilZone) -> Revision {
    Revision {
        revision: number,
        accepted_at: explain::rfc3339(zone, about.at),
        origin: about.origin,
        author: about.author,
        message: about.message,
    }
}

fn waiting_of(waiting: &catalog::Waiting, zone: &CivilZone) -> Waiting {
    Waiting {
        since: explain::rfc3339(zone, waiting.since),
        because: waiting.frozen.sentence(zone),
        until: waiting
            .frozen
            .until
            .map(|until| explain::rfc3339(zone, until)),
        changes: waiting.changes.clone(),
    }
}

/// As people are shown them.
pub(super) fn waiting_files(held: &HeldFiles, zone: &CivilZone) -> WaitingFiles {
    WaitingFiles {
        since: explain::rfc3339(zone, held.since),
        because: held.frozen.sentence(zone),
        until: held.frozen.until.map(|until| explain::rfc3339(zone, until)),
        files: held.files.clone(),
    }
}

fn refusal_of(refusal: &Refusal, zone: &CivilZone) -> Refused {
    Refused {
        at: explain::rfc3339(zone, refusal.at),
        problems: refusal.problems.iter().map(MeshDetail::from).collect(),
    }
}
