//! How Envoy spreads requests over a cluster's priorities, by the health of their endpoints.

/// With more than this share healthy, a priority takes all of its load: Envoy's overprovisioning factor.
const OVERPROVISIONING_PERCENT: u64 = 140;

/// How much of its load a group of endpoints can take, in percent: `(healthy, all)` of them.
pub(crate) fn carries((healthy, all): (u64, u64)) -> u64 {
    (healthy * OVERPROVISIONING_PERCENT / all.max(1)).min(100)
}

/// Whether a priority's health is not looked at. Priorities whose healthy endpoints can carry everything together
/// never panic.
pub(crate) fn is_in_panic(
    (healthy, all): (u64, u64),
    priorities: &[(u64, u64)],
    threshold: f64,
) -> bool {
    let total: u64 = priorities.iter().copied().map(carries).sum();
    let percent = u32::try_from(healthy * 100 / all.max(1)).unwrap_or(100);
    total < 100 && f64::from(percent) < threshold
}

/// The share of the requests that each priority is sent, in percent, as Envoy works it out.
pub(crate) fn shares(priorities: &[(u64, u64)]) -> Vec<u64> {
    let available: Vec<u64> = priorities.iter().copied().map(carries).collect();
    let total = available.iter().sum::<u64>().min(100);
    let mut left = 100;
    let mut shares: Vec<u64> = available
        .iter()
        .map(|available| {
            let share = match total {
                0 => 0,
                total => (available * 100 / total).min(left),
            };
            left -= share;
            share
        })
        .collect();
    // What rounding leaves goes to the first that takes any; with nobody healthy, to the first of all.
    let first = shares.iter().position(|share| *share > 0).unwrap_or(0);
    if let Some(share) = shares.get_mut(first) {
        *share += left;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_gives_away_what_its_healthy_endpoints_cannot_carry() {
        for (priorities, expected) in [
            (&[(2, 2), (2, 2)][..], &[100, 0][..]),
            (&[(3, 4), (2, 2)], &[100, 0]),
            (&[(1, 2), (2, 2)], &[70, 30]),
            (&[(0, 2), (2, 2)], &[0, 100]),
            (&[(1, 4), (1, 4)], &[50, 50]),
            (&[(0, 2), (0, 2)], &[100, 0]),
            (&[(1, 3)], &[100]),
        ] {
            assert_eq!(shares(priorities), expected, "{priorities:?}");
        }
    }
}
