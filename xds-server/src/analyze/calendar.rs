//! Findings of the calendar.

use jiff::civil::Date;
use policy::{
    time::WallTime,
    timetable::{DateRange, DaySet, Minute, Timetable, Window},
};

use super::{Finding, Rule, Severity};
use crate::mesh::Mesh;

/// A calendar of last year is legal, and most likely forgotten.
pub(super) const FESTIVALS_OVER: Rule = Rule {
    code: "festivals-over",
    severity: Severity::Warning,
    finds: "festivals are listed, and none of them lies ahead",
    fix: "add the next festivals, or take the list away",
};

/// As above, of the days by which `last-business-day` and `except: holidays` go.
pub(super) const HOLIDAYS_OVER: Rule = Rule {
    code: "holidays-over",
    severity: Severity::Warning,
    finds: "holidays are listed, and none of them lies ahead",
    fix: "add the next holidays, or take the list away",
};

/// A window that never comes again.
pub(super) const WINDOW_OVER: Rule = Rule {
    code: "window-over",
    severity: Severity::Warning,
    finds: "a window is for dates that all lie behind",
    fix: "give it new dates, or take the window out",
};

/// Next year's list is made while this one's still holds.
pub(super) const NEXT_YEAR_EMPTY: Rule = Rule {
    code: "next-year-empty",
    severity: Severity::Warning,
    finds: "the year ends within 92 days, and the next one holds no festival",
    fix: "add the festivals of the next year, or include a calendar that has them",
};

/// A mesh of India whose peak is not the regulator's.
pub(super) const NPCI_PEAK_DIFFERS: Rule = Rule {
    code: "npci-peak-differs",
    severity: Severity::Info,
    finds: "windows of a mesh in India differ from the peak hours of UPI that NPCI names",
    fix: "include calendars/npci-peak.yaml, or keep the windows if they are meant",
};

pub(super) fn festivals_over(mesh: &Mesh, now: WallTime, findings: &mut Vec<Finding>) {
    if mesh.timetable.festivals_are_over(now) {
        findings.push(Finding::new(
            &FESTIVALS_OVER,
            "festivals",
            "no festival lies ahead: the calendar is out of date",
            FESTIVALS_OVER.fix,
        ));
    }
}

pub(super) fn holidays_over(mesh: &Mesh, now: WallTime, findings: &mut Vec<Finding>) {
    let today = today(&mesh.timetable, now);
    // Festivals may be holidays too.
    let known = mesh.timetable.business_days().holidays();
    if !known.is_empty() && known.iter().all(|range| range.end() < today) {
        let path = match mesh.timetable.holidays().is_empty() {
            true => "festivals",
            false => "holidays",
        };
        findings.push(Finding::new(
            &HOLIDAYS_OVER,
            path,
            "no holiday lies ahead: business days are counted without any",
            "add the next holidays, such as your bank's list",
        ));
    }
}

pub(super) fn windows_over(mesh: &Mesh, now: WallTime, findings: &mut Vec<Finding>) {
    let today = today(&mesh.timetable, now);
    for window in mesh.timetable.windows() {
        // One that wraps midnight still holds on the day after its last date.
        let last = window.dates().iter().map(|range| range.end()).max();
        let over = |last: Date| last.tomorrow().is_ok_and(|after| after < today);
        if let Some(last) = last.filter(|last| over(*last)) {
            findings.push(Finding::new(
                &WINDOW_OVER,
                format!("peak_hours.{}", window.name()),
                format!("the last of its dates was {last}: it never comes again"),
                "give it the next dates, or take it away",
            ));
        }
    }
}

/// A quarter: enough for a list to be asked for, reviewed and rolled out.
const YEAR_ENDS_WITHIN_DAYS: i32 = 92;

/// The last year of calendars/india-festivals.yaml.
const INDIA_UNTIL: i16 = 2028;

pub(super) fn next_year_empty(mesh: &Mesh, now: WallTime, findings: &mut Vec<Finding>) {
    let today = today(&mesh.timetable, now);
    let festivals = mesh.timetable.festivals();
    // One warning is enough for a list that is over, and none is due where none is kept.
    let kept = !festivals.is_empty() && !mesh.timetable.festivals_are_over(now);
    let Some(next_year) = next_year(today).filter(|_| kept) else {
        return;
    };
    let left = next_year.start() - today;
    let touches =
        |dates: DateRange| dates.start() <= next_year.end() && next_year.start() <= dates.end();
    if left.get_days() > YEAR_ENDS_WITHIN_DAYS
        || festivals.iter().any(|festival| touches(festival.dates))
    {
        return;
    }
    let (days, year) = (left.get_days(), next_year.start().year());
    let s = if days == 1 { "" } else { "s" };
    findings.push(Finding::new(
        &NEXT_YEAR_EMPTY,
        "festivals",
        format!("{year} begins in {days} day{s}, and holds no festival"),
        match year <= INDIA_UNTIL {
            true => format!("add those of {year}; calendars/india-festivals.yaml has India's"),
            false => format!("add those of {year}"),
        },
    ));
}

