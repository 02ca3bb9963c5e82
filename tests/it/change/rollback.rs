//! `rollback` and `diff`: where files say what is served, a rollback is pinned until they say something else.

use anyhow::{Result, ensure};
use harness::wait::wait_for;
use serde_json::json;

use super::{done, refused, revisions, wait_for_split};
use crate::{door1::BOUND, mesh::Mesh};

#[test]
fn a_rollback_holds_over_kill_9_until_the_files_content_changes() -> Result<()> {
    let mut mesh = Mesh::start(|_| {})?;
    mesh.change(|file| file.weight = "30")?;
    wait_for_split(&mesh, 30)?;
    let told = done(&mesh, &["diff", "1"])?;
    ensure!(
        told.contains("order-service: canary v2 10 % -> 30 %"),
        "{told}"
    );
    ensure!(told.contains("~ ECDS mumbai_mesh"), "{told}");
    let told = done(&mesh, &["rollback", "1", "--wait", "--reason", "INC-42"])?;
    ensure!(
        told.contains("revision 1 is pinned until ") && told.contains("mesh.yaml"),
        "{told}"
    );
    wait_for_split(&mesh, 10)?;
    mesh.kill_server(None, false)?;
    let answer = revisions(&mesh)?;
    ensure!(
        (&answer["current"]["revision"], &answer["current"]["pinned"]) == (&json!(3), &json!(1)),
        "{answer:#}"
    );
    let message = &answer["revisions"][0]["message"];
    ensure!(message == "rollback to 1 (INC-42)", "{message}");
    let table = done(&mesh, &["history"])?;
    ensure!(
        table.contains("pinned by a rollback to 1 until "),
        "{table}"
    );
    // A comment is no content. What comes after it shows that it was read.
    mesh.server
        .write_mesh(&format!("# touched\n{}", mesh.file.text()))?;
    let broken = format!("{}nonsense: 1\n", mesh.file.text());
    mesh.server.write_mesh(&broken)?;
    wait_for("the refusal", BOUND, || {
        let answer = revisions(&mesh).map_err(|error| error.to_string())?;
        match answer["refused"].is_null() {
            true => Err(answer.to_string()),
            false => Ok(()),
        }
    })?;
    ensure!(revisions(&mesh)?["current"]["pinned"] == 1, "it was let go");
    mesh.change(|file| file.weight = "20")?;
    ensure!(
        revisions(&mesh)?["current"]["pinned"].is_null(),
        "it is still held"
    );
    wait_for_split(&mesh, 20)?;

    let told = refused(&mesh, &["rollback", "99"])?;
    ensure!(told.contains("revision 99 is not kept"), "{told}");
    let told = refused(&mesh, &["diff", "1", "99"])?;
    ensure!(told.contains("revision 99 is not kept"), "{told}");
    Ok(())
}

#[test]
fn what_the_file_says_is_not_applied_over_it() -> Result<()> {
    let mesh = Mesh::start(|_| {})?;
    let other = mesh.file.text().replace("weight: 10", "weight: 11");
    let (status, answer) = mesh.server.api_post("/api/v1/apply", other.as_bytes())?;
    ensure!(
        status == 409 && answer["reason"] == "file",
        "{status} {answer:#}"
    );
    ensure!(
        answer["path"] == "services.order-service.canary",
        "{answer:#}"
    );
    let line = answer["place"]["line"].as_u64().unwrap_or_default();
    ensure!(line > 1, "{answer:#}");
    let beside = b"services: {pay: {sidecar: false}}\n";
    let (status, answer) = mesh.server.api_post("/api/v1/apply", beside)?;
    ensure!(status == 200, "{status} {answer:#}");
    let (_, services) = (status, mesh.server.api_get("/services")?);
    ensure!(services.to_string().contains("pay"), "{services:#}");
    Ok(())
}
