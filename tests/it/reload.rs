//! New configurations while requests are under way: each starts new VMs, and the old ones end what they
//! began. What must not be lost is outside of them.

use std::thread;

use anyhow::{Result, ensure};
use harness::{
    artifacts::Artifacts,
    demo_services::DemoService,
    envoy::{self, Envoy},
    http::{Client, Response},
    ports::free_port,
    wait::wait_for,
};
use serde_json::{Value, json};

use crate::{
    breaker::upgrade,
    door1::{BOUND, config_with, filter_config, sum},
    robustness::write_ecds,
};

/// Configurations that an Envoy has taken.
pub const RELOADS: &str = "extension_config_discovery.http_filter.mumbai_mesh.config_reload";
const GAUGE: &str = "wasmcustom.service.=.order-service;.mumbai_mesh_circuit_breaker_state";
const ACTIVE: &str = "wasmcustom.service.=.order-service;.mumbai_mesh_active_connections";

/// An Envoy whose filter is configured by a file that it watches.
pub struct ByFile {
    pub envoy: Envoy,
    pub port: u16,
    wasm: String,
    dir: tempfile::TempDir,
}

impl ByFile {
    /// Starts it with a filter's configuration, in front of an upstream.
    pub fn start(configuration: &Value, upstream: &str) -> Result<Self> {
        let artifacts = Artifacts::from_env()?;
        let dir = tempfile::tempdir()?;
        let wasm = artifacts.wasm.display().to_string();
        let ecds = dir.path().join("ecds.json");
        write_ecds(&ecds, &wasm, &configuration.to_string())?;
        let discovery = json!({
            "name": "mumbai_mesh",
            "config_discovery": {
                "config_source": {"path_config_source": {"path": ecds}, "resource_api_version": "V3"},
                "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"],
            },
        });
        let (port, admin_port) = (free_port(), free_port());
        let config = config_with(&discovery, port, admin_port, [upstream, upstream]);
        let options = envoy::Options {
            admin_port,
            ..envoy::Options::default()
        };
        let envoy = Envoy::start(&artifacts, dir.path(), &config.to_string(), &options)?;
        Ok(Self {
            envoy,
            port,
            wasm,
            dir,
        })
    }

    /// Puts another configuration in force.
    pub fn replace(&self, configuration: &Value) -> Result<()> {
        let before = self.envoy.stat(RELOADS).unwrap_or(0);
        let ecds = self.dir.path().join("ecds.json");
        write_ecds(&ecds, &self.wasm, &configuration.to_string())?;
        wait_for("the new configuration", BOUND, || {
            match self.envoy.stat(RELOADS) {
                Some(now) if now > before => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
    }
}

struct Stage {
    proxy: ByFile,
    upstream: DemoService,
    _dir: tempfile::TempDir,
}

impl Stage {
    fn start(breaker: &Value) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let upstream =
            DemoService::start(&Artifacts::from_env()?, dir.path(), "order-service", "v1")?;
        let configuration = filter(breaker, &json!({}));
        Ok(Self {
            proxy: ByFile::start(&configuration, &upstream.addr.to_string())?,
            upstream,
            _dir: dir,
        })
    }

    /// Puts another configuration in force.
    fn reload(&self, breaker: &Value, calendar: &Value) -> Result<()> {
        self.proxy.replace(&filter(breaker, calendar))
    }

    fn get(&self, headers: &[(&str, &[u8])]) -> Result<Response> {
        Client::new(([127, 0, 0, 1], self.proxy.port).into()).get("/orders", headers)
    }

    fn fail(&self) -> Result<()> {
        let answer = self.get(&[("x-demo-status", b"500")])?;
        ensure!(answer.status == 500, "{answer:?}");
        Ok(())
    }

    fn wait(&self, stat: &str, expected: i64) -> Result<()> {
        let what = format!("{stat} to be {expected}");
        wait_for(&what, BOUND, || match self.proxy.envoy.stat(stat) {
            Some(value) if value == expected => Ok(()),
            other => Err(format!("{other:?}")),
        })
    }

    /// Runs `meanwhile` when `count` slow requests are at the upstream; gives their answers.
    fn under_way(
        &self,
        count: u64,
        headers: &[(&str, &[u8])],
        meanwhile: impl FnOnce() -> Result<()>,
    ) -> Result<Vec<Response>> {
        let before = self.upstream.count()?;
        thread::scope(|scope| {
            let slow = || self.get(headers);
            let threads: Vec<_> = (0..count).map(|_| scope.spawn(slow)).collect();
            wait_for("the slow requests at the upstream", BOUND, || {
                let now = self.upstream.count().map_err(|error| error.to_string())?;
                if now - before >= count {
                    Ok(())
                } else {
                    Err(format!("{now}"))
                }
            })?;
            meanwhile()?;
            let join = |thread: thread::ScopedJoinHandle<'_, Result<Response>>| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("a client panicked")))
            };
            threads.into_iter().map(join).collect()
        })
    }
}

fn filter(breaker: &Value, calendar: &Value) -> Value {
    let service = json!({"name": "order-service", "circuit_breaker": breaker});
    filter_config(&service, calendar)
}

/// Another calendar: a new configuration with the same rules for breakers.
fn another_calendar() -> Value {
    json!({"festivals": ["2050-01-01"]})
}

