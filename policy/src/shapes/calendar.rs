//! `peak_hours`, `festivals`, `holidays`, and `PEAK_HOURS` of the environment.

use serde_json::Value;

use super::{number, text};
use crate::{
    reader::{ObjectReader, Problem, Reader},
    timetable::{DateRange, DaySet, Festival, Holiday, Minute, MonthDays, Window, parse_date},
    units::{DisplayName, Multiplier, UnitError, ZoneName, malformed},
};

/// Reads a map of windows by name:
/// `morning: {start: "07:00", end: "11:00", zone: mumbai-west, days: [mon], dates: [2026-11-08],
/// monthly: [1, last-business-day], except: holidays, multiplier: 1.5}`. They come back ordered by
/// name.
pub fn read_peak_hours(reader: Reader<'_>) -> Vec<Window> {
    let mut windows: Vec<Window> = reader
        .entries()
        .into_iter()
        .filter_map(|(name, entry)| read_window(&name, &entry))
        .collect();
    windows.sort_by(|left, right| left.name().cmp(right.name()));
    windows
}

fn read_window(name: &str, reader: &Reader<'_>) -> Option<Window> {
    let name = DisplayName::new(name)
        .map_err(|error| reader.problem(format!("name {error}"), None))
        .ok();
    let mut window = reader.object()?;
    let start = window
        .required("start")
        .and_then(|start| read_minute(&start));
    let end = window.required("end").and_then(|end| read_minute(&end));
    let zone = text(&mut window, "zone", ZoneName::new);
    let days = window
        .optional("days")
        .map_or(Some(DaySet::ALL), |days| read_days(&days));
    let dates = window
        .optional("dates")
        .map_or_else(Vec::new, |dates| read_dates(&dates));
    let multiplier = read_multiplier(&mut window, "multiplier");
    let monthly = window
        .optional("monthly")
        .map_or(Some(MonthDays::ANY), |monthly| read_monthly(&monthly));
    let except_holidays = window
        .optional("except")
        .is_some_and(|except| except.parsed(holidays_word).is_some());
    window.finish();
    let window = Window::new(name?, start?, end?)
        .map_err(|error| reader.problem(error.to_string(), None))
        .ok()?;
    Some(
        window
            .with_zone(zone)
            .with_days(days?)
            .with_dates(dates)
            .with_monthly(monthly?)
            .with_except_holidays(except_holidays)
            .with_multiplier(multiplier),
    )
}

/// A whole hour (`7`) or `"HH:MM"`.
fn read_minute(reader: &Reader<'_>) -> Option<Minute> {
    if reader.value().is_number() {
        let hours = u16::try_from(reader.integer(0..=24)?).ok()?;
        return Minute::new(hours, 0).ok();
    }
    reader.parsed(Minute::parse)
}

fn read_multiplier(object: &mut ObjectReader<'_>, field: &str) -> Multiplier {
    object
        .optional(field)
        .and_then(|multiplier| number(&multiplier, Multiplier::from_f64))
        .unwrap_or_default()
}

fn read_days(reader: &Reader<'_>) -> Option<DaySet> {
    if !reader.value().is_array() {
        // Says what was expected.
        return reader.array().is_empty().then_some(DaySet::ALL);
    }
    let elements = reader.array();
    if elements.is_empty() {
        reader.problem("must name a day", Some("leave it out for every day".into()));
    }
    let days = elements
        .iter()
        .filter_map(|day| day.parsed(DaySet::parse_day));
    Some(days.fold(DaySet::NONE, DaySet::with))
}

/// The one word that `except` knows.
fn holidays_word(word: &str) -> Result<(), UnitError> {
    match word {
        "holidays" => Ok(()),
        _ => Err(malformed("holidays, the only exception there is", word)),
    }
}

/// Days of the month: numbers, and `last-business-day`.
fn read_monthly(reader: &Reader<'_>) -> Option<MonthDays> {
    let elements = reader.array();
    if elements.is_empty() {
        if reader.value().is_array() {
            reader.problem(
                "must name a day of the month",
                Some("leave it out for every day".into()),
            );
        }
        return None;
    }
    let add = |days: MonthDays, day: &Reader<'_>| {
        if day.value().is_number() {
            let number = day.integer(1..=MonthDays::LAST.into());
            let number = number.and_then(|number| u8::try_from(number).ok());
            return number.map_or(days, |number| days.with(number));
        }
        let last = day.parsed(|word| match word {
            MonthDays::LAST_BUSINESS_DAY => Ok(()),
            _ => Err(malformed(
                "a number from 1 to 31, or last-business-day",
                word,
            )),
        });
        last.map_or(days, |()| days.with_last_business_day())
    };
    Some(elements.iter().fold(MonthDays::ANY, add))
}

fn read_dates(reader: &Reader<'_>) -> Vec<DateRange> {
    let elements = reader.array();
    if elements.is_empty() && reader.value().is_array() {
        reader.problem(
            "must name a date",
            Some("leave it out for every date".into()),
        );
    }
    elements.iter().filter_map(read_range).collect()
}

/// One date, or `{start, end}`, both included.
fn read_range(reader: &Reader<'_>) -> Option<DateRange> {
    if reader.value().is_string() {
        return reader.parsed(parse_date).map(DateRange::day);
    }
    let mut range = reader.object()?;
    let start = range
        .required("start")
        .and_then(|start| start.parsed(parse_date));
    let end = range.required("end").and_then(|end| end.parsed(parse_date));
    range.finish();
    DateRange::new(start?, end?)
        .map_err(|error| reader.problem(error.to_string(), None))
        .ok()
}

