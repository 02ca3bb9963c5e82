//! Workers of one Envoy that share what they know, in a host that lets them come between each other's
//! steps: the very `.wasm`.

use std::{cell::RefCell, rc::Rc};

use anyhow::{Context, Result, ensure};
use policy::{
    canary::CanarySplit,
    names,
    units::{BasisPoints, ServiceName},
};
use serde_json::{Value, json};

use crate::wasm_host::{Answer, Header, Meanwhile, Vm, WasmHost};

const SECOND: u64 = 1_000_000_000;

/// A breaker that its first failure opens.
fn config() -> Value {
    json!({
        "version": 1,
        "timezone": {"name": "Asia/Kolkata", "posix": "IST-5:30"},
        "peak_hours": {"evening": {"start": 17, "end": 22}},
        "services": [{"name": "pay",
            "circuit_breaker": {"consecutive_failures": 1, "open_for": "60s"},
            "canary": {"version": "v2", "weight": 0}}],
    })
}

fn host() -> WasmHost {
    let host = WasmHost::default();
    host.world(|world| world.mono = SECOND);
    host
}

fn refuses(worker: &mut Vm) -> Result<bool> {
    let (context, answer) = worker.request("pay", &[])?;
    let refused = matches!(answer, Answer::Refused(_));
    let status = if refused { 503 } else { 200 };
    worker.finish(context, Some(status), 0, None)?;
    Ok(refused)
}

fn fail(worker: &mut Vm) -> Result<()> {
    let (context, answer) = worker.request("pay", &[])?;
    ensure!(matches!(answer, Answer::Forwarded(_)), "{answer:?}");
    worker.finish(context, Some(500), 0, None)
}

/// The value that a header goes on with.
fn forwarded(worker: &mut Vm, headers: &[Header], name: &str) -> Result<Option<Vec<u8>>> {
    let (context, answer) = worker.request("pay", headers)?;
    worker.finish(context, Some(200), 0, None)?;
    let Answer::Forwarded(headers) = answer else {
        anyhow::bail!("{answer:?}");
    };
    let mut named = headers.into_iter().filter(|(known, _)| known == name);
    let value = named.next().map(|(_, value)| value);
    ensure!(named.next().is_none(), "{name} goes on twice");
    Ok(value)
}

#[test]
fn a_breaker_that_one_worker_opens_is_open_for_all_at_once() -> Result<()> {
    let host = host();
    let text = config().to_string();
    let (mut one, mut two) = (Vm::new(&host, &text)?, Vm::new(&host, &text)?);
    // Both know it as closed.
    ensure!(!refuses(&mut one)? && !refuses(&mut two)?);
    fail(&mut one)?;
    ensure!(refuses(&mut two)? && refuses(&mut one)?);
    Ok(())
}

/// The old configuration's last requests and the new one's first share the breaker, too.
#[test]
fn a_breaker_that_a_new_configuration_opens_is_open_in_the_old_one() -> Result<()> {
    let host = host();
    let mut old = Vm::new(&host, &config().to_string())?;
    ensure!(!refuses(&mut old)?);
    let mut another = config();
    another["festivals"] = json!(["2050-01-01"]);
    let mut new = Vm::new(&host, &another.to_string())?;
    fail(&mut new)?;
    ensure!(refuses(&mut old)? && refuses(&mut new)?);
    Ok(())
}

