//! Make before break: how far a view has been told, and when it goes on.

use std::sync::Arc;

use super::{
    super::{Name, Payload, Position},
    Endpoints, Phase, Removals, Response, Session,
};
use crate::resource::ResourceType;

use ResourceType::{Cluster, ClusterLoadAssignment, ExtensionConfig, Listener, RouteConfiguration};

pub(super) const MADE: [ResourceType; 4] = ResourceType::NAMED_BY_OTHERS;
const USED: [ResourceType; 3] = [ExtensionConfig, Listener, RouteConfiguration];

impl Session {
    /// Whether the client has accepted what others need of the newest view.
    pub fn has_made(&self) -> bool {
        self.phase > Phase::Make && self.answered(&MADE)
    }

    /// Whether the client uses nothing any more that the newest view does not have.
    pub fn has_used(&self) -> bool {
        self.phase > Phase::Make && !self.is_holding() && self.answered(&ResourceType::IN_ORDER)
    }

    /// New clusters that the client was told, and whose endpoints it must have before a route names them.
    fn warming(&self) -> impl Iterator<Item = &Name> {
        let told = self.warming.iter().flat_map(|told| &told.new);
        let is_there = |kind, name: &Name| self.view.get(kind, name).is_some();
        told.filter(move |name| is_there(Cluster, name) && is_there(ClusterLoadAssignment, name))
    }

    /// Where the client stood with its endpoints when it had last answered.
    pub fn answered_endpoints(&self) -> Option<&Arc<Position>> {
        let status = &self.track(ClusterLoadAssignment)?.status;
        Some(status.before.as_ref().unwrap_or(&status.position))
    }

    /// Tells endpoints (sorted names) once more.
    pub fn tell_endpoints_again(&mut self, names: &[Name], out: &mut impl Extend<Response>) {
        if let Some(endpoints) = self
            .track_mut(ClusterLoadAssignment)
            .filter(|_| !names.is_empty())
        {
            let to = endpoints.status.position.again(Some(names));
            endpoints.moved(to);
            self.tell(ClusterLoadAssignment, Removals::Hold, out);
        }
    }

    /// Walks on through the phases as far as the client's answers allow.
    pub(super) fn advance(&mut self, force: bool, out: &mut impl Extend<Response>) {
        let mut force = force;
        if self.phase == Phase::Make && (force || (self.made() && self.others.made)) {
            force = false;
            self.warming.clear();
            self.phase = Phase::Use;
            for kind in USED {
                // A filter goes when the listener that used it has changed: that comes after it here.
                let removals = match kind {
                    ExtensionConfig => Removals::Hold,
                    _ => Removals::Tell,
                };
                self.tell(kind, removals, out);
            }
        }
        let used = self.others.used && self.answered(&ResourceType::IN_ORDER);
        if self.phase == Phase::Use && (force || used) {
            self.phase = Phase::Break;
        }
        if self.phase == Phase::Break {
            for kind in MADE.into_iter().chain([ExtensionConfig]) {
                self.tell(kind, Removals::Tell, out);
            }
            self.phase = Phase::Settled;
        }
    }

    /// Clusters and what they need are accepted, and new clusters know their endpoints.
    pub(super) fn made(&self) -> bool {
        if !self.answered(&MADE) {
            return false;
        }
        match self.track(ClusterLoadAssignment) {
            Some(track) => self.warming().all(|name| track.status.position.has(name)),
            None => self.others.endpoints != Endpoints::Awaited,
        }
    }

    pub(super) fn answered(&self, kinds: &[ResourceType]) -> bool {
        let mut tracks = self.tracks.iter().filter(|(kind, _)| kinds.contains(kind));
        tracks.all(|(_, track)| !track.status.waiting && !track.rejected)
    }

    /// Whether nothing is left to tell of this view, removals included.
    pub(super) fn all_done(&mut self) -> bool {
        let view = &self.view;
        let mut tracks = self.tracks.iter_mut();
        self.warming.is_empty()
            && self.others.endpoints != Endpoints::Awaited
            && tracks.all(|(kind, track)| {
                let offered = track.offered(view.collection(*kind), kind.is_full_state());
                track.is_done(&offered)
            })
    }

    /// What others must be told again because of a response.
    pub(super) fn follow_up(&mut self, payload: &Arc<Payload>) {
        let memo = Arc::clone(&self.memo);
        match payload.kind {
            Cluster => {
                // A changed cluster warms like a new one, and waits for endpoints that Envoy does not
                // always ask for again.
                let mut has_endpoints = self.others.endpoints != Endpoints::NotThere;
                if let Some(endpoints) = self.track_mut(ClusterLoadAssignment) {
                    has_endpoints = true;
                    if !payload.changed.is_empty() {
                        let from = &endpoints.status.position;
                        let to = memo.again(from, Some(&payload.changed), payload);
                        endpoints.moved(to);
                    }
                }
                if has_endpoints && self.phase != Phase::Settled && !payload.new.is_empty() {
                    self.warming.push(Arc::clone(payload));
                    if self.others.endpoints != Endpoints::NotThere {
                        self.new_clusters.extend(payload.new.iter().cloned());
                    }
                }
            }
            Listener if !payload.changed.is_empty() => {
                if let Some(routes) = self.track_mut(RouteConfiguration) {
                    let to = memo.again(&routes.status.position, None, payload);
                    routes.moved(to);
                }
            }
            _ => {}
        }
    }
}

/// While a change is under way, what names other things waits for its turn.
pub(super) fn may_answer(kind: ResourceType, phase: Phase) -> bool {
    phase > Phase::Make || kind.is_named_by_others()
}
