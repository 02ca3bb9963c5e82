//! Breakers and limits as callers without a proxy share them here, and tickets that come back.

use std::{collections::HashMap, time::Duration};

use policy::{
    breaker::{Admission, BreakerRules, BreakerState, Cell, Step, Ticket, Transition},
    decision::{CellId, CellRules, Environment, LimitId, Rules, ServiceId, traffic_of},
    limit::{Rate, TokenBucket},
    names,
    time::MonoTime,
    timetable::Traffic,
    units::{ClassName, ServiceName, UnitError, VersionLabel},
};

/// Breakers and limits of some rules. Those that nobody has asked hold nothing.
#[derive(Debug, Default)]
pub(super) struct Cells {
    /// By [`CellId`], in the form in which Envoys share them.
    breakers: Vec<Option<Box<[u8]>>>,
    /// By [`LimitId`].
    limits: Vec<TokenBucket>,
}

impl Cells {
    pub(super) fn new(rules: &Rules) -> Self {
        Self {
            breakers: vec![None; rules.cells().len()],
            limits: vec![TokenBucket::default(); limits(rules).count()],
        }
    }

    /// What these rules have too stays; what counts by other rules begins anew, and keeps its state.
    pub(super) fn carried_over(mut self, before: &Rules, rules: &Rules, traffic: &Traffic) -> Self {
        let mut cells = Self::new(rules);
        let numbered = (0..).map(CellId).zip(rules.cells());
        let by_key: HashMap<&str, (CellId, &CellRules)> = numbered
            .map(|(id, cell)| (cell.shared_key.as_str(), (id, cell)))
            .collect();
        for (bytes, cell) in self.breakers.iter_mut().zip(before.cells()) {
            let known = by_key.get(cell.shared_key.as_str());
            let (Some(bytes), Some((id, cell))) = (bytes.take(), known) else {
                continue;
            };
            let bytes = match Cell::is_foreign(&bytes, &cell.rules) {
                true => Cell::decode(&bytes, cell.at(traffic)).encode().into(),
                false => bytes,
            };
            cells.put(*id, bytes);
        }
        let earlier: HashMap<&str, TokenBucket> = limits(before).zip(self.limits).collect();
        for (key, bucket) in limits(rules).zip(&mut cells.limits) {
            *bucket = earlier.get(key).copied().unwrap_or_default();
        }
        cells
    }

    fn put(&mut self, id: CellId, bytes: Box<[u8]>) {
        if let Some(place) = self.breakers.get_mut(place(id.0)) {
            *place = Some(bytes);
        }
    }

    /// How many breakers somebody has asked.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.breakers.iter().flatten().count()
    }

    /// A breaker that somebody has asked.
    pub(super) fn known(&self, id: CellId, rules: &Rules, traffic: &Traffic) -> Option<Cell> {
        let bytes = self.breakers.get(place(id.0))?.as_ref()?;
        let cell = rules.cell(id)?;
        Some(Cell::decode_shared(bytes, cell.at(traffic), &cell.rules))
    }

    /// A breaker, changed.
    pub(super) fn step<T>(
        &mut self,
        id: CellId,
        cell: &CellRules,
        traffic: &Traffic,
        step: impl FnOnce(&mut Cell, &BreakerRules) -> Step<T>,
    ) -> Step<T> {
        let rules = cell.at(traffic);
        let bytes = self.breakers.get(place(id.0)).and_then(Option::as_deref);
        let mut state = Cell::decode_shared(bytes.unwrap_or_default(), rules, &cell.rules);
        let is_new = bytes.is_none();
        let step = step(&mut state, rules);
        if step.changed || is_new {
            self.put(id, state.encode().into());
        }
        step
    }
}

/// Keys of all limits, in their order.
fn limits(rules: &Rules) -> impl Iterator<Item = &str> {
    let limits = (0..).map_while(|id| rules.limit(LimitId(id)));
    limits.map(|limit| limit.shared_key.as_str())
}

fn place(id: u32) -> usize {
    usize::try_from(id).unwrap_or(usize::MAX)
}

