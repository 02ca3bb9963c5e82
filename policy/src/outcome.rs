//! How an admitted request ended: one definition for what trips a breaker and what a probe proves.

/// The end of a request, as its breaker counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream answered.
    Success,
    /// It failed, or did not answer in time or in full.
    Failure,
    /// The client left first: nobody knows. A probe gives its slot back.
    Ignored,
}

/// What Envoy knows at the end of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResponseFacts {
    /// HTTP status sent to the client; none when it left before.
    pub status: Option<u16>,
    /// What a gRPC response said of itself, in its trailers or headers.
    pub grpc_status: Option<u32>,
    /// Envoy's response flags as a bit mask (attribute `response.flags`).
    pub flags: u64,
}

/// The client ended the connection (`DC` in access logs).
const DOWNSTREAM_CONNECTION_TERMINATION: u64 = 0x4000;
/// The response did not arrive in full. In access logs, from the lowest bit: UT, LR, UR, UF, UC, SI,
/// UMSDR, DT, UPE. <https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/observability/access_log/usage>
const INCOMPLETE: u64 =
    0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x1_0000 | 0x8_0000 | 0x40_0000 | 0x80_0000;
/// Envoy refused it: no healthy upstream (UH), its own circuit breakers (UO).
const REFUSED_BY_ENVOY: u64 = 0x2 | 0x80;
/// DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
const GRPC_FAILURES: [u32; 5] = [4, 8, 13, 14, 15];

impl ResponseFacts {
    /// Of a response that began as it should and lasts as long as it is used.
    pub fn begun() -> Self {
        Self {
            status: Some(200),
            ..Self::default()
        }
    }

    /// Whether the upstream did its work. A 4xx is the client's fault, and an answer.
    pub fn judge(&self) -> Outcome {
        let Some(status) = self.status.filter(|status| *status != 0) else {
            return Outcome::Ignored;
        };
        let failed_call = self
            .grpc_status
            .is_some_and(|status| GRPC_FAILURES.contains(&status));
        if status >= 500 || failed_call {
            return Outcome::Failure;
        }
        if self.flags & DOWNSTREAM_CONNECTION_TERMINATION != 0 {
            return Outcome::Ignored;
        }
        if status < 400 && self.flags & INCOMPLETE != 0 {
            return Outcome::Failure;
        }
        Outcome::Success
    }

    /// Whether Envoy answered in the upstream's place without asking one.
    pub fn refused_by_envoy(&self) -> bool {
        self.flags & REFUSED_BY_ENVOY != 0
    }

    /// The metric's label: the status, 0 for a client that left before there was one.
    pub fn status_label(&self) -> u16 {
        self.status.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, flags: u64) -> Outcome {
        let facts = ResponseFacts {
            status: Some(status),
            grpc_status: None,
            flags,
        };
        facts.judge()
    }

    #[test]
    fn answers_are_successes_and_what_the_upstream_broke_is_a_failure() {
        assert_eq!(judged(200, 0), Outcome::Success);
        assert_eq!(judged(404, 0), Outcome::Success);
        assert_eq!(judged(503, 0x8000), Outcome::Failure);
        assert_eq!(judged(504, 0x4), Outcome::Failure, "route timeout");
        assert_eq!(judged(503, 0x8040), Outcome::Failure, "reset before it");
        assert_eq!(judged(200, 0x80_0000), Outcome::Failure, "cut in its body");
        assert_eq!(judged(408, 0x1_0000), Outcome::Success, "a slow client");
    }

    #[test]
    fn a_client_that_left_proves_nothing() {
        assert_eq!(judged(200, 0x4000), Outcome::Ignored);
        let gone = ResponseFacts {
            flags: 0x4000,
            ..ResponseFacts::default()
        };
        assert_eq!(gone.judge(), Outcome::Ignored);
        assert_eq!(gone.status_label(), 0);
    }

    #[test]
    fn five_grpc_statuses_are_failures_of_the_service() {
        for status in 0..=16 {
            let facts = ResponseFacts {
                status: Some(200),
                grpc_status: Some(status),
                flags: 0,
            };
            let failed = facts.judge() == Outcome::Failure;
            assert_eq!(failed, [4, 8, 13, 14, 15].contains(&status), "{status}");
        }
    }
}
