//! Make before break: how far a view has been told, and when it goes on.

use std::sync::Arc;

use super::{
    super::{Name, Payload, Position, track::Track},
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
            self.reach(Phase::Use);
            for kind in USED {
                // A filter goes when the listener that used it has changed: that comes after it here.
                let removals = match kind {
                    ExtensionConfig => Removals::Hold,
                    _ => Removals::Tell,
                };
                self.tell(kind, removals, out);
            }
        }
        let used = self.others.used && self.has_seen(&ResourceType::IN_ORDER);
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

    /// A change is under way from now on. It waits for all that the client was told so far of what others name; of what
    /// it is told meanwhile, for that alone which it did not have: changes that never end hold nothing up.
    pub(super) fn begin(&mut self) {
        for (kind, track) in &mut self.tracks {
            if kind.is_named_by_others() {
                track.gate = track.nonce;
            }
        }
        self.reached.0 = Phase::Make;
        self.reached.1 += 1;
    }

    fn reach(&mut self, phase: Phase) {
        if self.reached.0 < phase {
            self.reached = (phase, self.reached.1 + 1);
        }
    }

    /// Clusters and what they need are seen, and new clusters know their endpoints.
    pub(super) fn made(&self) -> bool {
        if !self.has_seen(&MADE) {
            return false;
        }
        let mut warming = self.warming();
        match self.track(ClusterLoadAssignment) {
            // Endpoints of a new cluster that were rejected are mended soon, or patience ends.
            Some(track) if track.rejected => warming.next().is_none(),
            Some(track) => warming.all(|name| track.status.position.has(name)),
            None => self.others.endpoints != Endpoints::Awaited,
        }
    }

    /// Whether nothing is left unanswered.
    fn answered(&self, kinds: &[ResourceType]) -> bool {
        self.all(kinds, |track| !track.status.waiting)
    }

    /// Whether the client has answered as far as a change under way needs it.
    fn has_seen(&self, kinds: &[ResourceType]) -> bool {
        self.all(kinds, |track| track.seen >= track.gate)
    }

    /// Of what others name, a rejection is an answer: `held` keeps back what needs it, and nothing else. Whoever
    /// rejects a listener, route or filter goes on using what its older version names.
    fn all(&self, kinds: &[ResourceType], is_so: impl Fn(&Track) -> bool) -> bool {
        let mut tracks = self.tracks.iter().filter(|(kind, _)| kinds.contains(kind));
        tracks.all(|(kind, track)| is_so(track) && (kind.is_named_by_others() || !track.rejected))
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
