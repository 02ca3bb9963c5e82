//! The loop of one stream.

use std::{sync::Arc, time::Duration};

use envoy_types::pb::envoy::config::core::v3::Node;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};

use super::message::node_key;
use crate::{
    clock,
    discovery::{Request, Response, Session, Variant},
    fleet::{Connected, Fleet},
    resource::{NodeKey, ResourceType, Views},
};

/// A client that leaves a response unanswered holds up what depends on it for so long.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request message of one variant.
pub(super) trait Protocol: Sized + Send + 'static {
    type Answer: Send + 'static;
    const VARIANT: Variant;

    fn node(&self) -> Option<&Node>;
    fn type_url(&self) -> &str;
    fn into_request(self, kind: ResourceType) -> Request;
    fn answer(response: Response) -> Self::Answer;
}

/// Everything that one stream needs.
pub(super) struct Loop<M: Protocol, V> {
    pub(super) requests: Streaming<M>,
    pub(super) responses: mpsc::Sender<Result<M::Answer, Status>>,
    pub(super) views: watch::Receiver<Arc<V>>,
    pub(super) fleet: Arc<Fleet>,
    pub(super) stopping: watch::Receiver<bool>,
}

/// A stream whose node is known.
struct Open {
    node: NodeKey,
    session: Session,
    connected: Connected,
}

/// Why a loop ends.
enum End {
    /// The client is gone or done: nothing to say.
    Quiet,
    /// The client is told.
    Told(Status),
}

impl<M: Protocol, V: Views> Loop<M, V> {
    pub(super) async fn run(mut self) {
        let mut open = None;
        let end = self.until_end(&mut open).await;
        if let Some(Open { node, .. }) = &open {
            info!(node = node.id, "disconnected");
        }
        if let End::Told(status) = end {
            // A client that is gone already cannot be told.
            let _ = self.responses.send(Err(status)).await;
        }
    }

    async fn until_end(&mut self, open: &mut Option<Open>) -> End {
        let mut deadline: Option<Instant> = None;
        loop {
            let patience = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            let responses = tokio::select! {
                request = self.requests.message() => match request {
                    Ok(Some(request)) => match self.take(request, open) {
                        Ok(responses) => responses,
                        Err(status) => return End::Told(status),
                    },
                    Ok(None) => return End::Quiet,
                    Err(status) => {
                        debug!(%status, "stream broke");
                        return End::Quiet;
                    }
                },
                changed = self.views.changed() => match changed {
                    Ok(()) => self.look(open),
                    Err(_) => return End::Told(stopping()),
                },
                () = patience => open
                    .as_mut()
                    .map_or_else(Vec::new, |open| open.session.on_patience_over()),
                () = stopped(&mut self.stopping) => return End::Told(stopping()),
                () = self.responses.closed() => return End::Quiet,
            };
            let progressed = !responses.is_empty();
            if let Err(end) = self.send(responses, open.as_ref()).await {
                return end;
            }
            let waiting = open.as_ref().is_some_and(|open| open.session.is_waiting());
            deadline = match deadline {
                Some(deadline) if waiting && !progressed => Some(deadline),
                _ if waiting => Some(Instant::now() + PATIENCE),
                _ => None,
            };
        }
    }

    fn take(&mut self, request: M, open: &mut Option<Open>) -> Result<Vec<Response>, Status> {
        if open.is_none() {
            *open = Some(self.begin(&request)?);
        }
        let Some(open) = open else {
            return Ok(Vec::new());
        };
        if request.type_url().is_empty() {
            return Err(Status::invalid_argument("type_url is empty"));
        }
        let Some(kind) = ResourceType::from_url(request.type_url()) else {
            // A newer client may ask for what this server does not know; the rest goes on.
            debug!(
                node = open.node.id,
                type_url = request.type_url(),
                "unknown type"
            );
            return Ok(Vec::new());
        };
        let responses = open.session.on_request(request.into_request(kind));
        report(open, kind);
        Ok(responses)
    }

    fn begin(&mut self, request: &M) -> Result<Open, Status> {
        let node = request
            .node()
            .ok_or_else(|| Status::invalid_argument("the first request must carry the node"))?;
        let node = node_key(node).map_err(Status::invalid_argument)?;
        let view = self.views.borrow_and_update().view(&node);
        let connected = self.fleet.connect(&node, M::VARIANT, clock::now());
        info!(node = node.id, cluster = node.cluster, variant = ?M::VARIANT, "connected");
        Ok(Open {
            session: Session::new(M::VARIANT, view),
            node,
            connected,
        })
    }

    /// The views changed: look again. Whatever came in between is left out.
    fn look(&mut self, open: &mut Option<Open>) -> Vec<Response> {
        let views = Arc::clone(&self.views.borrow_and_update());
        let Some(open) = open else {
            return Vec::new();
        };
        open.session.on_view(views.view(&open.node))
    }

    async fn send(&mut self, responses: Vec<Response>, open: Option<&Open>) -> Result<(), End> {
        for response in responses {
            if let Some(open) = open {
                debug!(
                    node = open.node.id,
                    kind = ?response.kind,
                    version = response.version,
                    resources = response.resources.len(),
                    removed = response.removed.len(),
                    "sent"
                );
                report(open, response.kind);
            }
            let answer = M::answer(response);
            tokio::select! {
                sent = self.responses.send(Ok(answer)) => sent.map_err(|_| End::Quiet)?,
                () = stopped(&mut self.stopping) => return Err(End::Told(stopping())),
            }
        }
        Ok(())
    }
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop as well.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

fn stopping() -> Status {
    Status::unavailable("the server is stopping")
}

fn report(open: &Open, kind: ResourceType) {
    let Some(status) = open.session.status_of(kind) else {
        return;
    };
    if open.connected.report(kind, status, clock::now())
        && let Some(nack) = &status.nack
    {
        warn!(
            node = open.node.id,
            kind = ?kind,
            version = nack.version,
            message = nack.message,
            "rejected (NACK): it keeps what it had"
        );
    }
}
