//! Where one client stands with one type: what it wants and what it knows. A value that never changes:
//! each step makes another one. Thousands of clients stand at one position, and [`Memo`](super::Memo)
//! lets them take each step together.

mod asked;

use std::sync::Arc;

use super::{
    Name, Payload, Variant,
    known::{Has, Known, version_of},
    payload::Contents,
    sorted::{Named, Side, Sorted, side_by_side},
};
use crate::resource::{Collection, Resource, ResourceType};

pub(super) const WILDCARD: &str = "*";

/// Names that one client may want of one type. More is a mistake or an attack.
pub const NAMES_MAX: usize = 100_000;
/// Longest name that a client may want.
pub const NAME_BYTES_MAX: usize = 4096;

/// Whether removals are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Removals {
    /// Not yet: something may still use what goes.
    Hold,
    /// Now.
    Tell,
}

/// Where a client stands after it was told something, and what it was told.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) to: Arc<Position>,
    /// None when there was nothing to say.
    pub(super) payload: Option<Arc<Payload>>,
}

impl Told {
    /// The client stands there, and there is nothing to say.
    pub(super) fn nothing(to: Arc<Position>) -> Self {
        Self { to, payload: None }
    }
}

/// What one client wants and knows of one type.
#[derive(Debug, Clone)]
pub struct Position {
    kind: ResourceType,
    variant: Variant,
    begun: bool,
    wildcard: bool,
    /// State of the world: names were given once, so an empty list is no wildcard any more.
    named_once: bool,
    names: Sorted<Name>,
    known: Sorted<Known>,
    /// Of all that the client said: its names, and what it kept from an earlier stream.
    name_bytes: usize,
    /// The next response must be sent although nothing changed.
    owed: bool,
    /// State of the world: the client came back with this version, which is what it would be sent.
    resumed: Option<Arc<str>>,
}

impl Position {
    /// A client that said nothing yet.
    pub(super) fn fresh(kind: ResourceType, variant: Variant) -> Self {
        Self {
            kind,
            variant,
            begun: false,
            wildcard: false,
            named_once: false,
            names: Sorted::default(),
            known: Sorted::default(),
            name_bytes: 0,
            owed: false,
            resumed: None,
        }
    }

    /// Whether the client asked for something once.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether it wants all there is.
    pub fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// How many names it asked for.
    pub fn names(&self) -> usize {
        self.names.len()
    }

    /// What it has, or was sent, by name; and the names that it wants and has nothing under.
    pub fn each(&self) -> impl Iterator<Item = (&str, Has<'_>)> {
        let both = side_by_side(self.known.iter(), self.names.iter(), |known, name| {
            known.name().cmp(name)
        });
        both.map(|side| match side {
            Side::Left(known) | Side::Both(known, _) => (known.name(), known.shown()),
            Side::Right(name) => (&**name, Has::Nothing),
        })
    }

    /// How many resources it has, kept ones included.
    pub fn known(&self) -> usize {
        self.known.iter().filter(|known| known.is_there()).count()
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        let entries = self.known.len() * size_of::<Known>() + self.names.len() * size_of::<Name>();
        entries + self.name_bytes
    }

    /// How much of that its client chose.
    pub(super) fn name_bytes(&self) -> usize {
        self.name_bytes
    }

    /// The version with which it came back and missed nothing.
    pub(super) fn resumed(&self) -> Option<&Arc<str>> {
        self.resumed.as_ref()
    }

    /// Whether it has a resource of this name.
    pub fn has(&self, name: &str) -> bool {
        self.known.get(name).is_some_and(Known::is_there)
    }

    /// What it knows of this name.
    pub(super) fn known_of(&self, name: &str) -> Option<&Known> {
        self.known.get(name)
    }

    /// Whether both want the same.
    pub(super) fn wants_the_same(&self, other: &Self) -> bool {
        self.wildcard == other.wildcard && self.names == other.names
    }

    /// Whether it wants a resource of this name.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// The resources that the client wants and that exist, by name.
    fn wanted<'c>(&'c self, collection: &'c Collection) -> impl Iterator<Item = &'c Arc<Resource>> {
        let all = self.wildcard.then(|| {
            let all = collection.iter();
            all.filter(|one| !one.is_by_name_only() || self.names.contains(&one.name))
        });
        let named = (!self.wildcard).then(|| {
            let names = self.names.iter();
            // Few names of many resources are looked up; else one walk finds them all.
            let few = self.names.len() * 8 < collection.len();
            let looked_up = few.then(|| names.clone().filter_map(|name| collection.get(name)));
            let walked = (!few).then(|| {
                let walk = side_by_side(names, collection.iter(), |name, resource| {
                    (***name).cmp(&*resource.name)
                });
                walk.filter_map(|side| match side {
                    Side::Both(_, resource) => Some(resource),
                    Side::Left(_) | Side::Right(_) => None,
                })
            });
            looked_up
                .into_iter()
                .flatten()
                .chain(walked.into_iter().flatten())
        });
        all.into_iter().flatten().chain(named.into_iter().flatten())
    }

    /// What the client must be told now, and where it stands then.
    pub(super) fn told(self: &Arc<Self>, collection: &Collection, removals: Removals) -> Told {
        let position = self.facing(collection);
        let contents = position.difference(collection, removals);
        if contents.is_nothing() && !position.owed {
            return Told::nothing(position);
        }
        let next = position.after(&contents, collection);
        let version = version_of(&next.known).into();
        let payload = Payload::new(self.kind, self.variant, version, contents);
        Told {
            to: Arc::new(next),
            payload: Some(Arc::new(payload)),
        }
    }

