//! The loop of one stream: the body of its response, polled by the transport when the client can take
//! more. So a client that does not read holds one response and nobody else, and whatever happened
//! meanwhile is told as one change.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use http_body::Frame;
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Code, Status};
use tracing::debug;

use super::{
    Discovery, REQUEST_BYTES_MAX, SILENCE_MAX,
    connection::ConnectionInfo,
    door::Door,
    identity::may_be,
    node::{node_info, node_key, node_of},
    notices::{About, Bound},
    open::Open,
    requests::Requests,
};
use crate::{
    discovery::{
        Message, NAME_BYTES_MAX, NAMES_MAX, RequestError, Response, STREAM_NAME_BYTES_MAX,
    },
    fleet::{Caller, Place},
    metrics::{Cut, Refused, Service},
    resource::ResourceType,
};

/// A client that leaves a response unanswered holds up what depends on it for so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// Requests and changes taken before others get their turn.
const STEPS_MAX: usize = 32;
/// Larger responses are sent without being copied behind their nonce.
const COPIED_BYTES_MAX: usize = 4096;

/// Of a gRPC message: its flag and its length.
const PREFIX_BYTES: usize = 5;

/// One stream.
pub(super) struct Stream {
    door: Door,
    discovery: Arc<Discovery>,
    place: Place,
    connection: Option<ConnectionInfo>,
    requests: Requests,
    open: Option<Box<Open>>,
    responses: VecDeque<Response>,
    rest: Option<Bytes>,
    deadline: Option<Pin<Box<Sleep>>>,
    /// Of the change under way, for which the deadline is.
    step: u64,
    /// Until its node is known; then it is woken like for a change.
    stopping: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    ended: bool,
}

impl Stream {
    pub(super) fn new(
        door: Door,
        discovery: Arc<Discovery>,
        place: Place,
        connection: Option<ConnectionInfo>,
        requests: Body,
    ) -> Self {
        let stopping = Box::pin(discovery.stopping.clone().cancelled_owned());
        Self {
            door,
            discovery,
            place,
            connection,
            requests: Requests::of(requests),
            open: None,
            responses: VecDeque::new(),
            rest: None,
            deadline: Some(Box::pin(tokio::time::sleep(SILENCE_MAX))),
            step: 0,
            stopping: Some(stopping),
            ended: false,
        }
    }

    /// Takes one thing that happened. An error is the stream's end, which may be a good one.
    fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        // A request that follows a change is answered from what holds after it.
        if let Some(open) = &mut self.open {
            match open.poll_update(context) {
                Poll::Ready(update) => {
                    if let Some(connection) = &self.connection
                        && let Err(reason) = self.discovery.knows(&connection.who)
                    {
                        let about = About::stream(open.status(), &reason);
                        self.discovery.cut(Cut::Denied, &about);
                        return Poll::Ready(Err(Status::permission_denied(reason)));
                    }
                    open.look(update, &mut self.responses);
                    self.set_deadline();
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending => {}
            }
            if open.poll_peers(context, &mut self.responses).is_ready() {
                self.set_deadline();
                return Poll::Ready(Ok(()));
            }
        }
        match self.requests.poll_next(context) {
            Poll::Ready(Some(Ok(request))) => return Poll::Ready(self.take(request)),
            Poll::Ready(Some(Err(status))) => return Poll::Ready(Err(self.broken(status))),
            Poll::Ready(None) => return Poll::Ready(Err(Status::ok("the client is done"))),
            Poll::Pending => {}
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(self.on_deadline());
        }
        // Last, since it happens once.
        match &mut self.stopping {
            Some(stopping) => ready!(stopping.as_mut().poll(context)),
            None if self.discovery.is_stopping.load(Ordering::SeqCst) => {}
            None => return Poll::Pending,
        }
        self.discovery.fleet.metrics().cut(Cut::Stopping);
        Poll::Ready(Err(Status::unavailable("the server is stopping")))
    }

