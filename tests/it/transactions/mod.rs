//! Real Envoys under load while everything about them changes at random, in both variants, on ADS and on
//! the services of single types; and a server that is killed under them.
//!
//! The seed is printed and may be chosen by `MUMBAI_MESH_TEST_SEED`; `MUMBAI_MESH_TEST_TRANSACTIONS` says how
//! many transactions each Envoy takes.

mod model;
mod world;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::{load::Load, settings, wait::wait_for, xds::Variant};

use crate::door1::BOUND;
use model::{Model, Transaction};
use world::{Door, World, of_server};

/// What is promised. It takes most of a minute, nearly all of it in calls, which wait for the disk and for changes
/// that go together.
const TRANSACTIONS: u64 = 1_000;

/// Takes random transactions. Some wait until the one before has arrived, most do not.
fn transactions(door: Door) -> Result<()> {
    let count = settings::number("MUMBAI_MESH_TEST_TRANSACTIONS", TRANSACTIONS);
    let seed = settings::number("MUMBAI_MESH_TEST_SEED", fastrand::u64(..1_000_000));
    println!("MUMBAI_MESH_TEST_SEED={seed} MUMBAI_MESH_TEST_TRANSACTIONS={count} {door:?}");
    let world = World::start(door)?;
    let mut model = Model::new(seed, world.around.clone());
    world.apply(&all_of(&model))?;
    let envoy = world.envoy()?;
    let address = ([127, 0, 0, 1], world.around.port).into();
    let loads = ["/", "/p0", "/p1"].map(|path| Load::start(address, 1, path));
    let mut order = fastrand::Rng::with_seed(seed);
    let began = Instant::now();
    let mut waited = Duration::ZERO;
    for _ in 0..count {
        world.apply(&model.change())?;
        if order.u8(0..10) == 0 {
            let from = Instant::now();
            world.wait_equal(&envoy, &model.resources())?;
            waited += from.elapsed();
        }
    }
    let took = began.elapsed();
    world.wait_equal(&envoy, &model.resources())?;
    ensure!(
        of_server(&world.server)? == model.resources(),
        "the server's own list differs"
    );
    let (mut served, mut failed) = (0, 0);
    for load in loads {
        let report = load.stop();
        // Across streams the order is the server's only as far as it can see what the Envoy does.
        let is_strict = matches!(door, Door::Ads(_));
        ensure!(
            !is_strict || report.failures.is_empty(),
            "seed {seed}: {report:#?}"
        );
        failed += report.failures.values().sum::<u64>();
        served += report.ok;
    }
    println!(
        "{served} requests served, {failed} failed in {took:?}, {waited:?} of it waiting for the Envoy"
    );
    ensure!(
        served > count,
        "{served} requests under {count} transactions"
    );
    world.nothing_was_rejected(&envoy)
}

fn all_of(model: &Model) -> Transaction {
    Transaction {
        set: model.resources().into_values().collect(),
        remove: Vec::new(),
    }
}

#[test]
fn an_envoy_on_ads_takes_random_transactions_under_load_in_delta() -> Result<()> {
    transactions(Door::Ads(Variant::Delta))
}

#[test]
fn an_envoy_on_ads_takes_random_transactions_under_load_in_the_state_of_the_world() -> Result<()> {
    transactions(Door::Ads(Variant::Sotw))
}

#[test]
fn an_envoy_on_streams_of_single_types_ends_in_the_same_state_in_delta() -> Result<()> {
    transactions(Door::Apart(Variant::Delta))
}

#[test]
fn an_envoy_on_streams_of_single_types_ends_in_the_same_state_in_the_state_of_the_world()
-> Result<()> {
    transactions(Door::Apart(Variant::Sotw))
}

/// A server is killed and comes back: its Envoy serves on, connects again, and is sent nothing that it has.
fn killed(variant: Variant) -> Result<()> {
    let mut world = World::start(Door::Ads(variant))?;
    let mut model = Model::new(7, world.around.clone());
    for _ in 0..20 {
        model.change();
    }
    world.apply(&all_of(&model))?;
    let envoy = world.envoy()?;
    world.wait_equal(&envoy, &model.resources())?;
    let load = Load::start(([127, 0, 0, 1], world.around.port).into(), 2, "/");
    world.kill_and_restart(|| {
        let before = load.sent();
        wait_for("requests while there is no server", BOUND, || {
            match load.sent() - before {
                more if more > 200 => Ok(()),
                more => Err(format!("{more} requests")),
            }
        })
    })?;
    wait_for("the Envoy to come back with all it has", BOUND, || {
        let proxies = world.server.api_get("/api/v1/proxies");
        let proxies = proxies.map_err(|error| error.to_string())?;
        let types = proxies["proxies"][0]["streams"][0]["types"]
            .as_array()
            .cloned();
        let types = types.unwrap_or_default();
        match types.len() == 4 && types.iter().all(|one| one["state"] == "SYNCED") {
            true => Ok(()),
            false => Err(proxies.to_string()),
        }
    })?;
    // A later change arrives after whatever was sent before it, so all of that is counted then.
    world.apply(&model.change_endpoints())?;
    world.wait_equal(&envoy, &model.resources())?;
    let proxies = world.server.api_get("/api/v1/proxies")?;
    let report = load.stop();
    ensure!(report.failures.is_empty(), "{report:#?}");
    world.nothing_was_rejected(&envoy)?;
    let sent = world.metric("xds_pushes_total")?;
    ensure!(sent < 1.5, "{sent} responses for one change: {proxies:#}");
    Ok(())
}

#[test]
fn an_envoy_outlives_its_server_and_is_sent_nothing_again_in_delta() -> Result<()> {
    killed(Variant::Delta)
}

#[test]
fn an_envoy_outlives_its_server_and_is_sent_nothing_again_in_the_state_of_the_world() -> Result<()>
{
    killed(Variant::Sotw)
}
