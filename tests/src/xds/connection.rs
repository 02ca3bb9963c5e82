//! HTTP/2 with gRPC's frames, byte for byte: what is no gRPC can be sent too.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{LazyLock, mpsc},
    task::{Context, Poll},
};

use anyhow::{Context as _, Result};
use bytes::{Buf, Bytes, BytesMut};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    runtime::Runtime,
    sync::{mpsc as channel, watch},
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_stream::{StreamExt as _, wrappers::UnboundedReceiverStream};
use tonic::{
    Code, Status,
    body::Body,
    client::GrpcService as _,
    transport::{Channel, Endpoint},
};

use super::stream::End;
use crate::certificate::{self, Certificate};

/// Every stream of a test process runs here; the tests themselves wait outside of it.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(1).enable_all();
    runtime.build().expect("a runtime")
});

/// A connection to an xDS server.
#[derive(Debug, Clone)]
pub struct Connection {
    channel: Channel,
}

/// What a call brings, and what it is fed by.
#[derive(Debug)]
pub struct Events {
    pub(super) out: Option<channel::UnboundedSender<Bytes>>,
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) reads: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What a server did on a stream.
#[derive(Debug)]
pub(super) enum Event {
    Message(Bytes),
    End(End),
}

impl Drop for Events {
    /// Who drops a stream resets it.
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn open(address: SocketAddr) -> Result<Self> {
        Self::open_with(address, |endpoint| endpoint)
    }

    /// Connects, with options of the transport.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn open_with(
        address: SocketAddr,
        options: impl FnOnce(Endpoint) -> Endpoint,
    ) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        let channel = RUNTIME.block_on(options(endpoint).connect());
        let channel = channel.with_context(|| format!("nobody serves xDS at {address}"))?;
        Ok(Self { channel })
    }

    /// Connects by TLS, with this certificate or with none.
    ///
    /// # Errors
    /// When nobody listens, or there is no handshake. That a server refuses the client's certificate is
    /// told by the first call.
    pub fn open_tls(
        address: SocketAddr,
        roots: &str,
        certificate: Option<&Certificate>,
    ) -> Result<Self> {
        let tls = certificate::client(roots, certificate)?;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        let channel = RUNTIME.block_on(endpoint.connect_with_connector(Dial { address, tls }));
        let channel = channel.with_context(|| format!("no TLS with {address}"))?;
        Ok(Self { channel })
    }

    /// An option for [`open_with`](Self::open_with): the server may send no more ahead than HTTP/2's
    /// default, so that a client that does not read is felt at once.
    pub fn small_windows(endpoint: Endpoint) -> Endpoint {
        const BYTES: u32 = 65_535;
        let endpoint = endpoint.initial_stream_window_size(BYTES);
        endpoint.initial_connection_window_size(BYTES)
    }

    /// Calls a streaming method with these request headers besides gRPC's.
    pub fn call(&self, path: &str, headers: &[(&str, &str)]) -> Events {
        let (out, frames) = channel::unbounded_channel::<Bytes>();
        let (sender, events) = mpsc::channel();
        let (reads, reading) = watch::channel(true);
        let frames = UnboundedReceiverStream::new(frames);
        let frames = frames.map(|bytes| Ok::<_, Status>(Frame::data(bytes)));
        let mut request = http::Request::post(path)
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::new(StreamBody::new(frames)));
        let mut channel = self.channel.clone();
        let task = RUNTIME.spawn(async move {
            let end = match request {
                Ok(request) => run(&mut channel, request, &sender, reading).await,
                Err(error) => End::new(Code::Internal, &error.to_string()),
            };
            let _ = sender.send(Event::End(end));
        });
        Events {
            out: Some(out),
            events,
            reads,
            task,
        }
    }
}

/// Opens a TLS connection when asked for one.
struct Dial {
    address: SocketAddr,
    tls: TlsConnector,
}

impl tower_service::Service<http::Uri> for Dial {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let (address, tls) = (self.address, self.tls.clone());
        Box::pin(async move {
            let tcp = TcpStream::connect(address).await?;
            let stream = tls.connect(certificate::server_name(), tcp).await?;
            Ok(TokioIo::new(stream))
        })
    }
}

async fn run(
    channel: &mut Channel,
    request: http::Request<Body>,
    events: &mpsc::Sender<Event>,
    mut reading: watch::Receiver<bool>,
) -> End {
    if let Err(error) = std::future::poll_fn(|cx| channel.poll_ready(cx)).await {
        return End::new(Code::Unavailable, &error.to_string());
    }
    let response = match channel.call(request).await {
        Ok(response) => response,
        Err(error) => return End::of(&Status::from_error(error.into())),
    };
    if let Some(status) = Status::from_header_map(response.headers()) {
        return End::of(&status);
    }
    let mut body = response.into_body();
    let mut buffer = BytesMut::new();
    loop {
        // A client that does not read leaves the server's bytes in the transport.
        if reading.wait_for(|reads| *reads).await.is_err() {
            return End::new(Code::Cancelled, "nobody reads");
        }
        let frame = match body.frame().await {
            Some(Ok(frame)) => frame,
            Some(Err(status)) => return End::of(&status),
            None => return End::new(Code::Unknown, "it ended without a status"),
        };
        match frame.into_data() {
            Ok(data) => {
                buffer.extend_from_slice(&data);
                while let Some(message) = message(&mut buffer) {
                    if events.send(Event::Message(message)).is_err() {
                        return End::new(Code::Cancelled, "nobody listens");
                    }
                }
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                let status = Status::from_header_map(&trailers);
                return status.map_or_else(
                    || End::new(Code::Unknown, "trailers without a status"),
                    |status| End::of(&status),
                );
            }
        }
    }
}

/// The next whole message: a flag, four bytes of length, and the message.
fn message(buffer: &mut BytesMut) -> Option<Bytes> {
    let length = buffer.get(1..5)?;
    let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
    if buffer.len() < 5 + length {
        return None;
    }
    buffer.advance(5);
    Some(buffer.split_to(length).freeze())
}
