//! `cargo xtask etcd`: a stock etcd, the store that several servers share, for tests. No Python package holds it, so it
//! comes from Debian's or Ubuntu's package, unpacked and not installed: nothing is started, and root is not needed.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{apt, progress::Progress, run, workspace::Workspace};

/// Names another one to use.
pub const VARIABLE: &str = "ETCD_BIN";
const PACKAGE: &str = "etcd-server";
/// What the store is made for: this one, and whatever keeps its API.
const OLDEST: (u32, u32) = (3, 4);

/// Absolute path: the variable's, or one from `PATH`, or from the cache, or freshly fetched.
pub fn find_or_fetch(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    if let Some(path) = env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        let path = PathBuf::from(path);
        let names = || format!("{VARIABLE} names {}", path.display());
        let path = path.canonicalize().with_context(names)?;
        let version = checked(&path).with_context(names)?;
        progress.step(format!("Using etcd {version} that {VARIABLE} names."));
        return Ok(path);
    }
    if let Some(path) = run::on_path("etcd").and_then(|path| path.canonicalize().ok()) {
        match checked(&path) {
            Ok(version) => {
                progress.step(format!("Using etcd {version} from PATH."));
                return Ok(path);
            }
            Err(error) => progress.warn(format!("{error:#}: left alone")),
        }
    }
    let folder = workspace.target.join("tools").join("etcd");
    let cached = folder.join("etcd");
    let _lock = workspace.lock("etcd", progress)?;
    if run::is_program(&cached) {
        progress.step("etcd is in the cache.");
        return Ok(cached);
    }
    progress.step(format!("Fetching etcd (apt, package {PACKAGE})."));
    let download = folder.with_extension("download");
    let _ = fs::remove_dir_all(&download);
    fs::create_dir_all(&download)?;
    let purpose = format!("fetch etcd; or install one and name it in {VARIABLE}");
    apt::unpack(PACKAGE, &download, &purpose, progress)?;
    fs::create_dir_all(&folder)?;
    let unpacked = download.join("usr/bin/etcd");
    let version = checked(&unpacked)?;
    fs::rename(&unpacked, &cached)?;
    fs::remove_dir_all(&download)?;
    progress.step(format!("etcd {version} fetched."));
    Ok(cached)
}

/// Its version, if it is one that will do.
fn checked(program: &Path) -> Result<String> {
    let said = run::text(Command::new(program).arg("--version"))?;
    let version = read_version(&said)
        .with_context(|| format!("{} --version printed {said:?}", program.display()))?;
    let numbers: Vec<u32> = version
        .split('.')
        .filter_map(|number| number.parse().ok())
        .collect();
    match *numbers.as_slice() {
        [major, minor, ..] if (major, minor) >= OLDEST => Ok(version),
        _ => bail!("{} is etcd {version}, older than 3.4", program.display()),
    }
}

/// From `etcd Version: 3.4.23`, the first of several lines.
fn read_version(said: &str) -> Option<String> {
    let line = said.lines().next()?;
    let version = line.strip_prefix("etcd Version: ")?.trim();
    Some(version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_etcd_prints() {
        let said = "etcd Version: 3.4.23\nGit SHA: Not provided\nGo Version: go1.19.5\n";
        assert_eq!(read_version(said).as_deref(), Some("3.4.23"));
        assert_eq!(read_version("etcdctl version: 3.4.23"), None);
    }
}
