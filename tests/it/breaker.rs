//! The circuit breaker on a real Envoy with two workers, which share one breaker.

use std::{thread, time::Duration};

use anyhow::{Context, Result, ensure};
use harness::{
    http::{Client, Response, raw},
    wait::wait_for,
};
use serde_json::{Value, json};

use crate::door1::{BOUND, Door1, filter_config};

const GAUGE: &str = "wasmcustom.service.=.order-service;.mumbai_mesh_circuit_breaker_state";

fn service(rules: &Value) -> Value {
    json!({"name": "order-service", "circuit_breaker": rules})
}

fn three_in_a_row(open_for: &str) -> Value {
    let rules = json!({
        "consecutive_failures": 3, "open_for": open_for, "half_open_probes": 2,
    });
    filter_config(&service(&rules), &json!({}))
}

fn reason(answer: &Response) -> Option<String> {
    let reason = answer.header("x-mumbai-reason")?;
    Some(String::from_utf8_lossy(reason).into_owned())
}

fn fail(client: &mut Client) -> Result<()> {
    let answer = client.get("/orders", &[("x-demo-status", b"500")])?;
    ensure!(
        answer.status == 500,
        "{} {:?}",
        answer.status,
        reason(&answer)
    );
    Ok(())
}

fn open(clients: &mut [Client; 2]) -> Result<()> {
    // Failures of both workers count together.
    fail(&mut clients[0])?;
    fail(&mut clients[1])?;
    fail(&mut clients[0])
}

/// Asks until the breaker refuses no more, and fails on anything but refusals before.
fn wait_until_admitted(client: &mut Client, headers: &[(&str, &[u8])]) -> Result<Response> {
    wait_for("the breaker to admit a request", BOUND, || {
        let answer = client
            .get("/orders", headers)
            .map_err(|error| error.to_string())?;
        match reason(&answer) {
            None => Ok(answer),
            Some(reason) => Err(reason),
        }
    })
}

