//! The calendar against a reference that paints a year minute by minute.

use std::collections::BTreeMap;

use jiff::civil::{Date, Weekday};
use proptest::prelude::*;

use super::*;
use crate::units::DisplayName;

const MINUTE: i64 = 60_000;
const ZONES: [(&str, &str); 4] = [
    ("America/New_York", "EST5EDT,M3.2.0,M11.1.0"),
    ("Asia/Kolkata", "IST-5:30"),
    ("Europe/London", "GMT0BST,M3.5.0/1,M10.5.0"),
    // Clocks change at midnight: one day begins at 01:00, another ends twice.
    ("America/Santiago", "<-04>4<-03>,M9.1.6/24,M4.1.6/24"),
];

fn zone((name, posix): (&str, &str)) -> CivilZone {
    CivilZone::new(name, posix).unwrap()
}

fn date(text: &str) -> Date {
    parse_date(text).unwrap()
}

fn window(name: &str, start: &str, end: &str) -> Window {
    let minute = |text: &str| Minute::parse(text).unwrap();
    Window::new(DisplayName::new(name).unwrap(), minute(start), minute(end)).unwrap()
}

fn festival(name: &str, first: &str, last: &str, factor: f64) -> Festival {
    Festival {
        name: DisplayName::new(name).unwrap(),
        dates: DateRange::new(date(first), date(last)).unwrap(),
        factor: Multiplier::from_f64(factor).unwrap(),
        holiday: false,
        source: None,
    }
}

fn holiday(first: &str, last: &str) -> Holiday {
    Holiday {
        name: DisplayName::new("holiday").unwrap(),
        dates: DateRange::new(date(first), date(last)).unwrap(),
        source: None,
    }
}

fn times(factor: f64) -> Multiplier {
    Multiplier::from_f64(factor).unwrap()
}

/// The instant at which clocks in `zone` show `text` (the first one, where there are two).
fn instant(zone: &CivilZone, text: &str) -> WallTime {
    let civil: jiff::civil::DateTime = text.parse().unwrap();
    WallTime::of(zone.instants(civil).next().unwrap())
}

/// Reference: each window paints the minutes of the days it touches.
struct Painted {
    minutes: BTreeMap<Date, Vec<Option<usize>>>,
}

impl Painted {
    /// Paints the days of `first..=last`; the strongest window is painted last.
    fn new(timetable: &Timetable, first: Date, last: Date) -> Self {
        let mut minutes = BTreeMap::new();
        let mut order: Vec<usize> = (0..timetable.windows.len()).collect();
        order.sort_by_key(|&index| {
            let window = &timetable.windows[index];
            (
                window.multiplier().percent(),
                Reverse(window.name().as_str()),
                Reverse(index),
            )
        });
        for index in order {
            let window = &timetable.windows[index];
            let mut day = first;
            while day <= last {
                let dated = window.dates().is_empty()
                    || window
                        .dates()
                        .iter()
                        .any(|range| range.start() <= day && day <= range.end());
                let starts = dated
                    && window.days().contains(day.weekday())
                    && reference_monthly(timetable, window, day)
                    && !(window.except_holidays() && reference_holiday(timetable, day));
                if starts {
                    let (start, end) = (window.start().get(), window.end().get());
                    let length = (end + 1440 - start - 1) % 1440 + 1;
                    for offset in start..start + length {
                        let date = if offset < 1440 {
                            day
                        } else {
                            day.tomorrow().unwrap()
                        };
                        minutes.entry(date).or_insert_with(|| vec![None; 1440])
                            [usize::from(offset % 1440)] = Some(index);
                    }
                }
                day = day.tomorrow().unwrap();
            }
        }
        Self { minutes }
    }

    fn day(&self, date: Date) -> Option<&Vec<Option<usize>>> {
        self.minutes.get(&date)
    }
}

fn reference_holiday(timetable: &Timetable, day: Date) -> bool {
    let festivals = timetable.festivals.iter().filter(|one| one.holiday);
    let ranges = festivals.map(|festival| festival.dates);
    let mut ranges = ranges.chain(timetable.holidays.iter().map(|one| one.dates));
    ranges.any(|range| range.start() <= day && day <= range.end())
}

/// Reference: the month's last business day is found from its end.
fn reference_monthly(timetable: &Timetable, window: &Window, day: Date) -> bool {
    let monthly = window.monthly();
    let mut last = Some(day.last_of_month());
    while let Some(candidate) = last {
        let weekend = matches!(candidate.weekday(), Weekday::Saturday | Weekday::Sunday);
        if !weekend && !reference_holiday(timetable, candidate) {
            break;
        }
        last = (candidate.day() > 1).then(|| candidate.yesterday().unwrap());
    }
    monthly.is_any()
        || monthly
            .numbers()
            .any(|number| i16::from(number) == i16::from(day.day()))
        || (monthly.has_last_business_day() && last == Some(day))
}

