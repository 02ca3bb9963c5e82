//! `apply`: acknowledged by every proxy, or rolled back.

use std::{net::TcpListener, path::PathBuf};

use anyhow::{Result, ensure};
use harness::{http::Client, ports::free_port, wait::wait_for};
use serde_json::json;

use super::{done, file, refused, revisions, run, text, wait_for_split};
use crate::{
    door1::BOUND,
    mesh::{Mesh, wait_until_serves},
};

#[test]
fn what_every_proxy_acknowledges_stays_and_what_one_rejects_is_rolled_back() -> Result<()> {
    let mesh = Mesh::start_applied(None, |_| {})?;
    wait_for_split(&mesh, 10)?;
    let good = file(
        &mesh,
        "good.yaml",
        &mesh.file.text().replace("weight: 10", "weight: 25"),
    )?;
    let good = text(&good)?;
    let told = done(&mesh, &["apply", good, "--wait", "--reason", "more users"])?;
    for words in [
        "order-service: canary v2 10 % -> 25 %",
        "revision 2 is in force",
        "1 connected proxy has acknowledged it",
    ] {
        ensure!(told.contains(words), "no {words:?}: {told}");
    }
    wait_for_split(&mesh, 25)?;
    let again = done(&mesh, &["apply", good, "--wait"])?;
    ensure!(
        again.starts_with("nothing new: revision 2 is in force"),
        "{again}"
    );

    // Nobody else can listen there.
    let held = TcpListener::bind("127.0.0.1:0")?;
    let taken = held.local_addr()?.to_string();
    let listen = format!("127.0.0.1:{}", mesh.file.gateway_port);
    let bad = std::fs::read_to_string(good)?.replace(&listen, &taken);
    let bad = file(&mesh, "bad.yaml", &bad)?;
    let told = refused(&mesh, &["apply", text(&bad)?, "--wait=60s"])?;
    for words in [
        "revision 3 was rejected by Envoys; revision 4 says what was in force before",
        "edge rejects LDS edge: ",
        &taken,
    ] {
        ensure!(told.contains(words), "no {words:?}: {told}");
    }
    drop(held);
    let answer = revisions(&mesh)?;
    ensure!(answer["current"]["revision"] == 4, "{answer:#}");
    let message = answer["revisions"][0]["message"].to_string();
    ensure!(
        message.contains("automatic rollback of 3: edge rejects"),
        "{message}"
    );
    wait_for_split(&mesh, 25)?;
    let same = done(&mesh, &["diff", "2", "4"])?;
    ensure!(same == "nothing differs\n", "{same}");
    Ok(())
}

/// The mesh's file, its gateway at another address: that is rejected where somebody listens there already.
fn listening_at(mesh: &Mesh, name: &str, address: &str) -> Result<PathBuf> {
    let listen = format!("127.0.0.1:{}", mesh.file.gateway_port);
    file(mesh, name, &mesh.file.text().replace(&listen, address))
}

fn wait_until_rejected(mesh: &Mesh, words: &str) -> Result<()> {
    wait_for("the gateway to reject it", BOUND, || {
        let proxies = mesh.server.api_get("/api/v1/proxies");
        let said = proxies.map_err(|error| format!("{error:#}"))?.to_string();
        match said.contains("REJECTED") && said.contains(words) {
            true => Ok(()),
            false => Err(said),
        }
    })
}

#[test]
fn what_an_envoy_rejected_before_is_held_against_no_change() -> Result<()> {
    let mesh = Mesh::start_applied(None, |_| {})?;
    let (held, other) = (
        TcpListener::bind("127.0.0.1:0")?,
        TcpListener::bind("127.0.0.1:0")?,
    );
    let (taken, also_taken) = (
        held.local_addr()?.to_string(),
        other.local_addr()?.to_string(),
    );
    let bad = listening_at(&mesh, "bad.yaml", &taken)?;
    let worse = listening_at(&mesh, "worse.yaml", &also_taken)?;
    for round in 0..3 {
        done(&mesh, &["apply", text(&bad)?])?;
        wait_until_rejected(&mesh, &taken)?;
        let free = format!("127.0.0.1:{}", free_port());
        let mended = listening_at(&mesh, "mended.yaml", &free)?;
        let told = done(&mesh, &["apply", text(&mended)?, "--wait=60s"])?;
        ensure!(
            told.contains("1 connected proxy has acknowledged it"),
            "round {round}: {told}"
        );
        wait_until_serves(free.parse()?)?;

        done(&mesh, &["apply", text(&bad)?])?;
        wait_until_rejected(&mesh, &taken)?;
        done(&mesh, &["rollback", "1", "--wait=60s"])?;
        mesh.wait_until_served()?;
    }
    // What it rejects anew is, and what was in force comes back, though that is no better.
    done(&mesh, &["apply", text(&bad)?])?;
    wait_until_rejected(&mesh, &taken)?;
    let told = refused(&mesh, &["apply", text(&worse)?, "--wait=60s"])?;
    ensure!(
        told.contains(&also_taken) && !told.contains(&taken),
        "{told}"
    );
    let same = done(&mesh, &["apply", text(&bad)?])?;
    ensure!(same.starts_with("nothing new"), "{same}");
    Ok(())
}

