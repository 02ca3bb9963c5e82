//! One stream of a client.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::mpsc::RecvTimeoutError,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use tonic::{Code, Status};

use super::{
    Connection, Events, Kind, Request, Resource, Response, Service, Variant, connection::Event,
};

/// For whatever must come. Machines that build while they test are slow.
const BOUND: Duration = Duration::from_secs(30);

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// gRPC's code.
    pub code: Code,
    /// The server's words.
    pub message: String,
}

impl End {
    pub(super) fn new(code: Code, message: &str) -> Self {
        let message = message.into();
        Self { code, message }
    }

    pub(super) fn of(status: &Status) -> Self {
        Self::new(status.code(), status.message())
    }
}

/// What a client remembers of a type.
#[derive(Debug, Default)]
struct Track {
    names: Vec<String>,
    /// Of the newest response.
    nonce: String,
    version: String,
    has: BTreeMap<String, Resource>,
}

/// A stream, and what its client remembers.
#[derive(Debug)]
pub struct Stream {
    variant: Variant,
    node: String,
    said_who: bool,
    events: Events,
    /// Responses that came while another type was waited for.
    held: VecDeque<Response>,
    nonces: HashSet<String>,
    tracks: HashMap<Kind, Track>,
    end: Option<End>,
}

impl Stream {
    /// Opens a stream of the node with this id. Nothing is sent yet.
    pub fn open(connection: &Connection, variant: Variant, service: Service, node: &str) -> Self {
        Self::around(connection.call(&service.path(variant), &[]), variant, node)
    }

    /// Around a call that was made otherwise.
    pub fn around(events: Events, variant: Variant, node: &str) -> Self {
        Self {
            variant,
            node: node.into(),
            said_who: false,
            events,
            held: VecDeque::new(),
            nonces: HashSet::new(),
            tracks: HashMap::new(),
            end: None,
        }
    }

    /// The variant that it speaks.
    pub fn variant(&self) -> Variant {
        self.variant
    }

    /// Sends a request as it is; the first one says who the node is.
    pub fn send(&mut self, request: Request) {
        let request = match self.said_who {
            true => request,
            false => request.node(&self.node),
        };
        self.send_plain(request);
    }

    /// Sends a request as it is.
    pub fn send_plain(&mut self, request: Request) {
        self.said_who = true;
        if let Some(kind) = request.kind() {
            let track = self.tracks.entry(kind).or_default();
            request.note(self.variant, &mut track.names);
        }
        self.send_bytes(&request.encode(self.variant));
    }

    /// Sends a message that may be none.
    pub fn send_bytes(&mut self, message: &[u8]) {
        let mut frame = BytesMut::with_capacity(5 + message.len());
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
        frame.put_slice(message);
        self.send_raw(frame.freeze());
    }

    /// Sends bytes without gRPC's prefix.
    pub fn send_raw(&mut self, bytes: Bytes) {
        if let Some(out) = &self.events.out {
            // A stream that has ended takes nothing more; its end is what a test looks at.
            let _ = out.send(bytes);
        }
    }

    /// Sends no more; still listens.
    pub fn half_close(&mut self) {
        self.events.out = None;
    }

    /// Leaves what comes to the transport, which lets the server send no more than its window.
    pub fn stop_reading(&self) {
        self.events.reads.send_replace(false);
    }

    /// Reads on.
    pub fn read_again(&self) {
        self.events.reads.send_replace(true);
    }

    /// Wants these names of a type from now on; none is everything where the type has a wildcard. Says
    /// so as a client of its variant does.
    pub fn subscribe(&mut self, kind: Kind, names: &[&str]) {
        let variant = self.variant;
        let track = self.tracks.entry(kind).or_default();
        let request = match variant {
            Variant::Sotw => Request::of(kind)
                .names(names)
                .version(&track.version)
                .nonce(&track.nonce),
            Variant::Delta => {
                let was = |name: &str| track.names.iter().any(|before| before == name);
                let new: Vec<&str> = names.iter().copied().filter(|name| !was(name)).collect();
                let gone = track.names.iter().map(String::as_str);
                let gone: Vec<&str> = gone.filter(|name| !names.contains(name)).collect();
                Request::of(kind).names(&new).unsubscribe(&gone)
            }
        };
        self.send(request);
    }

    /// Accepts a response.
    pub fn ack(&mut self, response: &Response) {
        self.answer(response, None);
    }

    /// Rejects a response.
    pub fn nack(&mut self, response: &Response, text: &str) {
        self.answer(response, Some(text));
    }

    fn answer(&mut self, response: &Response, error: Option<&str>) {
        let track = self.tracks.entry(response.kind).or_default();
        let mut request = Request::of(response.kind).nonce(&response.nonce);
        if self.variant == Variant::Sotw {
            let names: Vec<&str> = track.names.iter().map(String::as_str).collect();
            if error.is_none() {
                track.version.clone_from(&response.version);
            }
            request = request.names(&names).version(&track.version);
        }
        if let Some(text) = error {
            request = request.error(text);
        }
        self.send(request);
    }

