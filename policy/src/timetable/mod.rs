//! Peak hours and festivals: what kind of hour it is, and until when.

mod day;
mod festival;
mod freeze;
mod holiday;
mod next_change;
mod overlap;
mod stretches;
mod window;

use std::{cmp::Reverse, time::Duration};

use jiff::civil::DateTime;

pub use day::{DaySet, Minute, MonthDays};
pub use festival::{DateRange, Festival, parse_date};
pub use freeze::{Freeze, FreezeWhen};
pub use holiday::{BusinessDays, Holiday};
pub use overlap::Overlap;
pub use window::Window;

use crate::{
    overrides::{Override, OverrideKind},
    time::{CivilZone, WallTime},
    units::{BasisPoints, Multiplier, ZoneName},
};

/// How long an answer is kept at most before it is asked for again.
const HOLDS_AT_MOST: Duration = Duration::from_secs(24 * 60 * 60);

/// What kind of hour it is. A festival outranks a peak hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TrafficState {
    /// Neither.
    Normal,
    /// A window holds.
    PeakHour,
    /// A festival holds, with or without a window.
    Festival,
}

impl TrafficState {
    /// All states, the least first.
    pub const ALL: [Self; 3] = [Self::Normal, Self::PeakHour, Self::Festival];

    /// `normal`, `peak_hour` or `festival`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::PeakHour => "peak_hour",
            Self::Festival => "festival",
        }
    }
}

/// The calendar's answer for one instant and one zone of nodes; good until it says so itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// The state.
    pub state: TrafficState,
    /// Whether a window holds, or somebody says so.
    pub is_peak: bool,
    /// Index of the window that holds, in [`Timetable::windows`].
    pub window: Option<usize>,
    /// Index of the festival that holds, in [`Timetable::festivals`].
    pub festival: Option<usize>,
    /// The window's multiplier; 1 when none holds.
    pub multiplier: Multiplier,
    /// The festival's factor; 1 when none holds.
    pub factor: Multiplier,
    /// Festival's and window's names as a header's value, e.g. `Diwali,evening`; none when normal.
    pub window_header: Option<Box<str>>,
    /// The window's multiplier as a header's value; none when 1.
    pub multiplier_header: Option<Box<str>>,
    /// The weight of each ramp of the rules that were asked, by its number.
    pub ramps: Box<[BasisPoints]>,
    /// Of the rules that were asked: services of which somebody says otherwise.
    pub overridden: Box<[Overridden]>,
    /// The instant asked for: a clock that was set back asks again.
    pub holds_from: WallTime,
    /// The next change, at most a day after [`holds_from`](Self::holds_from).
    pub holds_until: WallTime,
}

/// A service of which somebody says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overridden {
    /// Its place among the services of the rules.
    pub service: u16,
    /// What they say.
    pub kind: OverrideKind,
    /// The answer for it, where that is another one.
    pub traffic: Option<Box<Traffic>>,
}

impl Traffic {
    /// The answer for a service, by its place among those of the rules.
    #[inline]
    pub fn of_service(&self, service: u16) -> &Self {
        let own = self.override_of(service);
        own.and_then(|own| own.traffic.as_deref()).unwrap_or(self)
    }

    /// What somebody says of a service.
    #[inline]
    pub fn override_of(&self, service: u16) -> Option<&Overridden> {
        match self.overridden.is_empty() {
            true => None,
            false => self.find_override(service),
        }
    }

    #[cold]
    fn find_override(&self, service: u16) -> Option<&Overridden> {
        self.overridden.iter().find(|own| own.service == service)
    }