/// What a decision finds here.
pub(super) struct Desk<'d> {
    pub(super) rules: &'d Rules,
    /// That is called.
    pub(super) service: ServiceId,
    pub(super) cells: &'d mut Cells,
    /// Of a caller without a zone: callers of all zones share breakers and limits, so these go by one time.
    pub(super) traffic: &'d Traffic,
    pub(super) now: MonoTime,
    pub(super) dice: &'d mut dyn FnMut() -> u64,
    /// Breakers that changed.
    pub(super) transitions: Vec<(CellId, Transition)>,
}

impl Desk<'_> {
    /// What a limit gives, by that time.
    fn rate(&self, id: LimitId) -> Option<Rate> {
        let limit = self.rules.limit(id)?;
        let service = self.rules.service(self.service);
        let is_its_own = service.is_some_and(|service| service.limit == Some(id));
        let traffic = match is_its_own {
            true => traffic_of(self.traffic, self.service),
            // A class's tokens are those of all services.
            false => self.traffic,
        };
        Some(limit.rate(traffic))
    }
}

impl Environment for Desk<'_> {
    fn random(&mut self) -> u64 {
        (self.dice)()
    }

    fn admit(&mut self, id: CellId, _rules: &BreakerRules) -> Admission {
        let now = self.now;
        let Some(cell) = self.rules.cell(id) else {
            return Admission::Admitted(Ticket::of(0, None));
        };
        let admit = |state: &mut Cell, rules: &BreakerRules| state.admit(rules, now);
        let step = self.cells.step(id, cell, self.traffic, admit);
        self.transitions
            .extend(step.transition.map(|transition| (id, transition)));
        step.value
    }

    fn take(&mut self, id: LimitId, _rate: Rate) -> Result<(), Duration> {
        let rate = self.rate(id);
        match (rate, self.cells.limits.get_mut(place(id.0))) {
            (Some(rate), Some(bucket)) => bucket.take(rate, self.now),
            _ => Ok(()),
        }
    }

    fn give_back(&mut self, id: LimitId, _rate: Rate) {
        let rate = self.rate(id);
        if let (Some(rate), Some(bucket)) = (rate, self.cells.limits.get_mut(place(id.0))) {
            bucket.give_back(rate);
        }
    }
}

/// A ticket as it goes to a caller and comes back:
/// `SERVER/GENERATION/PROBE/SERVICE/VERSION/CLASS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WrittenTicket {
    /// The server whose breakers gave it.
    pub(super) server: String,
    pub(super) ticket: Ticket,
    pub(super) service: ServiceName,
    /// None is stable.
    pub(super) version: Option<VersionLabel>,
    pub(super) class: ClassName,
}

impl WrittenTicket {
    pub(super) fn new(server: &str, ticket: Ticket, cell: &CellRules) -> Self {
        Self {
            server: server.into(),
            ticket,
            service: cell.service.clone(),
            version: cell.version.clone(),
            class: cell.class.clone(),
        }
    }

    pub(super) fn text(&self) -> String {
        let probe = self.ticket.probe();
        format!(
            "{}/{}/{}/{}/{}/{}",
            self.server,
            self.ticket.generation(),
            probe.map_or("-".into(), |probe| probe.to_string()),
            self.service,
            self.version
                .as_ref()
                .map_or(names::STABLE, VersionLabel::as_str),
            self.class
        )
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let no_ticket = || "is no ticket that select gave".to_string();
        let words: Vec<&str> = text.split('/').collect();
        let [server, generation, probe, service, version, class] = words[..] else {
            return Err(no_ticket());
        };
        let probe = match probe {
            "-" => None,
            probe => Some(probe.parse().map_err(|_| no_ticket())?),
        };
        let named = |error: UnitError| format!("{}: {error}", no_ticket());
        Ok(Self {
            server: server.into(),
            ticket: Ticket::of(generation.parse().map_err(|_| no_ticket())?, probe),
            service: ServiceName::new(service).map_err(named)?,
            version: match version {
                names::STABLE => None,
                label => Some(VersionLabel::new(label).map_err(named)?),
            },
            class: ClassName::new(class).map_err(named)?,
        })
    }
}

/// The worst of some states: open before half-open before closed.
pub(super) fn worst(states: impl Iterator<Item = BreakerState>) -> Option<BreakerState> {
    states.max_by_key(|state| match state {
        BreakerState::Closed => 0,
        BreakerState::HalfOpen => 1,
        BreakerState::Open => 2,
    })
}
