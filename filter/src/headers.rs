//! The current request's headers, fetched when the first of them is asked for: all in one call, since
//! several calls cost more than a copy of those that nobody asks for.

use std::{borrow::Cow, cell::OnceCell, iter, slice};

use policy::{bytes::same, decision::Headers, names, traffic_class};

use crate::{buffer::Bytes, host};

/// Headers of the current request.
#[derive(Default)]
pub struct RequestHeaders {
    /// None when the host does not give them all: it is asked for each one then.
    fetched: OnceCell<Option<Fetched>>,
}

impl RequestHeaders {
    fn all(&self) -> Option<&Fetched> {
        let fetch = || host::request_headers().and_then(Fetched::new);
        self.fetched.get_or_init(fetch).as_ref()
    }

    /// The value of one of the headers whose places are kept.
    fn kept(&self, name: &str, place: impl Fn(&Fetched) -> Place) -> Option<Cow<'_, [u8]>> {
        match self.all() {
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
        self.all().is_none_or(|all| all.seen.holds_ours)
    }

    /// Whether the request is a call of gRPC.
    pub fn is_grpc(&self) -> bool {
        match self.all() {
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
        let Some(all) = self.all() else {
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
        let (sizes, mut texts) = bytes.split_at_checked(texts_at)?;
        let mut seen = Seen::default();
        for pair in sizes.get(SIZE_BYTES..)?.as_chunks().0 {
            let (name_size, value_size) = halves(*pair);
            let (name, rest) = texts.split_at_checked(name_size)?;
            let (_zero, rest) = rest.split_first()?;
            let at = bytes.len() - rest.len();
            let (value, rest) = rest.split_at_checked(value_size)?;
            let (_zero, rest) = rest.split_first()?;
            texts = rest;
            seen.look_at(name, value, at);
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
    /// Looks at one header, whose value begins at `at`. Most differ in the size of the name from those
    /// that matter.
    #[inline]
    fn look_at(&mut self, name: &[u8], value: &[u8], at: usize) {
        const AUTHORITY_SIZE: usize = AUTHORITY.len();
        const PATH_SIZE: usize = traffic_class::PATH.len();
        const METHOD_SIZE: usize = traffic_class::METHOD.len();
        const CONTENT_TYPE_SIZE: usize = traffic_class::CONTENT_TYPE.len();
        let is = |known: &str| same(name, known.as_bytes());
        let place = Some((at, value.len()));
        // No client can send one of the first three twice.
        match name.len() {
            PATH_SIZE if is(traffic_class::PATH) => self.path = place,
            METHOD_SIZE if is(traffic_class::METHOD) => self.method = place,
            AUTHORITY_SIZE if is(AUTHORITY) => self.authority = place,
            CONTENT_TYPE_SIZE if is(traffic_class::CONTENT_TYPE) => self.is_grpc |= is_grpc(value),
            _ => {
                let start = name.get(..names::HEADER_PREFIX.len());
                let ours = |start| same(start, names::HEADER_PREFIX.as_bytes());
                self.holds_ours |= start.is_some_and(ours);
            }
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
        for pair in self.sizes.by_ref() {
            let (name_size, value_size) = halves(*pair);
            let at = self.at;
            self.at += name_size + value_size + 2;
            if name_size == name.len() {
                let (found, rest) = self.bytes.get(at..)?.split_at_checked(name_size)?;
                if same(found, name.as_bytes()) {
                    return rest.get(1..)?.get(..value_size);
                }
            }
        }
        None
    }
}
