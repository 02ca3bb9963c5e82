//! Spans of real Envoys at a real OTLP collector, which hands them on to a listener of ours: there each
//! field is looked at, by OpenTelemetry's own schema.

use std::{
    collections::BTreeSet,
    io::{self, Read},
    process::Command,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use harness::{artifacts::rotel, ports::free_port, process::Process, wait::wait_for};
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value},
    trace::v1::Span,
};
use prost::Message as _;
use tokio::{net::TcpListener, runtime::Runtime};

use super::chain;
use crate::door1::BOUND;

/// A span, and the service that it is in the name of.
type Named = (String, Span);

#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<Named>>>);

impl Spans {
    fn of_trace(&self, trace: &[u8]) -> Vec<Named> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .filter(|(_, span)| span.trace_id == trace)
            .cloned()
            .collect()
    }
}

impl Spans {
    /// Takes what is handed on by OTLP over HTTP, compressed.
    async fn listen(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let spans = self.clone();
            let take = service_fn(move |request| spans.clone().take(request));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), take);
            tokio::spawn(connection);
        }
    }

    async fn take(self, request: Request<Incoming>) -> io::Result<Response<Empty<Bytes>>> {
        let body = request
            .into_body()
            .collect()
            .await
            .map_err(io::Error::other)?;
        let mut plain = Vec::new();
        GzDecoder::new(&*body.to_bytes()).read_to_end(&mut plain)?;
        let request = ExportTraceServiceRequest::decode(&*plain).map_err(io::Error::other)?;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for resource in request.resource_spans {
            let attributes = resource.resource.unwrap_or_default().attributes;
            let service = attribute(&attributes, "service.name").unwrap_or_default();
            let spans = resource
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans);
            all.extend(spans.map(|span| (service.clone(), span)));
        }
        Ok(Response::new(Empty::new()))
    }
}

fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|one| one.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text.clone()),
        other => Some(format!("{other:?}")),
    }
}

/// A collector that hands on all it receives.
struct Collector {
    port: u16,
    spans: Spans,
    process: Process,
    _runtime: Runtime,
}

impl Collector {
    fn start(dir: &std::path::Path) -> Result<Self> {
        let runtime = Runtime::new()?;
        let spans = Spans::default();
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)))?;
        let behind = listener.local_addr()?;
        runtime.spawn(spans.clone().listen(listener));
        let port = free_port();
        let mut command = Command::new(rotel()?);
        command
            .arg("start")
            .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{port}")])
            .args([
                "--otlp-http-endpoint",
                &format!("127.0.0.1:{}", free_port()),
            ])
            .args(["--exporter", "otlp"])
            .args(["--otlp-exporter-endpoint", &format!("http://{behind}")])
            .args(["--otlp-exporter-protocol", "http"])
            .args(["--debug-log", "traces"])
            .arg("--pid-file")
            .arg(dir.join("rotel.pid"));
        let process = Process::spawn("rotel", command, &dir.join("rotel.log"))?;
        wait_for("the collector to listen", BOUND, || {
            std::net::TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())
        })?;
        Ok(Self {
            port,
            spans,
            process,
            _runtime: runtime,
        })
    }

    /// The spans of a trace, once so many services have sent theirs.
    fn wait(&self, trace: &[u8], services: &[&str]) -> Result<Vec<Named>> {
        let spans = wait_for("the spans of the trace", BOUND, || {
            let spans = self.spans.of_trace(trace);
            let from: BTreeSet<&str> = spans.iter().map(|(service, _)| service.as_str()).collect();
            match services.iter().all(|service| from.contains(service)) && ends_meet(&spans) {
                true => Ok(spans),
                false => Err(format!("{from:?}, {} spans", spans.len())),
            }
        });
        spans.with_context(|| self.process.log())
    }
}

/// All but one have their parent among them.
fn ends_meet(spans: &[Named]) -> bool {
    let orphans = spans
        .iter()
        .filter(|(_, span)| parent(spans, span).is_none());
    orphans.count() == 1
}

fn parent<'s>(spans: &'s [Named], span: &Span) -> Option<&'s Named> {
    spans
        .iter()
        .find(|(_, other)| other.span_id == span.parent_span_id)
}

fn bytes(hex: &str) -> Result<Vec<u8>> {
    let digits = hex.as_bytes().chunks(2);
    let bytes = digits.map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?));
    bytes.collect()
}

#[test]
fn a_real_collector_gets_one_trace_of_every_hop_and_no_account_data() -> Result<()> {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const PARENT: &str = "b7ad6b7169203331";
    let dir = tempfile::tempdir()?;
    let collector = Collector::start(dir.path())?;
    let tracing = format!("tracing: {{otlp: \"127.0.0.1:{}\"}}\n", collector.port);
    let chain = chain::start_with(&tracing, None)?;
    let mut client = chain.world.client();
    // Until both hops serve. Without a traceparent of the client a trace of its own begins.
    let first = chain.ask(&mut client, "user-1")?;
    let own = first["headers"]["traceparent"]
        .as_str()
        .context("no traceparent")?
        .to_string();
    ensure!(own.len() == 55 && own.ends_with("-01"), "{own}");

    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    let headers: [(&str, &[u8]); 3] = [
        ("x-user-id", b"user-1"),
        ("x-demo-call", b"payment-service"),
        ("traceparent", traceparent.as_bytes()),
    ];
    let answer = client.get("/account-4711?pin=1234", &headers)?.json()?;
    // Both applications stand in the client's trace, each below the span of its own sidecar.
    let seen = [&answer["headers"], &answer["called"]["answer"]["headers"]];
    for headers in seen {
        let told = headers["traceparent"].as_str().unwrap_or_default();
        let is_below = told.starts_with(&format!("00-{TRACE}-")) && !told.contains(PARENT);
        ensure!(is_below, "{told}: {answer:#}");
    }

    let services = ["edge", "order-service", "payment-service"];
    let spans = collector.wait(&bytes(TRACE)?, &services)?;
    let names: Vec<String> = spans
        .iter()
        .map(|(service, span)| format!("{service}: {}", span.name))
        .collect();
    let root = spans
        .iter()
        .find(|(_, span)| span.parent_span_id == bytes(PARENT).unwrap_or_default());
    let root = root.with_context(|| format!("nothing below the client's span: {names:?}"))?;
    ensure!(root.0 == "edge", "{names:?}");
    // payment-service's spans lead up to the gateway's, by way of order-service.
    let (_, first) = spans
        .iter()
        .find(|(service, _)| service == "payment-service")
        .context("no payment")?;
    let mut span = first;
    let mut way = vec!["payment-service"];
    while let Some((service, above)) = parent(&spans, span) {
        if way.last() != Some(&service.as_str()) {
            way.push(service);
        }
        span = above;
    }
    ensure!(
        way == ["payment-service", "order-service", "edge"],
        "{way:?}: {names:?}"
    );
    for (service, span) in &spans {
        let shown = format!("{span:?}");
        ensure!(
            !shown.contains("4711") && !shown.contains("1234"),
            "{service}: {shown}"
        );
    }
    let tag = attribute(&root.1.attributes, "mumbai.traffic_state");
    ensure!(tag.as_deref() == Some("normal"), "{:?}", root.1.attributes);
    let trace = own.split('-').nth(1).context("no trace id")?;
    collector.wait(&bytes(trace)?, &services)?;
    ensure!(
        collector.process.log().contains("Received traces"),
        "{}",
        collector.process.log()
    );
    Ok(())
}
