//! Findings of windows that hold at the same time.

use policy::time::WallTime;

use super::{Finding, Rule, Severity};
use crate::mesh::Mesh;

/// How far it is looked ahead: each window of a year is met, and those of its end.
const DAYS: u16 = 400;
/// With more pairs than this nobody reads all of them, and there may be as many as the square of windows.
const PAIRS_MAX: usize = 10_000;

pub(super) const OVERLAP: Rule = Rule {
    code: "windows-overlap",
    severity: Severity::Warning,
    finds: "two windows of one zone and one multiplier hold at the same time within the next 400 days: only their names tell which counts",
    fix: "let one end where the other starts, or make one of them",
};

pub(super) const OUTRANKED: Rule = Rule {
    code: "window-outranked",
    severity: Severity::Info,
    finds: "two windows of one zone hold at the same time within the next 400 days: the one with the higher multiplier counts",
    fix: "nothing is to be done, if that is meant",
};

pub(super) const DATE_TWICE: Rule = Rule {
    code: "window-date-twice",
    severity: Severity::Warning,
    finds: "a window names a date twice: one of them is most likely meant to be another",
    fix: "correct the date, or take it out",
};

fn dates_twice(mesh: &Mesh, findings: &mut Vec<Finding>) {
    for window in mesh.timetable.windows() {
        let mut dates = window.dates().to_vec();
        dates.sort_unstable_by_key(|range| range.start());
        // Sorted by their starts, one that reaches another reaches the next one.
        let mut pairs = dates.iter().zip(dates.iter().skip(1));
        if let Some((_, second)) = pairs.find(|(first, second)| second.start() <= first.end()) {
            findings.push(Finding::new(
                &DATE_TWICE,
                format!("peak_hours.{}.dates", window.name()),
                format!("name {} twice", second.start()),
                DATE_TWICE.fix,
            ));
        }
    }
}

pub(super) fn look(mesh: &Mesh, now: WallTime, findings: &mut Vec<Finding>) {
    dates_twice(mesh, findings);
    let windows = mesh.timetable.windows();
    let overlaps = mesh.timetable.overlaps(now, DAYS, PAIRS_MAX);
    if overlaps.len() == PAIRS_MAX {
        findings.push(Finding::new(
            &OVERLAP,
            "peak_hours",
            format!("{PAIRS_MAX} pairs of windows overlap, and more were not looked for"),
            OVERLAP.fix,
        ));
    }
    for overlap in overlaps {
        let (Some(first), Some(second)) = (windows.get(overlap.first), windows.get(overlap.second))
        else {
            continue;
        };
        // The name that comes first wins where multipliers do not tell.
        let (wins, loses) = match second.multiplier() > first.multiplier() {
            true => (second, first),
            false => (first, second),
        };
        let rule = match first.multiplier() == second.multiplier() {
            true => &OVERLAP,
            false => &OUTRANKED,
        };
        let span = format!("{}-{}", wins.start(), wins.end());
        findings.push(Finding::new(
            rule,
            format!("peak_hours.{}", loses.name()),
            format!(
                "overlaps {} ({span}) for the first time on {}; there {} counts, with multiplier {}",
                wins.name(),
                overlap.date,
                wins.name(),
                wins.multiplier()
            ),
            rule.fix,
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::tests::found;

    #[test]
    fn windows_of_one_zone_that_overlap_are_found_with_what_counts() {
        let text = |multiplier: &str, zone: &str| {
            format!(
                "peak_hours: {{a: {{start: 7, end: 11, zone: west}}, b: {{start: 10, end: 12, zone: {zone}, days: [mon], multiplier: {multiplier}}}}}"
            )
        };
        assert_eq!(
            found(&text("1", "west"), &[&OVERLAP, &OUTRANKED]),
            [
                "peak_hours.b: overlaps a (07:00-11:00) for the first time on 2026-11-30; there a counts, with multiplier 1"
            ]
        );
        assert_eq!(
            found(&text("1.5", "west"), &[&OUTRANKED]),
            [
                "peak_hours.a: overlaps b (10:00-12:00) for the first time on 2026-11-30; there b counts, with multiplier 1.5"
            ]
        );
        assert_eq!(
            found(&text("1", "central"), &[&OVERLAP, &OUTRANKED]),
            [""; 0]
        );
    }

    #[test]
    fn a_date_that_a_window_names_twice_is_found() {
        let told = |dates: &str| {
            let text = format!("peak_hours: {{sale: {{start: 1, end: 2, dates: [{dates}]}}}}");
            found(&text, &[&DATE_TWICE])
        };
        for twice in [
            "2026-12-24, 2026-12-25, 2026-12-24",
            "{start: 2026-12-20, end: 2026-12-26}, 2026-12-24",
        ] {
            assert_eq!(
                told(twice),
                ["peak_hours.sale.dates: name 2026-12-24 twice"]
            );
        }
        assert_eq!(
            told("2026-12-24, {start: 2026-12-25, end: 2026-12-26}"),
            [""; 0]
        );
    }
}
