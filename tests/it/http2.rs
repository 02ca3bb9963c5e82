//! A client of HTTP/2, for the endings that HTTP/1.1 does not have.

use std::{future::Future, net::SocketAddr};

use anyhow::{Context, Result, ensure};
use h2::{Reason, client::SendRequest, ext::Protocol};
use harness::wait::wait_for;
use hyper::{Method, Request, body::Bytes, http::request::Builder};
use tokio::net::TcpStream;

use crate::door1::BOUND;

/// Runs one conversation; its connection has a thread of its own, so that it may wait meanwhile.
fn converse<T>(conversation: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async { tokio::time::timeout(BOUND, conversation).await? })
}

async fn connect(port: u16) -> Result<SendRequest<Bytes>> {
    let stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    let (send, connection) = h2::client::handshake(stream).await?;
    // Ends with the runtime.
    tokio::spawn(connection);
    Ok(send.ready().await?)
}

fn request(method: Method, path: &str) -> Builder {
    let kind = match path.starts_with("/grpc") {
        true => "application/grpc",
        false => "text/plain",
    };
    Request::builder()
        .method(method)
        .uri(format!("http://edge{path}"))
        .header("content-type", kind)
}

/// `GET`; gives the status when all of the answer has come.
pub fn get(port: u16, path: &str) -> Result<u16> {
    converse(async {
        let mut send = connect(port).await?;
        let (answer, _) = send.send_request(request(Method::GET, path).body(())?, true)?;
        let answer = answer.await?;
        let status = answer.status().as_u16();
        let mut body = answer.into_body();
        while let Some(part) = body.data().await {
            body.flow_control().release_capacity(part?.len())?;
        }
        body.trailers().await?;
        Ok(status)
    })
}

/// `GET`, given up by the client once it is under way; the connection stays until all is `settled`.
pub fn give_up(
    port: u16,
    path: &str,
    under_way: impl FnOnce() -> Result<()>,
    settled: impl FnOnce() -> Result<()>,
) -> Result<()> {
    converse(async {
        let mut send = connect(port).await?;
        let begun = request(Method::GET, path).body(())?;
        let (_answer, mut stream) = send.send_request(begun, true)?;
        under_way()?;
        stream.send_reset(Reason::CANCEL);
        settled()
    })
}

/// A WebSocket as one stream of HTTP/2 (RFC 8441), which the client ends.
pub fn socket(port: u16, path: &str) -> Result<()> {
    converse(async {
        let mut send = connect(port).await?;
        wait_for("Envoy's settings", BOUND, || {
            match send.is_extended_connect_protocol_enabled() {
                true => Ok(()),
                false => Err("no extended CONNECT".to_string()),
            }
        })?;
        let connect = request(Method::CONNECT, path)
            .extension(Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13")
            .body(())?;
        let (answer, mut stream) = send.send_request(connect, false)?;
        let answer = answer.await?;
        ensure!(answer.status() == 200, "{}", answer.status());
        stream.send_data(Bytes::from_static(b"ping"), false)?;
        let mut body = answer.into_body();
        let echo = body.data().await.context("no echo")??;
        ensure!(echo == "ping", "{echo:?}");
        stream.send_data(Bytes::new(), true)?;
        // Until the other side has ended it, too, in whatever way.
        while let Some(Ok(_)) = body.data().await {}
        Ok(())
    })
}
