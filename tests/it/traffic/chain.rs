//! Three services with two versions each, every one behind its sidecar: gateway -> order -> payment, out
//! through one sidecar and in through the next.

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::Artifacts, clock::Clock, demo_services::DemoService, envoy::Envoy, http,
    ports::free_port, wait::wait_for,
};
use serde_json::Value;

use super::World;
use crate::{
    door1::BOUND,
    mesh::{Variant, start_envoy},
};

const SERVICES: [&str; 3] = ["order-service", "payment-service", "stock-service"];
const VERSIONS: [&str; 2] = ["v1", "v2"];

/// One instance: its ports.
struct Place {
    service: &'static str,
    version: &'static str,
    application: u16,
    inbound: u16,
    outbound: u16,
}

impl Place {
    fn id(&self) -> String {
        format!("{}-{}", self.service, self.version)
    }
}

pub(super) struct Chain {
    sidecars: Vec<Envoy>,
    places: Vec<Place>,
    _applications: Vec<DemoService>,
    pub(super) world: World,
}

fn start() -> Result<Chain> {
    start_with("", None)
}

/// `more` are further sections of the file; `clock` is that of all Envoys.
pub(super) fn start_with(more: &str, clock: Option<&Clock>) -> Result<Chain> {
    let artifacts = Artifacts::from_env()?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().to_path_buf();
    let places: Vec<Place> = SERVICES
        .iter()
        .flat_map(|service| VERSIONS.map(|version| (*service, version)))
        .map(|(service, version)| Place {
            service,
            version,
            application: free_port(),
            inbound: free_port(),
            outbound: free_port(),
        })
        .collect();
    let mut applications = Vec::new();
    for place in &places {
        let outbound = format!("127.0.0.1:{}", place.outbound);
        applications.push(DemoService::start_with(
            &artifacts,
            &path,
            place.service,
            place.version,
            place.application,
            &["--outbound", &outbound],
        )?);
    }
    let routes = "routes: [{match: {path_prefix: /}, service: order-service}]";
    let world = World::start_at(
        dir,
        &(more.to_string() + &mesh(&places)),
        routes,
        &[],
        clock,
    )?;
    let mut sidecars = Vec::new();
    for place in &places {
        let (id, port) = (place.id(), place.outbound.to_string());
        let extra = ["--node-id", &id, "--outbound-port", &port];
        let (server, delta) = (&world.server, Variant::Delta);
        let sidecar = start_envoy(
            &artifacts,
            &path,
            server,
            place.service,
            delta,
            &extra,
            clock,
        )?;
        sidecars.push(sidecar);
    }
    Ok(Chain {
        sidecars,
        places,
        _applications: applications,
        world,
    })
}

/// Half of the users are served by v2, at each service by a draw of its own.
fn mesh(places: &[Place]) -> String {
    let mut text = String::from("services:\n");
    for service in SERVICES {
        text += &format!(
            "  {service}:\n    canary: {{version: v2, weight: 50, sticky_by: {{header: x-user-id}}}}\n    \
             retries: {{attempts: 2}}\n    endpoints:\n"
        );
        for place in places.iter().filter(|place| place.service == service) {
            text += &format!(
                "      - {{id: {}, host: 127.0.0.1, port: {}, app_port: {}, version: {}}}\n",
                place.id(),
                place.inbound,
                place.application,
                place.version
            );
        }
    }
    text.replace(
        "  order-service:\n",
        "  order-service:\n    uses: [payment-service]\n",
    )
}

fn text<'v>(value: &'v Value, pointer: &str) -> Result<&'v str> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.with_context(|| format!("no {pointer} in {value:#}"))
}

impl Chain {
    /// The answer of order-service that called payment-service, as soon as both serve.
    pub(super) fn ask(&self, client: &mut http::Client, user: &str) -> Result<Value> {
        let headers: [(&str, &[u8]); 2] = [
            ("x-user-id", user.as_bytes()),
            ("x-demo-call", b"payment-service"),
        ];
        wait_for("the whole chain", BOUND, || {
            match client.get("/orders/7", &headers) {
                Ok(answer) if answer.status == 200 => match answer.json() {
                    Ok(json) if json["called"]["status"] == 200 => Ok(json),
                    other => Err(format!("{other:?}")),
                },
                other => Err(format!("{other:?}")),
            }
        })
    }
}