#[test]
fn requests_under_way_are_counted_once_and_leave_the_gauge_at_nothing() -> Result<()> {
    let rules = json!({"consecutive_failures": 5});
    let stage = Stage::start(&rules)?;
    let answers = stage.under_way(6, &[("x-demo-delay-ms", b"2500")], || {
        stage.wait(ACTIVE, 6)?;
        stage.reload(&rules, &another_calendar())?;
        ensure!(stage.get(&[])?.status == 200);
        stage.wait(ACTIVE, 6)
    })?;
    for answer in answers {
        ensure!(answer.status == 200, "{}", answer.status);
    }
    stage.wait(ACTIVE, 0)?;
    let total = sum(
        &stage.proxy.envoy.prometheus()?,
        "mumbai_mesh_requests_total",
    )?;
    ensure!(
        (total - 7.0).abs() < 0.5,
        "{total} requests counted instead of 7"
    );
    Ok(())
}

/// What lasts in an old configuration keeps it alive, and what ends there is told all the same.
#[test]
fn a_websocket_that_outlives_its_configuration_hides_no_count() -> Result<()> {
    let rules = json!({"consecutive_failures": 5});
    let stage = Stage::start(&rules)?;
    let socket = upgrade(stage.proxy.port)?;
    let total = |expected: f64| {
        wait_for("the requests to be counted", BOUND, || {
            let page = stage
                .proxy
                .envoy
                .prometheus()
                .map_err(|error| error.to_string())?;
            match sum(&page, "mumbai_mesh_requests_total") {
                Ok(total) if (total - expected).abs() < 0.5 => Ok(()),
                other => Err(format!("{other:?} instead of {expected}")),
            }
        })
    };
    stage.under_way(3, &[("x-demo-delay-ms", b"1500")], || {
        stage.reload(&rules, &another_calendar())
    })?;
    total(3.0)?;
    stage.wait(ACTIVE, 1)?;
    drop(socket);
    total(4.0)?;
    stage.wait(ACTIVE, 0)
}

#[test]
fn the_gauge_of_an_open_breaker_goes_on_saying_so() -> Result<()> {
    let rules = json!({"consecutive_failures": 2, "open_for": "60s"});
    let stage = Stage::start(&rules)?;
    stage.fail()?;
    stage.fail()?;
    stage.wait(GAUGE, 1)?;
    for calendar in [another_calendar(), json!({}), another_calendar()] {
        stage.reload(&rules, &calendar)?;
        ensure!(
            stage.proxy.envoy.stat(GAUGE) == Some(1),
            "{:?}",
            stage.proxy.envoy.stat(GAUGE)
        );
        ensure!(stage.get(&[])?.status == 503);
    }
    Ok(())
}

#[test]
fn a_row_of_failures_is_continued_when_only_the_calendar_changes() -> Result<()> {
    let rules = json!({"consecutive_failures": 3, "open_for": "60s"});
    let stage = Stage::start(&rules)?;
    stage.fail()?;
    stage.fail()?;
    stage.reload(&rules, &another_calendar())?;
    stage.fail()?;
    stage.wait(GAUGE, 1)
}

#[test]
fn a_probe_that_was_under_way_closes_the_breaker() -> Result<()> {
    let rules = json!({"consecutive_failures": 1, "open_for": "1s", "half_open_probes": 1});
    let stage = Stage::start(&rules)?;
    stage.fail()?;
    stage.wait(GAUGE, 1)?;
    let before = stage.upstream.count()?;
    thread::scope(|scope| {
        // Refused until the opening ends, then the probe.
        let probe = scope.spawn(|| {
            wait_for("an end of the opening", BOUND, || {
                match stage.get(&[("x-demo-delay-ms", b"900")]) {
                    Ok(answer) if answer.status == 200 => Ok(()),
                    Ok(answer) => Err(format!("{}", answer.status)),
                    Err(error) => Err(format!("{error:#}")),
                }
            })
        });
        wait_for("the probe at the upstream", BOUND, || {
            match stage.upstream.count().map_err(|error| error.to_string())? - before {
                0 => Err("not yet".to_string()),
                _ => Ok(()),
            }
        })?;
        stage.reload(&rules, &another_calendar())?;
        ensure!(stage.proxy.envoy.stat(GAUGE) == Some(2), "half-open");
        probe
            .join()
            .map_err(|_| anyhow::anyhow!("a client panicked"))??;
        anyhow::Ok(())
    })?;
    stage.wait(GAUGE, 0)?;
    ensure!(stage.upstream.count()? == before + 1, "one probe");
    Ok(())
}

/// Counts start anew with new rules, once: not again with each request that the old rules admitted.
#[test]
fn what_old_rules_admitted_does_not_wipe_what_new_rules_count() -> Result<()> {
    let stage = Stage::start(&json!({"consecutive_failures": 50, "open_for": "60s"}))?;
    let new = json!({"consecutive_failures": 4, "open_for": "60s"});
    let slow: [(&str, &[u8]); 2] = [("x-demo-delay-ms", b"2500"), ("x-demo-status", b"500")];
    stage.under_way(1, &slow, || {
        stage.reload(&new, &json!({}))?;
        stage.fail()?;
        stage.fail()?;
        stage.fail()
    })?;
    // Three failures under the new rules, one old, which may count or not, and now the fourth.
    let answer = stage.get(&[("x-demo-status", b"500")])?;
    ensure!([500, 503].contains(&answer.status), "{answer:?}");
    stage.wait(GAUGE, 1)
}
