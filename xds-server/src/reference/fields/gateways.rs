//! Gateways and their routes.

use super::{
    policies::{GRPC_SERVICE, HEADERS, OF_METHOD, PATH_PREFIX, WHOLE_PATH},
    services::{ATTEMPTS, PER_TRY, TIMEOUT},
    texts::{HOST_PATTERN, LISTEN, NAME, PATH, URL_HOST},
};
use crate::reference::{Field, Kind, Object};

const HOSTS: Kind = Kind::List(&Kind::Text(&HOST_PATTERN));

pub(super) static GATEWAY: Object = Object {
    name: "Gateway",
    says: "A listener for clients from outside. It answers `GET /health` itself.",
    fields: &[
        Field::new(
            "listen",
            Kind::Text(&LISTEN),
            "Address and port of the listener.",
        )
        .required(),
        Field::new(
            "hosts",
            HOSTS,
            "The hosts for which it answers; at least one.",
        )
        .default("[\"*\"]"),
        Field::new(
            "trust_canary_header",
            Kind::Switch,
            "Whether a client's `x-mumbai-canary` chooses the version.",
        )
        .default("false"),
        Field::new(
            "debug_headers",
            Kind::Switch,
            "Whether responses carry the decision in `x-mumbai-decision`.",
        )
        .default("false"),
        Field::new(
            "routes",
            Kind::List(&Kind::Object(&ROUTE)),
            "What becomes of requests; the first that matches counts.",
        )
        .default("[]"),
    ],
};

static ROUTE: Object = Object {
    name: "Route",
    says: "Either `service` or `redirect`.",
    fields: &[
        Field::new("match", Kind::Object(&MATCH), "What the request must be.").required(),
        Field::new("service", Kind::Text(&NAME), "The service that answers."),
        Field::new("timeout", TIMEOUT, "Instead of the service's own."),
        Field::new(
            "retries",
            Kind::Object(&RETRIES),
            "Instead of the service's own.",
        ),
        Field::new(
            "rewrite",
            Kind::Object(&REWRITE),
            "What the service sees instead of what the client sent.",
        ),
        Field::new(
            "redirect",
            Kind::Object(&REDIRECT),
            "Where the client is sent.",
        ),
    ],
};

static MATCH: Object = Object {
    name: "Match of a route",
    says: "At least one condition; all must hold.",
    fields: &[
        PATH_PREFIX,
        WHOLE_PATH,
        OF_METHOD,
        HEADERS,
        GRPC_SERVICE,
        Field::new(
            "hosts",
            HOSTS,
            "The host, one of these; all of the gateway's when left out.",
        ),
    ],
};

static RETRIES: Object = Object {
    name: "Retries of a route",
    says: "As a service's. The budget is the service's.",
    fields: &[ATTEMPTS, PER_TRY],
};

static REWRITE: Object = Object {
    name: "Rewrite",
    says: "What is left out stays as the client sent it.",
    fields: &[
        Field::new(
            "path",
            Kind::Text(&PATH),
            "Instead of the path; for a route that matches a `path`.",
        ),
        Field::new(
            "path_prefix",
            Kind::Text(&PATH),
            "Instead of the prefix that the route matches.",
        ),
        Field::new("host", Kind::Text(&URL_HOST), "Instead of the host."),
    ],
};

static REDIRECT: Object = Object {
    name: "Redirect",
    says: "What is left out stays as the client sent it; at least one of them but `status`. The query stays.",
    fields: &[
        Field::new("https", Kind::Switch, "To `https`.").default("false"),
        Field::new("host", Kind::Text(&URL_HOST), "To this host."),
        Field::new("port", Kind::Whole(1, 65_535), "To this port."),
        Field::new("path", Kind::Text(&PATH), "To this path."),
        Field::new(
            "path_prefix",
            Kind::Text(&PATH),
            "To this prefix, instead of the one that the route matches.",
        ),
        Field::new(
            "status",
            Kind::OneOf(&[301, 302, 303, 307, 308]),
            "308 and 301 are remembered by clients; 307 and 308 keep the method.",
        )
        .default("301"),
    ],
};
