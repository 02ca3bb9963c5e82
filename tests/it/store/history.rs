//! The history of the mesh, as people ask for it, over restarts and `kill -9`.

use std::fs;

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::Artifacts,
    server::{Options, Server, replace},
    wait::wait_for,
};
use serde_json::{Value, json};

use crate::door1::BOUND;

fn mesh(name: &str) -> String {
    format!("mesh: {{name: {name}}}\n")
}

fn revisions(server: &Server, query: &str) -> Result<Value> {
    server.api_get(&format!("/api/v1/revisions{query}"))
}

fn numbers(answer: &Value) -> Vec<u64> {
    let all = answer["revisions"].as_array().into_iter().flatten();
    all.filter_map(|one| one["revision"].as_u64()).collect()
}

/// Writes a mesh file and waits until it is in force.
fn change(server: &Server, name: &str) -> Result<u64> {
    server.write_mesh(&mesh(name))?;
    wait_for("the mesh to be in force", BOUND, || {
        let answer = revisions(server, "").map_err(|error| error.to_string())?;
        match answer["current"]["mesh"] == name {
            true => Ok(answer["current"]["revision"].as_u64().unwrap_or_default()),
            false => Err(answer.to_string()),
        }
    })
}

#[test]
fn revisions_count_on_over_kill_9_and_their_history_is_shown_by_pages() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let artifacts = Artifacts::from_env()?;
    let start =
        |name: &str| Server::start(&artifacts, dir.path(), &mesh(name), &Options::default());
    let mut server = start("m1")?;
    for number in 2..=5_u64 {
        ensure!(change(&server, &format!("m{number}"))? == number);
        server.process().kill()?;
        server = start(&format!("m{number}"))?;
        let answer = revisions(&server, "")?;
        ensure!(answer["current"]["revision"] == number, "{answer}");
    }
    let answer = revisions(&server, "?limit=2")?;
    ensure!(
        numbers(&answer) == [5, 4] && answer["next"] == 4,
        "{answer}"
    );
    let first = &answer["revisions"][0];
    ensure!(
        first["origin"] == "file" && first["author"] == "file",
        "{first}"
    );
    ensure!(
        first["message"]
            .as_str()
            .is_some_and(|said| said.ends_with("mesh.yaml")),
        "{first}"
    );
    let rest = revisions(&server, "?after=4")?;
    ensure!(
        numbers(&rest) == [3, 2, 1] && rest["next"].is_null(),
        "{rest}"
    );
    let refused = revisions(&server, "?limit=101")?;
    ensure!(
        refused["detail"].to_string().contains("from 1 to 100"),
        "{refused}"
    );

    let url = format!("http://{}", server.api);
    let table = server.command(&["history", "--server", &url, "--limit", "3"])?;
    let lines: Vec<&str> = table.lines().collect();
    ensure!(
        lines[1].starts_with("*  5") && lines[3].starts_with("   3"),
        "{table}"
    );
    ensure!(table.contains("--after 3"), "{table}");
    let json = server.command(&["history", "--server", &url, "-o", "json", "--after", "3"])?;
    ensure!(numbers(&serde_json::from_str(&json)?) == [2, 1], "{json}");
    let yaml = server.command(&["history", "--server", &url, "-o", "yaml"])?;
    ensure!(yaml.contains("revisions:"), "{yaml}");

    Ok(())
}

#[test]
fn what_a_revision_said_can_be_shown_and_served_again() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let artifacts = Artifacts::from_env()?;
    let server = Server::start(&artifacts, dir.path(), &mesh("m1"), &Options::default())?;
    ensure!(change(&server, "m2")? == 2);
    let url = format!("http://{}", server.api);
    let old = server.command(&["history", "1", "--server", &url])?;
    ensure!(
        old.starts_with("# revision 1: ") && old.contains("m1"),
        "{old}"
    );
    server.write_mesh(&old)?;
    wait_for("the old mesh to be in force", BOUND, || {
        let answer = revisions(&server, "").map_err(|error| error.to_string())?;
        match answer["current"]["mesh"] == "m1" && answer["current"]["revision"] == 3 {
            true => Ok(()),
            false => Err(answer.to_string()),
        }
    })?;
    let unknown = server.api_get("/api/v1/revisions/7")?;
    ensure!(unknown["status"] == 404 && unknown["detail"].to_string().contains("not kept"));
    Ok(())
}

#[test]
fn what_an_earlier_version_kept_is_served_while_the_file_is_wrong() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let state_dir = dir.path().join("state");
    fs::create_dir(&state_dir)?;
    let last_good = state_dir.join("last-good-mesh.json");
    fs::write(&last_good, json!({"mesh": {"name": "earlier"}}).to_string())?;
    let artifacts = Artifacts::from_env()?;
    let server = Server::start(&artifacts, dir.path(), "mesh: [", &Options::default())?;
    let answer = revisions(&server, "")?;
    ensure!(
        answer["current"]["mesh"] == "earlier" && !answer["refused"].is_null(),
        "{answer}"
    );
    ensure!(!last_good.exists());
    ensure!(change(&server, "now")? == 2);
    Ok(())
}

#[test]
fn a_full_disk_keeps_a_changed_file_waiting_and_what_is_served_goes_on() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let artifacts = Artifacts::from_env()?;
    let mut server = Server::start(&artifacts, dir.path(), &mesh("before"), &Options::default())?;
    server.process().limit_files(Some(4096))?;
    replace(
        server.mesh_file(),
        &format!("{}# {}\n", mesh("after"), "x".repeat(10)),
    )?;
    let told = wait_for("the refusal", BOUND, || {
        let answer = revisions(&server, "").map_err(|error| error.to_string())?;
        match answer["refused"].is_null() {
            true => Err(answer.to_string()),
            false => Ok(answer),
        }
    })?;
    ensure!(told["current"]["mesh"] == "before", "{told}");
    ensure!(told["refused"].to_string().contains("make space"), "{told}");
    server.process().limit_files(None)?;
    wait_for("what waited to come into force", BOUND, || {
        let answer = revisions(&server, "").map_err(|error| error.to_string())?;
        match answer["current"]["mesh"] == "after" && answer["refused"].is_null() {
            true => Ok(()),
            false => Err(answer.to_string()),
        }
    })
    .context("nobody touched the file again")
}
