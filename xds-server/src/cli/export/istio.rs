//! `mumbai-mesh export istio`.

use std::{fs, path::PathBuf};

use anyhow::Context;
use clap::Args;
use policy::units::ZoneName;

use super::{Destination, configmap::zone};
use crate::{
    cli::{UsageError, bootstrap::mesh},
    compile::FilterCode,
    export::{DEFAULT_NAMESPACE, GatewaySelectors, IstioSpec, Label, Namespace, istio, paths},
    settings,
};

/// The mesh's policy for proxies that Istio runs: WasmPlugin, DestinationRule, VirtualService and, with --out,
/// istio-installation.yaml and workload-annotations.yaml, by which proxies keep the filter's metrics.
///
/// Services of the mesh are those of Kubernetes with the same names. What Istio cannot do is told.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mumbai-mesh export istio --config mesh.yaml --out istio\n  mumbai-mesh export istio --config mesh.yaml --namespace shop --namespace bank \\\n      --url oci://registry.example/mumbai-mesh:1 --sha256 DIGEST | kubectl apply --server-side -f -\n\nEnvironment, where no flag says anything:\n  ISTIO_NAMESPACE  as --istio-namespace (default istio-system)"
)]
pub(super) struct Istio {
    /// The mesh file, or a folder of them.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Namespace whose sidecars get the filter; may be given several times. In Istio's own it holds for all.
    #[arg(long, value_name = "NAMESPACE", default_value = "default")]
    namespace: Vec<Namespace>,
    /// Only the pods with this label, in those namespaces; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    workload: Vec<Label>,
    /// Where the services live [default: the first --namespace].
    #[arg(long, value_name = "NAMESPACE")]
    service_namespace: Option<Namespace>,
    /// Where Istio and its gateways run.
    #[arg(long, value_name = "NAMESPACE", env = "ISTIO_NAMESPACE", default_value = DEFAULT_NAMESPACE)]
    istio_namespace: Namespace,
    /// The pods of the mesh's gateways, of one alone by NAME:KEY=VALUE; may be given several times
    /// [default: istio=ingressgateway].
    #[arg(long, value_name = "[NAME:]KEY=VALUE", value_parser = selector)]
    gateway_selector: Vec<(Option<String>, Label)>,
    /// Where proxies get the filter: file://, http://, https:// or oci://. As a file it is mounted by the
    /// annotations of workload-annotations.yaml; into gateways by gateway-mount.yaml.
    #[arg(long, value_name = "URL", default_value_t = format!("file://{}", paths::FILTER), value_parser = url)]
    url: String,
    /// SHA-256 of the module; of an image, the digest of its manifest [default: that of --filter].
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    sha256: Option<String>,
    /// The filter that is served at --url. Found beside this program by default.
    #[arg(long, value_name = "FILE", conflicts_with = "sha256")]
    filter: Option<PathBuf>,
    /// The zone of all proxies, where Kubernetes names zones otherwise than the mesh file.
    #[arg(long, value_name = "ZONE", value_parser = zone)]
    zone: Option<ZoneName>,
    #[command(flatten)]
    destination: Destination,
}

fn selector(text: &str) -> Result<(Option<String>, Label), String> {
    match text.split_once(':') {
        Some((gateway, label)) => Ok((Some(gateway.into()), label.parse()?)),
        None => Ok((None, text.parse()?)),
    }
}

fn url(text: &str) -> Result<String, String> {
    const SCHEMES: [&str; 4] = ["file://", "http://", "https://", "oci://"];
    let after = SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme));
    match after {
        Some(place) if !place.is_empty() => Ok(text.into()),
        _ => Err("must begin with file://, http://, https:// or oci://".into()),
    }
}

fn sha256(text: &str) -> Result<String, String> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let legal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if hex.len() == 64 && hex.bytes().all(legal) {
        Ok(hex.into())
    } else {
        Err("must be 64 of 0-9 and a-f".into())
    }
}

/// Without those that were given before.
fn once<T: PartialEq>(given: Vec<T>) -> Vec<T> {
    let mut kept = Vec::new();
    for one in given {
        if !kept.contains(&one) {
            kept.push(one);
        }
    }
    kept
}

impl Istio {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mesh = mesh(&self.config)?;
        let sha256 = self.sum()?;
        let mut gateways = GatewaySelectors::default();
        for (name, label) in self.gateway_selector {
            match name {
                Some(name) => _ = gateways.named.insert(name, label),
                None => gateways.any = Some(label),
            }
        }
        let namespaces = once(self.namespace);
        let Some(first) = namespaces.first().cloned() else {
            return Err(UsageError("--namespace: at least one".into()).into());
        };
        let spec = IstioSpec {
            service_namespace: self.service_namespace.unwrap_or(first),
            namespaces,
            workloads: once(self.workload),
            istio_namespace: self.istio_namespace,
            gateways,
            url: self.url,
            sha256,
            zone: self.zone,
        };
        self.destination.give(&self.config, istio(&mesh, &spec))
    }

    /// A file's is not looked at, and an image's is another one than its module's.
    fn sum(&self) -> anyhow::Result<Option<String>> {
        if self.sha256.is_some() {
            return Ok(self.sha256.clone());
        }
        if self.url.starts_with("oci://") {
            if !self.url.contains("@sha256:") {
                eprintln!(
                    "warning: --sha256 is not given: proxies take whatever image is at {}",
                    self.url
                );
            }
            return Ok(None);
        }
        let Some(filter) = settings::filter_path(self.filter.clone()) else {
            eprintln!(
                "warning: the filter is not beside this program (--filter FILE, or --sha256 HEX): no sum is exported"
            );
            return Ok(None);
        };
        let wasm = fs::read(&filter).with_context(|| format!("--filter {}", filter.display()))?;
        Ok(Some(FilterCode::new(wasm.into()).sha256().to_string()))
    }
}
