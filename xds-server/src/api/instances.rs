//! Instances: `GET /api/v1/instances` and what changes them.

use axum::{
    Json,
    extract::{FromRequestParts, State as Extract},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use policy::{reader::Problem, units::ServiceName};
use schemars::{JsonSchema, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    State,
    answer::{Answer, Answered, Nothing, Placed, Tagged},
    asked::{Body, Form, NoQuery, PageOf, Path, Query},
    guard::Wrote,
    how, made_apart,
    operation::{Operation, Takes},
    problem,
    problems::{Detail, FieldDetail, ProblemBody},
    unkept,
};
use crate::{
    mesh::Registration,
    page::Page,
    reference::RegistrationForm,
    registry::{
        Ask, Beat, Believed, Done, InstanceId, Refused, Wish,
        view::{Shown, Wanted},
    },
};

/// One instance.
pub(super) const ONE: &str = "/api/v1/instances/{service}/{id}";
pub(super) const DRAIN: &str = "/api/v1/instances/{service}/{id}/drain";
pub(super) const HEARTBEAT: &str = "/api/v1/instances/{service}/{id}/heartbeat";

/// Of one registration.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;
/// Ids that the audit log names.
const NAMED_MAX: usize = 5;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// Only try: say what would be refused.
    #[serde(default)]
    dry_run: bool,
}

/// How a change is asked for.
pub(super) struct Manner {
    is_dry: bool,
    by: Option<String>,
    believed: Option<Believed>,
}

impl FromRequestParts<State> for Manner {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Response> {
        let Query(Asked { dry_run }) = Query::<Asked>::from_request_parts(parts, state).await?;
        Ok(Self {
            is_dry: dry_run,
            by: how::author(parts),
            believed: how::believed(&parts.headers, Believed::Any, Believed::OneOf),
        })
    }
}

impl Takes for Manner {
    fn tell(operation: &mut Operation<'_>) {
        operation.query::<Asked>();
        let schema = json_schema!({
            "type": "string",
            "description": "Only while the instance stands so: its ETag, or * for as long as there is one.",
        });
        operation.parameter("header", "If-Match", false, schema);
        operation.may_refuse(&[StatusCode::PRECONDITION_FAILED]);
    }
}

/// All of them, those of the mesh file too, a page at a time.
pub(super) async fn list(
    Extract(state): Extract<State>,
    PageOf(wanted): PageOf<Wanted>,
) -> Answered<Page<Shown>> {
    made_apart(move || state.instances.page(&wanted)).await
}

/// One of them.
pub(super) async fn one(
    Extract(state): Extract<State>,
    Path((service, id)): Path<(String, String)>,
    _: NoQuery,
) -> Answer<Tagged<Shown>> {
    match state.instances.one(&service, &id) {
        Some(shown) => tagged(Answered::of(&shown), Some(&shown)),
        None => unknown(&service, &id).into(),
    }
}

/// Names how an instance stands, where it is one that registered.
fn tagged<K, J>(answer: Answer<K>, shown: Option<&Shown>) -> Answer<J> {
    let mut response = answer.into_response();
    let tag = shown.and_then(Shown::tag).map(|tag| format!("\"{tag}\""));
    if let Some(tag) = tag.and_then(|tag| HeaderValue::from_str(&tag).ok()) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Answer::made(response)
}

/// A heartbeat. Nothing is written and nothing is audited: it is a look into memory.
pub(super) async fn heartbeat(
    Extract(state): Extract<State>,
    Path((service, id)): Path<(String, String)>,
    _: NoQuery,
) -> Answer<Nothing> {
    let beat = match state.instances.beat(&service, &id) {
        Beat::Unknown => state.instances.beat_of_stranger(&service, &id).await,
        known => known,
    };
    match beat {
        Beat::Heard | Beat::Returns => Answer::made(StatusCode::NO_CONTENT.into_response()),
        Beat::Unknown => {
            // The file's own need none: to say so takes longer, and comes seldom.
            let name = ServiceName::new(&service).ok();
            let refused = name.and_then(|service| {
                let id = InstanceId {
                    service,
                    id: id.clone(),
                };
                state.instances.try_out(&Ask::of(Wish::Drain(id))).err()
            });
            let refused = refused.map(|refused| refusal(&refused));
            refused.unwrap_or_else(|| unknown(&service, &id)).into()
        }
    }
}

/// What became of a registration.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Registered {
    /// As it stands; null where it was only tried and is not there.
    instance: Option<Shown>,
    /// What is legal and most likely not meant.
    warnings: Vec<String>,
    /// It was only tried.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

/// Registers an instance that says its service in the body.
pub(super) async fn register(
    Extract(state): Extract<State>,
    manner: Manner,
    Form(body, _): Form<RegistrationForm>,
) -> Answer<Placed<Registered>> {
    registered(state, None, manner, &body).await
}

/// Registers an instance by its name, or anew.
pub(super) async fn put(
    Extract(state): Extract<State>,
    Path(named): Path<(String, String)>,
    manner: Manner,
    Form(body, _): Form<RegistrationForm>,
) -> Answer<Placed<Registered>> {
    registered(state, Some(named), manner, &body).await
}

