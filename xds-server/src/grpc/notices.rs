//! Streams that are refused or ended: counted, each of them, and told by the log, a line each. Who is refused may come
//! again at once and with many others, so of one reason only so many lines are written in a while.

use std::{
    fmt::{self, Display},
    net::SocketAddr,
    time::Duration,
};

use tokio::time::Instant;
use tracing::warn;

use super::Discovery;
use crate::{
    fleet::StreamStatus,
    flood::Flood,
    metrics::{Cut, Refused},
};

/// What is known of a stream that is refused or ended.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct About<'a> {
    /// `node.id` and `node.cluster`, once it has said them.
    pub(super) node: Option<(&'a str, &'a str)>,
    /// `ADS`, `LDS`, …; empty for a connection as a whole.
    pub(super) service: &'a str,
    /// Where it comes from.
    pub(super) peer: Option<SocketAddr>,
    /// What is wrong, as its client is told.
    pub(super) detail: &'a str,
    /// The bound that it met, if it is one.
    pub(super) bound: Option<Bound>,
}

impl<'a> About<'a> {
    /// An open stream.
    pub(super) fn stream(status: &'a StreamStatus, detail: &'a str) -> Self {
        Self {
            node: Some((&status.node.id, &status.node.cluster)),
            service: status.service.name(),
            peer: status.peer,
            detail,
            bound: None,
        }
    }
}

/// A bound, as people are told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    Time(Duration),
    Bytes(usize),
    Names(usize),
    Streams(usize),
    Connections(usize),
}

impl Display for Bound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(time) => write!(formatter, "{time:?}"),
            Self::Bytes(bytes) => write!(formatter, "{bytes} bytes"),
            Self::Names(names) => write!(formatter, "{names} names"),
            Self::Streams(streams) => write!(formatter, "{streams} streams"),
            Self::Connections(connections) => write!(formatter, "{connections} connections"),
        }
    }
}

/// How much was said of each reason.
#[derive(Debug, Default)]
pub(super) struct Notices(Flood);

impl Notices {
    /// Writes the line, unless there were too many of its reason; the next one then says how many were not
    /// written.
    pub(super) fn say(&self, what: &str, reason: &'static str, about: &About<'_>) {
        let Some(unsaid) = self.0.admit(reason, Instant::now()) else {
            return;
        };
        let (id, cluster) = about.node.unzip();
        warn!(
            node = id,
            cluster,
            service = Some(about.service).filter(|service| !service.is_empty()),
            peer = about.peer.map(tracing::field::display),
            reason,
            bound = about.bound.map(tracing::field::display),
            detail = about.detail,
            unsaid = Some(unsaid).filter(|unsaid| *unsaid > 0),
            "{what}"
        );
    }
}

impl Discovery {
    /// A stream was not served.
    pub(super) fn refused(&self, reason: Refused, about: &About<'_>) {
        self.fleet.metrics().refused(reason);
        self.notices.say(REFUSED, reason.name(), about);
    }

    /// A stream that was served is ended.
    pub(super) fn cut(&self, reason: Cut, about: &About<'_>) {
        self.fleet.metrics().cut(reason);
        self.notices.say("stream cut", reason.name(), about);
    }
}

/// What is said of a stream that was not served.
pub(super) const REFUSED: &str = "stream refused";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_told_with_their_units() {
        let told = [
            Bound::Time(Duration::from_secs(60)),
            Bound::Bytes(4096),
            Bound::Names(100_000),
        ];
        let told = told.map(|bound| bound.to_string());
        assert_eq!(told, ["60s", "4096 bytes", "100000 names"]);
    }
}
