//! What the xDS side counts: the `xds_…` metrics, each defined once, each label resolved when the server
//! starts, so that an event costs an addition.
//!
//! Events are counted where they happen. What is a state of the whole fleet is set when it is asked for:
//! [`Metrics::observe`].

#[cfg(test)]
mod tests;

use std::time::Duration;

use policy::time::WallTime;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, Result,
};

use crate::{discovery::Variant, resource::ResourceType};

const TYPES: usize = ResourceType::IN_ORDER.len();
const VARIANTS: [(Variant, &str); 2] = [
    (Variant::StateOfTheWorld, "sotw"),
    (Variant::Delta, "delta"),
];
/// Type of a request that this server does not know.
const UNKNOWN: &str = "unknown";
/// From a change on the same machine to one across the world, and to a client that sleeps.
const CONVERGENCE_SECONDS: [f64; 15] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// The gRPC service to which a stream belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// ADS: every type on one stream.
    Aggregated,
    /// LDS, RDS, CDS, EDS, SDS, ECDS, RTDS: one type.
    Single(ResourceType),
}

impl Service {
    const COUNT: usize = 1 + TYPES;

    /// Every service.
    pub fn all() -> impl Iterator<Item = Self> {
        let single = ResourceType::IN_ORDER.into_iter().map(Self::Single);
        std::iter::once(Self::Aggregated).chain(single)
    }

    /// `ADS`, `LDS`, ….
    pub fn name(self) -> &'static str {
        match self {
            Self::Aggregated => "ADS",
            Self::Single(kind) => kind.api(),
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Aggregated => 0,
            Self::Single(kind) => 1 + kind as usize,
        }
    }
}

/// Why a stream was never served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// As many streams as `--max-streams` allows are open, or too many on one connection.
    TooMany,
    /// No node, or one that cannot be served.
    BadNode,
    /// A first message that makes no sense.
    BadRequest,
    /// The server is stopping.
    Stopping,
    /// Its certificate does not allow what it asked for.
    Denied,
}

impl Refused {
    /// `too_many`, ….
    pub fn name(self) -> &'static str {
        let mut all = Self::ALL.into_iter();
        all.find(|(reason, _)| *reason == self)
            .map_or("", |(_, name)| name)
    }

    const ALL: [(Self, &str); 5] = [
        (Self::TooMany, "too_many"),
        (Self::BadNode, "bad_node"),
        (Self::BadRequest, "bad_request"),
        (Self::Stopping, "stopping"),
        (Self::Denied, "denied"),
    ];
}

/// Why the server ended a stream that it had served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It did not read what it was sent.
    SlowReader,
    /// A message that makes no sense, garbage included.
    BadRequest,
    /// More than a bound allows: size of a message, names.
    TooLarge,
    /// The server is stopping.
    Stopping,
    /// The certificate of its connection ended. All streams of a connection count as one.
    Expired,
    /// Its certificate does not allow what the mesh is now.
    Denied,
}

impl Cut {
    /// `slow_reader`, ….
    pub fn name(self) -> &'static str {
        let mut all = Self::ALL.into_iter();
        all.find(|(reason, _)| *reason == self)
            .map_or("", |(_, name)| name)
    }

    const ALL: [(Self, &str); 6] = [
        (Self::SlowReader, "slow_reader"),
        (Self::BadRequest, "bad_request"),
        (Self::TooLarge, "too_large"),
        (Self::Stopping, "stopping"),
        (Self::Expired, "expired"),
        (Self::Denied, "denied"),
    ];
}

/// The fleet at one instant, as [`Metrics::observe`] shows it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Observed {
    /// Nodes with at least one open stream.
    pub nodes: usize,
    /// How long the oldest unanswered push waits.
    pub queue_age: Duration,
    /// Pushes that wait for an answer.
    pub unanswered: usize,
    /// Streams whose newest answer is a rejection, in the order of [`ResourceType::IN_ORDER`].
    pub rejecting: [usize; TYPES],
}

