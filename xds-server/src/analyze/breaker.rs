//! Findings of circuit breakers: rules that no traffic can meet, and health checks that come too late.

use std::{collections::BTreeSet, time::Duration};

use policy::{
    breaker::{BreakerRules, ErrorRate},
    limit::Limit,
    time::format_duration,
    traffic_class::TrafficClass,
    units::{BasisPoints, ServiceName, ZoneName},
};

use super::{Finding, Rule, Severity};
use crate::mesh::{Endpoint, HealthCheck, Mesh, Service};

pub(super) const NEVER_TRIPS: Rule = Rule {
    code: "breaker-never-trips",
    severity: Severity::Warning,
    finds: "a breaker's rule cannot be met: it wants more requests within its window than limits let through, or calls slower than any timeout lets them become",
    fix: "lower `minimum_requests`, lengthen `window`, or let `over` be shorter than the timeout",
};

pub(super) const ALL_MUST_FAIL: Rule = Rule {
    code: "breaker-all-must-fail",
    severity: Severity::Warning,
    finds: "a breaker's rule wants 100 %: a single good request within the window keeps it closed",
    fix: "lower `percent` (50 is the default), or use `consecutive_failures`",
};

pub(super) const HEALTH_CHECK_SLOWER: Rule = Rule {
    code: "health-check-slower-than-breaker",
    severity: Severity::Warning,
    finds: "one endpoint that dies fails so many requests, of those that its zone or the first region of `failover` gets, that the breaker opens for the whole service, before the health check leaves the endpoint out",
    fix: "check more often, or add `outlier_detection: {consecutive_gateway_failures: 3}`",
};

pub(super) fn look(mesh: &Mesh, findings: &mut Vec<Finding>) {
    for (name, service) in &mesh.services {
        let plan = &service.breaker;
        let path = format!("services.{name}.circuit_breaker");
        let breaker = Breaker { mesh, service };
        let (error_rate, slow) = (plan.rules.error_rate, plan.rules.slow_calls);
        breaker.rate(&path, error_rate, Time::Any, findings);
        breaker.slow(&path, slow, Time::Any, findings);
        if let Some(at) = &plan.at_peak {
            let path = format!("{path}.at_peak");
            breaker.rate(&path, at.error_rate, Time::Peak, findings);
            breaker.slow(&path, at.slow_calls, Time::Peak, findings);
        }
        if let Some(at) = &plan.at_festival {
            let path = format!("{path}.at_festival");
            breaker.rate(&path, at.error_rate, Time::Festival, findings);
            breaker.slow(&path, at.slow_calls, Time::Festival, findings);
        }
        health_check(name, service, findings);
    }
}

/// When a rule holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Time {
    Any,
    Peak,
    Festival,
}

/// A rule over a sliding window.
struct Windowed<'r> {
    path: &'r str,
    minimum_requests: u32,
    window: Duration,
    percent: BasisPoints,
}

struct Breaker<'m> {
    mesh: &'m Mesh,
    service: &'m Service,
}

