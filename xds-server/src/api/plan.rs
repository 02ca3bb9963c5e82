//! `POST /api/v1/plan`: what a mesh file would change, were it put in force now. Nothing is.

use std::{
    collections::HashSet,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use axum::{
    body::Bytes,
    extract::{FromRequest, Request, State as Extract},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use policy::time::WallTime;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::{
    State,
    answer::Answered,
    asked::{Content, Query, instant},
    made_apart,
    operation::{Operation, Takes},
    problem,
    problems::{Detail, ProblemBody},
};
use crate::{
    catalog::Catalog,
    desired::{Desired, FileContent, Layers},
    fleet::Fleet as Connected,
    mesh::{
        Document, FILES_BYTES_MAX, FILES_MAX, FILES_TOO_LARGE, Labels, Mesh, MeshFile, MeshProblem,
        include_problem, includes,
    },
    plan::{Fleet, Plan, plan},
    resource::NodeKey,
};

/// The files of a mesh hold 16 MiB at most; as texts in JSON they are longer.
pub(super) const BODY_BYTES_MAX: usize = 40 * 1024 * 1024;
/// Each plan may compile two meshes; who comes later waits.
pub(super) const PLANS_MAX: usize = 2;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PlanQuery")]
pub(super) struct Asked {
    /// RFC 3339: as of another time than now.
    at: Option<String>,
}

/// Files as `mumbai-mesh plan` sends them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "MeshFiles")]
struct Files {
    /// All files of a mesh, in the order in which they are read.
    files: Vec<File>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "MeshFile")]
struct File {
    /// How problems call it.
    name: String,
    /// All of it, YAML.
    text: String,
}

/// A mesh file as it stands, or several of them.
pub(super) struct MeshFiles(pub(super) Bytes);

impl FromRequest<State> for MeshFiles {
    type Rejection = Response;

    async fn from_request(request: Request, state: &State) -> Result<Self, Response> {
        let Content(body, _) = Content::<()>::from_request(request, state).await?;
        Ok(Self(body))
    }
}

impl Takes for MeshFiles {
    fn tell(operation: &mut Operation<'_>) {
        let files = operation.takes.subschema_for::<Files>();
        operation.body(
            true,
            &json!({
                "application/yaml": {"schema": {"type": "string", "description": "A mesh file."}},
                "application/json": {"schema": files},
            }),
        );
    }
}

/// What a mesh file would change.
pub(super) async fn planned(
    Extract(state): Extract<State>,
    Query(Asked { at }): Query<Asked>,
    MeshFiles(body): MeshFiles,
) -> Answered<Plan> {
    let now = match instant(at.as_deref()) {
        Ok(at) => at,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error).into(),
    };
    let reading = {
        let (defaults, instances) = (state.defaults.clone(), Arc::clone(&state.instances));
        let (catalog, current) = (Arc::clone(&state.catalog), state.revisions.borrow().clone());
        tokio::task::spawn_blocking(move || {
            let files = read_files(&body)?;
            let over = |mesh: &Mesh| instances.over(mesh);
            let document = Document::new(&files, &[]);
            let mesh = document.mesh_with(&defaults, Labels::Over(&over));
            let mesh = mesh.map_err(Refused::Mesh)?;
            let laid = laid_over(&catalog, &document, &current.desired);
            Ok::<_, Refused>(laid.unwrap_or(mesh))
        })
    };
    let offered = match reading.await {
        Ok(Ok(mesh)) => Arc::new(mesh),
        Ok(Err(refused)) => return refused.into_response().into(),
        Err(error) => return problem(StatusCode::INTERNAL_SERVER_ERROR, &error).into(),
    };
    let revision = Arc::clone(&state.revisions.borrow());
    let before = Arc::clone(&revision.mesh);
    // Who registered stays, whatever the file says.
    let offered = Arc::new(state.instances.over(&offered));
    differing(state, before, offered, now, revision.number).await
}

/// The mesh of a document with what stays over it, whatever it says: overrides, and what people did with canaries. None
/// where nothing does.
fn laid_over(catalog: &Catalog, document: &Document<'_>, current: &Desired) -> Option<Mesh> {
    if current.layers().over_files() == Layers::default() {
        return None;
    }
    let text = document.tree().to_string().into();
    let desired = current.after_files(&FileContent::new(String::new(), text, Vec::new()));
    // Where it does not fit, it gives way.
    catalog.read(&desired, "mesh").ok()
}

/// What would change from one mesh to another, for the proxies that are connected.
pub(super) async fn differing(
    state: State,
    before: Arc<Mesh>,
    after: Arc<Mesh>,
    now: WallTime,
    revision: u64,
) -> Answered<Plan> {
    let Ok(_place) = Arc::clone(&state.plans).acquire_owned().await else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, &"the server is stopping").into();
    };
    made_apart(move || {
        let raw = Arc::clone(&state.raw.borrow());
        let fleet = Fleet {
            nodes: connected(&state.fleet),
            over: &|base, node| raw.over(base, &raw.layers(node)),
        };
        let (encoder, redactor) = (&state.encoder, &state.redactor);
        let mut plan = plan(&before, &after, now, encoder, redactor, Some(&fleet));
        plan.revision = Some(revision);
        plan
    })
    .await
}

