//! LRS: asks each Envoy to report its load of all clusters, and hands the reports to their owner.

use std::{sync::Arc, time::Duration};

use envoy_types::pb::{
    envoy::{
        config::endpoint::v3::{ClusterStats, UpstreamLocalityStats},
        service::load_stats::v3::{
            LoadStatsRequest, LoadStatsResponse,
            load_reporting_service_server::{LoadReportingService, LoadReportingServiceServer},
        },
    },
    google::protobuf,
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::debug;

use super::{
    Discovery, REQUEST_BYTES_MAX,
    connection::ConnectionInfo,
    reporters::{Conversation, Told, first, told},
};
use crate::{
    clock,
    load_reports::{ClusterReport, Counts, Place, Reporter, Reporting},
    metrics::OpenStream,
};

pub(super) const NAME: &str = "envoy.service.load_stats.v3.LoadReportingService";
/// A client that reports more often than anybody asked is read no faster.
const READ_EVERY: Duration = Duration::from_millis(500);

/// The service that hands reports to their owner.
pub(super) fn service(discovery: Arc<Discovery>) -> LoadReportingServiceServer<LoadStats> {
    LoadReportingServiceServer::new(LoadStats(discovery))
        .max_decoding_message_size(REQUEST_BYTES_MAX)
}

#[derive(Clone)]
pub(super) struct LoadStats(Arc<Discovery>);

#[tonic::async_trait]
impl LoadReportingService for LoadStats {
    type StreamLoadStatsStream = Told<LoadStatsResponse>;

    async fn stream_load_stats(
        &self,
        requests: Request<Streaming<LoadStatsRequest>>,
    ) -> Result<Response<Self::StreamLoadStatsStream>, Status> {
        let connection = requests.extensions().get::<ConnectionInfo>().cloned();
        Ok(told(Stream {
            service: self.clone(),
            connection,
            requests: requests.into_inner(),
            open: None,
        }))
    }
}

/// A stream whose node is known.
struct Open {
    reporting: Reporting,
    _counted: OpenStream,
}

/// One stream: one answer, which says what is wanted; then reports until it ends.
struct Stream {
    service: LoadStats,
    connection: Option<ConnectionInfo>,
    requests: Streaming<LoadStatsRequest>,
    open: Option<Open>,
}

impl Conversation for Stream {
    type Tells = LoadStatsResponse;

    fn stopping(&self) -> CancellationToken {
        self.service.0.stopping.clone()
    }

    async fn talk(&mut self) -> Result<Option<LoadStatsResponse>, Status> {
        if self.open.is_none() {
            let Some(first) = first(&mut self.requests).await? else {
                return Ok(None);
            };
            let open = self.service.begin(&first, self.connection.as_ref())?;
            self.service.take(&open.reporting, first);
            self.open = Some(open);
            return Ok(Some(wish(self.service.0.loads.interval())));
        }
        loop {
            let next_read = Instant::now() + READ_EVERY;
            let (Some(request), Some(open)) = (self.requests.message().await?, &self.open) else {
                return Ok(None);
            };
            self.service.take(&open.reporting, request);
            sleep_until(next_read).await;
        }
    }
}

impl LoadStats {
    fn begin(
        &self,
        request: &LoadStatsRequest,
        connection: Option<&ConnectionInfo>,
    ) -> Result<Open, Status> {
        let node = request.node.clone().unwrap_or_default();
        let key = self.0.reporter(NAME, &node, connection)?;
        let reporter = Reporter {
            id: key.id,
            cluster: key.cluster,
        };
        debug!(node = reporter.id, "reports its load");
        let reporting = self.0.loads.open(reporter.clone(), clock::now());
        let reporting = reporting.ok_or_else(|| {
            let who = (&*reporter.id, &*reporter.cluster);
            self.0.too_many_reporters("LRS", who, connection)
        })?;
        Ok(Open {
            reporting,
            _counted: self.0.fleet.metrics().reporting(),
        })
    }

    fn take(&self, reporting: &Reporting, request: LoadStatsRequest) {
        if request.cluster_stats.is_empty() {
            return;
        }
        self.0.fleet.metrics().load_reported();
        let clusters = request.cluster_stats.into_iter().map(report).collect();
        reporting.report(clusters, clock::now());
    }
}

/// All clusters, at this interval.
fn wish(interval: Duration) -> LoadStatsResponse {
    LoadStatsResponse {
        send_all_clusters: true,
        load_reporting_interval: Some(protobuf::Duration {
            seconds: i64::try_from(interval.as_secs()).unwrap_or(i64::MAX),
            // Less than a thousand million, so it fits.
            nanos: i32::try_from(interval.subsec_nanos()).unwrap_or_default(),
        }),
        ..LoadStatsResponse::default()
    }
}

fn report(stats: ClusterStats) -> ClusterReport {
    ClusterReport {
        cluster: stats.cluster_name,
        service: stats.cluster_service_name,
        // A length that makes no sense is none.
        interval: stats
            .load_report_interval
            .and_then(|interval| {
                let nanos = u32::try_from(interval.nanos).ok()?;
                let seconds = u64::try_from(interval.seconds).ok()?;
                Some(Duration::from_secs(seconds) + Duration::from_nanos(nanos.into()))
            })
            .unwrap_or_default(),
        dropped: stats.total_dropped_requests,
        places: stats
            .upstream_locality_stats
            .into_iter()
            .map(place)
            .collect(),
    }
}

fn place(stats: UpstreamLocalityStats) -> (Place, Counts) {
    let locality = stats.locality.unwrap_or_default();
    let place = Place {
        region: locality.region,
        zone: locality.zone,
        sub_zone: locality.sub_zone,
        priority: stats.priority,
    };
    let counts = Counts {
        issued: stats.total_issued_requests,
        successful: stats.total_successful_requests,
        error: stats.total_error_requests,
        in_progress: stats.total_requests_in_progress,
    };
    (place, counts)
}
