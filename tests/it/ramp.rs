//! Canaries that grow by the clock, on two real Envoys whose clock is moved: every step comes at its
//! second in both, with nothing pushed and no server there.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::Artifacts,
    clock::Clock,
    demo_services::DemoService,
    envoy::Envoy,
    http::Client,
    load::Load,
    ports::free_port,
    server::{self, Server},
    wait::wait_for,
};
use policy::canary::bucket;
use serde_json::Value;

use crate::{
    door1::{BOUND, seen, version},
    mesh::{Variant, all_acknowledged, start_envoy},
    reload::RELOADS,
};

/// How far before and after a step users are watched.
const AROUND_MILLIS: i64 = 400;
const GATEWAYS: [&str; 2] = ["edge-1", "edge-2"];

/// Two gateways in front of a service with a canary.
struct Stage {
    envoys: Vec<Envoy>,
    server: Server,
    ports: [u16; 2],
    applications: [DemoService; 2],
    clock: Clock,
    // Dropped last: the processes above write into it.
    _dir: tempfile::TempDir,
}

impl Stage {
    /// With the clock at `now`.
    fn start(canary: &str, now: &str) -> Result<Self> {
        let artifacts = Artifacts::from_env()?;
        let dir = tempfile::tempdir()?;
        let clock = Clock::new(dir.path())?;
        clock.set_now(millis(now)?)?;
        let stable = DemoService::start(&artifacts, dir.path(), "order-service", "v1")?;
        let other = DemoService::start(&artifacts, dir.path(), "order-service", "v2")?;
        let applications = [stable, other];
        let ports = [free_port(), free_port()];
        let options = server::Options {
            clock: Some(&clock),
            ..server::Options::default()
        };
        let text = mesh(canary, ports, &applications);
        let server = Server::start(&artifacts, dir.path(), &text, &options)?;
        let mut envoys = Vec::new();
        for name in GATEWAYS {
            let clock = Some(&clock);
            let variant = Variant::Delta;
            envoys.push(start_envoy(
                &artifacts,
                dir.path(),
                &server,
                name,
                variant,
                &[],
                clock,
            )?);
        }
        let stage = Self {
            envoys,
            server,
            ports,
            applications,
            clock,
            _dir: dir,
        };
        for mut client in stage.clients() {
            wait_for("the gateway to serve", BOUND, || {
                match client.get("/orders", &[]) {
                    Ok(answer) if answer.status == 200 => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })?;
        }
        Ok(stage)
    }

    /// A connection to each gateway.
    fn clients(&self) -> Vec<Client> {
        let addresses = self.ports.map(|port| ([127, 0, 0, 1], port).into());
        addresses.into_iter().map(Client::new).collect()
    }

    /// How often each filter was given a configuration.
    fn reloads(&self) -> Vec<Option<i64>> {
        self.envoys
            .iter()
            .map(|envoy| envoy.stat(RELOADS))
            .collect()
    }

    /// Changes the canary, and waits until both gateways have taken it.
    fn change(&self, canary: &str) -> Result<()> {
        let before = self.reloads();
        let text = mesh(canary, self.ports, &self.applications);
        self.server.write_mesh(&text)?;
        wait_for("both gateways to take the change", BOUND, || {
            let proxies = self.server.api_get("/api/v1/proxies");
            let proxies = proxies.map_err(|error| error.to_string())?;
            let now = self.reloads();
            let all = now.iter().zip(&before).all(|(now, before)| now > before);
            match all && all_acknowledged(&proxies) {
                true => Ok(()),
                false => Err(format!("{before:?} {now:?} {proxies}")),
            }
        })
    }

    /// What `mumbai-mesh calendar next` says of the canary, in its order: time, kind and weight.
    fn foretold(&self, at: &str) -> Result<Vec<(String, String, f64)>> {
        let output = Command::new(Artifacts::from_env()?.server)
            .args([
                "calendar", "next", "--count", "100", "-o", "json", "--at", at,
            ])
            .args(["--server", &format!("http://{}", self.server.api)])
            .output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{errors}");
        let answer: Value = serde_json::from_slice(&output.stdout)?;
        let changes = answer["changes"].as_array().context("changes")?.iter();
        let of_canary = changes.filter(|change| change["service"] == "order-service");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        Ok(of_canary
            .map(|change| {
                let weight = change["weight"].as_f64().unwrap_or_default();
                (text(&change["at"]), text(&change["kind"]), weight)
            })
            .collect())
    }

    /// Moves the clock, and waits until `user` is served by `expected` through every gateway.
    fn move_clock(
        &self,
        clients: &mut [Client],
        to: i64,
        user: &str,
        expected: &str,
        until: Option<i64>,
    ) -> Result<()> {
        self.clock.set_now(to)?;
        for client in clients {
            wait_for("the worker to see that the clock was moved", BOUND, || {
                let served = served(client, user).map_err(|error| format!("{error:#}"))?;
                let now = self.clock.now_millis().map_err(|error| error.to_string())?;
                let late = until.is_some_and(|until| now >= until);
                match late || served == expected {
                    true => Ok(()),
                    false => Err(served),
                }
            })?;
        }
        Ok(())
    }

    /// Watches `user` go from stable to v2 at `at`, through both gateways; again when the machine was too
    /// busy for answers on both sides of it. What is answered is judged at every try.
    fn watch_step(&self, clients: &mut [Client], at: &str, user: &str) -> Result<()> {
        const TRIES: u32 = 10;
        let at = millis(at)?;
        let mut judged = Vec::new();
        for _ in 0..TRIES {
            // From behind it to before it: both times something is to be seen.
            self.move_clock(clients, at + 1_000, user, "v2", None)?;
            self.move_clock(clients, at - AROUND_MILLIS, user, "v1", Some(at))?;
            judged = vec![(0, 0); clients.len()];
            while self.clock.now_millis()? < at + AROUND_MILLIS {
                for (client, judged) in clients.iter_mut().zip(&mut judged) {
                    let began = self.clock.now_millis()?;
                    let served = served(client, user)?;
                    let ended = self.clock.now_millis()?;
                    let expected = if ended < at {
                        judged.0 += 1;
                        "v1"
                    } else if began >= at {
                        judged.1 += 1;
                        "v2"
                    } else {
                        // It straddles the step and proves nothing.
                        continue;
                    };
                    let from = began - at;
                    ensure!(
                        served == expected,
                        "{user}: {served} instead of {expected}, {from} ms from the step"
                    );
                }
            }
            if judged
                .iter()
                .all(|(before, after)| *before > 0 && *after > 0)
            {
                return Ok(());
            }
        }
        anyhow::bail!("too few answers to judge by: {judged:?}")
    }
}

fn mesh(canary: &str, ports: [u16; 2], applications: &[DemoService; 2]) -> String {
    let [stable, other] = applications
        .each_ref()
        .map(|application| application.addr.port());
    let [first, second] = ports;
    format!(
        "\
peak_hours: {{noon: {{start: 10, end: 13}}}}
services:
  order-service:
    sidecar: false
    endpoints:
      - {{id: order-1, host: 127.0.0.1, port: {stable}, version: v1}}
      - {{id: order-2, host: 127.0.0.1, port: {other}, version: v2}}
    canary: {{version: v2, sticky_by: {{header: x-user-id}}, {canary}}}
gateways:
  edge-1: {{listen: \"127.0.0.1:{first}\", routes: [{{match: {{path_prefix: /orders}}, service: order-service}}]}}
  edge-2: {{listen: \"127.0.0.1:{second}\", routes: [{{match: {{path_prefix: /orders}}, service: order-service}}]}}
"
    )
}

fn millis(rfc3339: &str) -> Result<i64> {
    let instant: jiff::Timestamp = rfc3339.parse()?;
    Ok(instant.as_millisecond())
}

/// The version that serves a user.
fn served(client: &mut Client, user: &str) -> Result<String> {
    let answer = client.get("/orders", &[("x-user-id", user.as_bytes())])?;
    ensure!(answer.status == 200, "{}", answer.status);
    version(&answer)
}

/// The window tells that a worker has seen the clock move.
fn wait_for_peak(client: &mut Client) -> Result<()> {
    wait_for("the peak", BOUND, || {
        let answer = client.get("/orders", &[]);
        let answer = answer.map_err(|error| format!("{error:#}"))?;
        match seen(&answer, "x-mumbai-traffic-state") {
            Ok(Some(state)) if state == "peak_hour" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
}

/// A user who is served by v2 from `weight` percent on, and not yet with `before`.
fn user_between(before: u16, weight: u16) -> Result<String> {
    let buckets = before * 100..weight * 100;
    let mut users = (1..100_000).map(|number| format!("user-{number}"));
    users
        .find(|user| buckets.contains(&bucket("canary", "order-service", user.as_bytes())))
        .context("no such user")
}

#[test]
fn every_step_comes_at_its_second_in_two_envoys_with_no_push_and_no_server() -> Result<()> {
    let day = "2026-11-24T";
    let mut stage = Stage::start(
        "ramp: {start: 2026-11-24T09:00+05:30, steps: [5, 10, 25, 50], every: 30m}",
        "2026-11-24T08:00:00+05:30",
    )?;
    let steps = [
        ("09:00", 0, 5),
        ("09:30", 5, 10),
        ("10:00", 10, 25),
        ("10:30", 25, 50),
    ];
    let foretold = stage.foretold("2026-11-24T08:00+05:30")?;
    let expected: Vec<_> = steps
        .iter()
        .map(|(time, _, weight)| {
            let at = format!("{day}{time}:00+05:30");
            (at, "ramp_step".to_string(), f64::from(*weight))
        })
        .collect();
    ensure!(foretold == expected, "{foretold:?}");
    let before = stage.reloads();
    stage.server.process().kill()?;
    let mut clients = stage.clients();
    for (time, before, weight) in steps {
        let user = user_between(before, weight)?;
        let at = format!("{day}{time}:00+05:30");
        stage
            .watch_step(&mut clients, &at, &user)
            .with_context(|| format!("step to {weight} % at {at}"))?;
    }
    ensure!(stage.reloads() == before, "a push came");
    Ok(())
}

#[test]
fn a_ramp_stands_still_through_the_peak_and_goes_on_at_its_end() -> Result<()> {
    let mut stage = Stage::start(
        "freeze_during: [peak], ramp: {start: 2026-11-24T09:00+05:30, steps: [10, 25, 50], every: 1h}",
        "2026-11-24T09:30:00+05:30",
    )?;
    let foretold = stage.foretold("2026-11-24T09:30+05:30")?;
    let told: Vec<(&str, &str, f64)> = foretold
        .iter()
        .map(|(at, kind, weight)| (at.as_str(), kind.as_str(), *weight))
        .collect();
    ensure!(
        told == [
            ("2026-11-24T10:00:00+05:30", "freeze_begins", 10.0),
            ("2026-11-24T13:00:00+05:30", "freeze_ends", 25.0),
            ("2026-11-24T13:00:00+05:30", "ramp_step", 25.0),
            ("2026-11-24T14:00:00+05:30", "ramp_step", 50.0),
        ],
        "{told:?}"
    );
    stage.server.process().kill()?;
    let mut clients = stage.clients();
    let (first, second) = (user_between(0, 10)?, user_between(10, 25)?);
    // An hour after the first step is the peak's first second, and all through it nobody moves.
    for time in ["10:00:01", "11:30:00", "12:59:00"] {
        stage
            .clock
            .set_now(millis(&format!("2026-11-24T{time}+05:30"))?)?;
        for client in &mut clients {
            wait_for_peak(client)?;
            ensure!(served(client, &first)? == "v2", "{time}: left the canary");
            ensure!(served(client, &second)? == "v1", "{time}: the ramp went on");
        }
    }
    stage.watch_step(&mut clients, "2026-11-24T13:00:00+05:30", &second)?;
    let third = user_between(25, 50)?;
    stage.watch_step(&mut clients, "2026-11-24T14:00:00+05:30", &third)
}

#[test]
fn a_ramp_is_aborted_by_an_edit_and_no_request_fails() -> Result<()> {
    let stage = Stage::start(
        "ramp: {start: 2026-11-24T09:00+05:30, steps: [50, 100], every: 30m}",
        "2026-11-24T09:10:00+05:30",
    )?;
    let user = user_between(25, 50)?;
    let mut clients = stage.clients();
    for client in &mut clients {
        ensure!(served(client, &user)? == "v2");
    }
    let loads = stage
        .ports
        .map(|port| Load::start(([127, 0, 0, 1], port).into(), 2, "/orders"));
    stage.change("weight: 0")?;
    for client in &mut clients {
        wait_for(
            "stable to serve the canary's users",
            BOUND,
            || match served(client, &user) {
                Ok(version) if version == "v1" => Ok(()),
                other => Err(format!("{other:?}")),
            },
        )?;
    }
    for load in loads {
        let report = load.stop();
        ensure!(report.failures.is_empty() && report.sent > 0, "{report:#?}");
    }
    ensure!(stage.foretold("2026-11-24T09:10+05:30")?.is_empty());
    // Its next step would have sent everybody to v2. The window shows that the clock is seen.
    stage.clock.set_now(millis("2026-11-24T10:05:00+05:30")?)?;
    for client in &mut clients {
        wait_for_peak(client)?;
        ensure!(served(client, &user)? == "v1", "the ramp went on");
    }
    Ok(())
}
