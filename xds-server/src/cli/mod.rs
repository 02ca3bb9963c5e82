//! The command line. Exit codes: 0 done, 1 failed, 64 wrong usage, 65 bad data, 79 findings.

mod admin;
mod analyze;
mod bootstrap;
mod calendar;
mod certs;
mod completion;
mod explain;
mod history;
mod output;
mod proxy;
mod remote;
mod schema;
mod serve;

use std::{ffi::OsString, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use policy::time::parse_duration;

use crate::{
    app::{BadMesh, NotLoopback},
    explain::QuestionError,
    pki,
};

const USAGE: u8 = 64;
const BAD_DATA: u8 = 65;
const FINDINGS: u8 = 79;

/// Calendar-aware traffic control for stock Envoy.
#[derive(Debug, Parser)]
#[command(name = "mumbai-mesh", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Analyze(analyze::Analyze),
    Bootstrap(bootstrap::Bootstrap),
    Calendar(calendar::Calendar),
    Completion(completion::Completion),
    Explain(explain::Explain),
    History(history::History),
    Proxy(proxy::Proxy),
    Certs(certs::Certs),
    Schema(schema::Schema),
}

/// A command line that cannot be carried out as it stands.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

/// Data that cannot be used: a mesh file with problems, which have been told already.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct BadData(String);

/// Errors or warnings of `analyze`, which have been told already.
#[derive(Debug, thiserror::Error)]
#[error("errors or warnings were found")]
struct Findings;

/// Life of a certificate.
fn from_five_seconds(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text).map_err(|error| error.to_string())?;
    if (Duration::from_secs(5)..=pki::days(pki::DAYS_MAX)).contains(&duration) {
        Ok(duration)
    } else {
        Err("from 5s to 36500 days".into())
    }
}

/// Runs the process's own command line.
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; a closed pipe is nothing to report about.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let result = match cli.command {
        Command::Serve(serve) => serve.run(),
        Command::Analyze(analyze) => analyze.run(),
        Command::Completion(completion) => completion.run(),
        Command::Bootstrap(bootstrap) => bootstrap.run(),
        Command::Calendar(calendar) => calendar.run(),
        Command::Explain(explain) => explain.run(),
        Command::History(history) => history.run(),
        Command::Proxy(proxy) => proxy.run(),
        Command::Certs(certs) => certs.run(),
        Command::Schema(schema) => schema.run(),
    };
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    if error.is::<Findings>() {
        return ExitCode::from(FINDINGS);
    }
    eprintln!("mumbai-mesh: {error:#}");
    if error.is::<UsageError>() || error.is::<QuestionError>() || error.is::<NotLoopback>() {
        ExitCode::from(USAGE)
    } else if error.is::<BadData>() || error.is::<BadMesh>() {
        ExitCode::from(BAD_DATA)
    } else {
        ExitCode::FAILURE
    }
}
