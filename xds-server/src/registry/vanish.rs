//! When too many fall silent at once: most likely the network between them and us is what is dead, so they stay.

use policy::time::Now;

use super::{
    Instance, Phase,
    state::{Held, Instances, is_recent, moved},
};

/// Endpoints of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    /// All of them: the file's, those that are registered, and those that left silently within their last TTL.
    all: usize,
    /// Those that fell silent within one TTL.
    silent: usize,
}

impl Counts {
    /// Whether that is more than one, and more than a fifth.
    fn is_too_many(self) -> bool {
        self.silent > 1 && self.silent.saturating_mul(5) > self.all
    }
}

/// Whether callers know it, or knew it a TTL ago.
fn counts(held: &Held, now: Now) -> bool {
    held.instance.phase != Phase::Expired || is_recent(held, now)
}

/// What becomes of those of a service whose leases have ended: they expire, unless they are too many. Then those
/// that expired shortly before come back with them.
pub(super) fn fallen<'i>(
    said: usize,
    instances: &'i Instances,
    lapsing: Vec<(&'i String, &'i Held)>,
    now: Now,
) -> impl Iterator<Item = (&'i String, Instance)> {
    let silent_before: Vec<(&String, &Held)> = instances
        .iter()
        .filter(|(_, held)| held.instance.phase.is_silent() && is_recent(held, now))
        .collect();
    let count = Counts {
        all: said + instances.values().filter(|held| counts(held, now)).count(),
        silent: silent_before.len() + lapsing.len(),
    };
    let is_too_many = count.is_too_many();
    let phase = match is_too_many {
        true => Phase::Vanished,
        false => Phase::Expired,
    };
    let back = silent_before
        .into_iter()
        .filter(move |(_, held)| is_too_many && held.instance.phase == Phase::Expired);
    let all = lapsing.into_iter().chain(back);
    all.map(move |(id, held)| {
        let silent = Instance {
            is_asked: false,
            ..moved(&held.instance, phase, now)
        };
        (id, silent)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_one_and_more_than_a_fifth_are_too_many() {
        let too_many = |silent, all| Counts { all, silent }.is_too_many();
        assert!(!too_many(1, 1) && !too_many(1, 2));
        assert!(too_many(2, 2) && too_many(2, 9));
        assert!(!too_many(2, 10) && too_many(3, 10));
        assert!(!too_many(2_000, 10_000) && too_many(2_001, 10_000));
    }
}