impl Breaker<'_> {
    fn rate(&self, path: &str, rate: Option<ErrorRate>, time: Time, findings: &mut Vec<Finding>) {
        let Some(rate) = rate else { return };
        let rule = Windowed {
            path: &format!("{path}.error_rate"),
            minimum_requests: rate.minimum_requests,
            window: rate.window,
            percent: rate.percent,
        };
        self.windowed(&rule, time, findings);
    }

    fn slow(
        &self,
        path: &str,
        slow: Option<policy::breaker::SlowCalls>,
        time: Time,
        findings: &mut Vec<Finding>,
    ) {
        let Some(slow) = slow else { return };
        let path = format!("{path}.slow_calls");
        let rule = Windowed {
            path: &path,
            minimum_requests: slow.minimum_requests,
            window: slow.window,
            percent: slow.percent,
        };
        self.windowed(&rule, time, findings);
        let longest = self.service.longest_timeout;
        let longest = longest.unwrap_or(BreakerRules::DEFAULT_ROUTE_TIMEOUT);
        if slow.over > longest {
            let (over, longest) = (format_duration(slow.over), format_duration(longest));
            findings.push(Finding::new(
                &NEVER_TRIPS,
                format!("{path}.over"),
                format!("no call takes longer than {over}: the timeout ends it after {longest}"),
                format!("let over be shorter than {longest}, or lengthen the timeout"),
            ));
        }
    }

    fn windowed(&self, rule: &Windowed<'_>, time: Time, findings: &mut Vec<Finding>) {
        let window = format_duration(rule.window);
        if let Some(most) = self.most_requests(rule.window, time)
            && most < u64::from(rule.minimum_requests)
        {
            let least = rule.minimum_requests;
            findings.push(Finding::new(
                &NEVER_TRIPS,
                format!("{}.minimum_requests", rule.path),
                format!(
                    "wants {least} requests in {window}, and limits let {most} through at most"
                ),
                format!("write at most {most}, or lengthen the window"),
            ));
        }
        if rule.percent == BasisPoints::ALL {
            findings.push(Finding::new(
                &ALL_MUST_FAIL,
                format!("{}.percent", rule.path),
                format!("is 100: a single good request within {window} keeps the breaker closed"),
                ALL_MUST_FAIL.fix,
            ));
        }
    }

    /// How many requests of one class an Envoy lets through to the service within a window; `None`
    /// where no limit says.
    fn most_requests(&self, window: Duration, time: Time) -> Option<u64> {
        let own = self.service.limit.as_ref();
        let own = own.and_then(|limit| most(limit, window, time));
        // A class without a limit is limited by the service alone.
        let classes: Option<Vec<u64>> = self
            .classes()
            .map(|class| most(class?.limit.as_ref()?, window, time))
            .collect();
        let class = classes.and_then(|most| most.into_iter().max());
        match (own, class) {
            (Some(own), Some(class)) => Some(own.min(class)),
            (own, class) => own.or(class),
        }
    }

    /// The classes that requests to the service may be of: all that match requests, and its own.
    fn classes(&self) -> impl Iterator<Item = Option<&TrafficClass>> {
        let classes = &self.mesh.traffic_classes;
        let own = classes
            .iter()
            .find(|class| class.name == self.service.class);
        let matching = classes.iter().filter(|class| !class.matches.is_empty());
        matching.map(Some).chain([own])
    }
}

fn most(limit: &Limit, window: Duration, time: Time) -> Option<u64> {
    if limit.observe {
        return None;
    }
    let (any, peak, festival) = (Some(limit.per_second), limit.at_peak, limit.at_festival);
    // What may hold at that time: a festival may lie in a window or not.
    let rates = match time {
        Time::Any => [any, peak, festival],
        Time::Peak => [peak.or(any), festival, None],
        Time::Festival => [festival.or(peak.max(any)), None, None],
    };
    // Where all is refused, the breaker's rule is not what is wrong.
    let per_second = rates.into_iter().flatten().max().filter(|most| *most > 0)?;
    let burst = limit.burst.unwrap_or(per_second / 10).max(1);
    let millis = u64::try_from(window.as_millis()).ok()?;
    let over_time = u64::from(per_second).saturating_mul(millis) / 1_000;
    Some(over_time.saturating_add(burst.into()))
}

/// Only where other endpoints would have served on: a lone endpoint's end is the service's.
fn health_check(name: &ServiceName, service: &Service, findings: &mut Vec<Finding>) {
    let (Some(check), Some(rate)) = (&service.health_check, service.breaker.rules.error_rate)
    else {
        return;
    };
    if service.endpoints_of(None).count() < 2 || service.outlier_detection.is_some() {
        return;
    }
    let after = notices_after(check);
    let tiers = tiers(service).into_iter();
    let worst = tiers.max_by(|left, right| left.share().total_cmp(&right.share()));
    let Some(tier) = worst.filter(|tier| opens(&rate, tier.share(), after)) else {
        return;
    };
    let percent = tier.largest * 100 / tier.total.max(1);
    let (after, window) = (format_duration(after), format_duration(rate.window));
    let whose = &tier.whose;
    findings.push(Finding::new(
        &HEALTH_CHECK_SLOWER,
        format!("services.{name}.health_check"),
        format!(
            "leaves a dead endpoint out after up to {after}; until then {percent} % of {whose} fail, and the breaker, which looks at {window}, opens for all of {name}"
        ),
        HEALTH_CHECK_SLOWER.fix,
    ));
}

/// Endpoints among which callers choose as long as all are healthy.
struct Tier {
    /// Whose requests they get.
    whose: String,
    largest: u64,
    total: u64,
}

