//! `cargo xtask wasm`: the filter for wasm32, on any machine.
//!
//! Compiler and standard library must be of the same version, so the way without rustup's target uses Debian's compiler with
//! Debian's copy of the library's source, rather than mixing that source with rustup's compiler.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::{apt, progress::Progress, run, workspace::Workspace};

const TARGET: &str = "wasm32-unknown-unknown";
const PACKAGE: &str = "mumbai-mesh-filter";
const FILE: &str = "mumbai_mesh.wasm";
/// Bytes. Every worker of every sidecar loads the filter, so its size is a promise.
const SIZE_LIMIT: u64 = 400_000;
/// One release of Debian's compiler, its cargo, its library source, and a linker for wasm.
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld-19"];
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_LINKER: &str = "/usr/bin/wasm-ld-19";

/// The built filter.
pub struct Filter {
    /// Absolute.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
}

impl Filter {
    /// An error at the size limit or above.
    pub fn refuse_if_too_large(&self) -> Result<()> {
        match self.excess() {
            Some(message) => bail!(message),
            None => Ok(()),
        }
    }

    pub fn warn_if_too_large(&self, progress: &Progress) {
        if let Some(message) = self.excess() {
            progress.warn(message);
        }
    }

    fn excess(&self) -> Option<String> {
        (self.size >= SIZE_LIMIT).then(|| {
            format!(
                "{} has {} bytes; it must stay below {SIZE_LIMIT}",
                self.path.display(),
                self.size
            )
        })
    }
}

/// How the standard library for wasm32 is come by.
#[derive(Clone, Copy)]
enum Way {
    Installed,
    Added,
    Debian,
}

impl Way {
    fn sentence(self) -> &'static str {
        match self {
            Self::Installed => {
                "Building the filter with the installed wasm32-unknown-unknown target."
            }
            Self::Added => {
                "Building the filter with the wasm32-unknown-unknown target that rustup just added."
            }
            Self::Debian => {
                "Building the filter with Debian's compiler and standard library source, \
                 since the wasm32-unknown-unknown target is neither installed nor to be had from rustup."
            }
        }
    }
}

/// Builds `target/mumbai_mesh.wasm` unless its inputs are those it was built from.
pub fn build(workspace: &Workspace, progress: &Progress) -> Result<Filter> {
    let _lock = workspace.lock("wasm", progress)?;
    let path = workspace.target.join(FILE);
    let stamp = workspace.target.join("tools").join("wasm.stamp");
    let inputs = fingerprint(&workspace.root)?;
    if fs::read_to_string(&stamp)
        .ok()
        .is_some_and(|seen| output_stamp(&inputs, &path).is_ok_and(|now| now == seen))
    {
        let size = path.metadata()?.len();
        progress.step(format!(
            "The filter is up to date: its sources and compiler have not changed ({size} bytes)."
        ));
        return Ok(Filter { path, size });
    }
    let way = choose(progress)?;
    progress.step(way.sentence());
    let built = match way {
        Way::Installed | Way::Added => build_with_rustup(workspace),
        Way::Debian => build_with_debian(workspace, progress),
    }?;
    // Copied beside its place and renamed, so that an Envoy that reads it meanwhile sees the old or the new one, never half.
    let fresh = workspace.target.join(format!("{FILE}.new"));
    fs::copy(&built, &fresh).with_context(|| format!("cannot copy {}", built.display()))?;
    fs::rename(&fresh, &path)?;
    fs::write(&stamp, output_stamp(&inputs, &path)?)?;
    let size = path.metadata()?.len();
    progress.step(format!("The filter has {size} bytes (limit {SIZE_LIMIT})."));
    Ok(Filter { path, size })
}

fn choose(progress: &Progress) -> Result<Way> {
    if target_is_installed()? {
        return Ok(Way::Installed);
    }
    let forbidden = env::var_os("RUSTUP_AUTO_INSTALL").is_some_and(|value| value == "0");
    if forbidden || run::on_path("rustup").is_none() {
        return Ok(Way::Debian);
    }
    progress.step(format!("adding the target {TARGET} (rustup)"));
    match run::loud(Command::new("rustup").args(["target", "add", TARGET])) {
        Ok(()) if target_is_installed()? => Ok(Way::Added),
        Ok(()) => Ok(Way::Debian),
        Err(error) => {
            progress.warn(format!("{error:#}"));
            Ok(Way::Debian)
        }
    }
}

