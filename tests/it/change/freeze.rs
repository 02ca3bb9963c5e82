//! Freezes, on a moved clock.

use anyhow::{Result, ensure};
use harness::{clock::Clock, wait::wait_for};
use policy::time::parse_instant;
use serde_json::{Value, json};

use super::{done, refused, revisions, run, wait_for_split};
use crate::{door1::BOUND, mesh::Mesh};

/// Before, within and after the window.
const FOUR: &str = "2026-11-25T16:00+05:30";
const SIX: &str = "2026-11-25T18:00+05:30";
const TEN: &str = "2026-11-25T22:00+05:30";

fn calendar(files: &str) -> String {
    format!(
        "peak_hours: {{evening: {{start: 17, end: 22}}}}\nfreeze: {{during: [peak], files: {files}}}"
    )
}

fn set(clock: &Clock, at: &str) -> Result<()> {
    clock.set_now(parse_instant(at)?.unix_millis())
}

#[test]
fn at_peak_changes_are_refused_unless_somebody_says_why_and_what_helps_always_passes() -> Result<()>
{
    let dir = tempfile::tempdir()?;
    let clock = Clock::new(dir.path())?;
    set(&clock, SIX)?;
    let mesh = Mesh::start_applied(Some(&clock), |file| file.more = calendar("apply"))?;
    wait_for_split(&mesh, 10)?;
    let told = refused(&mesh, &["canary", "set", "order-service", "20"])?;
    for words in [
        "frozen: evening holds until 2026-11-25T22:00:00+05:30",
        "order-service: canary v2 10 % -> 20 %",
        "--force --reason",
    ] {
        ensure!(told.contains(words), "no {words:?}: {told}");
    }
    let (status, answer) = mesh.server.api_post(
        "/api/v1/apply",
        mesh.file
            .text()
            .replace("consecutive_failures: 5", "consecutive_failures: 6")
            .as_bytes(),
    )?;
    ensure!(
        status == 409 && answer["reason"] == "frozen",
        "{status} {answer:#}"
    );
    let raw = json!({"remove_all": true}).to_string();
    let (status, answer) = mesh
        .server
        .api_post("/api/v1/resources:apply", raw.as_bytes())?;
    ensure!(
        status == 409 && answer["reason"] == "frozen",
        "{status} {answer:#}"
    );
    let history = done(&mesh, &["history"])?;
    ensure!(history.contains("frozen: evening holds until"), "{history}");

    // What helps passes.
    done(&mesh, &["canary", "set", "order-service", "5"])?;
    wait_for_split(&mesh, 5)?;
    done(&mesh, &["canary", "abort", "order-service"])?;
    wait_for_split(&mesh, 0)?;
    let told = refused(&mesh, &["canary", "resume", "order-service"])?;
    ensure!(told.contains("frozen"), "{told}");
    done(&mesh, &["rollback", "1"])?;
    wait_for_split(&mesh, 10)?;

    // Who must, says why.
    let (code, ..) = run(&mesh, &["canary", "set", "order-service", "20", "--force"])?;
    ensure!(code == Some(64), "{code:?}");
    let forced = ["--force", "--reason", "INC-42: v1 leaks"];
    done(
        &mesh,
        &[&["canary", "set", "order-service", "20"][..], &forced].concat(),
    )?;
    wait_for_split(&mesh, 20)?;
    let audit = std::fs::read_to_string(mesh.server.state_dir().join("audit.log"))?;
    let last: Value = serde_json::from_str(audit.lines().last().unwrap_or_default())?;
    ensure!(
        last["forced"] == true && last["reason"] == "INC-42: v1 leaks",
        "{last:#}"
    );
    let (status, answer) = mesh.server.api_post(
        "/api/v1/resources:apply?force=true&reason=must",
        raw.as_bytes(),
    )?;
    ensure!(status == 200, "{status} {answer:#}");

    set(&clock, TEN)?;
    done(&mesh, &["canary", "set", "order-service", "30"])?;
    wait_for_split(&mesh, 30)
}

#[test]
fn a_file_that_is_edited_then_waits_loudly_until_the_window_ends() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let clock = Clock::new(dir.path())?;
    set(&clock, FOUR)?;
    let mut mesh = Mesh::start_with(crate::mesh::Variant::Delta, Some(&clock), |file| {
        file.more = calendar("hold");
    })?;
    set(&clock, SIX)?;
    mesh.file.weight = "20";
    mesh.server.write_mesh(&mesh.file.text())?;
    let waits = |mesh: &Mesh| {
        wait_for("the file to wait", BOUND, || {
            let answer = revisions(mesh).map_err(|error| error.to_string())?;
            match answer["waiting"].is_null() {
                true => Err(answer.to_string()),
                false => Ok(answer),
            }
        })
    };
    let answer = waits(&mesh)?;
    ensure!(answer["current"]["revision"] == 1, "{answer:#}");
    ensure!(
        answer["waiting"]["until"] == "2026-11-25T22:00:00+05:30",
        "{answer:#}"
    );
    let told = done(&mesh, &["history"])?;
    ensure!(
        told.contains("order-service: canary v2 10 % -> 20 %"),
        "{told}"
    );
    ensure!(
        mesh.server.log().contains("1 change(s) wait"),
        "{}",
        mesh.server.log()
    );
    wait_for_split(&mesh, 10)?;
    mesh.kill_server(Some(&clock), false)?;
    waits(&mesh)?;
    wait_for_split(&mesh, 10)?;
    // Fewer users are no reason to wait.
    mesh.change(|file| file.weight = "7")?;
    ensure!(revisions(&mesh)?["waiting"].is_null());
    wait_for_split(&mesh, 7)?;
    mesh.file.weight = "20";
    mesh.server.write_mesh(&mesh.file.text())?;
    waits(&mesh)?;
    set(&clock, TEN)?;
    wait_for("the file to be in force", BOUND, || {
        let answer = revisions(&mesh).map_err(|error| error.to_string())?;
        match answer["waiting"].is_null() && answer["current"]["revision"] == 3 {
            true => Ok(()),
            false => Err(answer.to_string()),
        }
    })?;
    wait_for_split(&mesh, 20)
}
