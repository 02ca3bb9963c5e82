//! [`FilterConfig`] -> JSON. What is as the format's defaults are is left out.

use serde_json::{Map, Value, json};

use super::{FilterConfig, ServiceConfig, ServiceSource, VERSION};
use crate::{
    breaker::{BreakerOverride, BreakerPlan},
    canary::{CanarySplit, Fallback, Ramp, Weight},
    limit::{FleetSize, Limit, Scope},
    time::{format_duration, format_instant},
    timetable::{DateRange, DaySet, Festival, Holiday, MonthDays, Window},
    traffic_class::{PathMatch, RequestMatch, ShedWhen, TrafficClass},
    units::{ClassName, HeaderName, Multiplier},
};

impl FilterConfig {
    /// The configuration as [`parse`](Self::parse) reads it: the same comes back, if its windows are
    /// ordered by name and its names are unique, which is so for all that was read.
    pub fn to_json(&self) -> Value {
        let timezone = self.timetable.zone();
        let mut config = Map::new();
        config.insert("version".into(), VERSION.into());
        put(
            &mut config,
            "zone",
            self.zone.as_ref().map(|zone| json!(zone.as_str())),
        );
        put(
            &mut config,
            "region",
            self.region.as_ref().map(|region| json!(region)),
        );
        config.insert(
            "timezone".into(),
            json!({"name": timezone.name(), "posix": timezone.posix()}),
        );
        let windows: Map<String, Value> = self
            .timetable
            .windows()
            .iter()
            .map(|window| (window.name().to_string(), window_json(window)))
            .collect();
        put(
            &mut config,
            "peak_hours",
            (!windows.is_empty()).then_some(Value::Object(windows)),
        );
        let festivals: Vec<Value> = self
            .timetable
            .festivals()
            .iter()
            .map(festival_json)
            .collect();
        put(&mut config, "festivals", list(festivals));
        let holidays = self.timetable.holidays().iter().map(holiday_json).collect();
        put(&mut config, "holidays", list(holidays));
        let classes = self.traffic_classes.iter().map(class_json).collect();
        put(&mut config, "traffic_classes", list(classes));
        if self.trust_canary_header {
            config.insert("trust_canary_header".into(), true.into());
        }
        if self.debug_headers {
            config.insert("debug_headers".into(), true.into());
        }
        if self.service_from != ServiceSource::default() {
            let source = self.service_from.as_str();
            config.insert("service_from".into(), source.into());
        }
        if self.fleet_size != FleetSize::ONE {
            let proxies = self.fleet_size.get();
            config.insert("fleet_size".into(), proxies.into());
        }
        config.insert(
            "services".into(),
            self.services.iter().map(ServiceConfig::to_json).collect(),
        );
        Value::Object(config)
    }

    /// The text of a configuration with these services, each as [`ServiceConfig::to_json`] writes it, in
    /// place of its own: of a thousand services, one changes at a time.
    pub fn text_with<'s>(&self, services: impl Iterator<Item = &'s str>) -> String {
        let mut json = self.to_json();
        if let Some(config) = json.as_object_mut() {
            config.remove("services");
        }
        let mut text = json.to_string();
        // The version is always there, so something stands before.
        text.pop();
        text.push_str(",\"services\":[");
        for (number, service) in services.enumerate() {
            if number > 0 {
                text.push(',');
            }
            text.push_str(service);
        }
        text.push_str("]}");
        text
    }
}

impl ServiceConfig {
    /// One of the configuration's `services`.
    pub fn to_json(&self) -> Value {
        service_json(self)
    }
}

impl BreakerPlan {
    /// As the field `circuit_breaker` of a service, with what holds by default. A probe's lease is no part
    /// of it: it follows from the timeouts.
    pub fn to_json(&self) -> Value {
        breaker_json(self)
    }
}

impl RequestMatch {
    /// As one of a class's `match`.
    pub fn to_json(&self) -> Value {
        match_json(self)
    }
}

fn window_json(window: &Window) -> Value {
    let mut json = Map::new();
    json.insert("start".into(), window.start().to_string().into());
    json.insert("end".into(), window.end().to_string().into());
    put(
        &mut json,
        "zone",
        window.zone().map(|zone| json!(zone.as_str())),
    );
    if window.days() != DaySet::ALL {
        json.insert("days".into(), window.days().names().collect());
    }
    put(
        &mut json,
        "dates",
        list(window.dates().iter().copied().map(range_json).collect()),
    );
    put(&mut json, "monthly", list(monthly_json(window.monthly())));
    let except = window.except_holidays().then(|| "holidays".into());
    put(&mut json, "except", except);
    put(&mut json, "multiplier", factor_json(window.multiplier()));
    Value::Object(json)
}

