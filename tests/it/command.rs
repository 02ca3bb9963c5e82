//! `mumbai-mesh` as a person calls it.

use std::process::Command;

use anyhow::Result;
use harness::artifacts::Artifacts;

/// Exit code, standard output and standard error of a command with these arguments.
pub fn run(command: &[&str], arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    let output = Command::new(Artifacts::from_env()?.server)
        .args(command)
        .args(arguments)
        .output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    ))
}
