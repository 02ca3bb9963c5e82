//! `cargo xtask test`: every test there is, with everything the integration tests need in place.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::{artifacts, progress::Progress, run, workspace::Workspace};

/// The exit code is that of `cargo test`; 1 when it was ended by a signal.
pub fn run(workspace: &Workspace, progress: &Progress, args: &[String]) -> Result<ExitCode> {
    let artifacts = artifacts::all_with_tests(workspace, progress)?;
    progress.step("Running the tests.");
    let status = run::cargo()
        .current_dir(&workspace.root)
        .args(["test", "--workspace"])
        .args(args)
        .envs(artifacts.environment())
        .status()
        .context("cannot start cargo")?;
    progress.step(if status.success() {
        "All tests passed."
    } else {
        "Tests failed."
    });
    let code = status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1);
    Ok(ExitCode::from(code))
}
