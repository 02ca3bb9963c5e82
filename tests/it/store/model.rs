//! A store beside a model of it, over random calls, restarts and races.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Result, ensure};
use mumbai_mesh_server::store::{Log, Store, StoreError};

use super::{Open, draft, since};

const CALLS: usize = 250;

#[derive(Default)]
struct Model {
    /// Of each revision, all that holds then.
    states: Vec<BTreeMap<String, String>>,
}

impl Model {
    fn newest(&self) -> u64 {
        self.states.len() as u64
    }

    fn append(&mut self, log: Log, changes: BTreeMap<String, Option<String>>) {
        let mut next = match log.is_of_wholes() {
            true => BTreeMap::new(),
            false => self.now(),
        };
        for (key, value) in changes {
            match value {
                Some(value) => _ = next.insert(key, value),
                None => _ = next.remove(&key),
            }
        }
        self.states.push(next);
    }

    fn now(&self) -> BTreeMap<String, String> {
        self.states.last().cloned().unwrap_or_default()
    }
}

/// Some keys with values of every size, or gone; each key once.
fn changes(dice: &mut fastrand::Rng, call: usize) -> BTreeMap<String, Option<String>> {
    let count = dice.usize(1..6);
    let change = |_| {
        let size = [0, 3, 300, 9_000, 70_000][dice.usize(..5)];
        let value = format!("{call}:{}", "x".repeat(size));
        let is_gone = dice.u8(..4) == 0;
        (
            format!("key {}", dice.u8(..12)),
            (!is_gone).then_some(value),
        )
    };
    (0..count).map(change).collect()
}

fn check(store: &dyn Store, log: Log, model: &Model) -> Result<()> {
    let state = store.load(log)?;
    ensure!(
        state.revision == model.newest(),
        "{log:?} is at {}",
        state.revision
    );
    let values = state
        .values
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()));
    ensure!(
        values.collect::<BTreeMap<_, _>>() == model.now(),
        "{log:?} holds something else"
    );
    ensure!(store.feed(log).revision() == model.newest());
    ensure!(since(store, log, model.newest()) == Some(Vec::new()));
    Ok(())
}

pub fn run(open: &Open<'_>) -> Result<()> {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut models = BTreeMap::from(Log::ALL.map(|log| (log, Model::default())));
    let mut store: Arc<dyn Store> = open()?;
    for call in 0..CALLS {
        let log = Log::ALL[dice.usize(..2)];
        let model = models.entry(log).or_default();
        match dice.u8(..20) {
            0 => {
                drop(store);
                store = open()?;
                check(&*store, log, model)?;
            }
            1..4 => {
                let wrong = (model.newest() + dice.u64(1..5)).saturating_sub(dice.u64(..3));
                let refused = store.append(log, wrong, draft(&[("wrong", Some("wrong"))]));
                if wrong == model.newest() {
                    ensure!(refused? == wrong + 1);
                    let written = ("wrong".into(), Some("wrong".into()));
                    model.append(log, BTreeMap::from([written]));
                } else {
                    let newest = model.newest();
                    ensure!(
                        matches!(refused, Err(StoreError::Moved { newest: told }) if told == newest)
                    );
                }
            }
            4 => check(&*store, log, model)?,
            5 if log.is_of_wholes() && model.newest() > 0 => {
                let revision = dice.u64(1..=model.newest());
                let kept = store.kept(log, revision)?.map(|kept| kept.values.len());
                let was = model.states[revision as usize - 1].len();
                let is_kept = revision + 100 > model.newest();
                ensure!(kept == is_kept.then_some(was), "{revision}: {kept:?}");
            }
            _ => {
                let changes = changes(&mut dice, call);
                let written: Vec<_> = changes
                    .iter()
                    .map(|(key, value)| (&**key, value.as_deref()))
                    .collect();
                let revision = store.append(log, model.newest(), draft(&written))?;
                model.append(log, changes);
                ensure!(revision == model.newest());
            }
        }
    }
    for log in Log::ALL {
        let model = models.entry(log).or_default();
        check(&*store, log, model)?;
    }
    drop(store);
    let store = open()?;
    for log in Log::ALL {
        check(&*store, log, models.entry(log).or_default())?;
    }
    Ok(())
}
