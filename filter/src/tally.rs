//! Metrics that are counted here first. A call of Envoy costs a busy request more than the counting,
//! and as much for a thousand requests as for one.

use std::cell::{Cell, RefCell};

use policy::names;

use crate::host::{self, Metric};

/// A counter, or a gauge that is only added to.
#[derive(Debug)]
pub struct Sum {
    id: Option<u32>,
    pending: Cell<i64>,
}

impl Sum {
    /// Defines it, or goes on with the one of that name. One that the host refuses is left out.
    pub fn new(kind: Metric, name: &str) -> Self {
        Self {
            id: host::define(kind, name),
            pending: Cell::new(0),
        }
    }

    pub fn add(&self, offset: i64) {
        self.pending.set(self.pending.get() + offset);
    }

    /// Tells Envoy.
    pub fn flush(&self) {
        let pending = self.pending.take();
        if let (Some(id), true) = (self.id, pending != 0) {
            host::add(id, pending);
        }
    }
}

/// A histogram.
#[derive(Debug)]
pub struct Values {
    id: Option<u32>,
    pending: RefCell<Vec<u32>>,
}

impl Values {
    /// As many wait for the next tick at most.
    const PENDING_MAX: usize = 4_096;

    pub fn new(name: &str) -> Self {
        Self {
            id: host::define(Metric::Histogram, name),
            pending: RefCell::default(),
        }
    }

    pub fn record(&self, value: u32) {
        let mut pending = self.pending.borrow_mut();
        pending.push(value);
        if pending.len() >= Self::PENDING_MAX {
            drop(pending);
            self.flush();
        }
    }

    /// Tells Envoy.
    pub fn flush(&self) {
        for value in self.pending.borrow_mut().drain(..) {
            if let Some(id) = self.id {
                host::record(id, u64::from(value));
            }
        }
    }
}

/// Counters of one service that differ in one more label, whose values come from the configuration:
/// each is defined when it first counts.
#[derive(Debug, Default)]
pub struct Labelled {
    counters: RefCell<Vec<(Place, Sum)>>,
}

/// A counter of a service with one more label, that counted once.
#[cold]
fn first_of(metric: &str, service: &str, label: &str, value: &str) -> Sum {
    let labels = [(names::LABEL_SERVICE, service), (label, value)];
    let sum = Sum::new(Metric::Counter, &names::metric_name(&labels, metric));
    sum.add(1);
    sum
}

/// Metric and value, by where they lie: both are constants or the configuration's, and comparing texts at
/// every request costs more than counting. Texts that lie twice are one counter of Envoy's all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    metric: usize,
    value: usize,
}

impl Labelled {
    /// Adds one to `metric{service, label="value"}`. `value` must live as long as this.
    pub fn count(&self, service: &str, metric: &'static str, label: &str, value: &str) {
        let place = Place {
            metric: metric.as_ptr().addr(),
            value: value.as_ptr().addr(),
        };
        let mut counters = self.counters.borrow_mut();
        if let Some((_, sum)) = counters.iter().find(|(known, _)| *known == place) {
            sum.add(1);
            return;
        }
        counters.push((place, first_of(metric, service, label, value)));
    }

    /// Tells Envoy.
    pub fn flush(&self) {
        for (_, sum) in self.counters.borrow().iter() {
            sum.flush();
        }
    }
}

/// Requests of one service by status: at most as many counters as there are status codes.
#[derive(Debug, Default)]
pub struct ByStatus {
    counters: RefCell<Vec<(u16, Sum)>>,
}

impl ByStatus {
    pub fn count(&self, service: &str, status: u16) {
        let mut counters = self.counters.borrow_mut();
        let known = counters.iter().find(|(known, _)| *known == status);
        if let Some((_, sum)) = known {
            sum.add(1);
            return;
        }
        let (metric, label) = (names::METRIC_REQUESTS_TOTAL, names::LABEL_STATUS);
        let sum = first_of(metric, service, label, &status.to_string());
        counters.push((status, sum));
    }

    /// Tells Envoy.
    pub fn flush(&self) {
        for (_, sum) in self.counters.borrow().iter() {
            sum.flush();
        }
    }
}
