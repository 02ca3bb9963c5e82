//! The table itself.

mod calendar;
mod gateways;
mod policies;
mod services;
mod texts;

pub(super) use self::services::ENDPOINT;
use self::{
    calendar::{FESTIVAL, HOLIDAY, WINDOW},
    gateways::GATEWAY,
    policies::CLASS,
    services::SERVICE,
    texts::{COLLECTOR, DATE, DISPLAY, DOMAIN, FILE, LABEL, NAME, ZONE_NAME},
};
use super::{Field, Kind, Object};

const PERCENT: Kind = Kind::Number(0.0, 100.0);
const DAYS: Kind = Kind::Whole(1, 36_500);

pub(crate) static MESH_FILE: Object = Object {
    name: "The file",
    says: "All fields may be left out. Unknown ones are errors.",
    fields: &[
        Field::new("mesh", Kind::Object(&IDENTITY), "Who the mesh is."),
        Field::new(
            "include",
            Kind::List(&Kind::Text(&FILE)),
            "Further files that are part of this one, by paths relative to it.",
        ),
        Field::new(
            "timezone",
            Kind::Text(&ZONE_NAME),
            "In whose time windows and dates are meant. `TIMEZONE` where it is left out.",
        )
        .default("Asia/Kolkata"),
        Field::new(
            "peak_hours",
            Kind::Map(&DISPLAY, &Kind::Object(&WINDOW)),
            "Windows in which there is more traffic, by name. `PEAK_HOURS` where it is left out; `{}` is none.",
        ),
        Field::new(
            "festivals",
            Kind::List(&Kind::Either(&[Kind::Text(&DATE), Kind::Object(&FESTIVAL)])),
            "Days on which more happens than on others: dates, or with a name.",
        )
        .default("[]"),
        Field::new(
            "holidays",
            Kind::List(&Kind::Either(&[Kind::Text(&DATE), Kind::Object(&HOLIDAY)])),
            "Days on which no business is done: dates, or with a name.",
        )
        .default("[]"),
        Field::new(
            "freeze",
            Kind::Object(&FREEZE),
            "When changes by API and command line are refused, unless somebody says why they must be.",
        ),
        Field::new(
            "traffic_classes",
            Kind::Map(&NAME, &Kind::Object(&CLASS)),
            "Classes of requests by name, at most 64; the first that matches counts.",
        )
        .default("{}"),
        Field::new(
            "services",
            Kind::Map(&LABEL, &Kind::Object(&SERVICE)),
            "Services by name, and the rules for calling them.",
        )
        .default("{}"),
        Field::new(
            "gateways",
            Kind::Map(&LABEL, &Kind::Object(&GATEWAY)),
            "Listeners for clients from outside, by name. No service has a gateway's name.",
        )
        .default("{}"),
        Field::new(
            "access_log",
            Kind::OnOff,
            "Whether every Envoy writes a line of JSON per request to its standard output.",
        )
        .default("on"),
        Field::new(
            "tracing",
            Kind::Object(&TRACING),
            "Where spans go; none are sent where it is left out.",
        ),
        Field::new(
            "max_connection_duration",
            Kind::Duration("1s", Some("24h")),
            "Connections are replaced after it.",
        )
        .default("1h"),
    ],
};

static IDENTITY: Object = Object {
    name: "Identity",
    says: "Who the mesh is.",
    fields: &[
        Field::new("name", Kind::Text(&NAME), "Shown to people.").default("mesh"),
        Field::new(
            "region",
            Kind::Text(&NAME),
            "The prefix that zones drop in metrics: `mumbai-west` is `west` in `mumbai`. `REGION` where it is left out.",
        )
        .default("mumbai"),
        Field::new(
            "trust_domain",
            Kind::Text(&DOMAIN),
            "Whose certificates are trusted; a change of it ends what the old one vouched for.",
        )
        .default("mumbai.mesh"),
        Field::new(
            "ca_cert_validity_days",
            DAYS,
            "The root's life, when it is made. `CA_CERT_VALIDITY_DAYS` where it is left out.",
        )
        .default("3650"),
        Field::new(
            "service_cert_validity_days",
            DAYS,
            "A certificate's life. `SERVICE_CERT_VALIDITY_DAYS` where it is left out.",
        )
        .default("90"),
    ],
};

static FREEZE: Object = Object {
    name: "Freeze",
    says: "Endpoints, rollbacks, lower weights, abort and pause always pass.",
    fields: &[
        Field::new(
            "during",
            Kind::List(&Kind::Text(&DISPLAY)),
            "`peak`, `festival`, a window's or a festival's name; at least one.",
        )
        .required(),
        Field::new(
            "files",
            Kind::Word(&["apply", "hold"]),
            "Whether a file that is edited then is applied all the same, or waits until the freeze ends.",
        )
        .default("apply"),
    ],
};

static TRACING: Object = Object {
    name: "Tracing",
    says: "Where spans go, and how many.",
    fields: &[
        Field::new(
            "otlp",
            Kind::Text(&COLLECTOR),
            "A collector that speaks OTLP over gRPC.",
        )
        .required(),
        Field::new(
            "sampling",
            PERCENT,
            "Percent of the requests without a trace of their own that begin one.",
        )
        .default("100"),
    ],
};
