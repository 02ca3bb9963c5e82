//! What of a proxy's configuration is wanted.

use clap::Args;
use serde_json::Value;

use super::types;

/// What is shown of it.
#[derive(Debug, Args)]
pub(super) struct Narrow {
    /// Resources of this name only.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Clusters, endpoints and routes of this service only.
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// Listeners and endpoints on this port only.
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// Endpoints of which --admin says this only: healthy, or a word of what is wrong with them.
    #[arg(long, value_name = "WORD", requires = "admin")]
    health: Option<String>,
}

impl Narrow {
    /// Takes out what is not wanted. A type of which nothing is left goes, unless it was rejected.
    pub(super) fn apply(&self, answer: &mut Value) {
        if self.is_everything() {
            return;
        }
        for kind in types(answer) {
            let api = kind["type"].as_str().unwrap_or_default().to_string();
            if let Some(configs) = kind["configs"].as_array_mut() {
                configs.retain_mut(|config| self.wants(&api, config));
            }
        }
        for proxy in answer["proxies"].as_array_mut().into_iter().flatten() {
            if let Some(kinds) = proxy["types"].as_array_mut() {
                kinds.retain(|kind| {
                    kind["configs"]
                        .as_array()
                        .is_some_and(|left| !left.is_empty())
                });
            }
            if let Some(hosts) = proxy["hosts"].as_array_mut() {
                hosts.retain(|host| self.wants_host(host));
            }
            if let Some(fields) = proxy.as_object_mut() {
                fields.shift_remove("bootstrap");
            }
        }
    }

    fn is_everything(&self) -> bool {
        self.name.is_none()
            && self.service.is_none()
            && self.port.is_none()
            && self.health.is_none()
    }

    fn wants(&self, api: &str, config: &mut Value) -> bool {
        let name = config["name"].as_str().unwrap_or_default();
        if self.name.as_deref().is_some_and(|wanted| wanted != name) || self.health.is_some() {
            return false;
        }
        let by_service = match (&self.service, api) {
            (None, _) => true,
            (Some(service), "CDS" | "EDS") => is_of(name, service),
            (Some(service), "RDS") => keep_routes(&mut config["resource"], service),
            (Some(_), _) => false,
        };
        let by_port = match (self.port, api) {
            (None, _) => true,
            (Some(port), "LDS") => {
                config["resource"]["address"]["socket_address"]["port_value"] == port
            }
            (Some(port), "EDS") => keep_endpoints(&mut config["resource"], port),
            (Some(_), _) => false,
        };
        by_service && by_port
    }

    fn wants_host(&self, host: &Value) -> bool {
        let text = |field: &str| host[field].as_str().unwrap_or_default();
        let cluster = text("cluster");
        self.name.as_deref().is_none_or(|name| name == cluster)
            && (self.service.as_deref()).is_none_or(|service| is_of(cluster, service))
            && self
                .port
                .is_none_or(|port| text("address").ends_with(&format!(":{port}")))
            && (self.health.as_deref()).is_none_or(|word| text("health").contains(word))
    }
}

/// `SERVICE`, or `SERVICE|LABEL`.
fn is_of(cluster: &str, service: &str) -> bool {
    let rest = cluster.strip_prefix(service);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('|'))
}

/// Keeps the routes to a service; false where there are none.
fn keep_routes(routes: &mut Value, service: &str) -> bool {
    let Some(hosts) = routes["virtual_hosts"].as_array_mut() else {
        return false;
    };
    hosts.retain_mut(|host| {
        let Some(routes) = host["routes"].as_array_mut() else {
            return false;
        };
        routes.retain(|route| {
            let cluster = route["route"]["cluster"].as_str();
            cluster.is_some_and(|cluster| is_of(cluster, service))
        });
        !routes.is_empty()
    });
    !hosts.is_empty()
}