fn next_year(today: Date) -> Option<DateRange> {
    let year = today.year().checked_add(1)?;
    let day = |month, day| Date::new(year, month, day).ok();
    DateRange::new(day(1, 1)?, day(12, 31)?).ok()
}

fn today(timetable: &Timetable, now: WallTime) -> Date {
    timetable.zone().civil(now).date()
}

/// NPCI, circular of 21 May 2025; calendars/npci-peak.yaml says the same.
const NPCI_PEAK: [(u16, u16); 2] = [(10 * 60, 13 * 60), (17 * 60, 21 * 60 + 30)];
/// Whose hours they are.
const NPCI_ZONES: [&str; 2] = ["Asia/Kolkata", "Asia/Calcutta"];
const DAY: u16 = 24 * 60;

/// Only where there are windows: whoever has none is not to be guessed at.
pub(super) fn npci_peak_differs(mesh: &Mesh, findings: &mut Vec<Finding>) {
    let timetable = &mesh.timetable;
    if timetable.windows().is_empty() || !NPCI_ZONES.contains(&timetable.zone().name()) {
        return;
    }
    let is_npci = |minute: u16| {
        NPCI_PEAK
            .iter()
            .any(|(start, end)| (*start..*end).contains(&minute))
    };
    let is_ours = |minute: u16| {
        let mut always = timetable.windows().iter().filter(|window| is_daily(window));
        always.any(|window| holds_at(window, minute))
    };
    let missing = spans(|minute| is_npci(minute) && !is_ours(minute));
    let beyond = spans(|minute| is_ours(minute) && !is_npci(minute));
    let parts = [
        (!missing.is_empty()).then(|| {
            let hours = missing.join(" and ");
            format!("at {hours} UPI has its peak, and no window holds every day and in every zone")
        }),
        (!beyond.is_empty()).then(|| {
            format!(
                "at {} a window holds, and UPI has no peak",
                beyond.join(" and ")
            )
        }),
    ];
    let sentence: Vec<String> = parts.into_iter().flatten().collect();
    if sentence.is_empty() {
        return;
    }
    findings.push(Finding::new(
        &NPCI_PEAK_DIFFERS,
        "peak_hours",
        format!("{} (NPCI, circular of 21 May 2025)", sentence.join("; ")),
        "include calendars/npci-peak.yaml where UPI's calls are carried; else nothing is to be done",
    ));
}

/// Whether a window holds on every day and for every Envoy.
fn is_daily(window: &Window) -> bool {
    window.zone().is_none()
        && window.days() == DaySet::ALL
        && window.dates().is_empty()
        && window.monthly().is_any()
        && !window.except_holidays()
}

fn holds_at(window: &Window, minute: u16) -> bool {
    let (start, end) = (window.start().get(), window.end().get());
    match start < end {
        true => (start..end).contains(&minute),
        false => minute < end || start <= minute,
    }
}

/// Times of a day at which something is so: `10:00-13:00`.
fn spans(is_so: impl Fn(u16) -> bool) -> Vec<String> {
    let mut spans = Vec::new();
    let mut since = None;
    for minute in 0..=DAY {
        match (since, minute < DAY && is_so(minute)) {
            (None, true) => since = Some(minute),
            (Some(start), false) => {
                spans.push(format!("{}-{}", clock(start), clock(minute)));
                since = None;
            }
            _ => {}
        }
    }
    spans
}

