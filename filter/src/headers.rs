//! The current request's headers, all fetched in one call: several calls cost more than a copy of those
//! that nobody asks for.

use std::{borrow::Cow, iter, slice};

use policy::{bytes::same, decision::Headers, names, traffic_class};

use crate::{buffer::Bytes, host};

/// Headers of the current request.
pub struct RequestHeaders {
    /// None when the host does not give them all: it is asked for each one then.
    all: Option<Fetched>,
}

impl RequestHeaders {
    /// Fetches them.
    pub fn fetch() -> Self {
        Self {
            all: host::request_headers().and_then(Fetched::new),
        }
    }

    /// The value of one of the headers whose places are kept.
    fn kept(&self, name: &str, place: impl Fn(&Fetched) -> Place) -> Option<Cow<'_, [u8]>> {
        match &self.all {
            Some(all) => all.at(place(all)).map(Cow::Borrowed),
            None => self.get(name),
        }
    }

    /// The value of `:authority`.
    pub fn authority(&self) -> Option<Cow<'_, [u8]>> {
        self.kept(AUTHORITY, |all| all.seen.authority)
    }

    /// Whether the client may have sent headers of ours.
    pub fn may_hold_ours(&self) -> bool {
        self.all.as_ref().is_none_or(|all| all.seen.holds_ours)
    }

    /// Whether the request is a call of gRPC.
    pub fn is_grpc(&self) -> bool {
        match &self.all {
            Some(all) => all.seen.is_grpc,
            None => self
                .get(traffic_class::CONTENT_TYPE)
                .is_some_and(|kind| is_grpc(&kind)),
        }
    }
}

impl Headers for RequestHeaders {
    /// Several of one name come joined with commas, as Envoy joins them.
    fn get(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let Some(all) = &self.all else {
            return host::request_header(name).map(|value| Cow::Owned(value.to_vec()));
        };
        let mut pairs = all.pairs();
        let first = pairs.find_value(name)?;
        Some(match pairs.find_value(name) {
            Some(second) => Cow::Owned(joined([first, second], pairs, name)),
            None => Cow::Borrowed(first),
        })
    }

    fn path(&self) -> Option<Cow<'_, [u8]>> {
        self.kept(traffic_class::PATH, |all| all.seen.path)
    }

    fn method(&self) -> Option<Cow<'_, [u8]>> {
        self.kept(traffic_class::METHOD, |all| all.seen.method)
    }
}

/// Whether a content type is one of gRPC's.
fn is_grpc(content_type: &[u8]) -> bool {
    content_type.starts_with(b"application/grpc")
}

#[cold]
fn joined(known: [&[u8]; 2], mut pairs: Pairs<'_>, name: &str) -> Vec<u8> {
    let more = iter::from_fn(|| pairs.find_value(name));
    let values: Vec<&[u8]> = known.into_iter().chain(more).collect();
    values.join(&b',')
}

/// All headers, and what every request is asked about them.
struct Fetched {
    /// In the ABI's form: the count, the sizes of each name and value, then each name and value with a
    /// zero behind it.
    bytes: Bytes,
    /// Where the names and values begin.
    texts_at: usize,
    seen: Seen,
}

/// What is known of headers once each was looked at.
#[derive(Default)]
struct Seen {
    authority: Place,
    path: Place,
    method: Place,
    holds_ours: bool,
    is_grpc: bool,
}

const AUTHORITY: &str = ":authority";

/// Where a value lies, and its size. None where there is no such header.
type Place = Option<(usize, usize)>;

/// Of the count, and of each size.
const SIZE_BYTES: usize = 4;

impl Fetched {
    /// None unless each header that is announced is there.
    fn new(bytes: Bytes) -> Option<Self> {
        let announced = usize::try_from(u32::from_le_bytes(*bytes.first_chunk()?)).ok()?;
        let texts_at = announced
            .checked_mul(2 * SIZE_BYTES)?
            .checked_add(SIZE_BYTES)?;
        let whole: &[u8] = &bytes;
        let mut seen = Seen::default();
        let mut at = texts_at;
        for pair in whole.get(SIZE_BYTES..texts_at)?.as_chunks().0 {
            let (name_size, value_size) = halves(*pair);
            // Of 64 bits: no sizes make it small again.
            let end = at as u64 + name_size as u64 + value_size as u64 + 2;
            if end > whole.len() as u64 {
                return None;
            }
            seen.look_at(whole, at, (name_size, value_size));
            at = end as usize;
        }
        Some(Self {
            bytes,
            texts_at,
            seen,
        })
    }

    fn at(&self, place: Place) -> Option<&[u8]> {
        let (at, size) = place?;
        self.bytes.get(at..at + size)
    }

    #[inline]
    fn pairs(&self) -> Pairs<'_> {
        let sizes = self.bytes.get(SIZE_BYTES..self.texts_at);
        Pairs {
            sizes: sizes.unwrap_or_default().as_chunks().0.iter(),
            bytes: &self.bytes,
            at: self.texts_at,
        }
    }
}

impl Seen {
    /// Looks at one header, whose name begins at `at`. Most differ in the size of the name from those that
    /// matter, and are not read.
    #[inline]
    fn look_at(&mut self, whole: &[u8], at: usize, (name_size, value_size): (usize, usize)) {
        const AUTHORITY_SIZE: usize = AUTHORITY.len();
        const PATH_SIZE: usize = traffic_class::PATH.len();
        const METHOD_SIZE: usize = traffic_class::METHOD.len();
        const CONTENT_TYPE_SIZE: usize = traffic_class::CONTENT_TYPE.len();
        let begins = |known: &str| {
            let start = whole.get(at..at + known.len());
            start.is_some_and(|start| same(start, known.as_bytes()))
        };
        let value_at = || at + name_size + 1;
        let place = || Some((value_at(), value_size));
        // No client can send one of the first three twice.
        match name_size {
            PATH_SIZE if begins(traffic_class::PATH) => self.path = place(),
            METHOD_SIZE if begins(traffic_class::METHOD) => self.method = place(),
            AUTHORITY_SIZE if begins(AUTHORITY) => self.authority = place(),
            CONTENT_TYPE_SIZE if begins(traffic_class::CONTENT_TYPE) => {
                let value = whole.get(value_at()..value_at() + value_size);
                self.is_grpc |= value.is_some_and(is_grpc);
            }
            // The prefix may not reach into the value.
            size if size >= names::HEADER_PREFIX.len() => {
                self.holds_ours |= begins(names::HEADER_PREFIX);
            }
            _ => {}
        }
    }
}

/// Sizes of a name and of its value.
#[inline]
fn halves(pair: [u8; 8]) -> (usize, usize) {
    let both = u64::from_le_bytes(pair);
    (both as u32 as usize, (both >> 32) as usize)
}

/// The headers that follow. Their texts are looked at only where the name has the size of the one that
/// is looked for.
struct Pairs<'b> {
    sizes: slice::Iter<'b, [u8; 8]>,
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Pairs<'b> {
    /// The value of the next header of that name.
    fn find_value(&mut self, name: &str) -> Option<&'b [u8]> {
        let mut next = self.at;
        for pair in self.sizes.by_ref() {
            let (name_size, value_size) = halves(*pair);
            let at = next;
            next += name_size + value_size + 2;
            if name_size == name.len() && same(self.bytes.get(at..at + name_size)?, name.as_bytes())
            {
                self.at = next;
                let value_at = at + name_size + 1;
                return self.bytes.get(value_at..value_at + value_size);
            }
        }
        None
    }
}
