//! VirtualServices of services: what the filter decided, it wrote into a header, which chooses the subset.

use policy::{names, units::ServiceName};
use serde_json::{Map, Value, json};

use super::{IstioSpec, STABLE, Target, about, duration};
use crate::{
    compile::{IDEMPOTENT, Methods, kinds_of_retries},
    mesh::{Retries, Service},
};

/// As sidecars call it. One for each service: where Istio is told nothing, it tries failed requests again.
pub(super) fn of_service(
    name: &ServiceName,
    service: &Service,
    target: &Target,
    spec: &IstioSpec,
) -> Value {
    let call = Call {
        name: name.to_string(),
        method: None,
        action: with_timeout(Map::new(), service.timeout),
        retries: service.retries.as_ref(),
    };
    let body = json!({"hosts": [target.host], "http": to_service(&call, &Map::new(), target)});
    virtual_service(name, &spec.service_namespace, &body)
}

pub(super) fn virtual_service(
    name: &ServiceName,
    namespace: &super::Namespace,
    body: &Value,
) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": about(name.as_str(), namespace),
        "spec": body,
    })
}

pub(super) fn with_timeout(
    mut action: Map<String, Value>,
    timeout: Option<std::time::Duration>,
) -> Map<String, Value> {
    if let Some(timeout) = timeout {
        action.insert("timeout".into(), duration(timeout));
    }
    action
}

/// What becomes of requests that are matched.
pub(super) struct Call<'m> {
    pub(super) name: String,
    /// The only one that is matched.
    pub(super) method: Option<&'m str>,
    /// Timeout and rewrite.
    pub(super) action: Map<String, Value>,
    pub(super) retries: Option<&'m Retries>,
}

/// One route for each combination of version and how a request may be tried again; the first that matches
/// counts, so those with more conditions come first.
pub(super) fn to_service(
    call: &Call<'_>,
    matched: &Map<String, Value>,
    target: &Target,
) -> Vec<Value> {
    let split = target.split.as_ref();
    let canary = split.map(|split| Some((split.subset.as_str(), split.canary.as_str())));
    let mut routes = Vec::new();
    for version in canary.into_iter().chain([None]) {
        for methods in kinds_of_retries(call.retries, call.method) {
            let mut matched = matched.clone();
            let subset = version.map(|(subset, _)| subset).or(split.map(|_| STABLE));
            if let Some((_, label)) = version {
                header(
                    &mut matched,
                    names::HEADER_VERSION,
                    &json!({"exact": label}),
                );
            }
            if *methods == Methods::Idempotent && call.method.is_none() {
                matched.insert("method".into(), json!({"regex": IDEMPOTENT.join("|")}));
            }
            routes.push(route(call, &matched, target, subset, *methods));
        }
    }
    routes
}

/// With a further condition.
pub(super) fn header(matched: &mut Map<String, Value>, name: &str, condition: &Value) {
    let headers = matched.entry("headers").or_insert_with(|| json!({}));
    headers[name] = condition.clone();
}

fn route(
    call: &Call<'_>,
    matched: &Map<String, Value>,
    target: &Target,
    subset: Option<&str>,
    methods: Methods,
) -> Value {
    let mut route = json!({"name": match subset {
        Some(subset) => format!("{} {subset}", call.name),
        None => call.name.clone(),
    }});
    if !matched.is_empty() {
        route["match"] = json!([matched]);
    }
    let mut destination = json!({"host": target.host});
    if let Some(subset) = subset {
        destination["subset"] = json!(subset);
    }
    route["route"] = json!([{"destination": destination}]);
    for (field, value) in &call.action {
        route[field] = value.clone();
    }
    route["retries"] = tries(call.retries, methods);
    route
}

/// Istio's own default is two more tries, of any method, where nothing is said.
fn tries(retries: Option<&Retries>, methods: Methods) -> Value {
    let Some(retries) = retries else {
        return json!({"attempts": 0});
    };
    let mut policy = json!({"attempts": retries.attempts, "retryOn": methods.retry_on()});
    if let (Methods::Idempotent, Some(timeout)) = (methods, retries.per_try_timeout) {
        policy["perTryTimeout"] = duration(timeout);
    }
    policy
}