fn range_json(range: DateRange) -> Value {
    if range.start() == range.end() {
        range.start().to_string().into()
    } else {
        json!({"start": range.start().to_string(), "end": range.end().to_string()})
    }
}

fn monthly_json(days: MonthDays) -> Vec<Value> {
    let last = days
        .has_last_business_day()
        .then(|| MonthDays::LAST_BUSINESS_DAY.into());
    days.numbers().map(Value::from).chain(last).collect()
}

fn festival_json(festival: &Festival) -> Value {
    let mut json = named_days(festival.name.as_str(), festival.dates);
    put(&mut json, "factor", factor_json(festival.factor));
    put(&mut json, "holiday", festival.holiday.then(|| true.into()));
    put(
        &mut json,
        "source",
        festival.source.as_ref().map(|source| json!(source)),
    );
    Value::Object(json)
}

fn holiday_json(holiday: &Holiday) -> Value {
    let mut json = named_days(holiday.name.as_str(), holiday.dates);
    put(
        &mut json,
        "source",
        holiday.source.as_ref().map(|source| json!(source)),
    );
    Value::Object(json)
}

fn named_days(name: &str, dates: DateRange) -> Map<String, Value> {
    let mut json = Map::new();
    json.insert("name".into(), name.into());
    match range_json(dates) {
        Value::Object(range) => json.extend(range),
        date => {
            json.insert("date".into(), date);
        }
    }
    json
}

fn service_json(service: &ServiceConfig) -> Value {
    let texts = |texts: &[String]| list(texts.iter().map(|text| json!(text)).collect());
    let mut json = Map::new();
    json.insert("name".into(), service.name.as_str().into());
    if service.class != ClassName::default() {
        json.insert("class".into(), service.class.as_str().into());
    }
    put(&mut json, "clusters", texts(&service.clusters));
    put(&mut json, "authorities", texts(&service.authorities));
    put(
        &mut json,
        "timeout",
        service
            .timeout
            .map(|timeout| format_duration(timeout).into()),
    );
    if service.breaker != BreakerPlan::default_for(service.timeout) {
        json.insert("circuit_breaker".into(), breaker_json(&service.breaker));
    }
    put(&mut json, "limit", service.limit.as_ref().map(limit_json));
    put(
        &mut json,
        "canary",
        service.canary.as_ref().map(canary_json),
    );
    let overridden = service
        .overridden
        .map(|said| json!({"kind": said.kind.as_str(), "until": format_instant(said.until)}));
    put(&mut json, "override", overridden);
    Value::Object(json)
}

fn class_json(class: &TrafficClass) -> Value {
    let mut json = Map::new();
    json.insert("name".into(), class.name.as_str().into());
    put(
        &mut json,
        "match",
        list(class.matches.iter().map(match_json).collect()),
    );
    put(&mut json, "limit", class.limit.as_ref().map(limit_json));
    if let Some(shed) = &class.shed {
        let during = shed.during.iter().map(|(when, percent)| {
            let when = match when {
                ShedWhen::Normal => "normal",
                ShedWhen::Peak => "peak",
                ShedWhen::Festival => "festival",
                ShedWhen::Named(name) => name.as_str(),
            };
            (when.to_string(), number_json(percent.percent()))
        });
        json.insert("shed_during".into(), Value::Object(during.collect()));
        put(
            &mut json,
            "sticky_by",
            sticky_by_json(shed.sticky_by.as_ref()),
        );
        put(&mut json, "mode", shed.observe.then(|| "observe".into()));
    }
    let refusal = class
        .refusal
        .as_ref()
        .map(|refusal| json!({"content_type": &*refusal.content_type, "body": &*refusal.body}));
    put(&mut json, "refusal", refusal);
    Value::Object(json)
}

fn match_json(matched: &RequestMatch) -> Value {
    let mut json = Map::new();
    match &matched.path {
        Some(PathMatch::Prefix(prefix)) => put(&mut json, "path_prefix", Some(json!(prefix))),
        Some(PathMatch::Exact(path)) => put(&mut json, "path", Some(json!(path))),
        None => {}
    }
    put(
        &mut json,
        "method",
        matched.method.as_ref().map(|method| json!(method)),
    );
    let headers = matched.headers.iter();
    let headers: Map<String, Value> = headers
        .map(|(name, value)| (name.to_string(), json!(value)))
        .collect();
    put(
        &mut json,
        "header",
        (!headers.is_empty()).then_some(Value::Object(headers)),
    );
    let service = matched.grpc_service.as_ref();
    put(
        &mut json,
        "grpc_service",
        service.map(|service| json!(service)),
    );
    Value::Object(json)
}

