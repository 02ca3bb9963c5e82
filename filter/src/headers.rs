//! The current request's headers, all fetched in one call: several calls cost more than a copy of those
//! that nobody asks for.

use std::borrow::Cow;

use policy::{bytes::same, decision::Headers, names, traffic_class};

use crate::{buffer::Bytes, host};

/// Headers of the current request.
pub struct RequestHeaders {
    /// In the ABI's form: the count, the sizes of each name and value, then each name and value with a
    /// zero behind it.
    bytes: Bytes,
    /// Where the names and values begin. None when the host does not give them all: it is asked for each
    /// one then.
    texts_at: Option<usize>,
    seen: Seen,
}

/// What is known of headers once each was looked at.
#[derive(Default)]
struct Seen {
    authority: Option<Place>,
    path: Option<Place>,
    method: Option<Place>,
    holds_ours: bool,
    is_grpc: bool,
}

/// Where a value lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: usize,
    size: usize,
}

const AUTHORITY: &str = ":authority";

/// Of the count, and of each size.
const SIZE_BYTES: usize = 4;

impl RequestHeaders {
    /// Fetches them.
    pub fn fetch() -> Self {
        let mut headers = Self {
            bytes: host::request_headers(),
            texts_at: None,
            seen: Seen::default(),
        };
        headers.texts_at = headers.seen.look(&headers.bytes);
        headers
    }

    /// The value of one of the headers whose places are kept.
    fn kept(&self, name: &str, place: Option<Place>) -> Option<Cow<'_, [u8]>> {
        match self.texts_at {
            Some(_) => self.value(place?).map(Cow::Borrowed),
            None => asked(name),
        }
    }

    fn value(&self, place: Place) -> Option<&[u8]> {
        self.bytes.get(place.at..place.at + place.size)
    }

    /// The value of `:authority`.
    pub fn authority(&self) -> Option<Cow<'_, [u8]>> {
        self.kept(AUTHORITY, self.seen.authority)
    }

    /// Whether the client may have sent headers of ours.
    pub fn may_hold_ours(&self) -> bool {
        self.texts_at.is_none() || self.seen.holds_ours
    }

    /// Whether the request is a call of gRPC.
    pub fn is_grpc(&self) -> bool {
        match self.texts_at {
            Some(_) => self.seen.is_grpc,
            None => asked(traffic_class::CONTENT_TYPE).is_some_and(|kind| is_grpc(&kind)),
        }
    }
}

impl Headers for RequestHeaders {
    /// Names are read where they have the size of this one.
    fn get(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let Some(texts_at) = self.texts_at else {
            return asked(name);
        };
        let bytes: &[u8] = &self.bytes;
        let mut found = None;
        let mut at = texts_at;
        for pair in pairs(bytes, texts_at)? {
            let (name_size, size) = halves(*pair);
            let start = at;
            at += name_size + size + 2;
            if name_size != name.len()
                || !same(bytes.get(start..start + name_size)?, name.as_bytes())
            {
                continue;
            }
            if found.is_some() {
                // The host joins them.
                return asked(name);
            }
            let at = start + name_size + 1;
            found = Some(Place { at, size });
        }
        self.value(found?).map(Cow::Borrowed)
    }

    fn path(&self) -> Option<Cow<'_, [u8]>> {
        self.kept(traffic_class::PATH, self.seen.path)
    }

    fn method(&self) -> Option<Cow<'_, [u8]>> {
        self.kept(traffic_class::METHOD, self.seen.method)
    }
}

/// One header, as the host says.
#[cold]
fn asked(name: &str) -> Option<Cow<'static, [u8]>> {
    host::request_header(name).map(|value| Cow::Owned(value.to_vec()))
}

/// Whether a content type is one of gRPC's.
fn is_grpc(content_type: &[u8]) -> bool {
    content_type.starts_with(b"application/grpc")
}

/// The sizes of all names and values.
#[inline]
fn pairs(bytes: &[u8], texts_at: usize) -> Option<&[[u8; 2 * SIZE_BYTES]]> {
    Some(bytes.get(SIZE_BYTES..texts_at)?.as_chunks().0)
}

/// Sizes of a name and of its value.
#[inline]
fn halves(pair: [u8; 2 * SIZE_BYTES]) -> (usize, usize) {
    let both = u64::from_le_bytes(pair);
    (both as u32 as usize, (both >> 32) as usize)
}

impl Seen {
    /// Looks at all headers, and says where their texts begin; none unless each header that is announced
    /// is there.
    fn look(&mut self, bytes: &[u8]) -> Option<usize> {
        let announced = usize::try_from(u32::from_le_bytes(*bytes.first_chunk()?)).ok()?;
        let texts_at = announced
            .checked_mul(2 * SIZE_BYTES)?
            .checked_add(SIZE_BYTES)?;
        // Of 64 bits: no sizes make it small again.
        let mut at = texts_at as u64;
        for pair in pairs(bytes, texts_at)? {
            let (name_size, size) = halves(*pair);
            let end = at + name_size as u64 + size as u64 + 2;
            if end > bytes.len() as u64 {
                return None;
            }
            self.look_at(bytes, at as usize, (name_size, size));
            at = end;
        }
        Some(texts_at)
    }

    /// Looks at one header, whose name begins at `at`. Most differ in the size of the name from those that
    /// matter, and are not read.
    #[inline]
    fn look_at(&mut self, bytes: &[u8], at: usize, (name_size, size): (usize, usize)) {
        const AUTHORITY_SIZE: usize = AUTHORITY.len();
        const PATH_SIZE: usize = traffic_class::PATH.len();
        const METHOD_SIZE: usize = traffic_class::METHOD.len();
        const CONTENT_TYPE_SIZE: usize = traffic_class::CONTENT_TYPE.len();
        let begins = |known: &str| {
            let start = bytes.get(at..at + known.len());
            start.is_some_and(|start| same(start, known.as_bytes()))
        };
        let value = || Place {
            at: at + name_size + 1,
            size,
        };
        // No client can send one of the first three twice.
        match name_size {
            PATH_SIZE if begins(traffic_class::PATH) => self.path = Some(value()),
            METHOD_SIZE if begins(traffic_class::METHOD) => self.method = Some(value()),
            AUTHORITY_SIZE if begins(AUTHORITY) => self.authority = Some(value()),
            CONTENT_TYPE_SIZE if begins(traffic_class::CONTENT_TYPE) => {
                let Place { at, size } = value();
                self.is_grpc |= bytes.get(at..at + size).is_some_and(is_grpc);
            }
            // The prefix may not reach into the value.
            _ if name_size >= names::HEADER_PREFIX.len() => {
                self.holds_ours |= begins(names::HEADER_PREFIX);
            }
            _ => {}
        }
    }
}
