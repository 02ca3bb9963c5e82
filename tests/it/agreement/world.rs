//! The mesh whose Envoys are asked, and its clock.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::Artifacts,
    clock::Clock,
    demo_services::DemoService,
    envoy::{self, Envoy},
    http::Client,
    ports::free_port,
    server::{self, Server},
    wait::wait_for,
};
use policy::canary::bucket;

use crate::{
    door1::{BOUND, version},
    mesh::all_acknowledged,
};

/// Who asks: an Envoy of one worker, so that one answer shows what it knows.
#[derive(Debug)]
pub struct Caller {
    /// Its gateway or service.
    pub name: &'static str,
    /// Its zone.
    pub zone: Option<&'static str>,
    /// A gateway's, and no sidecar's.
    pub is_gateway: bool,
    /// Its place among the ports.
    place: usize,
}

const fn caller(
    name: &'static str,
    zone: Option<&'static str>,
    is_gateway: bool,
    place: usize,
) -> Caller {
    Caller {
        name,
        zone,
        is_gateway,
        place,
    }
}

pub const CALLERS: [Caller; 4] = [
    caller("edge-west", Some("mumbai-west"), true, 0),
    caller("edge-central", Some("mumbai-central"), true, 1),
    caller("edge", None, true, 2),
    caller("caller-service", Some("mumbai-central"), false, 3),
];

/// Endpoints: id, service, zone, version.
const ENDPOINTS: [(&str, &str, &str, &str); 9] = [
    ("order-west", "order-service", "mumbai-west", "v1"),
    ("order-central", "order-service", "mumbai-central", "v1"),
    ("order-west-2", "order-service", "mumbai-west", "v2"),
    ("order-central-2", "order-service", "mumbai-central", "v2"),
    ("pay-west", "payment-service", "mumbai-west", "v1"),
    ("pay-central-2", "payment-service", "mumbai-central", "v2"),
    ("stock-west", "stock-service", "mumbai-west", "v1"),
    ("clock-1", "clock-service", "mumbai-west", "v1"),
    ("clock-2", "clock-service", "mumbai-west", "v2"),
];

const FILE: &str = r#"mesh: {name: test, region: mumbai}
timezone: Asia/Kolkata
peak_hours:
  morning: {start: 7, end: 11, zone: mumbai-west, multiplier: 1.5}
  evening: {start: "17:00", end: "22:00", multiplier: 2}
  night: {start: "23:30", end: "00:30", zone: mumbai-central}
  salary: {start: 9, end: 12, monthly: [last-business-day], except: holidays}
festivals:
  - {name: Diwali, date: 2026-11-08, factor: 2}
  - {name: "दिवाली मेला", start: 2026-11-10, end: 2026-11-11, factor: 3}
holidays: ["2026-11-30"]
traffic_classes:
  gold: {match: [{path_prefix: /pay}, {grpc_service: upi.v1.Pay}]}
  bronze:
    match: [{method: DELETE}, {header: {x-initiated-by: system}}]
    limit: {per_second: 1000000, burst: 1000000, at_peak: 0}
    shed_during: {festival: 40}
    sticky_by: {header: x-user-id}
  tin:
    match: [{path_prefix: /batch}, {header: {x-tin: "1"}}]
    limit: {per_second: 1000000, burst: 1000000, at_festival: 0}
    shed_during: {normal: 20, peak: 60, evening: 80}
    sticky_by: {header: x-user-id}
    refusal: {content_type: application/json, body: '{"busy": true}'}
services:
  caller-service:
    port: 1
    endpoints: [{id: caller-1, host: 127.0.0.1, port: CALLER, zone: mumbai-central}]
  order-service:
    sidecar: false
    retries: {attempts: 1}
    circuit_breaker: {max_requests: 1000}
    canary:
      version: v2
      ramp: {start: 2026-11-05T09:00+05:30, steps: [5, 10, 25, 50, 75], every: 12h}
      freeze_during: [peak, festival]
      sticky_by: {header: x-user-id}
    endpoints: ORDER
  payment-service:
    class: gold
    sidecar: false
    stable_version: v1
    canary: {version: v2, weight: 30, sticky_by: {header: x-user-id}, fallback: probe}
    endpoints: PAYMENT
  stock-service:
    class: tin
    sidecar: false
    limit: {per_second: 1000000, burst: 1000000}
    endpoints: STOCK
  clock-service:
    sidecar: false
    canary:
      version: v2
      ramp: {start: 2026-11-05T00:30+05:30, steps: STEPS, every: 6h}
      sticky_by: {header: x-user-id}
    endpoints: CLOCK