/// All of them.
#[derive(Debug)]
pub struct Metrics {
    streams: [[IntGauge; VARIANTS.len()]; Service::COUNT],
    requests: [IntCounter; TYPES],
    unknown_requests: IntCounter,
    pushes: [IntCounter; TYPES],
    acks: [IntCounter; TYPES],
    nacks: [IntCounter; TYPES],
    sent_bytes: [IntCounter; TYPES],
    convergence: [Histogram; TYPES],
    refused: [IntCounter; Refused::ALL.len()],
    cut: [IntCounter; Cut::ALL.len()],
    revision: IntGauge,
    nodes: IntGauge,
    queue_age: Gauge,
    unanswered: IntGauge,
    rejecting: [IntGauge; TYPES],
    load_report_streams: IntGauge,
    load_reports: IntCounter,
    health_streams: IntGauge,
    health_reports: IntCounter,
    endpoint_health: IntGaugeVec,
    failed_handshakes: IntCounter,
    withheld_secrets: IntCounter,
    renewals: IntCounter,
    failed_renewals: IntCounter,
    /// Leaf, issuing, root.
    certificate_ends: [Gauge; 3],
}

/// When certificates end.
#[derive(Debug, Clone, Copy)]
pub struct Soonest {
    /// Of all leaves the one that ends first.
    pub leaf: Option<WallTime>,
    /// The issuing certificate.
    pub issuing: WallTime,
    /// The root.
    pub root: WallTime,
}

impl Metrics {
    /// Registers each metric.
    ///
    /// # Errors
    /// When the registry has one of these names already.
    pub fn new(registry: &Registry) -> Result<Self> {
        let define = Define(registry);
        let requests = define.counters(
            "xds_requests_total",
            "Requests received by type; `unknown` is a type that this server does not serve",
            "type",
        )?;
        Ok(Self {
            streams: streams(define)?,
            unknown_requests: requests.with_label_values(&[UNKNOWN]),
            requests: per_type(|kind| requests.with_label_values(&[kind])),
            pushes: define.counter_per_type("xds_pushes_total", "Responses sent by type")?,
            acks: define.counter_per_type("xds_acks_total", "Responses accepted by type")?,
            nacks: define.counter_per_type("xds_nacks_total", "Responses rejected by type")?,
            sent_bytes: define
                .counter_per_type("xds_sent_bytes_total", "Bytes of responses sent by type")?,
            convergence: convergence(define)?,
            refused: define.reasons(
                "xds_refused_streams_total",
                "Streams that were never served, by reason",
                Refused::ALL.map(|(_, name)| name),
            )?,
            cut: define.reasons(
                "xds_cut_streams_total",
                "Streams that the server ended, by reason",
                Cut::ALL.map(|(_, name)| name),
            )?,
            revision: define.gauge("xds_revision", "Revision of the configuration in force")?,
            nodes: define.gauge("xds_nodes", "Nodes with at least one open stream")?,
            queue_age: define.seconds(
                "xds_queue_age_seconds",
                "How long the oldest push without an answer waits; 0 when none does",
            )?,
            unanswered: define.gauge("xds_unanswered_pushes", "Pushes that wait for an answer")?,
            rejecting: define.gauge_per_type(
                "xds_rejecting_streams",
                "Open streams whose newest answer is a rejection, by type",
            )?,
            load_report_streams: define
                .gauge("xds_load_report_streams", "Open streams of load reports")?,
            load_reports: define.counter("xds_load_reports_total", "Load reports received")?,
            health_streams: define.gauge(
                "xds_health_streams",
                "Open streams of Envoys that check endpoints",
            )?,
            health_reports: define
                .counter("xds_health_reports_total", "Health reports received")?,
            endpoint_health: endpoint_health(define)?,
            failed_handshakes: define.counter(
                "xds_tls_failures_total",
                "TLS handshakes that failed: no certificate of this mesh, or not in time",
            )?,
            withheld_secrets: define.counter(
                "xds_withheld_secrets_total",
                "Secrets that a node with a certificate asked for and was not sent: not its own, or not there",
            )?,
            renewals: define.counter(
                "mumbai_mesh_certificate_renewals_total",
                "Leaf certificates renewed",
            )?,
            failed_renewals: define.counter(
                "mumbai_mesh_certificate_renewal_failures_total",
                "Attempts to renew a leaf certificate that failed; the one in use stays",
            )?,
            certificate_ends: certificate_ends(define)?,
        })
    }

