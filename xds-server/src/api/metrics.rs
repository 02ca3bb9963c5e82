//! `GET /metrics`, for Prometheus; `GET /api/metrics`, the same for programs that read JSON.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::State as Extract,
    http::{StatusCode, header},
    response::IntoResponse,
};
use prometheus::{
    TEXT_FORMAT, TextEncoder,
    proto::{Metric, MetricFamily, MetricType},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    State,
    answer::{Answer, Answered, Media},
    problem, tried_apart,
};
use crate::{
    calendar::{self, TrafficNow},
    clock, proxies,
};

/// The text form of Prometheus.
pub(super) struct Metrics;

impl Media for Metrics {
    const TYPE: &'static str = TEXT_FORMAT;
    const SAYS: &'static str = "In the text form of Prometheus.";
}

fn gathered(state: &State) -> Vec<MetricFamily> {
    let fleet = proxies::observed(&state.fleet.streams(), clock::now());
    state.fleet.metrics().observe(&fleet);
    state.registry.gather()
}

/// Every metric of this process.
pub(super) async fn metrics(Extract(state): Extract<State>) -> Answer<Metrics> {
    match TextEncoder::new().encode_to_string(&gathered(&state)) {
        Ok(page) => {
            let kind = [(header::CONTENT_TYPE, TEXT_FORMAT)];
            Answer::made((kind, page).into_response())
        }
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error).into(),
    }
}

/// What hour it is, and every metric of the server.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MetricsAsJson")]
pub(super) struct AsJson {
    #[serde(flatten)]
    now: TrafficNow,
    /// By name.
    metrics: BTreeMap<String, Family>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MetricFamily")]
struct Family {
    /// What it counts.
    help: String,
    /// `counter`, `gauge` or `histogram`.
    #[serde(rename = "type")]
    kind: &'static str,
    samples: Vec<Sample>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MetricSample")]
struct Sample {
    labels: BTreeMap<String, String>,
    /// Of a counter or a gauge.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    /// Of a histogram: how many were observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    /// Of a histogram: all together.
    #[serde(skip_serializing_if = "Option::is_none")]
    sum: Option<f64>,
    /// Of a histogram: how many were at most so much.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    buckets: Vec<Bucket>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MetricBucket")]
struct Bucket {
    le: f64,
    count: u64,
}

impl Sample {
    fn of(metric: &Metric, kind: MetricType) -> Self {
        let labels = metric.get_label().iter();
        let labels = labels.map(|label| (label.name().to_string(), label.value().to_string()));
        let (mut value, mut count, mut sum, mut buckets) = (None, None, None, Vec::new());
        match kind {
            MetricType::COUNTER => value = Some(metric.get_counter().get_value()),
            MetricType::HISTOGRAM => {
                let histogram = metric.get_histogram();
                count = Some(histogram.get_sample_count());
                sum = Some(histogram.get_sample_sum());
                let bounded = histogram.get_bucket().iter();
                buckets.extend(bounded.map(|bucket| Bucket {
                    le: bucket.upper_bound(),
                    count: bucket.cumulative_count(),
                }));
            }
            _ => value = Some(metric.get_gauge().get_value()),
        }
        Self {
            labels: labels.collect(),
            value,
            count,
            sum,
            buckets,
        }
    }
}

fn family(family: &MetricFamily) -> (String, Family) {
    let kind = family.get_field_type();
    let told = Family {
        help: family.help().to_string(),
        kind: match kind {
            MetricType::COUNTER => "counter",
            MetricType::HISTOGRAM => "histogram",
            _ => "gauge",
        },
        samples: family
            .get_metric()
            .iter()
            .map(|metric| Sample::of(metric, kind))
            .collect(),
    };
    (family.name().to_string(), told)
}

/// The same as JSON, with what hour it is.
pub(super) async fn as_json(Extract(state): Extract<State>) -> Answered<AsJson> {
    let mesh = Arc::clone(&state.revisions.borrow().mesh);
    tried_apart(StatusCode::INTERNAL_SERVER_ERROR, move || {
        let now = calendar::traffic_state(&mesh, clock::now(), None, None);
        let now = now.ok_or("the timetable says nothing of now")?;
        let metrics = gathered(&state).iter().map(family).collect();
        Ok::<_, &str>(AsJson { now, metrics })
    })
    .await
}
