//! What no single field can know: names that must exist, be unique, or fit together.

mod written;

use std::collections::{BTreeMap, BTreeSet};

use policy::{
    canary::CanarySplit,
    reader::{Problem, Problems, Reader},
    shapes,
    units::{ServiceName, VersionLabel},
};
use serde_json::Value;

use super::{
    model::{Mesh, RouteAction, Service},
    read::UNREAD,
};

/// Whose labels versions may name.
#[derive(Clone, Copy)]
pub enum Labels<'l> {
    /// Those of the file's endpoints; where a service has none there, they register.
    OfFile,
    /// Those of instances too, which this lays over the mesh.
    Over(&'l dyn Fn(&Mesh) -> Mesh),
    /// Nobody looks: what was good when it was kept stays so, whoever has left since.
    Any,
}

/// Versions without an endpoint, as a mesh stands with all its instances.
pub fn versions_without_endpoints(mesh: &Mesh) -> Vec<Problem> {
    let problems = Problems::new();
    let root = Reader::root(&Value::Null, &problems);
    for (name, service) in &mesh.services {
        versions_have_endpoints(&root, name, service);
    }
    problems.into_vec()
}

/// Reports every contradiction between the parts of a mesh, of which some may not have been readable: nothing
/// is said of what refers to those.
pub(super) fn check(root: &Reader<'_>, mesh: &Mesh, labels: Labels<'_>) {
    let over = match labels {
        Labels::OfFile => Some(None),
        Labels::Over(over) => Some(Some(over(mesh))),
        Labels::Any => None,
    };
    let labelled = over.as_ref().map(|over| over.as_ref().unwrap_or(mesh));
    let timetable = &written::timetable(root, &mesh.timetable);
    for name in mesh.gateways.keys() {
        if mesh.services.contains_key(name) || written::is_service(root, name) {
            root.problem_at(
                &format!("gateways.{name}"),
                "a service has this name too; node.cluster must tell them apart",
                Some("rename one of them".into()),
            );
        }
    }
    for class in &mesh.traffic_classes {
        let path = format!("traffic_classes.{}", class.name);
        shapes::check_shed_names(root, &path, class, timetable);
    }
    shapes::check_freeze_names(root, "freeze.during", &mesh.freeze.during, timetable);
    routes_lead_somewhere(root, mesh);
    gateways_listen_apart(root, mesh);
    endpoint_ids_are_unique(root, mesh);
    for (name, service) in &mesh.services {
        shapes::check_service_name(root, &format!("services.{name}"), name);
        if let Some(canary) = &service.canary {
            let path = format!("services.{name}.canary.freeze_during");
            shapes::check_freeze_names(root, &path, &canary.freeze_during, timetable);
        }
        versions_differ(root, name, service);
        if let Some(service) = labelled.and_then(|mesh| mesh.services.get(name)) {
            versions_have_endpoints(root, name, service);
        }
        uses_exist(root, mesh, name, service);
        sidecars_find_their_application(root, name, service);
    }
}

fn routes_lead_somewhere(root: &Reader<'_>, mesh: &Mesh) {
    for (gateway_name, gateway) in &mesh.gateways {
        for (index, route) in gateway.routes.iter().enumerate() {
            let RouteAction::Forward(forward) = &route.action else {
                continue;
            };
            let path = format!("gateways.{gateway_name}.routes[{index}].service");
            service_exists(root, mesh, &path, &forward.service);
        }
    }
}

fn uses_exist(root: &Reader<'_>, mesh: &Mesh, name: &ServiceName, service: &Service) {
    for used in service.uses.iter().flatten() {
        service_exists(root, mesh, &format!("services.{name}.uses"), used);
    }
}

fn service_exists(root: &Reader<'_>, mesh: &Mesh, path: &str, name: &ServiceName) {
    let may_be = written::is_service(root, name) || written::services_are_unread(root);
    if mesh.services.contains_key(name) || may_be {
        return;
    }
    let known: Vec<&str> = mesh.services.keys().map(ServiceName::as_str).collect();
    root.problem_at(
        path,
        format!("no service is named {:?}", name.as_str()),
        Some(format!("known services: {}", known.join(", "))),
    );
}