fn limit_json(limit: &Limit) -> Value {
    let mut json = Map::new();
    json.insert("per_second".into(), limit.per_second.into());
    put(&mut json, "at_peak", limit.at_peak.map(Value::from));
    put(&mut json, "at_festival", limit.at_festival.map(Value::from));
    put(&mut json, "burst", limit.burst.map(Value::from));
    put(&mut json, "mode", limit.observe.then(|| "observe".into()));
    let scope = (limit.scope != Scope::default()).then(|| limit.scope.as_str().into());
    put(&mut json, "scope", scope);
    Value::Object(json)
}

fn breaker_json(plan: &BreakerPlan) -> Value {
    let rules = &plan.rules;
    let mut json = rules_json(&BreakerOverride {
        consecutive_failures: rules.consecutive_failures,
        error_rate: rules.error_rate,
        slow_calls: rules.slow_calls,
        open_for: Some(rules.open_for),
        half_open_probes: Some(rules.half_open_probes),
    });
    let overrides = |by: &BreakerOverride| Value::Object(rules_json(by));
    put(&mut json, "at_peak", plan.at_peak.as_ref().map(overrides));
    put(
        &mut json,
        "at_festival",
        plan.at_festival.as_ref().map(overrides),
    );
    put(&mut json, "mode", plan.observe.then(|| "observe".into()));
    if !plan.count_envoy_refusals {
        json.insert("count_envoy_refusals".into(), false.into());
    }
    Value::Object(json)
}

fn rules_json(rules: &BreakerOverride) -> Map<String, Value> {
    let mut json = Map::new();
    put(
        &mut json,
        "consecutive_failures",
        rules.consecutive_failures.map(Value::from),
    );
    let error_rate = rules.error_rate.as_ref().map(|rate| {
        json!({
            "percent": number_json(rate.percent.percent()),
            "minimum_requests": rate.minimum_requests,
            "window": format_duration(rate.window),
        })
    });
    put(&mut json, "error_rate", error_rate);
    let slow_calls = rules.slow_calls.as_ref().map(|slow| {
        json!({
            "over": format_duration(slow.over),
            "percent": number_json(slow.percent.percent()),
            "minimum_requests": slow.minimum_requests,
            "window": format_duration(slow.window),
        })
    });
    put(&mut json, "slow_calls", slow_calls);
    let open_for = rules
        .open_for
        .map(|open_for| format_duration(open_for).into());
    put(&mut json, "open_for", open_for);
    let probes = rules.half_open_probes.map(Value::from);
    put(&mut json, "half_open_probes", probes);
    json
}

fn canary_json(canary: &CanarySplit) -> Value {
    let mut json = Map::new();
    json.insert("version".into(), canary.version.as_str().into());
    match &canary.weight {
        Weight::Fixed(weight) => {
            json.insert("weight".into(), number_json(weight.percent()));
        }
        Weight::Ramp(ramp) => {
            json.insert("ramp".into(), ramp_json(ramp));
        }
    }
    let during = canary.freeze_during.times().iter();
    let during = during.map(|time| time.as_str().into()).collect();
    put(&mut json, "freeze_during", list(during));
    put(
        &mut json,
        "sticky_by",
        sticky_by_json(canary.sticky_by.as_ref()),
    );
    let fallback =
        (canary.fallback != Fallback::default()).then(|| canary.fallback.as_str().into());
    put(&mut json, "fallback", fallback);
    put(&mut json, "mode", canary.observe.then(|| "observe".into()));
    let resumed = (canary.resumed > 0).then(|| canary.resumed.into());
    put(&mut json, "resumed", resumed);
    Value::Object(json)
}

fn ramp_json(ramp: &Ramp) -> Value {
    let steps = ramp.steps().iter().map(|step| number_json(step.percent()));
    json!({
        "start": format_instant(ramp.start()),
        "steps": steps.collect::<Vec<_>>(),
        "every": format_duration(ramp.every()),
    })
}

fn sticky_by_json(header: Option<&HeaderName>) -> Option<Value> {
    header.map(|header| json!({"header": header.as_str()}))
}

fn put(object: &mut Map<String, Value>, field: &str, value: Option<Value>) {
    if let Some(value) = value {
        object.insert(field.into(), value);
    }
}

/// A list, unless there is nothing in it.
fn list(elements: Vec<Value>) -> Option<Value> {
    (!elements.is_empty()).then_some(Value::Array(elements))
}

fn factor_json(factor: Multiplier) -> Option<Value> {
    (factor != Multiplier::ONE).then(|| number_json(factor.as_f64()))
}

/// `10` rather than `10.0`. All our numbers are hundredths of at most 10,000.
fn number_json(number: f64) -> Value {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole and small"
    )]
    if number.fract() == 0.0 {
        json!(number as u32)
    } else {
        json!(number)
    }
}
