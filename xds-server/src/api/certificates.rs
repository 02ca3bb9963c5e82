//! `GET /api/v1/certificates`: which certificates are in use; no key is ever shown. `POST
//! /api/v1/certificates/NAME/export`: a new one with its key, for a place that is not served by xDS.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State as Extract},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use policy::units::ServiceName;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

use super::{State, problem};
use crate::{
    bootstrap::Member,
    explain,
    pki::{Credentials, Identity, node_id_problem},
};

/// What is asked for is a name.
pub(super) const EXPORT_BYTES_MAX: usize = 4096;

pub(super) async fn certificates(Extract(state): Extract<State>) -> Json<Value> {
    let mesh = Arc::clone(&state.revisions.borrow().mesh);
    let zone = mesh.timetable.zone();
    let shown = state.authority.list().into_iter().map(|one| {
        json!({
            "kind": one.kind,
            "name": one.name,
            "spiffe_id": (!one.spiffe_id.is_empty()).then_some(one.spiffe_id),
            "serial": one.serial,
            "not_before": explain::rfc3339(zone, one.not_before),
            "not_after": explain::rfc3339(zone, one.not_after),
            "renews_at": one.renews_at.map(|at| explain::rfc3339(zone, at)),
            "problem": one.problem,
        })
    });
    let shown: Vec<Value> = shown.collect();
    Json(json!({"certificates": shown}))
}

/// Of a certificate that is exported.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// The `node.id` for which it is good at the xDS server; the member's own name by default.
    node_id: Option<String>,
}

/// A certificate with its key.
#[derive(Serialize)]
struct Exported<'c> {
    spiffe_id: String,
    node_id: &'c str,
    chain: &'c str,
    key: &'c str,
    bundle: &'c str,
    not_after: String,
}

pub(super) async fn export(
    Extract(state): Extract<State>,
    Path(name): Path<String>,
    body: Bytes,
) -> Response {
    let asked: Asked = match body.is_empty() {
        true => Asked::default(),
        false => match serde_json::from_slice(&body) {
            Ok(asked) => asked,
            Err(error) => return problem(StatusCode::BAD_REQUEST, &error),
        },
    };
    let mesh = Arc::clone(&state.revisions.borrow().mesh);
    let (member, name) = match (Member::find(&mesh, &name), ServiceName::new(&name)) {
        (Ok(member), Ok(name)) => (member, name),
        (Err(error), _) => return problem(StatusCode::NOT_FOUND, &error),
        (_, Err(error)) => return problem(StatusCode::NOT_FOUND, &error),
    };
    let node_id = asked.node_id.as_deref().unwrap_or(&member.name);
    if let Some(wrong) = node_id_problem(node_id) {
        return problem(StatusCode::BAD_REQUEST, &wrong);
    }
    let identity = Identity::Member(mesh.trust_domain.clone(), name);
    let issued: Credentials = match state.authority.issue(&identity, node_id) {
        Ok(issued) => issued,
        Err(error) => return problem(StatusCode::INTERNAL_SERVER_ERROR, &error),
    };
    let exported = Exported {
        spiffe_id: identity.spiffe_id(),
        node_id,
        chain: &issued.chain,
        key: &issued.key,
        bundle: &issued.bundle,
        not_after: explain::rfc3339(mesh.timetable.zone(), issued.not_after),
    };
    // Nobody on the way keeps it.
    ([(header::CACHE_CONTROL, "no-store")], Json(exported)).into_response()
}
