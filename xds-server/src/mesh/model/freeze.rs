//! When nobody changes anything.

use policy::{
    time::{CivilZone, WallTime},
    timetable::{Freeze, Timetable},
    units::DisplayName,
};

/// A freeze is looked for so far ahead.
const FOLLOWED_FOR: std::time::Duration = std::time::Duration::from_secs(366 * 24 * 60 * 60);

/// Times at which changes are refused unless somebody says why they must be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChangeFreeze {
    /// When.
    pub during: Freeze,
    /// What becomes of a file that is edited then.
    pub files: FrozenFiles,
}

/// What becomes of a file that is edited while changes are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FrozenFiles {
    /// It is applied: whoever edits it is trusted to know.
    #[default]
    Apply,
    /// It waits until the freeze ends.
    Hold,
}

impl FrozenFiles {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Apply, Self::Hold];

    /// `apply` or `hold`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Hold => "hold",
        }
    }
}

/// A freeze that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    /// The windows and festivals for which it does.
    pub by: Vec<DisplayName>,
    /// When it ends; none within a year.
    pub until: Option<WallTime>,
}

impl Frozen {
    /// `Diwali holds until 2026-11-09T00:00:00+05:30`.
    pub fn sentence(&self, zone: &CivilZone) -> String {
        let names: Vec<&str> = self.by.iter().map(DisplayName::as_str).collect();
        let verb = if names.len() == 1 { "holds" } else { "hold" };
        let until = self.until.map_or_else(
            || "for longer than a year".into(),
            |until| format!("until {}", zone.rfc3339(until)),
        );
        format!("{} {verb} {until}", names.join(" and "))
    }
}

impl ChangeFreeze {
    /// Whether changes are refused at an instant.
    pub fn at(&self, timetable: &Timetable, now: WallTime) -> Option<Frozen> {
        let by: Vec<DisplayName> = timetable
            .frozen_by(&self.during, now)
            .into_iter()
            .cloned()
            .collect();
        if by.is_empty() {
            return None;
        }
        let until = now.saturating_add(FOLLOWED_FOR);
        let mut free = timetable.unfrozen(&self.during, now, until);
        let until = free.next().map(|stretch| stretch.start);
        Some(Frozen { by, until })
    }
}
