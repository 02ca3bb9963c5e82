//! Circuit breakers in Envoy's shared data: one cell for all workers, kept across configurations.

use std::{
    cell::{Cell as Slot, RefCell},
    ptr,
    time::Duration,
};

use policy::{
    breaker::{
        Admission, BreakerRules, BreakerState, Cell, Completion, Glance, RefusalReason, Step,
        Ticket, Transition,
    },
    decision::{CellId, CellRules, LimitRules, Rules},
    limit::{Rate, TokenBucket},
    outcome::Outcome,
    time::MonoTime,
    timetable::Traffic,
};

use crate::{
    host::{self, Level, Swap},
    memory::MemoryVersion,
};

/// Workers that write one cell at the same moment take turns: each loss means that another won, so
/// this many in a row do not happen with fewer workers than that.
const ATTEMPTS: u32 = 64;

/// Cells beyond these are made by their first change. Two workers that make the same one at the same
/// moment may lose one of two failures; a large mesh is not worth a slow start.
const MADE_BEFOREHAND_MAX: u32 = 4_096;

/// What was read of a breaker is believed no longer than successes wait, whatever its version says.
const BELIEVED_FOR: Duration = Duration::from_millis(50);

/// A simply closed breaker, as this worker last read it.
#[derive(Debug, Clone, Copy)]
struct Reading {
    glance: Glance,
    /// Where the rules lie that it was read under: as long as a configuration holds, they stay there.
    rules: usize,
    /// Of its memory, before it was read.
    version: u64,
    at: MonoTime,
}

/// What this worker knows of a breaker beside the shared cell.
#[derive(Debug, Clone, Copy, Default)]
struct Pending {
    /// Successes that the shared cell does not know yet, and the generation they belong to.
    generation: u32,
    successes: u32,
    /// The cell told of no row of failures when this worker last saw it. It sees it at each admission
    /// and whenever it changes it; should another worker's failure have come since then, a success
    /// that ends here counts as if it had come just before that failure.
    success_may_wait: bool,
}

/// A breaker and the rules that hold for it now.
#[derive(Clone, Copy)]
pub struct Ruled<'r> {
    cell: &'r CellRules,
    rules: &'r BreakerRules,
}

impl<'r> Ruled<'r> {
    pub fn at(cell: &'r CellRules, traffic: &Traffic) -> Self {
        Self {
            cell,
            rules: cell.at(traffic),
        }
    }

    /// A breaker under rules that were found before.
    pub fn new(cell: &'r CellRules, rules: &'r BreakerRules) -> Self {
        Self { cell, rules }
    }

    /// The rules that hold now.
    pub fn rules(&self) -> &'r BreakerRules {
        self.rules
    }
}

/// The end of an admitted request.
#[derive(Clone, Copy)]
pub struct End {
    pub ticket: Ticket,
    pub result: Completion,
    pub now: MonoTime,
}

/// The breakers of one configuration, as one worker sees them.
///
/// Each admission reads the shared cell, or sees by its service's [`MemoryVersion`] that reading it
/// would tell what it told before.
pub struct Cells {
    pending: Vec<Slot<Pending>>,
    readings: Vec<Slot<Option<Reading>>>,
    /// By cell: its service's.
    versions: Vec<MemoryVersion>,
    /// Those with successes that the shared cell does not know yet.
    waiting: RefCell<Vec<CellId>>,
}

impl Cells {
    /// Makes the cells that do not exist yet. The first VM of a configuration does it on the main
    /// thread, before workers have theirs.
    pub fn new(rules: &Rules, traffic: &Traffic) -> Self {
        let count = rules.cells().len();
        let cells = Self {
            pending: vec![Slot::default(); count],
            readings: vec![Slot::default(); count],
            versions: versions(rules),
            waiting: RefCell::default(),
        };
        for (index, cell) in (0..).zip(rules.cells()) {
            let id = CellId(index);
            let (bytes, cas) = host::shared(&cell.shared_key);
            if !bytes.is_empty() {
                cells.adopt(id, cell, traffic);
            } else if index < MADE_BEFOREHAND_MAX {
                let closed = Cell::closed(cell.at(traffic));
                cells.write(id, cell, &closed, cas);
            }
        }
        cells
    }

    /// Takes over a cell that counts by another configuration's rules: its state stays, its counts
    /// begin anew. Once for a configuration, whichever of its VMs comes first.
    fn adopt(&self, id: CellId, cell: &CellRules, traffic: &Traffic) {
        for _ in 0..ATTEMPTS {
            let (bytes, cas) = host::shared(&cell.shared_key);
            if !Cell::is_foreign(&bytes, &cell.rules) {
                return;
            }
            let ours = Cell::decode(&bytes, cell.at(traffic));
            if self.write(id, cell, &ours, cas) != Swap::Lost {
                return;
            }
        }
    }

