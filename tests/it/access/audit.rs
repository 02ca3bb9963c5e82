//! What is kept of who wrote what.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{APPLY, CLUSTER, Closed};

#[test]
fn each_write_is_audited_with_who_and_from_which_revision_and_no_token_is_kept_anywhere()
-> Result<()> {
    let closed = Closed::start(&[])?;
    let viewer = closed.token("asha", "viewer", &[])?;
    let operator = closed.token("ci", "operator", &[])?;
    closed.wait_for_status(&operator, 200)?;
    let apply = |token: &str, path: &str, body: &str| -> Result<u16> {
        Ok(closed.asked("POST", path, Some(token), body)?.status)
    };
    let dry = format!("{APPLY}?dry_run=true");
    ensure!(apply(&operator, &dry, CLUSTER)? == 200);
    ensure!(apply(&operator, APPLY, CLUSTER)? == 200);
    ensure!(apply(&viewer, APPLY, CLUSTER)? == 403);
    ensure!(apply(&operator, APPLY, "{\"sot\": []}")? == 400);
    ensure!(apply("mmt_stranger", APPLY, CLUSTER)? == 401);

    let lines = closed.audit()?;
    let told: Vec<Value> = lines
        .iter()
        .map(|line| {
            json!([
                line["token"],
                line["role"],
                line["status"],
                line["before"]["resources"],
                line["after"]["resources"]
            ])
        })
        .collect();
    ensure!(
        json!(told)
            == json!([
                ["ci", "operator", 200, 0, 1],
                ["asha", "viewer", 403, 1, 1],
                ["ci", "operator", 400, 1, 1],
            ]),
        "{lines:#?}"
    );
    let first = &lines[0];
    ensure!(
        first["method"] == "POST" && first["path"] == APPLY,
        "{first:#}"
    );
    ensure!(
        first["summary"] == "resources set or removed: 1",
        "{first:#}"
    );
    let peer = first["peer"].as_str().context("peer")?;
    ensure!(peer.starts_with("127.0.0.1:"), "{first:#}");
    let at: jiff::Timestamp = first["at"].as_str().context("at")?.parse()?;
    ensure!(at.as_second() > 0, "{first:#}");
    let log = closed.server.log();
    ensure!(
        log.contains("\"token\":\"ci\""),
        "the audit is not in the log"
    );
    for secret in [&viewer, &operator] {
        ensure!(!log.contains(secret.as_str()), "a token is in the log");
        for file in ["audit.log", "tokens.json"] {
            let text = fs::read_to_string(closed.server.state_dir().join(file))?;
            ensure!(!text.contains(secret.as_str()), "a token is in {file}");
        }
    }
    Ok(())
}

#[test]
fn revisions_of_instances_carry_the_name_of_the_token_that_made_them() -> Result<()> {
    let closed = Closed::start(&[])?;
    let (ci, ops) = (
        closed.token("ci", "operator", &[])?,
        closed.token("ops", "operator", &[])?,
    );
    for token in [&ci, &ops] {
        closed.wait_for_status(token, 200)?;
    }
    let path = "/api/v1/instances/order-service/x";
    let body = r#"{"host": "10.0.1.7", "port": 80, "ttl": "1h"}"#;
    let made = closed.asked("PUT", path, Some(&ci), body)?;
    ensure!(made.status == 201, "{}", made.status);
    let drained = closed.asked("POST", &format!("{path}/drain"), Some(&ops), "")?;
    ensure!(drained.status == 200, "{}", drained.status);
    let page = closed.asked("GET", "/api/v1/revisions?of=instances", Some(&ops), "")?;
    let page = page.json()?;
    let told = |at: usize| {
        let one = &page["revisions"][at];
        let text = |field: &str| one[field].as_str().unwrap_or_default().to_string();
        (text("author"), text("message"))
    };
    ensure!(
        told(0) == ("ops".into(), "drain order-service/x".into()),
        "{page:#}"
    );
    ensure!(
        told(1) == ("ci".into(), "register order-service/x".into()),
        "{page:#}"
    );
    ensure!(page["newest"] == 2 && page["left_off"] == 0, "{page:#}");
    Ok(())
}
