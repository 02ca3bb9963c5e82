//! Festivals that lie behind, one by one.

use policy::time::WallTime;

use super::{Finding, Rule, Severity};
use crate::mesh::Mesh;

/// Told only of those that the file itself names, and by its own word: a calendar holds years that are over, and
/// says whence it has them.
pub const FESTIVAL_PAST: Rule = Rule {
    code: "festival-past",
    severity: Severity::Info,
    finds: "a festival of the file itself, without a `source` and of no file that it includes, lies behind, while others lie ahead",
    fix: "correct its year, or take it out",
};

/// Where all of them are over, that is told as a whole.
pub(super) fn look(mesh: &Mesh, now: WallTime, findings: &mut Vec<Finding>) {
    let timetable = &mesh.timetable;
    if timetable.festivals_are_over(now) {
        return;
    }
    let today = timetable.zone().civil(now).date();
    for (index, festival) in timetable.festivals().iter().enumerate() {
        let last = festival.dates.end();
        if last < today && festival.source.is_none() {
            findings.push(Finding::new(
                &FESTIVAL_PAST,
                format!("festivals[{index}]"),
                format!("{} was over on {last}", festival.name),
                FESTIVAL_PAST.fix,
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::tests::found;

    #[test]
    fn a_festival_behind_is_told_of_while_another_lies_ahead() {
        let told = |festivals: &str| found(&format!("festivals: [{festivals}]"), &[&FESTIVAL_PAST]);
        assert_eq!(
            told("2027-01-14, {name: Diwali, date: 2025-11-08}"),
            ["festivals[1]: Diwali was over on 2025-11-08"]
        );
        assert_eq!(told("2026-11-25, 2027-01-14"), [""; 0]);
        let sourced = "{name: Diwali, date: 2025-11-08, source: \"the bank's calendar\"}";
        assert_eq!(told(&format!("2027-01-14, {sourced}")), [""; 0]);
        // One warning is enough.
        assert_eq!(told("2025-11-08"), [""; 0]);
    }
}
