//! Steps that clients take together.
//!
//! A client's next position follows from where it stands, from what it asks and from what there is. So
//! the step is worked out once, its response is encoded once, and whoever comes from the same position
//! takes it from here. Everything would be the same without it, only slower; so it may forget.

use std::{
    convert::Infallible,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use lru::LruCache;

use super::{
    Asked, Name, Payload, RequestError, Variant,
    position::{Position, Removals, Told},
};
use crate::resource::{Collection, ResourceType};

/// Steps remembered. Clients that stand alike move within moments of each other, so few are in use.
const STEPS_MAX: NonZeroUsize = NonZeroUsize::new(64).unwrap();
/// Bytes of what is remembered: responses, and the positions to which they lead.
const BYTES_MAX: usize = 2 * 1024 * 1024;
/// The newest steps are remembered whatever they weigh: a mesh whose full state is larger than that must
/// not be encoded for each client.
const STEPS_MIN: usize = 16;
/// A position of a client that wants more bytes of names than this is nobody else's, and is forgotten
/// with its client.
const NAME_BYTES_MAX: usize = 256 * 1024;

/// Addresses are keys only together with the [`Pin`] that keeps what lies there alive.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Key {
    Asked {
        from: usize,
        fingerprint: u128,
        repeated: bool,
        /// Zero where the answer does not depend on what there is.
        collection: usize,
    },
    Told {
        from: usize,
        collection: usize,
        removals: Removals,
    },
    Again {
        from: usize,
        because: usize,
    },
}

#[derive(Debug)]
struct Pin {
    from: Arc<Position>,
    _collection: Option<Arc<Collection>>,
    _because: Option<Arc<Payload>>,
}

impl Pin {
    fn of(from: &Arc<Position>) -> Self {
        Self {
            from: Arc::clone(from),
            _collection: None,
            _because: None,
        }
    }
}

#[derive(Debug)]
struct Step {
    told: Told,
    _pin: Pin,
}

impl Step {
    fn bytes(&self) -> usize {
        let payload = self.told.payload.as_ref();
        let response = payload.map_or(0, |payload| payload.body().len());
        response + self.told.to.bytes()
    }
}

#[derive(Debug)]
struct Steps {
    known: LruCache<Key, Step>,
    bytes: usize,
}

/// Shared by all streams.
#[derive(Debug)]
pub struct Memo {
    /// Where everyone begins: by type, state of the world first.
    fresh: Vec<[Arc<Position>; 2]>,
    steps: Mutex<Steps>,
}

impl Default for Memo {
    fn default() -> Self {
        let fresh = ResourceType::IN_ORDER.map(|kind| {
            [Variant::StateOfTheWorld, Variant::Delta]
                .map(|variant| Arc::new(Position::fresh(kind, variant)))
        });
        Self {
            fresh: fresh.into(),
            steps: Mutex::new(Steps {
                known: LruCache::new(STEPS_MAX),
                bytes: 0,
            }),
        }
    }
}

impl Memo {
    /// The position of a client that said nothing yet.
    pub(super) fn fresh(&self, kind: ResourceType, variant: Variant) -> Arc<Position> {
        Arc::clone(&self.fresh[kind as usize][variant as usize])
    }

    /// See [`Position::asked`].
    pub(super) fn asked(
        &self,
        from: &Arc<Position>,
        asked: &Asked,
        repeated: bool,
        collection: &Arc<Collection>,
    ) -> Result<Arc<Position>, RequestError> {
        // Only a first request's version is compared with what there is.
        let depends = !from.has_begun();
        let key = Key::Asked {
            from: address(from),
            fingerprint: if depends {
                asked.first_fingerprint()
            } else {
                asked.fingerprint
            },
            repeated,
            collection: if depends { address(collection) } else { 0 },
        };
        let work = || {
            let to = from.asked(asked.interest()?, repeated, collection)?;
            Ok(Told::nothing(Arc::new(to)))
        };
        let pin = || Pin {
            _collection: depends.then(|| Arc::clone(collection)),
            ..Pin::of(from)
        };
        self.step(key, work, pin).map(|told| told.to)
    }

