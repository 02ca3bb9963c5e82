//! What the process is told from outside. The environment is read here and nowhere else.
//! Precedence: flag, then file, then environment, then built-in default.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use zeroize::Zeroizing;

use crate::{
    census::Pace,
    mesh::Defaults,
    pki::{self, Passphrase},
    store,
};

/// Where the mesh is looked for when no flag says so (`MESH_CONFIG_PATH`).
pub const DEFAULT_CONFIG: &str = "/etc/mesh/config";

/// All that `serve` needs to run.
#[derive(Clone)]
pub struct Settings {
    /// The mesh file.
    pub config: ConfigPath,
    /// What holds where the file is silent.
    pub defaults: Defaults,
    /// xDS gRPC; port 0 is any free port.
    pub xds_listen: SocketAddr,
    /// HTTP API; port 0 is any free port.
    pub api_listen: SocketAddr,
    /// Where the embedded store and the certificate authority are kept.
    pub state_dir: PathBuf,
    /// The etcd that is the store in place of the embedded one.
    pub etcd: Option<store::Access>,
    /// Folder of raw resources.
    pub resources: Option<PathBuf>,
    /// The filter's `.wasm`.
    pub filter: PathBuf,
    /// Most xDS streams at once.
    pub max_streams: usize,
    /// At which Envoys are asked to report their load.
    pub load_report_interval: Duration,
    /// How proxies are counted among which limits are divided.
    pub pace: Pace,
    /// How long certificates live.
    pub certificates: CertificateLives,
    /// What the authority's keys are sealed with on disk.
    pub ca_passphrase: Option<Arc<Passphrase>>,
    /// Whether Envoys must show certificates.
    pub xds_tls: XdsTls,
    /// Who may use the API, and how it is reached.
    pub api: ApiAccess,
}

/// Who may use the API, and how it is reached.
#[derive(Debug, Clone, Default)]
pub struct ApiAccess {
    /// What whoever shows no token may do; by the address where nobody says.
    pub anonymous: Option<Anonymous>,
    /// Names by which browsers may call it without a token.
    pub hosts: Vec<String>,
    /// Folder of its certificate; without one it speaks plaintext.
    pub tls_cert_path: Option<PathBuf>,
    /// Connections at once of those who may call it, beside a few of strangers.
    pub connections: usize,
}

/// What whoever shows no token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Anonymous {
    /// Nothing but ask whether the server is well.
    None,
    /// Look.
    Viewer,
    /// Change what is served; on loopback alone.
    Operator,
    /// Everything; on loopback alone.
    Admin,
}

/// Whether Envoys must show certificates at the xDS port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum XdsTls {
    /// Where others could reach the port; on loopback not.
    Auto,
    /// On loopback too.
    On,
    /// Never: for development on loopback, the only place where it is served so.
    Off,
}

/// What flags and the environment say about the life of certificates. What the mesh file says stands
/// between them.
#[derive(Debug, Clone, Copy, Default)]
pub struct CertificateLives {
    /// `--ca-cert-validity-days`.
    pub ca_flag: Option<u32>,
    /// `CA_CERT_VALIDITY_DAYS`.
    pub ca_variable: Option<u32>,
    /// `--service-cert-validity-days` or `--service-cert-validity`.
    pub service_flag: Option<Duration>,
    /// `SERVICE_CERT_VALIDITY_DAYS`.
    pub service_variable: Option<u32>,
}

impl CertificateLives {
    /// Flags with the environment's word beside them.
    ///
    /// # Errors
    /// A variable that is no number of days.
    pub fn read(ca_flag: Option<u32>, service_flag: Option<Duration>) -> Result<Self, String> {
        Ok(Self {
            ca_flag,
            ca_variable: days_variable("CA_CERT_VALIDITY_DAYS")?,
            service_flag,
            service_variable: days_variable("SERVICE_CERT_VALIDITY_DAYS")?,
        })
    }

