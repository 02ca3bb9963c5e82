//! A mesh's policy for proxies that Istio runs: the filter as a WasmPlugin, and the routes, subsets and
//! settings that go with it. Services are those of Kubernetes with the same names.

mod destination;
mod gateway;
mod installation;
mod limits;
mod plugin;
mod routes;

use std::{collections::BTreeMap, fmt, str::FromStr};

use policy::{
    reader::Problem,
    units::{ServiceName, VersionLabel, ZoneName},
};
use serde_json::{Value, json};

use super::{
    Export, Manifest,
    names::{Namespace, is_dns_label, is_label_value, labels, no_service_name},
    problem,
};
use crate::mesh::{Mesh, Service};

/// What is exported. Nothing is in a list twice.
#[derive(Debug, Clone)]
pub struct IstioSpec {
    /// Whose sidecars get the filter; at least one.
    pub namespaces: Vec<Namespace>,
    /// Only these workloads of theirs, one plugin for each; all when empty.
    pub workloads: Vec<Label>,
    /// Where the services live.
    pub service_namespace: Namespace,
    /// Where Istio and its gateways run.
    pub istio_namespace: Namespace,
    /// The pods of the mesh's gateways.
    pub gateways: GatewaySelectors,
    /// Where proxies get the filter: `file://`, `http://`, `https://` or `oci://`.
    pub url: String,
    /// Of the module, or of an image its manifest's digest.
    pub sha256: Option<String>,
    /// The zone of all proxies, where Kubernetes names zones otherwise than the mesh file.
    pub zone: Option<ZoneName>,
}

/// A label with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Such as `app`.
    pub key: String,
    /// Such as `checkout`.
    pub value: String,
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
        if !is_label_value(name) || !is_label_value(value) {
            return Err("no label: KEY=VALUE, such as app=checkout".into());
        }
        Ok(Self {
            key: key.into(),
            value: value.into(),
        })
    }
}

impl fmt::Display for Label {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={}", self.key, self.value)
    }
}

impl IstioSpec {
    /// Whether the filter is a file of each proxy.
    fn is_file(&self) -> bool {
        self.url.starts_with("file:")
    }
}

/// By what the pods of gateways are found.
#[derive(Debug, Clone, Default)]
pub struct GatewaySelectors {
    /// Of gateways that are named.
    pub named: BTreeMap<String, Label>,
    /// Of any other.
    pub any: Option<Label>,
}

impl GatewaySelectors {
    /// Of one gateway.
    fn of(&self, gateway: &ServiceName) -> Label {
        let named = self.named.get(gateway.as_str()).or(self.any.as_ref());
        named.cloned().unwrap_or_else(|| Label {
            key: "istio".into(),
            value: "ingressgateway".into(),
        })
    }
}