    /// See [`Position::told`].
    pub(super) fn told(
        &self,
        from: &Arc<Position>,
        collection: &Arc<Collection>,
        removals: Removals,
    ) -> Told {
        let key = Key::Told {
            from: address(from),
            collection: address(collection),
            removals,
        };
        let work = || Ok::<_, Infallible>(from.told(collection, removals));
        let pin = || Pin {
            _collection: Some(Arc::clone(collection)),
            ..Pin::of(from)
        };
        let Ok(told) = self.step(key, work, pin);
        told
    }

    /// See [`Position::again`]; `names` are those of `because`.
    pub(super) fn again(
        &self,
        from: &Arc<Position>,
        names: Option<&[Name]>,
        because: &Arc<Payload>,
    ) -> Arc<Position> {
        let key = Key::Again {
            from: address(from),
            because: address(because),
        };
        let work = || Ok::<_, Infallible>(Told::nothing(from.again(names)));
        let pin = || Pin {
            _because: Some(Arc::clone(because)),
            ..Pin::of(from)
        };
        let Ok(told) = self.step(key, work, pin);
        told.to
    }

    /// The step as it is remembered, else worked out and remembered with what pins its key.
    fn step<E>(
        &self,
        key: Key,
        work: impl FnOnce() -> Result<Told, E>,
        pin: impl FnOnce() -> Pin,
    ) -> Result<Told, E> {
        if let Some(told) = self.known(&key) {
            return Ok(told);
        }
        let told = work()?;
        let pin = pin();
        if told.to.name_bytes().max(pin.from.name_bytes()) <= NAME_BYTES_MAX {
            self.remember(key, told.clone(), pin);
        }
        Ok(told)
    }

    fn known(&self, key: &Key) -> Option<Told> {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.known.get(key).map(|step| step.told.clone())
    }

    /// What two streams worked out at the same time is remembered from the later one.
    fn remember(&self, key: Key, told: Told, pin: Pin) {
        let step = Step { told, _pin: pin };
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.bytes += step.bytes();
        if let Some((_, old)) = steps.known.push(key, step) {
            steps.bytes -= old.bytes();
        }
        while steps.bytes > BYTES_MAX
            && steps.known.len() > STEPS_MIN
            && let Some((_, old)) = steps.known.pop_lru()
        {
            steps.bytes -= old.bytes();
        }
    }
}

fn address<T>(shared: &Arc<T>) -> usize {
    Arc::as_ptr(shared) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        discovery::{Interest, Response, Session, stories},
        resource::Resource,
    };

    /// A client follows so many changes of one among many resources; what is remembered then.
    fn remembered_after(changes: u32) -> (usize, usize) {
        let kind = ResourceType::Cluster;
        let resource = |name: u32, version: u32| {
            let (name, version) = (format!("n{name}"), version.to_string());
            Arc::new(Resource::new(kind, &name, &version, &[0; 500]))
        };
        let view = |version: u32| {
            let resources =
                (0..1_000).map(|name| resource(name, if name == 7 { version } else { 0 }));
            Arc::new(crate::resource::View::new(
                resources.map(|resource| (kind, resource)).collect(),
            ))
        };
        let memo = Arc::new(Memo::default());
        let mut session = Session::new(Arc::clone(&memo), Variant::Delta, 1, view(0));
        let mut responses: Vec<Response> = Vec::new();
        let interest = Interest::Changes {
            subscribe: Vec::new(),
            unsubscribe: Vec::new(),
            known: Vec::new(),
        };
        let first = stories::request(kind, "", None, interest);
        session.on_request(first, &mut responses).unwrap();
        for version in 1..=changes {
            session.on_view(view(version), &mut responses);
        }
        assert_eq!(responses.len(), 1 + changes as usize);
        let steps = memo.steps.lock().unwrap();
        let sum: usize = steps.known.iter().map(|(_, step)| step.bytes()).sum();
        assert_eq!(sum, steps.bytes, "the account is kept");
        (steps.known.len(), steps.bytes)
    }

    #[test]
    fn what_is_remembered_is_bounded_however_many_changes_come() {
        let (_, few) = remembered_after(3);
        assert!(few > 500_000, "the whole state is remembered: {few} bytes");
        let (steps, bytes) = remembered_after(400);
        assert!(steps <= STEPS_MAX.get(), "{steps} steps");
        assert!(bytes <= BYTES_MAX || steps <= STEPS_MIN, "{bytes} bytes");
    }
}
