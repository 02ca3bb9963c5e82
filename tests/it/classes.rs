//! Traffic classes on a real Envoy with two workers: who is limited, who is shed, who is not touched.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use harness::{
    clock::Clock,
    http::{Client, Response},
    ports::free_port,
};
use serde_json::{Value, json};

use crate::door1::{Door1, filter_config, seen};

/// `/upi/check` of the system is bronze, `/upi/pay` is gold.
fn start(bronze: Value, service: Value) -> Result<Door1> {
    let mut bronze = bronze;
    bronze["name"] = "bronze".into();
    bronze["match"] = json!([{"path_prefix": "/upi/check", "method": "GET", "header": {"x-initiated-by": "system"}}]);
    let classes = json!([{"name": "gold", "match": [{"path_prefix": "/upi/pay"}]}, bronze]);
    let mut service = service;
    service["name"] = "order-service".into();
    Door1::start(&filter_config(
        &service,
        &json!({"traffic_classes": classes}),
    ))
}

const SYSTEM: (&str, &[u8]) = ("x-initiated-by", b"system");

fn text(answer: &Response, header: &str) -> Option<String> {
    let value = answer.header(header)?;
    Some(String::from_utf8_lossy(value).into_owned())
}

#[test]
fn what_bronze_does_never_refuses_gold() -> Result<()> {
    let door = start(
        json!({}),
        json!({"circuit_breaker": {"consecutive_failures": 3}}),
    )?;
    let mut clients = door.client_per_worker()?;
    for turn in 0..3 {
        let failing = [SYSTEM, ("x-demo-status", b"500".as_slice())];
        let answer = clients[turn % 2].get("/upi/check?id=1", &failing)?;
        ensure!(answer.status == 500, "{}", answer.status);
    }
    for client in &mut clients {
        let bronze = client.get("/upi/check", &[SYSTEM])?;
        assert_eq!(
            text(&bronze, "x-mumbai-reason").as_deref(),
            Some("breaker_open")
        );
        let gold = client.get("/upi/pay/7", &[])?;
        assert_eq!(gold.status, 200);
        assert_eq!(seen(&gold, "x-mumbai-class")?.as_deref(), Some("gold"));
        let other = client.get("/upi/check", &[])?;
        assert_eq!(other.status, 200);
        assert_eq!(seen(&other, "x-mumbai-class")?.as_deref(), Some("silver"));
    }
    let page = door.envoy.prometheus()?;
    for line in [
        "mumbai_mesh_refusals_total{service=\"order-service\",reason=\"breaker_open\"} 2",
        "mumbai_mesh_class_requests_total{service=\"order-service\",class=\"gold\"} 2",
        "mumbai_mesh_circuit_breaker_transitions_total{service=\"order-service\",state=\"open\"} 1",
        "mumbai_mesh_circuit_breaker_state{service=\"order-service\"} 1",
    ] {
        ensure!(
            page.lines().any(|found| found == line),
            "no {line} in {page}"
        );
    }
    Ok(())
}

#[test]
fn a_limit_holds_for_all_workers_together() -> Result<()> {
    const PER_SECOND: f64 = 200.0;
    const BURST: f64 = 100.0;
    let limit = json!({"limit": {"per_second": PER_SECOND, "burst": BURST}});
    let door = start(limit, json!({}))?;
    let began = Instant::now();
    let told = |answer: &Response| {
        let refused = answer.status == 429;
        ensure!(
            !refused
                || text(answer, "x-mumbai-reason").as_deref() == Some("limit")
                    && text(answer, "retry-after").is_some()
        );
        Ok(())
    };
    let user = || {
        let until = began + Duration::from_secs(3);
        served(door.client(), "/upi/check", until, told)
    };
    let passed = together([user; 6])?.into_iter().sum::<u32>();
    let allowed = PER_SECOND * began.elapsed().as_secs_f64() + BURST;
    let share = f64::from(passed) / allowed;
    ensure!(
        (0.7..=1.01).contains(&share),
        "{passed} of {allowed} passed"
    );
    ensure!(
        door.get(&[])?.status == 200,
        "other classes are not limited"
    );
    Ok(())
}

