//! Times at which releases stand still.

use std::ops::Range;

use super::{Timetable, next_change::Selection};
use crate::{time::WallTime, units::DisplayName};

/// One time at which a release stands still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FreezeWhen {
    /// In any window.
    Peak,
    /// On any festival.
    Festival,
    /// In the window or on the festival of this name.
    Named(DisplayName),
}

impl FreezeWhen {
    /// The format's word: `peak`, `festival` or the name.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Peak => "peak",
            Self::Festival => "festival",
            Self::Named(name) => name.as_str(),
        }
    }

    fn means(&self, any: &Self, name: &DisplayName) -> bool {
        self == any || matches!(self, Self::Named(named) if named == name)
    }
}

/// Times at which a release stands still, in every zone of the mesh alike; where several windows hold,
/// each counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Freeze(Vec<FreezeWhen>);

impl Freeze {
    /// At any of these times.
    pub fn new(times: Vec<FreezeWhen>) -> Self {
        Self(times)
    }

    /// At what times, in their order.
    pub fn times(&self) -> &[FreezeWhen] {
        &self.0
    }

    /// Names that are neither a window's nor a festival's, with their places: they would never hold.
    pub fn unknown_names<'f>(
        &'f self,
        timetable: &'f Timetable,
    ) -> impl Iterator<Item = (usize, &'f DisplayName)> {
        let names = self.0.iter().enumerate();
        let names = names.filter_map(|(index, time)| match time {
            FreezeWhen::Named(name) => Some((index, name)),
            _ => None,
        });
        names.filter(|(_, name)| {
            let mut windows = timetable.windows.iter();
            let mut festivals = timetable.festivals.iter();
            !windows.any(|window| window.name() == *name)
                && !festivals.any(|festival| festival.name == **name)
        })
    }

    fn select<'t>(&self, timetable: &'t Timetable) -> Selection<'t> {
        let windows = timetable.windows.iter().filter(|window| {
            let means = |time: &FreezeWhen| time.means(&FreezeWhen::Peak, window.name());
            self.0.iter().any(means)
        });
        let festivals = timetable.festivals.iter().filter(|festival| {
            let means = |time: &FreezeWhen| time.means(&FreezeWhen::Festival, &festival.name);
            self.0.iter().any(means)
        });
        Selection {
            timetable,
            windows: windows.collect(),
            festivals: festivals.collect(),
        }
    }
}

impl Timetable {
    /// Names of the windows and festivals for which a release stands still at an instant.
    pub fn frozen_by(&self, freeze: &Freeze, wall: WallTime) -> Vec<&DisplayName> {
        let selection = freeze.select(self);
        let civil = self.zone.civil(wall);
        let windows = selection.windows.into_iter();
        let windows = windows.filter(|window| window.holds(civil, &self.business));
        let festivals = selection.festivals.into_iter();
        let festivals = festivals.filter(|festival| festival.dates.contains(civil.date()));
        let names = festivals.map(|festival| &festival.name);
        names.chain(windows.map(|window| window.name())).collect()
    }

    /// The stretches from `from` to `until` in which nothing stands still, in order and apart, each
    /// with its first instant and the first one after it.
    pub fn unfrozen(
        &self,
        freeze: &Freeze,
        from: WallTime,
        until: WallTime,
    ) -> impl Iterator<Item = Range<WallTime>> {
        freeze.select(self).stretches(false, from, until)
    }
}
