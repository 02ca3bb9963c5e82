//! `cargo xtask bench xds`: what it costs to serve a thousand proxies, beside a server that does nothing
//! but send bytes which it encoded once, and so shows how low the cost could be at all.

mod figures;
mod load;
mod servers;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use super::cpu;
use crate::{artifacts, progress::Progress, wasm, workspace::Workspace};
use figures::{Figure, Part};
use load::{Load, Mode, Plan, Run};
use servers::{Kind, Programs, Served, Shape};

/// Of the large mesh of `flat`.
const LARGE: usize = 2_000;
/// Changes per second while some do not read.
const CHURN_RATE: f64 = 20.0;
/// Each how many-th stream does not read then.
const SLOW_ONE_IN: usize = 5;

/// What a person may choose.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The load client `xds-load`
    #[arg(long, value_name = "PATH")]
    xds_load: PathBuf,
    /// The server to compare with, `limit-server`
    #[arg(long, value_name = "PATH")]
    xds_limit: PathBuf,
    /// Streams, each on a connection of its own
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(5..=20_000))]
    streams: u32,
    /// Clusters, each with its endpoints
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=255))]
    clusters: u32,
    /// Endpoints of each cluster
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=250))]
    endpoints: u32,
    /// Rounds; each runs every server in every variant once, and the medians count
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Changes in each run, one after the other
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    changes: u32,
    /// Seconds of changes while some streams do not read
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=600))]
    churn_secs: u32,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PARTS")]
    only: Vec<Part>,
}

/// Builds what is missing, measures, and prints the table.
pub fn run(workspace: &Workspace, progress: &Progress, options: &Options) -> Result<()> {
    let filter = wasm::build(workspace, progress)?.path;
    let server = artifacts::release_server(workspace, progress)?;
    let cores = cpu::allowed()?;
    let (Some(&load), Some(&served)) = (cores.first(), cores.last()) else {
        bail!("this process may use no core");
    };
    if load == served {
        progress.warn("only one core: load and server take turns on it, and times say little");
    }
    let dir = workspace.target.join("bench").join("xds");
    fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let bench = Bench {
        progress,
        options,
        programs: Programs {
            ours: server,
            filter,
            limit: program(&options.xds_limit)?,
            dir: dir.clone(),
            core: served,
        },
        load: Load {
            program: program(&options.xds_load)?,
            dir,
            core: load,
        },
    };
    let mut figures = Vec::new();
    if bench.has(Part::Streams) || bench.has(Part::Flat) {
        figures.extend(bench.streams()?);
    }
    if bench.has(Part::Slow) {
        figures.extend(bench.slow()?);
    }
    bench.print(&figures, load);
    Ok(())
}

fn program(path: &Path) -> Result<PathBuf> {
    let found = path.canonicalize();
    let found = found.with_context(|| format!("{} is no program", path.display()))?;
    ensure!(found.is_file(), "{} is no program", path.display());
    Ok(found)
}

struct Bench<'a> {
    progress: &'a Progress,
    options: &'a Options,
    programs: Programs,
    load: Load,
}

/// Runs of one server in one variant.
struct Series {
    kind: Kind,
    mode: Mode,
    clusters: usize,
    runs: Vec<Run>,
}

