//! Instances: `GET /api/v1/instances` and what changes them.

use axum::{
    Json,
    body::Bytes,
    extract::{
        Path, Query, State as Extract,
        rejection::{BytesRejection, QueryRejection},
    },
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use policy::{reader::Problem, units::ServiceName};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{State, guard::Wrote, page, problem, unkept};
use crate::{
    mesh::Registration,
    registry::{Beat, Done, InstanceId, Refused, Wish, view::Wanted},
};

/// One instance.
pub(super) const ONE: &str = "/api/v1/instances/{service}/{id}";
pub(super) const DRAIN: &str = "/api/v1/instances/{service}/{id}/drain";
pub(super) const HEARTBEAT: &str = "/api/v1/instances/{service}/{id}/heartbeat";

/// Of one registration.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;
/// Ids that the audit log names.
const NAMED_MAX: usize = 5;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    #[serde(default)]
    dry_run: bool,
}

/// All of them, those of the mesh file too, a page at a time.
pub(super) async fn list(
    Extract(state): Extract<State>,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    let limit = |wanted: &Wanted| wanted.limit;
    page::page(
        state,
        query,
        Wanted::LIMIT_MAX,
        limit,
        |state, _, wanted| state.instances.page(wanted),
    )
    .await
}

/// One of them.
pub(super) async fn one(
    Extract(state): Extract<State>,
    Path((service, id)): Path<(String, String)>,
) -> Response {
    match state.instances.one(&service, &id) {
        Some(shown) => Json(shown).into_response(),
        None => unknown(&service, &id),
    }
}

/// A heartbeat. Nothing is written and nothing is audited: it is a look into memory.
pub(super) async fn heartbeat(
    Extract(state): Extract<State>,
    Path((service, id)): Path<(String, String)>,
) -> Response {
    match state.instances.beat(&service, &id) {
        Beat::Heard | Beat::Returns => StatusCode::NO_CONTENT.into_response(),
        Beat::Unknown => {
            // The file's own need none: to say so takes longer, and comes seldom.
            let name = ServiceName::new(&service).ok();
            let refused = name.and_then(|service| {
                let id = InstanceId {
                    service,
                    id: id.clone(),
                };
                state.instances.try_out(&Wish::Drain(id)).err()
            });
            refused.map_or_else(|| unknown(&service, &id), |refused| refusal(&refused))
        }
    }
}

/// Registers an instance that says its service in the body.
pub(super) async fn register(
    Extract(state): Extract<State>,
    query: Result<Query<Asked>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    registered(state, None, query, body).await
}

/// Registers an instance by its name, or anew.
pub(super) async fn put(
    Extract(state): Extract<State>,
    Path(named): Path<(String, String)>,
    query: Result<Query<Asked>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    registered(state, Some(named), query, body).await
}

async fn registered(
    state: State,
    named: Option<(String, String)>,
    query: Result<Query<Asked>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let registration = match read(named.as_ref(), body) {
        Ok(registration) => registration,
        Err(response) => return *response,
    };
    let service = registration.service.to_string();
    let id = registration.endpoint.id.clone();
    let wish = Wish::Register(Box::new(registration));
    let (done, is_dry) = match carried_out(&state, wish, query).await {
        Ok(done) => done,
        Err(response) => return *response,
    };
    let mut answer = json!({
        "instance": state.instances.one(&service, &id),
        "warnings": done.warnings,
    });
    if is_dry {
        answer["dry_run"] = json!(true);
        return wrote(Json(answer).into_response(), &done, true);
    }
    let mut response = Json(answer).into_response();
    if done.is_new {
        *response.status_mut() = StatusCode::CREATED;
        let at = format!("/api/v1/instances/{service}/{id}");
        if let Ok(at) = HeaderValue::from_str(&at) {
            response.headers_mut().insert(header::LOCATION, at);
        }
    }
    wrote(response, &done, false)
}

/// An instance is about to leave: it gets no new requests.
pub(super) async fn drain(
    Extract(state): Extract<State>,
    Path((service, id)): Path<(String, String)>,
    query: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let Some(named) = instance_id(&service, &id) else {
        return unknown(&service, &id);
    };
    match carried_out(&state, Wish::Drain(named), query).await {
        Ok((done, is_dry)) => {
            let answer = json!({"instance": state.instances.one(&service, &id)});
            wrote(Json(answer).into_response(), &done, is_dry)
        }
        Err(response) => *response,
    }
}

