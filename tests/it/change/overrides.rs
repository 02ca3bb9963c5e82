//! Overrides that end by themselves, also while the server is away.

use anyhow::{Result, ensure};
use harness::{clock::Clock, wait::wait_for};

use super::{done, refused, run, wait_for_split};
use crate::{door1::BOUND, mesh::Mesh};

const NOON: i64 = 1_795_501_800_000;
const MINUTE: i64 = 60_000;

fn wait_for_status(mesh: &Mesh, status: u16) -> Result<()> {
    wait_for(&format!("status {status}"), BOUND, || {
        let answer = mesh.client().get("/orders", &[("x-user-id", b"user-1")]);
        let answer = answer.map_err(|error| format!("{error:#}"))?;
        match answer.status == status {
            true => Ok(()),
            false => Err(answer.status.to_string()),
        }
    })
}

#[test]
fn an_override_acts_in_the_proxy_and_ends_at_its_time_with_no_server_there() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let clock = Clock::new(dir.path())?;
    clock.set_now(NOON)?;
    let mut mesh = Mesh::start_with(crate::mesh::Variant::Delta, Some(&clock), |file| {
        file.breaker = "{consecutive_failures: 5}\n    limit: {per_second: 100000, at_peak: 0}";
        file.more = "freeze: {during: [peak]}".into();
    })?;
    wait_for_split(&mesh, 10)?;
    let says = |kind: &'static str, time: &'static str| {
        vec![
            "override",
            kind,
            "--service",
            "order-service",
            "--for",
            time,
        ]
    };
    let told = refused(&mesh, &says("peak", "30m"))?;
    ensure!(told.contains("reason: say why"), "{told}");
    let why = ["--reason", "a rehearsal of Diwali"];
    let told = done(
        &mesh,
        &[&says("peak", "30m")[..], &why, &["--wait"]].concat(),
    )?;
    ensure!(told.contains("a rehearsal of Diwali"), "{told}");
    wait_for_status(&mesh, 429)?;
    let explained = done(&mesh, &["explain", "--service", "order-service"])?;
    ensure!(
        explained.contains(
            "override peak of order-service: it makes it a peak hour until 2026-11-24T12:30"
        ),
        "{explained}"
    );
    let services = mesh.server.api_get("/services")?;
    ensure!(
        services
            .to_string()
            .contains("\"override\":{\"kind\":\"peak\""),
        "{services}"
    );
    let (code, ..) = run(&mesh, &["override", "shut", "--service", "order-service"])?;
    ensure!(code == Some(64), "{code:?}");

    done(&mesh, &[&says("bypass", "1h")[..], &why].concat())?;
    wait_for_split(&mesh, 0)?;
    // It stays, whatever the file says.
    let file = mesh.server.mesh_file().to_path_buf();
    let (code, told, _) = run(&mesh, &["plan", &file.to_string_lossy()])?;
    ensure!(code == Some(0), "{code:?} {told}");
    done(&mesh, &["override", "end", "--service", "order-service"])?;
    wait_for_split(&mesh, 10)?;
    let told = done(&mesh, &["override", "list"])?;
    ensure!(told == "no overrides\n", "{told}");

    done(&mesh, &[&says("peak", "30m")[..], &why].concat())?;
    wait_for_status(&mesh, 429)?;
    mesh.server.process().kill()?;
    clock.set_now(NOON + 29 * MINUTE)?;
    wait_for_status(&mesh, 429)?;
    clock.set_now(NOON + 31 * MINUTE)?;
    wait_for_split(&mesh, 10)
}
