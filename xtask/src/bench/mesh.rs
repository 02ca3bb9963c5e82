//! `cargo xtask bench mesh`: what meshes of growing size cost the server.

use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use super::cpu;
use crate::{progress::Progress, run, workspace::Workspace};

/// What a person may choose.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Sizes of the mesh, in services of ten endpoints
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1_000, 5_000])]
    services: Vec<u32>,
    /// Nodes that the server knows: a gateway, and sidecars of the services in turn
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    nodes: u32,
}

/// Builds the benchmark in release and prints a line for each size.
pub fn run(workspace: &Workspace, progress: &Progress, options: &Options) -> Result<()> {
    println!(
        "{:>8} {:>10} {:>12} {:>12} {:>12} {:>14} {:>10}",
        "services", "read", "compile", "endpoint", "weight", "anew / endp.", "memory"
    );
    for services in &options.services {
        progress.step(format!("{services} services, {} nodes.", options.nodes));
        let mut bench = run::cargo();
        bench
            .current_dir(&workspace.root)
            .args([
                "bench",
                "--quiet",
                "--package",
                "mumbai-mesh",
                "--bench",
                "mesh",
                "--",
            ])
            .args([services.to_string(), options.nodes.to_string()]);
        print_row(&mut bench)?;
    }
    println!(
        "\nread: parse and validate the file; compile: views of {} nodes; endpoint, weight: all views after one \
         change, median of 20;\nanew / endp.: one node's resources by one who keeps nothing, in multiples of \
         `endpoint`; memory: resident, all views held\n{}",
        options.nodes,
        cpu::model()
    );
    Ok(())
}

fn print_row(bench: &mut Command) -> Result<()> {
    let said = run::text(bench)?;
    let numbers: Vec<f64> = said
        .split_whitespace()
        .map(|number| number.parse().context("no number of the benchmark"))
        .collect::<Result<_>>()?;
    let [services, read, compile, endpoint, weight, anew, kib] = numbers[..] else {
        anyhow::bail!("not what the benchmark says: {said:?}");
    };
    println!(
        "{services:>8} {read:>7.1} ms {compile:>9.1} ms {endpoint:>9.2} ms {weight:>9.2} ms {:>13.1}x {:>6.0} MiB",
        anew / endpoint,
        kib / 1_024.0
    );
    Ok(())
}
