//! The very `.wasm` artifact against the code that it was built from, in a host whose every answer is
//! the test's.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use anyhow::{Result, ensure};
use harness::artifacts::bench_policy;
use policy::{
    breaker::{Admission, BreakerRules, Cell, Completion},
    decision::{CellId, Environment, Headers, LimitId, RequestView, Rules, Verdict, decide},
    limit::{Rate, TokenBucket},
    names,
    outcome::{Outcome, ResponseFacts},
    time::{MonoTime, WallTime},
    wire::FilterConfig,
};
use serde_json::{Value, json};

use crate::wasm_host::{Answer, Dice, Header, Vm, WasmHost};

/// 2026-11-24T16:59:30+05:30: half a minute before the evening's window.
const START_SECONDS: u64 = 1_795_519_770;
const SERVICES: [&str; 3] = ["order-service", "upi", "unknown"];

fn config() -> Value {
    json!({
        "version": 1,
        "timezone": {"name": "Asia/Kolkata", "posix": "IST-5:30"},
        "peak_hours": {"evening": {"start": 17, "end": 22, "multiplier": 1.5}},
        "festivals": [{"name": "दिवाली", "date": "2026-11-08", "factor": 2}],
        "traffic_classes": [
            {"name": "gold", "match": [{"path_prefix": "/pay"}]},
            {"name": "bronze", "match": [{"path_prefix": "/check"}, {"header": {"x-by": "system"}}],
             "limit": {"per_second": 200, "at_peak": 50, "burst": 5},
             "shed_during": {"evening": 30}, "sticky_by": {"header": "x-user-id"}},
        ],
        "services": [
            {"name": "order-service", "class": "silver",
             "circuit_breaker": {"consecutive_failures": 3, "open_for": "200ms", "half_open_probes": 2,
                                 "at_peak": {"consecutive_failures": 2}},
             "canary": {"version": "v2", "weight": 30, "sticky_by": {"header": "x-user-id"},
                        "fallback": "probe"}},
            {"name": "upi",
             "circuit_breaker": {
                 "error_rate": {"percent": 40, "minimum_requests": 10, "window": "1s"},
                 "slow_calls": {"over": "50ms", "percent": 50, "minimum_requests": 10, "window": "1s"},
                 "open_for": "100ms"},
             "limit": {"per_second": 2000}},
        ],
        "trust_canary_header": true,
    })
}

/// The same decisions by native code: the model that the artifact must follow.
struct Native {
    rules: Rules,
    cells: BTreeMap<CellId, Cell>,
    buckets: BTreeMap<LimitId, TokenBucket>,
    dice: Dice,
    now: MonoTime,
    /// The worker that acts.
    vm: usize,
    /// By worker: whether it last saw no row of failures, so that a success may wait.
    no_row: BTreeMap<(usize, CellId), bool>,
}

impl Environment for Native {
    fn random(&mut self) -> u64 {
        self.dice.next()
    }

    fn admit(&mut self, id: CellId, rules: &BreakerRules) -> Admission {
        let cell = self.cells.entry(id).or_insert_with(|| Cell::closed(rules));
        *cell = Cell::decode(&cell.encode(), rules);
        let admission = cell.admit(rules, self.now).value;
        self.no_row.insert((self.vm, id), cell.success_may_wait());
        admission
    }

    fn take(&mut self, limit: LimitId, rate: Rate) -> Result<(), Duration> {
        self.buckets.entry(limit).or_default().take(rate, self.now)
    }

    fn give_back(&mut self, limit: LimitId, rate: Rate) {
        self.buckets.entry(limit).or_default().give_back(rate);
    }
}

struct HeaderMap<'h>(&'h [Header]);

impl Headers for HeaderMap<'_> {
    fn get(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let headers = self.0.iter().filter(|(known, _)| known == name);
        let values: Vec<&[u8]> = headers.map(|(_, value)| value.as_slice()).collect();
        (!values.is_empty()).then(|| Cow::Owned(values.join(&b',')))
    }
}

/// What native code expects of one request, and how to settle it.
struct Expected {
    answer: Answer,
    admitted: Option<(CellId, policy::breaker::Ticket, MonoTime)>,
}