/// How many of a client's requests pass until then, one after the other. The others are refused as too
/// many; each answer is checked.
fn served(
    mut client: Client,
    path: &str,
    until: Instant,
    check: impl Fn(&Response) -> Result<()>,
) -> Result<u32> {
    let mut passed = 0;
    while Instant::now() < until {
        let answer = client.get(path, &[SYSTEM])?;
        ensure!([200, 429].contains(&answer.status), "{}", answer.status);
        passed += u32::from(answer.status == 200);
        check(&answer)?;
    }
    Ok(passed)
}

/// What each of them counts, all at the same time.
fn together<const N: usize>(users: [impl FnOnce() -> Result<u32> + Send; N]) -> Result<Vec<u32>> {
    thread::scope(|scope| {
        let users = users.map(|user| scope.spawn(user));
        let join = |user: thread::ScopedJoinHandle<'_, Result<u32>>| {
            user.join()
                .map_err(|_| anyhow::anyhow!("a user panicked"))?
        };
        users.into_iter().map(join).collect()
    })
}

/// Requests of bronze that pass within `time`, asked for without a pause at both workers, and the time that
/// this took.
fn passing(door: &Door1, time: Duration) -> Result<(u32, f64)> {
    let clients = door.client_per_worker()?;
    let began = Instant::now();
    let users = clients.map(|client| {
        || {
            let passed = served(client, "/upi/check", began + time, |_| Ok(()))?;
            ensure!(passed > 0, "a worker let nothing pass");
            Ok(passed)
        }
    });
    let passed = together(users)?.into_iter().sum::<u32>();
    Ok((passed, began.elapsed().as_secs_f64()))
}

/// Within 5 % of what it says, over both workers: a burst of half a second's worth bridges a busy machine's
/// pauses, so that the requests asked for are never fewer than those allowed.
#[test]
fn a_limit_keeps_its_rate_in_normal_times_at_peak_and_on_a_festival() -> Result<()> {
    let limit = json!({"limit": {
        "per_second": 60, "at_peak": 100, "at_festival": 80, "burst": 50}});
    let classes = json!([{"name": "bronze", "match": [{"path_prefix": "/upi/check"}],
        "limit": limit["limit"]}]);
    let calendar = json!({
        "traffic_classes": classes,
        "peak_hours": {"evening": {"start": 17, "end": 22}},
        "festivals": [{"name": "Diwali", "date": "2026-11-08"}],
    });
    // 2026-11-24 at 12:00 and at 18:00, and Diwali at 18:00, all +05:30.
    for (at, per_second) in [
        (1_795_501_800, 60),
        (1_795_523_400, 100),
        (1_794_141_000, 80),
    ] {
        let dir = tempfile::tempdir()?;
        let clock = Clock::new(dir.path())?;
        clock.set_now(at * 1_000)?;
        let config = filter_config(&json!({"name": "order-service"}), &calendar);
        let door = Door1::start_at(&config, Some(&clock))?;
        let (passed, seconds) = passing(&door, Duration::from_secs(8))?;
        let allowed = f64::from(per_second) * seconds + 50.0;
        let share = f64::from(passed) / allowed;
        ensure!(
            (0.95..=1.01).contains(&share),
            "{passed} of {allowed} passed in {seconds} s at {per_second}/s"
        );
    }
    Ok(())
}

#[test]
fn a_shed_class_is_refused_in_its_own_words_and_sticks_to_its_users() -> Result<()> {
    // user-42 has bucket 1583 of bronze.
    let bronze = json!({
        "shed_during": {"normal": 20},
        "sticky_by": {"header": "x-user-id"},
        "refusal": {"content_type": "application/json", "body": "{\"busy\": true}\n"},
    });
    let door = start(bronze, json!({}))?;
    let mut clients = door.client_per_worker()?;
    let reached = door.stable.count()?;
    for turn in 0..20 {
        let user = ("x-user-id", b"user-42".as_slice());
        let answer = clients[turn % 2].get("/upi/check", &[SYSTEM, user])?;
        assert_eq!(answer.status, 429);
        assert_eq!(text(&answer, "x-mumbai-reason").as_deref(), Some("shed"));
        assert_eq!(
            text(&answer, "content-type").as_deref(),
            Some("application/json")
        );
        assert_eq!(answer.body, b"{\"busy\": true}\n");
        let seconds: u32 = text(&answer, "retry-after")
            .context("no retry-after")?
            .parse()?;
        assert!((5..=6).contains(&seconds), "{seconds}");
    }
    assert_eq!(
        door.stable.count()?,
        reached,
        "a shed request reached the upstream"
    );
    let mut shed = 0;
    for user in 0..1_000 {
        let user = format!("user-{user}");
        let user = ("x-user-id", user.as_bytes());
        let answer = clients[0].get("/upi/check", &[SYSTEM, user])?;
        shed += u32::from(answer.status == 429);
        ensure!(
            clients[1].get("/upi/pay", &[user])?.status == 200,
            "gold was shed"
        );
    }
    // Five standard deviations around 200.
    ensure!((137..=263).contains(&shed), "{shed} of 1000 users at 20 %");
    Ok(())
}

