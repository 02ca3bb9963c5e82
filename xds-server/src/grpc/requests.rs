//! The requests of one stream, as bytes: gRPC's frames taken off the body. What a message needed is given
//! back with it, however large it was, since a stream may be silent for days afterwards.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::{Buf, Bytes};
use http_body::Body as _;
use tonic::Status;

use super::REQUEST_BYTES_MAX;

/// A flag, and the length of the message that follows.
const PREFIX_BYTES: usize = 5;

/// Messages as they come.
pub(super) struct Requests {
    body: Body,
    /// Received, and not looked at yet.
    chunk: Bytes,
    /// The beginning of a message that came in several chunks.
    begun: Vec<u8>,
}

impl Requests {
    /// Those of a call.
    pub(super) fn of(body: Body) -> Self {
        Self {
            body,
            chunk: Bytes::new(),
            begun: Vec::new(),
        }
    }

    /// The next message; None when there will be none.
    pub(super) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            if let Some(message) = self.take().transpose() {
                return Poll::Ready(Some(message));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => self.chunk = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => {
                    return Poll::Ready(Some(Err(Status::from_error(error.into_inner()))));
                }
                None if self.begun.is_empty() => return Poll::Ready(None),
                None => {
                    self.begun = Vec::new();
                    let status = Status::internal("the call ends in the middle of a message");
                    return Poll::Ready(Some(Err(status)));
                }
            }
        }
    }

    /// A message, if all of it is there.
    fn take(&mut self) -> Result<Option<Bytes>, Status> {
        if self.begun.is_empty()
            && let Some(length) = length_of(&self.chunk)?
            && self.chunk.len() - PREFIX_BYTES >= length
        {
            self.chunk.advance(PREFIX_BYTES);
            return Ok(Some(self.chunk.split_to(length)));
        }
        self.fill(PREFIX_BYTES);
        let Some(length) = length_of(&self.begun)? else {
            return Ok(None);
        };
        self.fill(PREFIX_BYTES + length);
        if self.begun.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        let mut message = Bytes::from(mem::take(&mut self.begun));
        message.advance(PREFIX_BYTES);
        Ok(Some(message))
    }

    /// Moves bytes over until so many have begun, or none are left.
    fn fill(&mut self, length: usize) {
        let missing = length.saturating_sub(self.begun.len());
        let taken = self.chunk.split_to(missing.min(self.chunk.len()));
        self.begun.extend_from_slice(&taken);
    }
}

/// The length of the message that begins there, when its prefix is there.
fn length_of(bytes: &[u8]) -> Result<Option<usize>, Status> {
    let Some((&[flag, length @ ..], _)) = bytes.split_first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    match flag {
        0 => {}
        1 => {
            let text = "compressed messages are not taken: send them with grpc-encoding identity";
            return Err(Status::unimplemented(text));
        }
        _ => {
            return Err(Status::internal(format!(
                "no gRPC message begins with {flag}"
            )));
        }
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > REQUEST_BYTES_MAX {
        return Err(Status::resource_exhausted(format!(
            "a request of {length} bytes: at most {REQUEST_BYTES_MAX} are taken"
        )));
    }
    Ok(Some(length))
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, task::Waker};

    use tonic::Code;

    use super::*;

    fn framed(messages: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for message in messages {
            out.push(0);
            out.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
            out.extend_from_slice(message);
        }
        out
    }

    fn read(bytes: &[u8], chunk: usize) -> (Vec<Bytes>, Option<Status>) {
        let chunks: Vec<_> = bytes.chunks(chunk).map(Bytes::copy_from_slice).collect();
        let chunks = chunks.into_iter().map(Ok::<_, Infallible>);
        let mut requests = Requests::of(Body::from_stream(futures_util::stream::iter(chunks)));
        let mut context = Context::from_waker(Waker::noop());
        let mut messages = Vec::new();
        loop {
            match requests.poll_next(&mut context) {
                Poll::Ready(Some(Ok(message))) => messages.push(message),
                Poll::Ready(Some(Err(status))) => return (messages, Some(status)),
                Poll::Ready(None) => return (messages, None),
                Poll::Pending => panic!("everything is there"),
            }
        }
    }

    #[test]
    fn messages_are_found_however_they_are_cut() {
        let long = vec![7; 1000];
        let bytes = framed(&[b"one", b"", &long, b"two"]);
        for chunk in [1, 2, 4, 5, 6, 7, 100, 5000] {
            let (messages, end) = read(&bytes, chunk);
            assert_eq!(messages, [&b"one"[..], b"", &long, b"two"], "{chunk}");
            assert!(end.is_none());
        }
    }

    #[test]
    fn what_is_no_message_ends_the_stream_with_a_reason() {
        let codes = |bytes: &[u8]| {
            let status = read(bytes, 3).1.unwrap();
            assert!(!status.message().is_empty());
            status.code()
        };
        assert_eq!(codes(b"\x00\x00\x00\x00\x05half"), Code::Internal);
        assert_eq!(codes(b"\x63GET / HTTP/1.1"), Code::Internal);
        assert_eq!(codes(b"\x01\x00\x00\x00\x01x"), Code::Unimplemented);
        // Nothing is kept ready for what is only promised.
        assert_eq!(codes(b"\x00\xff\xff\xff\xff"), Code::ResourceExhausted);
    }

    #[test]
    fn nothing_is_kept_of_a_large_message() {
        let large = vec![1; 3_000_000];
        let chunks = framed(&[&large]);
        let chunks: Vec<_> = chunks.chunks(16_384).map(Bytes::copy_from_slice).collect();
        let chunks = chunks.into_iter().map(Ok::<_, Infallible>);
        let mut requests = Requests::of(Body::from_stream(futures_util::stream::iter(chunks)));
        let mut context = Context::from_waker(Waker::noop());
        assert!(requests.poll_next(&mut context).is_ready());
        assert_eq!((requests.begun.capacity(), requests.chunk.len()), (0, 0));
    }
}