impl Native {
    fn expect(&mut self, service: &str, headers: &[Header], wall: WallTime) -> Expected {
        let rules = self.rules.clone();
        let traffic = rules.traffic_at(wall);
        let service = rules.resolve_service(Some(service.as_bytes()), None, None);
        let map = HeaderMap(headers);
        let request = RequestView {
            service,
            headers: &map,
        };
        let decision = decide(&rules, &traffic, &request, self);
        match &decision.verdict {
            Verdict::Refuse {
                status,
                reason,
                retry_after_seconds,
                ..
            } => Expected {
                answer: refused(*status, *reason, *retry_after_seconds, headers),
                admitted: None,
            },
            Verdict::Proceed { cell, ticket } => {
                let mut forwarded: Vec<Header> = headers.to_vec();
                forwarded.retain(|(name, _)| {
                    !names::REQUEST_HEADERS.contains(&name.as_str()) && name != names::HEADER_CANARY
                });
                let ours = decision.request_headers(&traffic);
                forwarded.extend(ours.map(|(name, value)| (name.to_string(), value.into())));
                let admitted = (*cell).zip(*ticket);
                Expected {
                    answer: Answer::Forwarded(sorted(forwarded)),
                    admitted: admitted.map(|(cell, ticket)| (cell, ticket, self.now)),
                }
            }
        }
    }

    fn settle(&mut self, expected: &Expected, facts: &ResponseFacts, wall: WallTime) {
        let Some((id, ticket, since)) = expected.admitted else {
            return;
        };
        let traffic = self.rules.traffic_at(wall);
        let Some(rules) = self
            .rules
            .cell(id)
            .map(|cell| cell.rules.at(&traffic).clone())
        else {
            return;
        };
        let time = self.now.saturating_since(since);
        let result = Completion::new(facts.judge(), Some(time), &rules);
        if let Some(cell) = self.cells.get_mut(&id) {
            *cell = Cell::decode(&cell.encode(), &rules);
            let seen = self.no_row.entry((self.vm, id)).or_default();
            let may_wait = rules.consecutive_failures.is_none() || *seen;
            let success = result.outcome == Outcome::Success && !result.slow;
            if success && may_wait && !ticket.is_probe() {
                // The worker's tick comes at once here.
                cell.record_successes(&rules, ticket.generation(), 1, self.now);
            } else {
                cell.record(&rules, ticket, result, self.now);
            }
            *seen = cell.success_may_wait();
        }
    }
}

fn refused(
    status: u16,
    reason: policy::decision::Reason,
    retry_after: u32,
    request: &[Header],
) -> Answer {
    // A gRPC client reads it in a header, without the line's end.
    let grpc = request
        .iter()
        .any(|(name, value)| name == "content-type" && value.starts_with(b"application/grpc"));
    let end = if grpc { "" } else { "\n" };
    let header = |name: &str, value: &str| (name.to_string(), value.to_string());
    Answer::Refused(crate::wasm_host::Local {
        status: i32::from(status),
        grpc_status: i32::from(reason.grpc_status()),
        headers: vec![
            header(names::HEADER_REASON, reason.as_str()),
            header(names::HEADER_RETRY_AFTER, &retry_after.to_string()),
            header("content-type", "text/plain"),
        ],
        body: format!("refused: {}{end}", reason.as_str()).into_bytes(),
    })
}

fn sorted(mut headers: Vec<Header>) -> Vec<Header> {
    headers.sort();
    headers
}

fn random_headers(dice: &mut Dice) -> Vec<Header> {
    let header = |name: &str, value: &[u8]| (name.to_string(), value.to_vec());
    let paths: [&[u8]; 6] = [
        b"/pay/1",
        b"/check",
        b"/check/x?y",
        b"/",
        b"*",
        b"/\xff\xfe",
    ];
    let mut headers = vec![
        header(":path", dice.one::<&[u8]>(&paths)),
        header(":method", b"GET"),
    ];
    let users: [&[u8]; 6] = [b"user-1", b"user-42", b"", b"\xff", b"user-7", b"a,b"];
    if dice.below(4) > 0 {
        headers.push(header("x-user-id", dice.one::<&[u8]>(&users)));
    }
    let rare: [(&str, &[u8]); 7] = [
        ("x-by", b"system"),
        ("x-mumbai-canary", b"v2"),
        ("x-mumbai-canary", b"stable"),
        ("x-mumbai-version", b"v2"),
        ("x-mumbai-class", b"gold"),
        ("x-mumbai-window", b"\x80\x80"),
        ("content-type", b"application/grpc"),
    ];
    for _ in 0..dice.below(3) {
        let (name, value) = dice.one(&rare);
        headers.push(header(name, value));
    }
    headers
}

