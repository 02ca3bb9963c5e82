//! Canaries by hand, as the users of a gateway live them.

use anyhow::{Result, ensure};
use harness::{
    artifacts::Artifacts,
    http::Client,
    server::{Options, Server},
};
use serde_json::{Value, json};

use super::{done, refused, revisions, wait_for_split};
use crate::mesh::Mesh;

#[test]
fn a_canary_is_started_set_aborted_resumed_and_promoted_by_hand() -> Result<()> {
    let mut mesh = Mesh::start_applied(None, |file| file.with_canary = false)?;
    let none = done(&mesh, &["canary", "status"])?;
    ensure!(none == "no canaries\n", "{none}");
    let told = refused(&mesh, &["canary", "set", "order-service", "5"])?;
    ensure!(told.contains("order-service has no canary"), "{told}");
    let told = refused(&mesh, &["canary", "start", "order-service", "v9", "5"])?;
    ensure!(
        told.contains("no endpoint of order-service has version: v9"),
        "{told}"
    );

    let start = [
        "canary",
        "start",
        "order-service",
        "v2",
        "10",
        "--sticky-by",
        "x-user-id",
        "--wait",
    ];
    let told = done(&mesh, &start)?;
    ensure!(
        told.contains("1 connected proxy has acknowledged it"),
        "{told}"
    );
    ensure!(
        told.contains("order-service  v2       running  10 %"),
        "{told}"
    );
    wait_for_split(&mesh, 10)?;
    done(&mesh, &["canary", "set", "order-service", "25"])?;
    wait_for_split(&mesh, 25)?;
    done(
        &mesh,
        &["canary", "pause", "order-service", "--reason", "looking"],
    )?;
    done(
        &mesh,
        &["canary", "abort", "order-service", "--reason", "errors"],
    )?;
    wait_for_split(&mesh, 0)?;
    mesh.kill_server(None, true)?;
    let told = done(&mesh, &["canary", "status", "order-service"])?;
    ensure!(
        told.contains("aborted  0 %") && told.contains(": errors"),
        "{told}"
    );
    wait_for_split(&mesh, 0)?;
    done(&mesh, &["canary", "resume", "order-service", "--wait"])?;
    wait_for_split(&mesh, 25)?;
    let before = revisions(&mesh)?["current"]["revision"].clone();
    done(&mesh, &["canary", "promote", "order-service", "--wait"])?;
    wait_for_split(&mesh, 100)?;
    let history = done(&mesh, &["history"])?;
    for words in [
        "canary of order-service: start v2 at 10 %",
        "canary of order-service: set to 25 %",
        "canary of order-service: pause (looking)",
        "canary of order-service: promote",
    ] {
        ensure!(history.contains(words), "no {words:?}: {history}");
    }
    // And back, as it was.
    done(&mesh, &["rollback", &before.to_string(), "--wait"])?;
    wait_for_split(&mesh, 25)
}

#[test]
fn where_the_file_says_what_the_canary_is_people_still_stop_it() -> Result<()> {
    let mut mesh = Mesh::start(|_| {})?;
    wait_for_split(&mesh, 10)?;
    for verb in [
        &["start", "order-service", "v2", "20"][..],
        &["set", "order-service", "20"],
        &["promote", "order-service"],
    ] {
        let told = refused(&mesh, &[&["canary"], verb].concat())?;
        ensure!(
            told.contains("services.order-service.canary is the file's (")
                && told.contains("mesh.yaml:"),
            "{verb:?}: {told}"
        );
    }
    done(
        &mesh,
        &[
            "canary",
            "abort",
            "order-service",
            "--reason",
            "errors",
            "--wait",
        ],
    )?;
    wait_for_split(&mesh, 0)?;
    mesh.kill_server(None, false)?;
    let told = done(&mesh, &["canary", "status"])?;
    ensure!(
        told.contains("aborted  0 %") && told.contains("mesh.yaml:"),
        "{told}"
    );
    let explained = done(&mesh, &["explain", "--service", "order-service"])?;
    ensure!(
        explained.contains("canary v2: aborted at ") && explained.contains("errors"),
        "{explained}"
    );
    // Something else in the file leaves it alone; its own fields end it.
    mesh.change(|file| file.breaker = "{consecutive_failures: 7}")?;
    wait_for_split(&mesh, 0)?;
    mesh.change(|file| file.weight = "15")?;
    wait_for_split(&mesh, 15)?;
    done(&mesh, &["canary", "pause", "order-service"])?;
    let told = done(&mesh, &["canary", "status"])?;
    ensure!(told.contains("paused"), "{told}");
    done(&mesh, &["canary", "resume", "order-service"])?;
    wait_for_split(&mesh, 15)
}

