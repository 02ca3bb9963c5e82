//! Instances for Prometheus, looked at when they are asked for.

use std::sync::Arc;

use prometheus::{
    IntCounter, IntGaugeVec, Opts, Result,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::owner::Registry;

/// The `mumbai_mesh_registered_instances` metric.
pub struct RegistryMetrics {
    registry: Arc<Registry>,
    instances: IntGaugeVec,
}

impl RegistryMetrics {
    /// Of a registry.
    ///
    /// # Errors
    /// Never: the name is one.
    pub fn new(registry: Arc<Registry>) -> Result<Self> {
        let opts = Opts::new(
            "mumbai_mesh_registered_instances",
            "Instances that registered, by service and state (up, draining, expired, vanished). Alert when any \
             has vanished.",
        );
        let instances = IntGaugeVec::new(opts, &["service", "state"])?;
        Ok(Self {
            registry,
            instances,
        })
    }
}

impl Collector for RegistryMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.instances.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.instances.reset();
        for ((service, phase), count) in self.registry.counts() {
            let labels = [service.as_str(), phase.name()];
            self.instances.with_label_values(&labels).set(count);
        }
        self.instances.collect()
    }
}

/// How many heartbeats came.
///
/// # Errors
/// Never: the name is one.
pub fn heartbeats() -> Result<IntCounter> {
    IntCounter::new(
        "mumbai_mesh_heartbeats_total",
        "Heartbeats of instances that came to this server",
    )
}