fn gateways_listen_apart(root: &Reader<'_>, mesh: &Mesh) {
    let mut listeners = BTreeMap::new();
    for (name, gateway) in &mesh.gateways {
        if gateway.listen == UNREAD {
            continue;
        }
        if let Some(other) = listeners.insert(gateway.listen, name) {
            root.problem_at(
                &format!("gateways.{name}.listen"),
                format!("{} is the address of gateway {other} too", gateway.listen),
                Some("give each gateway its own address and port".into()),
            );
        }
    }
}

fn endpoint_ids_are_unique(root: &Reader<'_>, mesh: &Mesh) {
    let mut seen = BTreeSet::new();
    for (name, service) in &mesh.services {
        if !written::endpoints_are_read(root, name, service) {
            continue;
        }
        for (index, endpoint) in service.endpoints.iter().enumerate() {
            if !seen.insert((endpoint.id.as_str(), name)) {
                root.problem_at(
                    &format!("services.{name}.endpoints[{index}].id"),
                    format!("another endpoint is named {:?} too", endpoint.id),
                    Some("give each endpoint an id of its own".into()),
                );
            }
        }
    }
}

fn is_canary_too(service: &Service) -> bool {
    let stable = service.stable_version.as_ref();
    let same =
        |canary: &CanarySplit| Some(&canary.version) == stable && canary.weight.highest().get() > 0;
    service.canary.as_ref().is_some_and(same)
}

fn versions_differ(root: &Reader<'_>, name: &ServiceName, service: &Service) {
    if let Some(stable) = &service.stable_version
        && is_canary_too(service)
    {
        root.problem_at(
            &format!("services.{name}.stable_version"),
            format!("{stable} is the canary's version too"),
            Some("name another version, or end the canary".into()),
        );
    }
}

fn versions_have_endpoints(root: &Reader<'_>, name: &ServiceName, service: &Service) {
    let all_read = written::endpoints_are_read(root, name, service);
    let labelled = |label: &VersionLabel| {
        // Of an endpoint that could not be read the label may be readable.
        service.endpoints_of(Some(label)).next().is_some()
            || (!all_read && written::may_have_version(root, name, label))
    };
    if let Some(canary) = &service.canary
        && canary.weight.highest().get() > 0
        // Where the file names none, they register.
        && !service.endpoints.is_empty()
        && !labelled(&canary.version)
    {
        root.problem_at(
            &format!("services.{name}.canary.version"),
            format!("no endpoint of {name} has version: {}", canary.version),
            Some("label the canary's endpoints, or set weight: 0 until they exist".into()),
        );
    }
    let Some(stable) = &service.stable_version else {
        return;
    };
    if !is_canary_too(service) && !service.endpoints.is_empty() && !labelled(stable) {
        root.problem_at(
            &format!("services.{name}.stable_version"),
            format!("no endpoint of {name} has version: {stable}"),
            Some("label the stable endpoints, or leave it out".into()),
        );
    }
}

/// A sidecar that receives on its application's own port would forward to itself.
fn sidecars_find_their_application(root: &Reader<'_>, name: &ServiceName, service: &Service) {
    if !service.sidecar || !written::endpoints_are_read(root, name, service) {
        return;
    }
    for (index, endpoint) in service.endpoints.iter().enumerate() {
        let application = endpoint.app_port.or(service.port);
        if application == Some(endpoint.port) && endpoint.host.is_loopback() {
            root.problem_at(
                &format!("services.{name}.endpoints[{index}].port"),
                format!(
                    "is {} as the application's own port: its sidecar would call itself",
                    endpoint.port
                ),
                Some("give the sidecar another port, or say sidecar: false".into()),
            );
        }
    }
}
