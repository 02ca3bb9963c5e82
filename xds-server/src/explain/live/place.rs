//! Where a request comes in at an Envoy.

use serde_json::Value;

use super::super::{Question, QuestionError};
use crate::{
    dump::{Dump, managers},
    mesh::Entrance,
    resource::ResourceType,
};

/// Name of a sidecar's outbound listener and of its routes.
pub const OUTBOUND: &str = "outbound";

/// A listener's HTTP and its routes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'d> {
    /// The listener's name.
    pub(super) listener: &'d str,
    /// The route configuration's.
    pub(super) name: &'d str,
    /// The route configuration.
    pub(super) routes: &'d Value,
    manager: &'d Value,
}

impl<'d> Place<'d> {
    /// Where the question's request comes in: at the gateway or the outbound listener that it names, else
    /// at the only place there is for requests that go out.
    pub(super) fn find(dump: &'d Dump, question: &Question) -> Result<Self, QuestionError> {
        let all = places(dump);
        let wanted = match (&question.gateway, &question.service) {
            (Some(gateway), _) => Some(gateway.as_str()),
            (None, Some(_)) => Some(OUTBOUND),
            (None, None) => None,
        };
        let is_wanted = |place: &&Self| {
            wanted.is_none_or(|wanted| place.name == wanted || place.listener == wanted)
        };
        let mut found = all.iter().filter(is_wanted);
        let names = || {
            let names: Vec<&str> = all.iter().map(|place| place.name).collect();
            match names.is_empty() {
                true => "none".to_string(),
                false => names.join(", "),
            }
        };
        match (found.next(), found.next(), wanted) {
            (Some(only), None, _) | (Some(only), Some(_), Some(_)) => Ok(*only),
            (None, _, Some(wanted)) => Err(QuestionError(format!(
                "this Envoy has no listener or routes called {wanted}; it has: {}",
                names()
            ))),
            (None, _, None) => Err(QuestionError(
                "this Envoy has no routes for requests that go out".into(),
            )),
            (Some(_), Some(_), None) => Err(QuestionError(format!(
                "this Envoy has several route configurations; name one with --gateway: {}",
                names()
            ))),
        }
    }

    pub(super) fn sentence(&self) -> String {
        format!(
            "comes in at the listener {}, whose routes are {}",
            self.listener, self.name
        )
    }

    /// Whether paths are given one spelling before they are matched.
    pub(super) fn has_one_spelling(&self) -> bool {
        self.manager["normalize_path"] == true && self.manager["merge_slashes"] == true
    }

    /// What becomes of headers before they are matched.
    pub(super) fn entrance(&self) -> Entrance {
        Entrance::of_manager(self.manager)
    }

    /// A host that it answers for.
    pub(super) fn example_host(&self) -> String {
        let hosts = self.routes["virtual_hosts"]
            .as_array()
            .into_iter()
            .flatten();
        let mut domains = hosts.flat_map(|host| host["domains"].as_array().into_iter().flatten());
        match domains.next().and_then(Value::as_str) {
            None | Some("*") => "localhost".into(),
            Some(domain) => domain.replace('*', "any"),
        }
    }
}

/// Every HTTP of every listener but those for requests that come in to an application.
fn places(dump: &Dump) -> Vec<Place<'_>> {
    let mut places: Vec<Place<'_>> = Vec::new();
    for (listener, body) in dump.in_force(ResourceType::Listener) {
        if body["traffic_direction"] == "INBOUND" {
            continue;
        }
        for manager in managers(body) {
            let within = &manager["route_config"];
            let by_rds = manager["rds"]["route_config_name"].as_str();
            let mut all = dump.in_force(ResourceType::RouteConfiguration);
            let routes = match by_rds {
                Some(wanted) => all.find(|(name, _)| *name == wanted),
                None if within.is_null() => None,
                None => Some((within["name"].as_str().unwrap_or(listener), within)),
            };
            let Some((name, routes)) = routes else {
                continue;
            };
            if !places.iter().any(|place| place.name == name) {
                places.push(Place {
                    listener,
                    name,
                    routes,
                    manager,
                });
            }
        }
    }
    places
}
