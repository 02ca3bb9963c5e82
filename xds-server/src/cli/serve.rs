//! `mumbai-mesh serve`.

use std::{io::Write as _, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Args;
use policy::time::parse_duration;
use tokio::{
    runtime::{self, Runtime},
    signal::unix::{SignalKind, signal},
};
use tracing::warn;
use tracing_subscriber::EnvFilter;
use zeroize::Zeroizing;

use super::{UsageError, from_five_seconds, passphrase};
use crate::{
    app,
    census::Pace,
    pki,
    settings::{self, Anonymous, ApiAccess, CertificateLives, ConfigPath, Settings, XdsTls},
    store::{Access, Address, TlsFiles},
};

/// Files beside those of streams: listeners, the state dir, the API's connections.
const SPARE_DESCRIPTORS: u64 = 512;

/// Connections of instances for their heartbeats, and of others who may call the API, where files are left for them.
const API_CONNECTIONS_MAX: usize = 16_384;

/// Fewer could be guessed.
const SECRET_BYTES_MIN: usize = 32;

/// Serve a mesh file to Envoys over xDS, and follow its changes.
///
/// A valid change of the file reaches every Envoy; an invalid one changes nothing, and every problem
/// of it is told here and at /api/v1/revisions. Logs go to stderr (RUST_LOG sets their level). One
/// line on stdout says when it serves: `ready xds=ADDR api=ADDR`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  mumbai-mesh serve --config mesh.yaml\n\nEnvironment, where neither flag nor file says anything:\n  MESH_CONFIG_PATH  the mesh file or folder (default /etc/mesh/config)\n  REGION            default mumbai\n  TIMEZONE          default Asia/Kolkata\n  PEAK_HOURS        such as 7-11,17-22; none by default\n  MUMBAI_MESH_WASM  the filter\n  MUMBAI_MESH_STORE_PASSWORD  of the user in --store\n  TLS_CERT_PATH     as --tls-cert-path\n  CA_CERT_VALIDITY_DAYS, SERVICE_CERT_VALIDITY_DAYS  as the flags"
)]
pub(super) struct Serve {
    /// Mesh file (YAML), or a folder of them.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where Envoys connect (gRPC). Port 0 is any free port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:18000")]
    xds_listen: SocketAddr,
    /// Where people and tools connect (HTTP). Port 0 is any free port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8088")]
    api_listen: SocketAddr,
    /// What whoever shows the API no token may do: by default everything on loopback, nothing beyond it
    /// (there at most `viewer`). /healthz and /readyz are open always.
    #[arg(long, value_enum, value_name = "ROLE")]
    anonymous_role: Option<Anonymous>,
    /// A name of this server by which browsers may call the API without a token; may be given several
    /// times. Addresses and localhost always are.
    #[arg(long, value_name = "NAME")]
    api_host: Vec<String>,
    /// Folder with tls.crt and tls.key: the API is served by TLS 1.3. New files are taken up at once.
    #[arg(long, value_name = "DIR")]
    tls_cert_path: Option<PathBuf>,
    /// Folder of the store (revisions of the mesh, raw resources) and of the certificate authority. Of one
    /// server alone.
    #[arg(long, value_name = "DIR", default_value = ".mumbai-mesh")]
    state_dir: PathBuf,
    /// An etcd that several servers share, in place of the store in the state dir:
    /// etcd://[USER@]HOST[:PORT][,HOST[:PORT]…][/PREFIX]. Each server has a --state-dir of its own all the
    /// same; what is in the first one's store moves into an etcd that holds nothing yet.
    #[arg(long, value_name = "URL")]
    store: Option<Address>,
    /// Whom to trust as that etcd (PEM): it is reached by TLS 1.3 then.
    #[arg(long, value_name = "FILE", requires = "store")]
    store_ca: Option<PathBuf>,
    /// Certificate to show to that etcd (PEM).
    #[arg(
        long,
        value_name = "FILE",
        requires = "store_ca",
        requires = "store_key"
    )]
    store_cert: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(long, value_name = "FILE", requires = "store_cert")]
    store_key: Option<PathBuf>,
    /// File with the password of the URL's user, on its first line.
    #[arg(long, value_name = "FILE", requires = "store")]
    store_password_file: Option<PathBuf>,
    /// File with a secret of at least 32 bytes, the same for all servers of that etcd: it seals the keys of
    /// the certificate authority there. It may be left out where the etcd is on this machine.
    #[arg(long, value_name = "FILE", requires = "store")]
    store_secret_file: Option<PathBuf>,
    /// Folder of raw resources: any Envoy resource as protobuf JSON or YAML, one or an apply body a file.
    #[arg(long, value_name = "DIR")]
    resources: Option<PathBuf>,
    /// The filter for Envoys that have no file of their own. Found beside this program by default.
    #[arg(long, value_name = "FILE")]
    filter: Option<PathBuf>,
    /// Most xDS streams at once. Further ones are refused with RESOURCE_EXHAUSTED; an Envoy has one, or
    /// one for each type.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = at_least_one)]
    max_streams: usize,
    /// How often Envoys are asked to report their load (LRS, /api/v1/loads): 1s to 1h.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = one_second_to_one_hour)]
    load_report_interval: Duration,
    /// For how long a proxy that is gone counts among those that share a limit with scope: fleet: 1s to 1h.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = one_second_to_one_hour)]
    fleet_seen_within: Duration,
    /// How often proxies are told at most that they share it among another number: 1s to 1h.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = one_second_to_one_hour)]
    fleet_told_every: Duration,
    /// Whether Envoys must show a certificate that `mumbai-mesh bootstrap --state-dir` gave them.
    #[arg(long, value_enum, default_value_t = XdsTls::Auto)]
    xds_tls: XdsTls,
    /// How long the root certificate lives that is made when the state dir has none: 1 to 36500 days
    /// [default: 3650].
    #[arg(long, value_name = "DAYS", value_parser = days())]
    ca_cert_validity_days: Option<u32>,
    /// File with the passphrase under which the authority's keys are kept in the state dir. Keys that lie there open
    /// are put under it. `bootstrap` needs it then too.
    #[arg(long, value_name = "FILE")]
    ca_passphrase_file: Option<PathBuf>,
    /// How long the certificates of services and gateways live: 1 to 36500 days [default: 90]. They are
    /// renewed after two thirds of it.
    #[arg(long, value_name = "DAYS", value_parser = days())]
    service_cert_validity_days: Option<u32>,
    /// The same as a duration, for tests of renewal: from 5s on.
    #[arg(long, value_name = "DURATION", conflicts_with = "service_cert_validity_days", value_parser = from_five_seconds)]
    service_cert_validity: Option<Duration>,
}

