//! What a client says it wants, in both variants, and where it stands then.

use std::mem;

use super::{
    super::{
        Interest, Name, RequestError,
        known::{Known, version_of},
        sorted::{Named, Sorted},
    },
    NAME_BYTES_MAX, NAMES_MAX, Position, WILDCARD,
};
use crate::resource::Collection;

impl Position {
    /// The client asks. `repeated`: with the nonce of a response that it has answered already.
    ///
    /// # Errors
    /// When it wants more than [`NAMES_MAX`] names, or one beyond [`NAME_BYTES_MAX`].
    pub(in crate::discovery) fn asked(
        &self,
        interest: Interest,
        repeated: bool,
        collection: &Collection,
    ) -> Result<Self, RequestError> {
        let longest = interest.longest_name();
        if longest > NAME_BYTES_MAX {
            return Err(RequestError::LongName { bytes: longest });
        }
        let mut next = self.clone();
        next.resumed = None;
        let first = !mem::replace(&mut next.begun, true);
        match interest {
            Interest::Names { names, version } => {
                next.want(names, first, repeated);
                if first && !version.is_empty() {
                    next.assume(&version, collection);
                }
            }
            Interest::Changes {
                subscribe,
                unsubscribe,
                known,
            } => next.change(subscribe, unsubscribe, first, known),
        }
        if next.names.len() > NAMES_MAX || next.known.len() > NAMES_MAX {
            return Err(RequestError::TooManyNames);
        }
        let kept = next.known.iter().map(Known::kept_bytes);
        next.name_bytes =
            next.names.iter().map(|name| name.len()).sum::<usize>() + kept.sum::<usize>();
        Ok(next)
    }

    /// State of the world: the names wanted from now on.
    ///
    /// "If the resource_names field is empty, that is a wildcard only where the type allows it and only
    /// until names were given" (xDS protocol, "How the client specifies what resources to return").
    fn want(&mut self, names: Vec<Name>, first: bool, repeated: bool) {
        let mut names = Sorted::new(names);
        let star = names.contains(WILDCARD);
        names.retain(|name| **name != *WILDCARD);
        let given = star || !names.is_empty();
        let full_state = self.kind.is_full_state();
        let wildcard = star || (!given && full_state && (first || !self.named_once));
        self.named_once |= given;
        let before = mem::replace(&mut self.names, names);
        let was_wild = mem::replace(&mut self.wildcard, wildcard);
        let newly_wild = wildcard && !was_wild;
        let names = &self.names;
        let same = *names == before && wildcard == was_wild;
        let newly_named = !same && names.iter().any(|name| !before.contains(name));
        if !same {
            // Named anew is told anew; what is not wanted any more is forgotten.
            self.known.retain(|known| {
                let name = known.name();
                match names.contains(name) {
                    true => before.contains(name),
                    false => wildcard,
                }
            });
        }
        let wants_some = wildcard || !names.is_empty();
        // The same names once more, with nothing to answer: Envoy warms a changed cluster or listener
        // and waits to be told again what it needs.
        if repeated && same {
            self.known.clear();
        }
        if full_state && (first || newly_wild || newly_named) {
            self.owed = wants_some;
        }
    }

    /// State of the world, first request of a stream: versions are derived from content, so a client
    /// that names the version we would send has it all. (One case reads the same and is not: it gave a name up
    /// after that version, asked for it anew, and lost the stream before the answer. The protocol has no word
    /// for it; delta tells what the client has.)
    fn assume(&mut self, version: &str, collection: &Collection) {
        let wanted = self.wanted(collection).cloned().map(Known::Sent).collect();
        let wanted = Sorted::new(wanted);
        if version_of(&wanted) == version {
            self.known = wanted;
            self.owed = false;
            self.resumed = Some(version.into());
        }
    }

    /// Delta: changes of what is wanted.
    fn change(
        &mut self,
        subscribe: Vec<Name>,
        unsubscribe: Vec<Name>,
        first: bool,
        kept: Vec<(Name, Box<str>)>,
    ) {
        self.unsubscribe(&Sorted::new(unsubscribe));
        if first && subscribe.is_empty() && self.kind.is_full_state() {
            self.wildcard = true;
            self.owed = true;
        }
        let mut subscribe = Sorted::new(subscribe);
        if subscribe.contains(WILDCARD) {
            subscribe.retain(|name| **name != *WILDCARD);
            self.owed |= !self.wildcard;
            self.wildcard = true;
        }
        if !subscribe.is_empty() {
            // Named again is told again.
            self.known.retain(|known| !subscribe.contains(known.name()));
            self.names.put(subscribe);
        }
        if first {
            let kept = kept
                .into_iter()
                .filter(|(name, _)| self.wildcard || self.names.contains(name));
            let kept = kept.map(|(name, version)| Known::Kept { name, version });
            self.known = Sorted::new(kept.collect());
            // Who comes back and misses nothing is left alone.
            self.owed &= self.known.is_empty();
        }
    }

    fn unsubscribe(&mut self, names: &Sorted<Name>) {
        if names.is_empty() {
            return;
        }
        let stays_wild = self.wildcard && !names.contains(WILDCARD);
        let named = &self.names;
        // Under a wildcard that stays, the resource stays too and is told again.
        self.known.retain(|known| {
            let name = known.name();
            !(names.contains(name) && (named.contains(name) || !stays_wild))
        });
        self.names.retain(|name| !names.contains(name));
        if self.wildcard && !stays_wild {
            self.wildcard = false;
            let named = &self.names;
            self.known.retain(|known| named.contains(known.name()));
        }
    }
}