/// A mesh that cannot be used.
pub(super) enum Refused {
    Body(String),
    /// It holds more than a mesh may.
    TooLarge,
    Mesh(Vec<MeshProblem>),
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let problems = match self {
            Self::Body(why) => return problem(StatusCode::BAD_REQUEST, &why),
            Self::TooLarge => return problem(StatusCode::PAYLOAD_TOO_LARGE, &FILES_TOO_LARGE),
            Self::Mesh(problems) => problems,
        };
        let first = problems.first().map(ToString::to_string);
        let count = problems.len();
        let detail = format!("{count} problem(s); {}", first.unwrap_or_default());
        let all = problems.iter().map(|problem| Detail::Mesh(problem.into()));
        ProblemBody::new(StatusCode::BAD_REQUEST, detail)
            .with(all.collect())
            .into_response()
    }
}

/// One file as it stands, or `{"files": [{"name": …, "text": …}]}`, which no mesh file could be.
pub(super) fn read_files(body: &[u8]) -> Result<Vec<MeshFile>, Refused> {
    if let Ok(Files { files }) = serde_json::from_slice(body) {
        if files.len() > FILES_MAX {
            let said = format!("files: {} are more than {FILES_MAX}", files.len());
            return Err(Refused::Body(said));
        }
        if files.iter().map(|file| file.text.len()).sum::<usize>() > FILES_BYTES_MAX {
            return Err(Refused::TooLarge);
        }
        let file = |File { name, text }| MeshFile {
            name,
            text: text.into(),
        };
        let files: Vec<MeshFile> = files.into_iter().map(file).collect();
        let missing = not_sent(&files);
        if !missing.is_empty() {
            return Err(Refused::Mesh(missing));
        }
        return Ok(files);
    }
    if body.len() > FILES_BYTES_MAX {
        return Err(Refused::TooLarge);
    }
    let text = str::from_utf8(body).map_err(|_| Refused::Body("the body is no UTF-8".into()))?;
    let file = MeshFile {
        name: "mesh".into(),
        text: text.into(),
    };
    if let Some(include) = includes(text).first() {
        let message = format!("{include:?}: a file that is sent alone can include none");
        let hint = "mumbai-mesh plan sends all files of a mesh";
        let problem = include_problem(&file, 0, message, Some(hint.into()));
        return Err(Refused::Mesh(vec![problem]));
    }
    Ok(vec![file])
}

/// Includes of files that did not come with those that include them. Who sends files may name them from elsewhere than
/// from beside each other, so the end of a name counts.
fn not_sent(files: &[MeshFile]) -> Vec<MeshProblem> {
    let mut problems = Vec::new();
    for file in files {
        for (index, include) in includes(&file.text).iter().enumerate() {
            let mut end = PathBuf::new();
            for part in Path::new(include).components() {
                match part {
                    Component::ParentDir => _ = end.pop(),
                    Component::CurDir => {}
                    part => end.push(part),
                }
            }
            if files
                .iter()
                .any(|sent| Path::new(&sent.name).ends_with(&end))
            {
                continue;
            }
            let message = format!("{include:?} was not sent with it");
            let hint = "send every file of the mesh under the path that includes it";
            problems.push(include_problem(file, index, message, Some(hint.into())));
        }
    }
    problems
}

/// Each node once, however many streams it has.
fn connected(fleet: &Connected) -> Vec<NodeKey> {
    let nodes: HashSet<NodeKey> = fleet
        .streams()
        .iter()
        .map(|stream| NodeKey {
            id: stream.node.id.clone(),
            cluster: stream.node.cluster.clone(),
            zone: stream.node.zone.clone(),
            ..NodeKey::default()
        })
        .collect();
    nodes.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mesh_that_is_sent_holds_no_more_than_one_in_files() {
        let largest = "#".repeat(FILES_BYTES_MAX);
        let half = &largest[FILES_BYTES_MAX / 2..];
        let files = |texts: &[&str]| {
            let file = |text: &&str| json!({"name": "a.yaml", "text": text});
            let files: Vec<_> = texts.iter().map(file).collect();
            json!({"files": files}).to_string()
        };
        let is_refused = |body: &str| matches!(read_files(body.as_bytes()), Err(Refused::TooLarge));
        assert!(!is_refused(&largest) && is_refused(&format!("{largest}#")));
        assert!(!is_refused(&files(&[half, half])) && is_refused(&files(&[half, half, "#"])));
    }
}
