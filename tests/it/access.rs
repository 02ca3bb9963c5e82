//! Who may do what by the API: asked of the real server, route by route, with every kind of token, over TLS
//! too; and what is kept of who wrote what.

mod audit;
mod tls;

use std::{
    fs,
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::Artifacts,
    http::{Client, Response},
    server::{Options, Server},
    wait::wait_for,
};
use serde_json::Value;

use crate::door1::BOUND;

const MESH: &str = "\
services:
  order-service:
    sidecar: false
    endpoints: [{id: order-1, host: 127.0.0.1, port: 8080}]
gateways:
  edge:
    listen: 127.0.0.1:10000
    routes: [{match: {path_prefix: /orders}, service: order-service}]
";
const APPLY: &str = "/api/v1/resources:apply";
const CLUSTER: &str = r#"{"set": [{"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    "name": "partner", "type": "STATIC", "connect_timeout": "1s"}]}"#;
const ROLES: [&str; 3] = ["viewer", "operator", "admin"];

fn program(arguments: &[&str]) -> Result<Output> {
    let output = Command::new(Artifacts::from_env()?.server)
        .args(arguments)
        .env_remove("MUMBAI_MESH_TOKEN")
        .output()?;
    Ok(output)
}

fn said(arguments: &[&str]) -> Result<String> {
    let output = program(arguments)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?}: {errors}");
    Ok(String::from_utf8(output.stdout)?.trim().to_string())
}

/// A server whose API is as closed as beyond loopback.
struct Closed {
    server: Server,
    dir: tempfile::TempDir,
}

impl Closed {
    fn start(arguments: &[&str]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let arguments = [&["--anonymous-role", "none"], arguments].concat();
        let options = Options {
            arguments: &arguments,
            // But what tells of each line of the log itself, which lies in a folder that is followed.
            log: Some("trace,notify=off"),
            ..Options::default()
        };
        let server = Server::start(&Artifacts::from_env()?, dir.path(), MESH, &options)?;
        Ok(Self { server, dir })
    }

    fn state_dir(&self) -> &str {
        self.server.state_dir().to_str().unwrap_or_default()
    }

    fn token(&self, name: &str, role: &str, more: &[&str]) -> Result<String> {
        let made = [
            "token",
            "create",
            "--name",
            name,
            "--role",
            role,
            "--state-dir",
        ];
        said(&[&made[..], &[self.state_dir()], more].concat())
    }

    fn asked(&self, method: &str, path: &str, token: Option<&str>, body: &str) -> Result<Response> {
        let shown = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<(&str, &[u8])> = shown
            .iter()
            .map(|shown| ("authorization", shown.as_bytes()))
            .collect();
        Client::new(self.server.api).request(method, path, &headers, body.as_bytes())
    }

    /// Until a running server has taken the file up.
    fn wait_for_status(&self, token: &str, status: u16) -> Result<Response> {
        wait_for(&format!("status {status}"), BOUND, || {
            let answer = self.asked("GET", "/services", Some(token), "");
            let answer = answer.map_err(|error| format!("{error:#}"))?;
            if answer.status == status {
                Ok(answer)
            } else {
                Err(format!("{} {answer:?}", answer.status))
            }
        })
    }

    fn audit(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(self.server.state_dir().join("audit.log"))?;
        text.lines()
            .map(|line| Ok(serde_json::from_str(line)?))
            .collect()
    }
}

/// What the program itself says that it serves: method, path with its names filled in, what it needs.
fn routes() -> Result<Vec<(String, String, String)>> {
    let told: Value = serde_json::from_str(&said(&["token", "roles", "-o", "json"])?)?;
    let routes = told["routes"].as_array().context("routes")?;
    ensure!(routes.len() >= 18, "{told:#}");
    let text = |route: &Value, field: &str| -> Result<String> {
        Ok(route[field].as_str().context("text")?.to_string())
    };
    let route = |route: &Value| -> Result<_> {
        let path = text(route, "path")?
            .replace("{node}", "edge")
            .replace("{name}", "edge");
        // An answer that has no end: its head is enough.
        let method = match path.as_str() {
            "/api/v1/events" => "HEAD".into(),
            _ => text(route, "method")?,
        };
        Ok((method, path, text(route, "needs")?))
    };
    routes.iter().map(route).collect()
}