    fn write(&self, id: CellId, cell: &CellRules, state: &Cell, cas: u32) -> Swap {
        match at(&self.versions, id) {
            Some(version) => version.write(&cell.shared_key, &state.encode(), cas),
            None => Swap::Failed,
        }
    }

    /// Takes one of a limit's tokens.
    ///
    /// # Errors
    /// When there is none: how long until there is.
    #[inline(never)]
    pub fn take(&self, limit: &LimitRules, rate: Rate, now: MonoTime) -> Result<(), Duration> {
        for _ in 0..ATTEMPTS {
            let (bytes, cas) = host::shared(&limit.shared_key);
            let before = TokenBucket::decode(&bytes);
            let mut bucket = before;
            let taken = bucket.take(rate, now);
            if bucket == before {
                return taken;
            }
            match host::shared_swap(&limit.shared_key, &bucket.encode(), cas) {
                Swap::Done => return taken,
                Swap::Lost => {}
                Swap::Failed => break,
            }
        }
        // A limit that cannot be kept refuses nobody.
        host::log(
            Level::Error,
            &format!("limit {} could not be written", limit.shared_key),
        );
        Ok(())
    }

    /// Gives back a token that was taken. A worker that cannot write it leaves the limit a token short.
    #[cold]
    pub fn give_back(&self, limit: &LimitRules, rate: Rate) {
        for _ in 0..ATTEMPTS {
            let (bytes, cas) = host::shared(&limit.shared_key);
            let mut bucket = TokenBucket::decode(&bytes);
            bucket.give_back(rate);
            if host::shared_swap(&limit.shared_key, &bucket.encode(), cas) != Swap::Lost {
                return;
            }
        }
    }

    /// Asks a breaker for one request.
    pub fn admit(
        &self,
        id: CellId,
        cell: Ruled<'_>,
        now: MonoTime,
    ) -> (Admission, Option<Transition>) {
        // Closed is the case that must cost little.
        if let Some(glance) = self.glance(id, cell, now) {
            self.saw(id, glance.success_may_wait);
            return (Admission::Admitted(glance.ticket), None);
        }
        match self.update(id, cell, |state| state.admit(cell.rules, now)) {
            Some(step) => (step.value, step.transition),
            // Not written is not admitted: a probe too many would be worse than one refusal.
            None => (
                Admission::Refused {
                    reason: RefusalReason::BreakerHalfOpen,
                    retry_after: Duration::from_secs(1),
                },
                None,
            ),
        }
    }

    /// The cell, if it is simply closed.
    fn glance(&self, id: CellId, cell: Ruled<'_>, now: MonoTime) -> Option<Glance> {
        let version = at(&self.versions, id)?.settled();
        let rules = ptr::from_ref(cell.rules).addr();
        let slot = at(&self.readings, id)?;
        if let Some(reading) = slot.get()
            && (Some(reading.version), reading.rules) == (version, rules)
            && now.saturating_since(reading.at) < BELIEVED_FOR
        {
            return Some(reading.glance);
        }
        let (bytes, _) = host::shared(&cell.cell.shared_key);
        let glance = Glance::at(&bytes, cell.rules);
        slot.set(glance.zip(version).map(|(glance, version)| Reading {
            glance,
            rules,
            version,
            at: now,
        }));
        glance
    }

    /// Tells a breaker how an admitted request ended.
    pub fn record(&self, id: CellId, cell: Ruled<'_>, end: End) -> Option<Transition> {
        let fast_success = end.result.outcome == Outcome::Success && !end.result.slow;
        if fast_success && self.may_wait(id, cell, end.ticket) {
            self.batch(id, cell, end.ticket, end.now);
            return None;
        }
        // What this worker still holds came before.
        self.flush_one(id, cell, end.now);
        let record = |state: &mut Cell| state.record(cell.rules, end.ticket, end.result, end.now);
        self.update(id, cell, record)?.transition
    }

    /// A success changes nothing that must be seen at once: no probe, and no row of failures that it
    /// would end.
    fn may_wait(&self, id: CellId, cell: Ruled<'_>, ticket: Ticket) -> bool {
        let no_row = || {
            self.pending(id)
                .is_some_and(|slot| slot.get().success_may_wait)
        };
        !ticket.is_probe() && (cell.rules.consecutive_failures.is_none() || no_row())
    }

    fn saw(&self, id: CellId, success_may_wait: bool) {
        if let Some(slot) = self.pending(id) {
            slot.set(Pending {
                success_may_wait,
                ..slot.get()
            });
        }
    }

