//! The mesh file's services with the instances that registered. Pure; the same instances give the same mesh on
//! every server.

use std::sync::Arc;

use super::{Instance, InstanceId, state::Instances};
use crate::mesh::{Endpoint, Host, Mesh, Service, Standing};
use policy::units::ServiceName;

/// Why an instance is not among its service's endpoints although it is not silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOut {
    /// No such service.
    Service,
    /// An endpoint of the file has its id.
    Id,
    /// An endpoint of the file has its address.
    Address,
    /// The service's other hosts are found in another way.
    Host,
}

impl LeftOut {
    /// For people.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Service => "its service is not in the mesh (any more)",
            Self::Id => "the mesh file has an endpoint of this id, which counts",
            Self::Address => "the mesh file has an endpoint at this address, which counts",
            Self::Host => {
                "its service mixes DNS names and addresses: Envoy finds all endpoints of a service in one way"
            }
        }
    }
}

fn is_name(host: &Host) -> bool {
    matches!(host, Host::Name(_))
}

/// How the hosts of a service are found: as the file's are, else as the first instance's.
fn by_name(service: &Service, instances: &Instances) -> Option<bool> {
    let said = service
        .endpoints
        .iter()
        .find(|one| one.standing == Standing::File);
    let first = || {
        instances
            .values()
            .next()
            .map(|held| &held.instance.endpoint)
    };
    said.or_else(first).map(|endpoint| is_name(&endpoint.host))
}

/// Why an instance does not come in beside what the file says of its service.
pub(super) fn left_out(
    service: &Service,
    instances: &Instances,
    instance: &Endpoint,
) -> Option<LeftOut> {
    let mut said = service
        .endpoints
        .iter()
        .filter(|one| one.standing == Standing::File);
    let clash = said.find_map(|one| match one {
        one if one.id == instance.id => Some(LeftOut::Id),
        one if is_at(one, instance) => Some(LeftOut::Address),
        _ => None,
    });
    let found_otherwise =
        || by_name(service, instances).is_some_and(|names| names != is_name(&instance.host));
    clash.or_else(|| found_otherwise().then_some(LeftOut::Host))
}

/// Whether both are the same place.
pub(super) fn is_at(one: &Endpoint, other: &Endpoint) -> bool {
    (&one.host, one.port) == (&other.host, other.port)
}

/// A service of the file with its instances.
pub(super) fn with_instances(service: &Service, instances: &Instances) -> Service {
    let registered = instances.values().filter_map(|held| {
        let Instance {
            endpoint, phase, ..
        } = &*held.instance;
        let standing = phase.standing()?;
        let comes_in = left_out(service, instances, endpoint).is_none();
        comes_in.then(|| Endpoint {
            standing,
            ..endpoint.clone()
        })
    });
    let endpoints = service.endpoints.iter().cloned().chain(registered);
    Service {
        endpoints: endpoints.collect(),
        ..service.clone()
    }
}

/// A mesh with all instances. What is the same as in `before` is shared with it.
pub(super) fn over<'i>(
    mesh: &Mesh,
    instances: impl Iterator<Item = (&'i ServiceName, &'i Instances)>,
    before: Option<&Mesh>,
) -> Mesh {
    let mut merged = mesh.clone();
    for (name, instances) in instances {
        let Some(service) = mesh.services.get(name) else {
            continue;
        };
        let service = with_instances(service, instances);
        let known = before.and_then(|before| before.services.shared(name));
        let service = match known {
            Some(known) if **known == service => Arc::clone(known),
            _ => Arc::new(service),
        };
        merged.services.put(name.clone(), service);
    }
    merged
}

/// Something about a registration that is legal and most likely not meant.
pub(super) fn warning(service: &Service, id: &InstanceId, endpoint: &Endpoint) -> Option<String> {
    let canary = service.canary.as_ref().map(|canary| &canary.version);
    let (name, label) = (&id.service, endpoint.version.as_ref());
    let is_canary = label.is_some() && label == canary;
    match &service.stable_version {
        Some(stable) if !is_canary && label != Some(stable) => {
            let said = label.map_or("no version".into(), |label| format!("version {label}"));
            Some(format!(
                "{said}: nobody calls it, since {name}'s stable_version is {stable}{}",
                canary.map_or_else(String::new, |canary| format!(" and its canary {canary}"))
            ))
        }
        Some(_) => None,
        None if is_canary || label.is_none() => None,
        None => {
            let mut others = service
                .endpoints
                .iter()
                .filter_map(|one| one.version.as_ref());
            let other = others.find(|other| Some(*other) != label && Some(*other) != canary)?;
            Some(format!(
                "version {} is served beside {other}: {name} names neither as its stable_version nor as its \
                 canary, so both get the same traffic",
                label.map(ToString::to_string).unwrap_or_default()
            ))
        }
    }
}