fn random_end(dice: &mut Dice) -> ResponseFacts {
    let flags = [0, 0, 0, 0x4, 0x4000, 0x80_0000, 0x8040];
    ResponseFacts {
        status: *dice.one(&[
            Some(200),
            Some(200),
            Some(200),
            Some(404),
            Some(500),
            Some(503),
            None,
        ]),
        grpc_status: None,
        flags: *dice.one(&flags),
    }
}

/// A request under way in one of the VMs.
struct UnderWay {
    vm: usize,
    context: i32,
    expected: Expected,
}

#[test]
fn a_hundred_thousand_requests_are_decided_as_native_code_decides() -> Result<()> {
    const EVENTS: u32 = 200_000;
    let host = WasmHost::default();
    let text = config().to_string();
    let mut mono: u64 = 1_000_000_000;
    host.world(|world| {
        world.wall = START_SECONDS * 1_000_000_000;
        world.mono = mono;
    });
    let mut vms = [
        Vm::new(&host, &text)?,
        Vm::new(&host, &text)?,
        Vm::new(&host, &text)?,
    ];
    let config = FilterConfig::parse(text.as_bytes());
    let mut native = Native {
        rules: Rules::new(config.map_err(|problems| anyhow::anyhow!("{problems:?}"))?),
        cells: BTreeMap::new(),
        buckets: BTreeMap::new(),
        dice: Dice(0),
        now: MonoTime::from_nanos(mono),
        vm: 0,
        no_row: BTreeMap::new(),
    };
    let mut dice = Dice(2026);
    let mut under_way: Vec<UnderWay> = Vec::new();
    let (mut requests, mut refusals) = (0_u32, BTreeMap::<Vec<u8>, u32>::new());
    for event in 0..EVENTS {
        // Half a millisecond on average: the window begins after half a minute.
        mono += dice.below(1_000_000);
        let wall_nanos = START_SECONDS * 1_000_000_000 + mono;
        let wall = WallTime::from_unix_millis(i64::try_from(wall_nanos / 1_000_000)?);
        native.now = MonoTime::from_nanos(mono);
        native.dice = Dice(u64::from(event));
        host.world(|world| {
            world.wall = wall_nanos;
            world.mono = mono;
            world.dice = Dice(u64::from(event));
        });
        if dice.below(2) == 0 || under_way.is_empty() {
            let vm = usize::try_from(dice.below(3))?;
            // Up to two others write between this worker's reads and writes.
            host.world(|world| world.conflicts = u32::try_from(dice.below(3)).unwrap_or(0));
            native.vm = vm;
            let service = *dice.one(&SERVICES);
            let headers = random_headers(&mut dice);
            let expected = native.expect(service, &headers, wall);
            let (context, answer) = vms[vm].request(service, &headers)?;
            let answer = match answer {
                Answer::Forwarded(headers) => Answer::Forwarded(sorted(headers)),
                refused @ Answer::Refused(_) => refused,
            };
            ensure!(
                answer == expected.answer,
                "event {event}, {service} {headers:?}:\n{answer:?}\ninstead of\n{:?}",
                expected.answer
            );
            requests += 1;
            if let Answer::Refused(local) = &answer {
                *refusals.entry(local.body.clone()).or_default() += 1;
            }
            under_way.push(UnderWay {
                vm,
                context,
                expected,
            });
        } else {
            let index = usize::try_from(dice.below(under_way.len() as u64))?;
            let ended = under_way.swap_remove(index);
            let facts = random_end(&mut dice);
            host.world(|world| world.conflicts = 0);
            // The filter learns of the time at its next request or tick.
            vms[ended.vm].tick()?;
            vms[ended.vm].finish(ended.context, facts.status, facts.flags, None)?;
            vms[ended.vm].tick()?;
            native.vm = ended.vm;
            native.settle(&ended.expected, &facts, wall);
        }
    }
    ensure!(requests >= 95_000, "{requests} requests");
    // The walk met every kind of refusal, so equal means something.
    for reason in ["breaker_open", "breaker_half_open", "shed", "limit"] {
        let body = format!("refused: {reason}\n").into_bytes();
        ensure!(
            refusals.contains_key(&body),
            "no {reason} in {requests} requests"
        );
    }
    for vm in &mut vms {
        vm.tick()?;
    }
    let total = host.world(|world| world.sum("mumbai_mesh_requests_total"));
    let active = host.world(|world| world.sum("mumbai_mesh_active_connections"));
    ensure!(
        total + active == i64::from(requests),
        "{total} + {active} of {requests}"
    );
    ensure!(active == i64::try_from(under_way.len())?);
    Ok(())
}

