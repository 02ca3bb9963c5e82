//! The current request's headers, fetched when the first of them is asked for: all in one call, since
//! several calls cost more than a copy of those that nobody asks for.

use std::{borrow::Cow, cell::OnceCell, slice};

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

    /// What is known of them; no only if all were seen and none is so.
    fn known(&self, of: impl Fn(&Fetched) -> bool) -> bool {
        self.fetched.get().and_then(Option::as_ref).is_none_or(of)
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
        self.kept(AUTHORITY, |all| all.authority)
    }

    /// Whether the client may have sent headers of ours.
    pub fn may_hold_ours(&self) -> bool {
        self.known(|fetched| fetched.holds_ours)
    }

    /// Whether the request may be a call of gRPC.
    pub fn may_be_grpc(&self) -> bool {
        self.known(|fetched| fetched.is_grpc)
    }
}

impl Headers for RequestHeaders {
    /// Several of one name come joined with commas, as Envoy joins them.
    fn get(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let Some(all) = self.all() else {
            return host::request_header(name).map(|value| Cow::Owned(value.to_vec()));
        };
        let mut named = all.pairs().filter(|pair| pair.is(name));
        let mut value = Cow::Borrowed(named.next()?.value());
        for more in named {
            let value = value.to_mut();
            value.push(b',');
            value.extend_from_slice(more.value());
        }
        Some(value)
    }

    fn path(&self) -> Option<Cow<'_, [u8]>> {
        self.kept(traffic_class::PATH, |all| all.path)
    }

    fn method(&self) -> Option<Cow<'_, [u8]>> {
        self.kept(traffic_class::METHOD, |all| all.method)
    }
}

/// Whether a content type is one of gRPC's.
pub fn is_grpc(content_type: &[u8]) -> bool {
    content_type.starts_with(b"application/grpc")
}

/// All headers, and what every request is asked about them.
struct Fetched {
    /// In the ABI's form: the count, the sizes of each name and value, then each name and value with a
    /// zero behind it.
    bytes: Bytes,
    /// Where the names and values begin.
    texts_at: usize,
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
        let mut all = Self {
            bytes,
            texts_at,
            authority: None,
            path: None,
            method: None,
            holds_ours: false,
            is_grpc: false,
        };
        // Added as wider numbers: no sum overflows, and what fits once fits whenever it is added again.
        let (mut end, length) = (texts_at as u64, all.bytes.len() as u64);
        let (mut holds_ours, mut is_grpc_call) = (false, false);
        let (mut authority, mut path, mut method) = (None, None, None);
        all.bytes.get(..texts_at)?;
        for pair in all.pairs() {
            end += pair.name_size as u64 + pair.value_size as u64 + 2;
            if end > length {
                return None;
            }
            // No client can send one of these three twice.
            if pair.is(traffic_class::PATH) {
                path = Some(pair.value_place());
            } else if pair.is(traffic_class::METHOD) {
                method = Some(pair.value_place());
            } else if pair.is(AUTHORITY) {
                authority = Some(pair.value_place());
            }
            holds_ours |= pair.begins_with(names::HEADER_PREFIX);
            is_grpc_call |= pair.is("content-type") && is_grpc(pair.value());
        }
        (all.authority, all.path, all.method) = (authority, path, method);
        all.holds_ours = holds_ours;
        all.is_grpc = is_grpc_call;
        Some(all)
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

/// Sizes of a name and of its value.
#[inline]
fn halves(pair: [u8; 8]) -> (usize, usize) {
    let both = u64::from_le_bytes(pair);
    (both as u32 as usize, (both >> 32) as usize)
}

/// The headers in turn. At every request each is looked at several times: so this does little more than
/// add sizes up.
struct Pairs<'b> {
    sizes: slice::Iter<'b, [u8; 8]>,
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Iterator for Pairs<'b> {
    type Item = Pair<'b>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (name_size, value_size) = halves(*self.sizes.next()?);
        let pair = Pair {
            bytes: self.bytes,
            at: self.at,
            name_size,
            value_size,
        };
        self.at += name_size + value_size + 2;
        Some(pair)
    }
}

/// One header. Its texts are looked at only when they are asked for: most differ in size from the one
/// that is looked for.
struct Pair<'b> {
    bytes: &'b [u8],
    at: usize,
    name_size: usize,
    value_size: usize,
}

impl<'b> Pair<'b> {
    #[inline]
    fn is(&self, name: &str) -> bool {
        self.name_size == name.len() && self.begins_with(name)
    }

    #[inline]
    fn begins_with(&self, start: &str) -> bool {
        self.name_size >= start.len() && same(self.text(self.at, start.len()), start.as_bytes())
    }

    #[inline]
    fn value_place(&self) -> (usize, usize) {
        (self.at + self.name_size + 1, self.value_size)
    }

    #[inline]
    fn value(&self) -> &'b [u8] {
        let (at, size) = self.value_place();
        self.text(at, size)
    }

    #[inline]
    fn text(&self, at: usize, size: usize) -> &'b [u8] {
        self.bytes.get(at..at + size).unwrap_or_default()
    }
}