impl Tier {
    fn of<'m>(whose: String, endpoints: impl Iterator<Item = &'m Endpoint>) -> Self {
        let weights: Vec<u64> = endpoints.map(|endpoint| endpoint.weight.into()).collect();
        Self {
            whose,
            largest: weights.iter().copied().max().unwrap_or_default(),
            total: weights.iter().sum(),
        }
    }

    /// Of its requests, that of the endpoint with most of them.
    #[expect(
        clippy::cast_precision_loss,
        reason = "sums of weights are far below 2^53"
    )]
    fn share(&self) -> f64 {
        self.largest as f64 / self.total.max(1) as f64
    }
}

/// All endpoints of the region that is used first; of these each zone, where it serves its own callers alone.
fn tiers(service: &Service) -> Vec<Tier> {
    let order = &service.placement.failover;
    let place = |endpoint: &Endpoint| {
        let region = endpoint.region.as_deref();
        let known = order
            .iter()
            .position(|known| region == Some(known.as_str()));
        known.unwrap_or(order.len())
    };
    let Some(first) = service.endpoints_of(None).map(place).min() else {
        return Vec::new();
    };
    let preferred: Vec<&Endpoint> = service
        .endpoints_of(None)
        .filter(|endpoint| place(endpoint) == first)
        .collect();
    let whose = match order.get(first) {
        Some(region) => format!("requests, which all go to {region},"),
        None => "requests".into(),
    };
    let all = Tier::of(whose, preferred.iter().copied());
    let zones: BTreeSet<(Option<&str>, Option<&ZoneName>)> = preferred
        .iter()
        .map(|endpoint| (endpoint.region.as_deref(), endpoint.zone.as_ref()))
        .collect();
    let localities = zones.len() as u64;
    let of_zone = |(_, zone): &(Option<&str>, Option<&ZoneName>)| {
        let zone = (*zone)?;
        let own = preferred.iter().copied();
        let own = own.filter(|endpoint| endpoint.zone.as_ref() == Some(zone));
        let tier = Tier::of(format!("requests from zone {zone}"), own);
        // As callers are sent them: a zone with less than its even share is helped by others.
        (tier.total * localities >= all.total && tier.total < all.total).then_some(tier)
    };
    let mut tiers: Vec<Tier> = match service.placement.zone_aware {
        true => zones.iter().filter_map(of_zone).collect(),
        false => Vec::new(),
    };
    tiers.push(all);
    tiers
}

/// Whether the rule is met before a dead endpoint with this share of requests is left out. It refuses at once,
/// so callers that wait for answers send `1 / (1 - share)` times as many meanwhile.
fn opens(rate: &ErrorRate, share: f64, after: Duration) -> bool {
    let (window, percent) = (rate.window.as_secs_f64(), rate.percent.percent() / 100.0);
    let late = after.as_secs_f64().min(window);
    share * late >= percent * ((window - late) * (1.0 - share) + late)
}

