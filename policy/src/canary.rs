//! The split between stable and canary. The hash is specified (XXH64), so that every proxy, the
//! server and other people's programs send the same user the same way.

mod ramp;

pub use ramp::{RAMP_EVERY, RAMP_STEPS_MAX, Ramp, Schedule, Step};
use xxhash_rust::xxh64::{Xxh64, xxh64};

use crate::{
    timetable::Freeze,
    units::{BasisPoints, HeaderName, ServiceName, VersionLabel},
};

/// Buckets of the hash: one per basis point.
const BUCKETS: u64 = 10_000;

/// The place `0..10_000` of a key: XXH64, seed 0, of `purpose`, a zero byte, `scope`, a zero byte and
/// the key, modulo 10,000. `purpose` is `canary` (scope: the service) or `shed` (scope: the class), so
/// that one does not hit the other's users.
pub fn bucket(purpose: &str, scope: &str, key: &[u8]) -> u16 {
    // Of one piece it costs half; most keys are short enough for that.
    let mut whole = [0; 64];
    let parts = [purpose.as_bytes(), scope.as_bytes(), key];
    if let Some(text) = joined(&mut whole, parts) {
        return bucket_of(xxh64(text, 0));
    }
    let mut hash = Xxh64::new(0);
    hash.update(purpose.as_bytes());
    hash.update(&[0]);
    hash.update(scope.as_bytes());
    hash.update(&[0]);
    hash.update(key);
    bucket_of(hash.digest())
}

/// Parts with a zero byte between them; none when they are longer than the place for them.
fn joined<'w>(whole: &'w mut [u8], parts: [&[u8]; 3]) -> Option<&'w [u8]> {
    let mut end = 0;
    for part in parts {
        let from = end;
        end += part.len();
        whole.get_mut(from..end)?.copy_from_slice(part);
        // What follows the part is zero still.
        end += 1;
    }
    whole.get(..end - 1)
}

pub(crate) fn bucket_of(number: u64) -> u16 {
    // Below 10,000, so the fallback is never taken.
    u16::try_from(number % BUCKETS).unwrap_or_default()
}

/// How much of a service's traffic goes to its canary, and what keeps a user on one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanarySplit {
    /// Endpoints with this label are the canary.
    pub version: VersionLabel,
    /// The canary's share.
    pub weight: Weight,
    /// When its ramp stands still.
    pub freeze_during: Freeze,
    /// The header whose value is the key; without one every request is drawn anew.
    pub sticky_by: Option<HeaderName>,
    /// What becomes of its users while its breaker is open.
    pub fallback: Fallback,
    /// Draw and count, and let stable serve everybody.
    pub observe: bool,
    /// How often a person let it go on: each time is as if its fields had changed, so what latched before
    /// is let go.
    pub resumed: u32,
}

/// A canary's share of its service's users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Weight {
    /// The same until a person changes it.
    Fixed(BasisPoints),
    /// By the time.
    Ramp(Ramp),
}

impl Weight {
    /// The most that it ever is.
    pub fn highest(&self) -> BasisPoints {
        match self {
            Self::Fixed(weight) => *weight,
            Self::Ramp(ramp) => ramp.highest(),
        }
    }

    /// The ramp, if it is one.
    pub fn ramp(&self) -> Option<&Ramp> {
        match self {
            Self::Fixed(_) => None,
            Self::Ramp(ramp) => Some(ramp),
        }
    }
}

/// What becomes of a canary's users while its breaker is open. Above a weight of 50 % they are
/// refused whatever it says: stable could not carry them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fallback {
    /// Stable serves them, until a person changes the canary.
    #[default]
    Latch,
    /// Stable serves them, until probes show that the canary recovered.
    Probe,
    /// They are refused.
    Off,
}

impl Fallback {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Latch, Self::Probe, Self::Off];

    /// `latch`, `probe` or `off`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Latch => "latch",
            Self::Probe => "probe",
            Self::Off => "off",
        }
    }
}

/// What decided a draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrawSource {
    /// The request's key: the same key, the same side.
    Key,
    /// Dice: the request has no key.
    Random,
    /// A header of the client, where its listener trusts it.
    Header,
}

impl DrawSource {
    /// `key`, `random` or `header`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Random => "random",
            Self::Header => "header",
        }
    }
}

