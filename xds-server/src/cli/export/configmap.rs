//! `mumbai-mesh export configmap`.

use std::path::PathBuf;

use clap::Args;
use policy::units::{ServiceName, ZoneName};

use super::Destination;
use crate::{
    bootstrap::{Member, MemberError},
    cli::{UsageError, bootstrap::mesh},
    export::{EnvoySpec, Export, Namespace, config_map},
};

/// A ConfigMap with all that one Envoy needs to serve without a server: a static bootstrap, and the policy in
/// a file of its own, which a running Envoy takes up when it changes.
///
/// What the mesh file says of endpoints stays as it is until the next export. Certificates come from the Secret
/// that `export secret` writes.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  mumbai-mesh export configmap edge --config mesh.yaml | kubectl apply --server-side -f -"
)]
pub(super) struct Configmap {
    /// Gateway or service of the mesh that the Envoy serves.
    name: String,
    /// The mesh file, or a folder of them.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The id of the endpoint beside which the Envoy stands, where there are several.
    #[arg(long, value_name = "ID")]
    node_id: Option<String>,
    /// Its zone, such as mumbai-west; its endpoint's by default.
    #[arg(long, value_name = "ZONE", value_parser = zone)]
    zone: Option<ZoneName>,
    /// Where it runs.
    #[arg(long, value_name = "NAMESPACE", default_value = "default")]
    namespace: Namespace,
    /// Port of Envoy's admin interface, on loopback.
    #[arg(long, value_name = "N", default_value_t = 9901)]
    admin_port: u16,
    #[command(flatten)]
    destination: Destination,
}

pub(super) fn zone(text: &str) -> Result<ZoneName, String> {
    ZoneName::new(text).map_err(|error| error.to_string())
}

impl Configmap {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mesh = mesh(&self.config)?;
        let usage = |error: MemberError| UsageError(error.to_string());
        let member = Member::find(&mesh, &self.name).map_err(usage)?;
        let node_id = member.node_id(self.node_id).map_err(usage)?;
        let spec = EnvoySpec {
            name: ServiceName::new(&self.name)?,
            node_id,
            zone: self.zone,
            namespace: self.namespace,
            admin_port: self.admin_port,
        };
        let warning = member.warning(&spec.node_id);
        if let Some(warning) = warning {
            eprintln!("warning: {warning}");
        }
        let made = config_map(&mesh, &member, &spec).map(|manifest| Export {
            files: vec![manifest],
            warnings: Vec::new(),
        });
        self.destination.give(&self.config, made)
    }
}