#[test]
fn without_a_token_every_route_is_closed_but_those_that_say_whether_the_server_is_well()
-> Result<()> {
    let closed = Closed::start(&[])?;
    let mut open = Vec::new();
    let unknown = [
        ("GET", "/no/such/path"),
        ("DELETE", "/services"),
        ("GET", "/"),
        ("PUT", APPLY),
    ];
    let unknown =
        unknown.map(|(method, path)| (method.to_string(), path.to_string(), "viewer".into()));
    for (method, path, needs) in routes()?.into_iter().chain(unknown) {
        for token in [None, Some("mmt_wrong")] {
            let answer = closed.asked(&method, &path, token, "{}")?;
            if needs == "none" {
                ensure!(answer.status == 200, "{method} {path}: {}", answer.status);
                open.push(path.clone());
                continue;
            }
            ensure!(answer.status == 401, "{method} {path}: {}", answer.status);
            let challenge = answer.header("www-authenticate").unwrap_or_default();
            ensure!(challenge.starts_with(b"Bearer "), "{method} {path}");
            if method != "HEAD" {
                let kind = answer.header("content-type");
                ensure!(kind == Some(b"application/problem+json"), "{method} {path}");
                let detail = answer.json()?["detail"].to_string();
                ensure!(detail.contains("token"), "{detail}");
            }
        }
    }
    open.dedup();
    ensure!(open == ["/healthz", "/readyz"], "{open:?}");
    let other =
        Client::new(closed.server.api).get("/services", &[("authorization", b"Basic YTpi")])?;
    ensure!(other.status == 401, "{}", other.status);
    ensure!(
        !closed.server.state_dir().join("audit.log").exists(),
        "strangers are audited"
    );
    let metrics = closed.token("metrics", "viewer", &[])?;
    closed.wait_for_status(&metrics, 200)?;
    let page = closed.asked("GET", "/metrics", Some(&metrics), "")?;
    let page = String::from_utf8(page.body)?;
    ensure!(
        page.contains("mumbai_mesh_api_refused_total{reason=\"bad_token\"}"),
        "{page}"
    );
    Ok(())
}

#[test]
fn each_role_may_do_what_the_table_says_and_no_more() -> Result<()> {
    let closed = Closed::start(&[])?;
    let tokens: Vec<String> = ROLES
        .iter()
        .map(|role| closed.token(&format!("a-{role}"), role, &[]))
        .collect::<Result<_>>()?;
    for token in &tokens {
        closed.wait_for_status(token, 200)?;
    }
    for (method, path, needs) in routes()? {
        let least = ROLES.iter().position(|role| *role == needs).unwrap_or(0);
        for (has, token) in tokens.iter().enumerate() {
            let answer = closed.asked(&method, &path, Some(token), "{}")?;
            let may = has >= least;
            let denied = matches!(answer.status, 401 | 403);
            ensure!(
                may != denied,
                "{method} {path} as {}: {}",
                ROLES[has],
                answer.status
            );
            if denied {
                ensure!(answer.status == 403, "{}", answer.status);
                let detail = answer.json()?["detail"].to_string();
                ensure!(detail.contains(&format!("--role {needs}")), "{detail}");
            }
        }
    }
    let unknown = closed.asked("GET", "/no/such/path", Some(&tokens[0]), "")?;
    ensure!(unknown.status == 404, "{}", unknown.status);
    Ok(())
}

