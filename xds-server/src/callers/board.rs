//! What the server knows for callers without a proxy: the rules, breakers and limits that they share, and where there
//! are instances. Only what the mesh configures has a place here, and only what was asked for takes room.

mod settle;

use std::{collections::BTreeMap, sync::Arc};

use policy::{
    breaker::Cell,
    decision::{CellId, Decision, RequestView, Rules, ServiceId, ServiceRules, Verdict, decide},
    names,
    time::Now,
    timetable::Traffic,
    units::{ServiceName, VersionLabel},
    wire::{ServiceConfig, ServiceSource},
};
use schemars::JsonSchema;
use serde::Serialize;

pub use self::settle::{Counted, NotCounted};
use super::{
    cells::{Cells, Desk, WrittenTicket, worst},
    pick::{Picked, Tables},
    question::Wanted,
    selection::{self, Decided, Refused, Selection, Unanswered},
};
use crate::{
    compile::Unhealthy,
    mesh::{ClientOptions, Mesh, Service},
    text::mode,
};

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

/// Breakers of a service, of callers without a proxy.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "CallersBreakers")]
pub struct Breakers {
    /// The worst of them: `closed`, `open` or `half_open`.
    state: &'static str,
    /// Those that somebody asked or told something.
    cells: Vec<BreakerCell>,
}

/// The breaker of a version and a class.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "CallersBreaker")]
struct BreakerCell {
    /// The canary's label, or `stable`.
    version: String,
    class: String,
    /// `closed`, `open` or `half_open`.
    state: &'static str,
    /// Its users stay with stable until the canary is changed or resumed.
    latched: bool,
    /// `enforce` or `observe`.
    mode: &'static str,
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
            self.found_nobody(id, ticket, now.mono);
        }
        answer
    }

    fn service(&self, name: &ServiceName) -> ServiceId {
        self.rules
            .resolve_service(Some(name.as_str().as_bytes()), None, None)
    }

    /// Breakers of a service that somebody asked or told something; none where nobody did.
    pub(super) fn shown(&self, name: &ServiceName) -> Option<Breakers> {
        let service = self.rules.service(self.service(name))?;
        let canary = service.canary.iter().flat_map(|canary| canary.cells());
        let known: Vec<(CellId, Cell)> = service
            .stable_cells()
            .chain(canary)
            .filter_map(|id| Some((id, self.cells.known(id, &self.rules, &self.traffic)?)))
            .collect();
        let worst = worst(known.iter().map(|(_, cell)| cell.state()))?;
        let cells = known
            .iter()
            .filter_map(|(id, state)| Some((self.rules.cell(*id)?, state)))
            .map(|(cell, state)| {
                let version = cell.version.as_ref();
                BreakerCell {
                    version: version.map_or(names::STABLE, VersionLabel::as_str).into(),
                    class: cell.class.to_string(),
                    state: state.state().as_str(),
                    latched: state.is_latched(),
                    mode: mode(cell.observe),
                }
            })
            .collect();
        Some(Breakers {
            state: worst.as_str(),
            cells,
        })
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
        let picked: Option<Picked<'_>> = table.pick(call.service, dice);
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
