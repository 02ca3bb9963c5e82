//! gRPC health: of the server (the empty name) and of each of its services. SERVING from the first
//! snapshot on and until the server stops, so that a balancer sends Envoys elsewhere before their streams
//! end.

use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
    server::{HealthReporter, HealthService},
};

/// Says what the health service answers.
#[derive(Debug, Clone)]
pub(super) struct Reporter {
    reporter: HealthReporter,
    names: Vec<&'static str>,
}

impl Reporter {
    /// There is a snapshot to serve.
    pub(super) async fn serving(&self) {
        self.tell(ServingStatus::Serving).await;
    }

    /// There is none yet, or the server is stopping.
    pub(super) async fn not_serving(&self) {
        self.tell(ServingStatus::NotServing).await;
    }

    async fn tell(&self, status: ServingStatus) {
        for name in std::iter::once(&"").chain(&self.names) {
            self.reporter.set_service_status(name, status).await;
        }
    }
}

/// The service for these names, NOT_SERVING until it is told.
pub(super) async fn service(names: &[&'static str]) -> (Reporter, HealthServer<impl Health>) {
    let (reporter, service) = linked(names).await;
    (reporter, HealthServer::new(service))
}

async fn linked(names: &[&'static str]) -> (Reporter, HealthService) {
    let reporter = Reporter {
        reporter: HealthReporter::new(),
        names: names.to_vec(),
    };
    reporter.not_serving().await;
    let service = HealthService::from_health_reporter(reporter.reporter.clone());
    (reporter, service)
}

#[cfg(test)]
mod tests {
    use tonic_health::pb::{
        HealthCheckRequest, HealthCheckResponse,
        health_check_response::ServingStatus::{self as Told, NotServing, Serving},
    };

    use super::*;

    async fn told(health: &impl Health, service: &str) -> Result<Told, tonic::Code> {
        let service = service.to_string();
        let answer = health.check(tonic::Request::new(HealthCheckRequest { service }));
        let HealthCheckResponse { status } = answer.await.map_err(|no| no.code())?.into_inner();
        Ok(Told::try_from(status).unwrap())
    }

    #[tokio::test]
    async fn each_service_is_serving_only_while_there_is_something_to_serve() {
        let (reporter, health) = linked(&["ads"]).await;
        assert_eq!(told(&health, "").await, Ok(NotServing));
        assert_eq!(told(&health, "ads").await, Ok(NotServing));
        reporter.serving().await;
        assert_eq!(told(&health, "").await, Ok(Serving));
        assert_eq!(told(&health, "ads").await, Ok(Serving));
        assert_eq!(told(&health, "other").await, Err(tonic::Code::NotFound));
        reporter.not_serving().await;
        assert_eq!(told(&health, "ads").await, Ok(NotServing));
    }
}