/// A canary that fails one class is trusted by none, in no worker, and neither by a class that comes
/// with the next configuration; until its fields change.
#[test]
fn a_canary_that_latches_for_one_class_latches_for_all() -> Result<()> {
    let host = host();
    let with = |classes: &[&str], weight: u32| {
        let class = |name: &&str| json!({"name": name, "match": [{"header": {"x-kind": name}}]});
        let mut config = config();
        config["traffic_classes"] = classes.iter().map(class).collect();
        config["services"][0]["canary"] = json!({"version": "v2", "weight": weight,
            "sticky_by": {"header": "x-user-id"}});
        config.to_string()
    };
    let two_classes = with(&["bronze", "gold"], 50);
    let (mut one, mut two) = (Vm::new(&host, &two_classes)?, Vm::new(&host, &two_classes)?);
    let mut users = (0..1_000).map(|number| format!("user-{number}"));
    let service = ServiceName::new("pay")?;
    let share = BasisPoints::from_percent(49.0)?;
    let is_canarys =
        |user: &String| CanarySplit::draw(share, &service, Some(user.as_bytes()), || 9_999).canary;
    let user = users.find(is_canarys).context("no user of the canary")?;
    let sent = |kind: &str| {
        let header = |name: &str, value: &str| (name.to_string(), value.as_bytes().to_vec());
        [header("x-user-id", &user), header("x-kind", kind)]
    };
    let version = |worker: &mut Vm, kind: &str| -> Result<String> {
        let version = forwarded(worker, &sent(kind), names::HEADER_VERSION)?;
        Ok(String::from_utf8(version.context("no version")?)?)
    };
    for kind in ["bronze", "gold", "own"] {
        ensure!(version(&mut one, kind)? == "v2" && version(&mut two, kind)? == "v2");
    }
    let (context, _) = one.request("pay", &sent("bronze"))?;
    one.finish(context, Some(500), 0, None)?;
    for kind in ["bronze", "gold", "own"] {
        ensure!(version(&mut one, kind)? == "stable", "{kind}");
        ensure!(version(&mut two, kind)? == "stable", "{kind}");
    }
    let mut another = Vm::new(&host, &with(&["new", "bronze", "gold"], 50))?;
    ensure!(version(&mut another, "new")? == "stable");
    let mut changed = Vm::new(&host, &with(&["new", "bronze", "gold"], 49))?;
    for kind in ["new", "bronze", "gold", "own"] {
        ensure!(version(&mut changed, kind)? == "v2", "{kind}");
    }
    Ok(())
}

#[test]
fn no_moment_of_a_write_hides_it_from_another_worker() -> Result<()> {
    for (before, after) in [(true, false), (false, true), (true, true)] {
        let host = host();
        let text = config().to_string();
        let mut writer = Vm::new(&host, &text)?;
        let reader = Rc::new(RefCell::new(Vm::new(&host, &text)?));
        ensure!(!refuses(&mut reader.borrow_mut())?);
        let answers = Rc::new(RefCell::new(Vec::new()));
        let ask = || -> Meanwhile {
            let (reader, answers) = (Rc::clone(&reader), Rc::clone(&answers));
            Box::new(move || {
                let refused = refuses(&mut reader.borrow_mut());
                answers.borrow_mut().push(refused);
            })
        };
        let (context, _) = writer.request("pay", &[])?;
        host.world(|world| {
            world.before_write = before.then(ask);
            world.after_write = after.then(ask);
        });
        writer.finish(context, Some(500), 0, None)?;
        let answers: Result<Vec<bool>> = answers.take().into_iter().collect();
        let expected = [before.then_some(false), after.then_some(true)];
        let expected: Vec<bool> = expected.into_iter().flatten().collect();
        ensure!(answers? == expected, "before {before}, after {after}");
        // What it read in between is not kept.
        ensure!(refuses(&mut reader.borrow_mut())?);
    }
    Ok(())
}

/// As Istio's bootstraps do, unless they are told otherwise.
#[test]
fn a_breaker_is_shared_where_envoys_bootstrap_keeps_our_statistics_out() -> Result<()> {
    let host = host();
    host.world(|world| world.metrics_kept_out = true);
    let text = config().to_string();
    let (mut one, mut two) = (Vm::new(&host, &text)?, Vm::new(&host, &text)?);
    ensure!(!refuses(&mut one)? && !refuses(&mut two)?);
    fail(&mut one)?;
    ensure!(refuses(&mut two)? && refuses(&mut one)?);
    Ok(())
}