fn reference_festival(timetable: &Timetable, date: Date) -> Option<usize> {
    (0..timetable.festivals.len())
        .filter(|&index| {
            let dates = timetable.festivals[index].dates;
            dates.start() <= date && date <= dates.end()
        })
        .max_by_key(|&index| {
            let festival = &timetable.festivals[index];
            (
                festival.factor.percent(),
                Reverse(festival.name.as_str()),
                Reverse(index),
            )
        })
}

/// Walks `days` days minute by minute; `at` must agree everywhere, `next_change` with every change.
fn agrees_with_the_reference(timetable: &Timetable, from: &str, days: i64) {
    let first = date(from);
    let painted = Painted::new(
        timetable,
        first.saturating_add(jiff::ToSpan::days(-3)),
        first.saturating_add(jiff::ToSpan::days(days + 3)),
    );
    let start = WallTime::of(
        jiff::tz::Offset::UTC
            .to_timestamp(first.to_datetime(jiff::civil::Time::midnight()))
            .unwrap(),
    );
    let (mut before, mut today) = (None, None);
    let mut announced = None;
    let mut changes = 0;
    for minute in 0..days * 1440 {
        let wall = WallTime::from_unix_millis(start.unix_millis() + minute * MINUTE);
        let civil = timetable.zone.civil(wall);
        if today.is_none_or(|(date, _, _)| date != civil.date()) {
            let date = civil.date();
            today = Some((date, painted.day(date), reference_festival(timetable, date)));
        }
        let (_, day, festival) = today.unwrap();
        let minute = i32::from(civil.hour()) * 60 + i32::from(civil.minute());
        let expected = Active {
            window: day.and_then(|day| day[usize::try_from(minute).unwrap()]),
            festival,
        };
        let active = timetable.active_in(civil, None);
        assert_eq!(active, expected, "at {}", timetable.zone.rfc3339(wall));
        if before != Some(expected) {
            if before.is_some() {
                changes += 1;
                assert_eq!(announced, Some(wall), "at {}", timetable.zone.rfc3339(wall));
            }
            announced = timetable.next_change(wall, None);
            // From the last moment before it too, and within a day by the short way.
            if let Some(next) = announced {
                let moment_before = WallTime::from_unix_millis(next.unix_millis() - 1);
                assert_eq!(timetable.next_change(moment_before, None), announced);
                let traffic = timetable.at(moment_before, None);
                assert_eq!(traffic.holds_until, next);
            }
            before = Some(expected);
        }
    }
    let end = WallTime::from_unix_millis(start.unix_millis() + days * 1440 * MINUTE);
    assert!(
        announced.is_none_or(|next| next >= end),
        "{changes} changes, then {announced:?}"
    );
}

fn rich_calendar(zone: CivilZone) -> Timetable {
    let range = |first: &str, last: &str| DateRange::new(date(first), date(last)).unwrap();
    let working = DaySet::NONE
        .with(Weekday::Monday)
        .with(Weekday::Tuesday)
        .with(Weekday::Friday);
    Timetable::new(
        zone,
        vec![
            window("morning", "07:00", "11:00").with_multiplier(times(1.5)),
            window("evening", "17:00", "22:00"),
            // Lies in the hours that clocks skip and repeat.
            window("small-hours", "01:30", "02:45").with_multiplier(times(3.0)),
            window("skipped", "00:15", "00:45").with_multiplier(times(3.0)),
            window("night", "22:30", "02:15")
                .with_days(working)
                .with_multiplier(times(2.0)),
            window("sale", "00:00", "24:00")
                .with_dates(vec![
                    range("2026-03-07", "2026-03-09"),
                    range("2026-10-31", "2026-11-02"),
                ])
                .with_multiplier(times(1.2)),
            window("sunday-sale", "09:00", "10:00")
                .with_days(DaySet::NONE.with(Weekday::Sunday))
                .with_dates(vec![range("2026-06-01", "2026-08-31")])
                .with_multiplier(times(4.0)),
            window("salary", "09:00", "12:00")
                .with_monthly(MonthDays::ANY.with(1).with(7).with_last_business_day())
                .with_multiplier(times(5.0)),
            window("market", "09:15", "15:30")
                .with_days(working)
                .with_except_holidays(true)
                .with_multiplier(times(0.5)),
            window("month-end-night", "23:00", "01:00")
                .with_monthly(MonthDays::ANY.with(31).with_last_business_day())
                .with_except_holidays(true)
                .with_multiplier(times(6.0)),
        ],
        vec![
            festival("Diwali", "2026-11-06", "2026-11-10", 2.0),
            festival("Bhai Dooj", "2026-11-10", "2026-11-11", 1.5),
            Festival {
                holiday: true,
                ..festival("Holi", "2026-03-04", "2026-03-04", 1.0)
            },
        ],
    )
    .with_holidays(vec![
        holiday("2026-01-26", "2026-01-26"),
        // The end of a month, and a month as a whole.
        holiday("2026-07-29", "2026-08-03"),
        holiday("2026-09-01", "2026-09-30"),
    ])
}