#[test]
fn requests_end_in_the_configuration_in_which_they_began() -> Result<()> {
    let host = WasmHost::default();
    host.world(|world| world.mono = 1);
    let text = config().to_string();
    let mut old = Vm::new(&host, &text)?;
    let path: Header = (":path".into(), b"/".to_vec());
    let mut begun = Vec::new();
    for _ in 0..10 {
        begun.push(old.request("upi", std::slice::from_ref(&path))?.0);
    }
    let mut new = Vm::new(&host, &text)?;
    for _ in 0..5 {
        let (context, _) = new.request("upi", std::slice::from_ref(&path))?;
        new.finish(context, Some(200), 0, None)?;
    }
    for context in begun {
        old.finish(context, Some(200), 0, None)?;
    }
    host.world(|world| {
        assert_eq!(world.sum("mumbai_mesh_requests_total"), 15);
        assert_eq!(world.sum("mumbai_mesh_active_connections"), 0);
        assert_eq!(world.sum("mumbai_mesh_response_time_milliseconds"), 15);
    });
    Ok(())
}

#[test]
fn a_host_that_fails_every_call_stops_no_request() -> Result<()> {
    let text = config().to_string();
    for status in [1, 2, 3, 4, 7, 8, 10, 12, 99] {
        let host = WasmHost::default();
        host.world(|world| world.mono = 1);
        let mut vm = Vm::new(&host, &text)?;
        host.world(|world| world.failing = Some(status));
        for service in SERVICES {
            let path: Header = (":path".into(), b"/check".to_vec());
            let (context, answer) = vm.request(service, &[path])?;
            ensure!(
                matches!(answer, Answer::Forwarded(_)),
                "status {status}: {answer:?}"
            );
            vm.tick()?;
            vm.finish(context, Some(500), 0, Some(14))?;
        }
        ensure!(
            !vm.configure(text.as_bytes())?,
            "a configuration that cannot be read"
        );
        host.world(|world| world.failing = None);
        let path: Header = (":path".into(), b"/".to_vec());
        let (_, answer) = vm.request("upi", &[path])?;
        let Answer::Forwarded(headers) = answer else {
            anyhow::bail!("status {status}: {answer:?}");
        };
        ensure!(
            headers.iter().any(|(name, _)| name == names::HEADER_CLASS),
            "it decides again"
        );
    }
    Ok(())
}

#[test]
fn no_configuration_and_no_header_breaks_it() -> Result<()> {
    let host = WasmHost::default();
    host.world(|world| world.mono = 1);
    let good = config().to_string();
    let mut vm = Vm::new(&host, &good)?;
    let mut dice = Dice(7);
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..3_000 {
        let mut bytes = good.clone().into_bytes();
        for _ in 0..=dice.below(4) {
            let at = usize::try_from(dice.below(bytes.len() as u64))?;
            match dice.below(4) {
                0 => bytes[at] = u8::try_from(dice.below(256))?,
                1 => bytes.truncate(at.max(1)),
                2 => bytes.insert(at, *dice.one(b"{}[]\",:0919-eE.\xff")),
                _ => {
                    bytes.remove(at);
                }
            }
        }
        match vm.configure(&bytes)? {
            true => taken += 1,
            false => refused += 1,
        }
        let headers = random_headers(&mut dice);
        let (context, _) = vm.request("order-service", &headers)?;
        vm.finish(context, Some(200), 0, None)?;
    }
    ensure!(
        taken > 10 && refused > 1_000,
        "{taken} taken, {refused} refused"
    );
    let deep = "[".repeat(200_000);
    let long = format!(
        "{{\"version\": 1, \"zone\": \"{}\"}}",
        "z".repeat(1_000_000)
    );
    for hostile in [
        " ",
        "null",
        "1e999",
        &deep,
        &long,
        "{\"version\": 1, \"services\": {}}",
    ] {
        let (start, _) = hostile.split_at(hostile.len().min(40));
        ensure!(!vm.configure(hostile.as_bytes())?, "{start}");
    }
    let logs = host.world(|world| world.logs.concat());
    ensure!(logs.contains("configuration refused"), "nothing was said");
    Ok(())
}

