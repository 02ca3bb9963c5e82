//! Gateways and their routes.

use std::{
    fmt::{self, Display},
    net::SocketAddr,
    time::Duration,
};

use policy::{
    traffic_class::{Headers, RequestMatch},
    units::ServiceName,
};

use super::Retries;

/// A listener for clients from outside the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Address and port of the public listener.
    pub listen: SocketAddr,
    /// The hosts for which it answers; at least one.
    pub hosts: Vec<HostPattern>,
    /// What its clients may choose and are told.
    pub clients: ClientOptions,
    /// First match wins.
    pub routes: Vec<Route>,
}

/// What the clients of a listener may choose and are told. Nothing unless the file says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClientOptions {
    /// `x-mumbai-canary` chooses the version.
    pub trust_canary_header: bool,
    /// Responses tell the decision.
    pub debug_headers: bool,
}

/// Hosts that clients ask for, in lower case and without port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostPattern {
    /// `*`.
    Any,
    /// `*.example.com`: one or more labels before `.example.com`, which is what is kept.
    Below(Box<str>),
    /// `api.example.com`.
    Exactly(Box<str>),
}

impl HostPattern {
    /// Whether a host, with or without port, is one of these.
    pub fn matches(&self, host: &str) -> bool {
        let host = without_port(host);
        match self {
            Self::Any => true,
            Self::Exactly(exact) => host.eq_ignore_ascii_case(exact),
            Self::Below(suffix) => {
                let start = host.len().checked_sub(suffix.len());
                let end = start.filter(|start| *start > 0);
                end.and_then(|start| host.get(start..))
                    .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
            }
        }
    }

    /// Whether every host of the other one is one of these.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Any) | (Self::Exactly(_), Self::Below(_)) => false,
            (Self::Below(mine), Self::Below(theirs)) => theirs.ends_with(&**mine),
            (_, Self::Exactly(host)) => self.matches(host),
        }
    }

    /// One of these hosts.
    pub fn example(&self) -> String {
        match self {
            Self::Any => "localhost".into(),
            Self::Below(suffix) => format!("any{suffix}"),
            Self::Exactly(host) => host.to_string(),
        }
    }
}

impl Display for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => formatter.write_str("*"),
            Self::Below(suffix) => write!(formatter, "*{suffix}"),
            Self::Exactly(host) => formatter.write_str(host),
        }
    }
}

/// `host:8080` -> `host`.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Which requests are treated how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// For these hosts; all of the gateway's when empty.
    pub hosts: Vec<HostPattern>,
    /// What the request must be.
    pub request: RequestMatch,
    /// What becomes of it.
    pub action: RouteAction,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteAction {
    /// A service answers it.
    Forward(Forward),
    /// The client is sent elsewhere.
    Redirect(Redirect),
}

/// A service answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The service called.
    pub service: ServiceName,
    /// Instead of the service's own.
    pub timeout: Option<Duration>,
    /// Instead of the service's own.
    pub retries: Option<Retries>,
    /// What the service sees instead of what the client sent.
    pub rewrite: Rewrite,
}

/// What a service sees instead of what the client sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rewrite {
    /// Instead of the path, or of the prefix, that the route matches.
    pub path: Option<Box<str>>,
    /// Instead of the host.
    pub host: Option<Box<str>>,
}

/// Where a client is sent. What is absent stays as the client sent it; the query stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// To `https`.
    pub https: bool,
    /// To this host.
    pub host: Option<Box<str>>,
    /// To this port.
    pub port: Option<u16>,
    /// To this path.
    pub path: Option<Box<str>>,
    /// To this prefix, instead of the one that the route matches.
    pub path_prefix: Option<Box<str>>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

impl Redirect {
    /// Statuses that it may have.
    pub const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];
}

impl Gateway {
    /// The route that Envoy takes for a request: the first that matches, if the gateway answers for
    /// its host at all.
    pub fn route(&self, host: &str, headers: &dyn Headers) -> Option<&Route> {
        if !self.hosts.iter().any(|known| known.matches(host)) {
            return None;
        }
        self.routes.iter().find(|route| {
            let hosts = &route.hosts;
            let host = hosts.is_empty() || hosts.iter().any(|known| known.matches(host));
            host && route.request.matches(headers)
        })
    }

    /// The services that it calls, in the order of its routes.
    pub fn calls(&self) -> impl Iterator<Item = &Forward> {
        self.routes.iter().filter_map(|route| match &route.action {
            RouteAction::Forward(forward) => Some(forward),
            RouteAction::Redirect(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below(suffix: &str) -> HostPattern {
        HostPattern::Below(suffix.into())
    }

    fn exactly(host: &str) -> HostPattern {
        HostPattern::Exactly(host.into())
    }

    #[test]
    fn hosts_match_without_port_and_case_and_a_star_stands_for_at_least_one_label() {
        let any = below(".example.com");
        assert!(any.matches("api.example.com:8443"));
        assert!(any.matches("A.B.Example.COM"));
        assert!(!any.matches("example.com") && !any.matches(".example.com"));
        assert!(!any.matches("badexample.com"));
        assert!(exactly("api.example.com").matches("API.example.com:80"));
        assert!(!exactly("api.example.com").matches("www.api.example.com"));
        assert!(exactly("[::1]").matches("[::1]:80"));
    }

    #[test]
    fn a_pattern_covers_those_whose_hosts_it_all_matches() {
        let (wide, narrow) = (below(".example.com"), below(".api.example.com"));
        assert!(wide.covers(&narrow) && !narrow.covers(&wide));
        assert!(wide.covers(&exactly("a.example.com")) && !wide.covers(&exactly("example.com")));
        assert!(HostPattern::Any.covers(&wide) && !wide.covers(&HostPattern::Any));
        assert!(!exactly("a.example.com").covers(&wide));
    }
}
