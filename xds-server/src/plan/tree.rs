//! A mesh as a tree, with the field names of the mesh file and all that holds by default. Each struct of
//! the model is taken apart to its last field, so a new one does not compile before it is told.

mod gateways;

use std::time::Duration;

use policy::{
    limit::FleetSize,
    time::format_duration,
    units::{BasisPoints, ServiceName},
    wire::{FilterConfig, ServiceSource},
};
use serde_json::{Map, Value, json};

use self::gateways::gateway;
use crate::mesh::{
    CertificateDays, ChangeFreeze, Endpoint, HealthCheck, HealthCheckKind, Mesh, OutlierDetection,
    Placement, Protocol, Proxies, Retries, RetryBudget, Service, Thresholds, Tracing,
};

/// The whole mesh.
pub(super) fn tree(mesh: &Mesh) -> Value {
    let Mesh {
        name,
        region,
        trust_domain,
        certificates: CertificateDays { ca, service },
        timetable,
        freeze: ChangeFreeze { during, files },
        traffic_classes,
        proxies,
        services,
        gateways,
    } = mesh;
    let calendar = FilterConfig {
        zone: None,
        region: None,
        timetable: timetable.clone(),
        traffic_classes: traffic_classes.clone(),
        services: Vec::new(),
        trust_canary_header: false,
        debug_headers: false,
        service_from: ServiceSource::default(),
        fleet_size: FleetSize::ONE,
    };
    let mut calendar = calendar.to_json();
    let mut tree = object([
        (
            "mesh",
            Some(object([
                ("name", Some(json!(name))),
                ("region", region.as_ref().map(|region| json!(region))),
                ("trust_domain", Some(json!(trust_domain.as_str()))),
                ("ca_cert_validity_days", ca.map(Value::from)),
                ("service_cert_validity_days", service.map(Value::from)),
            ])),
        ),
        ("timezone", Some(calendar["timezone"]["name"].take())),
        // Rules of a time zone change, and the server knows them.
        ("timezone_rules", Some(calendar["timezone"]["posix"].take())),
    ]);
    for field in ["peak_hours", "festivals", "holidays", "traffic_classes"] {
        let unsaid = match field {
            "peak_hours" => json!({}),
            _ => json!([]),
        };
        let said = calendar[field].take();
        tree[field] = if said.is_null() { unsaid } else { said };
    }
    let during = during.times().iter().map(|time| json!(time.as_str()));
    tree["freeze"] = json!({"during": during.collect::<Vec<_>>(), "files": files.as_str()});
    put_proxies(&mut tree, proxies);
    let services = services
        .iter()
        .map(|(name, one)| (name.to_string(), service_tree(one)));
    tree["services"] = Value::Object(services.collect());
    let gateways = gateways
        .iter()
        .map(|(name, one)| (name.to_string(), gateway(one)));
    tree["gateways"] = Value::Object(gateways.collect());
    tree
}

/// What tells elements of its lists apart.
pub(super) fn identity(element: &Value) -> Option<String> {
    let text = |field: &str| element[field].as_str();
    if let Some(id) = text("id") {
        return Some(id.into());
    }
    if let Some(name) = text("name") {
        // A festival has its day as well: that of next year is another one.
        let day = text("date").or_else(|| text("start"));
        return Some(day.map_or_else(|| name.into(), |day| format!("{name} {day}")));
    }
    element.get("match").map(route_name)
}

/// A route by what a request must be.
pub(super) fn route_name(conditions: &Value) -> String {
    let text = |field: &str| conditions[field].as_str().map(str::to_string);
    let path = text("path")
        .map(|path| format!("={path}"))
        .or_else(|| text("path_prefix"))
        .or_else(|| text("grpc_service").map(|service| format!("gRPC {service}")));
    let headers = conditions["header"].as_object().into_iter().flatten();
    let headers = headers.map(|(name, value)| format!("{name}: {}", value.as_str().unwrap_or("")));
    let hosts = conditions["hosts"].as_array().into_iter().flatten();
    let hosts = hosts
        .filter_map(Value::as_str)
        .map(|host| format!("for {host}"));
    let words: Vec<String> = text("method")
        .into_iter()
        .chain(path)
        .chain(headers)
        .chain(hosts)
        .collect();
    words.join(" ")
}

fn put_proxies(tree: &mut Value, proxies: &Proxies) {
    let Proxies {
        access_log,
        tracing,
        max_connection_duration,
    } = proxies;
    tree["access_log"] = json!(access_log);
    if let Some(Tracing {
        host,
        port,
        sampling,
    }) = tracing
    {
        tree["tracing"] = json!({"otlp": format!("{host}:{port}"), "sampling": percent(*sampling)});
    }
    tree["max_connection_duration"] = duration(*max_connection_duration);
}

