//! Refusals, as `application/problem+json` (RFC 9457).

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use policy::reader;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    mesh::{MeshProblem, Place},
    proxies::rollout::Rejection,
    raw,
    store::StoreError,
};

/// Why a call was refused.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(super) struct ProblemBody {
    /// The status in words.
    title: &'static str,
    /// The status.
    status: u16,
    /// What is wrong, with its fix.
    detail: String,
    /// For programs: `file` (files say it), `frozen`, `state` (not as things stand), `unknown`, `invalid`, or `rejected`
    /// (by an Envoy).
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Of `file`: what the files say.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// Of `file`: where they say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<Place>,
    /// Of `file`: the path of `--config`.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// All that is wrong with what was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    problems: Option<Vec<Detail>>,
    /// Of `rejected`.
    #[serde(flatten)]
    rejected: Option<Rejected>,
}

/// A change that an Envoy rejected.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RejectedChange")]
pub(super) struct Rejected {
    /// The revision that was rejected.
    pub(super) revision: u64,
    /// The one that says again what was in force before it; null where that could not be.
    pub(super) rolled_back_by: Option<u64>,
    /// By whom, and in which words.
    pub(super) rejected: Vec<Rejection>,
}

/// One thing that is wrong.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "ProblemDetail")]
pub(super) enum Detail {
    Mesh(MeshDetail),
    Resource(raw::Problem),
    Field(FieldDetail),
}

/// Something that is wrong with a mesh file.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "MeshProblem")]
pub(super) struct MeshDetail {
    /// In which file, and where in it.
    place: Option<Place>,
    /// Of which field.
    path: String,
    /// What is wrong.
    message: String,
    /// What to do.
    hint: Option<String>,
}

/// Something that is wrong with a field.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "FieldProblem")]
pub(super) struct FieldDetail {
    /// Which field.
    path: String,
    /// What is wrong.
    message: String,
    /// What to do.
    hint: Option<String>,
}

impl From<&MeshProblem> for MeshDetail {
    fn from(MeshProblem { place, problem }: &MeshProblem) -> Self {
        Self {
            place: place.clone(),
            path: problem.path.clone(),
            message: problem.message.clone(),
            hint: problem.hint.clone(),
        }
    }
}

impl From<&reader::Problem> for FieldDetail {
    fn from(problem: &reader::Problem) -> Self {
        Self {
            path: problem.path.clone(),
            message: problem.message.clone(),
            hint: problem.hint.clone(),
        }
    }
}

impl ProblemBody {
    /// Its media type.
    pub(super) const TYPE: &str = "application/problem+json";

    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: detail.into(),
            ..Self::default()
        }
    }

    /// As programs tell it apart.
    pub(super) fn because(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// All that is wrong.
    pub(super) fn with(mut self, problems: Vec<Detail>) -> Self {
        self.problems = Some(problems);
        self
    }

    /// Files say it.
    pub(super) fn owned(mut self, path: &str, place: Option<&Place>, file: &str) -> Self {
        self.path = Some(path.into());
        self.place = place.cloned();
        self.file = Some(file.into());
        self
    }

    /// An Envoy rejected it.
    pub(super) fn rejected(mut self, rejected: Rejected) -> Self {
        self.rejected = Some(rejected);
        self.because("rejected")
    }
}

impl IntoResponse for ProblemBody {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let kind = [(header::CONTENT_TYPE, Self::TYPE)];
        // Texts and numbers alone: it cannot fail.
        let body = serde_json::to_string(&self).unwrap_or_default();
        (status, kind, body).into_response()
    }
}

/// A refusal of nothing but a sentence.
pub(super) fn problem(status: StatusCode, detail: &dyn ToString) -> Response {
    ProblemBody::new(status, detail.to_string()).into_response()
}

/// A write that the store did not take.
pub(super) fn unkept(error: &StoreError) -> Response {
    let (status, what) = match error {
        StoreError::Full { .. } => (StatusCode::INSUFFICIENT_STORAGE, "nothing was applied: "),
        StoreError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "nothing was applied: "),
        StoreError::Uncertain { .. } => (StatusCode::SERVICE_UNAVAILABLE, ""),
        StoreError::Moved { .. }
        | StoreError::InUse(_)
        | StoreError::Damaged { .. }
        | StoreError::Lost { .. }
        | StoreError::Broken { .. } => (StatusCode::SERVICE_UNAVAILABLE, "nothing was applied: "),
    };
    problem(status, &format!("{what}{error}"))
}
