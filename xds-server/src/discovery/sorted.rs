//! Things sorted by name, in pieces that copies share: who follows a change of one among thousands copies the piece that
//! it is in, and a list of pieces.

use std::{cmp::Ordering, sync::Arc};

/// A piece is made with so many at most. So it stays a small block for the allocator, whose large ones cost a look at
/// each of their pages.
const MADE_MAX: usize = 64;
/// And it grows to so many before it becomes two.
const GROWN_MAX: usize = 2 * MADE_MAX;

/// Something with a name.
pub(super) trait Named {
    fn name(&self) -> &str;
}

impl Named for Arc<str> {
    fn name(&self) -> &str {
        self
    }
}

/// Each name once, in their order. A copy is a count of references.
#[derive(Debug, Clone)]
pub(super) struct Sorted<T> {
    /// None is empty.
    pieces: Arc<Vec<Arc<Vec<T>>>>,
    len: usize,
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self {
            pieces: Arc::default(),
            len: 0,
        }
    }
}

impl<T: PartialEq> PartialEq for Sorted<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.pieces, &other.pieces)
            || (self.len == other.len && self.iter().eq(other.iter()))
    }
}

impl<T> Sorted<T> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        self.pieces.iter().flat_map(|piece| piece.iter())
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl<T: Named + Clone> Sorted<T> {
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
        Self::cut(items)
    }

    /// Of things in their order.
    fn cut(items: Vec<T>) -> Self {
        let len = items.len();
        let mut items = items.into_iter();
        let pieces = std::iter::from_fn(|| {
            let piece: Vec<T> = items.by_ref().take(MADE_MAX).collect();
            (!piece.is_empty()).then(|| Arc::new(piece))
        });
        Self {
            pieces: Arc::new(pieces.collect()),
            len,
        }
    }

    /// The piece in which a name is, or would be; and the place in it, as a search gives it.
    fn place(&self, name: &str) -> (usize, Result<usize, usize>) {
        let ends_before = |piece: &Arc<Vec<T>>| piece.last().is_some_and(|last| last.name() < name);
        let piece = self.pieces.partition_point(ends_before);
        // What comes behind all goes into the last one.
        let piece = piece.min(self.pieces.len().saturating_sub(1));
        let items = self.pieces.get(piece).map_or(&[][..], |items| items);
        (piece, items.binary_search_by(|item| item.name().cmp(name)))
    }

    pub(super) fn get(&self, name: &str) -> Option<&T> {
        let (piece, at) = self.place(name);
        self.pieces.get(piece)?.get(at.ok()?)
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let mut pieces: Vec<Arc<Vec<T>>> = Vec::with_capacity(self.pieces.len());
        for piece in self.pieces.iter() {
            let Some(goes) = piece.iter().position(|item| !keep(item)) else {
                pieces.push(Arc::clone(piece));
                continue;
            };
            let mut kept = piece[..goes].to_vec();
            kept.extend(piece[goes + 1..].iter().filter(|item| keep(item)).cloned());
            // Few that are left go to those before them, so that there are never many small pieces.
            match pieces.last_mut() {
                _ if kept.is_empty() => {}
                Some(before) if before.len() + kept.len() <= MADE_MAX => {
                    Arc::make_mut(before).append(&mut kept);
                }
                _ => pieces.push(Arc::new(kept)),
            }
        }
        self.len = pieces.iter().map(|piece| piece.len()).sum();
        self.pieces = Arc::new(pieces);
    }

    /// Puts others in; where a name is taken, the other one replaces it.
    pub(super) fn put(&mut self, others: Self) {
        if self.is_empty() {
            *self = others;
            return;
        }
        if others.len * 8 < self.len {
            others.iter().for_each(|other| self.put_one(other.clone()));
            return;
        }
        let both = side_by_side(self.iter(), others.iter(), |ours, other| {
            ours.name().cmp(other.name())
        });
        let merged = both.map(|side| match side {
            Side::Left(one) | Side::Right(one) | Side::Both(_, one) => one.clone(),
        });
        *self = Self::cut(merged.collect());
    }

    fn put_one(&mut self, other: T) {
        let (piece, at) = self.place(other.name());
        let pieces = Arc::make_mut(&mut self.pieces);
        let Some(items) = pieces.get_mut(piece).map(Arc::make_mut) else {
            pieces.push(Arc::new(vec![other]));
            self.len = 1;
            return;
        };
        match at {
            Ok(at) => items[at] = other,
            Err(at) => {
                items.insert(at, other);
                self.len += 1;
            }
        }
        if items.len() > GROWN_MAX {
            let behind = items.split_off(MADE_MAX);
            pieces.insert(piece + 1, Arc::new(behind));
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
    use std::collections::BTreeSet;

    use proptest::{
        collection::{btree_set, vec},
        prelude::*,
    };

    use super::*;

    fn sorted(names: &[&str]) -> Sorted<Arc<str>> {
        Sorted::new(names.iter().map(|name| Arc::from(*name)).collect())
    }

    fn named(numbers: &BTreeSet<u16>) -> Sorted<Arc<str>> {
        let names = numbers.iter().map(|number| format!("n{number:05}").into());
        Sorted::new(names.collect())
    }

    proptest! {
        /// Whatever is put in and taken out, it holds what a set of the same history holds; copies stay as they were.
        #[test]
        fn it_is_a_set_in_pieces(
            begin in btree_set(0_u16..400, 0..400),
            steps in vec((any::<bool>(), btree_set(0_u16..400, 0..120)), 1..12),
        ) {
            let (mut model, mut sorted) = (begin.clone(), named(&begin));
            for (puts, numbers) in steps {
                let before = (sorted.clone(), named(&model));
                let some = named(&numbers);
                if puts {
                    model.extend(&numbers);
                    sorted.put(some);
                } else {
                    model.retain(|number| !numbers.contains(number));
                    sorted.retain(|name| !some.contains(name));
                }
                prop_assert_eq!(&sorted, &named(&model));
                prop_assert_eq!(sorted.iter().count(), sorted.len());
                prop_assert!(sorted.iter().all(|name| sorted.contains(name)));
                prop_assert!(!sorted.contains("m") && !sorted.contains("z"));
                let bounded = |piece: &Arc<Vec<Arc<str>>>| (1..=GROWN_MAX).contains(&piece.len());
                prop_assert!(sorted.pieces.iter().all(bounded));
                prop_assert_eq!(before.0, before.1);
            }
        }
    }

    #[test]
    fn a_step_copies_one_piece() {
        let before = named(&(0..1_000).collect());
        let mut after = before.clone();
        after.put(sorted(&["n00500"]));
        let pairs = before.pieces.iter().zip(after.pieces.iter());
        let copied = pairs.filter(|(before, after)| !Arc::ptr_eq(before, after));
        assert_eq!(copied.count(), 1);
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
