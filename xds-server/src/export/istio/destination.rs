//! DestinationRules: versions as subsets, and what a caller's Envoy allows itself.

use policy::units::ServiceName;
use serde_json::{Map, Value, json};

use super::{IstioSpec, STABLE, Target, about, duration};
use crate::mesh::{OutlierDetection, RetryBudget, Service, Thresholds};

/// None where there is nothing to say.
pub(super) fn rule(
    name: &ServiceName,
    service: &Service,
    target: &Target,
    spec: &IstioSpec,
) -> Option<Value> {
    let policy = traffic_policy(service);
    if policy.is_empty() && target.split.is_none() {
        return None;
    }
    let mut body = json!({"host": target.host});
    if !policy.is_empty() {
        body["trafficPolicy"] = Value::Object(policy);
    }
    if let Some(split) = &target.split {
        body["subsets"] = json!([
            {"name": STABLE, "labels": {"version": split.stable.as_str()}},
            {"name": split.subset, "labels": {"version": split.canary.as_str()}},
        ]);
    }
    Some(json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": about(name.as_str(), &spec.service_namespace),
        "spec": body,
    }))
}

fn traffic_policy(service: &Service) -> Map<String, Value> {
    let mut policy = Map::new();
    if service.thresholds != Thresholds::default() {
        policy.insert(
            "connectionPool".into(),
            connection_pool(&service.thresholds),
        );
    }
    if !service.placement.zone_aware {
        let anywhere = json!({"localityLbSetting": {"enabled": false}});
        policy.insert("loadBalancer".into(), anywhere);
    }
    if let Some(outlier) = &service.outlier_detection {
        let panic = service.placement.panic_threshold;
        policy.insert("outlierDetection".into(), outlier_detection(outlier, panic));
    }
    if let Some(RetryBudget(share)) = service.retry_budget {
        let budget = json!({
            "percent": share.percent(),
            "minRetryConcurrency": RetryBudget::ALWAYS_ALLOWED,
        });
        policy.insert("retryBudget".into(), budget);
    }
    policy
}

fn connection_pool(thresholds: &Thresholds) -> Value {
    let mut pool = json!({});
    if let Some(connections) = thresholds.max_connections {
        pool["tcp"] = json!({"maxConnections": connections});
    }
    let http = [
        ("http1MaxPendingRequests", thresholds.max_pending_requests),
        ("http2MaxRequests", thresholds.max_requests),
        ("maxRetries", thresholds.max_retries),
    ];
    for (field, most) in http {
        if let Some(most) = most {
            pool["http"][field] = json!(most);
        }
    }
    pool
}

fn outlier_detection(outlier: &OutlierDetection, panic_threshold: Option<u32>) -> Value {
    let mut body = json!({
        "consecutive5xxErrors": outlier.consecutive_5xx,
        "interval": duration(outlier.interval),
        "baseEjectionTime": duration(outlier.base_ejection_time),
        "maxEjectionPercent": outlier.max_ejection_percent,
    });
    if let Some(failures) = outlier.consecutive_gateway_failures {
        body["consecutiveGatewayErrors"] = json!(failures);
    }
    if let Some(percent) = panic_threshold {
        body["minHealthPercent"] = json!(percent);
    }
    body
}