/// All resources and settings.
///
/// # Errors
/// What Kubernetes or Istio would refuse, or do otherwise than the mesh file says.
pub fn istio(mesh: &Mesh, spec: &IstioSpec) -> Result<Export, Vec<Problem>> {
    let mut problems = limits::refused(mesh, spec);
    let targets: BTreeMap<&ServiceName, Target> = mesh
        .services
        .iter()
        .filter_map(|(name, service)| match Target::of(name, service, spec) {
            Ok(target) => Some((name, target)),
            Err(found) => {
                problems.extend(found);
                None
            }
        })
        .collect();
    let plugins = plugin::plugins(mesh, spec, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let services = || {
        mesh.services
            .iter()
            .filter_map(|(name, service)| Some((name, service, targets.get(name)?)))
    };
    let destinations = services()
        .filter_map(|(name, service, target)| destination::rule(name, service, target, spec));
    let destinations: Vec<Value> = destinations.collect();
    let mut routes: Vec<Value> = services()
        .map(|(name, service, target)| routes::of_service(name, service, target, spec))
        .collect();
    for (name, edge) in &mesh.gateways {
        match gateway::routes(mesh, name, edge, &targets, spec) {
            Ok(made) => routes.push(made),
            Err(found) => problems.push(found),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut files = vec![plugin::manifest(plugins, spec)];
    if !destinations.is_empty() {
        files.push(Manifest::new("destination-rules.yaml", destinations));
    }
    if !routes.is_empty() {
        files.push(Manifest::new("virtual-services.yaml", routes).saying(&[
            "The filter decides and writes x-mumbai-version; these routes obey. Weights here would decide a second time.",
            "No destination has a `port`: of a Service with one port it is that one, and sidecars keep the port that was",
            "called. Write it into a gateway's routes to a Service with several.",
        ]));
    }
    files.extend(installation::telemetry(mesh, spec));
    files.push(installation::installation(mesh, spec));
    files.push(installation::annotations(mesh, spec));
    files.extend(installation::gateway_mount(mesh, spec));
    Ok(Export {
        files,
        warnings: limits::warnings(mesh, spec),
    })
}

/// A service as Istio reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    host: String,
    split: Option<Split>,
}

/// Two versions.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Split {
    /// Label of the canary.
    canary: VersionLabel,
    /// Label of stable.
    stable: VersionLabel,
    /// The canary's subset.
    subset: String,
}

/// The subset of stable.
const STABLE: &str = policy::names::STABLE;

impl Target {
    fn of(name: &ServiceName, service: &Service, spec: &IstioSpec) -> Result<Self, Vec<Problem>> {
        let path = format!("services.{name}");
        let mut problems: Vec<Problem> =
            no_service_name(&path, name.as_str()).into_iter().collect();
        let split = match split(&path, service) {
            Ok(split) => split,
            Err(found) => {
                problems.push(found);
                None
            }
        };
        if problems.is_empty() {
            let host = hosts(name, &spec.service_namespace).remove(0);
            Ok(Self { host, split })
        } else {
            Err(problems)
        }
    }
}

/// Names of a service, the longest first: that is Istio's.
fn hosts(name: &ServiceName, namespace: &Namespace) -> Vec<String> {
    let short = format!("{name}.{namespace}");
    vec![
        format!("{short}.svc.cluster.local"),
        format!("{short}.svc"),
        short,
    ]
}

/// Istio's subsets are pods with a label; it has no word for all others.
fn split(path: &str, service: &Service) -> Result<Option<Split>, Problem> {
    let Some(canary) = service.canary.as_ref().map(|canary| &canary.version) else {
        return Ok(None);
    };
    let mut others: Vec<&VersionLabel> = match &service.stable_version {
        Some(stable) => vec![stable],
        None => {
            let labels = service
                .endpoints
                .iter()
                .filter_map(|endpoint| endpoint.version.as_ref());
            labels.filter(|label| *label != canary).collect()
        }
    };
    others.sort_unstable();
    others.dedup();
    let [stable] = others.as_slice() else {
        return Err(problem(
            format!("{path}.stable_version"),
            format!(
                "must be given: Istio's subsets are pods with a label, and cannot be \"all but version {canary}\""
            ),
            "name the version label of the stable pods, and an endpoint with it",
        ));
    };
    for label in [canary, *stable] {
        if !is_label_value(label.as_str()) {
            return Err(problem(
                format!("{path}.canary.version"),
                format!("{label} is no value of a Kubernetes label"),
                "1 to 63 letters, digits, -, _ and ., beginning and ending with a letter or digit",
            ));
        }
    }
    let subset = canary
        .as_str()
        .to_ascii_lowercase()
        .replace(['.', '_'], "-");
    if !is_dns_label(&subset) || subset == STABLE {
        return Err(problem(
            format!("{path}.canary.version"),
            format!("{canary} makes no name of a subset"),
            "a-z, 0-9 and -, such as v2",
        ));
    }
    Ok(Some(Split {
        canary: canary.clone(),
        stable: (*stable).clone(),
        subset,
    }))
}

/// What every resource says of itself.
fn about(name: &str, namespace: &Namespace) -> Value {
    json!({"name": name, "namespace": namespace.as_str(), "labels": labels("mumbai-mesh", "policy")})
}

/// As Go reads durations.
fn duration(duration: std::time::Duration) -> Value {
    policy::time::format_duration(duration).into()
}
