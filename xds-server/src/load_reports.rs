//! Owner of load reports (LRS): what each Envoy says it sent to each cluster; the newest report and the
//! totals. Pure: time is passed in.
//!
//! Everything that a node may say is bounded: what goes beyond is left off and counted. What was not heard
//! of for [`FORGET_AFTER`] is forgotten, totals included.

#[cfg(test)]
mod tests;
pub mod view;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use policy::time::WallTime;

/// Nodes without a stream, and clusters that are not reported any more, are kept for so long.
pub const FORGET_AFTER: Duration = Duration::from_mins(10);

/// Looking for what is old takes time, and nothing is old for long.
const FORGET_EVERY: Duration = Duration::from_mins(1);

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Streams at once, and nodes.
    pub nodes: usize,
    /// Clusters of one node.
    pub clusters: usize,
    /// Localities of one cluster of one node.
    pub localities: usize,
    /// Localities of all clusters of all nodes, about 300 bytes each.
    pub rows: usize,
    /// Bytes of one name.
    pub name: usize,
}

impl Limits {
    /// With so many nodes.
    pub fn of(nodes: usize) -> Self {
        Self {
            nodes,
            clusters: 10_000,
            localities: 64,
            rows: 500_000,
            name: 1024,
        }
    }
}

/// Where requests went.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// `locality.region`.
    pub region: String,
    /// `locality.zone`.
    pub zone: String,
    /// `locality.sub_zone`.
    pub sub_zone: String,
    /// Priority of the endpoints.
    pub priority: u32,
}

/// Requests of one report, or of all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Begun.
    pub issued: u64,
    /// Ended well.
    pub successful: u64,
    /// Ended with an error.
    pub error: u64,
    /// Under way when the report was made: of the newest report only.
    pub in_progress: u64,
}

impl Counts {
    /// With those of a later report.
    fn and(self, later: Self) -> Self {
        Self {
            issued: self.issued.saturating_add(later.issued),
            successful: self.successful.saturating_add(later.successful),
            error: self.error.saturating_add(later.error),
            in_progress: later.in_progress,
        }
    }

    /// With those of another place in the same report.
    fn beside(self, other: Self) -> Self {
        Self {
            in_progress: self.in_progress.saturating_add(other.in_progress),
            ..self.and(other)
        }
    }
}

/// What one report says of one cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterReport {
    /// The cluster's name.
    pub cluster: String,
    /// Its EDS name, where that is another.
    pub service: String,
    /// How long it was counted.
    pub interval: Duration,
    /// Requests dropped before they went anywhere.
    pub dropped: u64,
    /// The others.
    pub places: Vec<(Place, Counts)>,
}

/// Who reports.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reporter {
    /// `node.id`.
    pub id: String,
    /// `node.cluster`.
    pub cluster: String,
}

#[derive(Debug, Clone, Copy, Default)]
struct Row {
    newest: Counts,
    total: Counts,
}

#[derive(Debug)]
struct Cluster {
    since: WallTime,
    at: WallTime,
    reports: u64,
    interval: Duration,
    dropped_newest: u64,
    dropped_total: u64,
    places: BTreeMap<Place, Row>,
}

#[derive(Debug)]
struct Node {
    streams: usize,
    heard_at: WallTime,
    /// Clusters and places that went beyond a limit.
    left_off: u64,
    /// By name and EDS name.
    clusters: BTreeMap<(String, String), Cluster>,
}

#[derive(Debug, Default)]
struct State {
    streams: usize,
    nodes: BTreeMap<Reporter, Node>,
    rows: usize,
    /// When it was last looked for what is old.
    forgot_at: Option<WallTime>,
}

/// All load reports.
#[derive(Debug)]
pub struct LoadReports {
    interval: Duration,
    limits: Limits,
    state: Mutex<State>,
}

impl LoadReports {
    /// Nodes are asked to report at this interval.
    pub fn new(interval: Duration, limits: Limits) -> Self {
        Self {
            interval,
            limits,
            state: Mutex::default(),
        }
    }

