//! The current request's headers, fetched when the first of them is asked for: all in one call, since
//! several calls cost more than a copy of those that nobody asks for.

use std::{borrow::Cow, cell::OnceCell, slice};

use policy::{decision::Headers, names};

use crate::host;

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
            return host::request_header(name).map(Cow::Owned);
        };
        let mut named = Pairs::of(&all.bytes).filter(|pair| pair.is(name));
        let mut value = Cow::Borrowed(named.next()?.value()?);
        for more in named.filter_map(|pair| pair.value()) {
            let value = value.to_mut();
            value.push(b',');
            value.extend_from_slice(more);
        }
        Some(value)
    }
}

/// Whether a content type is one of gRPC's.
pub fn is_grpc(content_type: &[u8]) -> bool {
    content_type.starts_with(b"application/grpc")
}

/// All headers, and what every request is asked about them.
struct Fetched {
    bytes: Vec<u8>,
    holds_ours: bool,
    is_grpc: bool,
}

impl Fetched {
    /// None unless each header that is announced is there.
    fn new(bytes: Vec<u8>) -> Option<Self> {
        let announced = u32::from_le_bytes(*bytes.first_chunk()?);
        let (mut found, mut holds_ours, mut is_grpc_call) = (0, false, false);
        for pair in Pairs::of(&bytes) {
            holds_ours |= pair.name()?.starts_with(names::HEADER_PREFIX.as_bytes());
            is_grpc_call |= is_grpc(pair.value()?) && pair.is("content-type");
            found += 1;
        }
        (found == announced).then_some(Self {
            bytes,
            holds_ours,
            is_grpc: is_grpc_call,
        })
    }
}

/// The ABI's form of a header map: the count, the sizes of each name and value, then each name and
/// value with a zero behind it.
struct Pairs<'b> {
    sizes: slice::Iter<'b, [u8; 8]>,
    texts: &'b [u8],
    at: usize,
}

impl<'b> Pairs<'b> {
    /// Nothing of what is not in that form.
    fn of(bytes: &'b [u8]) -> Self {
        let split = || {
            let (count, rest) = bytes.split_first_chunk()?;
            let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
            rest.split_at_checked(count.checked_mul(8)?)
        };
        let (sizes, texts) = split().unwrap_or_default();
        Self {
            sizes: sizes.as_chunks().0.iter(),
            texts,
            at: 0,
        }
    }
}

impl<'b> Iterator for Pairs<'b> {
    type Item = Pair<'b>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let [a, b, c, d, e, f, g, h] = *self.sizes.next()?;
        let pair = Pair {
            texts: self.texts,
            name_at: self.at,
            name_size: u32::from_le_bytes([a, b, c, d]) as usize,
            value_size: u32::from_le_bytes([e, f, g, h]) as usize,
        };
        let size = pair
            .name_size
            .checked_add(pair.value_size)?
            .checked_add(2)?;
        self.at = self.at.checked_add(size)?;
        Some(pair)
    }
}

/// One header. Its texts are looked at only when they are asked for: most differ in size from the one
/// that is looked for.
struct Pair<'b> {
    texts: &'b [u8],
    name_at: usize,
    name_size: usize,
    value_size: usize,
}

impl<'b> Pair<'b> {
    #[inline]
    fn is(&self, name: &str) -> bool {
        self.name_size == name.len() && self.name().is_some_and(|own| same(own, name.as_bytes()))
    }

    #[inline]
    fn name(&self) -> Option<&'b [u8]> {
        self.texts.get(self.name_at..self.name_at + self.name_size)
    }

    #[inline]
    fn value(&self) -> Option<&'b [u8]> {
        let from = self.name_at + self.name_size + 1;
        self.texts.get(from..from + self.value_size)
    }
}

/// Whether two texts of one size are equal, eight bytes at a time: in wasm `memcmp` takes them one by one.
#[inline]
fn same(one: &[u8], other: &[u8]) -> bool {
    let (words, rest) = one.as_chunks();
    let (other_words, other_rest) = other.as_chunks();
    let mut pairs = words.iter().zip(other_words);
    let mut rests = rest.iter().zip(other_rest);
    pairs.all(|(word, other)| u64::from_le_bytes(*word) == u64::from_le_bytes(*other))
        && rests.all(|(byte, other)| byte == other)
}