    fn batch(&self, id: CellId, cell: Ruled<'_>, ticket: Ticket, now: MonoTime) {
        let Some(slot) = self.pending(id) else {
            return;
        };
        if slot.get().successes > 0 && slot.get().generation != ticket.generation() {
            self.flush_one(id, cell, now);
        }
        if slot.get().successes == 0 {
            self.waiting.borrow_mut().push(id);
        }
        slot.set(Pending {
            generation: ticket.generation(),
            successes: slot.get().successes.saturating_add(1),
            ..slot.get()
        });
    }

    fn pending(&self, id: CellId) -> Option<&Slot<Pending>> {
        at(&self.pending, id)
    }

    /// Publishes this worker's successes.
    pub fn flush(&self, rules: &Rules, traffic: &Traffic, now: MonoTime) {
        for id in self.waiting.borrow_mut().drain(..) {
            if let Some(cell) = rules.cell(id) {
                self.flush_one(id, Ruled::at(cell, traffic), now);
            }
        }
    }

    fn flush_one(&self, id: CellId, cell: Ruled<'_>, now: MonoTime) {
        let Some(slot) = self.pending(id) else {
            return;
        };
        let Pending {
            generation,
            successes,
            ..
        } = slot.get();
        if successes > 0 {
            slot.set(Pending {
                successes: 0,
                ..slot.get()
            });
            self.update(id, cell, |state| {
                state.record_successes(cell.rules, generation, successes, now)
            });
        }
    }

    /// Latches a breaker whose canary latched for another class.
    pub fn latch(&self, id: CellId, cell: Ruled<'_>, now: MonoTime) -> Option<Transition> {
        let latch = |state: &mut Cell| state.latch(cell.rules, now);
        self.update(id, cell, latch)?.transition
    }

    /// Whether one of some breakers latched.
    pub fn any_latched(
        &self,
        rules: &Rules,
        traffic: &Traffic,
        mut cells: impl Iterator<Item = CellId>,
    ) -> bool {
        cells.any(|id| {
            rules.cell(id).is_some_and(|cell| {
                let (bytes, _) = host::shared(&cell.shared_key);
                Cell::decode_shared(&bytes, cell.at(traffic), &cell.rules).is_latched()
            })
        })
    }

    /// The worst state of some breakers: open before half-open before closed.
    pub fn worst(
        &self,
        rules: &Rules,
        traffic: &Traffic,
        cells: impl Iterator<Item = CellId>,
    ) -> BreakerState {
        let states = cells.filter_map(|id| rules.cell(id)).map(|cell| {
            let (bytes, _) = host::shared(&cell.shared_key);
            Cell::decode_shared(&bytes, cell.at(traffic), &cell.rules).state()
        });
        states
            .max_by_key(|state| match state {
                BreakerState::Closed => 0,
                BreakerState::HalfOpen => 1,
                BreakerState::Open => 2,
            })
            .unwrap_or(BreakerState::Closed)
    }

    /// Changes a cell as if this worker were alone. None when it could not be written.
    #[inline(never)]
    fn update<T>(
        &self,
        id: CellId,
        cell: Ruled<'_>,
        mut step: impl FnMut(&mut Cell) -> Step<T>,
    ) -> Option<Step<T>> {
        let key = &cell.cell.shared_key;
        for _ in 0..ATTEMPTS {
            let (bytes, cas) = host::shared(key);
            let mut state = Cell::decode_shared(&bytes, cell.rules, &cell.cell.rules);
            let step = step(&mut state);
            let swap = match step.changed {
                true => self.write(id, cell.cell, &state, cas),
                false => Swap::Done,
            };
            match swap {
                Swap::Done => {
                    self.saw(id, state.success_may_wait());
                    return Some(step);
                }
                Swap::Lost => {}
                Swap::Failed => break,
            }
        }
        host::log(
            Level::Error,
            &format!("circuit breaker {key} could not be written"),
        );
        None
    }
}

fn at<T>(of: &[T], id: CellId) -> Option<&T> {
    of.get(usize::try_from(id.0).ok()?)
}

/// By cell: its service's.
fn versions(rules: &Rules) -> Vec<MemoryVersion> {
    let mut versions = Vec::with_capacity(rules.cells().len());
    for service in rules.services() {
        let canary = service.canary.as_ref();
        let cells =
            service.stable_cells().count() + canary.map_or(0, |canary| canary.cells().count());
        let version = MemoryVersion::of(service.name.as_str());
        versions.extend(std::iter::repeat_n(version, cells));
    }
    versions
}
