//! The command line. Exit codes: 0 done, 1 failed, 2 changes, 64 wrong usage, 65 bad data, 79 findings.

mod admin;
mod analyze;
mod apply;
mod backup;
mod bootstrap;
mod calendar;
mod canary;
mod certs;
mod change;
mod check;
mod completion;
mod diff;
mod explain;
mod export;
mod history;
mod instance;
mod openapi;
mod output;
mod overrides;
mod plan;
mod proxy;
mod register;
mod remote;
mod restore;
mod rollback;
mod schema;
mod serve;
mod store;
mod token;

use std::{ffi::OsString, path::Path, process::ExitCode, sync::Arc, time::Duration};

use clap::{Parser, Subcommand};
use policy::time::{CivilZone, parse_duration};

use crate::{
    api::TooOpen,
    app::{BadMesh, NotLoopback},
    explain::QuestionError,
    mesh,
    pki::{self, Passphrase},
    settings,
};

const CHANGES: u8 = 2;
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
    Apply(apply::Apply),
    Backup(backup::Backup),
    Bootstrap(bootstrap::Bootstrap),
    Calendar(calendar::Calendar),
    Canary(canary::Canary),
    Completion(completion::Completion),
    Diff(diff::Diff),
    Explain(explain::Explain),
    Export(export::Export),
    History(history::History),
    Instance(instance::Instance),
    #[command(name = "openapi")]
    OpenApi(openapi::OpenApi),
    Override(overrides::Override),
    Plan(plan::Plan),
    Proxy(proxy::Proxy),
    Register(register::Register),
    Rollback(rollback::Rollback),
    Certs(certs::Certs),
    Check(check::Check),
    Restore(restore::Restore),
    Schema(schema::Schema),
    Store(store::StoreCommand),
    Token(token::Token),
}

/// A command line that cannot be carried out as it stands.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

/// Data that cannot be used: a mesh file with problems, which have been told already.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct BadData(String);

/// Errors or warnings of `analyze` or `check`, which have been told already.
#[derive(Debug, thiserror::Error)]
#[error("errors or warnings were found")]
struct Findings;

/// What `plan` found, which has been told already.
#[derive(Debug, thiserror::Error)]
#[error("there are changes")]
struct Changes;

/// How an application ended that ran below this program.
#[derive(Debug, thiserror::Error)]
#[error("the application ended with {0}")]
struct Ended(u8);

/// Life of a certificate.
fn from_five_seconds(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text).map_err(|error| error.to_string())?;
    if (Duration::from_secs(5)..=pki::days(pki::DAYS_MAX)).contains(&duration) {
        Ok(duration)
    } else {
        Err("from 5s to 36500 days".into())
    }
}

/// What an authority's keys are sealed with.
fn passphrase(file: Option<&Path>) -> Result<Option<Arc<Passphrase>>, UsageError> {
    let read = |file| passphrase_of("--ca-passphrase-file", file).map(Arc::new);
    file.map(read).transpose()
}

/// What the file holds that a flag names.
fn passphrase_of(flag: &str, file: &Path) -> Result<Passphrase, UsageError> {
    Passphrase::read(file).map_err(|error| UsageError(format!("{flag} {error}")))
}

/// The zone of a mesh that names none: in it instants are told where no mesh is asked.
fn zone() -> CivilZone {
    let empty = mesh::empty(&settings::defaults());
    empty.map_or_else(|_| CivilZone::utc(), |mesh| mesh.timetable.zone().clone())
}

/// What is meant by `--wait 5s`, since a time for it may be left out.
fn meant(arguments: &[OsString]) -> Option<String> {
    let mut pairs = arguments.windows(2);
    let time = pairs.find_map(|pair| match pair {
        [flag, time] if flag == "--wait" => time.to_str(),
        _ => None,
    })?;
    parse_duration(time).ok()?;
    Some(format!("a time for --wait is said with =: --wait={time}"))
}

/// Runs the process's own command line.
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; a closed pipe is nothing to report about.
            let _ = error.print();
            if let Some(meant) = meant(&arguments).filter(|_| error.use_stderr()) {
                eprintln!("\n{meant}");
            }
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
        Command::Apply(apply) => apply.run(),
        Command::Canary(canary) => canary.run(),
        Command::Override(overrides) => overrides.run(),
        Command::Diff(diff) => diff.run(),
        Command::Rollback(rollback) => rollback.run(),
        Command::Completion(completion) => completion.run(),
        Command::Backup(backup) => backup.run(),
        Command::Bootstrap(bootstrap) => bootstrap.run(),
        Command::Calendar(calendar) => calendar.run(),
        Command::Explain(explain) => explain.run(),
        Command::Export(export) => export.run(),
        Command::History(history) => history.run(),
        Command::Instance(instance) => instance.run(),
        Command::OpenApi(openapi) => openapi.run(),
        Command::Plan(plan) => plan.run(),
        Command::Proxy(proxy) => proxy.run(),
        Command::Register(register) => register.run(),
        Command::Certs(certs) => certs.run(),
        Command::Check(check) => check.run(),
        Command::Restore(restore) => restore.run(),
        Command::Schema(schema) => schema.run(),
        Command::Store(store) => store.run(),
        Command::Token(token) => token.run(),
    };
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    if error.is::<Findings>() {
        return ExitCode::from(FINDINGS);
    }
    if error.is::<Changes>() {
        return ExitCode::from(CHANGES);
    }
    if let Some(Ended(code)) = error.downcast_ref() {
        return ExitCode::from(*code);
    }
    eprintln!("mumbai-mesh: {error:#}");
    let is_usage = error.is::<UsageError>()
        || error.is::<QuestionError>()
        || error.is::<NotLoopback>()
        || error.is::<TooOpen>();
    if is_usage {
        ExitCode::from(USAGE)
    } else if error.is::<BadData>() || error.is::<BadMesh>() {
        ExitCode::from(BAD_DATA)
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_writes_a_time_beside_wait_is_told_what_is_meant() {
        let told = |line: &str| {
            let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            meant(&arguments)
        };
        assert_eq!(
            told("mumbai-mesh apply a.yaml --wait 5s").unwrap(),
            "a time for --wait is said with =: --wait=5s"
        );
        for good in [
            "apply --wait a.yaml",
            "apply a.yaml --wait",
            "apply --wait=5s",
        ] {
            assert_eq!(told(good), None, "{good}");
        }
        let refused = Cli::try_parse_from(["mumbai-mesh", "apply", "a.yaml", "--wait", "5s"]);
        assert!(refused.is_err(), "the hint is of no use");
    }
}