/// Prints the calls, for the benchmark, which asks with its own policy.
#[test]
fn a_request_costs_few_calls_of_the_host() -> Result<()> {
    const REQUESTS: u32 = 100;
    let policy = bench_policy().unwrap_or_else(|| {
        json!({
            "version": 1,
            "service_from": "authority",
            "traffic_classes": [{"name": "gold", "match": [{"path_prefix": "/", "method": "GET"}]}],
            "services": [{"name": "order-service",
                "canary": {"version": "v2", "weight": 10, "sticky_by": {"header": "x-user-id"}}}],
        })
        .to_string()
    });
    let host = WasmHost::default();
    host.world(|world| world.mono = 1);
    let mut vm = Vm::new(&host, &policy)?;
    let headers = [
        (":authority", "order-service"),
        (":path", "/orders/7"),
        (":method", "GET"),
        ("x-user-id", "user-1"),
    ]
    .map(|(name, value)| (name.to_string(), value.into()));
    // While another request is under way: a busy Envoy.
    vm.request("order-service", &headers)?;
    let (first, _) = vm.request("order-service", &headers)?;
    vm.finish(first, Some(200), 0, None)?;
    vm.tick()?;
    host.world(|world| world.calls.clear());
    for _ in 0..REQUESTS {
        let (context, _) = vm.request("order-service", &headers)?;
        vm.finish(context, Some(200), 0, None)?;
    }
    vm.tick()?;
    let calls = host.world(|world| world.calls.clone());
    let per_request = |count: u64| count as f64 / f64::from(REQUESTS);
    let sum = per_request(calls.values().sum());
    let each: Vec<String> = calls
        .iter()
        .map(|(name, count)| format!("{name} {}", per_request(*count)))
        .collect();
    println!("host calls: {sum} ({})", each.join(", "));
    ensure!(sum <= 16.0, "{sum} calls: {calls:?}");
    Ok(())
}

#[test]
fn a_vm_that_serves_nothing_ticks_once_a_second_until_a_request_wakes_it() -> Result<()> {
    let host = WasmHost::default();
    host.world(|world| (world.wall, world.mono) = (START_SECONDS * 1_000_000_000, 1));
    let mut vm = Vm::new(&host, &config().to_string())?;
    let pace = || host.world(|world| world.tick_milliseconds);
    for tick in 0..20 {
        ensure!(pace() == 50, "every {} ms after {tick} ticks", pace());
        vm.tick()?;
    }
    ensure!(pace() == 1_000, "every {} ms", pace());

    // Somebody moves the wall clock into the evening while it rests.
    host.world(|world| world.wall += 60 * 1_000_000_000);
    let headers = [(":path", "/pay"), (":authority", "upi")];
    let headers = headers.map(|(name, value)| (name.to_string(), value.into()));
    let (first, answer) = vm.request("upi", &headers)?;
    let Answer::Forwarded(told) = answer else {
        anyhow::bail!("refused");
    };
    let state = told
        .iter()
        .find(|(name, _)| name == names::HEADER_TRAFFIC_STATE);
    ensure!(
        state.is_some_and(|(_, value)| value == b"peak_hour"),
        "{told:?}"
    );
    ensure!(pace() == 50, "every {} ms", pace());

    // A request that is under way does not keep it awake; its end does.
    for _ in 0..20 {
        vm.tick()?;
    }
    ensure!(pace() == 1_000, "every {} ms", pace());
    vm.finish(first, Some(200), 0, None)?;
    ensure!(pace() == 50, "every {} ms", pace());
    Ok(())
}