    fn on_deadline(&mut self) -> Result<(), Status> {
        self.deadline = None;
        let Some(open) = &mut self.open else {
            let text = "the first request did not come within 60 s";
            let bound = Some(Bound::Time(SILENCE_MAX));
            self.refused(Refused::BadNode, text, bound);
            return Err(Status::deadline_exceeded(text));
        };
        open.lose_patience(&mut self.responses);
        self.set_deadline();
        Ok(())
    }

    /// Patience begins anew with each step of a change, and not with what is sent: who is sent something all the time
    /// would wait for ever.
    fn set_deadline(&mut self) {
        let session = self.open.as_ref().map(|open| &open.session);
        let Some(session) = session.filter(|session| session.is_waiting()) else {
            self.deadline = None;
            return;
        };
        let step = session.step();
        if self.deadline.is_none() || self.step != step {
            self.step = step;
            self.deadline = Some(Box::pin(tokio::time::sleep(PATIENCE)));
        }
    }

    fn take(&mut self, request: Bytes) -> Result<(), Status> {
        let message = Message::scan(self.door.variant, request, self.discovery.seed);
        let message = message.map_err(|error| self.unusable(&error))?;
        if self.open.is_none() {
            self.begin(&message)?;
        }
        let Some(kind) = self.kind_of(&message)? else {
            self.discovery.fleet.metrics().requested_unknown();
            return Ok(());
        };
        debug!(stream = self.place.number, ?kind, "request");
        self.discovery.fleet.metrics().requested(kind);
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let took = message.into_request(kind).and_then(|request| {
            let nonce = request.nonce.clone();
            let answer = open.session.on_request(request, &mut self.responses)?;
            Ok((answer, nonce))
        });
        match took {
            Ok((answer, nonce)) => {
                open.answered(kind, answer, &nonce, &self.discovery);
                if kind == ResourceType::Secret
                    && let Some(connection) = &self.connection
                    && let Some(member) = connection.who.member()
                {
                    let names = open.newly_withheld();
                    let (peer, status) = (connection.peer, open.status());
                    self.discovery.withheld(member, peer, status, &names);
                }
                self.set_deadline();
                Ok(())
            }
            Err(error) => Err(self.unusable(&error)),
        }
    }

    /// The type that a message speaks of. None for one that this server does not know: a newer client
    /// may ask for it, and the rest goes on.
    fn kind_of(&self, message: &Message) -> Result<Option<ResourceType>, Status> {
        let url = message.type_url();
        let kind = std::str::from_utf8(url)
            .ok()
            .and_then(ResourceType::from_url);
        match self.door.service {
            Service::Aggregated if url.is_empty() => {
                Err(Status::invalid_argument("type_url is empty"))
            }
            Service::Aggregated => Ok(kind),
            Service::Single(only) if url.is_empty() || kind == Some(only) => Ok(Some(only)),
            Service::Single(only) => Err(Status::invalid_argument(format!(
                "type_url {} is not served here: this service has only {}",
                String::from_utf8_lossy(url),
                only.url()
            ))),
        }
    }

    fn begin(&mut self, message: &Message) -> Result<(), Status> {
        let refused = |text: &str| {
            self.refused(Refused::BadNode, text, None);
            Status::invalid_argument(text)
        };
        let connection = self.connection.as_ref();
        let member = connection.and_then(|connection| connection.who.member());
        // Envoys always say who they are; people with a debugging client need not.
        let node = message.node().map_err(|error| self.unusable(&error))?;
        let node = node.unwrap_or_else(|| member.map(node_of).unwrap_or_default());
        let key = node_key(&node).map_err(refused)?;
        let Door { variant, service } = self.door;
        if let Some(member) = member
            && let Err(reason) = may_be(member, &key)
        {
            return Err(self.discovery.deny(connection, service.name(), &reason));
        }
        let caller = Caller {
            node: node_info(&node, &key),
            variant,
            service,
            peer: connection.and_then(|connection| connection.peer),
        };
        let open = Open::new(&self.discovery, &self.place, connection, key, caller);
        self.open = Some(Box::new(open));
        self.stopping = None;
        self.deadline = None;
        Ok(())
    }