    /// State of the world has no word for removals of most types: what comes back is told anew. Nor has it
    /// a word for what is not there, which is noted for who looks at the fleet.
    fn facing(self: &Arc<Self>, collection: &Collection) -> Arc<Self> {
        if self.variant != Variant::StateOfTheWorld {
            return Arc::clone(self);
        }
        let forgets = !self.kind.is_full_state();
        let is_missing = |name: &str| collection.get(name).is_none();
        let is_gone = |known: &Known| forgets && known.is_there() && is_missing(known.name());
        let names = self.names.iter().filter(|name| is_missing(name));
        let absent = names.filter(|name| self.known.get(name).is_none_or(is_gone));
        let absent: Vec<Known> = absent.cloned().map(Known::Absent).collect();
        if absent.is_empty() && !self.known.iter().any(is_gone) {
            return Arc::clone(self);
        }
        let mut position = Self::clone(self);
        position.known.retain(|known| !is_gone(known));
        position.known.put(Sorted::new(absent));
        Arc::new(position)
    }

    fn difference(&self, collection: &Collection, removals: Removals) -> Contents {
        let mut contents = Contents::default();
        let walk = side_by_side(
            self.known.iter(),
            self.wanted(collection),
            |known, wanted| known.name().cmp(&wanted.name),
        );
        let mut lost = Vec::new();
        for side in walk {
            match side {
                Side::Left(known) if known.is_there() => lost.push(known),
                Side::Both(known, wanted) if !known.has(wanted) => {
                    if known.is_there() && collection.withheld(&wanted.name).is_some() {
                        continue;
                    }
                    let Some(told) = offered(collection, wanted) else {
                        continue;
                    };
                    let list = match known.is_there() {
                        true => &mut contents.changed,
                        false => &mut contents.new,
                    };
                    list.push(Arc::clone(&told.name));
                    contents.resources.push(Arc::clone(told));
                }
                Side::Right(wanted) => {
                    if let Some(told) = offered(collection, wanted) {
                        contents.new.push(Arc::clone(&told.name));
                        contents.resources.push(Arc::clone(told));
                    }
                }
                Side::Left(_) | Side::Both(..) => {}
            }
        }
        match self.variant {
            Variant::Delta => {
                if removals == Removals::Tell {
                    let lost = lost.iter().map(|known| Name::from(known.name()));
                    contents.removed.extend(lost);
                }
                // A name that never was is told at once: nobody uses it.
                let never = self
                    .names
                    .iter()
                    .filter(|name| !self.known.contains(name) && collection.get(name).is_none());
                contents.removed.extend(never.cloned());
            }
            Variant::StateOfTheWorld if self.kind.is_full_state() => {
                contents.must_be_told = removals == Removals::Tell && !lost.is_empty();
                if !contents.is_nothing() || self.owed {
                    let offered = self
                        .wanted(collection)
                        .filter_map(|one| offered(collection, one));
                    contents.resources = offered.cloned().collect();
                    if removals == Removals::Hold {
                        let held = lost.iter().filter_map(|known| match known {
                            Known::Sent(resource) => Some(Arc::clone(resource)),
                            Known::Absent(_) | Known::Kept { .. } => None,
                        });
                        contents.resources.extend(held);
                    }
                }
            }
            Variant::StateOfTheWorld => {}
        }
        contents
    }

    /// Where the client stands once it has these.
    fn after(&self, contents: &Contents, collection: &Collection) -> Self {
        let mut next = self.clone();
        next.owed = false;
        next.resumed = None;
        let sent = contents.resources.iter().cloned().map(Known::Sent);
        let sent = Sorted::new(sent.collect());
        if self.variant == Variant::StateOfTheWorld && self.kind.is_full_state() {
            next.known = sent;
            let absent = self.names.iter();
            let absent = absent.filter(|name| collection.get(name).is_none());
            let absent = absent.filter(|name| !next.known.contains(name));
            let absent = absent.cloned().map(Known::Absent).collect();
            next.known.put(Sorted::new(absent));
            return next;
        }
        if !contents.removed.is_empty() {
            let removed = Sorted::new(contents.removed.clone());
            next.known.retain(|known| !removed.contains(known.name()));
            let absent = removed.iter().filter(|name| self.names.contains(name));
            let absent = absent.cloned().map(Known::Absent).collect();
            next.known.put(Sorted::new(absent));
        }
        next.known.put(sent);
        next
    }

    /// The client must be told these names (sorted) again, if it has them; all if none are given.
    pub(super) fn again(self: &Arc<Self>, names: Option<&[Name]>) -> Arc<Self> {
        let named = |name: &str| {
            names.is_none_or(|names| names.binary_search_by(|again| (**again).cmp(name)).is_ok())
        };
        let again = |known: &Known| known.is_there() && named(known.name());
        if !self.known.iter().any(again) {
            return Arc::clone(self);
        }
        let mut position = Self::clone(self);
        position.known.retain(|known| !again(known));
        Arc::new(position)
    }
}

/// A resource, or what this client is offered in its place.
fn offered<'c>(collection: &'c Collection, wanted: &'c Arc<Resource>) -> Option<&'c Arc<Resource>> {
    match collection.withheld(&wanted.name) {
        Some(instead) => instead.as_ref(),
        None => Some(wanted),
    }
}
