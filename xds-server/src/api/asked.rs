//! What handlers take of a call. What is wrong with it is a problem that names what there is, whichever part it is in.

use std::marker::PhantomData;

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path as AxumPath, Query as AxumQuery, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::Response,
};
use policy::time::{WallTime, parse_instant};
use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    State,
    change::refused,
    json,
    operation::{Operation, Takes},
    problem,
};
use crate::{clock, desired::Refusal, page::Paged};

/// The most bytes that a route takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct BytesMax(pub(super) usize);

/// `64 KiB`.
pub(super) fn size(bytes: usize) -> String {
    match bytes {
        0 => "nothing".into(),
        bytes if bytes.is_multiple_of(1024 * 1024) => format!("{} MiB", bytes / 1024 / 1024),
        bytes if bytes.is_multiple_of(1024) => format!("{} KiB", bytes / 1024),
        bytes => format!("{bytes} bytes"),
    }
}

/// Names of all fields that a type has.
fn fields<T: JsonSchema>() -> String {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let schema = T::json_schema(&mut generator);
    let names = schema.get("properties").and_then(Value::as_object);
    let names: Vec<&str> = names
        .into_iter()
        .flat_map(|names| names.keys().map(String::as_str))
        .collect();
    match names.is_empty() {
        true => "none".into(),
        false => names.join(", "),
    }
}

/// The query, which knows its fields.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned + JsonSchema> FromRequestParts<State> for Query<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &State) -> Result<Self, Response> {
        let read = AxumQuery::<T>::try_from_uri(&parts.uri);
        let AxumQuery(read) = read.map_err(|error| {
            let said = format!("{}; known: {}", error.body_text(), fields::<T>());
            refused(&Refusal::Invalid(said))
        })?;
        Ok(Self(read))
    }
}

impl<T: JsonSchema> Takes for Query<T> {
    fn tell(operation: &mut Operation<'_>) {
        operation.query::<T>();
    }
}

/// No query: what is asked there would be carried out all the same, so it is refused.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// A call that takes no parameter.
pub(super) struct NoQuery;

impl FromRequestParts<State> for NoQuery {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Response> {
        let Query(Nothing {}) = Query::<Nothing>::from_request_parts(parts, state).await?;
        Ok(Self)
    }
}

impl Takes for NoQuery {
    fn tell(operation: &mut Operation<'_>) {
        operation.query::<Nothing>();
    }
}

/// The instant that a query's `at` names; now where it names none.
///
/// # Errors
/// What is no instant.
pub(super) fn instant(at: Option<&str>) -> Result<WallTime, String> {
    match at.map(parse_instant).transpose() {
        Ok(at) => Ok(at.unwrap_or_else(clock::now)),
        Err(error) => Err(format!("at: {error}")),
    }
}

/// The query for a page.
pub(super) struct PageOf<T>(pub(super) T);

impl<T: DeserializeOwned + JsonSchema + Paged> FromRequestParts<State> for PageOf<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Response> {
        let Query(wanted) = Query::<T>::from_request_parts(parts, state).await?;
        match wanted.check() {
            Ok(()) => Ok(Self(wanted)),
            Err(wrong) => Err(refused(&Refusal::Invalid(wrong))),
        }
    }
}

impl<T: JsonSchema + Paged> Takes for PageOf<T> {
    fn tell(operation: &mut Operation<'_>) {
        operation.query::<T>();
        if let Some(limit) = operation.parameter_mut("limit") {
            limit["schema"]["minimum"] = json!(1);
            limit["schema"]["maximum"] = json!(T::LIMIT_MAX);
            limit["schema"]["default"] = json!(T::LIMIT);
        }
    }
}

/// What varies in the path.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<State> for Path<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Response> {
        let read = AxumPath::<T>::from_request_parts(parts, state).await;
        let AxumPath(read) = read
            .map_err(|error| refused(&Refusal::Invalid(format!("path: {}", error.body_text()))))?;
        Ok(Self(read))
    }
}

impl<T: JsonSchema> Takes for Path<T> {
    fn tell(operation: &mut Operation<'_>) {
        let schema = T::json_schema(operation.takes);
        let each = schema.get("prefixItems").and_then(Value::as_array);
        let each = each.map_or_else(|| vec![schema.clone().to_value()], Clone::clone);
        debug_assert_eq!(each.len(), operation.names.len(), "names in the path");
        for (name, schema) in operation.names.clone().into_iter().zip(each) {
            let schema = Schema::try_from(schema).unwrap_or_default();
            operation.parameter("path", name, true, schema);
        }
        operation.may_refuse(&[StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND]);
    }
}