    /// A request that cannot be served ends its stream.
    fn unusable(&self, error: &RequestError) -> Status {
        let text = error.to_string();
        debug!(stream = self.place.number, error = text, "stream ended");
        let bound = match error {
            RequestError::TooManyNames => Bound::Names(NAMES_MAX),
            RequestError::LongName { .. } => Bound::Bytes(NAME_BYTES_MAX),
            RequestError::TooManyNameBytes => Bound::Bytes(STREAM_NAME_BYTES_MAX),
            RequestError::Malformed(_) if self.open.is_some() => {
                self.cut(Cut::BadRequest, &text, None);
                return Status::invalid_argument(text);
            }
            RequestError::Malformed(_) => {
                self.refused(Refused::BadRequest, &text, None);
                return Status::invalid_argument(text);
            }
        };
        self.cut(Cut::TooLarge, &text, Some(bound));
        Status::resource_exhausted(text)
    }

    fn refused(&self, reason: Refused, detail: &str, bound: Option<Bound>) {
        self.discovery.refused(reason, &self.about(detail, bound));
    }

    fn cut(&self, reason: Cut, detail: &str, bound: Option<Bound>) {
        self.discovery.cut(reason, &self.about(detail, bound));
    }

    /// What is known of it.
    fn about<'s>(&'s self, detail: &'s str, bound: Option<Bound>) -> About<'s> {
        match &self.open {
            Some(open) => About {
                bound,
                ..About::stream(open.status(), detail)
            },
            None => About {
                service: self.door.service.name(),
                peer: self
                    .connection
                    .as_ref()
                    .and_then(|connection| connection.peer),
                detail,
                bound,
                ..About::default()
            },
        }
    }

    /// The transport's word: the client is gone, or sent what is no gRPC.
    fn broken(&self, status: Status) -> Status {
        debug!(stream = self.place.number, %status, "stream broke");
        match status.code() {
            Code::ResourceExhausted => {
                let bound = Some(Bound::Bytes(REQUEST_BYTES_MAX));
                self.cut(Cut::TooLarge, status.message(), bound);
            }
            Code::Cancelled | Code::Unknown | Code::Unavailable => {}
            _ => self.cut(Cut::BadRequest, status.message(), None),
        }
        status
    }

    /// A response's first bytes: gRPC's prefix and the nonce; then the rest, shared with every stream
    /// that is told the same.
    fn frame(&mut self, response: &Response) -> Bytes {
        const NONCE: u8 = 5 << 3 | 2;
        let body = response.payload.body();
        let nonce = response.nonce.as_bytes();
        let length = 2 + nonce.len() + body.len();
        let is_copied = body.len() <= COPIED_BYTES_MAX;
        // No more than that, so that it needs no second block when it is handed over.
        let copied = if is_copied { body.len() } else { 0 };
        let mut frame = BytesMut::with_capacity(PREFIX_BYTES + 2 + nonce.len() + copied);
        frame.put_u8(0);
        frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        frame.put_u8(NONCE);
        frame.put_u8(u8::try_from(nonce.len()).unwrap_or(u8::MAX));
        frame.put_slice(nonce);
        if is_copied {
            frame.put_slice(body);
        } else {
            self.rest = Some(body.clone());
        }
        if let Some(open) = &self.open {
            open.sent(response, length, &self.discovery);
        }
        frame.freeze()
    }
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let stream = &mut *self;
        for _ in 0..STEPS_MAX {
            if let Some(rest) = stream.rest.take() {
                return Poll::Ready(Some(Ok(Frame::data(rest))));
            }
            if let Some(response) = stream.responses.pop_front() {
                let frame = stream.frame(&response);
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            }
            if stream.ended {
                return Poll::Ready(None);
            }
            match stream.poll_step(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(status)) => {
                    stream.ended = true;
                    let mut trailers = http::HeaderMap::new();
                    // A text that is no header value leaves the code, which says enough.
                    let _ = status.add_header(&mut trailers);
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