#[test]
fn a_clients_copies_of_our_headers_go_also_when_not_all_headers_can_be_read() -> Result<()> {
    let forged = |name: &str| (name.to_string(), b"forged".to_vec());
    let sent = [
        forged("x-user-id"),
        forged(names::HEADER_WINDOW),
        forged(names::HEADER_WINDOW),
        forged(names::HEADER_CANARY),
        forged(names::HEADER_CLASS),
    ];
    // As it should be; the call fails; its answer breaks off in a text, among the sizes, in the count.
    for (failing, cut) in [
        (None, 0),
        (Some(10), 0),
        (None, 1),
        (None, 130),
        (None, 150),
    ] {
        let host = host();
        let mut worker = Vm::new(&host, &config().to_string())?;
        host.world(|world| {
            let failing = failing.map(|status| ("get_headers", status));
            world.failing_calls = failing.into_iter().collect();
            world.headers_cut = cut;
        });
        let mut goes_on = |name| forwarded(&mut worker, &sent, name);
        let case = format!("{failing:?}, {cut} bytes cut");
        ensure!(goes_on(names::HEADER_WINDOW)?.is_none(), "{case}");
        ensure!(goes_on(names::HEADER_CANARY)?.is_none(), "{case}");
        ensure!(goes_on(names::HEADER_CLASS)?.is_some_and(|class| class == b"silver"));
        ensure!(goes_on("x-user-id")?.is_some_and(|user| user == b"forged"));
    }
    Ok(())
}

#[test]
fn a_window_begins_at_its_nanosecond_and_a_step_of_the_clock_at_the_next_tick() -> Result<()> {
    // 2026-11-24T17:00:00+05:30.
    const EDGE: u64 = 1_795_519_800 * SECOND;
    let host = host();
    let set = |wall: u64, mono: u64| {
        host.world(|world| (world.wall, world.mono) = (wall, mono));
    };
    set(EDGE - 30_000_001, SECOND);
    let mut worker = Vm::new(&host, &config().to_string())?;
    let state = |worker: &mut Vm| -> Result<String> {
        let state = forwarded(worker, &[], names::HEADER_TRAFFIC_STATE)?;
        Ok(String::from_utf8(state.context("no state")?)?)
    };
    set(EDGE - 1, SECOND + 30_000_000);
    ensure!(state(&mut worker)? == "normal");
    set(EDGE, SECOND + 30_000_001);
    ensure!(state(&mut worker)? == "peak_hour");
    // An hour back.
    set(EDGE - 3_600 * SECOND, SECOND + 40_000_000);
    worker.tick()?;
    ensure!(state(&mut worker)? == "normal");
    Ok(())
}

#[test]
fn a_configuration_that_goes_leaves_nothing_uncounted() -> Result<()> {
    let host = host();
    let mut worker = Vm::new(&host, &config().to_string())?;
    let (one, _) = worker.request("pay", &[])?;
    let (two, _) = worker.request("pay", &[])?;
    worker.finish(one, Some(200), 0, None)?;
    worker.tick()?;
    let sums = || {
        host.world(|world| {
            let names = [
                "mumbai_mesh_requests_total",
                "mumbai_mesh_active_connections",
            ];
            names.map(|name| world.sum(name))
        })
    };
    ensure!(sums() == [1, 1], "{:?}", sums());
    worker.finish(two, Some(200), 0, None)?;
    worker.retire()?;
    ensure!(sums() == [2, 0], "{:?}", sums());
    Ok(())
}

