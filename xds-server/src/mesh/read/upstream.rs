//! What only callers' Envoys honour: retries, health checks, limits, which endpoints are preferred.

use std::time::Duration;

use policy::{
    reader::{ObjectReader, Reader},
    shapes,
    units::{BasisPoints, ZoneName},
};

use super::fields::{absolute_path, count, duration, switch};
use crate::mesh::model::{
    HealthCheck, HealthCheckKind, OutlierDetection, Placement, Protocol, Retries, RetryBudget,
    Thresholds,
};

const COUNT_MAX: u32 = 1_000_000;
const IN_A_ROW_MAX: u32 = 1_000;
const SHORTEST: Duration = Duration::from_millis(10);
const CHECK_INTERVAL_MIN: Duration = Duration::from_millis(100);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads `http1` or `http2`.
pub(super) fn read_protocol(service: &mut ObjectReader<'_>) -> Protocol {
    let protocol = service.optional("protocol").and_then(|protocol| {
        protocol.parsed(|text| match text {
            "http1" => Ok(Protocol::Http1),
            "http2" => Ok(Protocol::Http2),
            _ => Err(format!(
                "must be http1 or http2 (also for gRPC), not {text:?}"
            )),
        })
    });
    protocol.unwrap_or_default()
}

/// Reads `{attempts: 2, per_try_timeout: 800ms}`; `timeout` is that of the whole request.
pub(super) fn read_retries(
    retries: &mut ObjectReader<'_>,
    timeout: Option<Duration>,
) -> Option<Retries> {
    let attempts = count(retries, "attempts", 1..=Retries::ATTEMPTS_MAX);
    let per_try_timeout = duration(retries, "per_try_timeout", Duration::from_millis(1)..=HOUR);
    if let (Some(one), Some(all)) = (per_try_timeout, timeout)
        && one > all
    {
        retries.problem(
            "per_try_timeout",
            "is longer than timeout, so no request would be tried again after it",
            Some("make it shorter, or leave it out".into()),
        );
    }
    if attempts.is_none() && retries.optional("attempts").is_none() {
        let hint = "tries after the first one, from 1 to 10";
        retries.missing("attempts", Some(hint.into()));
    }
    Some(Retries {
        attempts: attempts?,
        per_try_timeout,
    })
}

/// Reads a service's `retries`, which may name a budget.
pub(super) fn read_service_retries(
    reader: &Reader<'_>,
    timeout: Option<Duration>,
) -> (Option<Retries>, Option<BasisPoints>) {
    let Some(mut object) = reader.object() else {
        return (None, None);
    };
    let retries = read_retries(&mut object, timeout);
    let percent = object
        .optional("budget_percent")
        .and_then(|percent| shapes::number(&percent, BasisPoints::from_percent));
    object.finish();
    (retries, percent)
}

/// Reads a route's `retries`. The budget is the service's, whichever way it is called.
pub(super) fn read_route_retries(
    reader: &Reader<'_>,
    timeout: Option<Duration>,
) -> Option<Retries> {
    let mut object = reader.object()?;
    let retries = read_retries(&mut object, timeout);
    if object.optional("budget_percent").is_some() {
        object.problem(
            "budget_percent",
            "belongs to the service: it counts all routes together",
            Some("write it in the service's retries".into()),
        );
    }
    object.finish();
    retries
}

/// What the retries of a service may be together: its budget, or `max_retries` of its circuit breaker.
pub(super) fn retry_budget(
    service: &ObjectReader<'_>,
    retries: Option<Retries>,
    percent: Option<BasisPoints>,
    thresholds: &Thresholds,
) -> Option<RetryBudget> {
    if thresholds.max_retries.is_some() {
        if percent.is_some() {
            service.problem(
                "circuit_breaker.max_retries",
                "and retries.budget_percent exclude each other",
                Some("keep the budget: it follows the traffic".into()),
            );
        }
        return None;
    }
    let default = retries.map(|_| RetryBudget::default());
    percent.map(RetryBudget).or(default)
}

/// Reads `{path: /health, interval: 5s, timeout: 1s, unhealthy_threshold: 2, healthy_threshold: 2}`,
/// with `grpc_service` or `tcp: true` instead of `path`.
pub(super) fn read_health_check(reader: &Reader<'_>, protocol: Protocol) -> Option<HealthCheck> {
    let mut check = reader.object()?;
    let kind = read_health_check_kind(reader, &mut check, protocol);
    let interval = duration(&mut check, "interval", CHECK_INTERVAL_MIN..=HOUR);
    let timeout = duration(&mut check, "timeout", SHORTEST..=HOUR);
    let unhealthy_threshold = count(&mut check, "unhealthy_threshold", 1..=IN_A_ROW_MAX);
    let healthy_threshold = count(&mut check, "healthy_threshold", 1..=IN_A_ROW_MAX);
    check.finish();
    Some(HealthCheck {
        kind: kind?,
        interval: interval.unwrap_or(Duration::from_secs(5)),
        timeout: timeout.unwrap_or(Duration::from_secs(1)),
        unhealthy_threshold: unhealthy_threshold.unwrap_or(2),
        healthy_threshold: healthy_threshold.unwrap_or(2),
    })
}

