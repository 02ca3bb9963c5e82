//! How often one request may be tried at the end of a path, when every hop fails: retries multiply.

use std::collections::{BTreeMap, BTreeSet};

use policy::units::ServiceName;

use super::model::{Gateway, Mesh, Retries};

/// The path from one place at which requests enter to the service that is tried most often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorstCase {
    /// A gateway, or a service that calls others and is called by nobody that the mesh knows of.
    pub from: ServiceName,
    /// Each service on the way, and how often its caller tries it at most.
    pub hops: Vec<(ServiceName, u32)>,
    /// How often the last one is tried for a single request.
    pub attempts: u64,
}

/// The worst case from each place at which requests enter. Calls among services are known by `uses`; a
/// service that names none is the end of its path, and a circle is walked once.
pub fn worst_case_attempts(mesh: &Mesh) -> Vec<WorstCase> {
    let mut tails = Tails {
        mesh,
        known: BTreeMap::new(),
    };
    let gateways = mesh.gateways.iter().map(|(name, gateway)| {
        let calls = gateway.calls().map(|forward| {
            let own = mesh.services.get(&forward.service);
            let retries = forward
                .retries
                .or_else(|| own.and_then(|service| service.retries));
            (&forward.service, tries(retries))
        });
        (name, calls.collect::<Vec<_>>())
    });
    let called = called(mesh);
    let entries = mesh
        .services
        .iter()
        .filter(|(name, service)| service.uses.is_some() && !called.contains(name))
        .map(|(name, _)| (name, tails.calls(name)));
    let roots: Vec<_> = gateways.chain(entries).collect();
    roots
        .into_iter()
        .filter_map(|(from, calls)| {
            let worst = tails.worst(calls);
            (!worst.hops.is_empty()).then(|| WorstCase {
                from: from.clone(),
                attempts: worst.attempts,
                hops: worst
                    .hops
                    .into_iter()
                    .map(|(name, tries)| (name.clone(), tries))
                    .collect(),
            })
        })
        .collect()
}

fn tries(retries: Option<Retries>) -> u32 {
    1 + retries.map_or(0, |retries| retries.attempts)
}

/// By a gateway, or by another service that says so.
fn called(mesh: &Mesh) -> BTreeSet<&ServiceName> {
    let by_gateways = mesh.gateways.values().flat_map(Gateway::calls);
    let by_services = mesh.services.iter().flat_map(|(caller, service)| {
        let uses = service.uses.iter().flatten();
        uses.filter(move |used| *used != caller)
    });
    let by_gateways = by_gateways.map(|forward| &forward.service);
    by_gateways.chain(by_services).collect()
}

/// The worst way on from a service.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tail<'m> {
    hops: Vec<(&'m ServiceName, u32)>,
    attempts: u64,
}

struct Tails<'m> {
    mesh: &'m Mesh,
    /// `None` while a service is on the way: a circle ends there.
    known: BTreeMap<&'m ServiceName, Option<Tail<'m>>>,
}

impl<'m> Tails<'m> {
    fn calls(&self, caller: &ServiceName) -> Vec<(&'m ServiceName, u32)> {
        let caller = self.mesh.services.get(caller);
        let uses = caller.and_then(|caller| caller.uses.as_ref());
        uses.into_iter()
            .flatten()
            .filter_map(|name| self.mesh.services.get_key_value(name))
            .map(|(name, service)| (name, tries(service.retries)))
            .collect()
    }

    fn worst(&mut self, calls: Vec<(&'m ServiceName, u32)>) -> Tail<'m> {
        let mut worst = Tail {
            hops: Vec::new(),
            attempts: 1,
        };
        for (name, tries) in calls {
            let Some(tail) = self.after(name) else {
                continue;
            };
            let attempts = tail.attempts.saturating_mul(tries.into());
            if worst.hops.is_empty() || attempts > worst.attempts {
                let mut hops = vec![(name, tries)];
                hops.extend(tail.hops);
                worst = Tail { hops, attempts };
            }
        }
        worst
    }

    fn after(&mut self, name: &'m ServiceName) -> Option<Tail<'m>> {
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        self.known.insert(name, None);
        let calls = self.calls(name);
        let tail = self.worst(calls);
        self.known.insert(name, Some(tail.clone()));
        Some(tail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{Defaults, read};

    fn worst(text: &str) -> Vec<String> {
        let mesh = read(text, &Defaults::default()).unwrap();
        worst_case_attempts(&mesh)
            .iter()
            .map(|case| {
                let hops = case.hops.iter();
                let hops: Vec<String> = hops
                    .map(|(name, tries)| format!("{name} x{tries}"))
                    .collect();
                format!("{} -> {}: {}", case.from, hops.join(" -> "), case.attempts)
            })
            .collect()
    }

    #[test]
    fn retries_multiply_along_the_worst_path_and_a_routes_own_count_at_the_first_hop() {
        let mesh = "\
services:
  order: {uses: [payment, stock], retries: {attempts: 1}}
  payment: {uses: [bank], retries: {attempts: 2}}
  stock: {retries: {attempts: 3}}
  bank: {retries: {attempts: 2}}
  report: {uses: [stock]}
gateways:
  edge:
    listen: 127.0.0.1:1
    routes:
      - {match: {path_prefix: /stock}, service: stock}
      - {match: {path_prefix: /}, service: order, retries: {attempts: 3}}
";
        assert_eq!(
            worst(mesh),
            [
                "edge -> order x4 -> payment x3 -> bank x3: 36",
                "report -> stock x4: 4",
            ]
        );
    }

    #[test]
    fn a_circle_is_walked_once_and_without_retries_nothing_multiplies() {
        let mesh = "\
services:
  a: {uses: [b], retries: {attempts: 1}}
  b: {uses: [a, c], retries: {attempts: 1}}
  c: {uses: [c]}
gateways: {edge: {listen: \"127.0.0.1:1\", routes: [{match: {path: /}, service: a}]}}
";
        assert_eq!(worst(mesh), ["edge -> a x2 -> b x2 -> c x1: 4"]);
        assert_eq!(worst("services: {a: {}}"), [""; 0]);
    }
}