fn days() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(pki::DAYS_MAX))
}

fn one_second_to_one_hour(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text).map_err(|error| error.to_string())?;
    if (Duration::from_secs(1)..=Duration::from_hours(1)).contains(&duration) {
        Ok(duration)
    } else {
        Err("from 1s to 1h".into())
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("a number from 1 on".into()),
    }
}

impl Serve {
    fn etcd(&self) -> anyhow::Result<Option<Access>> {
        let Some(address) = self.store.clone() else {
            return Ok(None);
        };
        let file = self.store_password_file.as_deref();
        let password = settings::store_password(file).context("--store-password-file")?;
        if address.user.is_some() && password.is_empty() {
            let said = "--store names a user: give its password by --store-password-file or \
                        MUMBAI_MESH_STORE_PASSWORD";
            return Err(UsageError(said.into()).into());
        }
        let secret = self.store_secret(&address)?;
        let identity = self.store_cert.clone().zip(self.store_key.clone());
        Ok(Some(Access {
            address,
            tls: TlsFiles {
                ca: self.store_ca.clone(),
                identity,
            },
            password,
            secret,
        }))
    }

    fn store_secret(&self, address: &Address) -> anyhow::Result<Zeroizing<Vec<u8>>> {
        let wrong = |said: String| Err(UsageError(said).into());
        let Some(file) = &self.store_secret_file else {
            if address.is_loopback() {
                return Ok(Zeroizing::default());
            }
            return wrong(
                "--store names an etcd on other machines: give --store-secret-file FILE, the same for all \
                 servers (head -c 32 /dev/urandom | base64 > FILE)"
                    .into(),
            );
        };
        let read = std::fs::read(file);
        let secret = read.with_context(|| format!("--store-secret-file {}", file.display()))?;
        let secret = Zeroizing::new(secret);
        // An editor's line end is no part of it.
        let secret = Zeroizing::new(secret.trim_ascii_end().to_vec());
        match secret.len() {
            SECRET_BYTES_MIN.. => Ok(secret),
            length => wrong(format!(
                "--store-secret-file {}: {length} bytes are too few for a secret; at least {SECRET_BYTES_MIN}",
                file.display()
            )),
        }
    }