fn service_tree(service: &Service) -> Value {
    let Service {
        port,
        sidecar,
        mtls,
        protocol,
        endpoints,
        stable_version,
        uses,
        class,
        timeout,
        longest_timeout,
        retries,
        retry_budget,
        health_check,
        outlier_detection,
        thresholds,
        placement,
        breaker,
        limit: _,
        canary: _,
        overridden: _,
    } = service;
    let Placement {
        failover,
        zone_aware,
        panic_threshold,
    } = placement;
    let mut tree = object([
        ("port", port.map(Value::from)),
        ("sidecar", Some(json!(sidecar))),
        ("mtls", Some(json!(mtls.as_str()))),
        ("protocol", Some(json!(spoken(*protocol)))),
        ("endpoints", Some(endpoints.iter().map(endpoint).collect())),
        ("stable_version", text(stable_version.as_ref())),
        ("uses", uses.as_ref().map(texts)),
        ("class", Some(json!(class.as_str()))),
        ("timeout", timeout.map(duration)),
        (
            "longest_timeout",
            longest_timeout
                .filter(|_| longest_timeout != timeout)
                .map(duration),
        ),
        ("retries", retries_tree(*retries, *retry_budget)),
        ("health_check", health_check.as_ref().map(health)),
        ("outlier_detection", outlier_detection.as_ref().map(outlier)),
        ("failover", Some(texts(failover))),
        ("zone_aware", Some(json!(zone_aware))),
        ("panic_threshold", panic_threshold.map(Value::from)),
    ]);
    let mut rules = breaker.to_json();
    put_thresholds(&mut rules, *thresholds);
    tree["circuit_breaker"] = rules;
    put_wire(&mut tree, service);
    tree
}

/// What stands in the filter's configuration as it does in the file.
fn put_wire(tree: &mut Value, service: &Service) {
    // Under a name that is no part of it.
    let Ok(name) = ServiceName::new("x") else {
        return;
    };
    let mut wire = service.policy(&name).to_json();
    for field in ["limit", "canary", "override"] {
        if wire.get(field).is_some() {
            tree[field] = wire[field].take();
        }
    }
}

fn spoken(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http1 => "http1",
        Protocol::Http2 => "http2",
    }
}

fn endpoint(endpoint: &Endpoint) -> Value {
    let Endpoint {
        id,
        host,
        port,
        app_port,
        weight,
        region,
        zone,
        version,
        // No word of the file.
        standing: _,
    } = endpoint;
    object([
        ("id", Some(json!(id))),
        ("host", Some(json!(host.to_string()))),
        ("port", Some(json!(port))),
        ("app_port", app_port.map(Value::from)),
        ("weight", Some(json!(weight))),
        ("region", region.as_ref().map(|region| json!(region))),
        ("zone", text(zone.as_ref())),
        ("version", text(version.as_ref())),
    ])
}

fn retries_tree(retries: Option<Retries>, budget: Option<RetryBudget>) -> Option<Value> {
    let mut tree = retries.map(retries_of);
    if let Some(RetryBudget(budget)) = budget {
        tree.get_or_insert_with(|| json!({}))["budget_percent"] = percent(budget);
    }
    tree
}

fn retries_of(retries: Retries) -> Value {
    let Retries {
        attempts,
        per_try_timeout,
    } = retries;
    object([
        ("attempts", Some(json!(attempts))),
        ("per_try_timeout", per_try_timeout.map(duration)),
    ])
}

fn health(check: &HealthCheck) -> Value {
    let HealthCheck {
        kind,
        interval,
        timeout,
        unhealthy_threshold,
        healthy_threshold,
    } = check;
    let mut tree = match kind {
        HealthCheckKind::Http { path } => json!({"path": path}),
        HealthCheckKind::Grpc { service } => json!({"grpc_service": service}),
        HealthCheckKind::Tcp => json!({"tcp": true}),
    };
    tree["interval"] = duration(*interval);
    tree["timeout"] = duration(*timeout);
    tree["unhealthy_threshold"] = json!(unhealthy_threshold);
    tree["healthy_threshold"] = json!(healthy_threshold);
    tree
}

fn outlier(detection: &OutlierDetection) -> Value {
    let OutlierDetection {
        consecutive_5xx,
        consecutive_gateway_failures,
        interval,
        base_ejection_time,
        max_ejection_time,
        max_ejection_percent,
    } = detection;
    object([
        ("consecutive_5xx", Some(json!(consecutive_5xx))),
        (
            "consecutive_gateway_failures",
            consecutive_gateway_failures.map(Value::from),
        ),
        ("interval", Some(duration(*interval))),
        ("base_ejection_time", Some(duration(*base_ejection_time))),
        ("max_ejection_time", Some(duration(*max_ejection_time))),
        ("max_ejection_percent", Some(json!(max_ejection_percent))),
    ])
}

/// They stand among the breaker's rules.
fn put_thresholds(rules: &mut Value, thresholds: Thresholds) {
    let Thresholds {
        max_connections,
        max_pending_requests,
        max_requests,
        max_retries,
    } = thresholds;
    for (field, most) in [
        ("max_connections", max_connections),
        ("max_pending_requests", max_pending_requests),
        ("max_requests", max_requests),
        ("max_retries", max_retries),
    ] {
        if let Some(most) = most {
            rules[field] = json!(most);
        }
    }
}

fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let given = fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_string(), value?)));
    Value::Object(given.collect::<Map<_, _>>())
}

fn text(text: Option<&impl ToString>) -> Option<Value> {
    text.map(|text| json!(text.to_string()))
}

fn texts<'t, T: ToString + 't>(texts: impl IntoIterator<Item = &'t T>) -> Value {
    texts
        .into_iter()
        .map(|text| json!(text.to_string()))
        .collect()
}

fn duration(duration: Duration) -> Value {
    json!(format_duration(duration))
}

fn percent(share: BasisPoints) -> Value {
    json!(share.percent())
}
