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
use futures_util::{Stream, stream, task::AtomicWaker};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Sleep,
};
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use super::SILENCE_MAX;

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
    pub(super) cut: Arc<Cut>,
}

/// A call came: its connection may be silent from now on.
pub(super) async fn used(request: Request) -> Request {
    if let Some(connection) = request.extensions().get::<ConnectionInfo>() {
        connection.cut.is_used.store(true, Ordering::Release);
    }
    request
}

/// One connection.
pub(super) struct Connection {
    tcp: TcpStream,
    info: ConnectionInfo,
    /// Until the first call.
    silence: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

/// Every connection that a listener accepts, at most so many at a time; further ones are closed at once,
/// so that their clients look elsewhere.
pub(super) fn incoming(
    listener: TcpListener,
    connections_max: usize,
) -> impl Stream<Item = io::Result<Connection>> {
    let places = Arc::new(Semaphore::new(connections_max));
    stream::unfold((listener, places), |(listener, places)| async move {
        let connection = accept(&listener, &places).await;
        Some((Ok(connection), (listener, places)))
    })
}

/// Whatever goes wrong with one connection, or for lack of descriptors, is no end of the server.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Connection {
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
            debug!(%peer, "closed: there are as many connections as --max-streams allows");
            continue;
        };
        // Without it small responses only come later.
        let _ = tcp.set_nodelay(true);
        return Connection {
            tcp,
            info: ConnectionInfo {
                peer: Some(peer),
                cut: Arc::default(),
            },
            silence: Some(Box::pin(tokio::time::sleep(SILENCE_MAX))),
            _place: place,
        };
    }
}

impl Connection {
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

impl Connected for Connection {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        self.info.clone()
    }
}

impl AsyncRead for Connection {
    /// A connection is always being read, so this is where it learns of its end.
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(result) = Pin::new(&mut self.tcp).poll_read(context, buffer) {
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
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.tcp).poll_shutdown(context))?;
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }
}
