//! How long the filter takes for the configuration of a large mesh.

use anyhow::{Context, Result, ensure};

use super::{filter::Bench, rows::Row};
use crate::artifacts::Artifacts;

/// What the filter says to who asks Envoy for its debug log.
const SAYS: &str = "configuration of 1000 services taken in ";
const ENVOYS: usize = 5;

/// Starts Envoys with it and prints what each of their VMs took.
pub fn measure(bench: &Bench<'_>, row: &Row, built: &Artifacts, upstream: u16) -> Result<()> {
    let mut took = Vec::new();
    for envoy in 1..=ENVOYS {
        let step = format!("A large configuration, {envoy} of {ENVOYS}.");
        bench.progress.step(step);
        took.extend(start(bench, row, built, upstream)?);
    }
    ensure!(!took.is_empty(), "no VM told how long it took");
    took.sort_by(f64::total_cmp);
    println!(
        "\nConfiguration of 1,000 services and 100 windows: {:.1} ms, at most {:.1} ms, in {} VMs",
        took[took.len() / 2],
        took[took.len() - 1],
        took.len(),
    );
    Ok(())
}

/// Milliseconds by VM: of the main thread and of the worker.
fn start(bench: &Bench<'_>, row: &Row, built: &Artifacts, upstream: u16) -> Result<Vec<f64>> {
    let log = bench.start(row, built, upstream, "debug")?.envoy.log();
    let said = log.lines().filter_map(|line| line.split_once(SAYS));
    let micros = said.map(|(_, took)| {
        let number = took.split(' ').next().context("no number")?;
        Ok(number.parse::<f64>()? / 1_000.0)
    });
    micros.collect()
}
