//! What waits, or goes on in an older version, because of what the client rejected.

use std::sync::Arc;

use super::{
    super::{
        Asked, Interest, Name, RequestError,
        position::{Removals, WILDCARD},
        track::{Held, Track},
    },
    Session,
};
use crate::resource::{Collection, Resource, ResourceType};

use ResourceType::{Cluster, ClusterLoadAssignment, ExtensionConfig};

impl Session {
    /// Clusters that the client rejected, and of which it has no version.
    pub fn missing(&self) -> impl Iterator<Item = &Name> {
        let clusters = self.track(Cluster).into_iter();
        clusters.flat_map(Track::unusable)
    }

    /// Whether something is held back because of what the client rejected.
    pub fn is_holding(&self) -> bool {
        let mut tracks = self.tracks.iter();
        tracks.any(|(_, track)| !track.status.held.is_empty())
    }

    /// Finds what must wait, since the client rejected what it needs: a listener or route that names a
    /// cluster of which the client has no version, and the change of a cluster whose good endpoints are not
    /// here to be told again. Whether that is new.
    pub(super) fn hold(&mut self) -> bool {
        let mut missing: Vec<Name> = self.missing().cloned().collect();
        missing.extend(self.others.missing.iter().cloned());
        missing.sort_unstable();
        let endpoints = self.track(ClusterLoadAssignment).into_iter();
        let unsendable: Vec<Name> = endpoints.flat_map(Track::unsendable).cloned().collect();
        let mut changed = false;
        for (kind, track) in &mut self.tracks {
            let needs = |resource: &Resource| -> Option<Held> {
                let (of, because) = match *kind {
                    Cluster => (
                        ClusterLoadAssignment,
                        unsendable.iter().find(|name| **name == resource.name),
                    ),
                    _ => {
                        let mut clusters = resource.clusters.iter();
                        (
                            Cluster,
                            clusters.find(|name| missing.binary_search(name).is_ok()),
                        )
                    }
                };
                Some(Held {
                    name: Arc::clone(&resource.name),
                    kind: of,
                    because: Arc::clone(because?),
                })
            };
            let position = &track.status.position;
            let found = if missing.is_empty() && unsendable.is_empty() {
                Vec::new()
            } else {
                let resources = self.view.resources(*kind);
                let resources =
                    resources.filter(|one| position.wants(&one.name) && !position.knows(one));
                resources.filter_map(|one| needs(one)).collect()
            };
            if track.hold(found) {
                changed = true;
                self.noted.push(*kind);
            }
        }
        changed
    }

    /// What the client is offered of a type.
    pub(super) fn offered(&mut self, kind: ResourceType) -> Arc<Collection> {
        let view = Arc::clone(&self.view);
        let collection = view.collection(kind);
        match self.track_mut(kind) {
            Some(track) => track.offered(collection, kind.is_full_state()),
            None => Arc::clone(collection),
        }
    }

    /// What a held listener or route goes on using stays.
    pub(super) fn removals(&self, kind: ResourceType, removals: Removals) -> Removals {
        let is_used = kind.is_named_by_others() || kind == ExtensionConfig;
        match is_used && (self.others.holding || self.is_holding()) {
            true => Removals::Hold,
            false => removals,
        }
    }
}

/// What was rejected is told all the same when it is asked for by name, or given up and asked for anew.
pub(super) fn lift_what_is_asked_for(track: &mut Track, asked: &Asked) -> Result<(), RequestError> {
    if !track.refuses() {
        return Ok(());
    }
    let position = Arc::clone(&track.status.position);
    match asked.interest()? {
        Interest::Names { .. } => track.lift(|one| position.wants(&one.name)),
        Interest::Changes {
            mut subscribe,
            unsubscribe,
            ..
        } => {
            subscribe.extend(unsubscribe);
            let all = subscribe.iter().any(|name| **name == *WILDCARD);
            track.lift(|one| !all && !subscribe.contains(&one.name));
        }
    }
    Ok(())
}
