//! `mumbai-mesh calendar`.

mod table;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use policy::time::parse_instant;
use serde_json::Value;

use super::{
    UsageError,
    bootstrap::mesh,
    output::{Output, show},
    remote::Credentials,
};
use crate::{
    calendar::{self, MonthOf},
    clock,
    mesh::Mesh,
    settings::ConfigPath,
};

/// What the mesh's calendar brings, and when: peak hours, festivals, holidays, ramps of canaries.
///
/// Times are those of the mesh's own zone, each with its offset.
#[derive(Debug, Args)]
pub(super) struct Calendar {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Next(Next),
    Show(Show),
}

/// List what changes next: windows and festivals that begin or end, steps of ramps, and freezes in which
/// a ramp stands still.
///
/// Every proxy changes at the second shown, by itself: nothing is pushed then, and no server is needed.
/// STATE is what holds from then on for an Envoy without a zone; a window `for zone Z` is for Envoys of Z.
/// Exit codes: 0 told, 1 no answer from the server, 64 wrong usage, 65 the file cannot be used.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mumbai-mesh calendar next --config mesh.yaml\n  \
                  mumbai-mesh calendar next --config mesh.yaml --at 2026-11-07T12:00+05:30 --count 5\n  \
                  mumbai-mesh calendar next --server http://127.0.0.1:8088 -o json | jq -r '.changes[0].at'"
)]
struct Next {
    #[command(flatten)]
    source: Source,
    /// From when on: RFC 3339 with an offset, seconds optional [default: now].
    #[arg(long, value_name = "RFC3339")]
    at: Option<String>,
    /// How many changes, 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = calendar::COUNT)]
    count: usize,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Show a month, day by day: windows that start on it, festivals, holidays, and whether business is done.
///
/// A window that wraps midnight belongs to the day on which it starts. `last-business-day` and `except:
/// holidays` go by the days that are marked here.
/// Exit codes: 0 told, 1 no answer from the server, 64 wrong usage, 65 the file cannot be used.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mumbai-mesh calendar show --config mesh.yaml --month 2026-11\n  \
                  mumbai-mesh calendar show --config mesh.yaml --month 2026-11 -o json | \\\n      \
                  jq -r '.days[] | select(.festivals != []) | .date'"
)]
struct Show {
    #[command(flatten)]
    source: Source,
    /// Which month, such as 2026-11 [default: this one].
    #[arg(long, value_name = "YYYY-MM")]
    month: Option<String>,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Whose calendar it is.
#[derive(Debug, Args)]
struct Source {
    /// Read this mesh file, or a folder of them [default: MESH_CONFIG_PATH, else /etc/mesh/config].
    #[arg(long, value_name = "FILE", conflicts_with = "server")]
    config: Option<PathBuf>,
    /// Ask this running server.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    #[command(flatten)]
    credentials: Credentials,
}

impl Calendar {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Next(next) => next.run(),
            Command::Show(show) => show.run(),
        }
    }
}

impl Next {
    fn run(self) -> anyhow::Result<()> {
        // Wrong usage is told before anybody is asked.
        let count = calendar::count(Some(self.count)).map_err(|error| usage(&error))?;
        let at = self.at.as_deref().map(parse_instant).transpose();
        let at = at.map_err(|error| UsageError(format!("at: {error}")))?;
        let query = [("at", self.at.clone()), ("count", Some(count.to_string()))];
        let answer = self.source.ask("/api/v1/calendar/next", query, |mesh| {
            let at = at.unwrap_or_else(clock::now);
            serde_json::to_value(calendar::outlook(mesh, at, count))
        })?;
        show(&answer, self.output, table::outlook)
    }
}

impl Show {
    fn run(self) -> anyhow::Result<()> {
        let month = self.month.as_deref().map(MonthOf::parse).transpose();
        let month = month.map_err(|error| usage(&error))?;
        let query = [("month", self.month.clone())];
        let answer = self.source.ask("/api/v1/calendar/month", query, |mesh| {
            let month = month.unwrap_or_else(|| MonthOf::at(mesh, clock::now()));
            serde_json::to_value(calendar::month(mesh, month))
        })?;
        show(&answer, self.output, table::month)
    }
}

impl Source {
    /// Asks the server, else the mesh that is read here.
    fn ask<const N: usize>(
        &self,
        path: &str,
        query: [(&str, Option<String>); N],
        here: impl FnOnce(&Mesh) -> serde_json::Result<Value>,
    ) -> anyhow::Result<Value> {
        let Some(server) = &self.server else {
            let config = ConfigPath::choose(self.config.clone());
            return Ok(here(&mesh(config.path())?)?);
        };
        let given = query.into_iter();
        let given: Vec<(&str, String)> = given
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        let answer = self.credentials.get(server, path, &given)?;
        serde_json::from_slice(&answer).context("the server's answer")
    }
}

fn usage(error: &calendar::CalendarError) -> UsageError {
    UsageError(error.to_string())
}