    /// At which nodes are asked to report.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// A node's stream, until the value is dropped; None when there are too many.
    pub fn open(self: &Arc<Self>, reporter: Reporter, now: WallTime) -> Option<Reporting> {
        let mut state = self.lock();
        if state.streams >= self.limits.nodes {
            return None;
        }
        if !state.nodes.contains_key(&reporter) {
            state.forget_sometimes(now);
            // So many streams are not open: among those kept is one that is gone.
            if state.nodes.len() >= self.limits.nodes {
                state.forget_oldest();
            }
        }
        state.streams += 1;
        let node = state.nodes.entry(reporter.clone()).or_insert_with(|| Node {
            streams: 0,
            heard_at: now,
            left_off: 0,
            clusters: BTreeMap::new(),
        });
        node.streams += 1;
        node.heard_at = now;
        drop(state);
        Some(Reporting {
            reports: Arc::clone(self),
            reporter,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open stream of one node.
#[derive(Debug)]
pub struct Reporting {
    reports: Arc<LoadReports>,
    reporter: Reporter,
}

impl Reporting {
    /// Takes what one message reports.
    pub fn report(&self, clusters: Vec<ClusterReport>, now: WallTime) {
        let limits = self.reports.limits;
        let mut state = self.reports.lock();
        state.forget_sometimes(now);
        let State { nodes, rows, .. } = &mut *state;
        let Some(node) = nodes.get_mut(&self.reporter) else {
            return;
        };
        node.heard_at = now;
        for report in clusters {
            node.take(report, now, limits, rows);
        }
    }
}

impl Drop for Reporting {
    fn drop(&mut self) {
        let mut state = self.reports.lock();
        state.streams -= 1;
        if let Some(node) = state.nodes.get_mut(&self.reporter) {
            node.streams -= 1;
        }
    }
}

impl Node {
    fn take(&mut self, report: ClusterReport, now: WallTime, limits: Limits, rows: &mut usize) {
        let too_long = |name: &str| name.len() > limits.name;
        let full = self.clusters.len() >= limits.clusters;
        let key = (report.cluster, report.service);
        if too_long(&key.0) || too_long(&key.1) || (full && !self.clusters.contains_key(&key)) {
            self.left_off += 1;
            return;
        }
        let cluster = self.clusters.entry(key).or_insert_with(|| Cluster {
            since: now,
            at: now,
            reports: 0,
            interval: Duration::ZERO,
            dropped_newest: 0,
            dropped_total: 0,
            places: BTreeMap::new(),
        });
        cluster.at = now;
        cluster.reports += 1;
        cluster.interval = report.interval;
        cluster.dropped_newest = report.dropped;
        cluster.dropped_total = cluster.dropped_total.saturating_add(report.dropped);
        // A place that is not in the report had no request.
        for row in cluster.places.values_mut() {
            row.newest = Counts::default();
            row.total.in_progress = 0;
        }
        for (place, counts) in report.places {
            let names = [&place.region, &place.zone, &place.sub_zone];
            let is_known = cluster.places.contains_key(&place);
            let full = cluster.places.len() >= limits.localities || *rows >= limits.rows;
            if names.into_iter().any(|name| too_long(name)) || (full && !is_known) {
                self.left_off += 1;
                continue;
            }
            *rows += usize::from(!is_known);
            let row = cluster.places.entry(place).or_default();
            row.newest = row.newest.beside(counts);
            row.total = row.total.beside(counts);
        }
    }

    fn rows(&self) -> usize {
        let clusters = self.clusters.values();
        clusters.map(|cluster| cluster.places.len()).sum()
    }
}

impl State {
    fn forget_sometimes(&mut self, now: WallTime) {
        let is_due = |at: WallTime| at.saturating_add(FORGET_EVERY) <= now || now < at;
        if self.forgot_at.is_none_or(is_due) {
            self.forget(now);
        }
    }

    /// Drops what was not heard of for so long.
    fn forget(&mut self, now: WallTime) {
        self.forgot_at = Some(now);
        let is_old = |at: WallTime| at.saturating_add(FORGET_AFTER) < now;
        let rows = &mut self.rows;
        self.nodes.retain(|_, node| {
            let stays = node.streams > 0 || !is_old(node.heard_at);
            if !stays {
                *rows -= node.rows();
            }
            stays
        });
        for node in self.nodes.values_mut() {
            node.clusters.retain(|_, cluster| {
                let stays = !is_old(cluster.at);
                if !stays {
                    *rows -= cluster.places.len();
                }
                stays
            });
        }
    }

    /// Drops the node that has been gone for the longest time.
    fn forget_oldest(&mut self) {
        let gone = self.nodes.iter().filter(|(_, node)| node.streams == 0);
        let oldest = gone.min_by_key(|(_, node)| node.heard_at);
        if let Some(reporter) = oldest.map(|(reporter, _)| reporter.clone())
            && let Some(node) = self.nodes.remove(&reporter)
        {
            self.rows -= node.rows();
        }
    }
}
