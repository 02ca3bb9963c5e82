//! What an Envoy makes of its clients' headers before a route, the filter or anything else reads them. One
//! list for `analyze`, for `explain`, and for the listeners, whose tests hold it against what they say.

use policy::names;
use serde_json::Value;

use super::model::ClientOptions;

/// Taken from every request at every listener: they are about one connection, or for Envoy alone. (Of a request
/// that upgrades its connection, `connection` stays.)
const NEVER_PASSED: [&str; 22] = [
    "connection",
    "expect",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-force-trace",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-internal",
    "x-envoy-ip-tags",
    "x-envoy-max-retries",
    "x-envoy-original-url",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-stream-duration-ms",
    "x-forwarded-client-cert",
];

/// Taken where clients are strangers.
const NOT_FROM_STRANGERS: [&str; 5] = [
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-original-host",
    "x-envoy-original-path",
];

/// By HTTP/2's name, whatever the client spoke.
const HOST: &str = "host";
/// The scheme of the connection.
const FORWARDED_PROTO: &str = "x-forwarded-proto";
/// Our listeners for strangers are plaintext.
const SCHEME: &str = "http";

/// A listener for requests that go out, as far as it changes their headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entrance {
    /// Clients are strangers (`use_remote_address`).
    strangers: bool,
    /// Names with an underscore are dropped.
    drops_underscores: bool,
    /// Which names that begin like ours are forgotten.
    forgotten: Forgotten,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forgotten {
    None,
    All,
    /// All but the one by which a client chooses the version.
    AllButCanary,
}

/// What becomes of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is gone.
    Removed,
    /// It is there under `:authority`, where only routes find it by its old name.
    Renamed,
    /// Another value is there for each request.
    MadeAnew,
    /// The address of the client stands in its place, or behind what the client sent.
    ClientAddress,
    /// This stands there, whatever the client sent.
    Replaced(&'static str),
}

impl Fate {
    /// What an Envoy does with it: `it …`.
    pub fn words(self) -> &'static str {
        match self {
            Self::Removed => "takes it away",
            Self::Renamed => "has it as :authority",
            Self::MadeAnew => "makes it anew for each request",
            Self::ClientAddress => "writes the client's address there",
            Self::Replaced(_) => "writes the scheme of the connection there",
        }
    }
}

impl Entrance {
    /// Of a sidecar, where the application's requests come in.
    pub const SIDECAR: Self = Self {
        strangers: false,
        drops_underscores: false,
        forgotten: Forgotten::None,
    };

    /// Of a gateway.
    pub fn of_gateway(clients: ClientOptions) -> Self {
        Self {
            strangers: true,
            drops_underscores: true,
            forgotten: match clients.trust_canary_header {
                true => Forgotten::AllButCanary,
                false => Forgotten::All,
            },
        }
    }

    /// Of a live Envoy's connection manager.
    pub fn of_manager(manager: &Value) -> Self {
        let options = &manager["common_http_protocol_options"];
        let extensions = manager["early_header_mutation_extensions"].as_array();
        let mutations = extensions
            .into_iter()
            .flatten()
            .flat_map(|extension| extension["typed_config"]["mutations"].as_array())
            .flatten();
        let mut matchers = mutations.map(|mutation| &mutation["remove_on_match"]["key_matcher"]);
        let forgotten = matchers.find_map(|matcher| {
            let regex = matcher["safe_regex"]["regex"].as_str().unwrap_or_default();
            match regex.starts_with(names::HEADER_PREFIX) {
                true => Some(Forgotten::AllButCanary),
                false => (matcher["prefix"] == names::HEADER_PREFIX).then_some(Forgotten::All),
            }
        });
        Self {
            strangers: manager["use_remote_address"] == true,
            drops_underscores: options["headers_with_underscores_action"] == "DROP_HEADER",
            forgotten: forgotten.unwrap_or(Forgotten::None),
        }
    }

    /// What becomes of a header; none where it passes as the client sent it.
    pub fn fate(self, name: &str) -> Option<Fate> {
        let forgotten = match self.forgotten {
            Forgotten::None => false,
            Forgotten::AllButCanary if name == names::HEADER_CANARY => false,
            Forgotten::All | Forgotten::AllButCanary => name.starts_with(names::HEADER_PREFIX),
        };
        if name == HOST {
            return Some(Fate::Renamed);
        }
        if NEVER_PASSED.contains(&name)
            || (self.strangers && NOT_FROM_STRANGERS.contains(&name))
            || (self.drops_underscores && name.contains('_'))
            || forgotten
        {
            return Some(Fate::Removed);
        }
        match name {
            _ if !self.strangers => None,
            "x-request-id" => Some(Fate::MadeAnew),
            "x-forwarded-for" | "x-envoy-external-address" => Some(Fate::ClientAddress),
            FORWARDED_PROTO => Some(Fate::Replaced(SCHEME)),
            _ => None,
        }
    }

    /// What is there whether the client sends it or not, as far as it is known before.
    pub fn added(self) -> Option<(&'static str, &'static str)> {
        self.strangers.then_some((FORWARDED_PROTO, SCHEME))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(trust_canary_header: bool) -> Entrance {
        Entrance::of_gateway(ClientOptions {
            trust_canary_header,
            debug_headers: false,
        })
    }

    #[test]
    fn what_users_are_told_apart_by_passes_everywhere() {
        for name in [
            "x-user-id",
            "authorization",
            "user-agent",
            "cookie",
            "te",
            "x-forwarded-host",
        ] {
            for entrance in [gateway(false), Entrance::SIDECAR] {
                assert_eq!(entrance.fate(name), None, "{name}");
            }
        }
    }

    #[test]
    fn only_gateways_distrust_what_applications_may_say() {
        for (name, fate) in [
            ("user_id", Fate::Removed),
            ("x-mumbai-user", Fate::Removed),
            ("x-envoy-downstream-service-node", Fate::Removed),
            ("x-request-id", Fate::MadeAnew),
            ("x-forwarded-for", Fate::ClientAddress),
            ("x-forwarded-proto", Fate::Replaced("http")),
        ] {
            assert_eq!(gateway(false).fate(name), Some(fate), "{name}");
            assert_eq!(Entrance::SIDECAR.fate(name), None, "{name}");
        }
        for name in ["host", "connection", "x-envoy-max-retries", "expect"] {
            assert_eq!(gateway(false).fate(name), Entrance::SIDECAR.fate(name));
            assert!(Entrance::SIDECAR.fate(name).is_some(), "{name}");
        }
    }

    #[test]
    fn the_canarys_header_passes_where_it_is_trusted() {
        let of = |trusted: bool| gateway(trusted).fate(names::HEADER_CANARY);
        assert_eq!((of(false), of(true)), (Some(Fate::Removed), None));
        assert_eq!(gateway(true).fate(names::HEADER_CLASS), Some(Fate::Removed));
    }
}
