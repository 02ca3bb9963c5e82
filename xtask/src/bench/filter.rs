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
    cpu, hello,
    rows::{self, Row},
    table::{Measured, table},
};
use crate::{artifacts, progress::Progress, run, workspace::Workspace};

const READY: Duration = Duration::from_secs(30);
/// V8 compiles what is hot anew after some thousand calls; that belongs to no measurement.
const WARM_UP: Duration = Duration::from_secs(2);

/// What a person may choose.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Rounds; each measures every row once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each row is under load in a round
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// End a row's turn after so many requests, if that is sooner
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true, value_parser = clap::value_parser!(u64).range(1..))]
    requests: u64,
    /// Connections to the Envoy that is measured, each with one request under way
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    connections: u32,
    /// Only these rows, by their ids, besides `none`: native, hello, lua-headers, lua-decisions,
    /// mumbai-mesh, one-class
    #[arg(long, value_delimiter = ',', value_name = "IDS")]
    only: Vec<String>,
    /// Also measure this other build of the filter, with the full policy; may be given more than once
    #[arg(long, value_name = "FILE")]
    also: Vec<PathBuf>,
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
    let mut proxies = Vec::new();
    for row in rows {
        proxies.push(bench.start(row, &built, upstream.address.port())?);
    }
    bench.measure(&mut proxies)?;
    check(&proxies)?;
    let version = run::text(Command::new(&built.envoy).arg("--version"))?;
    bench.print(&proxies, &version);
    Ok(())
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

struct Bench<'a> {
    progress: &'a Progress,
    options: &'a Options,
    load: PathBuf,
    cores: Cores,
    dir: PathBuf,
    turns: u64,
}

struct Upstream {
    address: SocketAddr,
    _process: Process,
}

/// An Envoy that is measured.
struct Proxy {
    row: Row,
    envoy: Envoy,
    address: SocketAddr,
    measured: Measured,
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

    fn start(&self, row: Row, built: &artifacts::Artifacts, upstream: u16) -> Result<Proxy> {
        self.progress
            .step(format!("Starting Envoy: {}.", row.title));
        let (port, admin_port) = (free_port(), free_port());
        let config = rows::bootstrap(&row, port, admin_port, upstream);
        let options = envoy::Options {
            name: &row.id,
            concurrency: 1,
            admin_port,
            ..envoy::Options::default()
        };
        let config = config.to_string();
        let mut envoy = Envoy::start(&built.for_harness(), &self.dir, &config, &options)?;
        cpu::pin(envoy.process().pid(), self.cores.proxies)?;
        Ok(Proxy {
            measured: Measured {
                title: row.title.clone(),
                nanos: Vec::new(),
                requests: 0,
            },
            row,
            envoy,
            address: ([127, 0, 0, 1], port).into(),
        })
    }

    /// The order changes from round to round, so that no row always follows the same one.
    fn measure(&mut self, proxies: &mut [Proxy]) -> Result<()> {
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
                proxy.measured.nanos.push(nanos);
                proxy.measured.requests += requests;
            }
            proxies.rotate_left(1);
        }
        let turned = rounds as usize % proxies.len();
        proxies.rotate_right(turned);
        Ok(())
    }

    /// Puts one Envoy under load. CPU time that it spent, and requests that it answered.
    fn turn(&mut self, proxy: &mut Proxy, seconds: f64) -> Result<(Duration, u64)> {
        self.turns += 1;
        let mut command = Command::new(&self.load);
        command
            .arg("load")
            .arg(proxy.address.to_string())
            .arg(self.options.connections.to_string())
            .arg(seconds.to_string())
            .arg(self.options.requests.to_string());
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

    fn print(&self, proxies: &[Proxy], version: &str) {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let measured: Vec<&Measured> = proxies.iter().map(|proxy| &proxy.measured).collect();
        let requests: u64 = measured.iter().map(|row| row.requests).sum();
        let Options {
            rounds,
            seconds,
            connections,
            ..
        } = self.options;
        let Cores { others, proxies } = self.cores;
        println!("CPU time of an Envoy with one worker per proxied request\n");
        print!("{}", table(&measured));
        println!(
            "\nhost {host}, {model}; proxies on core {proxies}, load and upstream on core {others}\n\
             {rounds} rounds of {seconds} s per row, {connections} connections, {requests} requests, none failed\n\
             {version}",
            host = host.trim(),
            model = cpu::model(),
            version = version.trim(),
        );
    }
}

/// Numbers of a filter that did not do its work would say nothing.
fn check(proxies: &[Proxy]) -> Result<()> {
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
