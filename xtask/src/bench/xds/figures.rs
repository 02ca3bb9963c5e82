//! What is promised, beside what was measured.

use std::fmt::Write;

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::load::{Phase, Run};

/// Parts of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Cold start, changes, memory, reconnects, in both variants
    Streams,
    /// The cost of a change in a mesh of 2,000 clusters
    Flat,
    /// Changes while a fifth of the streams does not read
    Slow,
}

/// What a figure is divided by.
#[derive(Debug, Clone, Copy)]
enum Base {
    /// The limit's figure.
    Limit(f64),
    /// An earlier one of ours.
    Before(f64),
}

impl Base {
    fn value(self) -> f64 {
        match self {
            Self::Limit(value) | Self::Before(value) => value,
        }
    }
}

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Figure {
    what: String,
    unit: &'static str,
    ours: f64,
    /// What it is compared with, if with anything.
    base: Option<Base>,
    /// The limit's figure, for orientation, where it is compared with something else.
    limit: Option<f64>,
    most: f64,
}

impl Figure {
    /// What must not exceed [`Self::most`].
    fn judged(&self) -> f64 {
        let base = self.base.map(Base::value);
        base.map_or(self.ours, |base| self.ours / base)
    }

    fn is_kept(&self) -> bool {
        // Nothing measured is nothing kept.
        self.judged() <= self.most + 1e-9
    }
}

/// Runs of both servers in one variant.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'r> {
    pub ours: &'r [Run],
    pub limit: &'r [Run],
}

fn median<R>(runs: &[R], of: impl Fn(&R) -> f64) -> Result<f64> {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle).context("no run")?;
    Ok(match values.len() % 2 {
        1 => *upper,
        _ => (values[middle - 1] + upper) / 2.0,
    })
}

/// Against the limit, both as medians.
fn against(
    what: &str,
    unit: &'static str,
    most: f64,
    pair: Pair<'_>,
    of: impl Fn(&Run) -> f64,
) -> Result<Figure> {
    Ok(Figure {
        what: what.into(),
        unit,
        ours: median(pair.ours, &of)?,
        base: Some(Base::Limit(median(pair.limit, of)?)),
        limit: None,
        most,
    })
}

/// Ours against an earlier phase of the same runs; the limit's figure stands beside it.
fn against_before(
    what: &str,
    unit: &'static str,
    most: f64,
    pair: Pair<'_>,
    before: impl Fn(&Run) -> f64,
    after: impl Fn(&Run) -> f64,
) -> Result<Figure> {
    Ok(Figure {
        what: what.into(),
        unit,
        ours: median(pair.ours, &after)?,
        base: Some(Base::Before(median(pair.ours, before)?)),
        limit: Some(median(pair.limit, after)?),
        most,
    })
}

/// Cold start, changes, memory and reconnects.
pub fn of_streams(sotw: Pair<'_>, delta: Pair<'_>) -> Result<Vec<Figure>> {
    let cold = |run: &Run| run.cold.cpu_ms;
    let change = |run: &Run| run.change.cpu_ms;
    let mut all = vec![
        against("cold start, CPU per stream, SotW", "ms", 1.5, sotw, cold)?,
        against("cold start, CPU per stream, delta", "ms", 1.5, delta, cold)?,
        against("a change, CPU per stream, delta", "ms", 1.3, delta, change)?,
        against("a change, CPU per stream, SotW", "ms", 1.5, sotw, change)?,
        against("a change, p99 of arrival, delta", "ms", 1.3, delta, |run| {
            run.change.p99_ms
        })?,
    ];
    for (name, pair) in [("SotW", sotw), ("delta", delta)] {
        all.push(Figure {
            what: format!("memory per stream, {name}"),
            unit: "KiB",
            ours: median(pair.ours, |run| run.cold.kib)?,
            base: None,
            limit: Some(median(pair.limit, |run| run.cold.kib)?),
            most: 70.0,
        });
        let what = format!("memory after the changes / before, {name}");
        let memory = |phase: fn(&Run) -> &Phase| move |run: &Run| phase(run).memory_mib;
        let (before, after) = (memory(|run| &run.cold), memory(|run| &run.change));
        all.push(against_before(&what, "MiB", 1.1, pair, before, after)?);
        let what = format!("reconnect / cold start, CPU per stream, {name}");
        let again = |run: &Run| run.reconnect.cpu_ms;
        all.push(against_before(&what, "ms", 1.2, pair, cold, again)?);
        let lost = |run: &Run| (run.cold.lost + run.change.lost + run.reconnect.lost) as f64;
        all.push(none_lost(&format!("streams lost, {name}"), pair.ours, lost));
    }
    Ok(all)
}

fn none_lost<R>(what: &str, runs: &[R], lost: impl Fn(&R) -> f64) -> Figure {
    Figure {
        what: what.into(),
        unit: "",
        ours: runs.iter().map(lost).sum(),
        base: None,
        limit: None,
        most: 0.0,
    }
}

