//! VirtualServices of gateways: their routes, bound to Istio's own Gateway resources.

use std::collections::BTreeMap;

use policy::{
    reader::Problem,
    traffic_class::{PathMatch, RequestMatch},
    units::ServiceName,
};
use serde_json::{Map, Value, json};

use super::{
    IstioSpec, Target,
    routes::{Call, header, to_service, virtual_service, with_timeout},
};
use crate::{
    export::names::makes_too_much,
    mesh::{Gateway, HostPattern, Mesh, Redirect, Route, RouteAction},
};

const FIX: &str = "have several gateways with fewer routes, each for hosts of its own; a canary and retries double a route each";

/// The VirtualService of a gateway.
///
/// # Errors
/// More of it than Kubernetes takes.
pub(super) fn routes(
    mesh: &Mesh,
    name: &ServiceName,
    gateway: &Gateway,
    targets: &BTreeMap<&ServiceName, Target>,
    spec: &IstioSpec,
) -> Result<Value, Problem> {
    let hosts: Vec<String> = gateway.hosts.iter().map(ToString::to_string).collect();
    let mut http = vec![json!({
        "name": "/health",
        "match": [{"uri": {"exact": "/health"}, "method": {"exact": "GET"}}],
        "directResponse": {"status": 200, "body": {"string": "ok\n"}},
    })];
    http.extend(
        gateway
            .routes
            .iter()
            .flat_map(|route| of_route(mesh, route, targets)),
    );
    let bound = format!("{}/{name}", spec.istio_namespace);
    let body = json!({"hosts": hosts, "gateways": [bound], "http": http});
    let made = virtual_service(name, &spec.istio_namespace, &body);
    let path = format!("gateways.{name}.routes");
    match makes_too_much(&path, "a VirtualService", made.to_string().len(), FIX) {
        Some(problem) => Err(problem),
        None => Ok(made),
    }
}

fn of_route(mesh: &Mesh, route: &Route, targets: &BTreeMap<&ServiceName, Target>) -> Vec<Value> {
    let mut made = Vec::new();
    for place in places(&route.request) {
        let matched = matched(route, &place);
        match &route.action {
            RouteAction::Redirect(redirect) => made.push(json!({
                "name": place.name,
                "match": [matched],
                "redirect": redirection(redirect, &place),
            })),
            RouteAction::Forward(forward) => {
                let service = mesh.services.get(&forward.service);
                let (Some(service), Some(target)) = (service, targets.get(&forward.service)) else {
                    continue;
                };
                let mut action = with_timeout(Map::new(), forward.timeout.or(service.timeout));
                let mut rewrite = json!({});
                if let Some(new) = forward
                    .rewrite
                    .path
                    .as_deref()
                    .and_then(|new| place.replaced_by(new))
                {
                    rewrite["uri"] = json!(new);
                }
                if let Some(host) = &forward.rewrite.host {
                    rewrite["authority"] = json!(host);
                }
                if rewrite != json!({}) {
                    action.insert("rewrite".into(), rewrite);
                }
                let call = Call {
                    name: place.name.clone(),
                    method: route.request.method.as_deref(),
                    action,
                    retries: forward.retries.as_ref().or(service.retries.as_ref()),
                };
                made.extend(to_service(&call, &matched, target));
            }
        }
    }
    made
}

/// A condition on the path that Istio knows. Its prefixes end anywhere, ours with a segment: one of ours is
/// two of Istio's, the path itself and all below it.
struct Place {
    name: String,
    uri: Value,
    /// Whether the whole path is matched.
    is_whole: bool,
}

impl Place {
    /// What stands in the place of what is matched, if that changes anything.
    fn replaced_by(&self, new: &str) -> Option<String> {
        if self.is_whole {
            return Some(new.into());
        }
        let new = format!("{}/", new.trim_end_matches('/'));
        (self.uri["prefix"] != json!(new)).then_some(new)
    }
}

fn places(request: &RequestMatch) -> Vec<Place> {
    let whole = |path: &str| Place {
        name: path.into(),
        uri: json!({"exact": path}),
        is_whole: true,
    };
    let below = |prefix: String| Place {
        name: format!("{prefix}*"),
        uri: json!({"prefix": prefix}),
        is_whole: false,
    };
    match (&request.path, &request.grpc_service) {
        (Some(PathMatch::Exact(path)), _) => vec![whole(path)],
        (Some(PathMatch::Prefix(prefix)), _) if &**prefix != "/" => {
            let prefix = prefix.trim_end_matches('/');
            vec![whole(prefix), below(format!("{prefix}/"))]
        }
        (_, Some(service)) => vec![below(format!("/{service}/"))],
        _ => vec![below("/".into())],
    }
}

fn matched(route: &Route, place: &Place) -> Map<String, Value> {
    let request = &route.request;
    let mut matched = Map::new();
    matched.insert("uri".into(), place.uri.clone());
    if !route.hosts.is_empty() {
        let hosts: Vec<String> = route.hosts.iter().map(authority).collect();
        let regex = format!("({})(:[0-9]+)?", hosts.join("|"));
        matched.insert("authority".into(), json!({"regex": regex}));
    }
    if let Some(method) = &request.method {
        matched.insert("method".into(), json!({"exact": method}));
    }
    for (name, value) in &request.headers {
        header(&mut matched, name.as_str(), &json!({"exact": value}));
    }
    if request.grpc_service.is_some() {
        header(
            &mut matched,
            "content-type",
            &json!({"prefix": "application/grpc"}),
        );
    }
    matched
}

/// Hosts are in lower case and hold nothing but letters, digits, `-`, `.` and the brackets and colons of addresses.
fn authority(host: &HostPattern) -> String {
    let escaped = |text: &str| {
        let mut regex = String::new();
        for character in text.chars() {
            if ".[]".contains(character) {
                regex.push('\\');
            }
            regex.push(character);
        }
        regex
    };
    match host {
        HostPattern::Any => ".*".into(),
        HostPattern::Below(suffix) => format!(".+{}", escaped(suffix)),
        HostPattern::Exactly(host) => escaped(host),
    }
}

fn redirection(redirect: &Redirect, place: &Place) -> Value {
    let mut body = json!({"redirectCode": redirect.status});
    if redirect.https {
        body["scheme"] = json!("https");
    }
    if let Some(host) = &redirect.host {
        body["authority"] = json!(host);
    }
    if let Some(port) = redirect.port {
        body["port"] = json!(port);
    }
    if let Some(path) = &redirect.path {
        body["uri"] = json!(path);
    }
    if let Some(new) = redirect
        .path_prefix
        .as_deref()
        .and_then(|new| place.replaced_by(new))
    {
        let field = if place.is_whole {
            "uri"
        } else {
            "prefixRewrite"
        };
        body[field] = json!(new);
    }
    body
}