    /// Of the root, where the mesh file says this.
    pub fn ca(&self, file: Option<u32>) -> Duration {
        let said = self.ca_flag.or(file).or(self.ca_variable);
        pki::days(said.unwrap_or(pki::CA_DAYS))
    }

    /// Of leaves, where the mesh file says this.
    pub fn service(&self, file: Option<u32>) -> Duration {
        let said = self.service_flag.or(file.map(pki::days));
        let unsaid = self.service_variable.unwrap_or(pki::SERVICE_DAYS);
        said.unwrap_or(pki::days(unsaid))
    }
}

fn days_variable(name: &str) -> Result<Option<u32>, String> {
    variable(name).map_or(Ok(None), |text| match text.trim().parse() {
        Ok(days) if (1..=pki::DAYS_MAX).contains(&days) => Ok(Some(days)),
        _ => Err(format!(
            "{name}={text:?}: must be a number of days from 1 to {}",
            pki::DAYS_MAX
        )),
    })
}

/// The mesh file, and whether somebody asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigPath {
    /// Named by flag or environment: it must be there.
    Named(PathBuf),
    /// The default place: absent means an empty mesh.
    Default(PathBuf),
}

impl ConfigPath {
    /// From the flag, else `MESH_CONFIG_PATH`, else [`DEFAULT_CONFIG`].
    pub fn choose(flag: Option<PathBuf>) -> Self {
        flag.or_else(|| variable("MESH_CONFIG_PATH").map(PathBuf::from))
            .map_or_else(|| Self::Default(DEFAULT_CONFIG.into()), Self::Named)
    }

    /// The path itself.
    pub fn path(&self) -> &Path {
        match self {
            Self::Named(path) | Self::Default(path) => path,
        }
    }
}

/// The password of the store's user: the file's first line, else `MUMBAI_MESH_STORE_PASSWORD`.
///
/// # Errors
/// A file that cannot be read.
pub fn store_password(file: Option<&Path>) -> std::io::Result<Zeroizing<String>> {
    let Some(file) = file else {
        let said = variable("MUMBAI_MESH_STORE_PASSWORD");
        return Ok(Zeroizing::new(said.unwrap_or_default()));
    };
    let text = Zeroizing::new(std::fs::read_to_string(file)?);
    Ok(Zeroizing::new(
        text.lines().next().unwrap_or_default().to_string(),
    ))
}

/// `REGION`, `TIMEZONE` and `PEAK_HOURS`.
pub fn defaults() -> Defaults {
    let built_in = Defaults::default();
    Defaults {
        region: variable("REGION").unwrap_or(built_in.region),
        timezone: variable("TIMEZONE").unwrap_or(built_in.timezone),
        peak_hours: variable("PEAK_HOURS"),
    }
}

/// Folder of the API's certificate: the flag's, else `TLS_CERT_PATH`.
pub fn tls_cert_path(flag: Option<PathBuf>) -> Option<PathBuf> {
    flag.or_else(|| variable("TLS_CERT_PATH").map(PathBuf::from))
}

/// Level and filter of the log (`RUST_LOG`), `info` unless it says otherwise.
pub fn log_filter() -> String {
    variable("RUST_LOG").unwrap_or_else(|| "info".into())
}

/// The `.wasm`: the flag's, else `MUMBAI_MESH_WASM`, else the first that exists beside the program,
/// one folder above it (a build's target folder) or in `target/`.
pub fn filter_path(flag: Option<PathBuf>) -> Option<PathBuf> {
    const NAME: &str = "mumbai_mesh.wasm";
    if let Some(named) = flag.or_else(|| variable("MUMBAI_MESH_WASM").map(PathBuf::from)) {
        return Some(named);
    }
    let program = std::env::current_exe().ok();
    let beside = program.as_deref().and_then(Path::parent);
    let above = beside.and_then(Path::parent);
    [beside, above, Some(Path::new("target"))]
        .into_iter()
        .flatten()
        .map(|folder| folder.join(NAME))
        .find(|candidate| candidate.is_file())
}

#[expect(clippy::disallowed_methods, reason = "this is the one place")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
