//! `cargo xtask test`: every test there is, with everything the integration tests need in place.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    process::{ExitCode, Stdio},
};

use anyhow::{Context, Result};

use crate::{
    artifacts, etcd,
    grpcurl::GRPCURL,
    progress::Progress,
    python::{KUBERNETES_VALIDATE, OPENAPI_VALIDATE},
    rotel::ROTEL,
    run,
    workspace::Workspace,
};

/// The exit code is that of `cargo test`; 1 when it was ended by a signal.
pub fn run(workspace: &Workspace, progress: &Progress, args: &[String]) -> Result<ExitCode> {
    let artifacts = artifacts::all_with_tests(workspace, progress)?;
    let grpcurl = GRPCURL.find_or_fetch(workspace, progress)?;
    let rotel = ROTEL.find_or_fetch(workspace, progress)?;
    let etcd = etcd::find_or_fetch(workspace, progress)?;
    let kubernetes = KUBERNETES_VALIDATE.find_or_fetch(workspace, progress)?;
    let openapi = OPENAPI_VALIDATE.find_or_fetch(workspace, progress)?;
    progress.step("Running the tests.");
    let mut cargo = run::cargo();
    cargo
        .current_dir(&workspace.root)
        .args(["test", "--workspace"])
        .args(args)
        .envs(artifacts.environment())
        .env(GRPCURL.variable, &grpcurl)
        .env(ROTEL.variable, &rotel)
        .env(etcd::VARIABLE, &etcd)
        .env(KUBERNETES_VALIDATE.variable, &kubernetes)
        .env(OPENAPI_VALIDATE.variable, &openapi);
    let mut tests = cargo
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let output = tests
        .stdout
        .take()
        .context("cargo's output is not ours to read")?;
    let total = show_and_count(output, &mut io::stdout().lock())?;
    let status = tests.wait()?;
    progress.step(if status.success() {
        "The tests passed."
    } else {
        "The tests failed."
    });
    // Each test program reports for itself; this is the sum.
    println!(
        "{} passed, {} failed, {} skipped",
        total.passed, total.failed, total.ignored
    );
    let code = status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1);
    Ok(ExitCode::from(code))
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Total {
    passed: u64,
    failed: u64,
    ignored: u64,
}

/// Passes the output on as it comes, line by line, and adds up the results in it.
fn show_and_count(output: impl Read, shown: &mut impl Write) -> io::Result<Total> {
    let mut total = Total::default();
    let mut reader = BufReader::new(output);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        shown.write_all(&line)?;
        shown.flush()?;
        count(&String::from_utf8_lossy(&line), &mut total);
        line.clear();
    }
    Ok(total)
}

/// `test result: ok. 24 passed; 0 failed; 1 ignored; …`
fn count(line: &str, total: &mut Total) {
    let Some(result) = line.strip_prefix("test result: ") else {
        return;
    };
    for part in result.split(['.', ';']) {
        let Some((number, what)) = part.trim().split_once(' ') else {
            continue;
        };
        let Ok(number) = number.parse::<u64>() else {
            continue;
        };
        match what {
            "passed" => total.passed += number,
            "failed" => total.failed += number,
            "ignored" => total.ignored += number,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_programs_are_added_up_and_shown_unchanged() {
        let output = b"running 2 tests\ntest result: ok. 24 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.05s\n\
                       \xff\ntest result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 3 filtered out; finished in 1.20s";
        let mut shown = Vec::new();
        let total = show_and_count(&output[..], &mut shown).unwrap();
        assert_eq!(
            total,
            Total {
                passed: 25,
                failed: 2,
                ignored: 1
            }
        );
        assert_eq!(shown, output);
    }
}
