//! One stream: its subscriptions, and the order between them when the view changes.
//!
//! Make before break: clusters first, without taking any away; then what they need; then, once the
//! client has answered for those, what names them; and only when that is answered too, removals.
//! Nobody waits for ever: [`Session::on_patience_over`] goes on with what a client left unanswered.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Request, Response, Status, Variant,
    subscription::{Removals, Subscription},
};
use crate::resource::{ResourceType, View};

use ResourceType::{
    Cluster, ClusterLoadAssignment, ExtensionConfig, Listener, RouteConfiguration, Runtime, Secret,
};

/// How far the current view has been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Clusters, endpoints, secrets: things that others name.
    Make,
    /// Listeners, routes, filters: things that name them.
    Use,
    /// Removals.
    Break,
    /// All is told.
    Settled,
}

/// One stream of one node.
#[derive(Debug)]
pub struct Session {
    variant: Variant,
    view: Arc<View>,
    subscriptions: BTreeMap<ResourceType, Subscription>,
    phase: Phase,
    /// New clusters whose endpoints the client must have before a route names them.
    warming: BTreeSet<String>,
    nonces: u64,
}

impl Session {
    /// A stream that has said nothing yet, of a node with this view.
    pub fn new(variant: Variant, view: Arc<View>) -> Self {
        Self {
            variant,
            view,
            subscriptions: BTreeMap::new(),
            phase: Phase::Settled,
            warming: BTreeSet::new(),
            nonces: 0,
        }
    }

    /// Takes a request; gives what must be sent now, in this order.
    pub fn on_request(&mut self, request: Request) -> Vec<Response> {
        let kind = request.kind;
        let variant = self.variant;
        let view = Arc::clone(&self.view);
        let subscription = self
            .subscriptions
            .entry(kind)
            .or_insert_with(|| Subscription::new(kind, variant));
        subscription.on_request(request, &view);
        // An answer to this request never takes away what a change under way still needs.
        let removals = match self.phase {
            Phase::Settled => Removals::Tell,
            Phase::Make | Phase::Use | Phase::Break => Removals::Hold,
        };
        let mut responses = Vec::new();
        if self.phase == Phase::Settled || may_answer(kind, self.phase) {
            self.tell(kind, removals, &mut responses);
        }
        self.advance(false, &mut responses);
        responses
    }

    /// Takes a new view; gives what must be sent now. Further responses follow as the client
    /// answers.
    pub fn on_view(&mut self, view: Arc<View>) -> Vec<Response> {
        let mut responses = Vec::new();
        if Arc::ptr_eq(&self.view, &view) {
            return responses;
        }
        self.view = view;
        for subscription in self.subscriptions.values_mut() {
            subscription.forget_gone(&self.view);
            // What was rejected before holds nothing up now.
            subscription.rejected = false;
        }
        if self.phase == Phase::Settled {
            self.warming.clear();
        }
        self.warming
            .retain(|name| self.view.get(ClusterLoadAssignment, name).is_some());
        self.phase = Phase::Make;
        self.tell(Cluster, Removals::Hold, &mut responses);
        for kind in [ClusterLoadAssignment, Secret, Runtime] {
            self.tell(kind, Removals::Hold, &mut responses);
        }
        self.advance(false, &mut responses);
        responses
    }

    /// Whether something waits for the client's answer. The caller then gives it some time, and
    /// calls [`on_patience_over`](Self::on_patience_over).
    pub fn is_waiting(&self) -> bool {
        self.phase != Phase::Settled
    }

    /// Goes on although the client did not answer.
    pub fn on_patience_over(&mut self) -> Vec<Response> {
        let mut responses = Vec::new();
        self.advance(true, &mut responses);
        responses
    }

    /// What the client made of each type.
    pub fn status(&self) -> impl Iterator<Item = (ResourceType, &Status)> {
        let subscriptions = self.subscriptions.iter();
        subscriptions.map(|(kind, subscription)| (*kind, &subscription.status))
    }

    /// What the client made of one type.
    pub fn status_of(&self, kind: ResourceType) -> Option<&Status> {
        Some(&self.subscriptions.get(&kind)?.status)
    }

    /// Walks on through the phases as far as the client's answers allow.
    fn advance(&mut self, force: bool, responses: &mut Vec<Response>) {
        let mut force = force;
        if self.phase == Phase::Make && (force || self.made()) {
            force = false;
            self.warming.clear();
            self.phase = Phase::Use;
            for kind in [ExtensionConfig, Listener, RouteConfiguration] {
                self.tell(kind, Removals::Tell, responses);
            }
        }
        if self.phase == Phase::Use && (force || self.answered(&ResourceType::IN_ORDER)) {
            self.phase = Phase::Break;
        }
        if self.phase == Phase::Break {
            for kind in [Cluster, ClusterLoadAssignment, Secret, Runtime] {
                self.tell(kind, Removals::Tell, responses);
            }
            self.phase = Phase::Settled;
        }
    }

    /// Clusters and what they need are accepted, and new clusters know their endpoints.
    fn made(&self) -> bool {
        let endpoints = self.subscriptions.get(&ClusterLoadAssignment);
        self.answered(&[Cluster, ClusterLoadAssignment, Secret, Runtime])
            && self
                .warming
                .iter()
                .all(|name| endpoints.is_some_and(|endpoints| endpoints.has(name)))
    }

    fn answered(&self, kinds: &[ResourceType]) -> bool {
        let mut subscriptions = kinds.iter().filter_map(|kind| self.subscriptions.get(kind));
        subscriptions.all(|subscription| !subscription.unanswered && !subscription.rejected)
    }

    fn tell(&mut self, kind: ResourceType, removals: Removals, responses: &mut Vec<Response>) {
        let Some(subscription) = self.subscriptions.get_mut(&kind) else {
            return;
        };
        let difference = subscription.difference(&self.view, removals);
        if difference.is_nothing() {
            return;
        }
        self.nonces += 1;
        let nonce = self.nonces.to_string();
        let sent = subscription.sent(&difference, &nonce, &self.view);
        responses.push(Response {
            kind,
            nonce,
            version: subscription.status.sent.clone(),
            resources: difference.resources,
            removed: difference.removed,
        });
        match kind {
            Cluster => {
                // A changed cluster warms like a new one, and waits for endpoints that Envoy does
                // not always ask for again.
                let endpoints = self.subscriptions.get_mut(&ClusterLoadAssignment);
                if let Some(endpoints) = endpoints {
                    for name in &sent.changed {
                        endpoints.tell_again(name);
                    }
                    let has_endpoints =
                        |name: &String| self.view.get(ClusterLoadAssignment, name).is_some();
                    self.warming
                        .extend(sent.new.into_iter().filter(has_endpoints));
                }
            }
            Listener if !sent.changed.is_empty() => {
                if let Some(routes) = self.subscriptions.get_mut(&RouteConfiguration) {
                    for name in routes.known_names() {
                        routes.tell_again(&name);
                    }
                }
            }
            _ => {}
        }
    }
}

/// While a change is under way, what names other things waits for its turn.
fn may_answer(kind: ResourceType, phase: Phase) -> bool {
    phase > Phase::Make || matches!(kind, Cluster | ClusterLoadAssignment | Secret | Runtime)
}