#[test]
fn a_grpc_client_is_refused_in_grpc() -> Result<()> {
    let door = start(json!({"shed_during": {"normal": 100}}), json!({}))?;
    let grpc = ("content-type", b"application/grpc".as_slice());
    let mut client = door.client();
    let answer = client.get("/upi/check", &[SYSTEM, grpc])?;
    assert_eq!(answer.status, 200);
    assert_eq!(text(&answer, "grpc-status").as_deref(), Some("8"));
    let message = text(&answer, "grpc-message");
    assert_eq!(message.as_deref(), Some("refused: shed"));
    assert_eq!(text(&answer, "x-mumbai-reason").as_deref(), Some("shed"));
    Ok(())
}

#[test]
fn what_is_only_observed_passes_and_is_counted() -> Result<()> {
    let bronze = json!({
        "shed_during": {"normal": 100}, "mode": "observe",
    });
    let door = start(
        bronze,
        json!({"limit": {"per_second": 0, "mode": "observe"}}),
    )?;
    let mut client = door.client();
    for _ in 0..5 {
        assert_eq!(client.get("/upi/check", &[SYSTEM])?.status, 200);
    }
    let page = door.envoy.prometheus()?;
    let line = "mumbai_mesh_observed_refusals_total{service=\"order-service\",reason=\"limit\"} 5";
    ensure!(
        page.lines().any(|found| found == line),
        "no {line} in {page}"
    );
    ensure!(!page.contains("mumbai_mesh_refusals_total"), "{page}");
    Ok(())
}

/// Two listeners of one Envoy, whose filters share their VMs and say something else of one service. Each
/// request is decided by its own listener's filter, and their limits fill and empty one bucket.
#[test]
fn filters_of_one_envoy_that_differ_take_turns_at_one_limit() -> Result<()> {
    const TIME: Duration = Duration::from_secs(3);
    let filter = |class: &str, per_second: u32| {
        let limit = json!({"per_second": per_second});
        let service = json!({"name": "order-service", "class": class, "limit": limit});
        filter_config(&service, &json!({}))
    };
    let other = filter("gold", 200).to_string();
    let port = free_port();
    let door = Door1::start_with(&filter("silver", 100), None, |bootstrap| {
        let listeners = &mut bootstrap["static_resources"]["listeners"];
        let mut second = listeners[0].clone();
        second["name"] = "second".into();
        second["address"]["socket_address"]["port_value"] = port.into();
        let manager = &mut second["filter_chains"][0]["filters"][0]["typed_config"];
        let wasm = &mut manager["http_filters"][0]["typed_config"]["config"];
        wasm["configuration"]["value"] = other.into();
        listeners.as_array_mut().expect("a list").push(second);
    })?;
    let began = Instant::now();
    let second = Client::new(([127, 0, 0, 1], port).into());
    let users = [(door.client(), "silver"), (second, "gold")].map(|(client, class)| {
        move || {
            served(client, "/orders", began + TIME, |answer| {
                let refused = answer.status == 429;
                ensure!(refused || seen(answer, "x-mumbai-class")?.as_deref() == Some(class));
                Ok(())
            })
        }
    });
    let passed = together(users)?;
    let [slow, fast] = [0, 1].map(|user| f64::from(passed[user]));
    // By what share of its own limit each was served; a tenth of a second's worth is the burst.
    let share = (slow / 100.0 + fast / 200.0) / (began.elapsed().as_secs_f64() + 0.1);
    ensure!(
        (0.7..=1.05).contains(&share),
        "{slow} and {fast} passed: {share} of what one bucket has"
    );
    Ok(())
}