#[test]
fn a_change_is_tried_and_counts_only_while_the_revision_is_the_one_that_was_seen() -> Result<()> {
    let mesh = Mesh::start_applied(None, |_| {})?;
    let newer = mesh.file.text().replace("weight: 10", "weight: 50");
    let path = file(&mesh, "newer.yaml", &newer)?;
    let path = text(&path)?;
    let (code, told, _) = run(&mesh, &["apply", path, "--dry-run"])?;
    ensure!(
        code == Some(2) && told.contains("~ ECDS mumbai_mesh"),
        "{code:?} {told}"
    );
    let told = refused(&mesh, &["apply", path, "--if-match", "7"])?;
    ensure!(told.contains("If-Match: revision 1 is in force"), "{told}");
    ensure!(
        revisions(&mesh)?["current"]["revision"] == 1,
        "something was changed"
    );

    let mut client = Client::new(mesh.server.api);
    let seen = client.get("/api/v1/revisions", &[])?;
    let tag = seen.header("etag").map(<[u8]>::to_vec).unwrap_or_default();
    ensure!(tag == b"\"1\"", "{tag:?}");
    for (tag, status) in [(&b"\"9\""[..], 412), (&b"1"[..], 412), (&tag[..], 200)] {
        let headers = [("if-match", tag)];
        let answer = client.request("POST", "/api/v1/apply", &headers, newer.as_bytes())?;
        ensure!(
            answer.status == status,
            "{tag:?}: {} {:?}",
            answer.status,
            answer.json()?
        );
    }
    let first = client.get("/api/v1/revisions", &[])?;
    ensure!(first.header("etag") == Some(&b"\"2\""[..]));
    for (body, words) in [
        ("services: [", "line"),
        ("services: {a: {porrt: 1}}", "porrt"),
        ("include: [x.yaml]", "include"),
    ] {
        let (status, answer) = mesh.server.api_post("/api/v1/apply", body.as_bytes())?;
        ensure!(status == 400, "{body}: {status} {answer:#}");
        ensure!(
            answer.to_string().contains(words) || words == "line",
            "{answer:#}"
        );
    }
    for query in ["wait=0s", "force=true", "reason=", "dry=1"] {
        let path = format!("/api/v1/apply?{query}");
        let (status, answer) = mesh.server.api_post(&path, newer.as_bytes())?;
        ensure!(status == 400, "{query}: {status} {answer:#}");
    }
    ensure!(
        revisions(&mesh)?["current"]["revision"] == 2,
        "something was changed"
    );
    Ok(())
}

fn wait_until_known(mesh: &Mesh, token: &str) -> Result<()> {
    wait_for("the token to be known", BOUND, || {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_bytes())];
        let answer = Client::new(mesh.server.api).get("/services", &headers);
        let answer = answer.map_err(|error| format!("{error:#}"))?;
        match answer.status {
            200 => Ok(()),
            other => Err(other.to_string()),
        }
    })
}

#[test]
fn revisions_have_the_name_of_the_token_that_made_them() -> Result<()> {
    let mesh = Mesh::start_applied(None, |_| {})?;
    let dir = mesh.server.state_dir().to_string_lossy().into_owned();
    let token = mesh.server.command(&[
        "token",
        "create",
        "--name",
        "alice",
        "--role",
        "operator",
        "--state-dir",
        &dir,
    ])?;
    let token = token.trim();
    wait_until_known(&mesh, token)?;
    let newer = file(
        &mesh,
        "newer.yaml",
        &mesh.file.text().replace("weight: 10", "weight: 11"),
    )?;
    done(
        &mesh,
        &[
            "apply",
            text(&newer)?,
            "--token",
            token,
            "--message",
            "a bit more",
        ],
    )?;
    let shown = &revisions(&mesh)?["revisions"][0];
    ensure!(
        (&shown["author"], &shown["origin"], &shown["message"])
            == (&json!("alice"), &json!("api"), &json!("a bit more")),
        "{shown:#}"
    );
    let cluster = json!({"set": [{
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": "raw", "connect_timeout": "1s",
    }]});
    let bearer = format!("Bearer {token}");
    let answer = Client::new(mesh.server.api).request(
        "POST",
        "/api/v1/resources:apply?reason=INC-7",
        &[("authorization", bearer.as_bytes())],
        cluster.to_string().as_bytes(),
    )?;
    ensure!(answer.status == 200, "{:?}", answer.json()?);
    let raw = mesh.server.api_get("/api/v1/revisions?of=resources")?;
    let shown = &raw["revisions"][0];
    ensure!(shown["author"] == "alice", "{raw:#}");
    ensure!(shown["message"].to_string().contains("INC-7"), "{raw:#}");
    let table = done(&mesh, &["history", "--resources"])?;
    ensure!(
        table
            .lines()
            .any(|line| line.starts_with("*  1") && line.contains("alice")),
        "{table}"
    );
    Ok(())
}
