//! How calls ended, and what that does to breakers.

use std::time::Duration;

use policy::{
    breaker::{Cell, Completion, Ticket, Transition},
    decision::{CellId, ServiceRules},
    names,
    outcome::{Outcome, ResponseFacts},
    time::{MonoTime, Now},
};
use schemars::JsonSchema;
use serde::Serialize;
use tracing::info;

use super::Board;
use crate::callers::{
    cells::WrittenTicket,
    question::{Of, Report},
};

/// Of which results a breaker took notice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Counted {
    /// Told to their breaker.
    pub counted: usize,
    /// Not told: their breaker has moved on since, or is gone.
    pub ignored: usize,
}

/// A result that belongs to nothing in this mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotCounted {
    /// Its place in what was told.
    pub index: usize,
    /// Why.
    pub why: String,
}

/// Envoy's flag for "no healthy upstream" (UH in access logs).
const NO_HEALTHY_UPSTREAM: u64 = 0x2;

impl Board {
    /// Takes results.
    ///
    /// # Errors
    /// One that belongs to nothing in this mesh: then none was taken.
    pub(in crate::callers) fn take(
        &mut self,
        reports: &[Report],
        now: Now,
    ) -> Result<Counted, NotCounted> {
        let found: Vec<(CellId, Option<Ticket>)> = reports
            .iter()
            .enumerate()
            .map(|(index, report)| {
                self.cell_of(&report.of)
                    .map_err(|why| NotCounted { index, why })
            })
            .collect::<Result<_, _>>()?;
        let mut counted = Counted::default();
        for ((id, ticket), report) in found.into_iter().zip(reports) {
            let known = || self.cells.known(id, &self.rules, &self.traffic);
            // Of who asked nobody, as of one that was let through by a closed breaker.
            let ticket = ticket
                .unwrap_or_else(|| Ticket::of(known().map_or(0, |cell| cell.generation()), None));
            match self.settle(id, ticket, &report.facts, report.time, now.mono) {
                true => counted.counted += 1,
                false => counted.ignored += 1,
            }
        }
        Ok(counted)
    }

    fn cell_of(&self, of: &Of) -> Result<(CellId, Option<Ticket>), String> {
        let (name, version, class, ticket) = match of {
            Of::Ticket(written) => {
                let WrittenTicket {
                    server,
                    ticket,
                    service,
                    version,
                    class,
                } = written;
                // Of another server it tells only how the call ended; of a probe of it, nothing.
                let ticket = match *server == self.server {
                    true => Some(*ticket),
                    false if ticket.is_probe() => Some(Ticket::of(u32::MAX, Some(u8::MAX))),
                    false => None,
                };
                (service, version.as_ref(), Some(class), ticket)
            }
            Of::Service {
                service,
                version,
                class,
            } => {
                let version = version
                    .as_ref()
                    .filter(|label| label.as_str() != names::STABLE);
                (service, version, class.as_ref(), None)
            }
        };
        let unknown = || format!("service: {name} is not in this mesh");
        let service = self.rules.service(self.service(name)).ok_or_else(unknown)?;
        let cells: Vec<CellId> = match (&service.canary, version) {
            (_, None) => service.stable_cells().collect(),
            (Some(canary), Some(label)) if canary.split.version == *label => {
                canary.cells().collect()
            }
            (_, Some(label)) => return Err(format!("version: {name} has no canary {label}")),
        };
        let own = self.rules.class(service.class).map(|class| &class.name);
        let class = class.or(own);
        let is_it = |id: &CellId| self.rules.cell(*id).map(|cell| &cell.class) == class;
        let cell = cells.into_iter().find(is_it);
        let class = class.map_or("", |class| class.as_str());
        let unknown = || format!("class: {name} has no class {class}");
        Ok((cell.ok_or_else(unknown)?, ticket))
    }

    /// Counts a call for which there is no instance, as an Envoy counts it that finds nobody.
    pub(super) fn found_nobody(&mut self, id: CellId, ticket: Ticket, now: MonoTime) {
        let facts = ResponseFacts {
            status: Some(503),
            grpc_status: None,
            flags: NO_HEALTHY_UPSTREAM,
        };
        self.settle(id, ticket, &facts, None, now);
    }

    /// Tells a breaker how a call ended; whether it took notice.
    fn settle(
        &mut self,
        id: CellId,
        ticket: Ticket,
        facts: &ResponseFacts,
        time: Option<Duration>,
        now: MonoTime,
    ) -> bool {
        let Some(cell) = self.rules.cell(id) else {
            return false;
        };
        let outcome = match facts.refused_by_envoy() && !cell.count_envoy_refusals {
            true => Outcome::Ignored,
            false => facts.judge(),
        };
        let step = self.cells.step(id, cell, &self.traffic, |state, rules| {
            state.record(rules, ticket, Completion::new(outcome, time, rules), now)
        });
        if let Some(transition) = step.transition {
            self.changed(id, transition, now);
        }
        step.changed
    }

    /// A breaker took a transition. Where it latched, its canary's other ones do.
    pub(super) fn changed(&mut self, id: CellId, transition: Transition, now: MonoTime) {
        let Some(cell) = self.rules.cell(id) else {
            return;
        };
        tell(&cell.shared_key, transition);
        let opened = matches!(transition, Transition::Opened | Transition::Reopened);
        let latch = cell.at(&self.traffic).latch;
        if opened && latch.is_some_and(|latch| latch.engages) {
            let service = self.rules.service(self.service(&cell.service)).cloned();
            if let Some(service) = service {
                self.latch(&service, now);
            }
        }
    }

    /// A canary's users go to stable, whatever their class.
    pub(super) fn latch(&mut self, service: &ServiceRules, now: MonoTime) {
        for id in service.canary.iter().flat_map(|canary| canary.cells()) {
            let Some(cell) = self.rules.cell(id) else {
                continue;
            };
            let latch = |state: &mut Cell, rules: &_| state.latch(rules, now);
            let step = self.cells.step(id, cell, &self.traffic, latch);
            if let Some(transition) = step.transition {
                tell(&cell.shared_key, transition);
            }
        }
    }
}

fn tell(breaker: &str, transition: Transition) {
    let what = match transition {
        Transition::Opened => "opened",
        Transition::HalfOpened => "is half-open",
        Transition::Closed => "closed",
        Transition::Reopened => "opened again",
    };
    info!(breaker, "the breaker of callers without a proxy {what}");
}
