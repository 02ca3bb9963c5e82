//! What an identity allows: every call on a connection with certificates passes here, whatever service
//! it is for.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use tonic::Status;
use tracing::warn;

use super::{Discovery, connection::ConnectionInfo};
use crate::{
    clock,
    discovery::Name,
    fleet::StreamStatus,
    metrics::Refused,
    pki::{Denied, Peer},
    resource::NodeKey,
};

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub(super) enum Who {
    /// Plaintext on loopback: nobody was asked.
    Anyone,
    /// Somebody whom our authority vouches for.
    Member(Arc<Peer>),
    /// Somebody whose certificate says nothing that we issue.
    Denied(Denied),
}

impl Who {
    /// The member of the mesh that it is; of [`Who::Anyone`] nothing is known.
    pub(super) fn member(&self) -> Option<&Peer> {
        match self {
            Self::Member(peer) => Some(peer),
            Self::Anyone | Self::Denied(_) => None,
        }
    }
}

/// Lets a call pass whose caller is somebody in this mesh.
pub(super) async fn guard(
    State(discovery): State<Arc<Discovery>>,
    request: Request,
    next: Next,
) -> Response {
    let connection = request.extensions().get::<ConnectionInfo>();
    if let Some(connection) = connection
        && let Err(reason) = discovery.knows(&connection.who)
    {
        let path = request.uri().path();
        return discovery.deny(Some(connection), path, &reason).into_http();
    }
    next.run(request).await
}

impl Discovery {
    /// Whether this is, now, somebody in this mesh.
    pub(super) fn knows(&self, who: &Who) -> Result<(), String> {
        let peer = match who {
            Who::Anyone => return Ok(()),
            Who::Denied(denied) => return Err(denied.to_string()),
            Who::Member(peer) => peer,
        };
        if let Some(tls) = &self.tls {
            let ours = &tls.revisions().borrow().mesh.trust_domain;
            if peer.trust_domain != *ours {
                return Err(format!(
                    "the trust domain {} is not that of this mesh, {ours}",
                    peer.trust_domain
                ));
            }
        }
        if clock::now() >= peer.not_after {
            return Err("its certificate has ended".into());
        }
        Ok(())
    }

    /// Says no: to the caller, to the log that is kept for such things, and to the metrics.
    pub(super) fn deny(
        &self,
        connection: Option<&ConnectionInfo>,
        asked: &str,
        reason: &str,
    ) -> Status {
        self.fleet.metrics().refused(Refused::Denied);
        let peer = connection.and_then(|connection| connection.peer);
        let member = connection.and_then(|connection| connection.who.member());
        warn!(
            target: "audit",
            peer = peer.map(tracing::field::display),
            identity = member.map(Peer::spiffe_id),
            asked,
            reason,
            "denied"
        );
        Status::permission_denied(reason)
    }
}

/// Names told in one line.
const NAMES_TOLD: usize = 10;

impl Discovery {
    /// A member asked for secrets that it is not sent. (Of one whom nobody knows nothing is wrong with that.)
    pub(super) fn withheld(
        &self,
        member: &Peer,
        peer: Option<SocketAddr>,
        stream: &StreamStatus,
        names: &[Name],
    ) {
        if names.is_empty() {
            return;
        }
        self.fleet.metrics().withheld_secrets(names.len());
        let told = names.get(..NAMES_TOLD).unwrap_or(names);
        warn!(
            target: "audit",
            peer = peer.map(tracing::field::display),
            identity = member.spiffe_id(),
            node = stream.node.id,
            secrets = told.join(", "),
            more = names.len() - told.len(),
            "asked for secrets that are not its own or not there: it is not sent them"
        );
    }
}

/// Whether a member may be this node: its own service or gateway, under the id for which its certificate
/// was issued.
pub(super) fn may_be(peer: &Peer, node: &NodeKey) -> Result<(), String> {
    let own = [
        ("node.cluster", &*node.cluster, peer.name.as_str()),
        ("node.id", &*node.id, &*peer.node_id),
    ];
    for (field, said, certified) in own {
        if said != certified {
            let said: String = said.escape_default().take(200).collect();
            return Err(format!(
                "{field} {said:?}: the certificate is for {certified:?}"
            ));
        }
    }
    Ok(())
}
