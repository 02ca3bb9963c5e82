//! Services and their endpoints.

use super::{
    PERCENT,
    policies::{BREAKER, CANARY, LIMIT, OVERRIDE},
    texts::{GRPC_OR_EMPTY, HOST, NAME, PATH, VERSION},
};
use crate::reference::{Field, Kind, Object};

const PORT: Kind = Kind::Whole(1, 65_535);
const COUNT: Kind = Kind::Whole(1, 1_000_000);
const IN_A_ROW: Kind = Kind::Whole(1, 1_000);

pub(super) const TIMEOUT: Kind = Kind::Duration("1ns", None);
pub(super) const ATTEMPTS: Field =
    Field::new("attempts", Kind::Whole(1, 10), "Tries after the first one.").required();
pub(super) const PER_TRY: Field = Field::new(
    "per_try_timeout",
    Kind::Duration("1ms", Some("1h")),
    "How long one try may take, where the request may be tried again after that; not longer than `timeout`. No limit when left out.",
);

pub(super) static SERVICE: Object = Object {
    name: "Service",
    says: "Its instances, and the rules for calling them.",
    fields: &[
        Field::new("port", PORT, "What the application listens on beside its sidecar."),
        Field::new("sidecar", Kind::Switch, "Whether its endpoints stand behind a sidecar Envoy of the mesh; `false`: they are plain applications.")
            .default("true"),
        Field::new(
            "mtls",
            Kind::Word(&["strict", "permissive", "off"]),
            "`strict`: its sidecars demand a certificate of this mesh; `permissive`: they serve plaintext too. Without sidecars only `off`, which is meant then.",
        )
        .default("strict"),
        Field::new("protocol", Kind::Word(&["http1", "http2"]), "What its endpoints speak; `http2` for gRPC.").default("http1"),
        Field::new("endpoints", Kind::List(&Kind::Object(&ENDPOINT)), "Its instances: all by address, or all by DNS name.").default("[]"),
        Field::new("stable_version", Kind::Text(&VERSION), "The label of the stable endpoints. All that are not the canary's when left out."),
        Field::new("uses", Kind::List(&Kind::Text(&NAME)), "The services that its sidecars may call. Everything when left out."),
        Field::new("class", Kind::Text(&NAME), "The traffic class of its requests that match none.").default("silver"),
        Field::new("timeout", TIMEOUT, "How long a whole request may take, retries included.").default("15s"),
        Field::new("retries", Kind::Object(&RETRIES), "Further tries of a failed request. None when left out."),
        Field::new("health_check", Kind::Object(&HEALTH_CHECK), "What is asked of its endpoints: by callers' Envoys, and for the server by each endpoint's own sidecar, or by gateways where there is none. Nothing when left out."),
        Field::new("outlier_detection", Kind::Object(&OUTLIER), "When one endpoint is left out for a while because of its answers. Never when left out."),
        Field::new("failover", Kind::List(&Kind::Text(&NAME)), "Regions in the order in which they are used; others come after them. No region is preferred when left out.")
            .default("[]"),
        Field::new("zone_aware", Kind::Switch, "Callers prefer endpoints of their own zone.").default("true"),
        Field::new("panic_threshold", Kind::Whole(0, 100), "Percent; with fewer healthy endpoints health is not looked at. Envoy's 50 when left out."),
        Field::new("circuit_breaker", Kind::Object(&BREAKER), "When callers stop calling it.").default("{}"),
        Field::new("canary", Kind::Object(&CANARY), "A share of its users that another version serves. None when left out."),
        Field::new("limit", Kind::Object(&LIMIT), "Requests per second that are let through, all classes together. No limit when left out."),
        Field::new("override", Kind::Object(&OVERRIDE), "What somebody says of it until a time; `mumbai-mesh override` writes it. Nobody says anything when left out."),
    ],
};

