//! Answers, of which their types say what is in them.

use std::marker::PhantomData;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::operation::{Gives, Operation};

/// An answer of a kind, or a refusal.
pub(super) struct Answer<K>(Response, PhantomData<fn() -> K>);

/// `T` as JSON.
pub(super) type Answered<T> = Answer<Of<T>>;

/// What an answer may be.
pub(super) trait Kind {
    fn tell(operation: &mut Operation<'_>);
}

/// `T` as JSON.
pub(super) struct Of<T>(PhantomData<T>);
/// The same, with the revision as its tag.
pub(super) struct Tagged<T>(PhantomData<T>);
/// The same of something that may have been made by the call.
pub(super) struct Placed<T>(PhantomData<T>);
/// No content.
pub(super) struct Nothing;

/// Something else than JSON.
pub(super) trait Media {
    const TYPE: &'static str;
    const SAYS: &'static str;
}

impl<K> Answer<K> {
    /// An answer that holds what its kind says.
    pub(super) fn made(response: Response) -> Self {
        Self(response, PhantomData)
    }

    /// As one of a kind that this one is a part of.
    pub(super) fn into_part_of<J>(self) -> Answer<J> {
        Answer(self.0, PhantomData)
    }

    /// What is kept of it beside what is sent.
    pub(super) fn with<E: Clone + Send + Sync + 'static>(mut self, extension: E) -> Self {
        self.0.extensions_mut().insert(extension);
        self
    }
}

impl<T: Serialize> Answer<Of<T>> {
    pub(super) fn of(answer: &T) -> Self {
        Self::made(Json(answer).into_response())
    }

    /// Names the revision that it is of.
    pub(super) fn tagged(self, revision: u64) -> Answer<Tagged<T>> {
        let Self(mut response, _) = self;
        if response.status().is_success() {
            tag(&mut response, revision);
        }
        Answer::made(response)
    }
}

/// Names the revision that an answer is of.
pub(super) fn tag(response: &mut Response, revision: u64) {
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{revision}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
}

impl<K> From<Response> for Answer<K> {
    /// A refusal, which may be of any kind.
    fn from(refusal: Response) -> Self {
        debug_assert!(!refusal.status().is_success(), "that is no refusal");
        Self(refusal, PhantomData)
    }
}

impl<K> From<Box<Response>> for Answer<K> {
    fn from(refusal: Box<Response>) -> Self {
        (*refusal).into()
    }
}

impl<K> IntoResponse for Answer<K> {
    fn into_response(self) -> Response {
        self.0
    }
}

impl<K: Kind> Gives for Answer<K> {
    fn tell(operation: &mut Operation<'_>) {
        K::tell(operation);
    }
}

/// A text that is always the same.
impl Gives for &'static str {
    fn tell(operation: &mut Operation<'_>) {
        let content = json!({"text/plain; charset=utf-8": {"schema": {"type": "string"}}});
        operation.answer(StatusCode::OK, "It is.", content);
    }
}

fn json_of<T: JsonSchema>(operation: &mut Operation<'_>) -> serde_json::Value {
    json!({"application/json": {"schema": operation.gives.subschema_for::<T>()}})
}

impl<T: JsonSchema> Kind for Of<T> {
    fn tell(operation: &mut Operation<'_>) {
        let content = json_of::<T>(operation);
        operation.answer(StatusCode::OK, "What was asked for.", content);
    }
}

impl<T: JsonSchema> Kind for Tagged<T> {
    fn tell(operation: &mut Operation<'_>) {
        Of::<T>::tell(operation);
        let said = "The revision, in quotes: what If-Match takes.";
        operation.header(StatusCode::OK, "ETag", said);
    }
}

impl<T: JsonSchema> Kind for Placed<T> {
    fn tell(operation: &mut Operation<'_>) {
        Tagged::<T>::tell(operation);
        let content = json_of::<T>(operation);
        operation.answer(StatusCode::CREATED, "It was not there before.", content);
        operation.header(StatusCode::CREATED, "Location", "Where it is.");
        let said = "How it stands: what If-Match takes.";
        operation.header(StatusCode::CREATED, "ETag", said);
    }
}

impl Kind for Nothing {
    fn tell(operation: &mut Operation<'_>) {
        operation.answer(StatusCode::NO_CONTENT, "It is done.", json!(null));
    }
}

impl<M: Media> Kind for M {
    fn tell(operation: &mut Operation<'_>) {
        let schema = match M::TYPE.starts_with("text/") {
            true => json!({"schema": {"type": "string"}}),
            false => json!({}),
        };
        operation.answer(StatusCode::OK, M::SAYS, json!({M::TYPE: schema}));
    }
}
