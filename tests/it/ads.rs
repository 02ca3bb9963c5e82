//! A client of ADS, state of the world: what a node is sent, without an Envoy.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use envoy_types::pb::envoy::{
    config::{cluster::v3::Cluster, core::v3::Node},
    service::discovery::v3::{
        DiscoveryRequest, DiscoveryResponse,
        aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
};
use prost::Message as _;
use tokio::{runtime::Runtime, sync::mpsc, time::timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Streaming, transport::Endpoint};

const CLUSTERS: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

/// A node's stream, subscribed to all clusters.
pub struct Clusters {
    runtime: Runtime,
    requests: mpsc::UnboundedSender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
    /// Name and connect timeout in seconds, of the newest response.
    known: BTreeMap<String, i64>,
    /// Responses so far.
    pub responses_seen: usize,
}

impl Clusters {
    /// Connects as a node.
    ///
    /// # Errors
    /// When nobody serves there.
    pub fn subscribe(xds: SocketAddr, id: &str, cluster: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let (requests, sent) = mpsc::unbounded_channel();
        requests.send(DiscoveryRequest {
            type_url: CLUSTERS.into(),
            node: Some(Node {
                id: id.into(),
                cluster: cluster.into(),
                ..Node::default()
            }),
            ..DiscoveryRequest::default()
        })?;
        let responses = runtime.block_on(async {
            let channel = Endpoint::try_from(format!("http://{xds}"))?
                .connect()
                .await?;
            let mut client = AggregatedDiscoveryServiceClient::new(channel);
            let stream = UnboundedReceiverStream::new(sent);
            let answer = client.stream_aggregated_resources(stream).await?;
            anyhow::Ok(answer.into_inner())
        })?;
        Ok(Self {
            runtime,
            requests,
            responses,
            known: BTreeMap::new(),
            responses_seen: 0,
        })
    }

    /// What it has been sent, once nothing more came for `silence`: name and connect timeout in seconds.
    ///
    /// # Errors
    /// When the stream ends.
    pub fn known(&mut self, silence: Duration) -> Result<&BTreeMap<String, i64>> {
        loop {
            let next = self
                .runtime
                .block_on(async { timeout(silence, self.responses.message()).await });
            let Ok(response) = next else {
                return Ok(&self.known);
            };
            let response = response?.context("the stream ended")?;
            self.responses_seen += 1;
            self.known = response
                .resources
                .iter()
                .map(|resource| {
                    let cluster = Cluster::decode(resource.value.as_slice())?;
                    let timeout = cluster.connect_timeout.map_or(0, |timeout| timeout.seconds);
                    anyhow::Ok((cluster.name, timeout))
                })
                .collect::<Result<_>>()?;
            self.requests.send(DiscoveryRequest {
                type_url: response.type_url,
                version_info: response.version_info,
                response_nonce: response.nonce,
                ..DiscoveryRequest::default()
            })?;
        }
    }
}