#[test]
fn what_is_opened_to_everybody_is_looking_alone_and_no_web_page_gets_it() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let options = Options {
        arguments: &["--anonymous-role", "viewer", "--api-host", "mesh.example"],
        ..Options::default()
    };
    let server = Server::start(&Artifacts::from_env()?, dir.path(), MESH, &options)?;
    for (method, path, needs) in routes()? {
        let answer = Client::new(server.api).request(&method, &path, &[], b"{}")?;
        let denied = matches!(answer.status, 401 | 403);
        let may = matches!(needs.as_str(), "none" | "viewer");
        ensure!(may != denied, "{method} {path}: {}", answer.status);
    }
    let ours = format!("http://{}", server.api);
    for (headers, status) in [
        (vec![("host", "mesh.example:8088")], 200),
        (vec![("host", "evil.example")], 403),
        (
            vec![("host", "evil.example"), ("origin", "http://evil.example")],
            403,
        ),
        (vec![("origin", "http://evil.example")], 403),
        (vec![("origin", "null")], 403),
        (vec![("origin", ours.as_str())], 200),
    ] {
        let sent: Vec<(&str, &[u8])> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect();
        let answer = Client::new(server.api).get("/api/v1/revisions", &sent)?;
        ensure!(answer.status == status, "{headers:?}: {}", answer.status);
        // Whoever asks whether it is well may call it as they like.
        ensure!(Client::new(server.api).get("/healthz", &sent)?.status == 200);
    }
    Ok(())
}

#[test]
fn a_token_is_good_from_its_making_to_its_end_and_its_revocation_while_the_server_runs()
-> Result<()> {
    let closed = Closed::start(&[])?;
    let kept = closed.token("kept", "viewer", &["--expires", "90d"])?;
    let brief = closed.token("brief", "viewer", &["--expires", "3s"])?;
    closed.wait_for_status(&kept, 200)?;
    let ended = closed.wait_for_status(&brief, 401)?;
    let detail = ended.json()?["detail"].to_string();
    ensure!(detail.contains("brief expired at"), "{detail}");

    let state_dir = closed.state_dir();
    let listed: Value = serde_json::from_str(&said(&[
        "token",
        "list",
        "--state-dir",
        state_dir,
        "-o",
        "json",
    ])?)?;
    let states: Vec<&Value> = listed["tokens"]
        .as_array()
        .context("tokens")?
        .iter()
        .collect();
    ensure!(
        states.len() == 2 && states[0]["state"] == "valid" && states[1]["state"] == "expired",
        "{listed:#}"
    );
    let table = said(&["token", "list", "--state-dir", state_dir])?;
    ensure!(table.contains("NAME") && table.contains("kept"), "{table}");

    let twice = program(&[
        "token",
        "create",
        "--name",
        "kept",
        "--role",
        "admin",
        "--state-dir",
        state_dir,
    ])?;
    ensure!(twice.status.code() == Some(64) && twice.stdout.is_empty());
    said(&["token", "revoke", "kept", "--state-dir", state_dir])?;
    let revoked = closed.wait_for_status(&kept, 401)?;
    let detail = revoked.json()?["detail"].to_string();
    ensure!(detail.contains("revoked"), "{detail}");
    let unknown = program(&["token", "revoke", "kept", "--state-dir", state_dir])?;
    ensure!(unknown.status.code() == Some(64));

    // A file that is broken while the server runs leaves the tokens that were good last.
    let last = closed.token("last", "viewer", &[])?;
    closed.wait_for_status(&last, 200)?;
    fs::write(closed.server.state_dir().join("tokens.json"), "{")?;
    wait_for("the problem in the log", BOUND, || {
        match closed.server.log().contains("the tokens cannot be read") {
            true => Ok(()),
            false => Err("not yet".into()),
        }
    })?;
    closed.wait_for_status(&last, 200)?;
    Ok(())
}

#[test]
fn tokens_that_are_copied_to_another_server_hold_there_too() -> Result<()> {
    let [one, other] = [Closed::start(&[])?, Closed::start(&[])?];
    let token = one.token("ci", "viewer", &[])?;
    one.wait_for_status(&token, 200)?;
    let refused = other.wait_for_status(&token, 401)?;
    let detail = refused.json()?["detail"].to_string();
    for word in ["another server", "tokens.json", "token create"] {
        ensure!(detail.contains(word), "{word}: {detail}");
    }
    let copied = || -> Result<()> {
        let file = |closed: &Closed| closed.server.state_dir().join("tokens.json");
        let mut install = Command::new("install");
        let done = install
            .args(["-m", "0600"])
            .args([file(&one), file(&other)])
            .status()?;
        ensure!(done.success());
        Ok(())
    };
    copied()?;
    other.wait_for_status(&token, 200)?;
    said(&["token", "revoke", "ci", "--state-dir", one.state_dir()])?;
    copied()?;
    other.wait_for_status(&token, 401)?;
    Ok(())
}
