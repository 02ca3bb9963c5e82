//! Programs of Python that tests hold what we write against: pinned, fetched with pip, each with its libraries in one
//! folder.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{apt, progress::Progress, run, workspace::Workspace};

/// A program of Python. Nothing but wheels: a source package runs code of its own while it is installed. Its libraries
/// differ from one Python to the next, so they have no checksums here.
pub struct PythonTool {
    program: &'static str,
    module: &'static str,
    version: &'static str,
    /// Names another one to use.
    pub variable: &'static str,
}

/// Holds manifests against the schemas of Kubernetes; its version is the newest one that it knows.
pub const KUBERNETES_VALIDATE: PythonTool = PythonTool {
    program: "kubernetes-validate",
    module: "kubernetes_validate",
    version: "1.37.0",
    variable: "KUBERNETES_VALIDATE_BIN",
};

/// Says whether a document is OpenAPI.
pub const OPENAPI_VALIDATE: PythonTool = PythonTool {
    program: "openapi-spec-validator",
    module: "openapi_spec_validator",
    version: "0.9.0",
    variable: "OPENAPI_SPEC_VALIDATOR_BIN",
};

impl PythonTool {
    /// Absolute path: the variable's, or from the cache, or freshly fetched.
    pub fn find_or_fetch(&self, workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
        let Self {
            program,
            version,
            variable,
            ..
        } = self;
        if let Some(path) = env::var_os(variable).filter(|value| !value.is_empty()) {
            let path = PathBuf::from(path);
            let names = || format!("{variable} names {}", path.display());
            let path = path.canonicalize().with_context(names)?;
            let version = version_of(&path).with_context(names)?;
            progress.step(format!("Using {program} {version} that {variable} names."));
            return Ok(path);
        }
        let folder = workspace
            .target
            .join("tools")
            .join(format!("{program}-{version}"));
        let cached = folder.join(program);
        let _lock = workspace.lock(program, progress)?;
        // Python may have been replaced since by one that these libraries do not fit.
        if run::is_program(&cached) && version_of(&cached).is_ok() {
            progress.step(format!("{program} {version} is in the cache."));
            return Ok(cached);
        }
        self.fetch(&folder, progress)?;
        let version = version_of(&cached)?;
        progress.step(format!("{program} {version} fetched."));
        Ok(cached)
    }

    fn fetch(&self, folder: &Path, progress: &Progress) -> Result<()> {
        let Self {
            program,
            module,
            version,
            variable,
        } = self;
        let pip = run::quiet(Command::new("python3").args(["-m", "pip", "--version"]));
        if !pip.is_ok_and(|output| output.status.success()) {
            let purpose =
                format!("fetch {program}; or install it yourself and name it in {variable}");
            apt::install(&["python3", "python3-pip"], &purpose, progress)?;
        }
        progress.step(format!("Fetching {program} {version} (pip)."));
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
                .arg(format!("{program}=={version}"))
                .env_remove("PIP_REQUIRE_VIRTUALENV"),
        )
        .with_context(|| {
            format!(
                "cannot fetch {program}; with one installed by other means, name it in {variable}"
            )
        })?;
        let script = format!(
            "#!/bin/sh\nPYTHONPATH='{}' exec python3 -m {module} \"$@\"\n",
            libraries.display()
        );
        use std::os::unix::fs::PermissionsExt;
        let cached = folder.join(program);
        // Last: what is there is complete.
        fs::write(&cached, script)?;
        fs::set_permissions(&cached, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }
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
