//! `cargo xtask bench filter`: what a filter adds to the CPU time that an Envoy spends per request.

use std::{fs, net::SocketAddr, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use harness::{
    envoy::{self, Envoy},
    ports::free_port,
    process::Process,
};

use super::{
    configuration, cpu, hello, memory,
    rows::{self, Row},
    table::{Measured, table},
};
use crate::{artifacts, progress::Progress, run, workspace::Workspace};

const READY: Duration = Duration::from_secs(30);
/// The first requests open connections and fill caches; that belongs to no measurement.
const WARM_UP: Duration = Duration::from_secs(2);

/// What a person may choose.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// How often all Envoys are started afresh: where code and memory lie is luck, and changes a
    /// row's cost by some percent
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    starts: u32,
    /// Rounds of each start; each measures every row once
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each row is under load in a round
    #[arg(long, default_value_t = 0.1, value_parser = seconds)]
    seconds: f64,
    /// End a row's turn after so many requests, if that is sooner
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true, value_parser = clap::value_parser!(u64).range(1..))]
    requests: u64,
    /// Connections to the Envoy that is measured, each with one request under way
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    connections: u32,
    /// Only these rows, by their ids, besides `none`: native, hello, lua-headers, lua-decisions,
    /// mumbai-mesh, ordinary, gateway, large
    #[arg(long, value_delimiter = ',', value_name = "IDS")]
    only: Vec<String>,
    /// Also measure this other build of the filter, with the full policy; may be given more than once
    #[arg(long, value_name = "FILE")]
    also: Vec<PathBuf>,
    /// Instead of the table: an Envoy's memory over a million requests
    #[arg(long)]
    memory: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=3_600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0.1 to 3600".into()),
    }
}

/// Builds what is missing, measures, and prints the table.
pub fn run(workspace: &Workspace, progress: &Progress, options: &Options) -> Result<()> {
    let built = artifacts::all(workspace, progress)?;
    let cores = cpu::allowed()?;
    let (Some(&others), Some(&proxies)) = (cores.first(), cores.last()) else {
        bail!("this process may use no core");
    };
    if others == proxies {
        progress.warn("only one core: load and proxies take turns on it");
    }
    let dir = workspace.target.join("bench");
    fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let hello = dir.join("hello.wasm");
    fs::write(&hello, hello::module())?;
    let mut bench = Bench {
        progress,
        options,
        load: built.bench_load.clone(),
        cores: Cores { others, proxies },
        dir,
        turns: 0,
    };
    let mut rows = rows::all(&built.wasm, &hello);
    choose(&mut rows, &options.only)?;
    for (number, file) in (1..).zip(&options.also) {
        let file = file
            .canonicalize()
            .with_context(|| file.display().to_string())?;
        rows.push(rows::another_build(number, &file));
    }
    let upstream = bench.upstream()?;
    let port = upstream.address.port();
    if options.memory {
        return memory::watch(&mut bench, &rows, &built, port);
    }
    let mut measured: Vec<Measured> = rows.iter().map(|row| Measured::of(&row.title)).collect();
    for start in 1..=options.starts {
        let starts = options.starts;
        progress.step(format!("Starting the Envoys, {start} of {starts}."));
        let mut proxies = Vec::new();
        for row in &rows {
            proxies.push(bench.start(row, &built, port, "info")?);
        }
        bench.measure(&mut proxies)?;
        check(&proxies)?;
        for (all, proxy) in measured.iter_mut().zip(proxies) {
            all.starts.push(proxy.rounds);
            all.requests += proxy.requests;
        }
    }
    let version = run::text(Command::new(&built.envoy).arg("--version"))?;
    bench.print(&measured, &version);
    println!("\nCalls from the filter to Envoy per request");
    for (id, _, policy) in rows::policies() {
        println!("{id:<12} {}", host_calls(workspace, &built, &policy)?);
    }
    if let Some(large) = rows.iter().find(|row| row.id == rows::LARGE) {
        configuration::measure(&bench, large, &built, port)?;
    }
    let size = fs::metadata(&built.wasm)?.len();
    println!("\nThe filter has {size} bytes.");
    Ok(())
}

/// Counted by a host whose every call the integration tests see.
fn host_calls(
    workspace: &Workspace,
    built: &artifacts::Artifacts,
    policy: &serde_json::Value,
) -> Result<String> {
    let mut test = run::cargo();
    test.current_dir(&workspace.root)
        .args([
            "test",
            "--package",
            "mumbai-mesh-tests",
            "--test",
            "it",
            "--",
        ])
        .args(["artifact::a_request_costs_few_calls_of_the_host", "--exact"])
        .arg("--nocapture")
        .env("MUMBAI_MESH_BENCH_POLICY", policy.to_string())
        .envs(built.environment());
    let said = run::text(&mut test)?;
    let mut lines = said.lines();
    let line = lines.find_map(|line| line.split_once("host calls: "));
    Ok(line.context("no count of the calls")?.1.to_string())
}

fn choose(rows: &mut Vec<Row>, only: &[String]) -> Result<()> {
    let known: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
    for id in only {
        let known_ids = known.join(", ");
        ensure!(known.contains(id), "no row {id:?}; there are {known_ids}");
    }
    let chosen = |row: &Row| row.id == known[0] || only.is_empty() || only.contains(&row.id);
    rows.retain(chosen);
    Ok(())
}

struct Cores {
    /// Of the load and the upstream.
    others: usize,
    /// Of the Envoys.
    proxies: usize,
}

