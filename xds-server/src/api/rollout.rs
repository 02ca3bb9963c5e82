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
    proxies::rollout::{Blame, Rejected, Rejection, Standing, standing},
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
    /// How many are connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    proxies: Option<usize>,
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

/// One look at the fleet.
struct Look {
    nodes: HashSet<String>,
    pending: Vec<String>,
    rejections: Vec<Rejection>,
    /// Streams that have all of it.
    done: HashSet<u64>,
}

fn look(state: &State, blame: Blame<'_>, mut done: HashSet<u64>) -> Look {
    let views = state.publisher.views();
    let (mut nodes, mut pending) = (HashSet::new(), Vec::new());
    let mut rejections = Vec::new();
    for stream in state.fleet.streams() {
        let node = &stream.node;
        nodes.insert(node.id.clone());
        if done.contains(&stream.number) {
            continue;
        }
        let mut views = views
            .iter()
            .filter(|(key, _)| key.id == node.id && key.cluster == node.cluster)
            .map(|(_, view)| standing(&stream, view, blame));
        // A stream that has not asked for anything is to be sent nothing.
        let first = views.next().unwrap_or(Standing::Done);
        let found = views.fold(first, |best, other| match best {
            Standing::Pending => other,
            best => best,
        });
        match found {
            Standing::Done => _ = done.insert(stream.number),
            Standing::Pending => pending.push(node.id.clone()),
            Standing::Rejected(more) => rejections.extend(more),
        }
    }
    pending.sort_unstable();
    pending.dedup();
    Look {
        nodes,
        pending,
        rejections,
        done,
    }
}

/// Waits until every connected Envoy has accepted a change or one has rejected it; then the change is taken back.
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
    let until = Instant::now() + bound;
    let since = state.publisher.update_of(changed.number);
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut done = HashSet::new();
    loop {
        looks.tick().await;
        let (looker, rejected) = (state.clone(), Arc::clone(before));
        let looking = tokio::task::spawn_blocking(move || {
            let blame = Blame {
                since,
                before: &rejected,
            };
            look(&looker, blame, done)
        });
        let Ok(found) = looking.await else {
            // The runtime is going.
            return Ok(Waited {
                state: "unknown",
                ..Waited::default()
            });
        };
        if !found.rejections.is_empty() {
            return Err(Box::new(
                taken_back(state, changed, found.rejections, how).await,
            ));
        }
        if found.pending.is_empty() {
            return Ok(Waited {
                state: "acknowledged",
                proxies: Some(found.nodes.len()),
                ..Waited::default()
            });
        }
        if Instant::now() >= until {
            let more = found.pending.len().saturating_sub(NAMED_MAX);
            let named: Vec<String> = found.pending.into_iter().take(NAMED_MAX).collect();
            return Ok(Waited {
                state: "timeout",
                proxies: Some(found.nodes.len()),
                unanswered: Some(named),
                unanswered_more: Some(more),
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
            kind,
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
