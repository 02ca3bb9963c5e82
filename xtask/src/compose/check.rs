//! What the second door promises, asked of the real thing: README's commands, the test from inside, an outage of the
//! server, and an end that leaves nothing.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use harness::{http::Client, prometheus::wait_for_query, readme};
use serde_json::Value;

use super::{outage, project::Project};
use crate::{progress::Progress, run};

pub const GATEWAY: SocketAddr = local(10_000);
pub const API: SocketAddr = local(8088);
const PROMETHEUS: SocketAddr = local(9090);
/// Prometheus looks every 5 s, and rates need two looks.
const BOUND: Duration = Duration::from_secs(30);
const DASHBOARDS: &str = "envoy/examples/compose/grafana/dashboards";

const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

pub fn everything(project: &Project<'_>, progress: &Progress) -> Result<()> {
    loopback_only(project)?;
    let commands = readme::door("With docker compose")?;
    let [up, asked @ .., down] = commands.as_slice() else {
        bail!("README's second door has no commands");
    };
    ensure!(
        commands.len() <= 5,
        "more than five commands: {commands:#?}"
    );
    ensure!(up.starts_with("docker compose up "), "{up}");
    ensure!(down.starts_with("docker compose down "), "{down}");
    let began = Instant::now();
    project.shell(up)?;
    println!("ok      {up} ({:.1} s)", began.elapsed().as_secs_f64());
    for command in asked {
        answers(command, &project.shell(command)?).with_context(|| command.clone())?;
        println!("ok      {command}");
    }
    run::loud(&mut project.compose(&["run", "--rm", "-T", "black-box"]))?;
    println!("ok      the test from inside");
    token(project)?;
    println!("ok      who shows a token may write");
    let panels = dashboards()?;
    println!("ok      {panels} expressions of dashboards find something");
    outage::cross_an_edge(project, progress)?;
    run::silent(&mut project.compose(&["stop"]))?;
    for (service, code) in project.exit_codes()? {
        ensure!(code == 0, "{service} ended with {code} when it was stopped");
    }
    println!("ok      all of it ends in order when it is stopped");
    project.shell(down)?;
    let left = project.left()?;
    ensure!(left.is_empty(), "{down} left {left:?}");
    println!("ok      {down} leaves nothing");
    Ok(())
}

fn loopback_only(project: &Project<'_>) -> Result<()> {
    let published = project.published()?;
    ensure!(published.len() > 5, "{published:?}");
    for address in &published {
        ensure!(
            address.starts_with("127.0.0.1:"),
            "{address} is published beyond loopback"
        );
    }
    println!(
        "ok      published on loopback alone: {}",
        published.join(", ")
    );
    Ok(())
}

/// What a command of README's is answered.
fn answers(command: &str, said: &str) -> Result<()> {
    let json = || -> Result<Value> { serde_json::from_str(said).with_context(|| said.to_owned()) };
    if command.contains("/health") {
        ensure!(said.trim() == "ok", "{said:?}");
    } else if command.contains("/orders") {
        let answer = json()?;
        ensure!(answer["service"] == "order-service", "{answer}");
    } else if command.contains("/services") {
        let services = json()?["services"].as_array().map(Vec::len);
        ensure!(services == Some(3), "{said}");
    } else if command.contains("/api/metrics") {
        let states = ["normal", "peak_hour", "festival"];
        let state = json()?["traffic_state"].as_str().map(String::from);
        ensure!(
            state.is_some_and(|state| states.contains(&state.as_str())),
            "{said}"
        );
    } else {
        bail!("nothing is known of this command's answer: {said}");
    }
    Ok(())
}

/// Writes an override twice: the test from inside saw that it is refused without a token.
fn token(project: &Project<'_>) -> Result<()> {
    const BODY: &[u8] = br#"{"kind": "observe", "for": "10m", "reason": "a rehearsal"}"#;
    const PATH: &str = "/api/v1/services/ledger-service/override";
    let mut create = project.compose(&["exec", "-T", "controlplane", "mumbai-mesh", "token"]);
    create.args(["create", "--name", "check", "--role", "operator"]);
    let said = run::text(create.args(["--state-dir", "/var/lib/mumbai-mesh/state"]))?;
    let bearer = format!("Bearer {}", said.trim());
    let headers = [("authorization", bearer.as_bytes())];
    let answer = Client::new(API).request("POST", PATH, &headers, BODY)?;
    let told = String::from_utf8_lossy(&answer.body);
    ensure!(
        (200..300).contains(&answer.status),
        "{}: {told}",
        answer.status
    );
    Ok(())
}

/// Runs every expression of every dashboard, and counts them.
fn dashboards() -> Result<usize> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(DASHBOARDS);
    let mut count = 0;
    for entry in fs::read_dir(folder)? {
        let text = fs::read_to_string(entry?.path())?;
        let dashboard: Value = serde_json::from_str(&text)?;
        let panels = dashboard["panels"].as_array().context("no panels")?;
        let targets = panels
            .iter()
            .filter_map(|panel| panel["targets"].as_array());
        for target in targets.flatten() {
            let expression = target["expr"].as_str().context("no expr")?;
            let expression = expression.replace("$__rate_interval", "1m");
            wait_for_query(PROMETHEUS, &expression, BOUND, |found| !found.is_empty())?;
            count += 1;
        }
    }
    ensure!(count > 0, "no expressions");
    Ok(count)
}
