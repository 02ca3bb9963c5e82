//! TCP connections: how many there may be, and how the server ends one.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::extract::Request;
use futures_util::{Stream, StreamExt as _, stream, task::AtomicWaker};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Sleep,
};
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use super::{
    Discovery, SILENCE_MAX, SPARE_CONNECTIONS,
    expiry::Expiry,
    identity::Who,
    notices::{About, Bound},
    tls::{HANDSHAKES_MAX, Tls},
};
use crate::metrics::Refused;

/// A process that has no descriptor left tries again so much later.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Ends a connection from outside. A stream whose client does not read cannot be told anything, and
/// what its connection still holds for it is freed only with the connection.
#[derive(Debug, Default)]
pub(super) struct Cut {
    is_cut: AtomicBool,
    /// A call came.
    is_used: AtomicBool,
    reader: AtomicWaker,
}

impl Cut {
    pub(super) fn cut(&self) {
        self.is_cut.store(true, Ordering::Release);
        self.reader.wake();
    }
}

/// What streams know of their connection.
#[derive(Debug, Clone)]
pub(super) struct ConnectionInfo {
    pub(super) peer: Option<SocketAddr>,
    pub(super) who: Who,
    pub(super) cut: Arc<Cut>,
}

/// A call came: its connection may be silent from now on.
pub(super) async fn used(request: Request) -> Request {
    if let Some(connection) = request.extensions().get::<ConnectionInfo>() {
        connection.cut.is_used.store(true, Ordering::Release);
    }
    request
}

/// What bytes travel through.
enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Does the same with either.
macro_rules! on_wire {
    ($connection:expr, $wire:ident => $then:expr) => {
        match &mut $connection.wire {
            Wire::Plain($wire) => $then,
            Wire::Tls($wire) => $then,
        }
    };
}

/// One connection.
pub(super) struct Connection {
    wire: Wire,
    info: ConnectionInfo,
    /// Until the first call.
    silence: Option<Pin<Box<Sleep>>>,
    /// Taken back when the connection is closed.
    expiry: Option<Expiry>,
    _place: OwnedSemaphorePermit,
}

/// One that was accepted, and nothing more.
struct Accepted {
    tcp: TcpStream,
    peer: SocketAddr,
    place: OwnedSemaphorePermit,
}

/// Every connection that a listener accepts, at most so many at a time; further ones are closed at once,
/// so that their clients look elsewhere. Where certificates are demanded, a connection is one once its
/// handshake is done.
pub(super) fn incoming(
    listener: TcpListener,
    discovery: Arc<Discovery>,
) -> impl Stream<Item = Connection> {
    let places = Arc::new(Semaphore::new(connections_max(&discovery)));
    let state = (listener, places, Arc::clone(&discovery));
    let accepted = stream::unfold(state, |(listener, places, discovery)| async move {
        let accepted = accept(&listener, &places, &discovery).await;
        Some((accepted, (listener, places, discovery)))
    });
    let opened = accepted.map(move |accepted| {
        let discovery = Arc::clone(&discovery);
        async move {
            match discovery.tls.clone() {
                None => Some(accepted.plain()),
                // Cryptography is no work for the task that accepts.
                Some(tls) => {
                    let handshake = accepted.secured(tls, discovery);
                    tokio::spawn(handshake).await.ok().flatten()
                }
            }
        }
    });
    let opened = opened.buffer_unordered(HANDSHAKES_MAX);
    opened.filter_map(std::future::ready)
}

fn connections_max(discovery: &Discovery) -> usize {
    discovery.fleet.streams_max() + SPARE_CONNECTIONS
}

/// Whatever goes wrong with one connection, or for lack of descriptors, is no end of the server.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    discovery: &Discovery,
) -> Accepted {
    loop {
        let (tcp, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(places).try_acquire_owned() else {
            let about = About {
                peer: Some(peer),
                detail: "there are as many connections as --max-streams allows",
                bound: Some(Bound::Connections(connections_max(discovery))),
                ..About::default()
            };
            let notices = &discovery.notices;
            notices.say("connection closed", Refused::TooMany.name(), &about);
            continue;
        };
        // Without it small responses only come later.
        let _ = tcp.set_nodelay(true);
        return Accepted { tcp, peer, place };
    }
}

impl Accepted {
    fn plain(self) -> Connection {
        let wire = Wire::Plain(self.tcp);
        Connection::new(wire, self.peer, Who::Anyone, self.place)
    }

    /// None when there was no handshake: its client is told by TLS itself.
    async fn secured(self, tls: Arc<Tls>, discovery: Arc<Discovery>) -> Option<Connection> {
        let peer = self.peer;
        let (stream, who) = match tls.accept(self.tcp).await {
            Ok(done) => done,
            Err(error) => {
                discovery.fleet.metrics().handshake_failed();
                info!(target: "audit", %peer, %error, "no TLS handshake");
                return None;
            }
        };
        let wire = Wire::Tls(Box::new(stream));
        let who = match who {
            Ok(member) => Who::Member(Arc::new(member)),
            Err(denied) => Who::Denied(denied),
        };
        let mut connection = Connection::new(wire, peer, who, self.place);
        let info = &connection.info;
        if let Who::Member(member) = &info.who {
            connection.expiry = Some(discovery.expiries.add(member, &info.cut));
        }
        Some(connection)
    }
}

impl Connection {
    fn new(wire: Wire, peer: SocketAddr, who: Who, place: OwnedSemaphorePermit) -> Self {
        Self {
            wire,
            info: ConnectionInfo {
                peer: Some(peer),
                who,
                cut: Arc::default(),
            },
            silence: Some(Box::pin(tokio::time::sleep(SILENCE_MAX))),
            expiry: None,
            _place: place,
        }
    }

    /// What its streams know of it.
    pub(super) fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// Ready when it was cut, or when no call came in time.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let cut = &self.info.cut;
        cut.reader.register(context.waker());
        if cut.is_cut.load(Ordering::Acquire) {
            return Poll::Ready(io::ErrorKind::ConnectionAborted.into());
        }
        if cut.is_used.load(Ordering::Acquire) {
            self.silence = None;
        }
        match &mut self.silence {
            Some(silence) => {
                ready!(silence.as_mut().poll(context));
                Poll::Ready(io::ErrorKind::TimedOut.into())
            }
            None => Poll::Pending,
        }
    }
}

impl AsyncRead for Connection {
    /// A connection is always being read, so this is where it learns of its end.
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = on_wire!(self, wire => Pin::new(wire).poll_read(context, buffer));
        if let Poll::Ready(result) = read {
            return Poll::Ready(result);
        }
        self.poll_end(context).map(Err)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        on_wire!(self, wire => Pin::new(wire).poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_wire!(self, wire => Pin::new(wire).poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(on_wire!(self, wire => Pin::new(wire).poll_shutdown(context)))?;
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_wire!(self, wire => Pin::new(wire).poll_write_vectored(context, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Plain(wire) => wire.is_write_vectored(),
            Wire::Tls(wire) => wire.is_write_vectored(),
        }
    }
}
