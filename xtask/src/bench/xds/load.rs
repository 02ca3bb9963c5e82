//! The load client: how it is run, and what it tells.

use std::{
    fs,
    path::PathBuf,
    process::{self, Command},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use harness::{process::Process, wait::wait_for};
use serde_json::Value;

use super::servers::Served;
use crate::bench::cpu;

const PATIENCE: Duration = Duration::from_secs(300);
/// Streams of the client that looks on while others are slow.
const WITNESSES: u32 = 100;
const WITNESS_GAP_MS: u32 = 200;
/// They are there before the others come, so that what these grow by is theirs alone.
const WITNESS_IDLE_SECS: u32 = 6;

/// The variant of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Sotw,
    Delta,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sotw => "state of the world",
            Self::Delta => "delta",
        }
    }
}

/// What a client does.
#[derive(Debug, Clone)]
pub struct Plan {
    pub mode: Mode,
    pub streams: u32,
    pub clusters: usize,
    pub changes: u32,
    pub reconnects: u32,
    pub slow: u32,
    /// Changes per second, and seconds.
    pub churn: Option<(f64, u32)>,
    /// Clusters that are changed one after the other.
    pub cycle: usize,
    /// The cluster whose changes are waited for.
    pub watch: usize,
    /// Between two changes.
    pub gap_ms: u32,
    /// Silence that counts as settled.
    pub quiet_ms: u32,
    /// Seconds between the cold start and what follows.
    pub idle_secs: u32,
}

impl Plan {
    /// Connects, and nothing else.
    pub fn new(mode: Mode, streams: u32, clusters: usize) -> Self {
        Self {
            mode,
            streams,
            clusters,
            changes: 0,
            reconnects: 0,
            slow: 0,
            churn: None,
            cycle: 1,
            watch: 0,
            gap_ms: 50,
            quiet_ms: 500,
            idle_secs: 0,
        }
    }

    fn arguments(&self) -> Vec<String> {
        let mode = match self.mode {
            Mode::Sotw => "sotw",
            Mode::Delta => "delta",
        };
        let (rate, seconds) = self.churn.unwrap_or((0.0, 1));
        let options: [(&str, String); 13] = [
            ("--mode", mode.into()),
            ("--clients", self.streams.to_string()),
            ("--expect-clusters", self.clusters.to_string()),
            ("--changes", self.changes.to_string()),
            ("--change-gap-ms", self.gap_ms.to_string()),
            ("--reconnects", self.reconnects.to_string()),
            ("--idle-secs", self.idle_secs.to_string()),
            ("--slow", self.slow.to_string()),
            ("--churn-rate", rate.to_string()),
            ("--churn-secs", seconds.to_string()),
            ("--cycle", self.cycle.to_string()),
            ("--watch", format!("cluster-{}", self.watch)),
            ("--watch-number", self.watch.to_string()),
        ];
        let mut all: Vec<String> = options
            .into_iter()
            .flat_map(|(name, value)| [name.to_string(), value])
            .collect();
        all.extend(["--quiet-ms".into(), self.quiet_ms.to_string()]);
        all
    }
}

/// What one phase of a run cost.
#[derive(Debug, Clone, Default)]
pub struct Phase {
    /// CPU of the server for each stream and round, in milliseconds.
    pub cpu_ms: f64,
    /// When 99 of 100 streams had it, in milliseconds.
    pub p99_ms: f64,
    /// The server's memory for each stream, in KiB: what it grew by.
    pub kib: f64,
    /// The server's memory at the end, and at most, in MiB.
    pub memory_mib: f64,
    pub peak_mib: f64,
    /// Streams that did not get there.
    pub lost: u64,
}

/// One run of the client.
#[derive(Debug, Clone, Default)]
pub struct Run {
    pub cold: Phase,
    pub change: Phase,
    pub churn: Phase,
    pub reconnect: Phase,
}

/// Where the client is, and where it runs.
pub struct Load {
    pub program: PathBuf,
    pub dir: PathBuf,
    pub core: usize,
}

impl Load {
    /// Runs a client to its end.
    pub fn run(&self, served: &Served, plan: &Plan) -> Result<Run> {
        let client = self.start("load", served, plan)?;
        self.finish("load", client)
    }