gateways:
"#;

const GATEWAY: &str = r#"    hosts: [x.in, "*.x.in"]
    routes:
      - {match: {path_prefix: /clock}, service: clock-service}
      - {match: {path: /old, hosts: [www.x.in]}, redirect: {https: true, host: x.in, path: /new, status: 308}}
      - {match: {path_prefix: /shop}, redirect: {path_prefix: /, status: 302}}
      - {match: {hosts: [admin.x.in]}, service: stock-service}
      - {match: {path_prefix: /api/v1.0, header: {x-beta: "1"}}, service: order-service, rewrite: {path_prefix: /}}
      - {match: {path_prefix: /api}, service: order-service, rewrite: {path_prefix: /v2, host: orders.internal}}
      - {match: {path_prefix: /pay}, service: payment-service}
      - {match: {path_prefix: /batch}, service: stock-service, retries: {attempts: 1}}
      - {match: {path: /best, method: GET}, service: order-service, rewrite: {path: /top}}
      - {match: {grpc_service: upi.v1.Pay}, service: payment-service}
      - {match: {method: POST}, service: order-service}
      - {match: {method: DELETE}, service: stock-service}
"#;

pub struct World {
    pub server: Server,
    clock: Clock,
    ports: [u16; 4],
    envoys: Vec<Envoy>,
    _applications: Vec<DemoService>,
    // Dropped last: all processes write into it.
    _dir: tempfile::TempDir,
}

impl World {
    pub fn start(instant: &str) -> Result<Self> {
        let artifacts = Artifacts::from_env()?;
        let dir = tempfile::tempdir()?;
        let clock = Clock::new(dir.path())?;
        clock.set_now(millis(instant)?)?;
        let ports = [(); 4].map(|()| free_port());
        let mut applications = Vec::new();
        for (id, service, ..) in ENDPOINTS {
            // Each says which endpoint it is.
            let started = DemoService::start(&artifacts, dir.path(), service, id)?;
            applications.push(started);
        }
        let text = file(&applications, ports);
        let server = Server::start(&artifacts, dir.path(), &text, &server::Options::default())?;
        let mut envoys = Vec::new();
        for caller in &CALLERS {
            let admin_port = free_port();
            let out = dir.path().join(caller.name);
            let port = ports[caller.place].to_string();
            let mut extra = Vec::new();
            if let Some(zone) = caller.zone {
                extra.extend(["--zone", zone]);
            }
            if !caller.is_gateway {
                extra.extend(["--outbound-port", &port]);
            }
            let config = server.bootstrap(caller.name, admin_port, &out, &extra)?;
            let options = envoy::Options {
                name: caller.name,
                concurrency: 1,
                clock: Some(&clock),
                admin_port,
                ..envoy::Options::default()
            };
            envoys.push(Envoy::start_file(&artifacts, &out, &config, &options)?);
        }
        let world = Self {
            server,
            clock,
            ports,
            envoys,
            _applications: applications,
            _dir: dir,
        };
        wait_for("every Envoy to acknowledge everything", BOUND, || {
            let proxies = world.server.api_get("/api/v1/proxies");
            let proxies = proxies.map_err(|error| error.to_string())?;
            let count = proxies["proxies"].as_array().map_or(0, Vec::len);
            match all_acknowledged(&proxies) && count == world.envoys.len() {
                true => Ok(()),
                false => Err(proxies.to_string()),
            }
        })?;
        Ok(world)
    }

    pub fn address(&self, caller: &Caller) -> SocketAddr {
        ([127, 0, 0, 1], self.ports[caller.place]).into()
    }

