//! `cargo xtask bench instances`: what the heartbeats of thousands of instances cost the server.

use std::{
    net::SocketAddr,
    process, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use harness::{
    artifacts::Artifacts,
    http::Client,
    server::{Options as ServerOptions, Server},
};

use super::cpu;
use crate::{artifacts, progress::Progress, wasm, workspace::Workspace};

/// Services among which they are shared.
const SERVICES: usize = 100;
/// Threads that send them.
const SENDERS: usize = 16;
/// Files beside the connections.
const SPARE_DESCRIPTORS: u64 = 256;

/// What a person may choose.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Instances, each with a connection of its own
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=16_000))]
    instances: u32,
    /// From one heartbeat of an instance to its next, in seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=20))]
    every: u32,
    /// Seconds for which they are measured, after one interval that is not
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

/// Builds the server in release and prints what its heartbeats cost it.
pub fn run(workspace: &Workspace, progress: &Progress, options: &Options) -> Result<()> {
    let wanted = u64::from(options.instances) + SPARE_DESCRIPTORS;
    let descriptors = rlimit::increase_nofile_limit(wanted).context("RLIMIT_NOFILE")?;
    ensure!(
        descriptors >= wanted,
        "this process may open {descriptors} files, and needs {wanted}: raise the limit (ulimit -Hn), or take \
         fewer --instances"
    );
    let artifacts = Artifacts {
        wasm: wasm::build(workspace, progress)?.path,
        server: artifacts::release_server(workspace, progress)?,
        envoy: std::path::PathBuf::new(),
        demo_service: std::path::PathBuf::new(),
    };
    let cores = cpu::allowed()?;
    let (Some(&load), Some(&served)) = (cores.first(), cores.last()) else {
        bail!("this process may use no core");
    };
    if load == served {
        progress.warn("only one core: load and server take turns on it");
    }
    let dir = tempfile::tempdir()?;
    cpu::pin(process::id(), served)?;
    let mut server = Server::start(&artifacts, dir.path(), &mesh(), &ServerOptions::default())?;
    let pid = server.process().pid();
    cpu::pin(process::id(), load)?;
    progress.step(format!("{} instances register.", options.instances));
    let began = Instant::now();
    let crowds = register(server.api, options.instances as usize)?;
    let registered = began.elapsed();
    progress.step(format!(
        "Heartbeats for {} s.",
        options.every + options.seconds
    ));
    let (spent, over) = beat(crowds, pid, options)?;
    let rate = f64::from(options.instances) / f64::from(options.every);
    let share = spent.as_secs_f64() / over.as_secs_f64();
    println!(
        "{:>10} {:>12} {:>12} {:>14} {:>10}",
        "instances", "registered", "heartbeats", "per heartbeat", "of a core"
    );
    println!(
        "{:>10} {:>10.1} s {:>10.0}/s {:>11.1} us {:>8.1} %  (promised: less than 10 %)",
        options.instances,
        registered.as_secs_f64(),
        rate,
        share / rate * 1e6,
        share * 100.0,
    );
    println!(
        "\nkeep-alive, plaintext, one connection each; {}",
        cpu::model()
    );
    Ok(())
}

fn mesh() -> String {
    let service = |number| format!("  s{number}: {{sidecar: false}}\n");
    let services: String = (0..SERVICES).map(service).collect();
    format!("services:\n{services}")
}

/// Instances of one sender.
type Crowd = Vec<(Client, String)>;

fn register(api: SocketAddr, count: usize) -> Result<Vec<Crowd>> {
    let sender = |first: usize| {
        thread::spawn(move || -> Result<Crowd> {
            let numbers = (first..count).step_by(SENDERS);
            numbers.map(|number| register_one(api, number)).collect()
        })
    };
    let senders: Vec<_> = (0..SENDERS.min(count)).map(sender).collect();
    senders.into_iter().map(joined).collect()
}

fn register_one(api: SocketAddr, number: usize) -> Result<(Client, String)> {
    let mut client = Client::new(api);
    let path = format!("/api/v1/instances/s{}/i{number}", number % SERVICES);
    let (high, low) = (number / 250, number % 250 + 1);
    let body = format!("{{\"host\": \"10.1.{high}.{low}\", \"port\": 80, \"ttl\": \"1m\"}}");
    let answer = client.request("PUT", &path, &[], body.as_bytes())?;
    ensure!(answer.status == 201, "{path}: {:?}", answer.json());
    Ok((client, format!("{path}/heartbeat")))
}

/// What the server spent on a core, and over which time.
fn beat(crowds: Vec<Crowd>, pid: u32, options: &Options) -> Result<(Duration, Duration)> {
    let every = Duration::from_secs(options.every.into());
    let end = Instant::now() + every + Duration::from_secs(options.seconds.into());
    let senders: Vec<_> = crowds
        .into_iter()
        .map(|crowd| thread::spawn(move || beat_until(crowd, every, end)))
        .collect();
    thread::sleep(every);
    let (before, began) = (cpu::spent(pid)?, Instant::now());
    thread::sleep(end.saturating_duration_since(Instant::now()));
    let measured = (cpu::spent(pid)? - before, began.elapsed());
    for sender in senders {
        joined(sender)?;
    }
    Ok(measured)
}

fn beat_until(mut crowd: Crowd, every: Duration, end: Instant) -> Result<()> {
    let pause = every / u32::try_from(crowd.len().max(1))?;
    let mut next = Instant::now();
    loop {
        for (client, path) in &mut crowd {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            if Instant::now() >= end {
                return Ok(());
            }
            next += pause;
            let answer = client.request("POST", path, &[], b"")?;
            ensure!(answer.status == 204, "{path}: {}", answer.status);
        }
    }
}

fn joined<T>(sender: thread::JoinHandle<Result<T>>) -> Result<T> {
    match sender.join() {
        Ok(done) => done,
        Err(_) => bail!("a sender panicked"),
    }
}
