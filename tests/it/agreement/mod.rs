//! `explain` agrees with what real Envoys then do: random requests at twenty instants of a moved clock,
//! through gateways in two zones and in none, and through a sidecar.
//!
//! The seed is printed and may be chosen by `MUMBAI_MESH_TEST_SEED`; `MUMBAI_MESH_TEST_REQUESTS` says how many
//! requests there are at each instant.

mod judge;
mod requests;
mod world;

use std::{sync::mpsc, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use harness::{http::Client, settings};

use self::{
    judge::{Judgement, judge},
    requests::Request,
    world::{CALLERS, World},
};

/// At each instant.
const REQUESTS: u64 = 1_000;
/// An instant lies a minute before an edge at the least: so often the clock goes back to it while requests are sent.
const AGAIN: Duration = Duration::from_secs(10);

/// Each is in another step of the clock service's ramp than the one before: so it is seen when an Envoy has
/// taken a move of its clock up.
const INSTANTS: [(&str, &str); 20] = [
    (
        "2026-11-05T08:59:00",
        "the west's morning, before the ramp's start",
    ),
    ("2026-11-05T16:59:00", "between two windows"),
    (
        "2026-11-05T10:30:00",
        "the ramp's first step, frozen in the west's morning",
    ),
    ("2026-11-05T17:00:30", "the evening's first minute"),
    ("2026-11-06T03:00:00", "a quiet night"),
    ("2026-11-06T21:59:00", "the evening's last minute"),
    ("2026-11-06T11:00:30", "the morning is just over"),
    ("2026-11-06T22:00:30", "the evening is just over"),
    ("2026-11-07T12:00:00", "an ordinary noon"),
    (
        "2026-11-07T23:59:00",
        "the central zone's night, a minute before Diwali",
    ),
    ("2026-11-08T11:30:00", "Diwali without a window"),
    (
        "2026-11-08T00:00:30",
        "Diwali's first minute, within the night",
    ),
    ("2026-11-08T18:45:00", "Diwali and the evening"),
    ("2026-11-09T01:00:00", "after Diwali"),
    (
        "2026-11-10T08:00:00",
        "a festival with a name in Hindi, and the west's morning",
    ),
    (
        "2026-11-11T23:45:00",
        "its last minutes, and the central zone's night",
    ),
    ("2026-11-13T13:00:00", "the ramp's later steps"),
    ("2026-11-20T20:00:00", "an evening with the whole ramp"),
    ("2026-11-27T09:30:00", "salary day, the last business day"),
    ("2026-11-29T14:00:00", "a Sunday"),
];

#[test]
fn explain_agrees_with_what_real_envoys_do_at_twenty_instants() -> Result<()> {
    let count = settings::number("MUMBAI_MESH_TEST_REQUESTS", REQUESTS);
    let seed = settings::number("MUMBAI_MESH_TEST_SEED", fastrand::u64(..1_000_000));
    println!("MUMBAI_MESH_TEST_SEED={seed} MUMBAI_MESH_TEST_REQUESTS={count}");
    let world = World::start(INSTANTS[0].0)?;
    let mut whole = Judgement::default();
    for (number, (instant, what)) in (0..).zip(INSTANTS) {
        world.move_clock(instant)?;
        let at = format!("{instant}+05:30");
        let judged = thread::scope(|scope| {
            let (asking, all_asked) = mpsc::channel::<()>();
            let threads: Vec<_> = (0..)
                .zip(CALLERS)
                .map(|(caller, _)| {
                    let seed = seed + (number * 10 + caller) * 1_000_003;
                    let (world, at, asking) = (&world, at.as_str(), asking.clone());
                    let count = count / CALLERS.len() as u64;
                    let caller = usize::try_from(caller).unwrap_or_default();
                    scope.spawn(move || {
                        let _asking = asking;
                        ask(world, caller, at, seed, count)
                    })
                })
                .collect();
            drop(asking);
            while all_asked.recv_timeout(AGAIN) == Err(mpsc::RecvTimeoutError::Timeout) {
                world.hold_clock(instant)?;
            }
            let join = |thread: thread::ScopedJoinHandle<'_, Result<Judgement>>| {
                let joined = thread.join();
                joined.unwrap_or_else(|_| Err(anyhow::anyhow!("a caller panicked")))
            };
            threads.into_iter().map(join).collect::<Result<Vec<_>>>()
        });
        let judged = judged.with_context(|| format!("seed {seed}, at {at}: {what}"))?;
        for part in judged {
            whole.add(part);
        }
    }
    println!("{whole:?}");
    // What the dice decide cannot be foretold, and must not be most of it.
    ensure!(whole.by_dice * 5 < whole.all(), "{whole:?}");
    let each = [
        whole.served,
        whole.refused,
        whole.redirected,
        whole.not_found,
        whole.health,
    ];
    ensure!(each.iter().all(|count| *count > 0), "{whole:?}");
    Ok(())
}

fn ask(world: &World, caller: usize, at: &str, seed: u64, count: u64) -> Result<Judgement> {
    let caller = &CALLERS[caller];
    let mut random = fastrand::Rng::with_seed(seed);
    let mut client = Client::new(world.address(caller));
    let mut server = Client::new(world.server.api);
    let mut judgement = Judgement::default();
    for _ in 0..count {
        let request = Request::random(&mut random, caller);
        let foretold = server.get(&request.question(caller, at), &[])?;
        let answer = client.send(request.method, &request.path, &request.headers())?;
        let told = String::from_utf8_lossy(&foretold.body).into_owned();
        judge(&request, caller, &foretold, &answer, &mut judgement).with_context(|| {
            format!("{caller:?} {request:?} was answered {answer:?}, foretold {told}")
        })?;
    }
    Ok(judgement)
}