/// The cost of a change in a large mesh.
pub fn flatness(small: Pair<'_>, large: Pair<'_>, clusters: usize) -> Result<Figure> {
    let change = |run: &Run| run.change.cpu_ms;
    Ok(Figure {
        what: format!("a change with {clusters} clusters / fewer, CPU, delta"),
        unit: "ms",
        ours: median(large.ours, change)?,
        base: Some(Base::Before(median(small.ours, change)?)),
        limit: Some(median(large.limit, change)?),
        most: 1.2,
    })
}

/// A run, and what the witnesses saw meanwhile.
type Churned = (Run, Run);

/// Ours with every stream reading, ours with some that do not, and the limit with as many.
pub fn of_slow(reading: &[Churned], slow: &[Churned], limit: &[Churned]) -> Result<Vec<Figure>> {
    let peak = |runs: &[Churned]| median(runs, |(run, _)| run.churn.peak_mib);
    let before = |runs: &[Churned]| median(runs, |(run, _)| run.cold.memory_mib);
    let seen = |runs: &[Churned]| median(runs, |(_, seen)| seen.change.p99_ms);
    Ok(vec![
        Figure {
            what: "all reading, peak memory / before".into(),
            unit: "MiB",
            ours: peak(reading)?,
            base: Some(Base::Before(before(reading)?)),
            limit: None,
            most: 1.1,
        },
        Figure {
            what: "a fifth not reading, peak memory / before".into(),
            unit: "MiB",
            ours: peak(slow)?,
            base: Some(Base::Before(before(slow)?)),
            limit: Some(peak(limit)?),
            most: 1.1,
        },
        Figure {
            what: "a fifth not reading, p99 of the others / all reading".into(),
            unit: "ms",
            ours: seen(slow)?,
            base: Some(Base::Before(seen(reading)?)),
            limit: Some(seen(limit)?),
            most: 1.2,
        },
        none_lost(
            "a fifth not reading, streams not at the final state",
            slow,
            |(run, _)| run.churn.lost as f64,
        ),
    ])
}

/// As a person reads it.
pub fn table(figures: &[Figure]) -> String {
    let mut text = format!(
        "{:<56}{:>10}{:>10}{:>10}{:>8}{:>10}\n",
        "", "ours", "before", "limit", "ratio", "at most"
    );
    let cell = |value: Option<f64>| value.map_or_else(|| "-".into(), number);
    for figure in figures {
        let (before, limit) = match figure.base {
            Some(Base::Limit(limit)) => (None, Some(limit)),
            Some(Base::Before(before)) => (Some(before), figure.limit),
            None => (None, figure.limit),
        };
        let name = match figure.unit {
            "" => figure.what.clone(),
            unit => format!("{}, {unit}", figure.what),
        };
        let ratio = figure.base.map(|_| figure.judged());
        let verdict = if figure.is_kept() { "ok" } else { "NOT OK" };
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "{:<56}{:>10}{:>10}{:>10}{:>8}{:>10}  {verdict}",
            name,
            number(figure.ours),
            cell(before),
            cell(limit),
            ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}")),
            number(figure.most),
        );
    }
    text
}

fn number(value: f64) -> String {
    match value.abs() {
        small if small < 1.0 => format!("{value:.4}"),
        middle if middle < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(cold: f64, change: f64) -> Run {
        let phase = |cpu_ms| Phase {
            cpu_ms,
            p99_ms: 10.0,
            kib: 40.0,
            memory_mib: 100.0,
            ..Phase::default()
        };
        Run {
            cold: phase(cold),
            change: phase(change),
            churn: Phase::default(),
            reconnect: phase(cold),
        }
    }

    #[test]
    fn a_figure_is_kept_up_to_its_bound_and_not_beyond() {
        let ours = [run(0.2, 0.026), run(0.3, 0.02), run(0.2, 0.5)];
        let limit = [run(0.1, 0.02)];
        let pair = Pair {
            ours: &ours,
            limit: &limit,
        };
        let text = table(&of_streams(pair, pair).unwrap());
        let line = |words: &str| {
            let found = text.lines().find(|line| line.starts_with(words));
            found
                .unwrap_or_else(|| panic!("{words} is not in {text}"))
                .to_string()
        };
        assert!(
            line("cold start, CPU per stream, SotW").ends_with("NOT OK"),
            "{text}"
        );
        let change = line("a change, CPU per stream, delta");
        assert!(
            change.contains("1.30") && change.ends_with("  ok"),
            "{text}"
        );
        assert!(line("memory per stream, SotW").ends_with("  ok"), "{text}");
        assert!(line("streams lost, delta").ends_with("  ok"), "{text}");
    }

    #[test]
    fn what_was_not_measured_is_not_kept() {
        let none = Figure {
            what: String::new(),
            unit: "",
            ours: 0.0,
            base: Some(Base::Before(0.0)),
            limit: None,
            most: 1.0,
        };
        assert!(!none.is_kept());
    }
}
