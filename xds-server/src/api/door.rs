//! Connections to the API, by TLS where there is a certificate. Strangers may open them, so they are bounded
//! in number, and in the time that a handshake and the headers of a request may take. One by which somebody known
//! has called counts among theirs from then on: thousands of instances keep one each for their heartbeats.

#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower_service::Service as _;
use tracing::{debug, error};

/// After the system refused a connection: there may be no file left for it.
const PAUSE: Duration = Duration::from_secs(1);

/// What strangers may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections at once; further ones wait in the listener's backlog.
    pub(super) connections: usize,
    /// Connections beside those, by which somebody known has called.
    pub(super) known: usize,
    /// For a handshake.
    pub(super) handshake: Duration,
    /// For the headers of a request, from the end of the one before it on.
    pub(super) headers: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            known: 0,
            handshake: Duration::from_secs(10),
            headers: Duration::from_secs(30),
        }
    }
}

/// Where a caller comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Where callers come in.
pub(super) struct Door {
    pub(super) tcp: TcpListener,
    pub(super) tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    pub(super) limits: Limits,
}

/// A part of an answer that is not sent: whoever has called is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known;

/// One that was accepted, and nothing more.
struct Accepted {
    tcp: TcpStream,
    peer: SocketAddr,
    place: Place,
}

/// The place that a connection takes: a stranger's, until one of those who are known is free for it.
struct Place {
    taken: Mutex<Taken>,
    known: Arc<Semaphore>,
}

enum Taken {
    Stranger { _place: OwnedSemaphorePermit },
    Known { _place: OwnedSemaphorePermit },
}

impl Place {
    fn of_stranger(place: OwnedSemaphorePermit, known: &Arc<Semaphore>) -> Self {
        Self {
            taken: Mutex::new(Taken::Stranger { _place: place }),
            known: Arc::clone(known),
        }
    }

    fn is_known(&self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*taken, Taken::Stranger { .. })
            && let Ok(place) = Arc::clone(&self.known).try_acquire_owned()
        {
            *taken = Taken::Known { _place: place };
        }
    }
}

impl Door {
    /// Serves until `shutdown` completes, and then what is under way.
    pub(super) async fn serve(self, router: Router, shutdown: impl Future<Output = ()>) {
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let known = Arc::new(Semaphore::new(self.limits.known));
        let ending = GracefulShutdown::new();
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                accepted = self.accept(&places, &known) => accepted,
            };
            let tls = self.tls.as_ref().map(|tls| Arc::clone(&tls.borrow()));
            let talk = Talk {
                router: router.clone(),
                limits: self.limits,
                watcher: ending.watcher(),
            };
            tokio::spawn(talk.with(accepted, tls));
        }
        // Nobody is let in any more.
        drop(self.tcp);
        ending.shutdown().await;
    }

    async fn accept(&self, places: &Arc<Semaphore>, known: &Arc<Semaphore>) -> Accepted {
        loop {
            let Ok(place) = Arc::clone(places).acquire_owned().await else {
                // Nobody closes it.
                std::future::pending().await
            };
            match self.tcp.accept().await {
                Ok((tcp, peer)) => {
                    let place = Place::of_stranger(place, known);
                    return Accepted { tcp, peer, place };
                }
                Err(error) => recover(&error).await,
            }
        }
    }
}

/// One connection, from its first byte to its last.
struct Talk {
    router: Router,
    limits: Limits,
    watcher: Watcher,
}

impl Talk {
    async fn with(self, accepted: Accepted, tls: Option<Arc<ServerConfig>>) {
        let Accepted { tcp, peer, place } = accepted;
        let place = Arc::new(place);
        match tls {
            None => self.serve(tcp, peer, place).await,
            Some(config) => {
                let accepting = TlsAcceptor::from(config).accept(tcp);
                match timeout(self.limits.handshake, accepting).await {
                    Ok(Ok(stream)) => self.serve(stream, peer, place).await,
                    Ok(Err(error)) => debug!(%peer, %error, "no TLS"),
                    Err(_) => debug!(%peer, "no TLS in time"),
                }
            }
        }
    }

    async fn serve(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: SocketAddr,
        place: Arc<Place>,
    ) {
        let router = self.router;
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(Peer(peer)));
            let mut router = router.clone();
            let place = Arc::clone(&place);
            async move {
                let answered = router.call(request).await;
                let response = answered.unwrap_or_else(|never| match never {});
                if response.extensions().get::<Known>().is_some() {
                    place.is_known();
                }
                Ok::<_, Infallible>(response)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.headers)
            .serve_connection(TokioIo::new(stream), service);
        if let Err(error) = self.watcher.watch(connection).await {
            debug!(%peer, %error, "a connection to the API ended");
        }
    }
}

async fn recover(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    // Who left before we took them is gone, and nothing else is wrong.
    if !matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    ) {
        error!(%error, "the API takes no connection");
        sleep(PAUSE).await;
    }
}
