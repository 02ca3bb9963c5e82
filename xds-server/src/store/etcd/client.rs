//! Calls of an etcd: whichever member answers, with the token that it wants.

#[cfg(test)]
mod tests;

use std::{
    error::Error,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::uri::PathAndQuery;
use prost::Message;
use tokio::time::{Instant, sleep};
use tonic::{
    Code, Request, Status, Streaming,
    client::Grpc,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;
use tracing::debug;

use super::{
    address::Address,
    dial::{Dial, Unconnected},
    messages::{
        AuthenticateRequest, AuthenticateResponse, KeyValue, LeaseGrantRequest, LeaseGrantResponse,
        RangeRequest, RangeResponse, WatchCreateRequest, WatchRequest, WatchResponse,
    },
};
use crate::store::StoreError;

/// For one attempt: then another member is asked.
const ATTEMPT_MAX: Duration = Duration::from_secs(2);
/// For one call, with all its attempts.
pub const CALL_MAX: Duration = Duration::from_secs(6);
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// etcd closes connections of clients that ping more often than every 5 s.
const PING_EVERY: Duration = Duration::from_secs(10);
const PONG_MAX: Duration = Duration::from_secs(3);
/// A range of our keys holds less.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Who we are.
pub struct User {
    pub name: String,
    pub password: zeroize::Zeroizing<String>,
}

/// Of one etcd.
pub struct Client {
    channels: Vec<Channel>,
    /// The member that is asked.
    current: AtomicUsize,
    user: Option<User>,
    token: Mutex<Option<MetadataValue<Ascii>>>,
    /// As errors name it.
    place: String,
    is_plaintext: bool,
    /// Somebody did once.
    has_answered: AtomicBool,
}

impl Client {
    /// It connects when it is first asked. Within a runtime.
    ///
    /// # Errors
    /// A host that is none.
    pub fn new(
        address: &Address,
        tls: Option<&tokio_rustls::TlsConnector>,
        user: Option<User>,
    ) -> Result<Self, StoreError> {
        let place = address.to_string();
        let channel = |member: &super::address::Member| {
            // With TLS too: who dials it knows by what.
            let endpoint = Endpoint::from_shared(format!("http://{member}"));
            let endpoint = endpoint.map_err(|error| StoreError::Broken {
                place: place.clone(),
                why: error.to_string(),
            })?;
            let dial = Dial {
                member: member.clone(),
                tls: tls.cloned(),
            };
            let endpoint = endpoint
                .http2_keep_alive_interval(PING_EVERY)
                .keep_alive_timeout(PONG_MAX)
                .keep_alive_while_idle(true);
            Ok(endpoint.connect_with_connector_lazy(dial))
        };
        let channels = address.members.iter().map(channel);
        Ok(Self {
            channels: channels.collect::<Result<_, StoreError>>()?,
            current: AtomicUsize::new(0),
            user,
            token: Mutex::default(),
            place,
            is_plaintext: tls.is_none(),
            has_answered: AtomicBool::new(false),
        })
    }

    /// Asks until somebody answers, or time is up and each member was asked. What is asked must do no harm when it is
    /// done twice.
    ///
    /// # Errors
    /// [`StoreError::Uncertain`] when an attempt may have been carried out.
    pub async fn call<Q, A>(&self, path: &'static str, request: &Q) -> Result<A, StoreError>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let deadline = Instant::now() + CALL_MAX;
        let mut pause = PAUSE_MIN;
        let (mut may_be_done, mut attempts) = (false, 0);
        loop {
            attempts += 1;
            let status = match self.attempt(path, request).await {
                Ok(answer) => return Ok(answer),
                Err(status) => status,
            };
            debug!(path, %status, "etcd");
            if self.has_lost_token(&status) {
                // Asked again with another one.
            } else if is_passing(&status) {
                may_be_done |= !is_unsent(&status);
                self.current.fetch_add(1, Ordering::Relaxed);
            } else {
                // This attempt was refused; an earlier one may have been carried out.
                return Err(self.error(&status, may_be_done));
            }
            if attempts >= self.channels.len() && Instant::now() + pause > deadline {
                return Err(self.error(&status, may_be_done));
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn attempt<Q, A>(&self, path: &'static str, request: &Q) -> Result<A, Status>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let request = self.request(request.clone()).await?;
        self.unary(path, request).await
    }

    async fn unary<Q, A>(&self, path: &'static str, request: Request<Q>) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.grpc();
        let calling = async {
            grpc.ready()
                .await
                .map_err(|error| Status::from_error(error.into()))?;
            let codec = ProstCodec::<Q, A>::new();
            grpc.unary(request, PathAndQuery::from_static(path), codec)
                .await
        };
        let answered = tokio::time::timeout(ATTEMPT_MAX, calling).await;
        let answered = answered.map_err(|_| Status::deadline_exceeded("no answer within 2 s"))?;
        let answer = answered?.into_inner();
        self.has_answered.store(true, Ordering::Relaxed);
        Ok(answer)
    }

    /// With the token, where one is wanted.
    async fn request<Q>(&self, request: Q) -> Result<Request<Q>, Status> {
        let mut request = Request::new(request);
        let Some(user) = &self.user else {
            return Ok(request);
        };
        let known = self
            .token
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let token = match known {
            Some(token) => token,
            None => {
                let asked = AuthenticateRequest {
                    name: user.name.clone(),
                    password: user.password.to_string(),
                };
                let path = "/etcdserverpb.Auth/Authenticate";
                let answer: AuthenticateResponse = self.unary(path, Request::new(asked)).await?;
                let token = MetadataValue::try_from(answer.token);
                let token = token.map_err(|error| Status::internal(error.to_string()))?;
                let mut known = self.token.lock().unwrap_or_else(PoisonError::into_inner);
                known.insert(token).clone()
            }
        };
        request.metadata_mut().insert("token", token);
        Ok(request)
    }

    /// One key or a range of them.
    ///
    /// # Errors
    /// When nobody answers, or it is refused.
    pub async fn range(&self, request: &RangeRequest) -> Result<RangeResponse, StoreError> {
        let answered = self.call("/etcdserverpb.KV/Range", request).await;
        answered.map_err(|error| match error {
            // A read changes nothing.
            StoreError::Uncertain { place, why } => StoreError::Broken { place, why },
            other => other,
        })
    }

    /// One key, as of a revision of the etcd (0: the newest).
    ///
    /// # Errors
    /// As [`Self::range`].
    pub async fn get(
        &self,
        key: Vec<u8>,
        revision: i64,
    ) -> Result<(Option<KeyValue>, i64), StoreError> {
        let request = RangeRequest {
            key,
            revision,
            ..RangeRequest::default()
        };
        let mut answer = self.range(&request).await?;
        let revision = answer.header.map_or(0, |header| header.revision);
        Ok((answer.kvs.pop(), revision))
    }

    /// A lease of so many seconds.
    ///
    /// # Errors
    /// When nobody answers, or it is refused.
    pub async fn lease(&self, seconds: i64) -> Result<i64, StoreError> {
        let request = LeaseGrantRequest { ttl: seconds };
        let answer: LeaseGrantResponse = self
            .call("/etcdserverpb.Lease/LeaseGrant", &request)
            .await?;
        Ok(answer.id)
    }

    /// Is told of every change of these keys from now on.
    ///
    /// # Errors
    /// When the member that is asked does not answer; another one is next.
    pub async fn watch(&self, keys: Vec<Vec<u8>>) -> Result<Streaming<WatchResponse>, Status> {
        use futures_util::StreamExt as _;
        let create = |key| WatchRequest {
            create: Some(WatchCreateRequest { key }),
        };
        let creates: Vec<WatchRequest> = keys.into_iter().map(create).collect();
        // The end of our side would be the end of the watch.
        let requests = tokio_stream::iter(creates).chain(tokio_stream::pending());
        let mut request = self.request(requests).await?;
        // A member that has lost the others must not keep us waiting.
        let yes = MetadataValue::from_static("true");
        request.metadata_mut().insert("hasleader", yes);
        let mut grpc = self.grpc();
        let calling = async {
            grpc.ready()
                .await
                .map_err(|error| Status::from_error(error.into()))?;
            let codec = ProstCodec::<WatchRequest, WatchResponse>::new();
            let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
            grpc.streaming(request, path, codec).await
        };
        let answered = tokio::time::timeout(ATTEMPT_MAX, calling).await;
        let answered = answered.map_err(|_| Status::deadline_exceeded("no answer within 2 s"))?;
        Ok(answered?.into_inner())
    }

    /// After a watch has ended: another member is asked, with a new token. A watch does not say that it ended
    /// for want of one: it is told "permission denied".
    pub fn next_member(&self) {
        self.forget_token();
        self.current.fetch_add(1, Ordering::Relaxed);
    }

    fn forget_token(&self) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn grpc(&self) -> Grpc<Channel> {
        let current = self.current.load(Ordering::Relaxed) % self.channels.len();
        Grpc::new(self.channels[current].clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Whether this was for want of a token that is still good: it is forgotten then.
    fn has_lost_token(&self, status: &Status) -> bool {
        let is_it = self.user.is_some()
            && (status.code() == Code::Unauthenticated
                || status.message().contains("invalid auth token")
                || status.message().contains("revision of auth store is old"));
        if is_it {
            self.forget_token();
        }
        is_it
    }

    fn error(&self, status: &Status, may_be_done: bool) -> StoreError {
        let place = self.place.clone();
        let why = self.words(status);
        match status.message().contains("database space exceeded") {
            // That there is no space is said of the newest attempt alone.
            _ if may_be_done => StoreError::Uncertain { place, why },
            true => StoreError::Full { place, why },
            false => StoreError::Broken { place, why },
        }
    }

    /// Why nobody answered, or what was answered, in words: a transport's own say nothing.
    pub fn words(&self, status: &Status) -> String {
        if let Some(unconnected) = unconnected(status) {
            return unconnected.to_string();
        }
        let Some(cause) = root_cause(status) else {
            return format!("{:?}: {}", status.code(), status.message());
        };
        let is_new = self.is_plaintext && !self.has_answered.load(Ordering::Relaxed);
        let hint = match is_new {
            true => "; if it serves TLS, name whom to trust with --store-ca",
            false => "",
        };
        format!("the connection ended: {cause}{hint}")
    }

    /// As errors name it.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// What it holds is not ours.
    pub fn broken(&self, why: impl Into<String>) -> StoreError {
        StoreError::Broken {
            place: self.place.clone(),
            why: why.into(),
        }
    }
}

/// Whether another attempt may help.
fn is_passing(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => true,
        Code::ResourceExhausted => status.message().contains("too many requests"),
        // The transport's own: a connection that broke while it was used.
        Code::Internal => status.source().is_some(),
        _ => false,
    }
}

/// Whether it was certainly not carried out.
fn is_unsent(status: &Status) -> bool {
    unconnected(status).is_some()
}

/// What a transport says last, of its own accord; none of an answer.
fn root_cause(status: &Status) -> Option<String> {
    let mut cause: &dyn Error = status.source()?;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Some(cause.to_string())
}

fn unconnected(status: &Status) -> Option<&Unconnected> {
    let mut source = status.source();
    while let Some(error) = source {
        if let Some(unconnected) = error.downcast_ref::<Unconnected>() {
            return Some(unconnected);
        }
        source = error.source();
    }
    None
}
