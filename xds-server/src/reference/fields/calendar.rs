//! Windows, festivals, holidays.

use super::texts::{ANY, DATE, DISPLAY, NAME, TIME};
use crate::reference::{Field, Kind, Object};

const MULTIPLIER: Kind = Kind::Number(0.01, 100.0);
const TIME_OF_DAY: Kind = Kind::Either(&[Kind::Whole(0, 24), Kind::Text(&TIME)]);

pub(super) static WINDOW: Object = Object {
    name: "Window",
    says: "A part of the day, its end not included. One that wraps midnight belongs to the day on which it starts; all that narrows it must hold there.",
    fields: &[
        Field::new(
            "start",
            TIME_OF_DAY,
            "Its first minute; a number is a whole hour.",
        )
        .required(),
        Field::new("end", TIME_OF_DAY, "The minute after its last one.").required(),
        Field::new(
            "zone",
            Kind::Text(&NAME),
            "For nodes of this zone, and nodes without one. All when left out.",
        ),
        Field::new(
            "days",
            Kind::List(&Kind::Word(&[
                "mon", "tue", "wed", "thu", "fri", "sat", "sun",
            ])),
            "Days of the week; at least one.",
        )
        .default("[mon, tue, wed, thu, fri, sat, sun]"),
        Field::new(
            "dates",
            Kind::List(&Kind::Either(&[Kind::Text(&DATE), Kind::Object(&DATES)])),
            "Dates, or ranges of them; at least one. Any date when left out.",
        ),
        Field::new(
            "monthly",
            Kind::List(&Kind::Either(&[
                Kind::Whole(1, 31),
                Kind::Word(&["last-business-day"]),
            ])),
            "Days of the month; at least one. Any day when left out.",
        ),
        Field::new(
            "except",
            Kind::Word(&["holidays"]),
            "Not on holidays. On them too when left out.",
        ),
        Field::new(
            "multiplier",
            MULTIPLIER,
            "How much more traffic it brings; of several windows the highest counts.",
        )
        .default("1"),
    ],
};

static DATES: Object = Object {
    name: "Range of dates",
    says: "Both included.",
    fields: &[
        Field::new("start", Kind::Text(&DATE), "Its first day.").required(),
        Field::new("end", Kind::Text(&DATE), "Its last day.").required(),
    ],
};

const DATE_ITSELF: Field = Field::new("date", Kind::Text(&DATE), "Its day; or `start` and `end`.");
const START: Field = Field::new(
    "start",
    Kind::Text(&DATE),
    "Its first day, instead of `date`.",
);
const END: Field = Field::new("end", Kind::Text(&DATE), "Its last day, included.");
const SOURCE: Field = Field::new(
    "source",
    Kind::Text(&ANY),
    "Where its date comes from, for people.",
);

pub(super) static FESTIVAL: Object = Object {
    name: "Festival",
    says: "One day, or several.",
    fields: &[
        Field::new("name", Kind::Text(&DISPLAY), "What people call it.").required(),
        DATE_ITSELF,
        START,
        END,
        Field::new("factor", MULTIPLIER, "How much more traffic it brings.").default("1"),
        Field::new("holiday", Kind::Switch, "Whether no business is done.").default("false"),
        SOURCE,
    ],
};

pub(super) static HOLIDAY: Object = Object {
    name: "Holiday",
    says: "One day, or several, on which no business is done.",
    fields: &[
        Field::new("name", Kind::Text(&DISPLAY), "What people call it.").required(),
        DATE_ITSELF,
        START,
        END,
        SOURCE,
    ],
};