/// Reads a list of festivals: a date, or `{name: Diwali, date: 2026-11-08, factor: 2.0, holiday: true,
/// source: "…"}` with `start` and `end` (both included) instead of `date` where it lasts longer.
pub fn read_festivals(reader: Reader<'_>) -> Vec<Festival> {
    let mut festivals: Vec<Festival> = Vec::new();
    for element in reader.array() {
        let Some(festival) = read_festival(&element) else {
            continue;
        };
        // With another factor it is meant: an included calendar knows the day, and the mesh what it brings.
        let same = |known: &Festival| {
            (&known.name, known.dates, known.factor)
                == (&festival.name, festival.dates, festival.factor)
        };
        if festivals.iter().any(same) {
            element.problem(
                format!("{} on the same dates is listed twice", festival.name),
                Some("leave one of them out".into()),
            );
        }
        festivals.push(festival);
    }
    festivals
}

/// Name of a festival that is a bare date.
const UNNAMED: &str = "festival";

fn read_festival(reader: &Reader<'_>) -> Option<Festival> {
    if let Value::String(_) = reader.value() {
        return Some(Festival {
            name: DisplayName::new(UNNAMED).ok()?,
            dates: DateRange::day(reader.parsed(parse_date)?),
            factor: Multiplier::ONE,
            holiday: false,
            source: None,
        });
    }
    let mut festival = reader.object()?;
    let name = festival
        .required("name")
        .and_then(|name| name.parsed(DisplayName::new));
    let dates = read_days_of(reader, &mut festival);
    let factor = read_multiplier(&mut festival, "factor");
    let holiday = festival
        .optional("holiday")
        .and_then(|holiday| holiday.boolean())
        .unwrap_or(false);
    let source = read_source(&mut festival);
    festival.finish();
    Some(Festival {
        name: name?,
        dates: dates?,
        factor,
        holiday,
        source,
    })
}

/// Reads a list of holidays: a date, or `{name: Republic Day, date: 2027-01-26, source: "…"}` with
/// `start` and `end` (both included) instead of `date` where it lasts longer.
pub fn read_holidays(reader: Reader<'_>) -> Vec<Holiday> {
    let holidays = reader.array();
    holidays.iter().filter_map(read_holiday).collect()
}

/// Name of a holiday that is a bare date.
const UNNAMED_HOLIDAY: &str = "holiday";

fn read_holiday(reader: &Reader<'_>) -> Option<Holiday> {
    if let Value::String(_) = reader.value() {
        return Some(Holiday {
            name: DisplayName::new(UNNAMED_HOLIDAY).ok()?,
            dates: DateRange::day(reader.parsed(parse_date)?),
            source: None,
        });
    }
    let mut holiday = reader.object()?;
    let name = holiday
        .required("name")
        .and_then(|name| name.parsed(DisplayName::new));
    let dates = read_days_of(reader, &mut holiday);
    let source = read_source(&mut holiday);
    holiday.finish();
    Some(Holiday {
        name: name?,
        dates: dates?,
        source,
    })
}

fn read_source(object: &mut ObjectReader<'_>) -> Option<String> {
    let source = object.optional("source")?;
    source.string().map(ToString::to_string)
}

/// `date`, or `start` and `end`.
fn read_days_of(reader: &Reader<'_>, object: &mut ObjectReader<'_>) -> Option<DateRange> {
    let mut given = |field: &str| object.optional(field);
    match (given("date"), given("start"), given("end")) {
        (Some(date), None, None) => date.parsed(parse_date).map(DateRange::day),
        (None, Some(start), Some(end)) => {
            let (start, end) = (start.parsed(parse_date), end.parsed(parse_date));
            DateRange::new(start?, end?)
                .map_err(|error| reader.problem(error.to_string(), None))
                .ok()
        }
        _ => {
            reader.problem(
                "must have either a date, or a start and an end",
                Some("for example date: 2026-11-08".into()),
            );
            None
        }
    }
}

/// Reads `PEAK_HOURS` of the environment, `7-11,17-22` or `7:30-11,17-22:15`: windows `peak-1`,
/// `peak-2`, … of every day, ordered by name. An empty text is no window.
///
/// # Errors
/// The first part that is no window, with what would be legal.
pub fn parse_peak_hours_env(text: &str) -> Result<Vec<Window>, Problem> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let mut windows = Vec::new();
    for (index, part) in text.split(',').enumerate() {
        let window = parse_env_window(index, part.trim()).map_err(|message| Problem {
            path: "PEAK_HOURS".into(),
            message: format!("{message}; write H[:MM]-H[:MM], such as 7-11,17-22"),
            hint: None,
        })?;
        windows.push(window);
    }
    windows.sort_by(|left: &Window, right| left.name().cmp(right.name()));
    Ok(windows)
}

fn parse_env_window(index: usize, part: &str) -> Result<Window, String> {
    let (start, end) = part
        .split_once('-')
        .ok_or_else(|| format!("{part:?} has no start and end"))?;
    let start = Minute::parse(start.trim()).map_err(|error| error.to_string())?;
    let end = Minute::parse(end.trim()).map_err(|error| error.to_string())?;
    DisplayName::new(&format!("peak-{}", index + 1))
        .and_then(|name| Window::new(name, start, end))
        .map_err(|error| error.to_string())
}
