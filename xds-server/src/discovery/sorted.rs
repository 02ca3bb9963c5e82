//! Things sorted by name in one slice: cheap to copy, since a copy is one allocation.

use std::{cmp::Ordering, sync::Arc};

/// Something with a name.
pub(super) trait Named {
    fn name(&self) -> &str;
}

impl Named for Arc<str> {
    fn name(&self) -> &str {
        self
    }
}

/// Each name once, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sorted<T>(Vec<T>);

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Named> Sorted<T> {
    /// Of things in any order; of two with one name the later one counts.
    pub(super) fn new(mut items: Vec<T>) -> Self {
        let sorted = |pair: &[T]| pair[0].name() < pair[1].name();
        if !items.windows(2).all(sorted) {
            // Stable: the later one of a name stays behind the earlier one.
            items.sort_by(|left, right| left.name().cmp(right.name()));
            items.reverse();
            items.dedup_by(|later, kept| later.name() == kept.name());
            items.reverse();
        }
        Self(items)
    }

    pub(super) fn get(&self, name: &str) -> Option<&T> {
        let place = self.0.binary_search_by(|item| item.name().cmp(name));
        self.0.get(place.ok()?)
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.0.retain(keep);
    }

    /// Puts others in; where a name is taken, the other one replaces it.
    pub(super) fn put(&mut self, others: Self) {
        if self.0.is_empty() {
            *self = others;
            return;
        }
        if others.0.len() * 8 < self.0.len() {
            others.0.into_iter().for_each(|other| self.put_one(other));
            return;
        }
        let mut merged = Vec::with_capacity(self.0.len() + others.0.len());
        let mut ours = std::mem::take(&mut self.0).into_iter().peekable();
        for other in others.0 {
            while let Some(one) = ours.next_if(|one| one.name() < other.name()) {
                merged.push(one);
            }
            ours.next_if(|one| one.name() == other.name());
            merged.push(other);
        }
        merged.extend(ours);
        self.0 = merged;
    }

    fn put_one(&mut self, other: T) {
        match self
            .0
            .binary_search_by(|item| item.name().cmp(other.name()))
        {
            Ok(at) => self.0[at] = other,
            Err(at) => self.0.insert(at, other),
        }
    }
}

/// Where two sorted lists stand at one name.
pub(super) enum Side<L, R> {
    Left(L),
    Right(R),
    Both(L, R),
}

/// Walks two lists that are sorted by name side by side. `compare` orders an item of each.
pub(super) fn side_by_side<L, R>(
    left: impl IntoIterator<Item = L>,
    right: impl IntoIterator<Item = R>,
    compare: impl Fn(&L, &R) -> Ordering,
) -> impl Iterator<Item = Side<L, R>> {
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    std::iter::from_fn(move || {
        let order = match (left.peek(), right.peek()) {
            (Some(left), Some(right)) => compare(left, right),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        match order {
            Ordering::Less => left.next().map(Side::Left),
            Ordering::Greater => right.next().map(Side::Right),
            Ordering::Equal => Some(Side::Both(left.next()?, right.next()?)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(names: &[&str]) -> Sorted<Arc<str>> {
        Sorted::new(names.iter().map(|name| Arc::from(*name)).collect())
    }

    #[test]
    fn few_and_many_are_put_in_alike() {
        let many: Vec<String> = (0..40).map(|number| format!("n{number:02}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for others in [&["n05", "a", "z"][..], &many] {
            let mut put = sorted(&many);
            put.put(sorted(others));
            let mut all = [&many, others].concat();
            all.sort_unstable();
            all.dedup();
            assert_eq!(put, sorted(&all));
        }
    }

    #[test]
    fn two_lists_are_walked_side_by_side() {
        let (left, right) = (sorted(&["a", "b", "d"]), sorted(&["b", "c"]));
        let walk = side_by_side(left.iter(), right.iter(), |l, r| l.cmp(r));
        let told: Vec<String> = walk
            .map(|side| match side {
                Side::Left(name) => format!("<{name}"),
                Side::Right(name) => format!(">{name}"),
                Side::Both(name, _) => format!("={name}"),
            })
            .collect();
        assert_eq!(told, ["<a", "=b", ">c", "<d"]);
    }
}
