//! `cargo xtask bench filter --memory`: whether an Envoy grows with the requests that it serves.

use std::fs;

use anyhow::{Context, Result};

use super::{
    filter::Bench,
    rows::{self, Row},
};
use crate::artifacts::Artifacts;

const PART: u64 = 100_000;
const PARTS: u64 = 10;
/// A part takes ten on a slow machine.
const SECONDS_MAX: f64 = 600.0;

/// Prints the memory after each hundred thousand of a million requests, the first for warm-up.
pub fn watch(bench: &mut Bench<'_>, rows: &[Row], built: &Artifacts, upstream: u16) -> Result<()> {
    let chosen = |row: &&Row| row.id == rows::FILTER;
    let row = rows.iter().find(chosen).context("no row of the filter")?;
    let mut proxy = bench.start(row, built, upstream, "info")?;
    println!("Resident memory of an Envoy with the filter and one worker\n");
    let (mut served, mut warm) = (0, None);
    for part in 1..=PARTS {
        bench.progress.step(format!("Part {part} of {PARTS}."));
        served += bench.load(&mut proxy, SECONDS_MAX, PART)?.1;
        let now = resident(proxy.envoy.process().pid())?;
        let since = now.cast_signed() - warm.get_or_insert(now).cast_signed();
        println!("{served:>9} requests {now:>9} KiB {since:>+7}");
    }
    Ok(())
}

/// In KiB.
fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("no VmRSS")?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_memory() {
        assert!(resident(std::process::id()).unwrap() > 0);
    }
}
