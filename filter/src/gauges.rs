//! Gauges that belong to a configuration: the next one sets those to zero that it has not.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hasher},
};

use crate::host::{self, Metric, Swap};

const PLUGIN_NAME: &str = "plugin_name";

/// The names of a configuration's gauges, as all VMs of an Envoy share them: a new VM knows nothing of the
/// old one. Filters of another name in the same Envoy have a list of their own.
#[derive(Debug)]
pub struct Gauges {
    key: String,
    /// One a line, each line with its end.
    names: String,
    /// A hash of them.
    mark: [u8; 8],
}

/// A gauge of a list.
#[derive(Debug)]
pub struct Gauge {
    id: Option<u32>,
    name: String,
}

impl Gauges {
    /// An empty list.
    pub fn new() -> Self {
        let plugin = host::property(PLUGIN_NAME);
        let plugin = plugin.and_then(|name| String::from_utf8(name.to_vec()).ok());
        let plugin = plugin.unwrap_or_default();
        Self {
            key: format!("mumbai_mesh/gauges/v1/{plugin}"),
            names: String::new(),
            mark: [0; 8],
        }
    }

    /// Defines one, and lists it.
    pub fn define(&mut self, name: String) -> Gauge {
        self.names.push_str(&name);
        self.names.push('\n');
        Gauge {
            id: host::define(Metric::Gauge, &name),
            name,
        }
    }

    /// This list is in force: what only the one before held is set to zero.
    pub fn take_over(&mut self) {
        let mut hasher = DefaultHasher::new();
        hasher.write(self.names.as_bytes());
        self.mark = hasher.finish().to_le_bytes();
        let (mark, _) = host::shared(&self.mark_key());
        if *mark == self.mark {
            return;
        }
        let (before, cas) = host::shared(&self.key);
        // Where another VM came between, it is one of this configuration, and does the same.
        if host::shared_swap(&self.key, self.names.as_bytes(), cas) == Swap::Done {
            host::shared_swap(&self.mark_key(), &self.mark, 0);
            self.clear(&before);
        }
    }

    /// Where a hash of the list is: it is looked at for each change of a gauge.
    fn mark_key(&self) -> String {
        format!("{}/mark", self.key)
    }

    fn clear(&self, before: &[u8]) {
        let mut kept: BTreeMap<Box<[u8]>, u16> = BTreeMap::new();
        for name in lines(self.names.as_bytes()) {
            kept.insert(name.into(), 0);
        }
        for name in lines(before).filter(|name| !kept.contains_key(*name)) {
            let name = std::str::from_utf8(name).unwrap_or_default();
            if let Some(gauge) = host::define(Metric::Gauge, name) {
                host::record(gauge, 0);
            }
        }
    }

    /// Sets a gauge, unless a newer configuration has dropped it: requests of an older one may still end.
    pub fn record(&self, gauge: &Gauge, value: u64) {
        let Some(id) = gauge.id else {
            return;
        };
        let (mark, _) = host::shared(&self.mark_key());
        let dropped = || {
            let (names, _) = host::shared(&self.key);
            !lines(&names).any(|name| name == gauge.name.as_bytes())
        };
        if mark.is_empty() || *mark == self.mark || !dropped() {
            host::record(id, value);
        }
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = text.split(|byte| *byte == b'\n');
    lines.filter(|line| !line.is_empty())
}
