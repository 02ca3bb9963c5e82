//! `mumbai-mesh bootstrap`.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use policy::units::ServiceName;

use super::{
    BadData, UsageError, from_five_seconds, output::print, passphrase, remote::Credentials,
};
use crate::{
    bootstrap::{
        BootstrapSpec, DEFAULT_ADMIN_ADDRESS, Member, MemberError, NodeIdentity, bootstrap,
        identity_files,
    },
    clock,
    compile::FilterCode,
    mesh::TrustDomain,
    pki::{Folder, Identity, Purpose},
    settings::{self, CertificateLives},
    source,
};

/// Write the files that an Envoy needs to join the mesh.
///
/// DIR/envoy.yaml and DIR/mumbai_mesh.wasm: `envoy -c DIR/envoy.yaml` is all that remains.
/// With --state-dir also DIR/xds-certificate.json, the Envoy's own key and certificate for the xDS server
/// (mode 0600: only its owner may read it), and DIR/xds-roots.json. They end after
/// SERVICE_CERT_VALIDITY_DAYS: run the command again before; a running Envoy takes the new ones up.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mumbai-mesh bootstrap edge --xds 127.0.0.1:18000 --admin-port 9901 --out edge \\\n      --server http://127.0.0.1:8088\n  mumbai-mesh bootstrap payment-service --node-id payment-1 --xds 127.0.0.1:18000 \\\n      --admin-port 9902 --out payment-1 --config mesh.yaml --state-dir .mumbai-mesh"
)]
pub(super) struct Bootstrap {
    /// Gateway or service of the mesh that this Envoy serves.
    name: String,
    /// The xDS server as this Envoy reaches it.
    #[arg(long, value_name = "HOST:PORT")]
    xds: String,
    /// Port of Envoy's admin interface; 0 is any free port.
    #[arg(long, value_name = "N")]
    admin_port: u16,
    /// Address of Envoy's admin interface. Beyond loopback it shows things, and does nothing (403).
    #[arg(long, value_name = "IP", default_value_t = DEFAULT_ADMIN_ADDRESS)]
    admin_address: IpAddr,
    /// Folder for the two files; made when it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Unique name of this Envoy: the id of the endpoint beside which it stands.
    #[arg(long, value_name = "ID")]
    node_id: Option<String>,
    /// Zone of this Envoy, such as mumbai-west; its endpoint's by default.
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// Port of a sidecar's outbound listener [default: 15001].
    #[arg(long, value_name = "N")]
    outbound_port: Option<u16>,
    /// Ask this running server. This or --config must be given.
    #[arg(long, value_name = "URL", conflicts_with_all = ["config", "filter"])]
    server: Option<String>,
    #[command(flatten)]
    credentials: Credentials,
    /// Read this mesh file instead.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The server's state dir: issue a certificate for this Envoy with the authority in it. Without it the
    /// Envoy speaks plaintext, which a server beyond loopback refuses.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// File with the passphrase under which the server keeps its authority's keys, where it was given one.
    #[arg(long, value_name = "FILE", requires = "state_dir")]
    ca_passphrase_file: Option<PathBuf>,
    /// How long that certificate lives, from 5s on [default: SERVICE_CERT_VALIDITY_DAYS, else 90 days].
    #[arg(long, value_name = "DURATION", requires = "state_dir", value_parser = from_five_seconds)]
    service_cert_validity: Option<Duration>,
    /// The filter to copy, with --config. Found beside this program by default.
    #[arg(long, value_name = "FILE")]
    filter: Option<PathBuf>,
}

const FILTER_FILE: &str = "mumbai_mesh.wasm";
const BOOTSTRAP_FILE: &str = "envoy.yaml";
const CERTIFICATE_FILE: &str = "xds-certificate.json";
const ROOTS_FILE: &str = "xds-roots.json";

