//! `mumbai-mesh export secret`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use clap::Args;
use policy::units::ServiceName;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{Destination, refused};
use crate::{
    bootstrap::Member,
    catalog::{Kept, kept},
    cli::{UsageError, bootstrap::mesh, from_five_seconds, passphrase, remote::Credentials},
    clock, explain,
    export::{Namespace, SecretSpec, secret},
    mesh::Mesh,
    pki::{Folder, Identity, Purpose, node_id_problem},
    settings::{self, CertificateLives},
    store::{Embedded, StoreError},
};

/// A new key and certificate of a service or gateway, as the Secret NAME-mtls-certs (tls.crt, tls.key, ca.crt).
///
/// It is good for traffic within the mesh, and at the xDS server for the node with --node-id. Nobody renews it in
/// Kubernetes: export it again before it ends. The server audits who asked.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mumbai-mesh export secret order-service --server https://mesh.example:8088 --ca-file ca.crt | kubectl apply -f -\n  mumbai-mesh export secret order-service --state-dir .mumbai-mesh --config mesh.yaml --out secrets"
)]
pub(super) struct Secret {
    /// Gateway or service of the mesh.
    name: String,
    /// Ask this running server; that needs a token of role admin. This or --state-dir must be given.
    #[arg(long, value_name = "URL", conflicts_with_all = ["state_dir", "config"])]
    server: Option<String>,
    #[command(flatten)]
    credentials: Credentials,
    /// Issue it with the authority in this state dir of a server.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The mesh file that the server has [default: the newest revision in the state dir].
    #[arg(long, value_name = "FILE", requires = "state_dir")]
    config: Option<PathBuf>,
    /// File with the passphrase under which the server keeps its authority's keys, where it was given one.
    #[arg(long, value_name = "FILE", requires = "state_dir")]
    ca_passphrase_file: Option<PathBuf>,
    /// How long it lives, from 5s on [default: SERVICE_CERT_VALIDITY_DAYS, else 90 days].
    #[arg(long, value_name = "DURATION", requires = "state_dir", value_parser = from_five_seconds)]
    service_cert_validity: Option<Duration>,
    /// Where its Envoys run.
    #[arg(long, value_name = "NAMESPACE", default_value = "default")]
    namespace: Namespace,
    /// `node.id` of its Envoys, as their bootstraps say it [default: NAME].
    #[arg(long, value_name = "ID")]
    node_id: Option<String>,
    #[command(flatten)]
    destination: Destination,
}

/// As the server tells it.
#[derive(Deserialize)]
struct Issued {
    spiffe_id: String,
    node_id: String,
    chain: String,
    key: Zeroizing<String>,
    bundle: String,
    not_after: String,
}

impl Secret {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let node_id = self.node_id.clone().unwrap_or_else(|| self.name.clone());
        if let Some(wrong) = node_id_problem(&node_id) {
            return Err(UsageError(format!("--node-id: {wrong}")).into());
        }
        let name = ServiceName::new(&self.name).map_err(|error| UsageError(error.to_string()))?;
        let issued = match (&self.server, &self.state_dir) {
            (Some(server), _) => self.ask(server, &node_id)?,
            (None, Some(state_dir)) => self.issue(state_dir, &name, &node_id)?,
            (None, None) => {
                return Err(UsageError("give --server <URL> or --state-dir <DIR>".into()).into());
            }
        };
        let made = secret(&SecretSpec {
            name: &name,
            namespace: &self.namespace,
            spiffe_id: &issued.spiffe_id,
            node_id: &issued.node_id,
            chain: &issued.chain,
            key: &issued.key,
            bundle: &issued.bundle,
            not_after: &issued.not_after,
        });
        let manifest = made.map_err(|problems| refused(Path::new(&self.name), &problems))?;
        self.destination.write(&[manifest])
    }

    fn ask(&self, server: &str, node_id: &str) -> anyhow::Result<Issued> {
        let path = format!("/api/v1/certificates/{}/export", self.name);
        let body = serde_json::json!({"node_id": node_id}).to_string();
        let answer = self.credentials.post(server, &path, &[], body.as_bytes())?;
        let answer = Zeroizing::new(answer.success(server)?);
        serde_json::from_slice(&answer).context("the server's answer")
    }

    fn issue(&self, state_dir: &Path, name: &ServiceName, node_id: &str) -> anyhow::Result<Issued> {
        let now = clock::now();
        let of_dir = || format!("--state-dir {}", state_dir.display());
        let passphrase = passphrase(self.ca_passphrase_file.as_deref())?;
        let ca = Folder::of(state_dir, passphrase)
            .load(now)
            .with_context(of_dir)?;
        let mesh = match &self.config {
            Some(config) => mesh(config)?,
            None => newest(state_dir).with_context(of_dir)?,
        };
        let member =
            Member::find(&mesh, name.as_str()).map_err(|error| UsageError(error.to_string()))?;
        let lives = CertificateLives::read(None, self.service_cert_validity).map_err(UsageError)?;
        let identity = Identity::Member(mesh.trust_domain.clone(), name.clone());
        let life = lives.service(member.certificate_days);
        let issued = ca.issue(&identity, Purpose::Node(node_id), life, now)?;
        Ok(Issued {
            spiffe_id: identity.spiffe_id(),
            node_id: node_id.into(),
            chain: issued.chain.clone(),
            key: issued.key.clone(),
            bundle: issued.bundle.clone(),
            not_after: explain::rfc3339(mesh.timetable.zone(), issued.not_after),
        })
    }
}

/// The mesh that the server of this state dir had last.
fn newest(state_dir: &Path) -> anyhow::Result<Mesh> {
    if !Embedded::is_there(state_dir) {
        bail!("holds no mesh: name the mesh file with --config");
    }
    let store = match Embedded::open(state_dir) {
        Err(StoreError::InUse(_)) => {
            bail!("a server runs there: ask it (--server URL), or name its mesh file with --config")
        }
        opened => opened?,
    };
    match kept(&store, &settings::defaults())? {
        Kept::Mesh(revision) => Ok((*revision.mesh).clone()),
        Kept::Nothing => bail!("holds no mesh: name the mesh file with --config"),
        Kept::Unreadable(number, _) => {
            bail!("revision {number} cannot be read: name the mesh file with --config")
        }
    }
}
