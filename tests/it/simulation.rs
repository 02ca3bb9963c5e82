//! Ten minutes of a service's life, lived by the very `.wasm` in two workers: virtual time, real decisions.
//!
//! The first ten seconds have all of 5,000 requests per second, so that failures, which are told at once,
//! meet as many successes that wait for a tick as they ever do. The rest has 120 per second: with fewer
//! requests in the breaker's window the share of failures strays further from its mean, so what does not
//! open a breaker there would open none at 5,000; and what must open it has less to go by. A whole day at
//! 5,000 per second is lived by native code (`policy/src/breaker/simulation.rs`).
//!
//! Flood and outage begin when the window is empty: what went well in the last ten seconds speaks for a
//! service, so that in the middle of steady traffic 60 % of failures make a half of it after 8.3 s.

use std::{collections::VecDeque, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::wasm_host::{Answer, Dice, Header, Vm, WasmHost};

const TICK: Duration = Duration::from_millis(50);
const PATHS: [&str; 2] = ["/pay", "/check-status"];
const GOLD: usize = 0;
const BRONZE: usize = 1;

/// What comes per second, and how it fares at the upstream.
#[derive(Clone, Copy)]
struct Weather {
    /// Requests per second, gold and bronze.
    per_second: [u64; 2],
    /// Of a thousand, those that fail.
    failing: [u64; 2],
}

/// What became of a class's requests.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    sent: u64,
    refused: u64,
    /// Virtual time of the first refusal.
    first_refusal: Option<Duration>,
}

struct Request {
    worker: usize,
    context: i32,
    fails: bool,
    /// Tick at which it is answered.
    ends: u64,
}

struct Life {
    host: WasmHost,
    workers: [Vm; 2],
    dice: Dice,
    /// Ticks lived.
    ticks: u64,
    under_way: VecDeque<Request>,
    sent: u64,
}

impl Life {
    fn begin() -> Result<Self> {
        let host = WasmHost::default();
        // Only the default breaker.
        let config = json!({
            "version": 1,
            "traffic_classes": [
                {"name": "gold", "match": [{"path_prefix": "/pay"}]},
                {"name": "bronze", "match": [{"path_prefix": "/check-status"}]}],
            "services": [{"name": "upi"}],
        })
        .to_string();
        host.world(|world| world.mono = 1_000_000_000);
        Ok(Self {
            workers: [Vm::new(&host, &config)?, Vm::new(&host, &config)?],
            host,
            dice: Dice(600),
            ticks: 0,
            under_way: VecDeque::new(),
            sent: 0,
        })
    }

    /// Lives through so many seconds; gives what became of gold and of bronze.
    fn live(&mut self, seconds: u64, weather: Weather) -> Result<[Tally; 2]> {
        let mut tallies = [Tally::default(); 2];
        for tick in 0..seconds * 20 {
            for class in [GOLD, BRONZE] {
                // Spread evenly over the second's twenty ticks.
                let (rate, nth) = (weather.per_second[class], tick % 20);
                for _ in rate * nth / 20..rate * (nth + 1) / 20 {
                    let fails = self.dice.below(1_000) < weather.failing[class];
                    if self.send(class, fails)? {
                        tallies[class].refused += 1;
                        tallies[class]
                            .first_refusal
                            .get_or_insert(TICK * u32::try_from(tick)?);
                    }
                    tallies[class].sent += 1;
                }
            }
            self.tick()?;
        }
        Ok(tallies)
    }

    /// Sends one request to one of the workers; whether it was refused.
    fn send(&mut self, class: usize, fails: bool) -> Result<bool> {
        let worker = usize::try_from(self.dice.below(2))?;
        let path: Header = (":path".into(), PATHS[class].into());
        let (context, answer) = self.workers[worker].request("upi", &[path])?;
        self.sent += 1;
        if let Answer::Refused(_) = answer {
            self.workers[worker].finish(context, Some(503), 0, None)?;
            return Ok(true);
        }
        // Answered after 50 ms.
        self.under_way.push_back(Request {
            worker,
            context,
            fails,
            ends: self.ticks + 1,
        });
        Ok(false)
    }

    /// Time goes on; what is due is answered; then both workers' timers run.
    fn tick(&mut self) -> Result<()> {
        let nanos = u64::try_from(TICK.as_nanos())?;
        self.host.world(|world| {
            world.mono += nanos;
            world.wall += nanos;
        });
        while let Some(due) = self.under_way.pop_front_if(|due| due.ends <= self.ticks) {
            let status = if due.fails { 500 } else { 200 };
            self.workers[due.worker].finish(due.context, Some(status), 0, None)?;
        }
        self.ticks += 1;
        self.workers.iter_mut().try_for_each(Vm::tick)
    }
}

#[test]
fn ten_minutes_of_errors_a_flood_and_an_outage_open_what_they_should_and_nothing_else() -> Result<()>
{
    let mut life = Life::begin()?;
    // Two percent of independent errors, for more than eight minutes.
    let fair = Weather {
        per_second: [2_500, 2_500],
        failing: [20, 20],
    };
    let calm = Weather {
        per_second: [60, 60],
        ..fair
    };
    let quiet = Weather {
        per_second: [0, 0],
        ..fair
    };
    for (seconds, weather) in [(10, fair), (500, calm), (11, quiet)] {
        for tally in life.live(seconds, weather)? {
            ensure!(tally.refused == 0, "{tally:?}");
        }
    }
    // Bronze comes in a flood, and all of it fails: it is refused, and gold is not.
    let flood = Weather {
        per_second: [60, 300],
        failing: [20, 1_000],
    };
    let [gold, bronze] = life.live(48, flood)?;
    ensure!(gold.refused == 0, "{gold:?}");
    let opened = bronze.first_refusal.context("bronze was never refused")?;
    ensure!(opened <= Duration::from_secs(2), "bronze after {opened:?}");
    // Only those before it opened, and its probes, reached the upstream.
    ensure!(bronze.refused * 10 > bronze.sent * 9, "{bronze:?}");
    life.live(11, quiet)?;
    // An outage of everything.
    let outage = Weather {
        failing: [600, 600],
        ..calm
    };
    let [gold, _] = life.live(20, outage)?;
    let opened = gold.first_refusal.context("gold was never refused")?;
    ensure!(opened <= Duration::from_secs(2), "gold after {opened:?}");
    // All that was sent is counted, and nothing is in flight.
    life.tick()?;
    life.host.world(|world| {
        ensure!(world.sum("mumbai_mesh_requests_total") == i64::try_from(life.sent)?);
        ensure!(world.sum("mumbai_mesh_active_connections") == 0);
        anyhow::Ok(())
    })
}
