//! A host for the very `.wasm` artifact, in place of Envoy: its clocks, dice, headers, shared data and
//! workers are the test's. What it does of the ABI is what Envoy 1.40 was seen to do.

mod calls;
mod vm;

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
    sync::OnceLock,
};

use anyhow::{Context, Result};
use harness::artifacts::Artifacts;
use wasmtime::{Engine, Module};

pub use vm::{Answer, Local, Vm};

/// Header name and value.
pub type Header = (String, Vec<u8>);

/// What happens elsewhere at that moment.
pub type Meanwhile = Box<dyn FnOnce()>;

/// What all VMs of one Envoy share.
#[derive(Default)]
pub struct World {
    /// Wall clock, nanoseconds since 1970.
    pub wall: u64,
    /// Monotonic clock, nanoseconds.
    pub mono: u64,
    /// How often ticks are asked for.
    pub tick_milliseconds: i32,
    /// State of the dice.
    pub dice: Dice,
    /// Shared data: value and CAS number.
    pub data: HashMap<String, (Vec<u8>, u32)>,
    /// So many writers come in between a read and the write that follows.
    pub conflicts: u32,
    /// Counters and gauges by name, histograms by their number of values.
    pub metrics: BTreeMap<String, i64>,
    ids: Vec<(u32, String)>,
    /// Every call answers with this status.
    pub failing: Option<i32>,
    /// These calls answer with these statuses.
    pub failing_calls: BTreeMap<&'static str, i32>,
    /// So many bytes are missing at the end of the headers that are given all at once.
    pub headers_cut: usize,
    /// Metrics can be defined, and stand still: Envoy's bootstrap keeps them out.
    pub metrics_kept_out: bool,
    /// What happens in other workers just before the next write of shared data, and just after it.
    pub before_write: Option<Meanwhile>,
    pub after_write: Option<Meanwhile>,
    /// How often each call was made.
    pub calls: BTreeMap<&'static str, u64>,
    /// Lines of the log.
    pub logs: Vec<String>,
}

/// The same numbers for the same seed (SplitMix64, Steele et al., 2014).
#[derive(Debug, Clone, Copy, Default)]
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn one<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        let index = usize::try_from(self.below(of.len() as u64)).unwrap_or(0);
        &of[index]
    }
}

impl World {
    /// Sum of a metric over its labels.
    pub fn sum(&self, name: &str) -> i64 {
        let found = self
            .metrics
            .iter()
            .filter(|(known, _)| known.ends_with(name));
        found.map(|(_, value)| *value).sum()
    }
}

/// One Envoy.
#[derive(Clone, Default)]
pub struct WasmHost(Rc<RefCell<World>>);

impl WasmHost {
    /// Looks at the world, or changes it.
    pub fn world<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        look(&mut self.0.borrow_mut())
    }
}

/// The artifact, compiled once for all tests.
fn artifact() -> Result<&'static (Engine, Module)> {
    static COMPILED: OnceLock<std::result::Result<(Engine, Module), String>> = OnceLock::new();
    let compiled = COMPILED.get_or_init(|| {
        let compile = || -> Result<(Engine, Module)> {
            let artifacts = Artifacts::from_env()?;
            let bytes = std::fs::read(&artifacts.wasm).context("the filter")?;
            let engine = Engine::default();
            let module = Module::new(&engine, bytes).map_err(anyhow::Error::from)?;
            Ok((engine, module))
        };
        compile().map_err(|error| format!("{error:#}"))
    });
    compiled
        .as_ref()
        .map_err(|error| anyhow::anyhow!("{error}"))
}
