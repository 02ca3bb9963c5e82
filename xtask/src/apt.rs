//! Debian packages that a step cannot do without.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::{progress::Progress, run};

/// Installs those of `packages` that are missing; nothing is asked of the network when none is.
///
/// `purpose` completes "to …" in what the person reads. Fails where there is no apt-get, and where neither root nor sudo is to
/// be had, naming what to install by hand.
pub fn install(packages: &[&str], purpose: &str, progress: &Progress) -> Result<()> {
    if run::on_path("apt-get").is_none() {
        bail!(
            "this machine has no apt-get to install {} with, needed to {purpose}",
            packages.join(" ")
        );
    }
    let missing: Vec<&str> = packages
        .iter()
        .copied()
        .filter(|package| !is_installed(package))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    progress.step(format!(
        "installing {} (apt-get) to {purpose}",
        missing.join(" ")
    ));
    let by_hand = || format!("to {purpose}: apt-get install {}", missing.join(" "));
    run::silent(apt_get()?.args(["update", "-qq"])).with_context(by_hand)?;
    run::loud(
        apt_get()?
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(&missing),
    )
    .with_context(by_hand)
}

fn is_installed(package: &str) -> bool {
    run::text(Command::new("dpkg-query").args(["-W", "-f=${db:Status-Status}", package]))
        .is_ok_and(|status| status.trim() == "installed")
}

fn apt_get() -> Result<Command> {
    let is_root = run::text(Command::new("id").arg("-u"))?.trim() == "0";
    let mut command = if is_root {
        let mut command = Command::new("env");
        command.arg("DEBIAN_FRONTEND=noninteractive");
        command
    } else if run::on_path("sudo").is_some() {
        let mut command = Command::new("sudo");
        command.args(["env", "DEBIAN_FRONTEND=noninteractive"]);
        command
    } else {
        bail!("installing packages needs root or sudo");
    };
    command.args(["apt-get", "-o", "DPkg::Lock::Timeout=300"]);
    Ok(command)
}

/// Unpacks the newest version of a package into a folder, without what it depends on, and without installing anything.
pub fn unpack(package: &str, folder: &Path, purpose: &str, progress: &Progress) -> Result<()> {
    let by_hand = || format!("to {purpose}: apt-get install {package}");
    for program in ["apt-get", "dpkg-deb"] {
        if run::on_path(program).is_none() {
            bail!("this machine has no {program}, needed to {purpose}");
        }
    }
    let download = || {
        // Its user for downloads may not be let into the folder; then it says so and goes on as who we are.
        run::silent(Command::new("apt-get").current_dir(folder).args([
            "-qq",
            "-o",
            "APT::Sandbox::User=root",
            "download",
            package,
        ]))
    };
    if download().is_err() {
        progress.step("apt-get knows no such package yet: updating its lists.");
        run::silent(apt_get()?.args(["update", "-qq"])).with_context(by_hand)?;
        download().with_context(by_hand)?;
    }
    let mut archives = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "deb") {
            archives.push(path);
        }
    }
    let [archive] = archives.as_slice() else {
        bail!("apt-get put no single package into {}", folder.display());
    };
    run::loud(Command::new("dpkg-deb").arg("-x").arg(archive).arg(folder))?;
    fs::remove_file(archive)?;
    Ok(())
}
