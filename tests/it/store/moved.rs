//! What a server kept alone moves into an etcd, whatever ends it meanwhile.

use anyhow::{Context, Result, ensure};
use harness::etcd::Etcd as RealEtcd;
use mumbai_mesh_server::store::{Embedded, Etcd, Log, Store, move_into};

use super::{append, contract::access};

#[test]
fn what_a_server_kept_alone_moves_into_an_etcd_that_holds_nothing_yet() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let etcd = RealEtcd::start(dir.path())?;
    let alone = Embedded::open(dir.path())?;
    append(&alone, Log::Mesh, &[("mesh", Some("{\"first\": 1}"))])?;
    append(&alone, Log::Mesh, &[("mesh", Some("{\"second\": 2}"))])?;
    let large = "x".repeat(3_000_000);
    append(
        &alone,
        Log::Resources,
        &[("a", Some("1")), ("b", Some(&large))],
    )?;
    let shared = Etcd::open(&access(&etcd.store("moved"))?)?;
    ensure!(move_into(&alone, &shared)?);
    for log in Log::ALL {
        ensure!(shared.load(log)? == alone.load(log)?);
    }
    // What came before it is still there to be looked at and rolled back to.
    ensure!(shared.kept(Log::Mesh, 1)? == alone.kept(Log::Mesh, 1)?);
    ensure!(shared.kept(Log::Mesh, 1)?.is_some());
    let history = |store: &dyn Store| store.history(Log::Mesh, u64::MAX, 10);
    ensure!(history(&shared)? == history(&alone)? && history(&shared)?.len() == 2);
    append(&shared, Log::Resources, &[("a", Some("2"))])?;
    ensure!(!move_into(&alone, &shared)?, "it holds something");
    ensure!(
        shared
            .load(Log::Resources)?
            .values
            .get("a")
            .map(|value| &**value)
            == Some("2")
    );
    Ok(())
}

#[test]
fn a_move_that_was_ended_halfway_goes_on_where_it_was() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let etcd = RealEtcd::start(dir.path())?;
    let alone = Embedded::open(dir.path())?;
    for number in 1..=3 {
        let mesh = format!("{{\"number\": {number}}}");
        append(&alone, Log::Mesh, &[("mesh", Some(&mesh))])?;
    }
    append(&alone, Log::Resources, &[("a", Some("1"))])?;
    let shared = Etcd::open(&access(&etcd.store("halfway"))?)?;
    // The mesh has moved, and nothing else.
    let entry = |revision| -> Result<_> {
        let state = alone.kept(Log::Mesh, revision)?.context("not kept")?;
        state.into_entry().context("no entry")
    };
    let entries = (1..=3).map(entry).collect::<Result<Vec<_>>>()?;
    shared.seed(Log::Mesh, entries)?;
    ensure!(move_into(&alone, &shared)?);
    for log in Log::ALL {
        ensure!(shared.load(log)? == alone.load(log)?);
    }
    Ok(())
}
