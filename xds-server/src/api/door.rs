//! Connections to the API, by TLS where there is a certificate: the handshake runs beside the accepting
//! loop, bounded in number and time.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::either::Either;
use tracing::{debug, error};

/// Handshakes at once; further connections wait in the listener's backlog.
const HANDSHAKES_MAX: usize = 256;
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// After the system refused a connection: there may be no file left for it.
const PAUSE: Duration = Duration::from_secs(1);

/// Where a caller comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

type Connection = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Accepts connections.
pub(super) struct Door {
    tcp: TcpListener,
    tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    handshakes: JoinSet<Option<(Connection, SocketAddr)>>,
}

impl Door {
    pub(super) fn new(tcp: TcpListener, tls: Option<watch::Receiver<Arc<ServerConfig>>>) -> Self {
        Self {
            tcp,
            tls,
            handshakes: JoinSet::new(),
        }
    }
}

impl Listener for Door {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let has_room = self.handshakes.len() < HANDSHAKES_MAX;
            tokio::select! {
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = done {
                        return connection;
                    }
                }
                accepted = self.tcp.accept(), if has_room => match (accepted, &self.tls) {
                    (Ok((tcp, peer)), None) => return (Either::Left(tcp), peer),
                    (Ok((tcp, peer)), Some(tls)) => {
                        let config = Arc::clone(&tls.borrow());
                        self.handshakes.spawn(handshake(config, tcp, peer));
                    }
                    (Err(error), _) => recover(&error).await,
                },
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

async fn handshake(
    config: Arc<ServerConfig>,
    tcp: TcpStream,
    peer: SocketAddr,
) -> Option<(Connection, SocketAddr)> {
    let accepting = TlsAcceptor::from(config).accept(tcp);
    match timeout(HANDSHAKE_MAX, accepting).await {
        Ok(Ok(stream)) => Some((Either::Right(Box::new(stream)), peer)),
        Ok(Err(error)) => {
            debug!(%peer, %error, "no TLS");
            None
        }
        Err(_) => None,
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

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        Self(*stream.remote_addr())
    }
}
