//! For callers without a proxy: `POST /api/v1/select` and `POST /api/v1/results`. As frequent as calls are, so nothing
//! of them is written or audited.

use axum::{
    extract::State as Extract,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use policy::{names, reader::Problem};
use serde_json::Value;

use super::{
    State,
    answer::Answered,
    asked::{Form, NoQuery},
    problem,
    problems::{Detail, ProblemBody},
};
use crate::callers::{
    Counted, NotCounted, Refused, Report, ResultsForm, SelectForm, Selection, Unanswered, Wanted,
};

/// Of a call that is about to be made: as large as the headers of one.
pub(super) const SELECT_BYTES_MAX: usize = 64 * 1024;
/// Of [`Report::TOGETHER_MAX`] results.
pub(super) const RESULTS_BYTES_MAX: usize = 512 * 1024;

/// Which instance is to be called.
pub(super) async fn select(
    Extract(state): Extract<State>,
    _: NoQuery,
    Form(body, _): Form<SelectForm>,
) -> Answered<Selection> {
    let wanted = match Wanted::read(&body) {
        Ok(wanted) => wanted,
        Err(problems) => return invalid(&problems).into(),
    };
    match state.callers.select(&wanted) {
        Ok(selection) => Answered::of(&selection),
        Err(Unanswered::Refused(refused)) => refusal(&refused).into(),
        Err(Unanswered::NoService(name)) => {
            let said = format!("service: {name} is not in this mesh; GET /services has all");
            problem(StatusCode::NOT_FOUND, &said).into()
        }
    }
}

/// How calls ended.
pub(super) async fn results(
    Extract(state): Extract<State>,
    _: NoQuery,
    Form(body, _): Form<ResultsForm>,
) -> Answered<Counted> {
    let reports = match Report::read_all(&body) {
        Ok(reports) => reports,
        Err(problems) => return invalid(&problems).into(),
    };
    match state.callers.take(&reports) {
        Ok(counted) => Answered::of(&counted),
        Err(NotCounted { index, why }) => {
            let said = format!("results[{index}]: {why}; nothing was counted");
            problem(StatusCode::NOT_FOUND, &said).into()
        }
    }
}

fn invalid(problems: &[Problem]) -> Response {
    let first = problems.first().map(ToString::to_string);
    let count = problems.len();
    let detail = format!("{count} problem(s): {}", first.unwrap_or_default());
    let fields = problems.iter().map(|one| Detail::Field(one.into()));
    ProblemBody::new(StatusCode::BAD_REQUEST, detail)
        .with(fields.collect())
        .into_response()
}

/// As a proxy refuses: with the same status and headers, and why.
fn refusal(refused: &Refused) -> Response {
    let status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let detail = refused.reasons.last().cloned().unwrap_or_default();
    // A problem with members of its own (RFC 9457, section 3.2).
    let problem = ProblemBody::new(status, detail);
    let mut body = serde_json::to_value(problem).unwrap_or_default();
    let more = serde_json::to_value(refused).unwrap_or_default();
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
    }
    let kind = [(header::CONTENT_TYPE, ProblemBody::TYPE)];
    let mut response = (status, kind, body.to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, refused.retry_after_seconds.into());
    if let Some(reason) = refused.header {
        let name = HeaderName::from_static(names::HEADER_REASON);
        headers.insert(name, HeaderValue::from_static(reason));
    }
    response
}
