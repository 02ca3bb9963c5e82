//! Accounting while the configuration is replaced again and again under load: every answer there is, every
//! kind of refusal, and at the end each request counted once.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use anyhow::Result;
use harness::{http::Client, wait::wait_for};
use serde_json::{Value, json};

use crate::{
    accounting::upstream,
    door1::{BOUND, filter_config, sum},
    reload::ByFile,
};

const REPLACED: u32 = 50;
const CLIENTS: usize = 6;
/// What the upstream does by path, and what the filter refuses of it.
const PATHS: [&str; 11] = [
    "/",
    "/pay",
    "/404",
    "/500",
    "/reset",
    "/truncated",
    "/slow",
    "/grpc-ok",
    "/grpc-unavailable",
    "/grpc-trailers-only",
    "/check",
];

/// The `turn`th configuration: a breaker that opens and closes all the time, a canary, a limit, a class of
/// which some is shed; windows and festivals that differ from one to the next.
fn configuration(turn: u32) -> Value {
    let service = json!({
        "name": "order-service",
        "circuit_breaker": {"consecutive_failures": 4, "open_for": "100ms", "half_open_probes": 2},
        "canary": {"version": "v2", "weight": 20, "fallback": "probe"},
        "limit": {"per_second": 300, "burst": 20},
    });
    let mut calendar = json!({
        "traffic_classes": [
            {"name": "gold", "match": [{"path_prefix": "/pay"}]},
            {"name": "bronze", "match": [{"path_prefix": "/check"}], "shed_during": {"peak": 50}},
        ],
        "festivals": [format!("20{}-01-01", 50 + turn % 40)],
    });
    let window = format!("window-{}", turn % 3);
    calendar["peak_hours"][window] = json!({"start": 0, "end": 24});
    filter_config(&service, &calendar)
}

struct Stage(ByFile);

impl Stage {
    fn start() -> Result<Self> {
        let upstream = format!("127.0.0.1:{}", upstream()?);
        Ok(Self(ByFile::start(&configuration(0), &upstream)?))
    }

    /// Sends one request after the other until `ended`; each on a connection of its own, so that none is
    /// sent twice because a kept one was closed.
    fn load(&self, first: usize, ended: &AtomicBool, sent: &AtomicU64) {
        for path in PATHS.iter().cycle().skip(first) {
            if ended.load(Ordering::SeqCst) {
                return;
            }
            let kind = match path.starts_with("/grpc") {
                true => b"application/grpc".as_slice(),
                false => b"text/plain",
            };
            let mut client = Client::new(([127, 0, 0, 1], self.0.port).into());
            // An answer that breaks off is one of those that must be counted.
            let _ = client.get(path, &[("content-type", kind)]);
            sent.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Of each kind: whether four failures follow each other is up to the clients' turns.
    fn wait_for_refusals(&self) -> Result<()> {
        wait_for("a refusal of each kind", BOUND, || {
            let page = self.0.envoy.prometheus();
            let page = page.map_err(|error| error.to_string())?;
            let by = |reason: &&str| {
                let of = format!("{{service=\"order-service\",reason=\"{reason}\"}}");
                page.contains(&format!("mumbai_mesh_refusals_total{of}"))
            };
            match ["limit", "shed", "breaker_open"].iter().all(by) {
                true => Ok(()),
                false => Err(format!(
                    "{:?}",
                    not_zero(&page, "mumbai_mesh_refusals_total")
                )),
            }
        })
    }
}

/// Series of the page with this beginning that are not 0.
fn not_zero(page: &str, name: &str) -> Vec<String> {
    let lines = page.lines().filter(|line| line.starts_with(name));
    let lines = lines.filter(|line| !line.ends_with(" 0"));
    lines.map(ToString::to_string).collect()
}

#[test]
fn while_the_configuration_is_replaced_fifty_times_each_request_counts_once() -> Result<()> {
    let stage = Stage::start()?;
    let (ended, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (stage, ended, sent) = (&stage, &ended, &sent);
            scope.spawn(move || stage.load(client * 2, ended, sent));
        }
        let replaced = (1..=REPLACED).try_for_each(|turn| {
            // Each configuration has its share of the requests.
            let until = u64::from(turn) * 20;
            wait_for("requests under each configuration", BOUND, || {
                match sent.load(Ordering::SeqCst) {
                    now if now >= until => Ok(()),
                    now => Err(format!("{now} of {until}")),
                }
            })?;
            stage.0.replace(&configuration(turn))
        });
        let refused = replaced.and_then(|()| stage.wait_for_refusals());
        ended.store(true, Ordering::SeqCst);
        refused
    })?;
    let sent = sent.load(Ordering::SeqCst);
    let counted = [
        "mumbai_mesh_requests_total",
        "mumbai_mesh_class_requests_total",
    ];
    wait_for("every request to be counted", BOUND, || {
        let page = stage
            .0
            .envoy
            .prometheus()
            .map_err(|error| error.to_string())?;
        let sums = counted.map(|name| sum(&page, name).unwrap_or(-1.0));
        let in_flight = not_zero(&page, "mumbai_mesh_active_connections");
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let exact = sums.iter().all(|sum| (sum - sent as f64).abs() < 0.5);
        match exact && in_flight.is_empty() {
            true => Ok(()),
            false => Err(format!("{sums:?} of {sent}, in flight {in_flight:?}")),
        }
    })?;
    // A configuration without the service leaves none of its gauges behind.
    stage
        .0
        .replace(&filter_config(&json!({"name": "another"}), &json!({})))?;
    wait_for("gauges to return to zero", BOUND, || {
        let page = stage
            .0
            .envoy
            .prometheus()
            .map_err(|error| error.to_string())?;
        let left = [
            not_zero(&page, "mumbai_mesh_circuit_breaker_state"),
            not_zero(&page, "mumbai_mesh_canary_breaker_state"),
            not_zero(&page, "mumbai_mesh_active_connections"),
        ];
        match left.concat() {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        }
    })
}
