//! A stock Prometheus with promtool, from Debian's or Ubuntu's package: unpacked, not installed, nothing is started.

use std::{fs, path::PathBuf};

use anyhow::Result;

use crate::{apt, progress::Progress, run, workspace::Workspace};

const PACKAGE: &str = "prometheus";
pub const PROGRAMS: [&str; 2] = ["prometheus", "promtool"];

/// The folder that holds both programs.
pub fn find_or_fetch(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    let folder = workspace.target.join("tools").join(PACKAGE);
    let _lock = workspace.lock(PACKAGE, progress)?;
    if PROGRAMS
        .iter()
        .all(|program| run::is_program(&folder.join(program)))
    {
        return Ok(folder);
    }
    progress.step(format!("Fetching Prometheus (apt, package {PACKAGE})."));
    let download = folder.with_extension("download");
    let _ = fs::remove_dir_all(&download);
    fs::create_dir_all(&download)?;
    apt::unpack(PACKAGE, &download, "fetch Prometheus", progress)?;
    fs::create_dir_all(&folder)?;
    for program in PROGRAMS {
        fs::rename(download.join("usr/bin").join(program), folder.join(program))?;
    }
    fs::remove_dir_all(&download)?;
    Ok(folder)
}
