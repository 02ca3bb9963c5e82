//! Traffic classes, limits, canaries and circuit breakers.

use super::{
    PERCENT,
    texts::{
        BODY, DISPLAY, GRPC, HEADER, HEADER_VALUE, INSTANT, MEDIA_TYPE, METHOD, PATH, VERSION,
    },
};
use crate::reference::{Field, Kind, Object};

const COUNT: Kind = Kind::Whole(1, 1_000_000);
const RATE: Kind = Kind::Whole(0, 1_000_000);
const BREAKER_TIME: Kind = Kind::Duration("10ms", Some("1h"));

const MODE: Field = mode("`observe` decides and counts, and refuses nothing.");
const STICKY_BY: Field = Field::new(
    "sticky_by",
    Kind::Object(&STICKY),
    "What keeps a user on one side; each request is drawn anew when left out.",
);

const fn mode(says: &'static str) -> Field {
    Field::new("mode", Kind::Word(&["enforce", "observe"]), says).default("enforce")
}

pub(super) static CLASS: Object = Object {
    name: "Traffic class",
    says: "What a request is for the business: it has breakers, a limit and a share that is shed of its own. Requests that match none have their service's `class`.",
    fields: &[
        Field::new("match", Kind::List(&Kind::Object(&CLASS_MATCH)), "A request is of this class when one of these holds. Only services name the class when left out.")
            .default("[]"),
        Field::new("limit", Kind::Object(&LIMIT), "Requests per second that are let through. No limit when left out."),
        STICKY_BY,
        mode("`observe` decides and counts what would be shed, and sheds nothing. A limit has its own."),
        Field::new(
            "shed_during",
            Kind::Map(&DISPLAY, &PERCENT),
            "Percent that is refused, by time: `normal`, `peak`, `festival`, a window's or a festival's name. Of several the highest counts. Not for `gold`.",
        )
        .default("{}"),
        Field::new("refusal", Kind::Object(&REFUSAL), "What refused clients read; one line of text when left out."),
    ],
};

static CLASS_MATCH: Object = Object {
    name: "Match of a class",
    says: "At least one condition; all must hold.",
    fields: &[PATH_PREFIX, WHOLE_PATH, OF_METHOD, HEADERS, GRPC_SERVICE],
};

static VALUE_OF_HEADER: Kind = Kind::Text(&HEADER_VALUE);

pub(super) const PATH_PREFIX: Field = Field::new(
    "path_prefix",
    Kind::Text(&PATH),
    "Whole segments: `/upi` holds for `/upi/pay`, not for `/upi-old`.",
);
pub(super) const WHOLE_PATH: Field = Field::new(
    "path",
    Kind::Text(&PATH),
    "The whole path, instead of `path_prefix`.",
);
pub(super) const OF_METHOD: Field = Field::new("method", Kind::Text(&METHOD), "The method.");
pub(super) const HEADERS: Field = Field::new(
    "header",
    Kind::Map(&HEADER, &VALUE_OF_HEADER),
    "Headers with exactly these values.",
);
pub(super) const GRPC_SERVICE: Field = Field::new(
    "grpc_service",
    Kind::Text(&GRPC),
    "The gRPC service that is called.",
);

static STICKY: Object = Object {
    name: "Stickiness",
    says: "What tells users apart.",
    fields: &[Field::new(
        "header",
        Kind::Text(&HEADER),
        "The header of a user's id. Requests without it are drawn anew.",
    )
    .required()],
};

static REFUSAL: Object = Object {
    name: "Refusal",
    says: "The body of refusals.",
    fields: &[
        Field::new("content_type", Kind::Text(&MEDIA_TYPE), "Its media type.").required(),
        Field::new("body", Kind::Text(&BODY), "Its text.").required(),
    ],
};

pub(super) static LIMIT: Object = Object {
    name: "Limit",
    says: "Requests per second, exact across the workers of one Envoy.",
    fields: &[
        Field::new(
            "per_second",
            RATE,
            "At any time that no other field speaks of; 0 refuses all.",
        )
        .required(),
        Field::new(
            "at_peak",
            RATE,
            "In any window, on a festival too. As `per_second` when left out.",
        ),
        Field::new(
            "at_festival",
            RATE,
            "On a festival; outranks `at_peak`. As that when left out.",
        ),
        Field::new(
            "burst",
            COUNT,
            "Requests that may come at once after a pause. A tenth of a second's worth when left out.",
        ),
        MODE,
        Field::new(
            "scope",
            Kind::Word(&["envoy", "fleet"]),
            "`envoy`: each Envoy has all of it. `fleet`: the server divides it equally among the proxies of each gateway, and of each service that calls, that it saw in the last ten minutes.",
        )
        .default("envoy"),
    ],
};

