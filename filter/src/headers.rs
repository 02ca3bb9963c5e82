//! The current request's headers, fetched when the first of them is asked for: all in one call, since
//! several calls cost more than a copy of those that nobody asks for.

use std::{borrow::Cow, cell::OnceCell, slice};

use policy::{decision::Headers, names};

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
        let mut found: Option<Cow<'_, [u8]>> = None;
        for pair in all.pairs().filter(|pair| pair.is(name)) {
            let value = pair.value();
            let Some(joined) = &mut found else {
                found = Some(Cow::Borrowed(value));
                // A request has one of these, and they come first.
                if name.starts_with(':') {
                    break;
                }
                continue;
            };
            let joined = joined.to_mut();
            joined.push(b',');
            joined.extend_from_slice(value);
        }
        found
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
    holds_ours: bool,
    is_grpc: bool,
}

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
            holds_ours: false,
            is_grpc: false,
        };
        // Added as wider numbers: no sum overflows, and what fits once fits whenever it is added again.
        let (mut end, length) = (texts_at as u64, all.bytes.len() as u64);
        let (mut holds_ours, mut is_grpc_call) = (false, false);
        all.bytes.get(..texts_at)?;
        for pair in all.pairs() {
            end += pair.name_size as u64 + pair.value_size as u64 + 2;
            if end > length {
                return None;
            }
            holds_ours |= pair.begins_with(names::HEADER_PREFIX);
            is_grpc_call |= pair.is("content-type") && is_grpc(pair.value());
        }
        all.holds_ours = holds_ours;
        all.is_grpc = is_grpc_call;
        Some(all)
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
    fn value(&self) -> &'b [u8] {
        self.text(self.at + self.name_size + 1, self.value_size)
    }

    #[inline]
    fn text(&self, at: usize, size: usize) -> &'b [u8] {
        self.bytes.get(at..at + size).unwrap_or_default()
    }
}

/// Whether two texts of one size are equal, several bytes at a time: in wasm `memcmp` takes them one by one.
/// The words at the end may be looked at twice.
#[inline]
fn same(one: &[u8], other: &[u8]) -> bool {
    let words = one.first_chunk().zip(other.first_chunk());
    if let Some((first, other_first)) = words {
        let last = one.last_chunk().zip(other.last_chunk());
        return number(first) == number(other_first)
            && last.is_none_or(|(last, other)| number(last) == number(other))
            && (one.len() <= 16 || one == other);
    }
    let (half, other_half) = (one.first_chunk::<4>(), other.first_chunk::<4>());
    let (end, other_end) = (one.last_chunk::<4>(), other.last_chunk::<4>());
    match half {
        Some(_) => half == other_half && end == other_end,
        None => one.iter().eq(other),
    }
}

#[inline]
fn number(word: &[u8; 8]) -> u64 {
    u64::from_le_bytes(*word)
}