/// An endpoint dies right after a check in the worst case.
fn notices_after(check: &HealthCheck) -> Duration {
    let failures = check.unhealthy_threshold.max(1);
    check.interval + check.interval / failures * (failures - 1) + check.timeout
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::tests::found;

    #[test]
    fn a_rule_that_wants_more_than_limits_let_through_never_trips() {
        let text = |limit: &str, classes: &str| {
            format!(
                "services: {{a: {{limit: {{{limit}}}, circuit_breaker: {{error_rate: {{minimum_requests: 100, window: 2s}}, at_peak: {{error_rate: {{minimum_requests: 40, window: 2s}}}}}}}}}}\n{classes}"
            )
        };
        let rules = [&NEVER_TRIPS];
        assert_eq!(found(&text("per_second: 50", ""), &rules), [""; 0]);
        assert_eq!(
            found(&text("per_second: 40, at_peak: 10, burst: 5", ""), &rules),
            [
                "services.a.circuit_breaker.error_rate.minimum_requests: wants 100 requests in 2s, and limits let 85 through at most",
                "services.a.circuit_breaker.at_peak.error_rate.minimum_requests: wants 40 requests in 2s, and limits let 25 through at most",
            ]
        );
        let observed = "per_second: 1, mode: observe";
        assert_eq!(found(&text(observed, ""), &rules), [""; 0]);
        // Each class has a breaker of its own: gold can trip it, whatever bronze may do.
        let bronze = "traffic_classes: {bronze: {match: [{path: /b}], limit: {per_second: 1}}}";
        assert_eq!(found(&text("per_second: 50", bronze), &rules), [""; 0]);
        let both = format!("{bronze}\n").replace("}}}", "}}, silver: {limit: {per_second: 2}}}");
        assert_eq!(found(&text("per_second: 50", &both), &rules).len(), 2);
    }

    #[test]
    fn no_call_is_slower_than_its_timeout() {
        let text = |timeout: &str| {
            format!(
                "services: {{a: {{{timeout}circuit_breaker: {{slow_calls: {{over: 3s, percent: 60}}}}}}}}"
            )
        };
        assert_eq!(found(&text(""), &[&NEVER_TRIPS]), [""; 0]);
        assert_eq!(found(&text("timeout: 3s, "), &[&NEVER_TRIPS]), [""; 0]);
        assert_eq!(
            found(&text("timeout: 2s, "), &[&NEVER_TRIPS]),
            [
                "services.a.circuit_breaker.slow_calls.over: no call takes longer than 3s: the timeout ends it after 2s"
            ]
        );
    }

    #[test]
    fn a_share_of_all_requests_is_no_share() {
        let text = "services: {a: {circuit_breaker: {at_festival: {error_rate: {percent: 100}}}}}";
        assert_eq!(
            found(text, &[&ALL_MUST_FAIL]),
            [
                "services.a.circuit_breaker.at_festival.error_rate.percent: is 100: a single good request within 10s keeps the breaker closed"
            ]
        );
    }

    #[test]
    fn a_health_check_should_leave_a_dead_endpoint_out_before_the_breaker_opens_for_all() {
        let text = |endpoints: usize, more: &str| {
            let endpoints: Vec<String> = (1..=endpoints)
                .map(|number| format!("{{host: 10.0.0.{number}, port: 1}}"))
                .collect();
            let endpoints = endpoints.join(", ");
            format!("services: {{a: {{endpoints: [{endpoints}], {more}}}}}")
        };
        let slow = "health_check: {path: /health, interval: 8s}";
        assert_eq!(
            found(&text(2, slow), &[&HEALTH_CHECK_SLOWER]),
            [
                "services.a.health_check: leaves a dead endpoint out after up to 13s; until then 50 % of requests fail, and the breaker, which looks at 10s, opens for all of a"
            ]
        );
        for (endpoints, more) in [
            (1, slow),
            (3, slow),
            (2, "health_check: {path: /health}"),
            (
                2,
                "health_check: {path: /health, interval: 8s}, outlier_detection: {}",
            ),
            (
                2,
                "health_check: {path: /health, interval: 8s}, circuit_breaker: {consecutive_failures: 5}",
            ),
        ] {
            assert_eq!(
                found(&text(endpoints, more), &[&HEALTH_CHECK_SLOWER]),
                [""; 0]
            );
        }
    }

    #[test]
    fn who_has_one_endpoint_in_his_zone_or_region_loses_all_requests_with_it() {
        let text = |first: &str, second: &str, more: &str| {
            format!(
                "services: {{a: {{endpoints: [{{host: 10.0.0.1, port: 1, {first}}}, {{host: 10.0.0.2, port: 1, {second}}}, {{host: 10.0.0.3, port: 1, {second}}}], health_check: {{path: /health, interval: 2s}}{more}}}}}"
            )
        };
        let told = |first: &str, second: &str, more: &str| {
            found(&text(first, second, more), &[&HEALTH_CHECK_SLOWER])
        };
        let regions = ("region: mumbai", "region: hyderabad");
        let first = ", failover: [mumbai, hyderabad]";
        let until = "services.a.health_check: leaves a dead endpoint out after up to 4s; until then 100 % of";
        let then = "fail, and the breaker, which looks at 10s, opens for all of a";
        assert_eq!(
            told(regions.0, regions.1, first),
            [format!("{until} requests, which all go to mumbai, {then}")]
        );
        // There are two, and one of three.
        assert_eq!(
            told(regions.0, regions.1, ", failover: [hyderabad]"),
            [""; 0]
        );
        assert_eq!(told(regions.0, regions.1, ""), [""; 0]);
        let outlier = format!("{first}, outlier_detection: {{}}");
        assert_eq!(told(regions.0, regions.1, &outlier), [""; 0]);
        let zones = ("zone: west, weight: 200", "zone: east");
        assert_eq!(
            told(zones.0, zones.1, ""),
            [format!("{until} requests from zone west {then}")]
        );
        assert_eq!(told(zones.0, zones.1, ", zone_aware: false"), [""; 0]);
    }
}