#[test]
fn beside_a_file_that_says_nothing_of_it_a_canary_is_the_apis() -> Result<()> {
    let mut mesh = Mesh::start(|file| file.with_canary = false)?;
    let body = br#"{"version": "v2", "weight": 10, "sticky_by": {"header": "x-user-id"}}"#;
    let (status, answer) = mesh
        .server
        .api_post("/api/v1/canaries/order-service/start", body)?;
    ensure!(
        status == 200 && answer["canary"]["owner"] == "api",
        "{status} {answer:#}"
    );
    wait_for_split(&mesh, 10)?;
    mesh.kill_server(None, false)?;
    mesh.change(|file| file.breaker = "{consecutive_failures: 7}")?;
    wait_for_split(&mesh, 10)?;
    for (path, body, status) in [
        ("order-service/set", "{\"weight\": 101}", 400),
        ("order-service/set", "{\"weigth\": 1}", 400),
        ("order-service/set", "[", 400),
        ("order-service/stop", "", 404),
        ("nobody/abort", "", 404),
    ] {
        let (found, answer) = mesh
            .server
            .api_post(&format!("/api/v1/canaries/{path}"), body.as_bytes())?;
        ensure!(found == status, "{path} {body}: {found} {answer:#}");
    }
    // The file's word is the last.
    mesh.change(|file| {
        file.with_canary = true;
        file.weight = "40";
    })?;
    wait_for_split(&mesh, 40)
}

/// The file names the stable endpoints alone; those of the new version register.
#[test]
fn a_canary_may_begin_with_endpoints_that_registered_and_outlives_them() -> Result<()> {
    const MESH: &str = "\
services:
  orders:
    sidecar: false
    endpoints: [{id: o-1, host: 10.0.0.1, port: 80, version: v1}]
";
    let dir = tempfile::tempdir()?;
    let start = |mesh: &str| {
        let artifacts = Artifacts::from_env()?;
        Server::start(&artifacts, dir.path(), mesh, &Options::default())
    };
    let mut server = start(MESH)?;
    let begin = |server: &Server, version: &str| {
        let body = json!({"version": version, "weight": 10}).to_string();
        server.api_post("/api/v1/canaries/orders/start", body.as_bytes())
    };
    let (status, answer) = begin(&server, "v2")?;
    ensure!(
        status == 400
            && answer
                .to_string()
                .contains("no endpoint of orders has version: v2"),
        "{status} {answer:#}"
    );
    let instance = "/api/v1/instances/orders/o-2";
    let body = br#"{"host": "10.0.0.2", "port": 80, "version": "v2", "ttl": "1h"}"#;
    let made = Client::new(server.api).request("PUT", instance, &[], body)?;
    ensure!(made.status == 201, "{:#}", made.json()?);
    let (status, answer) = begin(&server, "v2")?;
    ensure!(
        status == 200 && answer["canary"]["endpoints"] == 1,
        "{status} {answer:#}"
    );
    ensure!(begin(&server, "v3")?.0 == 409, "another one runs");
    let weight = |server: &Server| -> Result<Value> {
        Ok(server.api_get("/api/v1/canaries/orders")?["weight"].clone())
    };
    // A start reads it before anybody knows who registered; a file that changes keeps it.
    server.process().kill()?;
    let changed = MESH.replace("sidecar: false", "sidecar: false\n    timeout: 3s");
    let server = start(&changed)?;
    ensure!(weight(&server)? == 10);
    ensure!(server.api_get("/api/v1/revisions")?["current"]["revision"] == 3);
    // Whoever leaves takes nothing along, and what helps is not refused for it.
    let gone = Client::new(server.api).request("DELETE", instance, &[], b"")?;
    ensure!(gone.status == 204, "{}", gone.status);
    let said = br#"{"kind": "bypass", "for": "1h", "reason": "v2 is gone"}"#;
    let (status, answer) = server.api_post("/api/v1/services/orders/override", said)?;
    ensure!(status == 200, "{status} {answer:#}");
    ensure!(weight(&server)? == 10);
    let (status, answer) = server.api_post("/api/v1/canaries/orders/abort", b"")?;
    ensure!(
        status == 200 && weight(&server)? == 0,
        "{status} {answer:#}"
    );
    Ok(())
}
