//! Findings of the calendar.

use policy::time::WallTime;

use super::{Finding, Rule, Severity};
use crate::mesh::Mesh;

/// A calendar of last year is legal, and most likely forgotten.
pub(super) const FESTIVALS_OVER: Rule = Rule {
    code: "festivals-over",
    severity: Severity::Warning,
    finds: "festivals are listed, and none of them lies ahead",
    fix: "add the next festivals, or take the list away",
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

#[cfg(test)]
mod tests {
    use crate::{
        analyze::{analyze, calendar::FESTIVALS_OVER},
        mesh::{Defaults, read},
    };
    use policy::time::WallTime;

    #[test]
    fn a_calendar_of_the_past_is_found_and_one_with_a_future_is_not() {
        let mesh = read("festivals: [\"2024-08-19\"]", &Defaults::default()).unwrap();
        let codes = |unix_seconds: i64| -> Vec<&str> {
            let now = WallTime::from_unix_millis(unix_seconds * 1_000);
            analyze(&mesh, now)
                .iter()
                .map(|finding| finding.code)
                .collect()
        };
        let (july_2024, november_2026) = (1_720_000_000, 1_795_000_000);
        assert_eq!(codes(july_2024), [""; 0]);
        assert_eq!(codes(november_2026), [FESTIVALS_OVER.code]);
    }
}