async fn registered(
    state: State,
    named: Option<(String, String)>,
    manner: Manner,
    body: &Value,
) -> Answer<Placed<Registered>> {
    let registration = match read(named.as_ref(), body) {
        Ok(registration) => registration,
        Err(response) => return response.into(),
    };
    let service = registration.service.to_string();
    let id = registration.endpoint.id.clone();
    let is_dry = manner.is_dry;
    let wish = Wish::Register(Box::new(registration));
    let done = match carried_out(&state, wish, manner).await {
        Ok(done) => done,
        Err(response) => return response.into(),
    };
    let answer = Registered {
        instance: state.instances.one(&service, &id),
        warnings: done.warnings.clone(),
        dry_run: is_dry,
    };
    let mut response = Json(&answer).into_response();
    if done.is_new && !is_dry {
        *response.status_mut() = StatusCode::CREATED;
        let at = format!("/api/v1/instances/{service}/{id}");
        if let Ok(at) = HeaderValue::from_str(&at) {
            response.headers_mut().insert(header::LOCATION, at);
        }
    }
    let answered: Answer<Placed<Registered>> = Answer::made(response);
    tagged(answered, answer.instance.as_ref()).with(wrote(&done, is_dry))
}

/// An instance, after what was done with it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Drained {
    /// As it stands.
    instance: Option<Shown>,
}

/// An instance is about to leave: it gets no new requests.
pub(super) async fn drain(
    Extract(state): Extract<State>,
    Path((service, id)): Path<(String, String)>,
    manner: Manner,
) -> Answer<Tagged<Drained>> {
    let Some(named) = instance_id(&service, &id) else {
        return unknown(&service, &id).into();
    };
    let is_dry = manner.is_dry;
    match carried_out(&state, Wish::Drain(named), manner).await {
        Ok(done) => {
            let instance = state.instances.one(&service, &id);
            let answer = Drained { instance };
            tagged(Answered::of(&answer), answer.instance.as_ref()).with(wrote(&done, is_dry))
        }
        Err(response) => response.into(),
    }
}

/// An instance is gone.
pub(super) async fn deregister(
    Extract(state): Extract<State>,
    Path((service, id)): Path<(String, String)>,
    manner: Manner,
) -> Answer<Nothing> {
    let Some(named) = instance_id(&service, &id) else {
        return unknown(&service, &id).into();
    };
    let is_dry = manner.is_dry;
    match carried_out(&state, Wish::Deregister(named), manner).await {
        Ok(done) => Answer::made(StatusCode::NO_CONTENT.into_response()).with(wrote(&done, is_dry)),
        Err(response) => response.into(),
    }
}

/// Whom to let go of.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Release {
    /// Of which service.
    service: String,
    /// This instance alone; all of the service when it is left out.
    id: Option<String>,
}

/// Who was let go of.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Released {
    /// By id.
    released: Vec<String>,
}

/// Those that vanished will not come back.
pub(super) async fn release(
    Extract(state): Extract<State>,
    manner: Manner,
    Body(Release { service, id }): Body<Release>,
) -> Answered<Released> {
    let service = match ServiceName::new(&service) {
        Ok(service) => service,
        Err(error) => {
            return problem(StatusCode::BAD_REQUEST, &format!("service: {error}")).into();
        }
    };
    let is_dry = manner.is_dry;
    match carried_out(&state, Wish::Release { service, id }, manner).await {
        Ok(done) => {
            let ids = done.changed.iter().map(|changed| changed.id.clone());
            let answer = Released {
                released: ids.collect(),
            };
            Answered::of(&answer).with(wrote(&done, is_dry))
        }
        Err(response) => response.into(),
    }
}

fn instance_id(service: &str, id: &str) -> Option<InstanceId> {
    Some(InstanceId {
        service: ServiceName::new(service).ok()?,
        id: id.into(),
    })
}

fn read(named: Option<&(String, String)>, body: &Value) -> Result<Registration, Box<Response>> {
    let named = named.map(|(service, id)| (service.as_str(), id.as_str()));
    Registration::read(body, named).map_err(|problems| Box::new(invalid(&problems)))
}

fn invalid(problems: &[Problem]) -> Response {
    let first = problems.first().map(ToString::to_string);
    let detail = format!(
        "{} problem(s); nothing was registered: {}",
        problems.len(),
        first.unwrap_or_default()
    );
    let all = problems
        .iter()
        .map(|one| Detail::Field(FieldDetail::from(one)));
    ProblemBody::new(StatusCode::BAD_REQUEST, detail)
        .with(all.collect())
        .into_response()
}

/// What was done, or would be.
async fn carried_out(
    state: &State,
    wish: Wish,
    Manner {
        is_dry,
        by,
        believed,
    }: Manner,
) -> Result<Done, Box<Response>> {
    let ask = Ask { wish, by, believed };
    let done = match is_dry {
        true => state.instances.try_out(&ask),
        false => state.instances.ask(ask).await,
    };
    done.map_err(|refused| {
        let mut response = refusal(&refused);
        if is_dry {
            response.extensions_mut().insert(Wrote::Nothing);
        }
        Box::new(response)
    })
}

fn wrote(done: &Done, is_dry: bool) -> Wrote {
    if is_dry {
        return Wrote::Nothing;
    }
    let names = done.changed.iter().take(NAMED_MAX).map(ToString::to_string);
    let names: Vec<String> = names.collect();
    Wrote::done(match done.changed.len() {
        0 => "nothing was to be changed".into(),
        count => format!("instances changed: {count} ({})", names.join(", ")),
    })
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
        Refused::Otherwise(_) => StatusCode::PRECONDITION_FAILED,
        Refused::Store(error) => return unkept(error),
        Refused::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    };
    problem(status, refused)
}
