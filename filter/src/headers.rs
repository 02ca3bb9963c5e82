//! The current request's headers, fetched when the first of them is asked for: all in one call, since
//! several calls cost more than a copy of those that nobody asks for.

use std::{borrow::Cow, cell::OnceCell};

use policy::{decision::Headers, names};

use crate::host;

/// Headers of the current request.
#[derive(Default)]
pub struct RequestHeaders {
    /// None when the host does not give them all: it is asked for each one then.
    fetched: OnceCell<Option<Vec<u8>>>,
}

impl RequestHeaders {
    fn all(&self) -> Option<Pairs<'_>> {
        let fetched = || host::request_headers().filter(|bytes| Pairs::whole(bytes));
        self.fetched.get_or_init(fetched).as_deref().map(Pairs::of)
    }

    /// Whether one of them may be like this; no only if all were seen and none is.
    fn may_hold(&self, like: impl Fn((&[u8], &[u8])) -> bool) -> bool {
        let fetched = self.fetched.get().and_then(Option::as_deref);
        fetched.is_none_or(|bytes| Pairs::of(bytes).any(like))
    }

    /// Whether the client may have sent headers of ours.
    pub fn may_hold_ours(&self) -> bool {
        self.may_hold(|(name, _)| name.starts_with(names::HEADER_PREFIX.as_bytes()))
    }

    /// Whether the request may be a call of gRPC.
    pub fn may_be_grpc(&self) -> bool {
        self.may_hold(|(name, value)| name == b"content-type" && is_grpc(value))
    }
}

impl Headers for RequestHeaders {
    /// Several of one name come joined with commas, as Envoy joins them.
    fn get(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let Some(all) = self.all() else {
            return host::request_header(name).map(Cow::Owned);
        };
        let mut named = all.filter(|(known, _)| *known == name.as_bytes());
        let (_, first) = named.next()?;
        let mut value = Cow::Borrowed(first);
        for (_, more) in named {
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

/// The ABI's form of a header map: the count, the sizes of each name and value, then each name and
/// value with a zero behind it.
struct Pairs<'b> {
    sizes: &'b [u8],
    texts: &'b [u8],
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
        Self { sizes, texts }
    }

    /// Whether each header that is announced is there.
    fn whole(bytes: &'b [u8]) -> bool {
        let announced = bytes.first_chunk().map(|count| u32::from_le_bytes(*count));
        let found = u32::try_from(Self::of(bytes).count()).ok();
        announced.is_some() && announced == found
    }

    fn size(&mut self) -> Option<usize> {
        let (size, rest) = self.sizes.split_first_chunk()?;
        self.sizes = rest;
        usize::try_from(u32::from_le_bytes(*size)).ok()
    }

    fn text(&mut self, size: usize) -> Option<&'b [u8]> {
        let (text, rest) = self.texts.split_at_checked(size)?;
        self.texts = rest.get(1..)?;
        Some(text)
    }
}

impl<'b> Iterator for Pairs<'b> {
    type Item = (&'b [u8], &'b [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, value) = (self.size()?, self.size()?);
        Some((self.text(name)?, self.text(value)?))
    }
}