#[test]
fn a_year_minute_by_minute_in_new_york() {
    agrees_with_the_reference(&rich_calendar(zone(ZONES[0])), "2026-01-01", 366);
}

#[test]
fn a_year_minute_by_minute_in_kolkata() {
    agrees_with_the_reference(&rich_calendar(zone(ZONES[1])), "2026-01-01", 366);
}

#[test]
fn a_year_minute_by_minute_in_london() {
    agrees_with_the_reference(&rich_calendar(zone(ZONES[2])), "2026-01-01", 366);
}

#[test]
fn two_months_minute_by_minute_where_clocks_change_at_midnight() {
    let timetable = rich_calendar(zone(ZONES[3]));
    agrees_with_the_reference(&timetable, "2026-03-20", 30);
    agrees_with_the_reference(&timetable, "2026-08-25", 30);
}

prop_compose! {
    fn any_range()(first in 0_i64..60, length in 0_i64..20) -> DateRange {
        let first = date("2026-02-20").saturating_add(jiff::ToSpan::days(first));
        DateRange::new(first, first.saturating_add(jiff::ToSpan::days(length))).unwrap()
    }
}

prop_compose! {
    fn any_window()(
        name in "[a-c]",
        (start, end) in (0_u16..96, 0_u16..=96).prop_filter("differ", |(start, end)| start != end),
        days in prop_oneof![Just(0b111_1111_u8), 1_u8..128],
        dates in proptest::collection::vec(any_range(), 0..3),
        monthly in proptest::collection::vec(1_u8..=32, 0..3),
        except_holidays: bool,
        factor in prop_oneof![Just(1.0), Just(1.5), Just(2.0)],
    ) -> Window {
        let minute = |quarter: u16| Minute::new(quarter / 4, quarter % 4 * 15).unwrap();
        let days = (0..7_i8)
            .filter(|day| days & (1 << day) != 0)
            .fold(DaySet::NONE, |set, day| set.with(Weekday::from_monday_zero_offset(day).unwrap()));
        Window::new(DisplayName::new(&name).unwrap(), minute(start), minute(end))
            .unwrap()
            .with_days(days)
            .with_dates(dates)
            .with_monthly(monthly.into_iter().fold(MonthDays::ANY, |days, number| match number {
                32 => days.with_last_business_day(),
                number => days.with(number),
            }))
            .with_except_holidays(except_holidays)
            .with_multiplier(times(factor))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn any_calendar_agrees_with_the_reference_around_a_change_of_the_clocks(
        which in 0..ZONES.len(),
        windows in proptest::collection::vec(any_window(), 0..5),
        dates in proptest::collection::vec((any_range(), any::<bool>()), 0..3),
        holidays in proptest::collection::vec(any_range(), 0..3),
    ) {
        let festivals = dates
            .into_iter()
            .map(|(dates, holiday)| Festival {
                dates,
                holiday,
                ..festival("F", "2026-01-01", "2026-01-01", 2.0)
            })
            .collect();
        let holidays = holidays
            .into_iter()
            .map(|dates| Holiday { dates, ..holiday("2026-01-01", "2026-01-01") })
            .collect();
        let timetable =
            Timetable::new(zone(ZONES[which]), windows, festivals).with_holidays(holidays);
        agrees_with_the_reference(&timetable, "2026-02-25", 50);
    }

    #[test]
    fn any_instant_has_an_answer(millis: i64) {
        let timetable = rich_calendar(zone(ZONES[0]));
        let wall = WallTime::from_unix_millis(millis);
        let traffic = timetable.at(wall, None);
        prop_assert!(traffic.holds_from <= traffic.holds_until);
        let _ = timetable.next_change(wall, None);
    }
}

#[test]
fn a_festival_outranks_the_peak_hour_and_both_are_named() {
    let timetable = rich_calendar(zone(ZONES[1]));
    let at = |text: &str| timetable.at(instant(&timetable.zone, text), None);
    let evening = at("2026-11-08T18:30:00");
    assert_eq!(evening.state, TrafficState::Festival);
    assert_eq!(evening.window_header.as_deref(), Some("Diwali,evening"));
    assert_eq!(evening.multiplier_header, None);
    assert_eq!(evening.factor.percent(), 200);

    let morning = at("2026-11-12T08:00:00");
    assert_eq!(morning.state, TrafficState::PeakHour);
    assert_eq!(morning.window_header.as_deref(), Some("morning"));
    assert_eq!(morning.multiplier_header.as_deref(), Some("1.5"));

    let noon = at("2026-11-12T12:00:00");
    assert_eq!(
        (noon.state, noon.window_header),
        (TrafficState::Normal, None)
    );
}

#[test]
fn the_second_of_a_change_is_exact() {
    let timetable = rich_calendar(zone(ZONES[1]));
    let before = instant(&timetable.zone, "2026-11-12T06:59:59");
    let change = instant(&timetable.zone, "2026-11-12T07:00:00");
    let traffic = timetable.at(before, None);
    assert_eq!(traffic.holds_until, change);
    assert!(traffic.holds_at(WallTime::from_unix_millis(change.unix_millis() - 1)));
    assert!(!traffic.holds_at(change));
    assert!(!traffic.holds_at(WallTime::from_unix_millis(before.unix_millis() - 1)));
}

#[test]
fn an_answer_is_kept_for_a_day_at_most_and_nothing_ahead_is_none() {
    let timetable = Timetable::new(
        CivilZone::utc(),
        Vec::new(),
        vec![festival("F", "2030-01-01", "2030-01-01", 2.0)],
    );
    let now = instant(&timetable.zone, "2026-01-01T00:00:00");
    assert_eq!(
        timetable.at(now, None).holds_until,
        instant(&timetable.zone, "2026-01-02T00:00:00")
    );
    assert_eq!(
        timetable.next_change(now, None),
        Some(instant(&timetable.zone, "2030-01-01T00:00:00"))
    );
    let last = timetable.next_change(instant(&timetable.zone, "2030-01-01T12:00:00"), None);
    assert_eq!(last, Some(instant(&timetable.zone, "2030-01-02T00:00:00")));
    assert_eq!(timetable.next_change(last.unwrap(), None), None);
}

#[test]
fn the_next_change_is_found_however_rare_it_is() {
    let only_day = |day: Weekday, monthly: MonthDays| {
        Timetable::new(
            CivilZone::utc(),
            vec![
                window("rare", "09:00", "10:00")
                    .with_days(DaySet::NONE.with(day))
                    .with_monthly(monthly),
            ],
            Vec::new(),
        )
    };
    for number in 1..=32 {
        let monthly = match number {
            32 => MonthDays::ANY.with_last_business_day(),
            number => MonthDays::ANY.with(number),
        };
        for weekday in 0..7_i8 {
            let weekday = Weekday::from_monday_zero_offset(weekday).unwrap();
            let timetable = only_day(weekday, monthly);
            let never = number == 32 && matches!(weekday, Weekday::Saturday | Weekday::Sunday);
            // Around a century that is no leap year, from one occurrence to the next.
            let mut at = instant(&timetable.zone, "2090-01-01T12:00:00");
            let mut occurrences = 0;
            while let Some(change) = timetable.next_change(at, None) {
                at = change;
                occurrences += 1;
                if timetable.zone.civil(at).year() > 2110 {
                    break;
                }
            }
            let wanted = if never { 0..1 } else { 20..1000 };
            assert!(
                wanted.contains(&occurrences),
                "{occurrences} of {number} on {weekday:?}"
            );
        }
    }
}

#[test]
fn windows_of_a_zone_are_for_its_nodes_and_for_nodes_without_one() {
    let name = |text: &str| ZoneName::new(text).unwrap();
    let (west, east) = (name("mumbai-west"), name("mumbai-east"));
    let timetable = Timetable::new(
        CivilZone::utc(),
        vec![
            window("w", "07:00", "11:00")
                .with_zone(Some(west.clone()))
                .with_multiplier(times(1.5)),
        ],
        Vec::new(),
    );
    let at = instant(&timetable.zone, "2026-01-01T08:00:00");
    assert_eq!(timetable.at(at, Some(&west)).state, TrafficState::PeakHour);
    assert_eq!(timetable.at(at, Some(&east)).state, TrafficState::Normal);
    assert_eq!(timetable.at(at, None).state, TrafficState::PeakHour);
    let told = |own| timetable.zone_multipliers(at, own);
    assert_eq!(told(None), [(Some(&west), times(1.5))]);
    assert_eq!(told(Some(&west)), told(None));
    let own = ZoneName::new("mumbai-navi").unwrap();
    assert_eq!(
        told(Some(&own)),
        [(Some(&west), times(1.5)), (Some(&own), times(1.0))]
    );
    assert_eq!(zone_label(Some("mumbai"), &west), "west");
    assert_eq!(zone_label(Some("delhi"), &west), "mumbai-west");
    assert_eq!(zone_label(None, &west), "mumbai-west");
}
