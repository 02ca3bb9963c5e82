//! What the services to which Envoys report have in common (LRS, HDS): a stream begins with who the Envoy is;
//! then both sides talk until one of them ends it.

use std::{future::Future, pin::Pin};

use envoy_types::pb::envoy::config::core::v3::Node;
use futures_util::stream;
use tokio::time::timeout;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status, Streaming};

use super::{
    Discovery, SILENCE_MAX,
    connection::ConnectionInfo,
    identity::may_be,
    node::node_key,
    notices::{About, Bound},
};
use crate::{metrics::Refused, resource::NodeKey};

/// What is told on one stream.
pub(super) type Told<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// One stream.
pub(super) trait Conversation: Send + 'static {
    /// What the server tells.
    type Tells: Send;

    /// Set when the server stops.
    fn stopping(&self) -> CancellationToken;

    /// Listens until there is something to tell. None is a good end.
    fn talk(&mut self) -> impl Future<Output = Result<Option<Self::Tells>, Status>> + Send;
}

/// Everything that is told, until the stream or the server ends.
pub(super) fn told<C: Conversation>(conversation: C) -> Response<Told<C::Tells>> {
    let told = stream::unfold(Some(conversation), |conversation| async {
        let mut conversation = conversation?;
        let stopping = conversation.stopping();
        let next = tokio::select! {
            () = stopping.cancelled() => Err(Status::unavailable("the server is stopping")),
            next = conversation.talk() => next,
        };
        match next {
            Ok(Some(next)) => Some((Ok(next), Some(conversation))),
            Ok(None) => None,
            Err(status) => Some((Err(status), None)),
        }
    });
    Response::new(Box::pin(told))
}

/// The message that says who it is; None when there is none.
pub(super) async fn first<M>(requests: &mut Streaming<M>) -> Result<Option<M>, Status> {
    let first = timeout(SILENCE_MAX, requests.message()).await;
    first.map_err(|_| Status::deadline_exceeded("the first request did not come within 60 s"))?
}

impl Discovery {
    /// Who reports, if it may be who it says. `name` is the service's.
    pub(super) fn reporter(
        &self,
        name: &str,
        node: &Node,
        connection: Option<&ConnectionInfo>,
    ) -> Result<NodeKey, Status> {
        if node.id.is_empty() {
            let text = "node.id: must be given in the first request";
            return Err(Status::invalid_argument(text));
        }
        let key = node_key(node).map_err(Status::invalid_argument)?;
        let member = connection.and_then(|connection| connection.who.member());
        match member.map(|member| may_be(member, &key)) {
            Some(Err(reason)) => Err(self.deny(connection, name, &reason)),
            Some(Ok(())) | None => Ok(key),
        }
    }

    /// One reporter is one too many. `service` is `LRS`, ….
    pub(super) fn too_many_reporters(
        &self,
        service: &str,
        (id, cluster): (&str, &str),
        connection: Option<&ConnectionInfo>,
    ) -> Status {
        let text = "as many streams are open as --max-streams allows";
        let about = About {
            node: Some((id, cluster)),
            service,
            peer: connection.and_then(|connection| connection.peer),
            detail: text,
            bound: Some(Bound::Streams(self.fleet.streams_max())),
        };
        self.refused(Refused::TooMany, &about);
        Status::resource_exhausted(text)
    }
}
