//! How callers' Envoys treat a service's endpoints: what only Envoy honours, the filter knows nothing
//! of it.

use std::{
    fmt::{self, Display},
    net::IpAddr,
    time::Duration,
};

use policy::units::{BasisPoints, ZoneName};

/// Where an endpoint is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// By its address.
    Address(IpAddr),
    /// By a name that callers' Envoys resolve, again and again.
    Name(Box<str>),
}

impl Host {
    /// Whether it is an address of the caller's own machine.
    pub fn is_loopback(&self) -> bool {
        matches!(self, Self::Address(address) if address.is_loopback())
    }
}

impl Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(formatter),
            Self::Name(name) => formatter.write_str(name),
        }
    }
}

/// What endpoints speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without negotiation; gRPC needs it.
    Http2,
}

/// Further tries of a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// Tries after the first one, at least 1.
    pub attempts: u32,
    /// How long one try may take, where the request may be tried again after that.
    pub per_try_timeout: Option<Duration>,
}

impl Retries {
    /// Most tries after the first one.
    pub const ATTEMPTS_MAX: u32 = 10;
}

/// The share of a caller's requests in flight that may be retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBudget(pub BasisPoints);

impl RetryBudget {
    /// So many retries are always allowed, however little traffic there is.
    pub const ALWAYS_ALLOWED: u32 = 3;
}

impl Default for RetryBudget {
    /// 20 %.
    fn default() -> Self {
        Self(BasisPoints::new(2_000).unwrap_or_default())
    }
}

/// What callers' Envoys ask endpoints, whether there is traffic or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// The question.
    pub kind: HealthCheckKind,
    /// From one check to the next.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Failures in a row after which an endpoint gets no traffic.
    pub unhealthy_threshold: u32,
    /// Successes in a row after which it gets traffic again.
    pub healthy_threshold: u32,
}

/// The question of a health check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthCheckKind {
    /// `GET` of this path, answered with 200.
    Http {
        /// The path.
        path: String,
    },
    /// `grpc.health.v1.Health/Check`; an empty name asks for the whole server.
    Grpc {
        /// The gRPC service asked about.
        service: String,
    },
    /// Whether the port takes connections.
    Tcp,
}

/// Envoy's own limits on what one Envoy has under way to one version of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Thresholds {
    /// Connections; Envoy's 1024 when absent.
    pub max_connections: Option<u32>,
    /// Requests that wait for a connection; Envoy's 1024 when absent.
    pub max_pending_requests: Option<u32>,
    /// Requests in flight; Envoy's 1024 when absent.
    pub max_requests: Option<u32>,
    /// Retries in flight, where no budget counts.
    pub max_retries: Option<u32>,
}

/// When one endpoint is left out for a while because its answers are bad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlierDetection {
    /// 5xx, resets and failed connections in a row.
    pub consecutive_5xx: u32,
    /// 502, 503, 504, resets and failed connections in a row.
    pub consecutive_gateway_failures: Option<u32>,
    /// How often it is looked whether an endpoint may come back.
    pub interval: Duration,
    /// How long it is left out the first time; each further time adds as much.
    pub base_ejection_time: Duration,
    /// The longest time for which it is left out.
    pub max_ejection_time: Duration,
    /// The largest share of endpoints that is left out at once, 1..=100; one may always be.
    pub max_ejection_percent: u32,
}

/// Which endpoints are preferred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Regions in the order in which they are used; others come after them. Empty: no region is preferred.
    pub failover: Vec<ZoneName>,
    /// Callers prefer endpoints in their own zone.
    pub zone_aware: bool,
    /// With a smaller percentage of healthy endpoints, 0..=100, health is not looked at: better some
    /// answers from the sick than all load on the last healthy one. Envoy's 50 when absent.
    pub panic_threshold: Option<u32>,
}

impl Placement {
    /// Percent; Envoy's default (`healthy_panic_threshold`).
    pub const ENVOYS_PANIC_THRESHOLD: u32 = 50;
}

impl Default for Placement {
    fn default() -> Self {
        Self {
            failover: Vec::new(),
            zone_aware: true,
            panic_threshold: None,
        }
    }
}
