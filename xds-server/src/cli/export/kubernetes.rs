//! `mumbai-mesh export kubernetes`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::Destination;
use crate::{
    cli::{UsageError, bootstrap::mesh},
    export::{
        ControllerSpec, DEFAULT_NAMESPACE, EtcdSpec, Namespace, StoreSpec, is_image, kubernetes,
    },
    mesh::{Mesh, read},
    source::Loader,
    store::Address,
};

/// What is exported where no mesh file is named.
const EXAMPLE: &str = include_str!("../../export/kubernetes/example.yaml");
const EXAMPLE_NAME: &str = "mesh.yaml";

/// Manifests of the server in Kubernetes: namespace, account, mesh file, Deployment, Service, scaling, network
/// policies, an etcd for what replicas share, and with --out an example of a sidecar, which nobody applies.
///
/// Without --store there are 2 to 20 replicas and an etcd of three members; with --store embedded, one replica
/// with a volume of its own. The folder kubernetes/ of the project is this command without --config.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mumbai-mesh export kubernetes --config mesh.yaml --out kubernetes\n  mumbai-mesh export kubernetes --config mesh.yaml --store embedded | kubectl apply --server-side -f -\n\nEnvironment, where no flag says anything:\n  ISTIO_NAMESPACE  as --namespace (default istio-system)"
)]
pub(super) struct Kubernetes {
    /// The mesh file, or a folder of them [default: an example].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the server runs.
    #[arg(long, value_name = "NAMESPACE", env = "ISTIO_NAMESPACE", default_value = DEFAULT_NAMESPACE)]
    namespace: Namespace,
    /// The server's image, as your registry names it.
    #[arg(long, value_name = "IMAGE", default_value = concat!("mumbai-mesh:", env!("CARGO_PKG_VERSION")), value_parser = image)]
    image: String,
    /// `embedded`, or an etcd that is there, as for `serve --store` [default: an etcd that is exported too].
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// That etcd is reached by mutual TLS.
    #[arg(long, requires = "store")]
    store_tls: bool,
    /// Where the example of a sidecar runs.
    #[arg(long, value_name = "NAMESPACE", default_value = "default")]
    sidecar_namespace: Namespace,
    #[command(flatten)]
    destination: Destination,
}

fn image(text: &str) -> Result<String, String> {
    if is_image(text) {
        return Ok(text.into());
    }
    Err("no image: [HOST[:PORT]/]NAME[:TAG][@sha256:DIGEST], such as registry.example/mumbai-mesh:0.1.0".into())
}

impl Kubernetes {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let store = self.store()?;
        let (mesh, files, is_folder) = match &self.config {
            Some(config) => named(config)?,
            None => (
                example()?,
                vec![(EXAMPLE_NAME.into(), EXAMPLE.into())],
                false,
            ),
        };
        let spec = ControllerSpec {
            namespace: self.namespace,
            image: self.image,
            store,
            files,
            is_folder,
            sidecar_namespace: self.sidecar_namespace,
        };
        let config = self.config.as_deref().unwrap_or(Path::new("the example"));
        self.destination.give(config, kubernetes(&mesh, &spec))
    }

    fn store(&self) -> Result<StoreSpec, UsageError> {
        let usage = |said: String| UsageError(format!("--store: {said}"));
        let url = match self.store.as_deref() {
            None => return Ok(StoreSpec::OwnEtcd),
            Some("embedded") if self.store_tls => {
                return Err(usage(
                    "the embedded store is reached by nobody: leave --store-tls out".into(),
                ));
            }
            Some("embedded") => return Ok(StoreSpec::Embedded),
            Some(url) => url,
        };
        let address = url
            .parse::<Address>()
            .map_err(|error| usage(format!("{error}; or embedded")))?;
        if address.is_loopback() {
            return Err(usage(format!(
                "{url} is an etcd of the pod itself, where none runs"
            )));
        }
        let mut ports: Vec<u16> = address.members.iter().map(|member| member.port).collect();
        ports.sort_unstable();
        ports.dedup();
        Ok(StoreSpec::Etcd(EtcdSpec {
            url: url.into(),
            ports,
            has_user: address.user.is_some(),
            has_tls: self.store_tls,
        }))
    }
}

type Named = (Mesh, Vec<(String, String)>, bool);

/// A mesh file with all that it includes, by names below its folder.
fn named(config: &Path) -> anyhow::Result<Named> {
    let mesh = mesh(config)?;
    let is_folder = config.is_dir();
    let folder = if is_folder {
        Some(config)
    } else {
        config.parent()
    };
    let loaded = Loader::new(config).look();
    let files = loaded.files.iter().map(|file| {
        let path = Path::new(&*file.name);
        let below = folder
            .and_then(|folder| path.strip_prefix(folder).ok())
            .unwrap_or(path);
        (below.display().to_string(), file.text.to_string())
    });
    Ok((mesh, files.collect(), is_folder))
}

fn example() -> anyhow::Result<Mesh> {
    // The environment of whoever exports is not that of the server.
    read(EXAMPLE, &crate::mesh::Defaults::default()).map_err(|problems| {
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("the example is no mesh: {}", said.join("; "))
    })
}
