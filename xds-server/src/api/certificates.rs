//! `GET /api/v1/certificates`: which certificates are in use; no key is ever shown. `POST
//! /api/v1/certificates/NAME/export`: a new one with its key, for a place that is not served by xDS.

use std::sync::Arc;

use axum::{
    Json,
    extract::State as Extract,
    http::{StatusCode, header},
    response::IntoResponse,
};
use policy::{time::CivilZone, units::ServiceName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    State,
    answer::{Answer, Answered, Of},
    asked::{Body, PageOf, Path},
    guard::Wrote,
    made_apart, problem,
};
use crate::{
    bootstrap::Member,
    explain,
    page::{After, Listed, Page},
    pki::{Credentials, Identity, authority, node_id_problem},
};

/// What is asked for is a name.
pub(super) const EXPORT_BYTES_MAX: usize = 4096;

/// A certificate in use.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Certificate {
    /// `root`, `issuing` or `leaf`.
    kind: &'static str,
    /// A service, a gateway, the server; of the authority its own name.
    name: String,
    /// Null for the authority's own.
    spiffe_id: Option<String>,
    /// Lower-case hex.
    serial: String,
    /// Valid from.
    not_before: String,
    /// Valid until.
    not_after: String,
    /// When it is renewed, where that happens by itself.
    renews_at: Option<String>,
    /// Why the newest attempt to renew it failed.
    problem: Option<String>,
}

impl Certificate {
    fn shown(one: authority::Shown, zone: &CivilZone) -> Self {
        Self {
            kind: one.kind,
            name: one.name,
            spiffe_id: (!one.spiffe_id.is_empty()).then_some(one.spiffe_id),
            serial: one.serial,
            not_before: explain::rfc3339(zone, one.not_before),
            not_after: explain::rfc3339(zone, one.not_after),
            renews_at: one.renews_at.map(|at| explain::rfc3339(zone, at)),
            problem: one.problem,
        }
    }
}

impl Listed for Certificate {
    type Key = String;
    const NAME: &'static str = "certificates";

    /// The authority's own come first; their names are for people.
    fn key(&self) -> String {
        let rank = match self.kind {
            "root" => 0,
            "issuing" => 1,
            _ => 2,
        };
        let name = self.spiffe_id.as_ref().unwrap_or(&self.serial);
        format!("{rank}/{name}")
    }
}

pub(super) async fn certificates(
    Extract(state): Extract<State>,
    PageOf(wanted): PageOf<After>,
) -> Answered<Page<Certificate>> {
    made_apart(move || {
        let mesh = Arc::clone(&state.revisions.borrow().mesh);
        let zone = mesh.timetable.zone();
        let shown = state.authority.list().into_iter();
        let mut all: Vec<Certificate> = shown.map(|one| Certificate::shown(one, zone)).collect();
        all.sort_by_key(Certificate::key);
        wanted.page(all)
    })
    .await
}

/// Of a certificate that is exported.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CertificateCall")]
pub(super) struct Asked {
    /// The `node.id` for which it is good at the xDS server; the member's own name by default.
    node_id: Option<String>,
}

/// A certificate with its key.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ExportedCertificate")]
pub(super) struct Exported {
    /// Whose it is.
    spiffe_id: String,
    /// The `node.id` for which it is good.
    node_id: String,
    /// PEM: the certificate, and who issued it.
    chain: String,
    /// PEM.
    #[schemars(with = "String")]
    key: Zeroizing<String>,
    /// PEM: whom to trust.
    bundle: String,
    /// Until when it is good.
    not_after: String,
}

pub(super) async fn export(
    Extract(state): Extract<State>,
    Path(name): Path<String>,
    Body(asked): Body<Asked>,
) -> Answer<Of<Exported>> {
    let mesh = Arc::clone(&state.revisions.borrow().mesh);
    let (member, name) = match (Member::find(&mesh, &name), ServiceName::new(&name)) {
        (Ok(member), Ok(name)) => (member, name),
        (Err(error), _) => return problem(StatusCode::NOT_FOUND, &error).into(),
        (_, Err(error)) => return problem(StatusCode::NOT_FOUND, &error).into(),
    };
    let node_id = asked.node_id.as_deref().unwrap_or(&member.name);
    if let Some(wrong) = node_id_problem(node_id) {
        return problem(StatusCode::BAD_REQUEST, &wrong).into();
    }
    let identity = Identity::Member(mesh.trust_domain.clone(), name);
    let issued: Credentials = match state.authority.issue(&identity, node_id) {
        Ok(issued) => issued,
        Err(error) => return problem(StatusCode::INTERNAL_SERVER_ERROR, &error).into(),
    };
    let wrote = Wrote::done(format!(
        "handed out: a new certificate with its private key, {}, node.id {node_id}",
        identity.spiffe_id()
    ));
    let exported = Exported {
        spiffe_id: identity.spiffe_id(),
        node_id: node_id.to_string(),
        chain: issued.chain.to_string(),
        key: Zeroizing::new(issued.key.to_string()),
        bundle: issued.bundle.to_string(),
        not_after: explain::rfc3339(mesh.timetable.zone(), issued.not_after),
    };
    // Nobody on the way keeps it.
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    Answer::made((no_store, Json(exported)).into_response()).with(wrote)
}