#[test]
fn requests_by_the_hundred_under_way_at_once_are_each_accounted_for_themselves() -> Result<()> {
    const AT_ONCE: u16 = 300;
    let host = host();
    let mut worker = Vm::new(&host, &config().to_string())?;
    let shown = |name: &str| {
        let name = format!("service.=.pay;.{name}");
        host.world(|world| world.metrics.get(&name).copied())
    };
    // One lasts while hundreds of others come and go.
    let (lasting, _) = worker.request("pay", &[])?;
    for round in 1..=2 {
        let mut under_way = Vec::new();
        for number in 0..AT_ONCE {
            let (context, answer) = worker.request("pay", &[])?;
            ensure!(matches!(answer, Answer::Forwarded(_)), "{answer:?}");
            under_way.push((context, 200 + number));
        }
        worker.tick()?;
        let active = shown("mumbai_mesh_active_connections");
        ensure!(active == Some(i64::from(AT_ONCE) + 1), "{active:?} active");
        // They end in another order than they began in.
        let (odd, even): (Vec<_>, Vec<_>) = under_way.into_iter().partition(|one| one.1 % 2 == 1);
        for (context, status) in odd.into_iter().rev().chain(even) {
            worker.finish(context, Some(status), 0, None)?;
        }
        worker.tick()?;
        for status in 200..200 + AT_ONCE {
            let count = shown(&format!("status.=.{status};.mumbai_mesh_requests_total"));
            ensure!(count == Some(round), "{count:?} with {status}");
        }
    }
    worker.finish(lasting, Some(200), 0, None)?;
    let counted = shown("status.=.200;.mumbai_mesh_requests_total");
    ensure!(counted == Some(3), "{counted:?} with 200");
    let active = shown("mumbai_mesh_active_connections");
    ensure!(active == Some(0), "{active:?} active");
    Ok(())
}

/// A new VM knows nothing of the old one, and Envoy keeps every gauge for good.
#[test]
fn gauges_of_what_a_configuration_drops_return_to_zero() -> Result<()> {
    let host = host();
    let mut old = config();
    old["zone"] = "mumbai-west".into();
    old["peak_hours"] = json!({
        "west": {"start": 0, "end": 24, "multiplier": 2, "zone": "mumbai-west"}});
    old["services"][0]["canary"]["weight"] = 0.into();
    let mut worker = Vm::new(&host, &old.to_string())?;
    fail(&mut worker)?;
    let (late, _) = worker.request("other", &[])?;
    let gauges = || {
        host.world(|world| {
            let gauge = |name: &str, value: &i64| {
                ["breaker_state", "multiplier_percent"]
                    .iter()
                    .any(|end| name.ends_with(end))
                    && *value != 0
            };
            let shown = world
                .metrics
                .iter()
                .filter(|(name, value)| gauge(name, value));
            shown
                .map(|(name, value)| (name.clone(), *value))
                .collect::<Vec<_>>()
        })
    };
    let zone = |zone: &str, percent: i64| {
        let name = format!("zone.=.{zone};.mumbai_peak_hour_multiplier_percent");
        (name, percent)
    };
    let open = "service.=.pay;.mumbai_mesh_circuit_breaker_state".to_string();
    ensure!(
        gauges() == [(open, 1), zone("mumbai-west", 200)],
        "{:?}",
        gauges()
    );

    // The node's own zone has its series, also where no window names it.
    let new = json!({"version": 1, "zone": "mumbai-navi", "services": [{"name": "upi"}]});
    let _new = Vm::new(&host, &new.to_string())?;
    let expected = [zone("all", 100), zone("mumbai-navi", 100)];
    ensure!(gauges() == expected, "{:?}", gauges());
    // What still ends in the old one brings nothing back.
    worker.finish(late, Some(200), 0, None)?;
    host.world(|world| {
        world.mono += 70 * SECOND;
        world.wall += 70 * SECOND;
    });
    ensure!(
        !refuses(&mut worker)?,
        "a probe passes in the old configuration"
    );
    worker.tick()?;
    ensure!(gauges() == expected, "{:?}", gauges());
    Ok(())
}

#[test]
fn what_succeeded_in_a_configuration_that_goes_speaks_for_the_service() -> Result<()> {
    let host = host();
    let mut config = config();
    config["services"][0]["circuit_breaker"] = json!({
        "error_rate": {"percent": 50, "minimum_requests": 4, "window": "10s"}, "open_for": "60s"});
    let mut old = Vm::new(&host, &config.to_string())?;
    for _ in 0..3 {
        ensure!(!refuses(&mut old)?);
    }
    old.retire()?;
    let mut new = Vm::new(&host, &config.to_string())?;
    // One of four, two of five, three of six.
    for _ in 0..3 {
        fail(&mut new)?;
    }
    ensure!(refuses(&mut new)?);
    Ok(())
}
