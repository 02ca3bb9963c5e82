//! Members of the mesh by name, shared: the mesh after it holds what did not change, and the two are compared by
//! where their members lie before anything is read.

use std::{
    collections::{
        BTreeMap, BTreeSet,
        btree_map::{self, Keys},
    },
    iter::Map,
    sync::Arc,
};

use policy::units::ServiceName;

/// What has a name in the mesh.
#[derive(Debug, Clone)]
pub struct Members<T>(BTreeMap<ServiceName, Arc<T>>);

/// A member and its name.
type Named<'m, T> = (&'m ServiceName, &'m T);

/// Members in the order of their names.
pub type Iter<'m, T> = Map<btree_map::Iter<'m, ServiceName, Arc<T>>, Shown<'m, T>>;

type Shown<'m, T> = fn((&'m ServiceName, &'m Arc<T>)) -> Named<'m, T>;

fn named<'m, T>((name, member): (&'m ServiceName, &'m Arc<T>)) -> Named<'m, T> {
    (name, member)
}

impl<T> Members<T> {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// The member of a name.
    pub fn get(&self, name: &ServiceName) -> Option<&T> {
        self.0.get(name).map(|member| &**member)
    }

    /// The same, to be held.
    pub fn shared(&self, name: &ServiceName) -> Option<&Arc<T>> {
        self.0.get(name)
    }

    /// The same with the name.
    pub fn get_key_value(&self, name: &ServiceName) -> Option<Named<'_, T>> {
        let (name, member) = self.0.get_key_value(name)?;
        Some((name, member))
    }

    /// Whether there is a member of this name.
    pub fn contains_key(&self, name: &ServiceName) -> bool {
        self.0.contains_key(name)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// All names.
    pub fn keys(&self) -> Keys<'_, ServiceName, Arc<T>> {
        self.0.keys()
    }

    /// All members.
    pub fn values(&self) -> impl Iterator<Item = &T> + Clone {
        self.0.values().map(|member| &**member)
    }

    /// All of them with their names.
    pub fn iter(&self) -> Iter<'_, T> {
        self.0.iter().map(named as Shown<'_, T>)
    }

    /// Takes a member, in the place of the one of its name.
    pub fn put(&mut self, name: ServiceName, member: Arc<T>) {
        self.0.insert(name, member);
    }
}

impl<T: PartialEq> Members<T> {
    /// Names under which the two hold different things.
    pub fn differing(&self, other: &Self) -> BTreeSet<ServiceName> {
        let gone = self.0.keys().filter(|name| !other.0.contains_key(*name));
        let others = other
            .0
            .iter()
            .filter(|(name, member)| !self.0.get(*name).is_some_and(|ours| is_same(ours, member)))
            .map(|(name, _)| name);
        gone.chain(others).cloned().collect()
    }
}

fn is_same<T: PartialEq>(ours: &Arc<T>, theirs: &Arc<T>) -> bool {
    Arc::ptr_eq(ours, theirs) || ours == theirs
}

impl<T: PartialEq> PartialEq for Members<T> {
    fn eq(&self, other: &Self) -> bool {
        let mut pairs = self.0.iter().zip(&other.0);
        self.0.len() == other.0.len()
            && pairs.all(|((a, ours), (b, theirs))| a == b && is_same(ours, theirs))
    }
}

/// For those who know that it is there.
#[cfg(test)]
impl<T> std::ops::Index<&ServiceName> for Members<T> {
    type Output = T;

    fn index(&self, name: &ServiceName) -> &T {
        &self.0[name]
    }
}

impl<T> Default for Members<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> FromIterator<(ServiceName, T)> for Members<T> {
    fn from_iter<I: IntoIterator<Item = (ServiceName, T)>>(members: I) -> Self {
        let members = members.into_iter();
        Self(
            members
                .map(|(name, member)| (name, Arc::new(member)))
                .collect(),
        )
    }
}

impl<'m, T> IntoIterator for &'m Members<T> {
    type Item = Named<'m, T>;
    type IntoIter = Iter<'m, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(numbers: &[(&str, u32)]) -> Members<u32> {
        let member = |(name, number): &(&str, u32)| (ServiceName::new(name).unwrap(), *number);
        numbers.iter().map(member).collect()
    }

    #[test]
    fn what_differs_is_named_whoever_holds_the_rest() {
        let before = members(&[("a", 1), ("b", 2), ("c", 3)]);
        let mut after = before.clone();
        assert!(after == before && before.differing(&after).is_empty());
        after.put(ServiceName::new("b").unwrap(), Arc::new(2));
        assert!(after == before && before.differing(&after).is_empty());
        let other = members(&[("a", 1), ("b", 9), ("d", 4)]);
        let differing: Vec<String> = before
            .differing(&other)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(differing, ["b", "c", "d"]);
        assert!(other != before);
    }
}