fn read_health_check_kind(
    reader: &Reader<'_>,
    check: &mut ObjectReader<'_>,
    protocol: Protocol,
) -> Option<HealthCheckKind> {
    let before = reader.found();
    let path = check.optional("path");
    let grpc = check.optional("grpc_service");
    let tcp = check.optional("tcp");
    let given = [path.is_some(), grpc.is_some(), tcp.is_some()];
    let http = path.and_then(|path| {
        let path = path.parsed(absolute_path)?;
        Some(HealthCheckKind::Http { path })
    });
    let grpc = grpc.and_then(|name| {
        if protocol == Protocol::Http1 {
            name.problem(
                "gRPC needs HTTP/2, and the service speaks HTTP/1.1",
                Some("add protocol: http2 to the service".into()),
            );
        }
        let name = name.parsed(grpc_service)?;
        Some(HealthCheckKind::Grpc { service: name })
    });
    let tcp = tcp.and_then(|tcp| {
        let on = tcp.boolean()?;
        if !on {
            tcp.problem("must be true, or left out", None);
        }
        Some(HealthCheckKind::Tcp)
    });
    if given.iter().filter(|given| **given).count() != 1 {
        reader.problem(
            "exactly one of path, grpc_service and tcp must be given",
            Some("for example {path: /health}".into()),
        );
    }
    let kind = http.or(grpc).or(tcp);
    kind.filter(|_| reader.found() == before)
}

fn grpc_service(name: &str) -> Result<String, &'static str> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_');
    if name.len() <= 255 && name.bytes().all(legal) {
        Ok(name.into())
    } else {
        Err(
            "must be the full name of a gRPC service such as upi.v1.Payments, or \"\" for the server",
        )
    }
}

/// Reads Envoy's own limits of a `circuit_breaker`.
pub(super) fn read_thresholds(breaker: &mut ObjectReader<'_>) -> Thresholds {
    Thresholds {
        max_connections: count(breaker, "max_connections", 1..=COUNT_MAX),
        max_pending_requests: count(breaker, "max_pending_requests", 1..=COUNT_MAX),
        max_requests: count(breaker, "max_requests", 1..=COUNT_MAX),
        max_retries: count(breaker, "max_retries", 1..=COUNT_MAX),
    }
}

/// Reads `{consecutive_5xx: 5, interval: 10s, base_ejection_time: 30s, max_ejection_percent: 50}`.
pub(super) fn read_outlier_detection(reader: &Reader<'_>) -> Option<OutlierDetection> {
    let mut outlier = reader.object()?;
    let consecutive_5xx = count(&mut outlier, "consecutive_5xx", 1..=COUNT_MAX);
    let consecutive_gateway_failures =
        count(&mut outlier, "consecutive_gateway_failures", 1..=COUNT_MAX);
    let interval = duration(&mut outlier, "interval", CHECK_INTERVAL_MIN..=HOUR);
    let base = duration(&mut outlier, "base_ejection_time", CHECK_INTERVAL_MIN..=DAY)
        .unwrap_or(Duration::from_secs(30));
    let max = duration(&mut outlier, "max_ejection_time", CHECK_INTERVAL_MIN..=DAY);
    if max.is_some_and(|max| max < base) {
        outlier.problem(
            "max_ejection_time",
            "must not be shorter than base_ejection_time (30s when left out)",
            None,
        );
    }
    let percent = count(&mut outlier, "max_ejection_percent", 1..=100);
    outlier.finish();
    Some(OutlierDetection {
        consecutive_5xx: consecutive_5xx.unwrap_or(5),
        consecutive_gateway_failures,
        interval: interval.unwrap_or(Duration::from_secs(10)),
        base_ejection_time: base,
        max_ejection_time: max.unwrap_or(base.max(Duration::from_secs(300))),
        max_ejection_percent: percent.unwrap_or(50),
    })
}

/// Reads `failover`, `zone_aware` and `panic_threshold` of a service.
pub(super) fn read_placement(service: &mut ObjectReader<'_>) -> Placement {
    let mut failover = Vec::new();
    let regions = service.optional("failover");
    for region in regions.iter().flat_map(Reader::array) {
        let Some(name) = region.parsed(ZoneName::new) else {
            continue;
        };
        if failover.contains(&name) {
            region.problem(
                format!("{name} stands here twice"),
                Some("name each region once, the first to be used first".into()),
            );
        }
        failover.push(name);
    }
    Placement {
        failover,
        zone_aware: switch(service, "zone_aware", true),
        panic_threshold: count(service, "panic_threshold", 0..=100),
    }
}
