//! What a client rejected, resource by resource, for as long as the server has nothing better: it is not
//! sent again, and what needs it waits.

use std::sync::Arc;

use super::{Name, Payload, Position, known::Known};
use crate::resource::{Collection, Instead, Resource};

/// One resource in a version that its client rejected.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Its name.
    pub name: Name,
    /// The version.
    pub version: Box<str>,
    /// Version of the response in which it came.
    pub response: Arc<str>,
    /// The client's words.
    pub message: Arc<str>,
    /// The client has another version, which it accepted; or nobody knows that it has none.
    pub usable: bool,
    /// That one, when it was sent on this stream.
    had: Option<Arc<Resource>>,
    /// It is this one that was rejected, and not only one of several.
    certain: bool,
}

impl Refused {
    fn had_version(&self, version: &str) -> bool {
        self.had
            .as_ref()
            .is_some_and(|had| *had.version == *version)
    }
}

/// Sorted by name; each name once.
#[derive(Debug, Clone, Default)]
pub(super) struct Refusals {
    all: Arc<[Refused]>,
}

impl Refusals {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn all(&self) -> &Arc<[Refused]> {
        &self.all
    }

    fn get(&self, name: &str) -> Option<&Refused> {
        let place = self.all.binary_search_by(|one| (*one.name).cmp(name));
        self.all.get(place.ok()?)
    }

    /// A response was rejected by a client that stood at `before`.
    ///
    /// Envoy takes the good resources of such a response, and names the bad ones in its words. Where they
    /// name none, all that was new to it is suspected; but not of a first response, since nothing of it
    /// would then ever be used.
    pub(super) fn rejected(&mut self, payload: &Payload, before: &Position, message: &str) {
        let new = |resource: &&Arc<Resource>| !before.knows(resource);
        let candidates: Vec<_> = payload.resources.iter().filter(new).collect();
        let named = |resource: &&Arc<Resource>| mentions(message, &resource.name);
        let any_named = candidates.iter().copied().any(|one| named(&one));
        let certain = candidates.len() == 1 || any_named;
        let is_first = before.known() == 0;
        let words: Arc<str> = message.into();
        let mut all = self.all.to_vec();
        for resource in candidates {
            if any_named && !named(&resource) {
                continue;
            }
            let earlier = self.get(&resource.name);
            let (response, message) = (Arc::clone(&payload.version), Arc::clone(&words));
            let refused = match earlier {
                // It does not take back either what it was offered instead. What there is stays refused.
                Some(earlier) if earlier.had_version(&resource.version) => Refused {
                    had: earlier.had.clone().filter(|_| !certain),
                    ..earlier.clone()
                },
                Some(earlier) if before.has_refused(earlier) => Refused {
                    version: resource.version.clone(),
                    response,
                    message,
                    certain,
                    ..earlier.clone()
                },
                _ => Refused {
                    name: Arc::clone(&resource.name),
                    version: resource.version.clone(),
                    response,
                    message,
                    usable: before.has(&resource.name) || (is_first && !certain),
                    had: before.sent(&resource.name).cloned(),
                    certain,
                },
            };
            all.retain(|one| one.name != refused.name);
            all.push(refused);
        }
        all.sort_by(|left, right| left.name.cmp(&right.name));
        self.all = all.into();
    }

    /// Forgets those that this does not hold for any more. Whether there were such.
    pub(super) fn retain(&mut self, holds: impl Fn(&Refused) -> bool) -> bool {
        let all_hold = self.all.iter().all(&holds);
        if !all_hold {
            self.all = self.all.iter().filter(|one| holds(one)).cloned().collect();
        }
        !all_hold
    }

    /// Those that are still what there is.
    pub(super) fn retain_in_force(&mut self, collection: &Collection) -> bool {
        let in_force = |one: &Refused| {
            let now = collection.get(&one.name);
            now.is_some_and(|now| now.version == one.version)
        };
        self.retain(in_force)
    }

    /// What the client is offered in their place. Where nobody knows which one is bad, none is left out:
    /// in a full state that would take the good ones away.
    pub(super) fn instead(&self, is_full_state: bool) -> impl Iterator<Item = (Name, Instead)> {
        let known = self
            .all
            .iter()
            .filter(move |one| one.certain || (!is_full_state && one.had.is_some()));
        known.map(|one| (Arc::clone(&one.name), one.had.clone()))
    }

    /// Those of which the client has a good version that is not here any more.
    pub(super) fn unsendable(&self) -> impl Iterator<Item = &Name> {
        let kept = self
            .all
            .iter()
            .filter(|one| one.certain && one.usable && one.had.is_none());
        kept.map(|one| &one.name)
    }

    /// Those of which the client has no version at all.
    pub(super) fn unusable(&self) -> impl Iterator<Item = &Name> {
        let unusable = self.all.iter().filter(|one| !one.usable);
        unusable.map(|one| &one.name)
    }
}

impl Position {
    /// Whether it has this resource in this version.
    pub fn knows(&self, resource: &Arc<Resource>) -> bool {
        self.known_of(&resource.name)
            .is_some_and(|known| known.has(resource))
    }

    fn has_refused(&self, refused: &Refused) -> bool {
        self.known_of(&refused.name)
            .is_some_and(|known| *known.version() == *refused.version)
    }

    /// The resource of this name that was sent on this stream.
    pub(super) fn sent(&self, name: &str) -> Option<&Arc<Resource>> {
        match self.known_of(name)? {
            Known::Sent(resource) => Some(resource),
            Known::Absent(_) | Known::Kept { .. } => None,
        }
    }
}

/// Whether a text has this name in it, and not only within a longer one.
fn mentions(text: &str, name: &str) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'|');
    let mut found = text.match_indices(name);
    found.any(|(at, _)| {
        let bytes = text.as_bytes();
        let before = at.checked_sub(1).and_then(|at| bytes.get(at));
        let after = bytes.get(at + name.len());
        !name.is_empty() && !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_in_envoys_words_and_not_within_another() {
        let words = "Error adding/updating cluster(s) orders: ProtoValidationError";
        assert!(mentions(words, "orders"));
        assert!(!mentions(words, "order"));
        assert!(!mentions("cluster(s) orders|v2: bad", "orders"));
        assert!(!mentions("cluster(s) orders|v2: bad", "v2"));
        assert!(mentions("orders", "orders"));
        assert!(!mentions("anything", ""));
    }
}
