//! What the server knows for callers without a proxy: the rules, breakers and limits that they share, and where there
//! are instances. Only what the mesh configures has a place here, and only what was asked for takes room.

use std::{collections::BTreeMap, sync::Arc};

use policy::{
    breaker::{Cell, Completion, Ticket, Transition},
    decision::{CellId, Decision, RequestView, Rules, ServiceId, ServiceRules, Verdict, decide},
    names,
    outcome::{Outcome, ResponseFacts},
    time::{MonoTime, Now},
    timetable::Traffic,
    units::{ServiceName, VersionLabel},
    wire::{ServiceConfig, ServiceSource},
};
use serde::Serialize;
use serde_json::{Value, json};
use tracing::info;

use super::{
    cells::{Cells, Desk, WrittenTicket, worst},
    pick::{Picked, Tables},
    question::{Of, Report, Wanted},
    selection::{self, Decided, Refused, Selection, Unanswered},
};
use crate::{
    compile::Unhealthy,
    mesh::{ClientOptions, Mesh, Service},
};

/// Envoy's flag for "no healthy upstream" (UH in access logs).
const NO_HEALTHY_UPSTREAM: u64 = 0x2;

/// All of it.
pub(super) struct Board {
    /// Tickets name it: those of another server, or of one before, tell nothing of these breakers.
    server: String,
    mesh: Arc<Mesh>,
    rules: Rules,
    cells: Cells,
    tables: BTreeMap<ServiceName, Tables>,
    /// For a caller without a zone.
    traffic: Traffic,
}

/// Of which results a breaker took notice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
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

/// A call that is being decided.
struct Call<'c> {
    name: ServiceName,
    service: &'c Arc<Service>,
    id: ServiceId,
}

impl Board {
    pub(super) fn new(server: &str, mesh: Arc<Mesh>, now: Now) -> Self {
        let rules = rules(&mesh);
        Self {
            server: server.into(),
            cells: Cells::new(&rules),
            traffic: rules.traffic_in(now.wall, None),
            rules,
            mesh,
            tables: BTreeMap::new(),
        }
    }

    /// Goes by another mesh. What both have in common stays.
    pub(super) fn follow(&mut self, mesh: &Arc<Mesh>, now: Now) {
        if !Arc::ptr_eq(&self.mesh, mesh) {
            self.tables
                .retain(|name, _| mesh.services.contains_key(name));
            let before = std::mem::replace(&mut self.mesh, Arc::clone(mesh));
            // Instances come and go all the time: nothing is decided by them.
            if !decides_alike(&before, mesh) {
                self.go_by(rules(mesh), now);
            }
        }
        if !self.traffic.holds_at(now.wall) {
            self.traffic = self.rules.traffic_in(now.wall, None);
        }
    }

    fn go_by(&mut self, rules: Rules, now: Now) {
        self.traffic = rules.traffic_in(now.wall, None);
        let cells = std::mem::take(&mut self.cells);
        self.cells = cells.carried_over(&self.rules, &rules, &self.traffic);
        self.rules = rules;
        let services: Vec<ServiceRules> = self.rules.services().to_vec();
        for service in &services {
            // A class may be new: a canary is trusted by all of them or by none.
            let Some(canary) = &service.canary else {
                continue;
            };
            let known = |id| self.cells.known(id, &self.rules, &self.traffic);
            if canary
                .cells()
                .filter_map(known)
                .any(|cell| cell.is_latched())
            {
                self.latch(service, now.mono);
            }
        }
    }

    /// Chooses an instance.
    ///
    /// # Errors
    /// Why none is to be called.
    pub(super) fn select(
        &mut self,
        wanted: &Wanted,
        unhealthy: &Unhealthy,
        now: Now,
        dice: &mut dyn FnMut() -> u64,
    ) -> Result<Selection, Unanswered> {
        let mesh = Arc::clone(&self.mesh);
        let unknown = || Unanswered::NoService(wanted.service.clone());
        let call = Call {
            name: wanted.service.clone(),
            service: mesh.services.shared(&wanted.service).ok_or_else(unknown)?,
            id: self.service(&wanted.service),
        };
        let traffic = match &wanted.zone {
            None => self.traffic.clone(),
            zone => self.rules.traffic_in(now.wall, zone.as_ref()),
        };
        let mut desk = Desk {
            rules: &self.rules,
            service: call.id,
            cells: &mut self.cells,
            traffic: &self.traffic,
            now: now.mono,
            dice: &mut *dice,
            transitions: Vec::new(),
        };
        let view = RequestView {
            service: call.id,
            headers: &wanted.headers,
        };
        let decision = decide(&self.rules, &traffic, &view, &mut desk);
        let transitions = desk.transitions;
        let asked = match decision.verdict {
            Verdict::Proceed { cell, ticket } => cell.zip(ticket),
            Verdict::Refuse { .. } => None,
        };
        let breaker = asked.and_then(|(id, _)| self.cells.known(id, &self.rules, &self.traffic));
        let breaker = breaker.map(|cell| cell.state());
        let reasons = selection::reasons(&self.rules, &traffic, &decision, breaker, now.wall);
        let decided = Decided::of(&self.rules, &traffic, &call.name, &decision);
        let answer = match Refused::by_rule(decided.clone(), &decision.verdict, reasons.clone()) {
            Some(refused) => Err(Unanswered::Refused(Box::new(refused))),
            None => {
                let answer = Draft {
                    decided,
                    reasons,
                    headers: &decision,
                    traffic: &traffic,
                };
                let tables = tables(&mut self.tables, &call, unhealthy);
                let ticket = asked.and_then(|(id, ticket)| {
                    let cell = self.rules.cell(id)?;
                    Some(WrittenTicket::new(&self.server, ticket, cell).text())
                });
                answer.picked(tables, &call, wanted, ticket, dice)
            }
        };
        for (id, transition) in transitions {
            self.changed(id, transition, now.mono);
        }
        if let (Err(Unanswered::Refused(_)), Some((id, ticket))) = (&answer, asked) {
            // As an Envoy counts it that finds nobody.
            let facts = ResponseFacts {
                status: Some(503),
                grpc_status: None,
                flags: NO_HEALTHY_UPSTREAM,
            };
            self.settle(id, ticket, &facts, None, now.mono);
        }
        answer
    }