fn clock(minute: u16) -> String {
    Minute::new(minute / 60, minute % 60)
        .map_or_else(|_| minute.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use crate::{
        analyze::{Finding, analyze},
        mesh::{Defaults, read},
    };

    /// What is found in a mesh at a time of a zone 5:30 east.
    fn found(text: &str, at: &str) -> Vec<Finding> {
        let mesh = read(text, &Defaults::default()).unwrap();
        let now = policy::time::parse_instant(&format!("{at}+05:30")).unwrap();
        analyze(&mesh, now)
    }

    fn codes(text: &str, at: &str) -> Vec<&'static str> {
        found(text, at).iter().map(|finding| finding.code).collect()
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn a_calendar_of_the_past_is_found_and_one_with_a_future_is_not() {
        let mesh = "festivals: [\"2024-08-19\"]";
        assert_eq!(codes(mesh, "2024-08-19T23:59"), NONE);
        assert_eq!(codes(mesh, "2024-08-20T00:00"), ["festivals-over"]);
        assert_eq!(codes(mesh, "2026-11-25T12:00"), ["festivals-over"]);
    }

    #[test]
    fn holidays_that_are_over_are_found_since_business_days_go_by_them() {
        let mesh = "holidays: [2026-10-02]";
        assert_eq!(codes(mesh, "2026-10-02T12:00"), NONE);
        let over = found(mesh, "2026-10-03T12:00");
        assert_eq!(
            (over[0].code, over[0].path.as_str()),
            ("holidays-over", "holidays")
        );
        // A festival that is a holiday lies ahead.
        let festival = "{name: Diwali, date: 2026-11-08, holiday: true}";
        let mesh = format!("holidays: [2026-10-02]\nfestivals: [{festival}, 2027-01-14]");
        assert_eq!(codes(&mesh, "2026-10-03T12:00"), NONE);
    }

    #[test]
    fn a_window_whose_dates_lie_behind_is_found_by_name() {
        let mesh = "\
timezone: UTC
peak_hours:
  daily: {start: 9, end: 10}
  sale: {start: 22, end: 2, dates: [2026-10-11, {start: 2026-10-18, end: 2026-10-20}]}
";
        // It wraps: it holds on the 21st for two hours.
        assert_eq!(codes(mesh, "2026-10-21T06:00"), NONE);
        let over = found(mesh, "2026-10-22T12:00");
        assert_eq!(
            (over[0].code, over[0].path.as_str()),
            ("window-over", "peak_hours.sale")
        );
        assert_eq!(
            over[0].sentence,
            "the last of its dates was 2026-10-20: it never comes again"
        );
    }

    #[test]
    fn a_year_that_holds_no_festival_is_found_before_it_begins() {
        let mesh = "festivals: [{name: Christmas, date: 2026-12-25}]";
        assert_eq!(codes(mesh, "2026-09-30T12:00"), NONE);
        let soon = found(mesh, "2026-10-01T00:00");
        assert_eq!(soon[0].code, "next-year-empty");
        assert_eq!(
            soon[0].sentence,
            "2027 begins in 92 days, and holds no festival"
        );
        assert!(
            found(mesh, "2026-12-25T12:00")[0]
                .sentence
                .contains("in 7 days")
        );
        // Afterwards all of it is over: one warning, not two.
        assert_eq!(codes(mesh, "2026-12-31T12:00"), ["festivals-over"]);
        let mesh = "festivals: [{name: Sale, start: 2026-12-30, end: 2027-01-02}]";
        assert_eq!(codes(mesh, "2026-12-31T23:59"), NONE);
        // No list is kept.
        assert_eq!(codes("{}", "2026-12-31T12:00"), NONE);
    }

    /// Whoever has included it already is not told to include it.
    #[test]
    fn the_shipped_calendar_is_recommended_for_its_years_only() {
        let shipped = include_str!("../../../calendars/india-festivals.yaml");
        let fix = |text: &str, at: &str| {
            let mut found = found(text, at).into_iter();
            let empty = found.find(|finding| finding.code == "next-year-empty");
            empty.map(|finding| finding.fix)
        };
        assert_eq!(fix(shipped, "2027-12-01T12:00"), None);
        assert_eq!(
            fix(shipped, "2028-12-01T12:00").as_deref(),
            Some("add those of 2029")
        );
        let own = "festivals: [2027-12-25]";
        assert_eq!(
            fix(own, "2027-12-01T12:00").as_deref(),
            Some("add those of 2028; calendars/india-festivals.yaml has India's")
        );
    }

    #[test]
    fn windows_of_india_are_held_against_npcis() {
        let at = "2026-07-01T12:00";
        let npci = "a: {start: 10, end: 13}, b: {start: \"17:00\", end: \"21:30\"}";
        let windows = |windows: &str| found(&format!("peak_hours: {{{windows}}}"), at);
        assert_eq!(windows(npci), []);
        // In pieces it is the same.
        let pieces =
            "a: {start: 10, end: 12}, b: {start: 12, end: 13}, c: {start: 17, end: \"21:30\"}";
        assert_eq!(windows(pieces), []);
        let brief = windows("morning: {start: 7, end: 11}, evening: {start: 17, end: 22}");
        assert_eq!(brief.len(), 1);
        assert_eq!(
            (brief[0].code, brief[0].path.as_str()),
            ("npci-peak-differs", "peak_hours")
        );
        assert_eq!(
            brief[0].sentence,
            "at 11:00-13:00 UPI has its peak, and no window holds every day and in every zone; \
             at 07:00-10:00 and 21:30-22:00 a window holds, and UPI has no peak \
             (NPCI, circular of 21 May 2025)"
        );
        // One that wraps.
        let night = windows(&format!("{npci}, night: {{start: 23, end: 1}}"));
        assert!(
            night[0]
                .sentence
                .starts_with("at 00:00-01:00 and 23:00-24:00 a window holds")
        );
        // On some days or in some zone is not every day and in every zone; beyond it is nobody's business.
        for narrow in [
            "days: [mon]",
            "zone: mumbai-west",
            "except: holidays",
            "monthly: [1]",
        ] {
            let mesh =
                format!("a: {{start: 10, end: 13, {narrow}}}, b: {{start: 17, end: \"21:30\"}}");
            let told = &windows(&mesh)[0].sentence;
            assert!(
                told.starts_with("at 10:00-13:00 UPI has its peak"),
                "{told}"
            );
            assert_eq!(
                windows(&format!("{npci}, c: {{start: 1, end: 2, {narrow}}}")),
                []
            );
        }
        // Not India, and no windows at all.
        assert_eq!(
            codes(
                "timezone: Asia/Dubai\npeak_hours: {a: {start: 7, end: 11}}",
                at
            ),
            NONE
        );
        assert_eq!(codes("peak_hours: {}", at), NONE);
    }
}
