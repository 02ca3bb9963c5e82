//! Waits until connected Envoys have answered for a change, and takes it back when one rejects it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{error, warn};

use super::{
    State,
    how::How,
    problems::{ProblemBody, Rejected as RejectedChange},
};
use crate::{
    catalog::{Change, ChangeError, Changed, IfMatch},
    clock,
    proxies::rollout::{Blame, Rejected, Rejection, look},
    replicas::{Heard, Wait, WaitId},
    store::About,
};

/// Between two looks at the fleet.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Nodes that are named when they have not answered.
const NAMED_MAX: usize = 100;

/// What became of a change that somebody waited for.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct Waited {
    /// `acknowledged` by all connected Envoys, `timeout`, or `unknown`, when the server is stopping.
    state: &'static str,
    /// How many are connected, to all servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    proxies: Option<usize>,
    /// How many servers that is, where several share a store.
    #[serde(skip_serializing_if = "Option::is_none")]
    servers: Option<usize>,
    /// Some of those that have not answered in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    unanswered: Option<Vec<String>>,
    /// How many more there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    unanswered_more: Option<usize>,
}

/// What Envoys had rejected before a change.
pub(super) fn before(state: &State) -> Arc<Rejected> {
    let streams = state.fleet.streams();
    Arc::new(Rejected::by(streams.iter().map(|stream| &**stream)))
}

/// What is asked of the other servers on the same store.
enum Others {
    /// There are none.
    None,
    /// They were asked.
    Asked(WaitId),
    /// They could not be.
    Unknown,
}

impl Others {
    async fn ask(state: &State, changed: &Changed) -> Self {
        let wait = Wait {
            revision: changed.number,
            is_new: changed.is_new,
        };
        let replicas = Arc::clone(&state.replicas);
        match tokio::task::spawn_blocking(move || replicas.ask(wait)).await {
            Ok(Ok(asked)) => asked.map_or(Self::None, Self::Asked),
            Ok(Err(error)) => {
                warn!(%error, "the other servers cannot be asked what their proxies make of a change");
                Self::Unknown
            }
            // The runtime is going.
            Err(_) => Self::Unknown,
        }
    }

    /// What they told so far, and who has told nothing.
    fn heard(&self, state: &State) -> (Heard, Vec<String>) {
        match self {
            Self::None => (Heard::default(), Vec::new()),
            Self::Unknown => (
                Heard::default(),
                vec!["those of other servers (the store does not answer)".into()],
            ),
            Self::Asked(id) => {
                let heard = state.replicas.heard(id);
                let silent = heard.silent.iter();
                let silent = silent.map(|server| format!("those of the server {server}"));
                let silent = silent.collect();
                (heard, silent)
            }
        }
    }

    /// They are not waited for any more.
    fn end(self, state: &State) {
        if let Self::Asked(id) = self {
            let replicas = Arc::clone(&state.replicas);
            drop(tokio::task::spawn_blocking(move || replicas.end(&id)));
        }
    }
}

/// Waits until every Envoy that is connected to any server has accepted a change or one has rejected it; then the change
/// is taken back.
///
/// # Errors
/// The answer that tells of the rejections.
pub(super) async fn wait(
    state: &State,
    changed: &Changed,
    before: &Arc<Rejected>,
    bound: Duration,
    how: &How,
) -> Result<Waited, Box<Response>> {
    let others = Others::ask(state, changed).await;
    let came = look_until(state, changed, before, bound, &others).await;
    others.end(state);
    match came {
        Ok(waited) => Ok(waited),
        Err(rejections) => Err(Box::new(taken_back(state, changed, rejections, how).await)),
    }
}

