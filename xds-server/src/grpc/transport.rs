//! HTTP/2 on every connection, and what is in force there.

use std::{future::Future, pin::pin, time::Duration};

use axum::Router;
use futures_util::{Stream, StreamExt as _};
use hyper::{Request, body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use tower_service::Service as _;
use tracing::debug;

use super::{
    connection::Connection,
    turns::{self, Begun},
};

/// Streams on one connection. An Envoy uses one, or one for each type.
const STREAMS_PER_CONNECTION_MAX: u32 = 256;
/// Largest set of headers of a call.
const HEADER_BYTES_MAX: u32 = 16 * 1024;
const KEEPALIVE_EVERY: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves connections until `shutdown` completes; then nobody is let in any more, every connection is told GOAWAY, and
/// it waits until they are closed.
pub(super) async fn serve(
    incoming: impl Stream<Item = Connection>,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    let ending = GracefulShutdown::new();
    {
        let mut incoming = pin!(incoming);
        let mut shutdown = pin!(shutdown);
        loop {
            let connection = tokio::select! {
                () = &mut shutdown => break,
                connection = incoming.next() => connection,
            };
            let Some(connection) = connection else {
                break;
            };
            tokio::spawn(talk(connection, router.clone(), ending.watcher()));
        }
    }
    ending.shutdown().await;
}

/// One connection, from its first byte to its last.
async fn talk(connection: Connection, router: Router, watcher: Watcher) {
    let info = connection.info().clone();
    let peer = info.peer;
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(info.clone());
        router.clone().call(request)
    });
    let begun = Begun::default();
    let connection = http2::Builder::new(begun.clone())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE_EVERY)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .serve_connection(TokioIo::new(connection), service);
    if let Err(error) = turns::run(watcher.watch(connection), begun).await {
        debug!(?peer, %error, "a connection ended");
    }
}