impl Bootstrap {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (xds_host, xds_port) = host_and_port(&self.xds)?;
        let (member, wasm) = match (&self.server, &self.config) {
            (Some(server), _) => ask(&self.credentials, server, &self.name)?,
            (None, Some(config)) => read(config, self.filter.clone(), &self.name)?,
            (None, None) => {
                return Err(UsageError("give --server <URL> or --config <FILE>".into()).into());
            }
        };
        let node_id = member
            .node_id(self.node_id.clone())
            .map_err(|error: MemberError| UsageError(error.to_string()))?;
        if let Some(warning) = member.warning(&node_id) {
            eprintln!("warning: {warning}");
        }
        let endpoint = member.endpoint(&node_id);
        let region = endpoint
            .and_then(|endpoint| endpoint.region.clone())
            .or_else(|| member.region.clone());
        let zone = self
            .zone
            .clone()
            .or_else(|| endpoint.and_then(|endpoint| endpoint.zone.clone()));
        fs::create_dir_all(&self.out).with_context(|| format!("--out {}", self.out.display()))?;
        let folder = self.out.canonicalize()?;
        let filter = folder.join(FILTER_FILE);
        let identity = match &self.state_dir {
            Some(state_dir) => Some(self.identity(state_dir, &member, &node_id, &folder)?),
            None => None,
        };
        let spec = BootstrapSpec {
            identity,
            name: member.name.clone(),
            node_id,
            xds_host,
            xds_port,
            admin: (self.admin_address, self.admin_port),
            region,
            zone,
            outbound_port: self.outbound_port,
            filter: Some((
                filter.display().to_string(),
                FilterCode::new(wasm.clone().into()).sha256().to_string(),
            )),
        };
        write(&filter, &wasm, READABLE)?;
        let file = folder.join(BOOTSTRAP_FILE);
        // Protobuf JSON is YAML as well.
        let text = format!("{:#}\n", bootstrap(&spec));
        write(&file, text.as_bytes(), READABLE)?;
        print(&format!("envoy -c {}\n", file.display()))?;
        Ok(())
    }

    /// Issues the node's certificate for the xDS server, and writes it into `folder`.
    fn identity(
        &self,
        state_dir: &Path,
        member: &Member,
        node_id: &str,
        folder: &Path,
    ) -> anyhow::Result<NodeIdentity> {
        let now = clock::now();
        let passphrase = passphrase(self.ca_passphrase_file.as_deref())?;
        let ca = Folder::of(state_dir, passphrase)
            .load(now)
            .with_context(|| format!("--state-dir {}", state_dir.display()))?;
        let domain =
            TrustDomain::new(&member.trust_domain).map_err(|error| BadData(error.into()))?;
        let name = ServiceName::new(&member.name)?;
        let lives = CertificateLives::read(None, self.service_cert_validity);
        let life = lives.map_err(UsageError)?.service(member.certificate_days);
        let server = domain.server();
        let identity = Identity::Member(domain, name);
        let issued = ca.issue(&identity, Purpose::Node(node_id), life, now)?;
        let [certificate, roots] = identity_files(&issued.chain, &issued.key, &issued.bundle);
        let paths = [CERTIFICATE_FILE, ROOTS_FILE].map(|name| folder.join(name));
        write(&paths[0], certificate.to_string().as_bytes(), SECRET)?;
        write(&paths[1], roots.to_string().as_bytes(), READABLE)?;
        let [certificate, roots] = paths.map(|path| path.display().to_string());
        Ok(NodeIdentity {
            certificate,
            roots,
            server,
        })
    }
}

const READABLE: u32 = 0o644;
const SECRET: u32 = 0o600;

/// Replaces a file as a whole: a running Envoy never reads half a filter.
fn write(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let save = || -> std::io::Result<()> {
        let mut file = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))
            .tempfile_in(folder)?;
        std::io::Write::write_all(&mut file, bytes)?;
        file.persist(path)?;
        Ok(())
    };
    save().with_context(|| format!("{} cannot be written", path.display()))
}

fn host_and_port(text: &str) -> Result<(String, u16), UsageError> {
    let parsed = text.rsplit_once(':').and_then(|(host, port)| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
        (!host.is_empty()).then(|| (host.to_string(), port))
    });
    parsed.ok_or_else(|| {
        UsageError(format!(
            "--xds {text:?}: must be HOST:PORT with a port from 1 to 65535, such as 127.0.0.1:18000"
        ))
    })
}

fn ask(credentials: &Credentials, server: &str, name: &str) -> anyhow::Result<(Member, Vec<u8>)> {
    let member = credentials.get(server, &format!("/api/v1/bootstrap/{name}"), &[])?;
    let member = serde_json::from_slice(&member).context("the server's answer")?;
    let wasm = credentials.get(server, "/filter/mumbai_mesh.wasm", &[])?;
    Ok((member, wasm))
}

fn read(config: &Path, filter: Option<PathBuf>, name: &str) -> anyhow::Result<(Member, Vec<u8>)> {
    let mesh = mesh(config)?;
    let member = Member::find(&mesh, name).map_err(|error| UsageError(error.to_string()))?;
    let filter = settings::filter_path(filter).ok_or_else(|| {
        UsageError(
            "the filter mumbai_mesh.wasm is not beside this program; build it with \
             `cargo xtask wasm` or name it with --filter"
                .into(),
        )
    })?;
    let wasm = fs::read(&filter).with_context(|| format!("--filter {}", filter.display()))?;
    Ok((member, wasm))
}

/// A mesh file, or all its problems on stderr.
pub(super) fn mesh(config: &Path) -> anyhow::Result<crate::mesh::Mesh> {
    match source::read_path(config, &settings::defaults()) {
        Ok(mesh) => Ok(mesh),
        Err(problems) => {
            source::report_fatal(config, &problems);
            Err(BadData(format!("{} is refused", config.display())).into())
        }
    }
}