async fn look_until(
    state: &State,
    changed: &Changed,
    before: &Arc<Rejected>,
    bound: Duration,
    others: &Others,
) -> Result<Waited, Vec<Rejection>> {
    let until = Instant::now() + bound;
    let since = state.publisher.update_of(changed.number);
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut done = HashSet::new();
    loop {
        looks.tick().await;
        let (looker, before) = (state.clone(), Arc::clone(before));
        let looking = tokio::task::spawn_blocking(move || {
            let blame = Blame {
                since,
                before: &before,
            };
            let streams = looker.fleet.streams();
            look(&streams, &looker.publisher.views(), blame, done)
        });
        let Ok(found) = looking.await else {
            // The runtime is going.
            return Ok(Waited {
                state: "unknown",
                ..Waited::default()
            });
        };
        let (heard, mut unanswered) = others.heard(state);
        let rejections = [found.rejections, heard.rejections].concat();
        if !rejections.is_empty() {
            return Err(rejections);
        }
        unanswered.extend(found.pending);
        unanswered.extend(heard.unanswered);
        let waited = Waited {
            state: "acknowledged",
            proxies: Some(found.nodes.len() + heard.proxies),
            servers: (heard.servers > 0).then_some(heard.servers + 1),
            ..Waited::default()
        };
        if unanswered.is_empty() {
            return Ok(waited);
        }
        if Instant::now() >= until {
            let more = unanswered.len().saturating_sub(NAMED_MAX);
            unanswered.truncate(NAMED_MAX);
            return Ok(Waited {
                state: "timeout",
                unanswered: Some(unanswered),
                unanswered_more: Some(more + heard.unanswered_more),
                ..waited
            });
        }
        done = found.done;
    }
}

/// Puts back what was in force before, unless somebody else changed something since.
async fn taken_back(
    state: &State,
    changed: &Changed,
    rejections: Vec<Rejection>,
    how: &How,
) -> Response {
    let number = changed.number;
    for Rejection {
        node,
        kind,
        resources,
        message,
        ..
    } in &rejections
    {
        error!(
            revision = number,
            node,
            %kind,
            ?resources,
            message,
            "a change was rejected"
        );
    }
    let outcome = if changed.is_new {
        put_back(state, changed, &rejections, how).await
    } else {
        Err("nothing was changed that could be rolled back".into())
    };
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    let said: Vec<String> = rejections.iter().map(sentence).collect();
    let (back, rolled_back) = match outcome {
        Ok(back) => (
            format!("revision {back} says what was in force before"),
            Some(back),
        ),
        Err(why) => {
            warn!(revision = number, why, "a rejected change stays");
            (format!("it was not rolled back: {why}"), None)
        }
    };
    let detail = format!(
        "revision {number} was rejected by Envoys; {back}: {}",
        said.join("; ")
    );
    let rejected = RejectedChange {
        revision: number,
        rolled_back_by: rolled_back,
        rejected: rejections,
    };
    ProblemBody::new(status, detail)
        .rejected(rejected)
        .into_response()
}

/// `edge-1 rejects LDS edge: cannot bind`.
fn sentence(one: &Rejection) -> String {
    let names = match one.resources.join(", ") {
        names if names.is_empty() => "all".into(),
        names => names,
    };
    format!("{} rejects {} {names}: {}", one.node, one.kind, one.message)
}

async fn put_back(
    state: &State,
    changed: &Changed,
    rejections: &[Rejection],
    how: &How,
) -> Result<u64, String> {
    let message = rejections.first().map(sentence).unwrap_or_default();
    let message = format!("automatic rollback of {}: {message}", changed.number);
    let (catalog, before) = (Arc::clone(&state.catalog), Arc::clone(&changed.before));
    let (number, author) = (changed.number, how.by(clock::now()).author);
    let putting = tokio::task::spawn_blocking(move || {
        catalog.change(&Change {
            about: About::of_api(clock::now())
                .by(author)
                .because(Some(message)),
            if_match: Some(&IfMatch::OneOf(vec![number])),
            dry_run: false,
            edit: &|_| Ok((*before.desired).clone()),
            judge: &|_, _| Ok(()),
        })
    });
    match putting.await {
        Ok(Ok(back)) => Ok(back.number),
        Ok(Err(ChangeError::Moved(newest))) => {
            Err(format!("revision {newest} came since, and is in force"))
        }
        Ok(Err(ChangeError::Store(error))) => Err(error.to_string()),
        Ok(Err(error)) => Err(format!("{error:?}")),
        Err(error) => Err(error.to_string()),
    }
}
