//! What every store promises, run on each of them: the file of a server alone, and a real etcd.

use std::{sync::Arc, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use harness::{etcd::Etcd as RealEtcd, wait::wait_for};
use mumbai_mesh_server::store::{Access, Embedded, Etcd, KEPT, Log, Origin, Store, StoreError};

use super::{Open, append, draft, model, since};
use crate::door1::BOUND;

/// Runs a part of the contract on both.
fn on_both(part: impl Fn(&Open<'_>) -> Result<()>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let embedded = || Ok(Arc::new(Embedded::open(dir.path())?) as Arc<dyn Store>);
    part(&embedded).context("the embedded store")?;
    let etcd = RealEtcd::start(dir.path())?;
    let access = access(&etcd.store("contract"))?;
    let shared = || Ok(Arc::new(Etcd::open(&access)?) as Arc<dyn Store>);
    part(&shared).context("etcd")
}

pub fn access(store: &str) -> Result<Access> {
    Ok(Access {
        address: store.parse()?,
        tls: Default::default(),
        password: String::new().into(),
        secret: Vec::new().into(),
    })
}

#[test]
fn revisions_count_up_and_who_names_another_than_the_newest_writes_nothing() -> Result<()> {
    on_both(|open| {
        let store = open()?;
        for log in Log::ALL {
            ensure!(store.feed(log).revision() == 0);
            ensure!(store.load(log)?.revision == 0 && store.load(log)?.values.is_empty());
            ensure!(store.append(log, 0, draft(&[("a", Some("1"))]))? == 1);
            ensure!(store.append(log, 1, draft(&[("b", Some("2"))]))? == 2);
            for wrong in [0, 1, 3, u64::MAX - 1] {
                let refused = store.append(log, wrong, draft(&[("c", Some("3"))]));
                ensure!(
                    matches!(refused, Err(StoreError::Moved { newest: 2 })),
                    "{wrong}: {refused:?}"
                );
            }
            ensure!(since(&*store, log, 0) == Some(vec![1, 2]));
        }
        // A revision of the mesh says everything, one of resources what it changes.
        let keys = |log| -> Result<Vec<String>> {
            let values = store.load(log)?.values;
            Ok(values.keys().map(ToString::to_string).collect())
        };
        ensure!(keys(Log::Mesh)? == ["b"] && keys(Log::Resources)? == ["a", "b"]);
        Ok(())
    })
}

#[test]
fn whatever_is_done_to_it_a_store_holds_what_a_model_says() -> Result<()> {
    on_both(model::run)
}

#[test]
fn what_is_larger_than_a_request_and_has_more_keys_than_a_transaction_is_one_revision() -> Result<()>
{
    on_both(|open| {
        let large = "नमस्ते\u{0}\"".repeat(250_000);
        let names: Vec<String> = (0..3_000).map(|name| format!("key-{name}")).collect();
        let many: Vec<_> = names.iter().map(|name| (&**name, Some("value"))).collect();
        let store = open()?;
        for log in Log::ALL {
            append(&*store, log, &[("large", Some(&large))])?;
            let mut changes = many.clone();
            changes.push(("large", Some(&large)));
            ensure!(append(&*store, log, &changes)? == 2);
        }
        drop(store);
        let store = open()?;
        for log in Log::ALL {
            let state = store.load(log)?;
            ensure!(state.revision == 2 && state.values.len() == 3_001);
            ensure!(state.values.get("large").map(|value| &**value) == Some(&*large));
        }
        let kept = store.kept(Log::Mesh, 1)?.context("the first is kept")?;
        ensure!(kept.values.len() == 1 && kept.revision == 1);
        Ok(())
    })
}

#[test]
fn the_newest_revisions_are_kept_with_who_when_and_why_and_older_ones_go() -> Result<()> {
    on_both(|open| {
        let store = open()?;
        let log = Log::Mesh;
        for number in 0..KEPT + 30 {
            let mut draft = draft(&[("mesh", Some(&number.to_string()))]);
            draft.about.origin = Origin::File;
            draft.about.message = Some(format!("message {}", number + 1));
            store.append(log, number, draft)?;
        }
        let newest = KEPT + 30;
        let all = store.history(log, u64::MAX, 1_000)?;
        let numbers: Vec<u64> = all.iter().map(|(number, _)| *number).collect();
        ensure!(
            numbers == (31..=newest).rev().collect::<Vec<_>>(),
            "{numbers:?}"
        );
        let (number, about) = &all[5];
        ensure!(about.message == Some(format!("message {number}")) && about.origin == Origin::File);
        let page = store.history(log, 100, 3)?;
        let numbers: Vec<u64> = page.iter().map(|(number, _)| *number).collect();
        ensure!(numbers == [99, 98, 97], "{numbers:?}");
        ensure!(store.history(log, 31, 10)?.is_empty());
        ensure!(store.kept(log, 30)?.is_none() && store.kept(log, newest + 1)?.is_none());
        let oldest = store.kept(log, 31)?.context("the oldest that is kept")?;
        ensure!(oldest.values.get("mesh").map(|value| &**value) == Some("30"));
        Ok(())
    })
}

#[test]
fn of_all_who_write_at_once_each_revision_is_one_writers() -> Result<()> {
    const WRITERS: usize = 6;
    const WRITES: usize = 15;
    on_both(|open| {
        let store = open()?;
        let written = thread::scope(|scope| {
            let writer = |writer: usize| {
                let store = Arc::clone(&store);
                scope.spawn(move || -> Result<Vec<u64>> {
                    let key = format!("writer-{writer}");
                    let write = |write: usize| {
                        append(&*store, Log::Resources, &[(&key, Some(&write.to_string()))])
                    };
                    (0..WRITES).map(write).collect()
                })
            };
            let writers: Vec<_> = (0..WRITERS).map(writer).collect();
            let joined = writers
                .into_iter()
                .map(|writer| writer.join().expect("a writer"));
            joined.collect::<Result<Vec<_>>>()
        })?;
        let mut all: Vec<u64> = written.concat();
        all.sort_unstable();
        let expected: Vec<u64> = (1..=(WRITERS * WRITES) as u64).collect();
        ensure!(all == expected, "{all:?}");
        let state = store.load(Log::Resources)?;
        let last = (WRITES - 1).to_string();
        ensure!(state.values.len() == WRITERS && state.values.values().all(|one| **one == *last));
        Ok(())
    })
}

#[test]
fn who_follows_is_woken_and_gets_everything_in_order() -> Result<()> {
    on_both(|open| {
        let store = open()?;
        let follower = Arc::clone(&store);
        let mut newest = follower.feed(Log::Resources).newest();
        newest.mark_unchanged();
        let mut seen = Vec::new();
        for number in 1..=20_u64 {
            append(&*store, Log::Resources, &[("a", Some(&number.to_string()))])?;
            wait_for("the follower to be woken", BOUND, || {
                newest.has_changed().map_err(|error| error.to_string())?;
                let after = seen.last().copied().unwrap_or_default();
                match since(&*follower, Log::Resources, after).as_deref() {
                    Some([]) => Err("nothing new".into()),
                    Some(later) => {
                        seen.extend(later);
                        Ok(())
                    }
                    None => Err("a gap".into()),
                }
            })?;
        }
        ensure!(seen == (1..=20).collect::<Vec<_>>(), "{seen:?}");
        Ok(())
    })
}

#[test]
fn a_secret_is_written_by_whoever_knows_its_version() -> Result<()> {
    on_both(|open| {
        let store = open()?;
        ensure!(store.secret("ca")?.is_none());
        ensure!(store.keep_secret("ca", 0, b"first \0\xff")? == 1);
        let late = store.keep_secret("ca", 0, b"late");
        ensure!(
            matches!(late, Err(StoreError::Moved { newest: 1 })),
            "{late:?}"
        );
        ensure!(store.keep_secret("ca", 1, b"second")? == 2);
        ensure!(store.keep_secret("other", 0, b"other")? == 1);
        drop(store);
        let store = open()?;
        let secret = store.secret("ca")?.context("it is gone")?;
        ensure!(secret.version == 2 && **secret.bytes == *b"second");
        // It is in no log.
        ensure!(Log::ALL.iter().all(|log| store.feed(*log).revision() == 0));
        Ok(())
    })
}

#[test]
fn a_lease_has_one_holder_until_it_lets_go_or_its_time_is_up() -> Result<()> {
    const LONG: Duration = Duration::from_secs(60);
    on_both(|open| {
        let store = open()?;
        ensure!(store.hold("canary", "one", LONG)?);
        ensure!(store.hold("canary", "one", LONG)?, "who has it keeps it");
        ensure!(!store.hold("canary", "two", LONG)?);
        ensure!(
            store.hold("rotation", "two", LONG)?,
            "another one is another's"
        );
        store.release("canary", "two")?;
        ensure!(
            !store.hold("canary", "two", LONG)?,
            "only its holder lets go"
        );
        store.release("canary", "one")?;
        ensure!(store.hold("canary", "two", Duration::from_secs(1))?);
        wait_for("the lease to end", BOUND, || {
            match store.hold("canary", "one", LONG) {
                Ok(true) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })?;
        ensure!(!store.hold("canary", "two", LONG)?);
        Ok(())
    })
}