    pub(super) fn run(self) -> anyhow::Result<()> {
        let etcd = self.etcd()?;
        let filter = settings::filter_path(self.filter).ok_or_else(|| {
            UsageError(
                "the filter mumbai_mesh.wasm is not beside this program; build it with \
                 `cargo xtask wasm` or name it with --filter"
                    .into(),
            )
        })?;
        let descriptors = rlimit::increase_nofile_limit(u64::MAX).context("RLIMIT_NOFILE")?;
        let spare = descriptors.saturating_sub(self.max_streams as u64 + SPARE_DESCRIPTORS);
        // So many streams seldom are there: where files are few, who is known may have half of them.
        let connections = usize::try_from(spare.max(descriptors / 2)).unwrap_or(usize::MAX);
        let service_days = self.service_cert_validity_days.map(pki::days);
        let service_life = self.service_cert_validity.or(service_days);
        let certificates = CertificateLives::read(self.ca_cert_validity_days, service_life);
        let settings = Settings {
            certificates: certificates.map_err(UsageError)?,
            ca_passphrase: passphrase(self.ca_passphrase_file.as_deref())?,
            xds_tls: self.xds_tls,
            api: ApiAccess {
                anonymous: self.anonymous_role,
                hosts: self.api_host,
                tls_cert_path: settings::tls_cert_path(self.tls_cert_path),
                connections: connections.min(API_CONNECTIONS_MAX),
            },
            config: ConfigPath::choose(self.config),
            defaults: settings::defaults(),
            xds_listen: self.xds_listen,
            api_listen: self.api_listen,
            state_dir: self.state_dir,
            etcd,
            resources: self.resources,
            filter,
            max_streams: self.max_streams,
            load_report_interval: self.load_report_interval,
            pace: Pace {
                seen_within: self.fleet_seen_within,
                told_every: self.fleet_told_every,
            },
        };
        tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(settings::log_filter()))
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .init();
        if descriptors < self.max_streams as u64 + SPARE_DESCRIPTORS {
            warn!(
                descriptors,
                max_streams = self.max_streams,
                "this process may open fewer files than streams: raise its limit (ulimit -Hn), or lower \
                 --max-streams"
            );
        }
        runtime()
            .context("threads for the server")?
            .block_on(serve(&settings))
    }
}

/// On a single core a second thread would only be in the way.
fn runtime() -> std::io::Result<Runtime> {
    let cores = std::thread::available_parallelism()?.get();
    let mut builder = match cores {
        1 => runtime::Builder::new_current_thread(),
        _ => runtime::Builder::new_multi_thread(),
    };
    builder.enable_all().build()
}

async fn serve(settings: &Settings) -> anyhow::Result<()> {
    // Before anything is promised: a signal during the start must end it as well.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let bound = app::build(settings)?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "ready xds={} api={}", bound.xds, bound.api)?;
    stdout.flush()?;
    bound
        .run(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await
}