    /// Moves the clock, and waits until every Envoy's filter has seen it: the clock service's ramp stands
    /// at another step then than before.
    pub fn move_clock(&self, instant: &str) -> Result<()> {
        let at = millis(instant)?;
        let step = step_at(at)?;
        let before = step_at(self.clock.now_millis()?)?;
        let is_first = at == millis(super::INSTANTS[0].0)?;
        ensure!(
            is_first || step != before,
            "{instant} is in the step of the instant before it"
        );
        self.clock.set_now(at)?;
        let users = (
            user_from(step - 1)?,
            (step < STEPS).then(|| user_from(step)).transpose()?,
        );
        for caller in &CALLERS {
            let mut client = Client::new(self.address(caller));
            wait_for("an Envoy to see that the clock was moved", BOUND, || {
                let mut served = |user: &str| -> Result<String> {
                    let host: &[u8] = match caller.is_gateway {
                        true => b"x.in",
                        false => b"clock-service",
                    };
                    let headers = [("host", host), ("x-user-id", user.as_bytes())];
                    let answer = client.get("/clock", &headers)?;
                    ensure!(answer.status == 200, "{}", answer.status);
                    version(&answer)
                };
                let mut look = || -> Result<bool> {
                    let below = served(&users.0)? == "clock-2";
                    let above = match &users.1 {
                        Some(user) => served(user)? == "clock-1",
                        None => true,
                    };
                    Ok(below && above)
                };
                match look() {
                    Ok(true) => Ok(()),
                    other => Err(format!("{} {other:?}", caller.name)),
                }
            })?;
        }
        Ok(())
    }

    /// Sets the clock back to the instant to which it was moved: a minute of it must not pass.
    pub fn hold_clock(&self, instant: &str) -> Result<()> {
        self.clock.set_now(millis(instant)?)
    }
}

const STEPS: u64 = 100;
const START: &str = "2026-11-05T00:30:00";
const EVERY_MILLIS: i64 = 6 * 3_600_000;

/// Which step the clock service's ramp has taken: the k-th is k percent.
fn step_at(at: i64) -> Result<u64> {
    let taken = (at - millis(START)?).div_euclid(EVERY_MILLIS) + 1;
    Ok(u64::try_from(taken).unwrap_or(0).min(STEPS))
}

/// A user who is served by v2 from `weight` + 1 percent on.
fn user_from(weight: u64) -> Result<String> {
    let buckets = weight * 100..(weight + 1) * 100;
    let mut users = (1..1_000_000).map(|number| format!("user-{number}"));
    let found = users.find(|user| {
        let bucket = bucket("canary", "clock-service", user.as_bytes());
        buckets.contains(&u64::from(bucket))
    });
    found.context("no such user")
}

fn millis(instant: &str) -> Result<i64> {
    let instant: jiff::Timestamp = format!("{instant}+05:30").parse()?;
    Ok(instant.as_millisecond())
}

fn file(applications: &[DemoService], ports: [u16; 4]) -> String {
    let endpoints = |service: &str| {
        let mut lines = String::new();
        for ((id, of, zone, version), application) in ENDPOINTS.iter().zip(applications) {
            if *of == service {
                lines += &format!(
                    "\n      - {{id: {id}, host: 127.0.0.1, port: {}, zone: {zone}, version: {version}}}",
                    application.addr.port()
                );
            }
        }
        lines
    };
    let steps: Vec<String> = (1..=STEPS).map(|step| step.to_string()).collect();
    let mut text = FILE
        .replace("CALLER", &free_port().to_string())
        .replace("ORDER", &endpoints("order-service"))
        .replace("PAYMENT", &endpoints("payment-service"))
        .replace("STOCK", &endpoints("stock-service"))
        .replace("CLOCK", &endpoints("clock-service"))
        .replace("STEPS", &format!("[{}]", steps.join(", ")));
    for caller in CALLERS.iter().filter(|caller| caller.is_gateway) {
        let port = ports[caller.place];
        text += &format!("  {}:\n    listen: 127.0.0.1:{port}\n", caller.name);
        if caller.zone.is_none() {
            text += "    trust_canary_header: true\n";
        }
        text += GATEWAY;
    }
    text
}
