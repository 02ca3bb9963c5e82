//! Limits that the proxies of one gateway or service share: whom that concerns, and how many they are.

use std::collections::{BTreeMap, BTreeSet};

use policy::{
    limit::{FleetSize, Limit, Scope},
    units::ServiceName,
};

use super::Role;
use crate::mesh::Mesh;

/// How many proxies each gateway and service has; one where nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetSizes(BTreeMap<ServiceName, FleetSize>);

impl FleetSizes {
    /// Of these.
    pub fn of_members(sizes: impl IntoIterator<Item = (ServiceName, FleetSize)>) -> Self {
        let sizes = sizes.into_iter();
        Self(sizes.filter(|(_, size)| *size != FleetSize::ONE).collect())
    }

    /// The one of a gateway or service.
    pub fn of(&self, member: &ServiceName) -> FleetSize {
        self.0.get(member).copied().unwrap_or_default()
    }

    /// Whose differ.
    pub fn differing(&self, other: &Self) -> BTreeSet<ServiceName> {
        let names = self.0.keys().chain(other.0.keys());
        let differ = |name: &&ServiceName| self.of(name) != other.of(name);
        names.filter(differ).cloned().collect()
    }
}

/// What of a mesh is shared by the proxies of whoever calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Divided {
    /// Some class's limit is, for all services together.
    by_class: bool,
    /// Those whose own limit is.
    services: BTreeSet<ServiceName>,
}

impl Divided {
    /// Of a mesh.
    pub fn of(mesh: &Mesh) -> Self {
        let is_divided = |limit: &Option<Limit>| {
            let scope = limit.as_ref().map(|limit| limit.scope);
            scope == Some(Scope::Fleet)
        };
        let services = mesh.services.iter();
        let services = services.filter(|(_, service)| is_divided(&service.limit));
        Self {
            by_class: mesh
                .traffic_classes
                .iter()
                .any(|class| is_divided(&class.limit)),
            services: services.map(|(name, _)| name.clone()).collect(),
        }
    }

    /// Whether nothing is.
    pub fn is_nothing(&self) -> bool {
        !self.by_class && self.services.is_empty()
    }

    /// Whether it concerns whoever may call some services.
    pub(super) fn concerns(&self, calls: impl Fn(&ServiceName) -> bool) -> bool {
        self.by_class || self.services.iter().any(calls)
    }

    /// Whether it concerns the proxies of a gateway or service.
    pub fn concerns_member(&self, mesh: &Mesh, member: &ServiceName) -> bool {
        if self.is_nothing() {
            return false;
        }
        if mesh.gateways.contains_key(member) {
            return true;
        }
        let Some(service) = mesh.services.get(member) else {
            return false;
        };
        let uses = service.uses.as_ref();
        self.concerns(|name| uses.is_none_or(|uses| uses.contains(name)))
    }

    /// The size of a node's group, where it makes a difference to the node.
    pub(super) fn size_for(
        &self,
        mesh: &Mesh,
        role: &Role,
        sizes: &FleetSizes,
    ) -> Option<FleetSize> {
        let (Role::Gateway(member) | Role::Service(member)) = role else {
            return None;
        };
        let size = Some(sizes.of(member)).filter(|size| *size != FleetSize::ONE);
        size.filter(|_| self.concerns_member(mesh, member))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{Defaults, read};

    #[test]
    fn a_limit_concerns_those_who_may_call_what_it_limits() {
        let text = "\
services:
  pay: {sidecar: true, port: 80, limit: {per_second: 10, scope: fleet}}
  shop: {sidecar: true, port: 80, uses: [pay]}
  cart: {sidecar: true, port: 80, uses: [shop]}
gateways: {edge: {listen: \"127.0.0.1:1\", routes: [{match: {path_prefix: /}, service: pay}]}}
";
        let concerned = |text: &str| {
            let mesh = read(text, &Defaults::default()).unwrap();
            let divided = Divided::of(&mesh);
            ["pay", "shop", "cart", "edge", "nobody"].map(|name| {
                let name = ServiceName::new(name).unwrap();
                divided.concerns_member(&mesh, &name)
            })
        };
        assert_eq!(concerned(text), [true, true, false, true, false]);
        assert_eq!(concerned(&text.replace("fleet", "envoy")), [false; 5]);
        let class = format!(
            "traffic_classes: {{bronze: {{match: [{{path: /b}}], limit: {{per_second: 1, scope: fleet}}}}}}\n{}",
            text.replace("fleet", "envoy")
        );
        assert_eq!(concerned(&class), [true, true, true, true, false]);
    }

    #[test]
    fn whose_sizes_differ_is_told_whoever_is_one_alone() {
        let name = |name: &str| ServiceName::new(name).unwrap();
        let of = |sizes: &[(&str, usize)]| {
            let sizes = sizes.iter();
            FleetSizes::of_members(sizes.map(|(of, size)| (name(of), FleetSize::new(*size))))
        };
        let (before, after) = (
            of(&[("a", 1), ("b", 2), ("c", 3)]),
            of(&[("b", 2), ("c", 4)]),
        );
        assert_eq!(before.differing(&after), BTreeSet::from([name("c")]));
        assert_eq!(of(&[("a", 1)]), FleetSizes::default());
    }
}