impl Bench<'_> {
    fn has(&self, part: Part) -> bool {
        self.options.only.is_empty() || self.options.only.contains(&part)
    }

    /// Every server in every variant takes its turn in each round, so that what else happens on the
    /// machine meets all of them.
    fn streams(&self) -> Result<Vec<Figure>> {
        let small = self.options.clusters as usize;
        let mut all = vec![];
        if self.has(Part::Streams) {
            all.extend([(Kind::Ours, Mode::Sotw), (Kind::Limit, Mode::Sotw)].map(|of| (of, small)));
        }
        all.extend([(Kind::Ours, Mode::Delta), (Kind::Limit, Mode::Delta)].map(|of| (of, small)));
        if self.has(Part::Flat) {
            all.extend(
                [(Kind::Ours, Mode::Delta), (Kind::Limit, Mode::Delta)].map(|of| (of, LARGE)),
            );
        }
        let mut series: Vec<Series> = all
            .into_iter()
            .map(|((kind, mode), clusters)| Series {
                kind,
                mode,
                clusters,
                runs: Vec::new(),
            })
            .collect();
        let rounds = self.options.rounds;
        for round in 1..=rounds {
            self.progress.step(format!("Round {round} of {rounds}."));
            for one in &mut series {
                one.runs.push(self.turn(one)?);
            }
        }
        let of = |kind, mode, clusters| -> &[Run] {
            let mut found = series.iter();
            let found =
                found.find(|one| (one.kind, one.mode, one.clusters) == (kind, mode, clusters));
            found.map_or(&[], |one| &one.runs)
        };
        let pair = |mode, clusters| figures::Pair {
            ours: of(Kind::Ours, mode, clusters),
            limit: of(Kind::Limit, mode, clusters),
        };
        let (sotw, delta) = (pair(Mode::Sotw, small), pair(Mode::Delta, small));
        let mut found = Vec::new();
        if self.has(Part::Streams) {
            found.extend(figures::of_streams(sotw, delta)?);
        }
        if self.has(Part::Flat) {
            found.push(figures::flatness(delta, pair(Mode::Delta, LARGE), LARGE)?);
        }
        Ok(found)
    }

    fn turn(&self, series: &Series) -> Result<Run> {
        let Series {
            kind,
            mode,
            clusters,
            ..
        } = series;
        self.progress.step(format!(
            "{} with {} streams and {clusters} clusters, {}.",
            kind.name(),
            self.options.streams,
            mode.name()
        ));
        let served = self.start(*kind, *clusters)?;
        let plan = Plan {
            changes: self.options.changes,
            reconnects: u32::from(*clusters != LARGE),
            ..Plan::new(*mode, self.options.streams, *clusters)
        };
        self.load.run(&served, &plan)
    }

    fn start(&self, kind: Kind, clusters: usize) -> Result<Served> {
        let shape = Shape {
            clusters,
            endpoints: self.options.endpoints as usize,
        };
        self.programs.start(kind, shape)
    }

    /// The same changes twice, once with streams that do not read; a second client measures meanwhile
    /// how soon one change more arrives at those that do.
    fn slow(&self) -> Result<Vec<Figure>> {
        let few = self.options.streams / SLOW_ONE_IN as u32;
        let mut turns = [
            (Kind::Ours, 0, Vec::new()),
            (Kind::Ours, few, Vec::new()),
            (Kind::Limit, few, Vec::new()),
        ];
        for _ in 0..self.options.rounds {
            for (kind, slow, runs) in &mut turns {
                runs.push(self.churn(*kind, *slow)?);
            }
        }
        let [reading, slow, limit] = turns.map(|(.., runs)| runs);
        figures::of_slow(&reading, &slow, &limit)
    }

    fn churn(&self, kind: Kind, slow: u32) -> Result<(Run, Run)> {
        let streams = self.options.streams;
        self.progress.step(format!(
            "{} for {} s, {slow} of {streams} streams not reading.",
            kind.name(),
            self.options.churn_secs
        ));
        let clusters = self.options.clusters as usize;
        let served = self.start(kind, clusters)?;
        let plan = Plan {
            slow,
            churn: Some((CHURN_RATE, self.options.churn_secs)),
            // The last cluster is the witnesses'.
            cycle: clusters - 1,
            ..Plan::new(Mode::Delta, streams, clusters)
        };
        self.load.run_with_witness(&served, &plan)
    }

    fn print(&self, figures: &[Figure], load_core: usize) {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let Options {
            streams,
            clusters,
            endpoints,
            rounds,
            changes,
            ..
        } = self.options;
        print!("{}", figures::table(figures));
        println!(
            "\n{streams} streams, each on its connection, {clusters} clusters with {endpoints} endpoints; \
             {rounds} rounds of {changes} changes, medians\n\
             host {}, {}; server on core {}, load on core {load_core}",
            host.trim(),
            cpu::model(),
            self.programs.core,
        );
    }
}