pub(super) static CANARY: Object = Object {
    name: "Canary",
    says: "A share of a service's users that another version serves. Either `weight` or `ramp`.",
    fields: &[
        Field::new("version", Kind::Text(&VERSION), "The label of the canary's endpoints.").required(),
        Field::new("weight", PERCENT, "Percent of the users; 0 stops it."),
        Field::new("ramp", Kind::Object(&RAMP), "A weight that grows by itself."),
        Field::new(
            "freeze_during",
            Kind::List(&Kind::Text(&DISPLAY)),
            "When a ramp stands still: `peak`, `festival`, a window's or a festival's name; at least one. Never when left out.",
        ),
        STICKY_BY,
        Field::new(
            "fallback",
            Kind::Word(&["latch", "probe", "off"]),
            "What becomes of its users while its breaker is open, up to a weight of 50 %: stable serves them until the canary is changed, or until probes succeed, or they are refused.",
        )
        .default("latch"),
        MODE,
        Field::new(
            "resumed",
            Kind::Whole(0, 1_000_000),
            "How often a person let it go on: another number lets users back to a canary that latched. `mumbai-mesh canary resume` counts by itself.",
        )
        .default("0"),
    ],
};

pub(super) static OVERRIDE: Object = Object {
    name: "Override",
    says: "It ends in every proxy at its instant.",
    fields: &[
        Field::new(
            "kind",
            Kind::Word(&["bypass", "observe", "peak", "normal"]),
            "`bypass` lets everything through to stable; `observe` lets limits, shedding and breakers refuse nothing; `peak` and `normal` say what kind of hour it is.",
        )
        .required(),
        Field::new(
            "until",
            Kind::Text(&INSTANT),
            "The first instant at which it is over.",
        )
        .required(),
    ],
};

static RAMP: Object = Object {
    name: "Ramp",
    says: "Every proxy works its steps out from the file, to the second.",
    fields: &[
        Field::new(
            "start",
            Kind::Text(&INSTANT),
            "When the first step is taken.",
        )
        .required(),
        Field::new(
            "steps",
            Kind::List(&PERCENT),
            "Percent of the users, 1 to 100 steps that do not fall.",
        )
        .required(),
        Field::new(
            "every",
            Kind::Duration("1s", Some("168h")),
            "From one step to the next.",
        )
        .required(),
    ],
};

const CONSECUTIVE: Field = Field::new(
    "consecutive_failures",
    COUNT,
    "Failures in a row that open it. Not counted when left out.",
);
const RATE_RULE: Field = Field::new(
    "error_rate",
    Kind::Object(&ERROR_RATE),
    "Share of failures that opens it. Where the breaker names no rule at all, 50 % of at least 20 requests in 10s.",
);
const SLOW_RULE: Field = Field::new(
    "slow_calls",
    Kind::Object(&SLOW_CALLS),
    "Share of slow calls that opens it. Not counted when left out.",
);
const OPEN_FOR: Field = Field::new(
    "open_for",
    BREAKER_TIME,
    "Length of the first opening, and up to 20 % more; it doubles with each further one, to at most ten times.",
);
const PROBES: Field = Field::new(
    "half_open_probes",
    Kind::Whole(1, 32),
    "Requests that pass while it is half-open; all must succeed.",
);

pub(super) static BREAKER: Object = Object {
    name: "Circuit breaker",
    says: "Ours, one for each service, version and class; and Envoy's own limits of each Envoy and version, with gold apart.",
    fields: &[
        MODE,
        CONSECUTIVE,
        RATE_RULE,
        SLOW_RULE,
        OPEN_FOR.default("5s"),
        PROBES.default("3"),
        Field::new("at_peak", Kind::Object(&AT), "What holds in any window instead."),
        Field::new("at_festival", Kind::Object(&AT), "What holds on a festival instead; outranks `at_peak`, field by field."),
        Field::new("count_envoy_refusals", Kind::Switch, "Whether a request that Envoy itself refused (no healthy upstream, its own limits) is a failure of the service.")
            .default("true"),
        Field::new("max_connections", COUNT, "Connections.").default("1024"),
        Field::new("max_pending_requests", COUNT, "Requests that wait for a connection.").default("1024"),
        Field::new("max_requests", COUNT, "Requests in flight.").default("1024"),
        Field::new("max_retries", COUNT, "Retries in flight, in place of a budget."),
    ],
};

static AT: Object = Object {
    name: "Breaker at other times",
    says: "What is left out stays as it is.",
    fields: &[CONSECUTIVE, RATE_RULE, SLOW_RULE, OPEN_FOR, PROBES],
};

const MINIMUM: Field = Field::new(
    "minimum_requests",
    COUNT,
    "Fewer requests in the window open nothing.",
)
.default("20");
const SLIDING: Field =
    Field::new("window", BREAKER_TIME, "Length of the sliding window.").default("10s");

static ERROR_RATE: Object = Object {
    name: "Error rate",
    says: "Of the requests of a sliding window.",
    fields: &[
        Field::new("percent", Kind::Number(0.01, 100.0), "Share of failures.").default("50"),
        MINIMUM,
        SLIDING,
    ],
};

static SLOW_CALLS: Object = Object {
    name: "Slow calls",
    says: "Of the requests of a sliding window. Upgrades and streams are never slow.",
    fields: &[
        Field::new(
            "over",
            Kind::Duration("1ms", Some("1h")),
            "A call is slow when it takes longer.",
        )
        .required(),
        Field::new("percent", Kind::Number(0.01, 100.0), "Share of slow calls.").required(),
        MINIMUM,
        SLIDING,
    ],
};