    /// A stream is served; it is counted until the value is dropped.
    #[must_use = "the stream counts as open until this is dropped"]
    pub fn opened(&self, service: Service, variant: Variant) -> OpenStream {
        let gauge = self.streams[service.index()][variant as usize].clone();
        gauge.inc();
        OpenStream(gauge)
    }

    /// A node reports its load, until the value is dropped.
    #[must_use = "the stream counts as open until this is dropped"]
    pub fn reporting(&self) -> OpenStream {
        self.load_report_streams.inc();
        OpenStream(self.load_report_streams.clone())
    }

    /// A load report came.
    pub fn load_reported(&self) {
        self.load_reports.inc();
    }

    /// A node checks endpoints, until the value is dropped.
    #[must_use = "the stream counts as open until this is dropped"]
    pub fn checking(&self) -> OpenStream {
        self.health_streams.inc();
        OpenStream(self.health_streams.clone())
    }

    /// A health report came.
    pub fn health_reported(&self) {
        self.health_reports.inc();
    }

    /// An endpoint of the mesh file is healthy or not, or nothing is known of it.
    pub fn endpoint_health(&self, service: &str, endpoint: &str, is_healthy: Option<bool>) {
        let labels = [service, endpoint];
        match is_healthy {
            Some(is_healthy) => {
                let gauge = self.endpoint_health.with_label_values(&labels);
                gauge.set(is_healthy.into());
            }
            // An error says that it is not there, as is wanted.
            None => drop(self.endpoint_health.remove_label_values(&labels)),
        }
    }

    /// So many secrets were asked for and not sent.
    pub fn withheld_secrets(&self, count: usize) {
        self.withheld_secrets.inc_by(count as u64);
    }

    /// A request came.
    pub fn requested(&self, kind: ResourceType) {
        self.requests[kind as usize].inc();
    }

    /// A request for a type that is not served came.
    pub fn requested_unknown(&self) {
        self.unknown_requests.inc();
    }

    /// A response went out.
    pub fn pushed(&self, kind: ResourceType, bytes: usize) {
        self.pushes[kind as usize].inc();
        self.sent_bytes[kind as usize].inc_by(bytes as u64);
    }

    /// A response was accepted.
    pub fn acked(&self, kind: ResourceType) {
        self.acks[kind as usize].inc();
    }

    /// A response was rejected.
    pub fn nacked(&self, kind: ResourceType) {
        self.nacks[kind as usize].inc();
    }

    /// So long after a revision was published, a stream accepted what it changed.
    pub fn converged(&self, kind: ResourceType, after: Duration) {
        self.convergence[kind as usize].observe(after.as_secs_f64());
    }

    /// A stream was never served.
    pub fn refused(&self, reason: Refused) {
        self.refused[reason as usize].inc();
    }

    /// The server ended a stream that it had served.
    pub fn cut(&self, reason: Cut) {
        self.cut[reason as usize].inc();
    }

    /// A client showed no certificate that we issued, or not in time.
    pub fn handshake_failed(&self) {
        self.failed_handshakes.inc();
    }

    /// A leaf was renewed.
    pub fn renewed(&self) {
        self.renewals.inc();
    }

    /// A leaf was not renewed.
    pub fn renewal_failed(&self) {
        self.failed_renewals.inc();
    }

    /// When certificates end. Without leaves, the kind shows 0.
    pub fn certificates(&self, soonest: Soonest) {
        let seconds = |at: WallTime| whole_seconds(at);
        let ends = [
            soonest.leaf.map_or(0.0, seconds),
            seconds(soonest.issuing),
            seconds(soonest.root),
        ];
        for (gauge, end) in self.certificate_ends.iter().zip(ends) {
            gauge.set(end);
        }
    }

    /// A revision is in force.
    pub fn published(&self, revision: u64) {
        self.revision.set(whole(revision));
    }

    /// The fleet as it is at this instant: before the metrics are shown.
    pub fn observe(&self, fleet: &Observed) {
        self.nodes.set(whole(fleet.nodes as u64));
        self.queue_age.set(fleet.queue_age.as_secs_f64());
        self.unanswered.set(whole(fleet.unanswered as u64));
        for (gauge, count) in self.rejecting.iter().zip(fleet.rejecting) {
            gauge.set(whole(count as u64));
        }
    }
}

