//! Whether the store serves, for Prometheus.

use std::sync::Arc;

use prometheus::{
    IntGauge, Result,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::Store;

/// The `mumbai_mesh_store_…` metrics, looked at when they are asked for.
pub struct StoreMetrics {
    store: Arc<dyn Store>,
    serves: IntGauge,
}

impl StoreMetrics {
    /// Of a store.
    ///
    /// # Errors
    /// Never: the name is one.
    pub fn new(store: Arc<dyn Store>) -> Result<Self> {
        let serves = IntGauge::new(
            "mumbai_mesh_store_serves",
            "1 while the store serves; 0 while changes are refused since its disk or its etcd does not.",
        )?;
        Ok(Self { store, serves })
    }
}

impl Collector for StoreMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.serves.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.serves.set(i64::from(self.store.problem().is_none()));
        self.serves.collect()
    }
}
