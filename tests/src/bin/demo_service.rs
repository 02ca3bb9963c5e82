//! `demo-service`: an application to stand behind an Envoy. It says who it is and what it was sent,
//! and fails on demand.
//!
//! Every path answers JSON: service, version, request headers, and how many requests came before. A
//! request's own headers `x-demo-status` and `x-demo-delay-ms` say how it is answered; `POST
//! /_control?status=503&delay_ms=100` says it for all later ones; `status=reset` closes the connection
//! without an answer. A request to upgrade
//! is granted, and what follows is echoed. `x-demo-call: NAME` makes it call another service of the mesh
//! first, through `--outbound`; the answer holds that one's under `called`. `GET /_count` is the number of requests so far. Neither of the latter counts.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Parser;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONNECTION, HeaderValue, UPGRADE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// The status that is none: the connection is closed instead.
const RESET: u16 = 0;

/// An application to stand behind an Envoy: it says who it is and what it was sent, and fails on
/// demand.
#[derive(Debug, Parser)]
#[command(
    after_help = "Example:\n  demo-service --listen 127.0.0.1:8081 --name order-service --version v1"
)]
struct Arguments {
    /// Where it listens; port 0 is any free one.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// The service that it says it is.
    #[arg(long, default_value = "demo")]
    name: String,
    /// The version that it says it is.
    #[arg(long, default_value = "v1")]
    version: String,
    /// The outbound listener of its sidecar, by which it calls other services.
    #[arg(long, value_name = "ADDRESS:PORT")]
    outbound: Option<SocketAddr>,
}

struct Service {
    name: String,
    version: String,
    outbound: Option<SocketAddr>,
    requests: AtomicU64,
    status: AtomicU16,
    delay_millis: AtomicU64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments {
        listen,
        name,
        version,
        outbound,
    } = Arguments::parse();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("--listen {listen}"))?;
    println!("ready {}", listener.local_addr()?);
    let service = Arc::new(Service {
        name,
        version,
        outbound,
        requests: AtomicU64::new(0),
        status: AtomicU16::new(200),
        delay_millis: AtomicU64::new(0),
    });
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let _ = stream.set_nodelay(true);
                let service = Arc::clone(&service);
                tokio::spawn(async move {
                    let handler = service_fn(move |request| answer(Arc::clone(&service), request));
                    // A client that leaves ends its own connection only.
                    let _ = http1::Builder::new()
                        .max_buf_size(256 * 1024)
                        .serve_connection(TokioIo::new(stream), handler)
                        .with_upgrades()
                        .await;
                });
            }
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
    }
}

/// An error makes hyper close the connection without an answer.
async fn answer(
    service: Arc<Service>,
    request: Request<Incoming>,
) -> io::Result<Response<Full<Bytes>>> {
    match request.uri().path() {
        "/_count" => {
            let count = service.requests.load(Ordering::SeqCst);
            return Ok(response(StatusCode::OK, format!("{count}\n")));
        }
        "/_control" => return Ok(control(&service, request.uri().query().unwrap_or_default())),
        _ => {}
    }
    let before = service.requests.fetch_add(1, Ordering::SeqCst);
    let asked = |name: &str| {
        request
            .headers()
            .get(name)?
            .to_str()
            .ok()?
            .parse::<u64>()
            .ok()
    };
    let delay =
        asked("x-demo-delay-ms").unwrap_or_else(|| service.delay_millis.load(Ordering::SeqCst));
    if delay > 0 {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let status = asked("x-demo-status")
        .and_then(|status| u16::try_from(status).ok())
        .unwrap_or_else(|| service.status.load(Ordering::SeqCst));
    if status == RESET {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    if let Some(protocol) = request.headers().get(UPGRADE).cloned() {
        return Ok(upgrade(request, protocol));
    }
    let called = call(&service, &request).await?;
    let body = json!({
        "service": service.name,
        "version": service.version,
        "path": request.uri().path(),
        "headers": headers(&request),
        "before": before,
        "called": called,
    });
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    Ok(response(status, format!("{body}\n")))
}

/// Calls the service that the request names, as applications do: by its name, through the sidecar, with
/// what must be handed on.
async fn call(service: &Service, request: &Request<Incoming>) -> io::Result<Value> {
    let header = |name: &str| {
        request
            .headers()
            .get(name)
            .map(|value| value.as_bytes().to_vec())
    };
    let (Some(callee), Some(outbound)) = (header("x-demo-call"), service.outbound) else {
        return Ok(Value::Null);
    };
    let mut headers = vec![("host", callee)];
    for name in ["x-user-id", "x-request-id", "traceparent"] {
        headers.extend(header(name).map(|value| (name, value)));
    }
    let path = request.uri().path().to_string();
    let answer = tokio::task::spawn_blocking(move || {
        let headers: Vec<(&str, &[u8])> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_slice()))
            .collect();
        let answer = harness::http::Client::new(outbound).get(&path, &headers)?;
        let body = answer.json().unwrap_or_default();
        anyhow::Ok(json!({"status": answer.status, "answer": body}))
    });
    let answer = answer.await.map_err(io::Error::other)?;
    answer.map_err(io::Error::other)
}

/// Switches to whatever protocol was asked for, and echoes what it is sent.
fn upgrade(request: Request<Incoming>, protocol: HeaderValue) -> Response<Full<Bytes>> {
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else {
            return;
        };
        let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
        // The peer ends it.
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    });
    let mut response = response(StatusCode::SWITCHING_PROTOCOLS, String::new());
    let headers = response.headers_mut();
    headers.insert(UPGRADE, protocol);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response
}

/// By name; several of one name joined by commas. Bytes that are no UTF-8 are shown as such.
fn headers(request: &Request<Incoming>) -> Map<String, Value> {
    let mut headers = Map::new();
    for (name, value) in request.headers() {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        let entry = headers.entry(name.as_str()).or_insert(Value::Null);
        *entry = match entry.as_str() {
            Some(before) => Value::String(format!("{before},{value}")),
            None => Value::String(value),
        };
    }
    headers
}

fn control(service: &Service, query: &str) -> Response<Full<Bytes>> {
    for pair in query.split('&') {
        let done = match pair.split_once('=') {
            Some(("status", value)) => status(value)
                .map(|status| service.status.store(status, Ordering::SeqCst))
                .is_some(),
            Some(("delay_ms", value)) => value
                .parse()
                .map(|delay| service.delay_millis.store(delay, Ordering::SeqCst))
                .is_ok(),
            _ => false,
        };
        if !done {
            let words = format!("{pair:?}: known are status=N, status=reset and delay_ms=N\n");
            return response(StatusCode::BAD_REQUEST, words);
        }
    }
    response(StatusCode::OK, "done\n".into())
}

/// A final status, or `reset`.
fn status(value: &str) -> Option<u16> {
    if value == "reset" {
        return Some(RESET);
    }
    value
        .parse()
        .ok()
        .filter(|status| (200..600).contains(status))
}

fn response(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}
