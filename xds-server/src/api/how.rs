//! How a change is asked for: by whom, why, on what condition; and what a freeze keeps out of it.

use std::time::Duration;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::Response,
};
use policy::time::{WallTime, parse_duration};
use schemars::{JsonSchema, json_schema};
use serde::Deserialize;

use super::{
    State,
    asked::Query,
    change::refused,
    guard::Wrote,
    operation::{Operation, Takes},
};
use crate::{
    access::Caller,
    catalog::IfMatch,
    clock,
    desired::{By, Refusal},
    mesh::Mesh,
    plan::kept_out,
    store::About,
};

/// `--wait` without a time.
const WAIT: Duration = Duration::from_secs(30);
/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// Most characters of a reason or a message.
const CHARS_MAX: usize = 500;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// Only try: say what would change.
    #[serde(default)]
    dry_run: bool,
    /// Pass a freeze of the mesh; say why with reason.
    #[serde(default)]
    force: bool,
    /// Why: kept in the history and in the audit log.
    reason: Option<String>,
    /// What the history says of it.
    message: Option<String>,
    /// Wait until every connected Envoy has acknowledged it or one has rejected it: 1s to 10m, 30s when empty.
    wait: Option<String>,
}

/// How a change is asked for: by whom, and what else the query and the headers say.
#[derive(Debug, Clone, Default)]
pub(super) struct How {
    author: Option<String>,
    /// It is only tried.
    pub(super) dry_run: bool,
    /// It passes whatever is frozen.
    pub(super) force: bool,
    reason: Option<String>,
    message: Option<String>,
    /// For the fleet to answer.
    pub(super) wait: Option<Duration>,
    /// Only then.
    pub(super) if_match: Option<IfMatch>,
}

impl FromRequestParts<State> for How {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Response> {
        let Query(asked) = Query::<Asked>::from_request_parts(parts, state).await?;
        Self::of(asked, author(parts), if_match(&parts.headers))
            .map_err(|refusal| refused(&refusal))
    }
}

/// The name of the caller's token.
pub(super) fn author(parts: &Parts) -> Option<String> {
    parts.extensions.get::<Caller>()?.name.clone()
}

/// How a change is asked for that cannot be waited for.
#[derive(Debug, Clone)]
pub(super) struct Unawaited(pub(super) How);

impl FromRequestParts<State> for Unawaited {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Response> {
        let how = How::from_request_parts(parts, state).await?;
        match how.wait {
            None => Ok(Self(how)),
            Some(_) => Err(refused(&bad(
                "wait: is not taken here, since this is not rolled back by itself; GET /api/v1/proxies (mumbai-mesh \
                 proxy status) shows what Envoys made of it",
            ))),
        }
    }
}

fn tell(operation: &mut Operation<'_>) {
    operation.query::<Asked>();
    let schema = json_schema!({
        "type": "string",
        "description": "Only while this revision is in force: its number in quotes, or *.",
    });
    operation.parameter("header", "If-Match", false, schema);
    operation.may_refuse(&[
        StatusCode::NOT_FOUND,
        StatusCode::CONFLICT,
        StatusCode::PRECONDITION_FAILED,
    ]);
}

impl Takes for How {
    fn tell(operation: &mut Operation<'_>) {
        tell(operation);
        operation.may_refuse(&[StatusCode::UNPROCESSABLE_ENTITY]);
    }
}

impl Takes for Unawaited {
    fn tell(operation: &mut Operation<'_>) {
        tell(operation);
        operation.forget("wait");
    }
}

fn bad(why: impl Into<String>) -> Refusal {
    Refusal::Invalid(why.into())
}

fn text(field: &str, text: Option<String>) -> Result<Option<String>, Refusal> {
    let Some(text) = text else {
        return Ok(None);
    };
    let text = text.trim();
    if text.is_empty() || text.chars().count() > CHARS_MAX || text.contains(char::is_control) {
        let why = format!("{field}: must be 1 to {CHARS_MAX} characters in one line");
        return Err(bad(why));
    }
    Ok(Some(text.to_string()))
}

fn wait(text: &str) -> Result<Duration, Refusal> {
    match text {
        "" | "true" => return Ok(WAIT),
        _ => {}
    }
    let wait = parse_duration(text);
    let legal = wait
        .ok()
        .filter(|wait| (Duration::from_secs(1)..=WAIT_MAX).contains(wait));
    legal.ok_or_else(|| {
        bad(format!(
            "wait: must be 1s to 10m, such as 30s, not {text:?}"
        ))
    })
}

/// What the caller believes to be in force. What is no revision's tag matches none.
fn if_match(headers: &HeaderMap) -> Option<IfMatch> {
    believed(headers, IfMatch::Any, |tags| {
        let numbers = tags.iter().filter_map(|tag| tag.parse().ok());
        IfMatch::OneOf(numbers.collect())
    })
}