pub(crate) static ENDPOINT: Object = Object {
    name: "Endpoint",
    says: "One instance.",
    fields: &[
        Field::new(
            "id",
            Kind::Text(&NAME),
            "Unique in the service; the `node.id` of its sidecar. `HOST:PORT` when left out.",
        ),
        Field::new("host", Kind::Text(&HOST), "Where callers connect to.").required(),
        Field::new(
            "port",
            PORT,
            "The port that callers connect to: the sidecar's where there is one.",
        )
        .required(),
        Field::new(
            "app_port",
            PORT,
            "The application's own port. The service's `port` when left out.",
        ),
        Field::new(
            "weight",
            Kind::Whole(1, 65_535),
            "Its share of the requests, against the other endpoints'.",
        )
        .default("100"),
        Field::new("region", Kind::Text(&NAME), "Its region, for `failover`."),
        Field::new(
            "az",
            Kind::Text(&NAME),
            "Its availability zone within the region.",
        ),
        Field::new(
            "zone",
            Kind::Text(&NAME),
            "Its zone. `REGION-AZ` when left out and both are given.",
        ),
        Field::new("version", Kind::Text(&VERSION), "Its version's label."),
    ],
};

static RETRIES: Object = Object {
    name: "Retries",
    says: "GET, HEAD, OPTIONS, TRACE, PUT and DELETE are tried again after a failure; other methods only when the request surely reached nobody.",
    fields: &[
        ATTEMPTS,
        PER_TRY,
        Field::new("budget_percent", PERCENT, "Percent of one Envoy's requests in flight to the service that may be retries, of all routes together.")
            .default("20"),
    ],
};

static HEALTH_CHECK: Object = Object {
    name: "Health check",
    says: "Exactly one of `path`, `grpc_service` and `tcp`.",
    fields: &[
        Field::new(
            "path",
            Kind::Text(&PATH),
            "GET of this path must be answered with 200.",
        ),
        Field::new(
            "grpc_service",
            Kind::Text(&GRPC_OR_EMPTY),
            "What `grpc.health.v1.Health` is asked about; needs `protocol: http2`.",
        ),
        Field::new(
            "tcp",
            Kind::Switch,
            "`true`: whether the port takes connections.",
        ),
        Field::new(
            "interval",
            Kind::Duration("100ms", Some("1h")),
            "From one check to the next.",
        )
        .default("5s"),
        Field::new(
            "timeout",
            Kind::Duration("10ms", Some("1h")),
            "How long an answer may take.",
        )
        .default("1s"),
        Field::new(
            "unhealthy_threshold",
            IN_A_ROW,
            "Failures in a row after which an endpoint gets no traffic. After a first one it is asked again sooner, so that all of them come within one `interval`.",
        )
        .default("2"),
        Field::new(
            "healthy_threshold",
            IN_A_ROW,
            "Successes in a row after which it gets traffic again.",
        )
        .default("2"),
    ],
};

static OUTLIER: Object = Object {
    name: "Outlier detection",
    says: "Envoy's, of single endpoints.",
    fields: &[
        Field::new(
            "consecutive_5xx",
            COUNT,
            "5xx, resets and failed connections in a row.",
        )
        .default("5"),
        Field::new(
            "consecutive_gateway_failures",
            COUNT,
            "502, 503, 504, resets and failed connections in a row. Not counted when left out.",
        ),
        Field::new(
            "interval",
            Kind::Duration("100ms", Some("1h")),
            "How often it is looked whether an endpoint may come back.",
        )
        .default("10s"),
        Field::new(
            "base_ejection_time",
            Kind::Duration("100ms", Some("24h")),
            "How long an endpoint is left out the first time; each further time adds as much.",
        )
        .default("30s"),
        Field::new(
            "max_ejection_time",
            Kind::Duration("100ms", Some("24h")),
            "The longest time for which it is left out. The longer of 300s and `base_ejection_time` when left out.",
        ),
        Field::new(
            "max_ejection_percent",
            Kind::Whole(1, 100),
            "The largest share of endpoints that is left out at once; one may always be.",
        )
        .default("50"),
    ],
};