/// One request's side of the split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// `0..10_000`; none when a header decided.
    pub bucket: Option<u16>,
    /// What decided.
    pub source: DrawSource,
    /// Canary, else stable.
    pub canary: bool,
}

impl CanarySplit {
    /// Draws a side at a weight. A bucket below it is the canary's, so a growing weight only adds
    /// users. Without a key, or with an empty one, `random` decides.
    pub fn draw(
        weight: BasisPoints,
        service: &ServiceName,
        key: Option<&[u8]>,
        random: impl FnOnce() -> u64,
    ) -> Draw {
        let (bucket, source) = match key.filter(|key| !key.is_empty()) {
            Some(key) => (bucket("canary", service.as_str(), key), DrawSource::Key),
            None => (bucket_of(random()), DrawSource::Random),
        };
        Draw {
            bucket: Some(bucket),
            source,
            canary: bucket < weight.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn points(basis_points: u32) -> BasisPoints {
        BasisPoints::new(basis_points).unwrap()
    }

    fn on_canary(basis_points: u32, service: &str, key: &[u8]) -> bool {
        let service = ServiceName::new(service).unwrap();
        CanarySplit::draw(points(basis_points), &service, Some(key), || 0).canary
    }

    #[test]
    fn golden_vectors_of_the_hash() {
        let order = |key: &str| bucket("canary", "order-service", key.as_bytes());
        assert_eq!(order("user-1"), 1657);
        assert_eq!(order("user-42"), 695);
        assert_eq!(order("नमस्ते"), 4385);
        assert_eq!(bucket("shed", "bronze", b"user-42"), 1583);
    }

    #[test]
    fn a_key_of_any_length_has_the_place_that_the_contract_says() {
        for length in 0..300 {
            let key = vec![b'k'; length];
            let text = [b"canary\0order-service\0", key.as_slice()].concat();
            let place = u64::from(bucket("canary", "order-service", &key));
            assert_eq!(place, xxh64(&text, 0) % 10_000, "{length} bytes");
        }
    }

    #[test]
    fn the_ends_of_the_weight_are_nobody_and_everybody() {
        for user in 0..2000 {
            let key = format!("user-{user}");
            assert!(!on_canary(0, "order-service", key.as_bytes()));
            assert!(on_canary(10_000, "order-service", key.as_bytes()));
        }
    }

    #[test]
    fn the_share_of_ten_thousand_users_is_within_four_standard_deviations() {
        for (service, basis_points) in [
            ("order-service", 1000_u32),
            ("pay", 2500),
            ("a", 50),
            ("user-service", 5000),
        ] {
            let hits = (0..10_000)
                .filter(|user| on_canary(basis_points, service, format!("user-{user}").as_bytes()))
                .count();
            let share = f64::from(basis_points) / 10_000.0;
            let deviation = (10_000.0 * share * (1.0 - share)).sqrt();
            let distance = (hits as f64 - 10_000.0 * share).abs();
            assert!(
                distance <= 4.0 * deviation,
                "{service}: {hits} of 10,000 at {share}"
            );
        }
    }

    #[test]
    fn without_a_key_the_dice_decide() {
        let service = ServiceName::new("order-service").unwrap();
        for key in [None, Some(&b""[..])] {
            let draw = CanarySplit::draw(points(1000), &service, key, || 20_999);
            assert_eq!(draw.source, DrawSource::Random);
            assert_eq!((draw.bucket, draw.canary), (Some(999), true));
            assert!(!CanarySplit::draw(points(1000), &service, key, || 1000).canary);
        }
        let keyed = CanarySplit::draw(points(1000), &service, Some(b"user-42"), || {
            panic!("no dice are needed")
        });
        assert_eq!((keyed.bucket, keyed.canary), (Some(695), true));
    }

    proptest! {
        #[test]
        fn nobody_leaves_the_canary_when_its_weight_grows(
            key in proptest::collection::vec(any::<u8>(), 1..40),
            low in 0_u32..=10_000,
            more in 0_u32..=10_000,
        ) {
            let high = (low + more).min(10_000);
            if on_canary(low, "order-service", &key) {
                prop_assert!(on_canary(high, "order-service", &key));
            }
        }
    }
}