    /// The same but for what an override says of the hour.
    fn as_if(&self, kind: OverrideKind) -> Option<Self> {
        let own = Self {
            overridden: Box::default(),
            ..self.clone()
        };
        match kind {
            OverrideKind::Bypass | OverrideKind::Observe => None,
            OverrideKind::Peak if self.state != TrafficState::Normal => None,
            OverrideKind::Peak => Some(Self {
                state: TrafficState::PeakHour,
                is_peak: true,
                ..own
            }),
            OverrideKind::Normal => Some(Self {
                state: TrafficState::Normal,
                is_peak: false,
                window: None,
                festival: None,
                multiplier: Multiplier::ONE,
                factor: Multiplier::ONE,
                window_header: None,
                multiplier_header: None,
                ..own
            }),
        }
    }

    /// Adds what somebody says of a service; it holds no longer than that.
    pub fn override_service(&mut self, service: u16, said: Override) {
        let own = Overridden {
            service,
            kind: said.kind,
            traffic: self.as_if(said.kind).map(Box::new),
        };
        self.holds_until = self.holds_until.min(said.until);
        let mut all = std::mem::take(&mut self.overridden).into_vec();
        all.push(own);
        self.overridden = all.into();
    }

    /// The weight of a ramp; 0 for one that the rules do not have.
    pub fn ramp(&self, id: RampId) -> BasisPoints {
        let weight = self.ramps.get(usize::from(id.0));
        weight.copied().unwrap_or(BasisPoints::ZERO)
    }

    /// Whether this answer is the answer at `wall` too.
    pub fn holds_at(&self, wall: WallTime) -> bool {
        self.holds_from <= wall && wall < self.holds_until
    }
}

/// Number of a ramp of some rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RampId(pub u16);

/// What distinguishes one instant from the next: the indices of window and festival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Active {
    window: Option<usize>,
    festival: Option<usize>,
}

/// Peak hours, festivals and holidays in the civil time of one zone.
#[derive(Debug, Clone, PartialEq)]
pub struct Timetable {
    zone: CivilZone,
    windows: Vec<Window>,
    festivals: Vec<Festival>,
    holidays: Vec<Holiday>,
    business: BusinessDays,
}

impl Timetable {
    /// A calendar; windows and festivals may overlap.
    pub fn new(zone: CivilZone, windows: Vec<Window>, festivals: Vec<Festival>) -> Self {
        Self {
            zone,
            windows,
            festivals,
            holidays: Vec::new(),
            business: BusinessDays::default(),
        }
        .with_holidays(Vec::new())
    }

    /// With holidays beside the festivals that are holidays too.
    #[must_use]
    pub fn with_holidays(mut self, holidays: Vec<Holiday>) -> Self {
        self.holidays = holidays;
        let festivals = self.festivals.iter().filter(|festival| festival.holiday);
        let dates = festivals.map(|festival| festival.dates);
        let holidays = self.holidays.iter().map(|holiday| holiday.dates);
        self.business = BusinessDays::new(dates.chain(holidays));
        self
    }

    /// What decides: where its dates come from is for people.
    #[must_use]
    pub fn without_sources(mut self) -> Self {
        for festival in &mut self.festivals {
            festival.source = None;
        }
        for holiday in &mut self.holidays {
            holiday.source = None;
        }
        self
    }

    /// The zone whose civil time counts.
    pub fn zone(&self) -> &CivilZone {
        &self.zone
    }

    /// Its windows.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// Its festivals.
    pub fn festivals(&self) -> &[Festival] {
        &self.festivals
    }

    /// Holidays that are no festivals.
    pub fn holidays(&self) -> &[Holiday] {
        &self.holidays
    }

    /// The days on which business is done.
    pub fn business_days(&self) -> &BusinessDays {
        &self.business
    }

