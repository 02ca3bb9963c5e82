//! A month by its days.

use jiff::civil::Date;
use policy::{
    time::WallTime,
    timetable::{DaySet, Timetable, Window, parse_date},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::CalendarError;
use crate::mesh::Mesh;

/// A month of a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MonthOf {
    first: Date,
}

impl MonthOf {
    /// Reads `2026-11`, in the years 1900 to 2999.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, CalendarError> {
        let first = parse_date(&format!("{text}-01")).map_err(|_| {
            CalendarError(format!(
                "month: {text:?} is no month such as 2026-11 in the years 1900 to 2999"
            ))
        })?;
        Ok(Self { first })
    }

    /// The one that an instant belongs to.
    pub fn at(mesh: &Mesh, at: WallTime) -> Self {
        Self {
            first: mesh.timetable.zone().civil(at).date().first_of_month(),
        }
    }
}

/// What a month holds.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "CalendarMonth")]
pub struct Month {
    /// `2026-11`.
    pub month: String,
    /// IANA name of the mesh's zone.
    pub timezone: String,
    /// All of them, in order.
    pub days: Vec<Day>,
}

/// One day.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "CalendarDay")]
pub struct Day {
    /// `2026-11-08`.
    pub date: String,
    /// `mon` to `sun`.
    pub weekday: &'static str,
    /// Whether business is done: from Monday to Friday, but for holidays.
    pub business_day: bool,
    /// Those that hold, the one that counts first.
    pub festivals: Vec<DayFestival>,
    /// Those that are no festivals.
    pub holidays: Vec<DayHoliday>,
    /// Those that start on it, by their start.
    pub windows: Vec<DayWindow>,
}

/// A festival that holds on a day.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct DayFestival {
    /// What people call it.
    pub name: String,
    /// How much more traffic it brings.
    pub factor: f64,
    /// Whether it is a holiday too.
    pub holiday: bool,
    /// Where its date comes from.
    pub source: Option<String>,
}

/// A holiday.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct DayHoliday {
    /// What people call it.
    pub name: String,
    /// Where its date comes from.
    pub source: Option<String>,
}

/// A window that starts on a day.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct DayWindow {
    /// What people call it.
    pub name: String,
    /// The zone that it is for; none is all.
    pub zone: Option<String>,
    /// How much more traffic it brings.
    pub multiplier: f64,
    /// Its first instant, with the mesh's offset.
    pub from: String,
    /// The first instant after it.
    pub until: String,
}

/// A month of the mesh's calendar.
pub fn month(mesh: &Mesh, month: MonthOf) -> Month {
    let timetable = &mesh.timetable;
    let next = |day: &Date| day.tomorrow().ok();
    let of_month =
        |day: &Date| (day.year(), day.month()) == (month.first.year(), month.first.month());
    let days = std::iter::successors(Some(month.first), next).take_while(of_month);
    Month {
        month: month.first.strftime("%Y-%m").to_string(),
        timezone: timetable.zone().name().to_string(),
        days: days.map(|date| day(timetable, date)).collect(),
    }
}

fn day(timetable: &Timetable, date: Date) -> Day {
    let mut festivals: Vec<_> = timetable
        .festivals()
        .iter()
        .filter(|festival| festival.dates.contains(date))
        .collect();
    festivals.sort_by_key(|festival| (std::cmp::Reverse(festival.factor), &festival.name));
    let holidays = timetable.holidays().iter();
    let mut windows: Vec<(WallTime, DayWindow)> = timetable
        .windows()
        .iter()
        .flat_map(|window| occurrences(timetable, window, date))
        .collect();
    windows.sort_by_key(|(from, _)| *from);
    Day {
        date: date.to_string(),
        weekday: DaySet::NONE
            .with(date.weekday())
            .names()
            .next()
            .unwrap_or_default(),
        business_day: timetable.business_days().is_business_day(date),
        festivals: festivals
            .into_iter()
            .map(|festival| DayFestival {
                name: festival.name.to_string(),
                factor: festival.factor.as_f64(),
                holiday: festival.holiday,
                source: festival.source.clone(),
            })
            .collect(),
        holidays: holidays
            .filter(|holiday| holiday.dates.contains(date))
            .map(|holiday| DayHoliday {
                name: holiday.name.to_string(),
                source: holiday.source.clone(),
            })
            .collect(),
        windows: windows.into_iter().map(|(_, window)| window).collect(),
    }
}

fn occurrences<'t>(
    timetable: &'t Timetable,
    window: &'t Window,
    date: Date,
) -> impl Iterator<Item = (WallTime, DayWindow)> + use<'t> {
    timetable.occurrence(window, date).map(move |held| {
        let shown = DayWindow {
            name: window.name().to_string(),
            zone: window.zone().map(ToString::to_string),
            multiplier: window.multiplier().as_f64(),
            from: timetable.zone().rfc3339(held.start),
            until: timetable.zone().rfc3339(held.end),
        };
        (held.start, shown)
    })
}