#[test]
fn every_hop_knows_its_caller_by_certificate_and_refuses_plaintext() -> Result<()> {
    let chain = start()?;
    let mut client = chain.world.client();
    for user in 0..20 {
        chain.ask(&mut client, &format!("user-{user}"))?;
    }
    let certificates = chain.world.server.api_get("/api/v1/certificates")?;
    let serial = |name: &str| -> Result<String> {
        let all = certificates["certificates"]
            .as_array()
            .context("no certificates")?;
        let found = all
            .iter()
            .find(|one| one["name"] == name && one["kind"] != "ca");
        let serial = found.and_then(|one| one["serial"].as_str());
        Ok(plain(
            serial.with_context(|| format!("{name}: {certificates:#}"))?,
        ))
    };
    for (place, sidecar) in chain.places.iter().zip(&chain.sidecars) {
        let caller = match place.service {
            "order-service" => "edge",
            "payment-service" => "order-service",
            _ => continue,
        };
        let line = wait_for("a line of the inbound listener", BOUND, || {
            let log = sidecar.log();
            let mut lines = log
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines
                .find(|line| line["listener"] == "inbound" && line["status"] == 200)
                .ok_or_else(|| "none".to_string())
        })?;
        let identity = format!("spiffe://mumbai.mesh/ns/default/sa/{caller}");
        ensure!(
            line["peer_identity"] == identity.as_str(),
            "{}: {line:#}",
            place.id()
        );
        let shown = plain(text(&line, "/peer_serial")?);
        ensure!(shown == serial(caller)?, "{}: {shown}", place.id());
    }
    for place in &chain.places {
        let address = ([127, 0, 0, 1], place.inbound).into();
        let answer = http::raw(address, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")?;
        ensure!(
            answer.is_empty(),
            "{}: {}",
            place.id(),
            String::from_utf8_lossy(&answer)
        );
    }
    Ok(())
}

/// `0A:1b` -> `a1b`.
fn plain(serial: &str) -> String {
    let digits = serial.replace(':', "").to_ascii_lowercase();
    digits.trim_start_matches('0').to_string()
}

#[test]
fn a_peaks_edge_and_a_festival_reach_every_hop_with_nothing_pushed() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let clock = Clock::new(dir.path())?;
    let calendar = "peak_hours: {evening: {start: 17, end: 22, multiplier: 1.5}}\n\
                    festivals: [{name: Diwali, date: 2026-11-08, factor: 2}]\n";
    let set = |instant: &str| -> Result<()> {
        let instant: jiff::Timestamp = instant.parse()?;
        clock.set_now(instant.as_millisecond())
    };
    // Certificates are issued then, and hold from then on.
    set("2026-11-07T12:00:00+05:30")?;
    let chain = start_with(calendar, Some(&clock))?;
    let mut client = chain.world.client();
    chain.ask(&mut client, "user-1")?;
    let pushes = chain.world.server.api_get("/api/v1/proxies")?;
    for (instant, state, window) in [
        ("2026-11-08T00:00:01+05:30", "festival", Some("Diwali")),
        (
            "2026-11-08T18:30:00+05:30",
            "festival",
            Some("Diwali,evening"),
        ),
        ("2026-11-09T00:00:01+05:30", "normal", None),
        ("2026-11-24T17:00:01+05:30", "peak_hour", Some("evening")),
        ("2026-11-24T22:00:01+05:30", "normal", None),
    ] {
        set(instant)?;
        wait_for(instant, BOUND, || {
            let answer = chain.ask(&mut client, "user-1");
            let answer = answer.map_err(|error| format!("{error:#}"))?;
            // What each application was told by the Envoy that called it.
            let hops = [&answer["headers"], &answer["called"]["answer"]["headers"]];
            let told = hops.map(|headers| {
                let text = |name: &str| headers[name].as_str();
                (text("x-mumbai-traffic-state"), text("x-mumbai-window"))
            });
            match told == [(Some(state), window); 2] {
                true => Ok(()),
                false => Err(format!("{told:?}")),
            }
        })?;
    }
    let count = |proxies: &Value| -> Vec<Value> {
        let proxies = proxies["proxies"].as_array().cloned().unwrap_or_default();
        proxies
            .iter()
            .map(|proxy| proxy["streams"][0]["responses"].clone())
            .collect()
    };
    let now = chain.world.server.api_get("/api/v1/proxies")?;
    ensure!(count(&pushes) == count(&now), "a push came: {now:#}");
    Ok(())
}

#[test]
fn requests_go_from_service_to_service_and_each_hop_decides_the_version_anew() -> Result<()> {
    let chain = start()?;
    let mut client = chain.world.client();
    for user in ["user-1", "user-2", "user-3", "user-4", "user-5", "user-6"] {
        let answer = chain.ask(&mut client, user)?;
        ensure!(text(&answer, "/service")? == "order-service");
        ensure!(text(&answer, "/called/answer/service")? == "payment-service");
        for (service, pointer) in [("order-service", ""), ("payment-service", "/called/answer")] {
            let path = format!("/api/v1/explain?service={service}&header=x-user-id:{user}");
            let foretold = chain.world.server.api_get(&path)?;
            let label = text(&foretold, "/version")?;
            let served_by = if label == "stable" { "v1" } else { label };
            let version = text(&answer, &format!("{pointer}/version"))?;
            ensure!(
                version == served_by,
                "{user} at {service}: {version}, not {served_by}"
            );
            let told = text(&answer, &format!("{pointer}/headers/x-mumbai-version"))?;
            ensure!(told == label, "{user} at {service}: {told}, not {label}");
        }
        // One trace: what the first hop was given, the second one has.
        ensure!(
            text(&answer, "/headers/x-request-id")?
                == text(&answer, "/called/answer/headers/x-request-id")?
        );
    }
    // `uses` narrows what a sidecar knows.
    let headers: [(&str, &[u8]); 2] = [("x-user-id", b"user-1"), ("x-demo-call", b"stock-service")];
    let answer = client.get("/orders/7", &headers)?.json()?;
    ensure!(answer["called"]["status"] == 404, "{answer:#}");
    Ok(())
}
