//! Gateways and their routes.

use std::net::SocketAddr;

use policy::units::ServiceName;

/// A listener for clients from outside the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Address and port of the public listener.
    pub listen: SocketAddr,
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

/// Which requests go to which service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What the path must be.
    pub path: PathMatch,
    /// The service called.
    pub service: ServiceName,
}

/// How a route matches the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathMatch {
    /// Whole path segments: `/orders` matches `/orders` and `/orders/7`, not `/orders-old`.
    Prefix(String),
    /// The whole path, without its query.
    Exact(String),
}

impl PathMatch {
    /// Whether `path` (a query string is ignored) matches, as Envoy's route matching does.
    pub fn matches(&self, path: &str) -> bool {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        match self {
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) if prefix == "/" => path.starts_with('/'),
            Self::Prefix(prefix) => path
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_matches_whole_segments_as_envoys_path_separated_prefix_does() {
        let orders = PathMatch::Prefix("/orders".into());
        assert!(orders.matches("/orders"));
        assert!(orders.matches("/orders/7?x=1"));
        assert!(orders.matches("/orders?x=1"));
        assert!(!orders.matches("/orders-old"));
        assert!(PathMatch::Prefix("/".into()).matches("/anything"));
        assert!(!PathMatch::Exact("/pay".into()).matches("/pay/1"));
    }
}
