//! Load reports as people look at them: by node and by cluster.

use std::time::Duration;

use policy::time::{CivilZone, WallTime, format_duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cluster, Counts, LoadReports, Node, Place, Reporter};
use crate::page::{Listed, Page, Paged};

/// Which reports are shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LoadsQuery")]
pub struct Wanted {
    /// Of this `node.id` only.
    pub node: Option<String>,
    /// About this cluster only.
    pub cluster: Option<String>,
    /// Of nodes whose id comes after this one: the `next` of an earlier page.
    pub after: Option<String>,
    /// Of at most so many nodes.
    pub limit: Option<usize>,
}

impl Paged for Wanted {
    const LIMIT: usize = 100;
    const LIMIT_MAX: usize = 1_000;

    fn limit(&self) -> Option<usize> {
        self.limit
    }
}

impl Wanted {
    fn wants(&self, reporter: &Reporter, node: &Node) -> bool {
        let about = |cluster: &String| node.clusters.keys().any(|(name, _)| name == cluster);
        let after = |after: &String| reporter.id > *after;
        self.node.as_ref().is_none_or(|id| *id == reporter.id)
            && self.after.as_ref().is_none_or(after)
            && self.cluster.as_ref().is_none_or(about)
    }
}

/// What nodes reported.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Loads {
    /// How often they are asked to.
    interval: String,
    #[serde(flatten)]
    page: Page<NodeLoads>,
}

/// The load that a node reported.
#[derive(Debug, Serialize, JsonSchema)]
pub struct NodeLoads {
    node: String,
    cluster: String,
    connected: bool,
    heard_at: String,
    left_off: u64,
    clusters: Vec<ClusterLoads>,
}

impl Listed for NodeLoads {
    type Key = String;
    const NAME: &'static str = "loads";

    fn key(&self) -> String {
        self.node.clone()
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct ClusterLoads {
    cluster: String,
    service: String,
    newest: Newest,
    total: Total,
    localities: Vec<LocalityLoads>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LoadNewest")]
struct Newest {
    at: String,
    interval_seconds: f64,
    requests_per_second: f64,
    #[serde(flatten)]
    requests: Requests,
    in_progress: u64,
    dropped: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LoadTotal")]
struct Total {
    since: String,
    reports: u64,
    #[serde(flatten)]
    requests: Requests,
    dropped: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct LocalityLoads {
    region: String,
    zone: String,
    sub_zone: String,
    priority: u32,
    in_progress: u64,
    newest: Requests,
    total: Requests,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LoadRequests")]
struct Requests {
    issued: u64,
    successful: u64,
    error: u64,
}

impl From<Counts> for Requests {
    fn from(counts: Counts) -> Self {
        Self {
            issued: counts.issued,
            successful: counts.successful,
            error: counts.error,
        }
    }
}

impl LoadReports {
    /// The reports that are wanted, with times as clocks of this zone show them.
    pub fn page(&self, wanted: &Wanted, zone: &CivilZone, now: WallTime) -> Loads {
        let (reporters, left_off) = self.reporters(wanted, now);
        let mut loads = Vec::new();
        for reporter in &reporters {
            // Locked anew for each: nobody who reports waits for a whole page.
            if let Some(node) = self.lock().nodes.get(reporter) {
                loads.push(node_loads(reporter, node, wanted.cluster.as_deref(), zone));
            }
        }
        Loads {
            interval: format_duration(self.interval),
            page: Page {
                items: loads,
                left_off,
            },
        }
    }

    /// Who is on the page, and how many come after it.
    fn reporters(&self, wanted: &Wanted, now: WallTime) -> (Vec<Reporter>, usize) {
        let limit = wanted.size();
        let mut state = self.lock();
        state.forget(now);
        let mut reporters: Vec<Reporter> = Vec::new();
        let mut left_off = 0;
        for (reporter, node) in &state.nodes {
            if !wanted.wants(reporter, node) {
                continue;
            }
            // A page ends between two ids, so that `after` loses nobody.
            let same_id = reporters.last().is_some_and(|last| last.id == reporter.id);
            if left_off > 0 || (reporters.len() >= limit && !same_id) {
                left_off += 1;
            } else {
                reporters.push(reporter.clone());
            }
        }
        (reporters, left_off)
    }
}

fn node_loads(
    reporter: &Reporter,
    node: &Node,
    wanted: Option<&str>,
    zone: &CivilZone,
) -> NodeLoads {
    let clusters = node.clusters.iter();
    let clusters = clusters.filter(|((name, _), _)| wanted.is_none_or(|wanted| wanted == name));
    NodeLoads {
        node: reporter.id.clone(),
        cluster: reporter.cluster.clone(),
        connected: node.streams > 0,
        heard_at: zone.rfc3339(node.heard_at),
        left_off: node.left_off,
        clusters: clusters
            .map(|((name, service), cluster)| cluster_loads(name, service, cluster, zone))
            .collect(),
    }
}

fn cluster_loads(name: &str, service: &str, cluster: &Cluster, zone: &CivilZone) -> ClusterLoads {
    let rows = cluster.places.values();
    let (newest, total) = rows.fold(
        Default::default(),
        |(newest, total): (Counts, Counts), row| {
            (newest.beside(row.newest), total.beside(row.total))
        },
    );
    ClusterLoads {
        cluster: name.into(),
        service: service.into(),
        newest: Newest {
            at: zone.rfc3339(cluster.at),
            interval_seconds: cluster.interval.as_secs_f64(),
            requests_per_second: rate(newest.issued, cluster.interval),
            requests: newest.into(),
            in_progress: newest.in_progress,
            dropped: cluster.dropped_newest,
        },
        total: Total {
            since: zone.rfc3339(cluster.since),
            reports: cluster.reports,
            requests: total.into(),
            dropped: cluster.dropped_total,
        },
        localities: cluster
            .places
            .iter()
            .map(|(place, row)| locality(place, row.newest, row.total))
            .collect(),
    }
}

fn locality(place: &Place, newest: Counts, total: Counts) -> LocalityLoads {
    LocalityLoads {
        region: place.region.clone(),
        zone: place.zone.clone(),
        sub_zone: place.sub_zone.clone(),
        priority: place.priority,
        in_progress: newest.in_progress,
        newest: newest.into(),
        total: total.into(),
    }
}

/// To a tenth of a request; 0 when nothing was counted.
#[expect(clippy::cast_precision_loss, reason = "shown to people")]
fn rate(requests: u64, interval: Duration) -> f64 {
    if interval.is_zero() {
        return 0.0;
    }
    (requests as f64 / interval.as_secs_f64() * 10.0).round() / 10.0
}
