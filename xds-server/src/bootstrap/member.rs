//! What a mesh, or a server, tells of whom an Envoy serves.

use policy::units::ServiceName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    compile::ports_are_shared,
    mesh::{Mesh, Service},
};

/// A gateway or service of a mesh, as far as its Envoys' bootstraps need to know it. Read from the
/// mesh file, or asked of a server (`GET /api/v1/bootstrap/NAME`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Member {
    /// `node.cluster`.
    pub name: String,
    /// The mesh's region.
    pub region: Option<String>,
    /// The mesh's trust domain.
    pub trust_domain: String,
    /// How many days the mesh file lets certificates live, where it says so.
    pub certificate_days: Option<u32>,
    /// Endpoints beside which its sidecars stand; empty for a gateway.
    pub endpoints: Vec<MemberEndpoint>,
    /// What becomes of a sidecar beside none of them; absent where it has no sidecars. Servers of before
    /// do not say.
    #[serde(default)]
    pub sidecar_elsewhere: Option<Elsewhere>,
}

/// What becomes of a sidecar whose `node.id` is no endpoint's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Elsewhere {
    /// It takes calls on the ports that all endpoints share.
    SharedPorts,
    /// It cannot know on which port it is called, and gets no inbound listener.
    NoInbound,
}

/// One place for a sidecar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemberEndpoint {
    /// `node.id` of its sidecar.
    pub id: String,
    /// Its region.
    pub region: Option<String>,
    /// Its zone.
    pub zone: Option<String>,
}

/// What cannot be bootstrapped.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// Neither a gateway nor a service.
    #[error("{name:?} is neither a gateway nor a service of this mesh; known: {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// Several endpoints, and none was chosen.
    #[error("{name} has several endpoints; choose one with --node-id: {ids}")]
    Ambiguous {
        /// The service.
        name: String,
        /// Its endpoints.
        ids: String,
    },
}

impl Member {
    /// Finds a gateway or service.
    ///
    /// # Errors
    /// [`MemberError::Unknown`], with the names that exist.
    pub fn find(mesh: &Mesh, name: &str) -> Result<Self, MemberError> {
        let key = ServiceName::new(name).ok();
        let gateway = key.as_ref().filter(|key| mesh.gateways.contains_key(*key));
        let service = key.as_ref().and_then(|key| mesh.services.get(key));
        let service = service.filter(|_| gateway.is_none());
        let endpoints = match (gateway, service) {
            (Some(_), _) => Vec::new(),
            (None, Some(service)) => service
                .endpoints
                .iter()
                .map(|endpoint| MemberEndpoint {
                    id: endpoint.id.clone(),
                    region: endpoint.region.clone(),
                    zone: endpoint.zone.as_ref().map(ToString::to_string),
                })
                .collect(),
            (None, None) => {
                let known = mesh.gateways.keys().chain(mesh.services.keys());
                let known: Vec<&str> = known.map(ServiceName::as_str).collect();
                return Err(MemberError::Unknown {
                    name: name.into(),
                    known: known.join(", "),
                });
            }
        };
        Ok(Self {
            name: name.into(),
            region: mesh.region.clone(),
            trust_domain: mesh.trust_domain.to_string(),
            certificate_days: mesh.certificates.service,
            endpoints,
            sidecar_elsewhere: service.and_then(elsewhere),
        })
    }

    /// What is to be said of a sidecar with this id where it is no endpoint's: most likely a slip of the
    /// pen, although the endpoint may be registered later.
    pub fn warning(&self, node_id: &str) -> Option<String> {
        let elsewhere = self.sidecar_elsewhere?;
        if self.endpoints.is_empty() || self.endpoint(node_id).is_some() {
            return None;
        }
        let name = &self.name;
        let means = match elsewhere {
            Elsewhere::SharedPorts => format!(
                "this Envoy takes calls on the port that all endpoints of {name} share, and nobody knows beside which of them it stands: not its zone, nor its application's health"
            ),
            Elsewhere::NoInbound => "this Envoy gets no inbound listener, so that no call reaches the application beside it"
                .to_string(),
        };
        let ids = self.some_ids();
        Some(format!(
            "no endpoint of {name} has the id {node_id:?} (there are: {ids}); until one has it, {means}"
        ))
    }

