//! Running other programs: their chatter goes to stderr, since our stdout is the result.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, bail};

/// Runs to the end with stdout sent to our stderr. Errors name the command line and its exit.
pub fn loud(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", line(command));
    }
    Ok(())
}

/// Runs to the end; what it printed is shown only as part of the error.
pub fn silent(command: &mut Command) -> Result<()> {
    let output = quiet(command)?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!(
            "`{}` failed ({}):\n{}",
            line(command),
            output.status,
            String::from_utf8_lossy(&said).trim()
        );
    }
    Ok(())
}

/// Runs to the end and returns its stdout as text; stderr becomes part of the error.
pub fn text(command: &mut Command) -> Result<String> {
    let output = quiet(command)?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{}` failed ({}): {}",
            line(command),
            output.status,
            reason.trim()
        );
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` printed something that is not UTF-8", line(command)))
}

/// Runs to the end, whatever its exit code.
pub fn quiet(command: &mut Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", line(command)))
}

/// The first file of that name in a folder of `PATH`.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| is_program(file))
}

/// A regular file (or a link to one) that somebody may execute.
pub fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The cargo that runs us, so that a `cargo +toolchain xtask` stays on its toolchain.
///
/// It does not learn what cargo told us of our own package: ring's build looks at that, and everything with
/// TLS would be built anew each time that a cargo of ours follows one of the user's, or the reverse.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}

fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    words.join(" ")
}