    /// The state at an instant for nodes of a zone; a node without a zone sees all windows. Of
    /// several windows the highest multiplier wins, then the smaller name; of several festivals
    /// likewise the factor.
    pub fn at(&self, wall: WallTime, node_zone: Option<&ZoneName>) -> Traffic {
        let active = self.active(wall, node_zone);
        let window = active.window.and_then(|index| self.windows.get(index));
        let festival = active.festival.and_then(|index| self.festivals.get(index));
        let multiplier = window.map_or(Multiplier::ONE, Window::multiplier);
        let names = [
            festival.map(|festival| festival.name.header_form()),
            window.map(|window| window.name().header_form()),
        ];
        let names: Vec<String> = names.into_iter().flatten().collect();
        let latest = wall.saturating_add(HOLDS_AT_MOST);
        Traffic {
            state: match (festival, window) {
                (Some(_), _) => TrafficState::Festival,
                (None, Some(_)) => TrafficState::PeakHour,
                (None, None) => TrafficState::Normal,
            },
            is_peak: window.is_some(),
            window: active.window,
            festival: active.festival,
            multiplier,
            factor: festival.map_or(Multiplier::ONE, |festival| festival.factor),
            window_header: (!names.is_empty()).then(|| names.join(",").into()),
            multiplier_header: (multiplier != Multiplier::ONE)
                .then(|| multiplier.to_string().into()),
            ramps: Box::default(),
            overridden: Box::default(),
            holds_from: wall,
            holds_until: self
                .change_within_a_day(wall, node_zone)
                .map_or(latest, |change| change.min(latest)),
        }
    }

    /// Whether there are festivals, and all of them are over.
    pub fn festivals_are_over(&self, wall: WallTime) -> bool {
        let today = self.zone.civil(wall).date();
        let over = |festival: &Festival| festival.dates.end() < today;
        !self.festivals.is_empty() && self.festivals.iter().all(over)
    }

    /// The multiplier of each zone that some window names, in the order of the windows; without such
    /// a window one entry for the whole mesh, under no zone. And that of the node's own zone.
    pub fn zone_multipliers<'t>(
        &'t self,
        wall: WallTime,
        own: Option<&'t ZoneName>,
    ) -> Vec<(Option<&'t ZoneName>, Multiplier)> {
        let mut zones: Vec<Option<&ZoneName>> = Vec::new();
        for zone in self.windows.iter().filter_map(Window::zone) {
            if !zones.contains(&Some(zone)) {
                zones.push(Some(zone));
            }
        }
        if zones.is_empty() {
            zones.push(None);
        }
        if own.is_some() && !zones.contains(&own) {
            zones.push(own);
        }
        zones
            .into_iter()
            .map(|zone| (zone, self.multiplier(wall, zone)))
            .collect()
    }

    fn multiplier(&self, wall: WallTime, node_zone: Option<&ZoneName>) -> Multiplier {
        self.active(wall, node_zone)
            .window
            .and_then(|index| self.windows.get(index))
            .map_or(Multiplier::ONE, Window::multiplier)
    }

    fn active(&self, wall: WallTime, node_zone: Option<&ZoneName>) -> Active {
        self.active_in(self.zone.civil(wall), node_zone)
    }

    fn active_in(&self, civil: DateTime, node_zone: Option<&ZoneName>) -> Active {
        let windows = self.windows.iter().enumerate();
        let festivals = self.festivals.iter().enumerate();
        Active {
            // Of equal keys the first in the file wins: `min_by_key` keeps it.
            window: windows
                .filter(|(_, window)| {
                    window.applies_to(node_zone) && window.holds(civil, &self.business)
                })
                .min_by_key(|(_, window)| (Reverse(window.multiplier()), window.name()))
                .map(|(index, _)| index),
            festival: festivals
                .filter(|(_, festival)| festival.dates.contains(civil.date()))
                .min_by_key(|(_, festival)| (Reverse(festival.factor), &festival.name))
                .map(|(index, _)| index),
        }
    }
}

/// A zone as metrics call it: without its region's prefix (`mumbai-west` in `mumbai` -> `west`).
pub fn zone_label<'z>(region: Option<&str>, zone: &'z ZoneName) -> &'z str {
    region
        .and_then(|region| zone.as_str().strip_prefix(region)?.strip_prefix('-'))
        .filter(|label| !label.is_empty())
        .unwrap_or(zone.as_str())
}

#[cfg(test)]
mod tests;
