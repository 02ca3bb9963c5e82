//! A stream whose node is known.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{Discovery, connection::ConnectionInfo, peers::Peer, slow::Reader};
use crate::{
    clock,
    discovery::{Answer, Name, Response, Session},
    fleet::{Caller, Event, Place, StreamStatus},
    metrics::Service,
    publish::{Subscription, Update},
    resource::{NodeKey, ResourceType},
};

/// What a stream has once its node is known.
pub(super) struct Open {
    pub(super) session: Session,
    status: Arc<StreamStatus>,
    /// Since when the view holds that is being told.
    since: Instant,
    /// Types of which it was told something because of that view, and which it has not accepted.
    converging: Vec<ResourceType>,
    /// Of that view.
    update: u64,
    reader: Option<Reader>,
    /// On a stream of one type.
    peer: Option<Peer>,
    node: NodeKey,
    /// Names of secrets that it asked for and is not sent, as far as that was noted.
    withheld: Vec<Name>,
    subscription: Subscription,
}

impl Open {
    /// A stream of this node.
    pub(super) fn new(
        discovery: &Discovery,
        place: &Place,
        connection: Option<&ConnectionInfo>,
        node: NodeKey,
        caller: Caller,
    ) -> Self {
        let (update, subscription) = discovery.publisher.subscribe(node.clone());
        let memo = Arc::clone(&discovery.memo);
        info!(
            node = node.id,
            cluster = node.cluster,
            service = caller.service.name(),
            variant = ?caller.variant,
            "connected"
        );
        let (variant, service) = (caller.variant, caller.service);
        let status = place.taken(caller, clock::now());
        let reader = connection.map(|connection| {
            let latest = Arc::clone(subscription.updates.latest());
            let (cut, status) = (Arc::clone(&connection.cut), Arc::clone(&status));
            discovery.readers.add(latest, cut, status)
        });
        let peer = match service {
            Service::Aggregated => None,
            Service::Single(kind) => {
                let peers = &discovery.peers;
                Some(peers.join(&node, place.number, kind, update.number))
            }
        };
        let mut session = Session::new(memo, variant, place.number, update.view);
        session.number(update.number);
        Self {
            reader,
            peer,
            update: update.number,
            session,
            status,
            since: update.since,
            converging: Vec::new(),
            node,
            withheld: Vec::new(),
            subscription,
        }
    }

    /// What is noted of it.
    pub(super) fn status(&self) -> &StreamStatus {
        &self.status
    }

    /// The next change of what the node is sent.
    pub(super) fn poll_update(&mut self, context: &mut Context<'_>) -> Poll<Update> {
        self.subscription.updates.poll_next(context)
    }

    /// Ready when another stream of the node did what this one waits for.
    pub(super) fn poll_peers(
        &mut self,
        context: &mut Context<'_>,
        responses: &mut VecDeque<Response>,
    ) -> Poll<()> {
        let Some(peer) = &mut self.peer else {
            return Poll::Pending;
        };
        ready!(peer.poll_changed(context));
        let again = peer.again(&self.session);
        self.session.tell_endpoints_again(&again, responses);
        let others = peer.others(self.update, self.session.view());
        self.session.on_others(others, responses);
        self.report();
        Poll::Ready(())
    }

    /// Lets the node's other streams know how far this one is, and people what changed unasked.
    pub(super) fn report(&mut self) {
        for kind in self.session.noted() {
            if let Some(status) = self.session.status_of(kind) {
                self.status.refresh(kind, status);
            }
        }
        if let Some(peer) = &self.peer {
            peer.report(self.update, &mut self.session);
        }
    }

    /// The view changed. Whatever came in between is left out.
    pub(super) fn look(&mut self, update: Update, responses: &mut VecDeque<Response>) {
        let before = responses.len();
        self.since = update.since;
        if let Some(reader) = &self.reader {
            reader.took_up(update.number);
        }
        self.converging.clear();
        self.update = update.number;
        if let Some(peer) = &self.peer {
            let others = peer.others(update.number, &update.view);
            self.session.expect(others);
        }
        self.session.number(update.number);
        self.session.on_view(update.view, responses);
        self.report();
        if let Some(peer) = &self.peer {
            // What it has just told may await endpoints, which only another stream knows.
            let others = peer.others(self.update, self.session.view());
            self.session.on_others(others, responses);
        }
        let told = responses.iter().skip(before);
        self.converging
            .extend(told.map(|response| response.payload.kind));
    }

    /// What was waited for did not come in time.
    pub(super) fn lose_patience(&mut self, responses: &mut VecDeque<Response>) {
        if let Some(peer) = &self.peer {
            peer.give_up();
        }
        self.session.on_patience_over(responses);
        self.report();
    }

    /// Secrets that it asks for and is not sent, since this was asked last: there are none of these names, or not for
    /// this node.
    pub(super) fn newly_withheld(&mut self) -> Vec<Name> {
        let kind = ResourceType::Secret;
        let view = self.session.view();
        let status = self.session.status_of(kind).into_iter();
        let names = status.flat_map(|status| status.position.each());
        let withheld = names
            .filter(|(name, has)| !has.is_there() && view.get(kind, name).is_none())
            .map(|(name, _)| Name::from(name));
        let withheld: Vec<Name> = withheld.collect();
        let before = std::mem::replace(&mut self.withheld, withheld);
        let now = self.withheld.iter();
        let new = now.filter(|name| before.binary_search(name).is_err());
        new.cloned().collect()
    }

    pub(super) fn answered(
        &mut self,
        kind: ResourceType,
        answer: Answer,
        nonce: &[u8],
        discovery: &Discovery,
    ) {
        let Some(status) = self.session.status_of(kind) else {
            return;
        };
        let metrics = discovery.fleet.metrics();
        let event = match answer {
            Answer::None => Event::Asked,
            Answer::Ack => {
                metrics.acked(kind);
                if let Some(place) = self.converging.iter().position(|told| *told == kind) {
                    self.converging.swap_remove(place);
                    metrics.converged(kind, self.since.elapsed());
                }
                Event::Acked
            }
            Answer::Nack => {
                metrics.nacked(kind);
                if let Some(nack) = &status.nack {
                    warn!(
                        node = self.node.id,
                        cluster = self.node.cluster,
                        r#type = kind.api(),
                        version = &*nack.version,
                        nonce = %String::from_utf8_lossy(nonce),
                        reason = nack.message,
                        "rejected (NACK): it keeps what it had"
                    );
                }
                Event::Nacked
            }
        };
        self.status.note(kind, event, status, clock::now());
        self.report();
    }

    pub(super) fn sent(&self, response: &Response, bytes: usize, discovery: &Discovery) {
        let kind = response.payload.kind;
        discovery.fleet.metrics().pushed(kind, bytes);
        debug!(
            node = self.node.id,
            r#type = kind.api(),
            version = &*response.payload.version,
            nonce = response.nonce,
            resources = response.payload.resources.len(),
            removed = response.payload.removed.len(),
            "sent"
        );
        if let Some(status) = self.session.status_of(kind) {
            self.status
                .note(kind, Event::Sent(bytes), status, clock::now());
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        info!(
            node = self.node.id,
            cluster = self.node.cluster,
            "disconnected"
        );
    }
}
