//! gRPC around the discovery core: one service, one loop for both variants of the protocol.

mod message;
mod stream;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use anyhow::Context;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    aggregated_discovery_service_server::{
        AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
    },
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use crate::{fleet::Fleet, resource::Views};

/// Largest request read.
const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Responses that wait for a slow client; beyond it the stream's loop waits, and later sends the
/// newest state only.
const RESPONSES_WAITING_MAX: usize = 4;
const KEEPALIVE_EVERY: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams are told to go elsewhere, then given so long to do it.
const DRAIN: Duration = Duration::from_secs(2);

struct Ads<V> {
    views: watch::Receiver<Arc<V>>,
    fleet: Arc<Fleet>,
    stopping: watch::Receiver<bool>,
}

type Responses<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

impl<V: Views + 'static> Ads<V> {
    fn open<M: stream::Protocol>(&self, requests: Streaming<M>) -> Response<Responses<M::Answer>> {
        let (sender, receiver) = mpsc::channel(RESPONSES_WAITING_MAX);
        let stream = stream::Loop {
            requests,
            responses: sender,
            views: self.views.clone(),
            fleet: Arc::clone(&self.fleet),
            stopping: self.stopping.clone(),
        };
        tokio::spawn(stream.run());
        Response::new(Box::pin(ReceiverStream::new(receiver)))
    }
}

#[tonic::async_trait]
impl<V: Views + 'static> AggregatedDiscoveryService for Ads<V> {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Ok(self.open(request.into_inner()))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Ok(self.open(request.into_inner()))
    }
}

/// Serves ADS until `shutdown` completes; then every stream ends with UNAVAILABLE, so that Envoys
/// connect to another replica.
///
/// # Errors
/// When the transport fails.
pub async fn serve<V: Views + 'static>(
    listener: TcpListener,
    views: watch::Receiver<Arc<V>>,
    fleet: Arc<Fleet>,
    shutdown: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    let (stop, stopping) = watch::channel(false);
    let mut drained = stopping.clone();
    let ads = AggregatedDiscoveryServiceServer::new(Ads {
        views,
        fleet,
        stopping,
    })
    .max_decoding_message_size(REQUEST_BYTES_MAX)
    .max_encoding_message_size(usize::MAX);
    let serving = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .tcp_nodelay(true)
        .add_service(ads)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async move {
            shutdown.await;
            stop.send_replace(true);
        });
    // A client that does not let go must not keep the process.
    let patience = async {
        if drained.wait_for(|stopping| *stopping).await.is_ok() {
            tokio::time::sleep(DRAIN).await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        result = serving => result.context("the xDS port"),
        () = patience => Ok(()),
    }
}