/// What `If-Match` says: `any`, or what is made of its tags, without their quotes.
pub(super) fn believed<T>(
    headers: &HeaderMap,
    any: T,
    one_of: impl FnOnce(Vec<String>) -> T,
) -> Option<T> {
    let mut values = headers.get_all(header::IF_MATCH).iter().peekable();
    values.peek()?;
    let mut tags = Vec::new();
    for value in values {
        for tag in value.to_str().unwrap_or_default().split(',') {
            let tag = tag.trim();
            if tag == "*" {
                return Some(any);
            }
            let tag = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            tags.extend(tag.map(str::to_string));
        }
    }
    Some(one_of(tags))
}

impl How {
    fn of(
        asked: Asked,
        author: Option<String>,
        if_match: Option<IfMatch>,
    ) -> Result<Self, Refusal> {
        Ok(Self {
            author,
            dry_run: asked.dry_run,
            force: asked.force,
            reason: text("reason", asked.reason)?,
            message: text("message", asked.message)?,
            wait: asked.wait.as_deref().map(wait).transpose()?,
            if_match,
        })
    }

    /// What a body says of it too.
    pub(super) fn and(mut self, force: bool, reason: Option<String>) -> Result<Self, Refusal> {
        self.force |= force;
        if let Some(reason) = text("reason", reason)? {
            self.reason = Some(reason);
        }
        self.checked()
    }

    /// Nobody passes a freeze without saying why.
    pub(super) fn checked(self) -> Result<Self, Refusal> {
        match self.force && self.reason.is_none() {
            true => Err(bad(
                "force: say why with reason (--force --reason WHY); it is kept in the audit log",
            )),
            false => Ok(self),
        }
    }

    pub(super) fn has_reason(&self) -> bool {
        self.reason.is_some()
    }

    pub(super) fn by(&self, now: WallTime) -> By {
        By {
            author: self.author.clone(),
            reason: self.reason.clone(),
            at: now,
        }
    }

    /// Who, when and why; `what` where nobody says it in words of their own.
    pub(super) fn about(&self, what: &str) -> About {
        let mut message = self.message.clone().unwrap_or_else(|| what.to_string());
        if let Some(reason) = &self.reason {
            let forced = if self.force { ", forced" } else { "" };
            message = format!("{message} ({reason}{forced})");
        }
        About::of_api(clock::now())
            .by(self.author.clone())
            .because(Some(message))
    }

    /// What the audit log keeps of it.
    pub(super) fn wrote(&self, what: String) -> Wrote {
        match self.dry_run {
            true => Wrote::Nothing,
            false => Wrote::Done {
                what,
                reason: self.reason.clone(),
                forced: self.force,
            },
        }
    }

    /// Refuses what a freeze of the mesh in force keeps out, unless it is forced.
    pub(super) fn judge(&self, before: &Mesh, after: &Mesh) -> Result<(), Refusal> {
        let now = clock::now();
        if self.force {
            return Ok(());
        }
        let Some(frozen) = before.freeze.at(&before.timetable, now) else {
            return Ok(());
        };
        let kept_out = kept_out(before, after, now);
        let Some(first) = kept_out.first() else {
            return Ok(());
        };
        let more = match kept_out.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        let said = frozen.sentence(before.timetable.zone());
        Err(Refusal::Frozen(format!(
            "frozen: {said}, and the mesh's freeze keeps this out: {}{more}; nothing was changed \
             (to do it all the same: --force --reason WHY)",
            first.sentence
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_revisions_tag_matches_none() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::IF_MATCH, value.parse().unwrap());
            }
            if_match(&headers)
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["*"]), Some(IfMatch::Any));
        assert_eq!(of(&["\"7\""]), Some(IfMatch::OneOf(vec![7])));
        assert_eq!(
            of(&["\"7\", \"8\"", "\"9\""]),
            Some(IfMatch::OneOf(vec![7, 8, 9]))
        );
        for none in ["7", "W/\"7\"", "\"x\"", "\"-1\"", ""] {
            assert_eq!(of(&[none]), Some(IfMatch::OneOf(Vec::new())), "{none}");
        }
    }

    #[test]
    fn who_forces_says_why() {
        let how = || How {
            force: true,
            ..How::default()
        };
        assert!(how().checked().is_err());
        assert!(how().and(false, Some("outage".into())).is_ok());
        assert!(How::default().and(true, None).is_err());
        for bad in ["", "  ", "a\nb", &"x".repeat(501)] {
            assert!(text("reason", Some(bad.into())).is_err(), "{bad:?}");
        }
        assert_eq!(
            text("reason", Some(" a ".into())).unwrap(),
            Some("a".into())
        );
        assert!(wait("0s").is_err() && wait("11m").is_err() && wait("x").is_err());
        assert_eq!(wait("").unwrap(), WAIT);
    }
}
