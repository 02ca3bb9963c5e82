//! Whether what is on disk is what is in force, for Prometheus.

use prometheus::{IntGauge, Registry, Result};

/// The `mumbai_mesh_config_…` metrics.
#[derive(Debug, Clone)]
pub struct ConfigMetrics {
    problems: IntGauge,
    is_successful: IntGauge,
}

impl ConfigMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn new(registry: &Registry) -> Result<Self> {
        let metrics = Self {
            problems: IntGauge::new(
                "mumbai_mesh_config_problems",
                "Problems of the mesh files as they stand; while there are any, the last good revision is in force.",
            )?,
            is_successful: IntGauge::new(
                "mumbai_mesh_config_last_reload_successful",
                "1 when the mesh files as they stand are in force, else 0.",
            )?,
        };
        registry.register(Box::new(metrics.problems.clone()))?;
        registry.register(Box::new(metrics.is_successful.clone()))?;
        Ok(metrics)
    }

    /// What the files' last reading found.
    pub(super) fn set(&self, problems: usize) {
        self.problems
            .set(i64::try_from(problems).unwrap_or(i64::MAX));
        self.is_successful.set(i64::from(problems == 0));
    }
}