/// A stream that counts as open.
#[derive(Debug)]
pub struct OpenStream(IntGauge);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
fn whole_seconds(at: WallTime) -> f64 {
    at.unix_millis().div_euclid(1000) as f64
}

fn certificate_ends(define: Define<'_>) -> Result<[Gauge; 3]> {
    let help = "When the certificate of this kind that ends first ends, in seconds since 1970";
    let name = "mumbai_mesh_certificate_end_timestamp_seconds";
    let gauges = GaugeVec::new(Opts::new(name, help), &["kind"])?;
    define.0.register(Box::new(gauges.clone()))?;
    Ok(["leaf", "issuing", "root"].map(|kind| gauges.with_label_values(&[kind])))
}

fn endpoint_health(define: Define<'_>) -> Result<IntGaugeVec> {
    let help = "1 for an endpoint whose health check passes, 0 for one whose check fails; \
                none where that is not known";
    let options = Opts::new("mumbai_mesh_endpoint_health", help);
    let gauges = IntGaugeVec::new(options, &["service", "endpoint"])?;
    define.0.register(Box::new(gauges.clone()))?;
    Ok(gauges)
}

fn per_type<T>(of: impl Fn(&'static str) -> T) -> [T; TYPES] {
    ResourceType::IN_ORDER.map(|kind| of(kind.api()))
}

fn streams(define: Define<'_>) -> Result<[[IntGauge; VARIANTS.len()]; Service::COUNT]> {
    let help = "Open streams by service and variant of the protocol";
    let gauges = IntGaugeVec::new(Opts::new("xds_streams", help), &["service", "variant"])?;
    define.0.register(Box::new(gauges.clone()))?;
    let services: Vec<_> = Service::all().map(Service::name).collect();
    Ok(std::array::from_fn(|service| {
        VARIANTS.map(|(_, variant)| gauges.with_label_values(&[services[service], variant]))
    }))
}

fn convergence(define: Define<'_>) -> Result<[Histogram; TYPES]> {
    let help = "From the publication of a change until a stream accepted it, by type";
    let options = HistogramOpts::new("xds_convergence_seconds", help);
    let histograms = HistogramVec::new(options.buckets(CONVERGENCE_SECONDS.to_vec()), &["type"])?;
    define.0.register(Box::new(histograms.clone()))?;
    Ok(per_type(|kind| histograms.with_label_values(&[kind])))
}

/// Makes a metric and registers it.
#[derive(Clone, Copy)]
struct Define<'r>(&'r Registry);

impl Define<'_> {
    fn counter(self, name: &str, help: &str) -> Result<IntCounter> {
        let counter = IntCounter::new(name, help)?;
        self.0.register(Box::new(counter.clone()))?;
        Ok(counter)
    }

    fn counters(self, name: &str, help: &str, label: &str) -> Result<IntCounterVec> {
        let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
        self.0.register(Box::new(counters.clone()))?;
        Ok(counters)
    }

    fn counter_per_type(self, name: &str, help: &str) -> Result<[IntCounter; TYPES]> {
        let counters = self.counters(name, help, "type")?;
        Ok(per_type(|kind| counters.with_label_values(&[kind])))
    }

    fn reasons<const N: usize>(
        self,
        name: &str,
        help: &str,
        reasons: [&str; N],
    ) -> Result<[IntCounter; N]> {
        let counters = self.counters(name, help, "reason")?;
        Ok(reasons.map(|reason| counters.with_label_values(&[reason])))
    }

    fn gauge(self, name: &str, help: &str) -> Result<IntGauge> {
        let gauge = IntGauge::new(name, help)?;
        self.0.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn seconds(self, name: &str, help: &str) -> Result<Gauge> {
        let gauge = Gauge::new(name, help)?;
        self.0.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn gauge_per_type(self, name: &str, help: &str) -> Result<[IntGauge; TYPES]> {
        let gauges = IntGaugeVec::new(Opts::new(name, help), &["type"])?;
        self.0.register(Box::new(gauges.clone()))?;
        Ok(per_type(|kind| gauges.with_label_values(&[kind])))
    }
}