    /// The next response of any type, in the order in which they came.
    ///
    /// # Errors
    /// When none comes in time, the stream ends, or the response is none.
    pub fn next_any(&mut self) -> Result<Response> {
        if let Some(held) = self.held.pop_front() {
            return Ok(held);
        }
        self.receive(Instant::now() + BOUND)
    }

    /// The next message as it is: of a service that is no discovery.
    ///
    /// # Errors
    /// When none comes in time, or the stream ends.
    pub fn next_bytes(&mut self) -> Result<Vec<u8>> {
        match self.events.events.recv_timeout(BOUND)? {
            Event::Message(message) => Ok(message.to_vec()),
            Event::End(end) => bail!("the stream has ended: {end:?}"),
        }
    }

    /// The next response of a type; those of others are kept.
    ///
    /// # Errors
    /// As [`next_any`](Self::next_any).
    pub fn next(&mut self, kind: Kind) -> Result<Response> {
        let place = self.held.iter().position(|held| held.kind == kind);
        if let Some(held) = place.and_then(|place| self.held.remove(place)) {
            return Ok(held);
        }
        let until = Instant::now() + BOUND;
        loop {
            let response = self
                .receive(until)
                .with_context(|| format!("waiting for {kind:?}"))?;
            if response.kind == kind {
                return Ok(response);
            }
            self.held.push_back(response);
        }
    }

    /// The next response of a type, which is accepted.
    ///
    /// # Errors
    /// As [`next_any`](Self::next_any).
    pub fn take(&mut self, kind: Kind) -> Result<Response> {
        let response = self.next(kind)?;
        self.ack(&response);
        Ok(response)
    }

    /// Accepts whatever comes until what the client has fits. For what may come in several parts.
    ///
    /// # Errors
    /// As [`next_any`](Self::next_any): with what the client has.
    pub fn take_until(
        &mut self,
        what: &str,
        mut fits: impl FnMut(&Self) -> bool,
    ) -> Result<Vec<Response>> {
        let mut taken = Vec::new();
        while !fits(self) {
            let next = self.next_any();
            let response = next.with_context(|| {
                let has = self
                    .tracks
                    .iter()
                    .map(|(kind, track)| (kind, track.has.len()));
                format!("waiting for {what}; has {:?}", has.collect::<Vec<_>>())
            })?;
            self.ack(&response);
            taken.push(response);
        }
        Ok(taken)
    }

    /// What the client has of a type, as a client of its variant makes it of the responses.
    pub fn has(&self, kind: Kind) -> BTreeMap<String, Resource> {
        let track = self.tracks.get(&kind);
        track.map(|track| track.has.clone()).unwrap_or_default()
    }

    /// The names of a type that it said it wants.
    pub fn wants(&self, kind: Kind) -> &[String] {
        self.tracks.get(&kind).map_or(&[], |track| &track.names)
    }

    /// How the stream ends; responses before that are passed over.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn ended(&mut self) -> Result<End> {
        let until = Instant::now() + BOUND;
        while self.end.is_none() {
            if let Err(error) = self.receive(until)
                && self.end.is_none()
            {
                return Err(error.context("waiting for the stream to end"));
            }
        }
        self.end.clone().context("no end")
    }

    /// Whether nothing came that was not taken yet. Says nothing of what is under way: ask it after a
    /// later answer.
    pub fn is_silent(&mut self) -> Result<()> {
        ensure!(self.held.is_empty(), "came unasked: {:?}", self.held);
        match self.events.events.try_recv() {
            Ok(Event::Message(message)) => {
                let response = self.read(&message)?;
                bail!("came unasked: {response:?}")
            }
            Ok(Event::End(end)) => bail!("the stream ended: {end:?}"),
            Err(_) => Ok(()),
        }
    }

    fn receive(&mut self, until: Instant) -> Result<Response> {
        if let Some(end) = &self.end {
            bail!("the stream has ended: {end:?}");
        }
        let left = until.saturating_duration_since(Instant::now());
        match self.events.events.recv_timeout(left) {
            Ok(Event::Message(message)) => self.read(&message),
            Ok(Event::End(end)) => {
                self.end = Some(end.clone());
                bail!("the stream ended: {end:?}")
            }
            Err(RecvTimeoutError::Timeout) => bail!("no response within {BOUND:?}"),
            Err(RecvTimeoutError::Disconnected) => bail!("the stream is gone"),
        }
    }

    fn read(&mut self, message: &[u8]) -> Result<Response> {
        let response = Response::decode(self.variant, message)?;
        let fresh = self.nonces.insert(response.nonce.clone());
        ensure!(fresh, "nonce {} came twice", response.nonce);
        let track = self.tracks.entry(response.kind).or_default();
        track.nonce.clone_from(&response.nonce);
        if self.variant == Variant::Sotw && response.kind.is_full_state() {
            track.has.clear();
        }
        for name in &response.removed {
            track.has.remove(name);
        }
        track.has.extend(response.resources.clone());
        Ok(response)
    }
}