/// An instance is gone.
pub(super) async fn deregister(
    Extract(state): Extract<State>,
    Path((service, id)): Path<(String, String)>,
    query: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let Some(named) = instance_id(&service, &id) else {
        return unknown(&service, &id);
    };
    match carried_out(&state, Wish::Deregister(named), query).await {
        Ok((done, is_dry)) => wrote(StatusCode::NO_CONTENT.into_response(), &done, is_dry),
        Err(response) => *response,
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    service: String,
    id: Option<String>,
}

/// Those that vanished will not come back.
pub(super) async fn release(
    Extract(state): Extract<State>,
    query: Result<Query<Asked>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(error) => return problem(error.status(), &error.body_text()),
    };
    let Release { service, id } = match serde_json::from_slice(&body) {
        Ok(release) => release,
        Err(error) => {
            let said = format!("{error}; known: service, id (leave it out for all of the service)");
            return problem(StatusCode::BAD_REQUEST, &said);
        }
    };
    let service = match ServiceName::new(&service) {
        Ok(service) => service,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("service: {error}")),
    };
    match carried_out(&state, Wish::Release { service, id }, query).await {
        Ok((done, is_dry)) => {
            let ids: Vec<&String> = done.changed.iter().map(|changed| &changed.id).collect();
            wrote(
                Json(json!({"released": ids})).into_response(),
                &done,
                is_dry,
            )
        }
        Err(response) => *response,
    }
}

fn instance_id(service: &str, id: &str) -> Option<InstanceId> {
    Some(InstanceId {
        service: ServiceName::new(service).ok()?,
        id: id.into(),
    })
}

fn read(
    named: Option<&(String, String)>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Registration, Box<Response>> {
    let body = body.map_err(|error| {
        let said = match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => "the body is larger than 64 KiB".into(),
            _ => error.body_text(),
        };
        Box::new(problem(error.status(), &said))
    })?;
    let value: Value = serde_json::from_slice(&body)
        .map_err(|error| Box::new(problem(StatusCode::BAD_REQUEST, &error)))?;
    let named = named.map(|(service, id)| (service.as_str(), id.as_str()));
    Registration::read(&value, named).map_err(|problems| Box::new(invalid(&problems)))
}

fn invalid(problems: &[Problem]) -> Response {
    let status = StatusCode::BAD_REQUEST;
    let first = problems.first().map(ToString::to_string);
    let shown = |one: &Problem| json!({"path": one.path, "message": one.message, "hint": one.hint});
    let body = json!({
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": format!("{} problem(s); nothing was registered: {}", problems.len(), first.unwrap_or_default()),
        "problems": problems.iter().map(shown).collect::<Vec<_>>(),
    });
    let kind = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, kind, body.to_string()).into_response()
}

/// What was done, or would be; and whether it was only tried.
async fn carried_out(
    state: &State,
    wish: Wish,
    query: Result<Query<Asked>, QueryRejection>,
) -> Result<(Done, bool), Box<Response>> {
    let is_dry = match query {
        Ok(Query(Asked { dry_run })) => dry_run,
        Err(error) => {
            let said = format!("{}; known: dry_run=true|false", error.body_text());
            return Err(Box::new(problem(StatusCode::BAD_REQUEST, &said)));
        }
    };
    let done = match is_dry {
        true => state.instances.try_out(&wish),
        false => state.instances.ask(wish).await,
    };
    let done = done.map_err(|refused| {
        let mut response = refusal(&refused);
        if is_dry {
            response.extensions_mut().insert(Wrote::Nothing);
        }
        Box::new(response)
    })?;
    Ok((done, is_dry))
}

fn wrote(mut response: Response, done: &Done, is_dry: bool) -> Response {
    let wrote = match is_dry {
        true => Wrote::Nothing,
        false => {
            let names = done.changed.iter().take(NAMED_MAX).map(ToString::to_string);
            let names: Vec<String> = names.collect();
            Wrote::done(match done.changed.len() {
                0 => "nothing was to be changed".into(),
                count => format!("instances changed: {count} ({})", names.join(", ")),
            })
        }
    };
    response.extensions_mut().insert(wrote);
    response
}

fn unknown(service: &str, id: &str) -> Response {
    let said = format!(
        "no instance {service}/{id} is registered (it may have expired): register it with PUT \
         /api/v1/instances/{service}/{id}"
    );
    problem(StatusCode::NOT_FOUND, &said)
}

fn refusal(refused: &Refused) -> Response {
    let status = match refused {
        Refused::NoService { .. } | Refused::Unknown(_) => StatusCode::NOT_FOUND,
        Refused::File { .. } | Refused::NotVanished(_) => StatusCode::CONFLICT,
        Refused::Invalid { .. } => StatusCode::BAD_REQUEST,
        Refused::Store(error) => return unkept(error),
        Refused::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    };
    problem(status, refused)
}