/// A body of JSON, which knows its fields. Nothing is `{}`.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned + JsonSchema> FromRequest<State> for Body<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &State) -> Result<Self, Response> {
        let Content(body, _) = Content::<T>::from_request(request, state).await?;
        let body = match body.trim_ascii() {
            b"" => b"{}",
            said => said,
        };
        let read = json::read(body);
        let read = read.map_err(|error| {
            let said = format!("the body: {error}; known: {}", fields::<T>());
            refused(&Refusal::Invalid(said))
        })?;
        Ok(Self(read))
    }
}

impl<T: JsonSchema> Takes for Body<T> {
    fn tell(operation: &mut Operation<'_>) {
        let schema = T::json_schema(operation.takes);
        let is_required = schema
            .get("required")
            .and_then(Value::as_array)
            .is_some_and(|required| !required.is_empty());
        let schema = operation.takes.subschema_for::<T>();
        operation.body(
            is_required,
            &json!({"application/json": {"schema": schema}}),
        );
    }
}

/// A body of JSON of which somebody else reads every problem, and that has the form of `T`.
pub(super) struct Form<T>(pub(super) Value, pub(super) PhantomData<fn() -> T>);

impl<T> FromRequest<State> for Form<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &State) -> Result<Self, Response> {
        let Content(body, _) = Content::<T>::from_request(request, state).await?;
        let read = json::read(&body);
        let read =
            read.map_err(|error| refused(&Refusal::Invalid(format!("the body: {error}"))))?;
        Ok(Self(read, PhantomData))
    }
}

impl<T: JsonSchema> Takes for Form<T> {
    fn tell(operation: &mut Operation<'_>) {
        Content::<T>::tell(operation);
    }
}

/// A body that somebody else reads, and that has the form of `T`.
pub(super) struct Content<T>(pub(super) Bytes, pub(super) PhantomData<fn() -> T>);

impl<T> FromRequest<State> for Content<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &State) -> Result<Self, Response> {
        let headers = request.headers();
        if let Some(wrong) = wrong_media_type(headers) {
            return Err(problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, &wrong));
        }
        let most = request.extensions().get::<BytesMax>().copied();
        let body = Bytes::from_request(request, state).await;
        let body = body.map_err(|error| match (error.status(), most) {
            (status @ StatusCode::PAYLOAD_TOO_LARGE, Some(BytesMax(bytes))) => {
                problem(status, &format!("the body is larger than {}", size(bytes)))
            }
            (status, _) => problem(status, &error.body_text()),
        })?;
        Ok(Self(body, PhantomData))
    }
}

impl<T: JsonSchema> Takes for Content<T> {
    fn tell(operation: &mut Operation<'_>) {
        let schema = operation.takes.subschema_for::<T>();
        operation.body(true, &json!({"application/json": {"schema": schema}}));
    }
}

/// Why a body cannot be what is wanted, by its own word. `curl -d` says of everything that it is a form.
fn wrong_media_type(headers: &HeaderMap) -> Option<String> {
    const TAKEN: [&str; 8] = [
        "application/json",
        "application/yaml",
        "application/x-yaml",
        "text/yaml",
        "text/x-yaml",
        "text/plain",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
    ];
    if let Some(coding) = headers.get(header::CONTENT_ENCODING)
        && coding.as_bytes() != b"identity"
    {
        return Some(format!(
            "content-encoding: {coding:?} is not taken; send the body as it is"
        ));
    }
    let said = headers.get(header::CONTENT_TYPE)?;
    let text = said.to_str().unwrap_or_default();
    let kind = text.split(';').next().unwrap_or_default().trim();
    let kind = kind.to_ascii_lowercase();
    match TAKEN.contains(&&*kind) || kind.ends_with("+json") {
        true => None,
        false => Some(format!(
            "content-type: {said:?} is not taken; send application/json, or application/yaml where a mesh file is \
             taken"
        )),
    }
}

impl Takes for axum::extract::State<State> {
    fn tell(_: &mut Operation<'_>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_json_by_its_own_word_is_not_taken_for_it() {
        let of = |name: header::HeaderName, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            wrong_media_type(&headers)
        };
        for good in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/merge-patch+json",
            "application/x-www-form-urlencoded",
            "application/yaml",
        ] {
            assert_eq!(of(header::CONTENT_TYPE, good), None, "{good}");
        }
        for bad in [
            "text/html",
            "multipart/form-data; boundary=x",
            "application/xml",
            "json",
        ] {
            assert!(of(header::CONTENT_TYPE, bad).is_some(), "{bad}");
        }
        assert!(of(header::CONTENT_ENCODING, "gzip").is_some());
        assert_eq!(of(header::CONTENT_ENCODING, "identity"), None);
        assert_eq!(wrong_media_type(&HeaderMap::new()), None);
    }

    #[test]
    fn sizes_are_told_as_people_say_them() {
        assert_eq!(size(64 * 1024), "64 KiB");
        assert_eq!(size(40 * 1024 * 1024), "40 MiB");
        assert_eq!(size(4_000), "4000 bytes");
    }
}