    fn some_ids(&self) -> String {
        const MOST: usize = 20;
        let ids = self.endpoints.iter().map(|one| one.id.as_str());
        let mut ids: Vec<&str> = ids.take(MOST + 1).collect();
        if ids.len() > MOST {
            ids[MOST] = "…";
        }
        ids.join(", ")
    }

    /// The node id to use: the one asked for, the only endpoint's, or the member's own name.
    ///
    /// # Errors
    /// [`MemberError::Ambiguous`] when several endpoints wait for a sidecar and none was named.
    pub fn node_id(&self, asked: Option<String>) -> Result<String, MemberError> {
        match (asked, self.endpoints.as_slice()) {
            (Some(id), _) => Ok(id),
            (None, []) => Ok(self.name.clone()),
            (None, [only]) => Ok(only.id.clone()),
            (None, _) => Err(MemberError::Ambiguous {
                name: self.name.clone(),
                ids: self.some_ids(),
            }),
        }
    }

    /// The endpoint that a node stands beside.
    pub fn endpoint(&self, node_id: &str) -> Option<&MemberEndpoint> {
        self.endpoints
            .iter()
            .find(|endpoint| endpoint.id == node_id)
    }
}

fn elsewhere(service: &Service) -> Option<Elsewhere> {
    service.sidecar.then(|| match ports_are_shared(service) {
        true => Elsewhere::SharedPorts,
        false => Elsewhere::NoInbound,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{Defaults, read};

    fn warning(service: &str, node_id: &str) -> Option<String> {
        let text = format!("services: {{a: {{{service}}}}}");
        let mesh = read(&text, &Defaults::default()).unwrap();
        let member = Member::find(&mesh, "a").unwrap();
        // As a server tells it.
        let told = serde_json::to_string(&member).unwrap();
        assert_eq!(serde_json::from_str::<Member>(&told).unwrap(), member);
        member.warning(node_id)
    }

    const TWO: &str = "port: 80, endpoints: [{id: a1, host: 10.0.0.1, port: 1}, {id: a2, host: 10.0.0.2, port: 2}]";

    #[test]
    fn a_sidecar_beside_no_endpoint_is_warned_of_with_the_ids_that_there_are() {
        let told = warning(TWO, "a-1").unwrap();
        assert_eq!(
            told,
            "no endpoint of a has the id \"a-1\" (there are: a1, a2); until one has it, this Envoy gets no inbound listener, so that no call reaches the application beside it"
        );
        let shared = warning(&TWO.replace("port: 2", "port: 1"), "a-1").unwrap();
        assert!(shared.contains("takes calls on the port that all endpoints of a share"));
        let unknown_port = warning(&TWO.replace("port: 80, ", ""), "a-1").unwrap();
        assert!(unknown_port.contains("no inbound listener"));
    }

    #[test]
    fn a_known_id_a_service_without_sidecars_and_one_without_endpoints_are_no_cause_to_warn() {
        assert_eq!(warning(TWO, "a2"), None);
        assert_eq!(warning(&format!("sidecar: false, {TWO}"), "a-1"), None);
        assert_eq!(warning("port: 80", "a-1"), None);
    }

    #[test]
    fn a_server_of_before_says_nothing_of_it() {
        let told = r#"{"name": "a", "region": null, "trust_domain": "m", "certificate_days": null,
            "endpoints": [{"id": "a1", "region": null, "zone": null}]}"#;
        let member: Member = serde_json::from_str(told).unwrap();
        assert_eq!(member.warning("a-1"), None);
    }
}
