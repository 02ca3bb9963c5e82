//! Where the sources and the artifacts are.

use std::{
    env,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{progress::Progress, run};

/// Absolute folders of this checkout.
pub struct Workspace {
    /// Holds the root Cargo.toml.
    pub root: PathBuf,
    /// cargo's target folder, as `CARGO_TARGET_DIR` or cargo's configuration says.
    pub target: PathBuf,
}

impl Workspace {
    pub fn find() -> Result<Self> {
        let manifest =
            env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&manifest)
            .parent()
            .context("xtask/ has no parent folder")?
            .canonicalize()?;
        let metadata = run::text(
            run::cargo()
                .args(["metadata", "--no-deps", "--format-version", "1"])
                .current_dir(&root),
        )?;
        let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
        let target = metadata["target_directory"]
            .as_str()
            .context("cargo metadata names no target_directory")?;
        Ok(Self {
            target: PathBuf::from(target),
            root,
        })
    }

    /// Holds `name` for this process until the guard is dropped, so that two commands started at once (a demo and a test
    /// run) do not build or fetch the same thing into each other's files.
    pub fn lock(&self, name: &str, progress: &Progress) -> Result<File> {
        let folder = self.target.join("tools");
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let path = folder.join(format!("{name}.lock"));
        let file =
            File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                progress.step(format!(
                    "waiting for another `cargo xtask` that works on {name}"
                ));
                file.lock()
                    .with_context(|| format!("cannot lock {}", path.display()))?;
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        Ok(file)
    }
}