    /// Takes results.
    ///
    /// # Errors
    /// One that belongs to nothing in this mesh: then none was taken.
    pub(super) fn take(&mut self, reports: &[Report], now: Now) -> Result<Counted, NotCounted> {
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

    /// Tells a breaker how a call ended; whether it took notice.
    fn settle(
        &mut self,
        id: CellId,
        ticket: Ticket,
        facts: &ResponseFacts,
        time: Option<std::time::Duration>,
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
    fn changed(&mut self, id: CellId, transition: Transition, now: MonoTime) {
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
    fn latch(&mut self, service: &ServiceRules, now: MonoTime) {
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

    fn service(&self, name: &ServiceName) -> ServiceId {
        self.rules
            .resolve_service(Some(name.as_str().as_bytes()), None, None)
    }

    /// Breakers of a service that somebody asked or told something; none where nobody did.
    pub(super) fn shown(&self, name: &ServiceName) -> Option<Value> {
        let service = self.rules.service(self.service(name))?;
        let canary = service.canary.iter().flat_map(|canary| canary.cells());
        let known: Vec<(CellId, Cell)> = service
            .stable_cells()
            .chain(canary)
            .filter_map(|id| Some((id, self.cells.known(id, &self.rules, &self.traffic)?)))
            .collect();
        let worst = worst(known.iter().map(|(_, cell)| cell.state()))?;
        let cells: Vec<Value> = known
            .iter()
            .filter_map(|(id, state)| Some((self.rules.cell(*id)?, state)))
            .map(|(cell, state)| {
                let version = cell.version.as_ref();
                json!({
                    "version": version.map_or(names::STABLE, VersionLabel::as_str),
                    "class": cell.class.as_str(),
                    "state": state.state().as_str(),
                    "latched": state.is_latched(),
                    "mode": if cell.observe { "observe" } else { "enforce" },
                })
            })
            .collect();
        Some(json!({"state": worst.as_str(), "cells": cells}))
    }

    /// How many breakers take room.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.cells.held()
    }
}

/// An answer that lacks its instance.
struct Draft<'a> {
    decided: Decided,
    reasons: Vec<String>,
    headers: &'a Decision<'a>,
    traffic: &'a Traffic,
}

impl Draft<'_> {
    fn picked(
        self,
        tables: &mut Tables,
        call: &Call<'_>,
        wanted: &Wanted,
        ticket: Option<String>,
        dice: &mut dyn FnMut() -> u64,
    ) -> Result<Selection, Unanswered> {
        let version = self.headers.canary.and_then(|canary| canary.version);
        let table = tables.table(version, wanted.zone.as_ref());
        let picked: Option<Picked<'_>> = table.pick(dice);
        let mut reasons = self.reasons;
        reasons.extend(selection::picked(&table, picked.as_ref()));
        let Some(picked) = picked else {
            let refused = Refused::no_instance(self.decided, reasons);
            return Err(Unanswered::Refused(Box::new(refused)));
        };
        let headers = self.headers.request_headers(self.traffic);
        let headers = headers.map(|(name, value)| (name, value.to_string()));
        let mtls = call.service.mtls;
        let headers = headers.collect();
        Ok(Selection::of(
            self.decided,
            &picked,
            mtls,
            headers,
            ticket,
            reasons,
        ))
    }
}

/// Those of a service, as it is now.
fn tables<'t>(
    all: &'t mut BTreeMap<ServiceName, Tables>,
    call: &Call<'_>,
    unhealthy: &Unhealthy,
) -> &'t mut Tables {
    let unhealthy = unhealthy.0.get(&call.name);
    let make = || Tables::of(call.service, unhealthy);
    let tables = all.entry(call.name.clone()).or_insert_with(make);
    if !tables.are_of(call.service, unhealthy) {
        *tables = make();
    }
    tables
}

fn rules(mesh: &Mesh) -> Rules {
    Rules::new(mesh.filter_config(ClientOptions::default(), ServiceSource::default()))
}

/// Whether two meshes decide alike, wherever their instances are.
fn decides_alike(before: &Mesh, after: &Mesh) -> bool {
    let policy = |mesh: &Mesh, name: &ServiceName| -> Option<ServiceConfig> {
        Some(mesh.services.get(name)?.policy(name))
    };
    before.timetable == after.timetable
        && before.traffic_classes == after.traffic_classes
        && before.region == after.region
        && before
            .services
            .differing(&after.services)
            .iter()
            .all(|name| policy(before, name) == policy(after, name))
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
