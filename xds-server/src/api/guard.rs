//! What stands before every route: whether its caller may pass, and what is kept of what they wrote.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{ConnectInfo, MatchedPath, Request, State as Extract},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::Response,
};
use prometheus::IntCounterVec;
use tokio::{sync::watch, time::Instant};
use tracing::warn;

use super::{
    door::{Known, Peer},
    problem,
    routes::Table,
};
use crate::{
    access::{
        self, Need, Refusal, Role,
        audit::{AuditLog, Line, Revisions},
        owner::Access,
    },
    catalog::Revision,
    clock, explain,
    flood::Flood,
    raw::RawState,
};

/// What a route that writes says of what it did: a part of its answer that is not sent.
#[derive(Debug, Clone)]
pub(super) enum Wrote {
    /// What, in a few words.
    Done {
        /// In a few words.
        what: String,
        /// Why, as the caller says.
        reason: Option<String>,
        /// Whether it was to pass whatever is frozen.
        forced: bool,
    },
    /// Nothing, as it was asked.
    Nothing,
}

impl Wrote {
    /// For no reason that is known.
    pub(super) fn done(what: impl Into<String>) -> Self {
        Self::Done {
            what: what.into(),
            reason: None,
            forced: false,
        }
    }
}

/// What stands before every route.
pub(super) struct Guard {
    pub(super) access: Arc<Access>,
    pub(super) audit: Arc<AuditLog>,
    pub(super) table: Table,
    pub(super) revisions: watch::Receiver<Arc<Revision>>,
    pub(super) raw: watch::Receiver<Arc<RawState>>,
    pub(super) refused: IntCounterVec,
    pub(super) flood: Flood,
}

/// Who writes, and what.
struct Write {
    token: Option<String>,
    role: &'static str,
    peer: Option<SocketAddr>,
    method: String,
    path: String,
    before: Revisions,
}

impl Write {
    fn by(self, token: Option<String>, role: Option<Role>) -> Self {
        Self {
            token,
            role: role.map_or("none", Role::as_str),
            ..self
        }
    }
}

/// What of an answer is kept.
struct Answer {
    status: u16,
    wrote: Option<Wrote>,
}

impl Answer {
    fn of(response: &Response) -> Self {
        Self {
            status: response.status().as_u16(),
            wrote: response.extensions().get().cloned(),
        }
    }
}

/// Lets a call pass, or answers it.
pub(super) async fn guard(
    Extract(guard): Extract<Arc<Guard>>,
    mut request: Request,
    next: Next,
) -> Response {
    let matched = request.extensions().get::<MatchedPath>();
    let entry = guard
        .table
        .find(request.method(), matched.map(MatchedPath::as_str));
    // What is not served is nobody's business but of those who may look.
    let needs = entry.map_or(Need::Role(Role::Viewer), |entry| entry.needs);
    let writes = entry.is_some_and(|entry| entry.writes);
    let peer = request.extensions().get::<ConnectInfo<Peer>>();
    let peer = peer.map(|ConnectInfo(Peer(peer))| *peer);
    let writing = writes.then(|| Write {
        token: None,
        role: "none",
        peer,
        method: request.method().to_string(),
        path: request.uri().path().to_string(),
        before: guard.in_force(),
    });
    let passed = guard.access.pass(&asked(&request), needs);
    match passed {
        Ok(caller) => {
            let is_known = caller.role.is_some();
            request.extensions_mut().insert(caller.clone());
            let marked = move |mut response: Response| {
                if is_known {
                    response.extensions_mut().insert(Known);
                }
                response
            };
            let Some(write) = writing else {
                return marked(next.run(request).await);
            };
            // A caller that goes away ends neither what it began nor the line about it.
            let writing = tokio::spawn(async move {
                let response = marked(next.run(request).await);
                let answer = Answer::of(&response);
                let by = write.by(caller.name, caller.role);
                guard.audit(by, answer).await;
                response
            });
            match writing.await {
                Ok(response) => response,
                Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error),
            }
        }
        Err(refusal) => {
            guard.tell(&refusal, peer, request.uri().path());
            let response = refused(&refusal);
            // Of strangers only the process's log tells: they must not fill this one.
            if let Refusal::TooSmall { name, has, .. } = refusal
                && let Some(write) = writing
            {
                let answer = Answer::of(&response);
                guard.audit(write.by(name, Some(has)), answer).await;
            }
            response
        }
    }
}

fn asked(request: &Request) -> access::Request<'_> {
    let headers = request.headers();
    let target = request
        .uri()
        .authority()
        .map(|authority| authority.as_str());
    access::Request {
        authorization: headers
            .get(header::AUTHORIZATION)
            .map(HeaderValue::as_bytes),
        host: target.or_else(|| single(headers, &header::HOST)),
        origin: headers
            .get(header::ORIGIN)
            .map(|origin| origin.to_str().unwrap_or("")),
    }
}

/// A header that comes once; of two hosts neither is believed.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    match values.next() {
        None => first.to_str().ok(),
        Some(_) => None,
    }
}

fn refused(refusal: &Refusal) -> Response {
    if !refusal.is_unauthenticated() {
        return problem(StatusCode::FORBIDDEN, refusal);
    }
    let mut response = problem(StatusCode::UNAUTHORIZED, refusal);
    let how = match refusal {
        Refusal::NoToken(_) => "Bearer realm=\"mumbai-mesh\"",
        _ => "Bearer realm=\"mumbai-mesh\", error=\"invalid_token\"",
    };
    let how = HeaderValue::from_static(how);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, how);
    response
}

impl Guard {
    fn in_force(&self) -> Revisions {
        Revisions {
            mesh: self.revisions.borrow().number,
            resources: self.raw.borrow().revision(),
        }
    }

    fn tell(&self, refusal: &Refusal, peer: Option<SocketAddr>, path: &str) {
        let reason = refusal.reason();
        self.refused.with_label_values(&[reason]).inc();
        let Some(unsaid) = self.flood.admit(reason, Instant::now()) else {
            return;
        };
        let path: String = path.chars().take(200).collect();
        warn!(
            peer = peer.map(tracing::field::display),
            path,
            reason,
            unsaid = Some(unsaid).filter(|unsaid| *unsaid > 0),
            "API call refused"
        );
    }

    /// On disk before the answer goes out.
    async fn audit(&self, write: Write, Answer { status, wrote }: Answer) {
        let (summary, reason, forced) = match wrote {
            Some(Wrote::Nothing) => return,
            Some(Wrote::Done {
                what,
                reason,
                forced,
            }) => (what, reason, forced),
            None => ("nothing was written".to_string(), None, false),
        };
        let after = self.in_force();
        let zone = self.revisions.borrow().mesh.timetable.zone().clone();
        let audit = Arc::clone(&self.audit);
        let writing = tokio::task::spawn_blocking(move || {
            audit.write(&Line {
                at: explain::rfc3339(&zone, clock::now()),
                token: write.token.as_deref(),
                role: write.role,
                peer: write.peer,
                method: &write.method,
                path: &write.path,
                status,
                summary: &summary,
                reason: reason.as_deref(),
                forced,
                before: write.before,
                after,
            });
        });
        // It fails only when the runtime is gone.
        let _ = writing.await;
    }
}