/// rustc names the folder even when it does not exist, so the library itself is looked for.
fn target_is_installed() -> Result<bool> {
    let folder =
        run::text(Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]))?;
    let Ok(entries) = fs::read_dir(folder.trim()) else {
        return Ok(false);
    };
    Ok(entries
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-")))
}

fn build_with_rustup(workspace: &Workspace) -> Result<PathBuf> {
    // A folder of its own: the native build's lock would make both wait for each other.
    let target = workspace.target.join("wasm");
    let mut cargo = run::cargo();
    forget_native_settings(&mut cargo);
    run::loud(build_arguments(&mut cargo, workspace, &target))
        .context("the filter does not build for wasm32")?;
    Ok(built_file(&target))
}

fn build_with_debian(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    apt::install(&DEBIAN_PACKAGES, "build the filter without rustup's wasm32 target", progress).with_context(|| {
        format!(
            "no way to build for wasm32: add the target with `rustup target add {TARGET}` where rustup may download, or use a \
             Debian release that has {}",
            DEBIAN_PACKAGES.join(", ")
        )
    })?;
    let target = workspace.target.join("wasm-apt");
    let mut cargo = Command::new(DEBIAN_CARGO);
    forget_native_settings(&mut cargo);
    // Left over from the rustup toolchain that runs us; with any of them the two toolchains mix.
    for name in [
        "RUSTUP_TOOLCHAIN",
        "RUSTUP_HOME",
        "CARGO",
        "LD_LIBRARY_PATH",
        "RUSTC_WRAPPER",
    ] {
        cargo.env_remove(name);
    }
    cargo
        .env("RUSTC", DEBIAN_RUSTC)
        .env("RUSTC_BOOTSTRAP", "1") // -Zbuild-std on a stable compiler
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", DEBIAN_LINKER);
    build_arguments(&mut cargo, workspace, &target).arg("-Zbuild-std=std,panic_abort");
    run::loud(&mut cargo).context("the filter does not build for wasm32 with Debian's compiler")?;
    Ok(built_file(&target))
}

/// Flags meant for this machine's processor are errors or nonsense for wasm.
fn forget_native_settings(cargo: &mut Command) {
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(name);
    }
}

fn build_arguments<'c>(
    cargo: &'c mut Command,
    workspace: &Workspace,
    target: &Path,
) -> &'c mut Command {
    cargo
        .current_dir(&workspace.root)
        .env("CARGO_TARGET_DIR", target)
        .args([
            "build",
            "--package",
            PACKAGE,
            "--target",
            TARGET,
            "--profile",
            "wasm",
        ])
}

fn built_file(target: &Path) -> PathBuf {
    target.join(TARGET).join("wasm").join(FILE)
}

/// What the file was built from, and the file itself, so that a replaced or damaged one is built again.
fn output_stamp(inputs: &str, path: &Path) -> Result<String> {
    Ok(format!(
        "inputs {inputs}\noutput {}\n",
        hex(&Sha256::digest(fs::read(path)?))
    ))
}

/// SHA-256 over everything the filter is built from.
fn fingerprint(root: &Path) -> Result<String> {
    let mut files = vec![
        root.join("Cargo.toml"),
        root.join("Cargo.lock"),
        root.join(".cargo/config.toml"),
    ];
    for folder in ["filter", "policy"] {
        collect(&root.join(folder), &mut files)?;
    }
    files.sort();
    let mut hash = Sha256::new();
    hash.update(run::text(Command::new("rustc").arg("-vV"))?);
    for file in files {
        let content = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        // Lengths keep one file's end from passing for the next one's beginning.
        let name = file.strip_prefix(root)?.to_string_lossy().into_owned();
        hash.update(format!("\0{name}\0{}\0", content.len()));
        hash.update(content);
    }
    Ok(hex(&hash.finalize()))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// Lower-case hexadecimal, as sha256sum prints it.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_itself_is_too_large() {
        let filter = |size| Filter {
            path: PathBuf::from("f.wasm"),
            size,
        };
        assert!(filter(SIZE_LIMIT - 1).refuse_if_too_large().is_ok());
        let refusal = filter(SIZE_LIMIT)
            .refuse_if_too_large()
            .unwrap_err()
            .to_string();
        assert_eq!(
            refusal,
            "f.wasm has 400000 bytes; it must stay below 400000"
        );
    }

    #[test]
    fn the_fingerprint_of_unchanged_sources_is_stable() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        assert_eq!(fingerprint(root).unwrap(), fingerprint(root).unwrap());
    }
}
