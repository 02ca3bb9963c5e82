//! A real `mumbai-mesh serve`.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{artifacts::Artifacts, clock::Clock, http::Client, process::Process};

const READY: Duration = Duration::from_secs(60);

/// How a server is run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'c> {
    /// The clock that it follows.
    pub clock: Option<&'c Clock>,
    /// 0 is any free port.
    pub xds_port: u16,
    /// 0 is any free port.
    pub api_port: u16,
    /// What `--config` names, where that is not a file that is written first.
    pub config: Option<&'c Path>,
    /// Nothing: the store says what is served.
    pub no_config: bool,
    /// The folder of `--resources`.
    pub resources: Option<&'c Path>,
    /// How much it logs (`RUST_LOG`).
    pub log: Option<&'c str>,
    /// More arguments of `serve`.
    pub arguments: &'c [&'c str],
}

impl Options<'_> {
    /// Without a file: the store says what is served.
    pub const NO_CONFIG: Self = Self {
        clock: None,
        xds_port: 0,
        api_port: 0,
        config: None,
        no_config: true,
        resources: None,
        log: None,
        arguments: &[],
    };
}

/// A server that serves.
#[derive(Debug)]
pub struct Server {
    /// Where Envoys connect.
    pub xds: SocketAddr,
    /// Where people connect.
    pub api: SocketAddr,
    program: PathBuf,
    mesh: PathBuf,
    state_dir: PathBuf,
    process: Process,
}

impl Server {
    /// Writes its mesh file into `dir`, starts it, and waits until it serves.
    ///
    /// # Errors
    /// When it refuses the file or does not start: with the end of its log.
    pub fn start(
        artifacts: &Artifacts,
        dir: &Path,
        mesh: &str,
        options: &Options<'_>,
    ) -> Result<Self> {
        let file = match options.config {
            Some(config) => config.to_path_buf(),
            None => dir.join("mesh.yaml"),
        };
        if options.config.is_none() && !options.no_config {
            replace(&file, mesh)?;
        }
        let state_dir = dir.join("state");
        let mut command = Command::new(&artifacts.server);
        command.arg("serve");
        if !options.no_config {
            command.arg("--config").arg(&file);
        }
        command
            .args(["--xds-listen", &format!("127.0.0.1:{}", options.xds_port)])
            .args(["--api-listen", &format!("127.0.0.1:{}", options.api_port)])
            .arg("--state-dir")
            .arg(&state_dir)
            .arg("--filter")
            .arg(&artifacts.wasm)
            .args(options.arguments);
        if let Some(folder) = options.resources {
            command.arg("--resources").arg(folder);
        }
        // What the file leaves open is the same on every machine.
        for variable in [
            "REGION",
            "TIMEZONE",
            "PEAK_HOURS",
            "RUST_LOG",
            "MESH_CONFIG_PATH",
            "CA_CERT_VALIDITY_DAYS",
            "SERVICE_CERT_VALIDITY_DAYS",
        ] {
            command.env_remove(variable);
        }
        if let Some(level) = options.log {
            command.env("RUST_LOG", level);
        }
        if let Some(clock) = options.clock {
            clock.apply(&mut command);
        }
        let log = dir.join("server.log");
        let mut process = Process::spawn("mumbai-mesh serve", command, &log)?;
        let ready = process.wait_line("ready ", READY)?;
        let address = |key: &str| -> Result<SocketAddr> {
            let word = ready.split(' ').find_map(|word| word.strip_prefix(key));
            Ok(word
                .with_context(|| format!("no {key} in {ready:?}"))?
                .parse()?)
        };
        Ok(Self {
            xds: address("xds=")?,
            api: address("api=")?,
            program: artifacts.server.clone(),
            mesh: file,
            state_dir,
            process,
        })
    }

    /// Replaces the mesh file by rename, as editors and ConfigMaps do.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_mesh(&self, mesh: &str) -> Result<()> {
        replace(&self.mesh, mesh)
    }

    /// The mesh file.
    pub fn mesh_file(&self) -> &Path {
        &self.mesh
    }

    /// Its state dir.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Writes an Envoy's bootstrap into `out` by `mumbai-mesh bootstrap`, and gives its file.
    ///
    /// # Errors
    /// When the command fails: with what it says.
    pub fn bootstrap(
        &self,
        name: &str,
        admin_port: u16,
        out: &Path,
        extra: &[&str],
    ) -> Result<PathBuf> {
        let output = Command::new(&self.program)
            .args(["bootstrap", name, "--xds", &self.xds.to_string()])
            .args(["--admin-port", &admin_port.to_string()])
            .args(["--server", &format!("http://{}", self.api)])
            .arg("--out")
            .arg(out)
            .args(extra)
            .output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "mumbai-mesh bootstrap {name}: {errors}"
        );
        Ok(out.join("envoy.yaml"))
    }

    /// A command of its program: what it says.
    ///
    /// # Errors
    /// When it fails: with what it says then.
    pub fn command(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(&self.program).args(arguments).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?}: {errors}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// `GET` of its API.
    ///
    /// # Errors
    /// When the answer is no JSON.
    pub fn api_get(&self, path: &str) -> Result<serde_json::Value> {
        Client::new(self.api).get(path, &[])?.json()
    }

    /// `POST` to its API: status and JSON.
    ///
    /// # Errors
    /// When the answer is no JSON.
    pub fn api_post(&self, path: &str, body: &[u8]) -> Result<(u16, serde_json::Value)> {
        let answer = Client::new(self.api).post(path, body)?;
        Ok((answer.status, answer.json()?))
    }

    /// All that it has said.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Writes a file of a secret, which not everybody may read.
///
/// # Errors
/// When it cannot be written.
pub fn write_secret(file: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(file, text)?;
    Ok(fs::set_permissions(
        file,
        fs::Permissions::from_mode(0o600),
    )?)
}

/// Replaces a file by rename, as editors and ConfigMaps do.
///
/// # Errors
/// When it cannot be written.
pub fn replace(file: &Path, text: &str) -> Result<()> {
    let beside = file.with_extension("new");
    fs::write(&beside, text)?;
    fs::rename(&beside, file).with_context(|| format!("{}", file.display()))
}