#[test]
fn failures_in_a_row_open_it_for_all_workers_and_no_byte_reaches_the_upstream() -> Result<()> {
    let door = Door1::start(&three_in_a_row("60s"))?;
    let mut clients = door.client_per_worker()?;
    for client in &mut clients {
        fail(client)?;
        // A success ends the row.
        ensure!(client.get("/orders", &[])?.status == 200);
    }
    open(&mut clients)?;
    let reached = door.stable.count()?;
    for client in &mut clients {
        for _ in 0..5 {
            let answer = client.get("/orders", &[])?;
            assert_eq!(answer.status, 503);
            assert_eq!(reason(&answer).as_deref(), Some("breaker_open"));
            let retry_after = answer.header("retry-after").context("no retry-after")?;
            let seconds: u32 = String::from_utf8_lossy(retry_after).parse()?;
            assert!((55..=90).contains(&seconds), "{seconds}");
        }
    }
    assert_eq!(
        door.stable.count()?,
        reached,
        "a refused request reached the upstream"
    );
    // Each worker shows gauges of its own VM in one value.
    wait_for("the gauge to say open", BOUND, || {
        match door.envoy.stat(GAUGE) {
            Some(1) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
}

#[test]
fn exactly_the_configured_probes_pass_and_their_success_closes_it() -> Result<()> {
    let door = Door1::start(&three_in_a_row("1s"))?;
    let mut clients = door.client_per_worker()?;
    open(&mut clients)?;
    let reached = door.stable.count()?;
    // Sixteen clients knock until they are admitted or told that probes are out. The two probes
    // take a while, so that all knock while the breaker is half-open.
    let slow: [(&str, &[u8]); 1] = [("x-demo-delay-ms", b"4000")];
    let answers: Vec<Result<Response>> = thread::scope(|scope| {
        let knock = || {
            let mut client = door.client();
            wait_for("an end of the opening", BOUND, || {
                let answer = client
                    .get("/orders", &slow)
                    .map_err(|error| error.to_string())?;
                match reason(&answer).as_deref() {
                    Some("breaker_open") => Err("breaker_open".to_string()),
                    _ => Ok(answer),
                }
            })
        };
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(knock)).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<Response>>| {
            thread
                .join()
                .unwrap_or_else(|_| Err(anyhow::anyhow!("a client panicked")))
        };
        threads.into_iter().map(join).collect()
    });
    let mut admitted = 0;
    for answer in answers {
        let answer = answer?;
        match reason(&answer).as_deref() {
            None => admitted += 1,
            Some(reason) => assert_eq!(reason, "breaker_half_open"),
        }
    }
    assert_eq!(admitted, 2, "probes");
    assert_eq!(
        door.stable.count()? - reached,
        2,
        "requests at the upstream"
    );
    for client in &mut clients {
        let answer = client.get("/orders", &[])?;
        assert_eq!(answer.status, 200, "{:?}", reason(&answer));
    }
    assert_eq!(door.envoy.stat(GAUGE), Some(0));
    Ok(())
}

#[test]
fn a_failed_probe_opens_it_again() -> Result<()> {
    let door = Door1::start(&three_in_a_row("1s"))?;
    let mut clients = door.client_per_worker()?;
    open(&mut clients)?;
    let failing: [(&str, &[u8]); 1] = [("x-demo-status", b"500")];
    let answer = wait_until_admitted(&mut clients[0], &failing)?;
    assert_eq!(answer.status, 500);
    for client in &mut clients {
        let answer = client.get("/orders", &[])?;
        assert_eq!(reason(&answer).as_deref(), Some("breaker_open"));
    }
    Ok(())
}

#[test]
fn results_of_requests_admitted_before_an_opening_neither_close_nor_reopen_it() -> Result<()> {
    let door = Door1::start(&three_in_a_row("60s"))?;
    let mut clients = door.client_per_worker()?;
    let reached = door.stable.count()?;
    thread::scope(|scope| {
        let slow = |status: &'static [u8]| {
            let mut client = door.client();
            scope.spawn(move || {
                let headers = [
                    ("x-demo-delay-ms", b"4000".as_slice()),
                    ("x-demo-status", status),
                ];
                client.get("/orders", &headers)
            })
        };
        let threads = [slow(b"200"), slow(b"200"), slow(b"200"), slow(b"500")];
        wait_for("four slow requests under way", BOUND, || {
            match door.stable.count().map_err(|error| error.to_string())? - reached {
                4 => Ok(()),
                other => Err(format!("{other} at the upstream")),
            }
        })?;
        open(&mut clients)?;
        for thread in threads {
            let answer = thread
                .join()
                .map_err(|_| anyhow::anyhow!("a client panicked"))??;
            ensure!(reason(&answer).is_none(), "admitted before, so served");
        }
        anyhow::Ok(())
    })?;
    for client in &mut clients {
        let answer = client.get("/orders", &[])?;
        assert_eq!(reason(&answer).as_deref(), Some("breaker_open"));
    }
    assert_eq!(door.envoy.stat(GAUGE), Some(1));
    Ok(())
}

#[test]
fn by_default_half_of_twenty_requests_open_it() -> Result<()> {
    let door = Door1::start(&filter_config(
        &json!({"name": "order-service"}),
        &json!({}),
    ))?;
    let mut client = door.client();
    for _ in 0..9 {
        ensure!(client.get("/orders", &[])?.status == 200);
    }
    // Successes are told to the shared breaker within 50 ms of each worker's tick.
    let opened = wait_for("the breaker to open", Duration::from_secs(8), || {
        let answer = client
            .get("/orders", &[("x-demo-status", b"500")])
            .map_err(|error| error.to_string())?;
        match reason(&answer) {
            Some(reason) => Ok(reason),
            None => Err(format!("{}", answer.status)),
        }
    })?;
    assert_eq!(opened, "breaker_open");
    let failures = door.stable.count()? - 9;
    assert!(
        (11..=20).contains(&failures),
        "{failures} failures to open it"
    );
    Ok(())
}

#[test]
fn a_malformed_request_counts_nowhere() -> Result<()> {
    let door = Door1::start(&three_in_a_row("60s"))?;
    ensure!(door.get(&[])?.status == 200);
    let total = || door.sum("mumbai_mesh_requests_total");
    let before = total()?;
    let codec_errors = || {
        door.envoy
            .stat("http.edge.downstream_cx_protocol_error")
            .unwrap_or(0)
    };
    for _ in 0..5 {
        let answer = raw(
            ([127, 0, 0, 1], door.port).into(),
            b"GET /orders HTTP/1.1\r\nhost: edge\r\nno colon\r\n\r\n",
        )?;
        ensure!(
            answer.starts_with(b"HTTP/1.1 400"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
    wait_for("five protocol errors in Envoy's own count", BOUND, || {
        if codec_errors() >= 5 {
            Ok(())
        } else {
            Err(codec_errors().to_string())
        }
    })?;
    assert!(
        (total()? - before).abs() < 0.5,
        "counted: {} -> {}",
        before,
        total()?
    );
    ensure!(door.get(&[])?.status == 200, "and the breaker is closed");
    let active = door
        .envoy
        .stat("wasmcustom.service.=.order-service;.mumbai_mesh_active_connections");
    assert_eq!(active, Some(0));
    Ok(())
}

#[test]
fn an_open_canary_sends_its_users_to_stable_within_the_same_request() -> Result<()> {
    let service = json!({
        "name": "order-service",
        "circuit_breaker": {"consecutive_failures": 3, "open_for": "1s"},
        "canary": {"version": "v2", "weight": 10, "sticky_by": {"header": "x-user-id"}},
    });
    let door = Door1::start(&filter_config(&service, &json!({})))?;
    let mut client = door.client();
    let user = ("x-user-id", b"user-42".as_slice());
    for _ in 0..3 {
        let answer = client.get("/orders", &[user, ("x-demo-status", b"500")])?;
        assert_eq!(answer.status, 500);
    }
    let reached = door.canary.count()?;
    for _ in 0..5 {
        let answer = client.get("/orders", &[user])?;
        assert_eq!(answer.status, 200, "{:?}", reason(&answer));
        assert_eq!(crate::door1::version(&answer)?, "v1");
        let told = crate::door1::seen(&answer, "x-mumbai-version")?;
        assert_eq!(told.as_deref(), Some("stable"));
    }
    assert_eq!(door.canary.count()?, reached);
    Ok(())
}

#[test]
fn slow_calls_open_it_and_an_upgrade_is_never_slow() -> Result<()> {
    let rules = json!({
        "slow_calls": {"over": "200ms", "percent": 50, "minimum_requests": 4},
        "open_for": "1s", "half_open_probes": 1,
    });
    let door = Door1::start(&filter_config(&service(&rules), &json!({})))?;
    let mut client = door.client();
    let slow: [(&str, &[u8]); 1] = [("x-demo-delay-ms", b"300")];
    for _ in 0..2 {
        ensure!(client.get("/orders", &[])?.status == 200);
    }
    for _ in 0..2 {
        ensure!(
            client.get("/orders", &slow)?.status == 200,
            "slow, not failed"
        );
    }
    let refused = client.get("/orders", &[])?;
    assert_eq!(reason(&refused).as_deref(), Some("breaker_open"));

    // The one probe is a WebSocket that stays open: it proves itself when it begins.
    let socket = wait_for("a WebSocket through the half-open breaker", BOUND, || {
        upgrade(door.port).map_err(|error| format!("{error:#}"))
    })?;
    for _ in 0..3 {
        let answer = client.get("/orders", &[])?;
        assert_eq!(answer.status, 200, "{:?}", reason(&answer));
    }
    drop(socket);
    assert_eq!(client.get("/orders", &[])?.status, 200);
    Ok(())
}

/// A WebSocket that is open, and has lived for longer than a slow call.
pub fn upgrade(port: u16) -> Result<std::net::TcpStream> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(BOUND))?;
    stream.write_all(
        b"GET /socket HTTP/1.1\r\nhost: edge\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
          sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        ensure!(stream.read(&mut byte)? == 1, "closed");
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    ensure!(head.starts_with("HTTP/1.1 101"), "{head}");
    stream.write_all(b"ping")?;
    let mut echo = [0; 4];
    stream.read_exact(&mut echo)?;
    ensure!(&echo == b"ping");
    Ok(stream)
}

#[test]
fn at_peak_it_has_rules_of_its_own() -> Result<()> {
    let rules = json!({
        "consecutive_failures": 50, "open_for": "5s",
        "at_peak": {"consecutive_failures": 2, "open_for": "60s"},
    });
    let always = json!({"peak_hours": {"always": {"start": 0, "end": 24}}});
    let door = Door1::start(&filter_config(&service(&rules), &always))?;
    let mut clients = door.client_per_worker()?;
    fail(&mut clients[0])?;
    fail(&mut clients[1])?;
    for client in &mut clients {
        let answer = client.get("/orders", &[])?;
        assert_eq!(reason(&answer).as_deref(), Some("breaker_open"));
        let seconds: u32 =
            String::from_utf8_lossy(answer.header("retry-after").unwrap_or(b"0")).parse()?;
        assert!((55..=90).contains(&seconds), "{seconds}");
    }
    Ok(())
}

#[test]
fn an_observing_breaker_refuses_nothing_and_counts_what_it_would_have() -> Result<()> {
    let rules = json!({"consecutive_failures": 3, "open_for": "60s", "mode": "observe"});
    let door = Door1::start(&filter_config(&service(&rules), &json!({})))?;
    let mut clients = door.client_per_worker()?;
    open(&mut clients)?;
    for client in &mut clients {
        assert_eq!(client.get("/orders", &[])?.status, 200);
    }
    assert_eq!(door.envoy.stat(GAUGE), Some(1));
    let page = door.envoy.prometheus()?;
    let line =
        "mumbai_mesh_observed_refusals_total{service=\"order-service\",reason=\"breaker_open\"} 2";
    ensure!(page.lines().any(|found| found == line), "{page}");
    Ok(())
}