/// Keeps the endpoints on a port; false where there are none.
fn keep_endpoints(assignment: &mut Value, port: u16) -> bool {
    let Some(localities) = assignment["endpoints"].as_array_mut() else {
        return false;
    };
    localities.retain_mut(|locality| {
        let Some(endpoints) = locality["lb_endpoints"].as_array_mut() else {
            return false;
        };
        endpoints.retain(|endpoint| {
            endpoint["endpoint"]["address"]["socket_address"]["port_value"] == port
        });
        !endpoints.is_empty()
    });
    !localities.is_empty()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn narrowed(narrow: &Narrow) -> Value {
        let endpoint = |port: u16| {
            let address = json!({"socket_address": {"address": "10.0.0.1", "port_value": port}});
            json!({"endpoint": {"address": address}})
        };
        let route = |cluster: &str| json!({"route": {"cluster": cluster}});
        let mut answer = json!({"proxies": [{"types": [
            {"type": "CDS", "configs": [{"name": "pay"}, {"name": "pay|v2"}, {"name": "payments"}]},
            {"type": "EDS", "configs": [
                {"name": "pay", "resource": {"endpoints": [{"lb_endpoints": [endpoint(1), endpoint(2)]}]}},
            ]},
            {"type": "RDS", "configs": [{"name": "edge", "resource": {"virtual_hosts": [
                {"routes": [route("pay|v2"), route("stock")]}, {"routes": [route("stock")]},
            ]}}]},
            {"type": "LDS", "configs": [
                {"name": "edge", "resource": {"address": {"socket_address": {"port_value": 2}}}},
            ]},
        ], "hosts": [
            {"cluster": "pay", "address": "10.0.0.1:1", "health": "healthy"},
            {"cluster": "stock", "address": "10.0.0.1:2", "health": "ejected (outlier detection)"},
        ], "bootstrap": {}}]});
        narrow.apply(&mut answer);
        answer["proxies"][0].take()
    }

    fn nothing() -> Narrow {
        Narrow {
            name: None,
            service: None,
            port: None,
            health: None,
        }
    }

    fn names(proxy: &Value) -> Vec<String> {
        let types = proxy["types"].as_array().unwrap().iter();
        let named = types.flat_map(|kind| {
            let configs = kind["configs"].as_array().unwrap().iter();
            configs
                .map(move |config| format!("{} {}", kind["type"], config["name"]).replace('"', ""))
        });
        named.collect()
    }

    #[test]
    fn a_service_is_its_clusters_its_endpoints_and_the_routes_to_it() {
        let proxy = narrowed(&Narrow {
            service: Some("pay".into()),
            ..nothing()
        });
        assert_eq!(
            names(&proxy),
            ["CDS pay", "CDS pay|v2", "EDS pay", "RDS edge"]
        );
        let hosts = &proxy["types"][2]["configs"][0]["resource"]["virtual_hosts"];
        assert_eq!(
            hosts,
            &json!([{"routes": [{"route": {"cluster": "pay|v2"}}]}])
        );
        assert_eq!(proxy["hosts"].as_array().unwrap().len(), 1);
        assert!(proxy.get("bootstrap").is_none());
    }

    #[test]
    fn ports_names_and_healths_narrow_what_has_them() {
        let port = narrowed(&Narrow {
            port: Some(2),
            ..nothing()
        });
        assert_eq!(names(&port), ["EDS pay", "LDS edge"]);
        assert_eq!(port["hosts"][0]["cluster"], "stock");
        let name = narrowed(&Narrow {
            name: Some("pay|v2".into()),
            ..nothing()
        });
        assert_eq!(names(&name), ["CDS pay|v2"]);
        let health = narrowed(&Narrow {
            health: Some("ejected".into()),
            ..nothing()
        });
        assert_eq!(health["hosts"].as_array().unwrap().len(), 1);
        assert_eq!(names(&health), [""; 0]);
        assert_eq!(names(&narrowed(&nothing())).len(), 6);
    }
}