    /// As [`run`](Self::run), while another client measures how soon changes of the last cluster come.
    pub fn run_with_witness(&self, served: &Served, plan: &Plan) -> Result<(Run, Run)> {
        let seconds = plan.churn.map_or(1, |(_, seconds)| seconds);
        let witness = Plan {
            // It begins when the others have come, and ends before they do.
            changes: (seconds * 1_000 * 2 / 3 / (WITNESS_GAP_MS + 50)).max(1),
            gap_ms: WITNESS_GAP_MS,
            watch: plan.cycle,
            quiet_ms: 0,
            idle_secs: WITNESS_IDLE_SECS,
            ..Plan::new(plan.mode, WITNESSES, plan.clusters)
        };
        let witness = self.start("witness", served, &witness)?;
        self.wait_phase("witness", "cold")?;
        let client = self.start("load", served, plan)?;
        self.wait_phase("load", "cold")?;
        let early = self.phases("witness")?;
        ensure!(
            !early.iter().any(|found| found["phase"] == "idle"),
            "the cold start took longer than the {WITNESS_IDLE_SECS} s in which the witnesses wait"
        );
        let seen = self.finish("witness", witness)?;
        Ok((self.finish("load", client)?, seen))
    }

    fn json(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.json"))
    }

    fn start(&self, name: &str, served: &Served, plan: &Plan) -> Result<Process> {
        cpu::pin(process::id(), self.core)?;
        let json = self.json(name);
        // The client appends.
        fs::write(&json, "").with_context(|| json.display().to_string())?;
        let mut command = Command::new(&self.program);
        command
            .args(["--target", &format!("http://{}", served.xds)])
            .args(["--server-pid", &served.pid.to_string()])
            .args(plan.arguments())
            .args(&served.trigger)
            .arg("--json")
            .arg(&json);
        let node = format!("{name}-{{n}}");
        command.args(["--node-id", &node]);
        Process::spawn(name, command, &self.dir.join(format!("{name}.log")))
    }

    fn phases(&self, name: &str) -> Result<Vec<Value>> {
        let text = fs::read_to_string(self.json(name))?;
        let lines = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        lines.map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    fn wait_phase(&self, name: &str, phase: &str) -> Result<()> {
        wait_for("every stream to come", PATIENCE, || {
            let phases = self.phases(name).map_err(|error| format!("{error:#}"))?;
            match phases.iter().any(|found| found["phase"] == phase) {
                true => Ok(()),
                false => Err(format!("{phases:?}")),
            }
        })
    }

    fn finish(&self, name: &str, mut client: Process) -> Result<Run> {
        let status = wait_for("the load to end", PATIENCE, || {
            client.ended().ok_or_else(|| client.log_tail())
        })?;
        ensure!(status.success(), "{name} failed:\n{}", client.log_tail());
        let phases = self.phases(name)?;
        let of = |phase: &str| {
            let found = phases.iter().find(|found| found["phase"] == phase);
            found.map_or_else(|| Ok(Phase::default()), phase_of)
        };
        Ok(Run {
            cold: of("cold")?,
            change: of("change")?,
            churn: of("churn")?,
            reconnect: of("reconnect")?,
        })
    }
}

fn phase_of(line: &Value) -> Result<Phase> {
    let number = |path: &str| {
        let found = line.pointer(path).and_then(Value::as_f64);
        found.with_context(|| format!("no {path} in {line}"))
    };
    let mut phase = Phase {
        cpu_ms: number("/server/cpu_ms_per_client")?,
        kib: number("/server/rss_kib_per_client")?,
        memory_mib: number("/server/memory/rss_kib")? / 1024.0,
        peak_mib: number("/server/memory/peak_kib")? / 1024.0,
        ..Phase::default()
    };
    if line["times"].is_object() {
        phase.p99_ms = number("/times/p99_ms")?;
        let lost = number("/times/expected")? - number("/times/arrived")?;
        phase.lost = lost.max(0.0) as u64;
    }
    if line["churn"].is_object() {
        let lost = number("/clients")? - number("/churn/at_final")?;
        phase.lost = lost.max(0.0) as u64 + number("/churn/failed_changes")? as u64;
    }
    phase.lost += number("/failed_streams")? as u64;
    Ok(phase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_read_with_what_did_not_arrive() {
        let line = serde_json::json!({
            "phase": "cold", "clients": 10, "failed_streams": 1,
            "times": {"p99_ms": 7.5, "expected": 10, "arrived": 8},
            "server": {"cpu_ms_per_client": 0.25, "rss_kib_per_client": 33.0,
                       "memory": {"rss_kib": 2048, "peak_kib": 3072}},
        });
        let phase = phase_of(&line).unwrap();
        assert_eq!((phase.cpu_ms, phase.p99_ms, phase.kib), (0.25, 7.5, 33.0));
        assert_eq!(
            (phase.memory_mib, phase.peak_mib, phase.lost),
            (2.0, 3.0, 3)
        );
        let error = phase_of(&serde_json::json!({"phase": "cold"})).unwrap_err();
        assert!(error.to_string().contains("cpu_ms_per_client"), "{error}");
    }
}