pub(super) struct Bench<'a> {
    pub progress: &'a Progress,
    options: &'a Options,
    load: PathBuf,
    cores: Cores,
    pub dir: PathBuf,
    turns: u64,
}

struct Upstream {
    address: SocketAddr,
    _process: Process,
}

/// An Envoy that is measured.
pub(super) struct Proxy<'r> {
    row: &'r Row,
    pub envoy: Envoy,
    address: SocketAddr,
    /// CPU per request in nanoseconds, by round.
    rounds: Vec<f64>,
    requests: u64,
}

impl Bench<'_> {
    fn upstream(&self) -> Result<Upstream> {
        let mut command = Command::new(&self.load);
        command.arg("serve");
        let log = self.dir.join("upstream.log");
        let mut process = Process::spawn("upstream", command, &log)?;
        let address = process.wait_line("ready ", READY)?.parse()?;
        cpu::pin(process.pid(), self.cores.others)?;
        Ok(Upstream {
            address,
            _process: process,
        })
    }

    pub fn start<'r>(
        &self,
        row: &'r Row,
        built: &artifacts::Artifacts,
        upstream: u16,
        log_level: &str,
    ) -> Result<Proxy<'r>> {
        let (port, admin_port) = (free_port(), free_port());
        let config = rows::bootstrap(row, port, admin_port, upstream);
        let options = envoy::Options {
            name: &row.id,
            concurrency: 1,
            admin_port,
            log_level,
            ..envoy::Options::default()
        };
        let config = config.to_string();
        let mut envoy = Envoy::start(&built.for_harness(), &self.dir, &config, &options)?;
        cpu::pin(envoy.process().pid(), self.cores.proxies)?;
        Ok(Proxy {
            rounds: Vec::new(),
            requests: 0,
            row,
            envoy,
            address: ([127, 0, 0, 1], port).into(),
        })
    }

    /// The order changes from round to round, so that no row always follows the same one.
    fn measure(&mut self, proxies: &mut [Proxy<'_>]) -> Result<()> {
        self.progress.step("Warming up.");
        for proxy in proxies.iter_mut() {
            self.turn(proxy, WARM_UP.as_secs_f64())?;
        }
        let rounds = self.options.rounds;
        for round in 1..=rounds {
            self.progress.step(format!("Round {round} of {rounds}."));
            for proxy in proxies.iter_mut() {
                let (spent, requests) = self.turn(proxy, self.options.seconds)?;
                let nanos = spent.as_nanos() as f64 / requests as f64;
                proxy.rounds.push(nanos);
                proxy.requests += requests;
            }
            proxies.rotate_left(1);
        }
        let turned = rounds as usize % proxies.len();
        proxies.rotate_right(turned);
        Ok(())
    }

    fn turn(&mut self, proxy: &mut Proxy<'_>, seconds: f64) -> Result<(Duration, u64)> {
        self.load(proxy, seconds, self.options.requests)
    }

    /// Puts one Envoy under load, until so many seconds or requests are over. CPU time that it spent, and
    /// requests that it answered.
    pub fn load(
        &mut self,
        proxy: &mut Proxy<'_>,
        seconds: f64,
        requests: u64,
    ) -> Result<(Duration, u64)> {
        self.turns += 1;
        let mut command = Command::new(&self.load);
        command
            .arg("load")
            .arg(proxy.address.to_string())
            .arg(self.options.connections.to_string())
            .arg(seconds.to_string())
            .arg(requests.to_string());
        let pid = proxy.envoy.process().pid();
        let before = cpu::spent(pid)?;
        let mut load = Process::spawn("load", command, &self.dir.join("load.log"))?;
        cpu::pin(load.pid(), self.cores.others)?;
        let bound = READY + Duration::from_secs_f64(seconds);
        let done = load.wait_line("done ", bound)?;
        let spent = cpu::spent(pid)?.saturating_sub(before);
        let (answered, failed) = done.split_once(' ').context("no result of the load")?;
        let (answered, failed): (u64, u64) = (answered.parse()?, failed.parse()?);
        ensure!(
            failed == 0 && answered > 0,
            "{}: {failed} of {} requests failed; see {}",
            proxy.row.title,
            answered + failed,
            self.dir.display()
        );
        Ok((spent, answered))
    }

    fn print(&self, measured: &[Measured], version: &str) {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let requests: u64 = measured.iter().map(|row| row.requests).sum();
        let Options {
            starts,
            rounds,
            seconds,
            connections,
            ..
        } = self.options;
        let Cores { others, proxies } = self.cores;
        println!("CPU time of an Envoy with one worker per proxied request\n");
        print!("{}", table(measured));
        println!(
            "\nhost {host}, {model}; proxies on core {proxies}, load and upstream on core {others}\n\
             {starts} starts of {rounds} rounds of {seconds} s per row, {connections} connections, {requests} requests, none failed\n\
             {version}",
            host = host.trim(),
            model = cpu::model(),
            version = version.trim(),
        );
    }
}

/// Numbers of a filter that did not do its work would say nothing.
fn check(proxies: &[Proxy<'_>]) -> Result<()> {
    for Proxy { row, envoy, .. } in proxies {
        let canary = envoy.stat(rows::CANARY_REQUESTS).unwrap_or(0);
        ensure!(
            (canary > 0) == row.splits,
            "{}: {canary} requests reached the canary",
            row.title
        );
        let errors = envoy.stat("http.edge.lua.errors").unwrap_or(0);
        ensure!(errors == 0, "{}: {errors} errors of the script", row.title);
    }
    Ok(())
}
