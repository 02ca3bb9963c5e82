//! What the API refuses of instances, and what it keeps of what it takes.

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::Artifacts,
    http::{Client, Response},
    server::{Options, Server},
};

use super::{LIST, ask, beat, path};

const MESH: &str = "\
services:
  order-service:
    sidecar: false
    endpoints: [{id: f, host: 10.0.0.9, port: 80}]
";

/// Method, path below `/api/v1/instances`, body, status, and what is said.
const REFUSED: &str = r#"
PUT    | /order-service/f           | {"host": "10.0.0.1", "port": 80} | 409 | services.order-service.endpoints[0] belongs to the mesh file
DELETE | /order-service/f           |                                  | 409 | belongs to the mesh file
POST   | /order-service/f/drain     |                                  | 409 | belongs to the mesh file
POST   | /order-service/f/heartbeat |                                  | 409 | belongs to the mesh file
PUT    | /order-service/x           | {"host": "10.0.0.9", "port": 80} | 409 | endpoints[0] belongs to the mesh file
PUT    | /nobody/x                  | {"host": "10.0.0.1", "port": 80} | 404 | known services: order-service
PUT    | /order-service/x           | {"host": "10.0.0.1", "prot": 80} | 400 | nothing was registered: port: must be given
PUT    | /order-service/x           | {"host": "10.0.0.1", "port": 80, "ttl": "0s"} | 400 | from 1s to 1h
PUT    | /order-service/x           | {"host": "0.0.0.0", "port": 80}  | 400 | as callers reach it
PUT    | /order-service/x           | {"host": "names.in", "port": 80} | 400 | in one way
PUT    | /order-service/x           | {                                | 400 | EOF
PUT    | /order-service/a%20b       | {"host": "10.0.0.1", "port": 80} | 400 | id: must be
PUT    | /order-service/x?dry=1     | {"host": "10.0.0.1", "port": 80} | 400 | known: dry_run
DELETE | /order-service/x           |                                  | 404 | register it with PUT
POST   |                            | {"id": "x"}                      | 400 | service: must be given
POST   | :release                   | {"service": "order-service"}     | 409 | nobody has vanished
POST   | :release                   | {"service": "nobody"}            | 404 | known services
POST   | :release                   | {}                               | 400 | known: service, id
GET    | ?limit=0                   |                                  | 400 | from 1 to 10000
GET    | ?state=wrong               |                                  | 400 | vanished
"#;

fn start(dir: &std::path::Path) -> Result<Server> {
    Server::start(&Artifacts::from_env()?, dir, MESH, &Options::default())
}

#[test]
fn what_cannot_be_is_refused_with_its_reason_and_nothing_is_written() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let server = start(dir.path())?;
    let long = format!("{{\"host\": \"{}\"}}", "x".repeat(100_000));
    let too_long = ask(&server, "PUT", &path("x"), &long)?;
    ensure!(too_long.status == 413, "{}", too_long.status);
    for line in REFUSED.trim().lines() {
        let fields: Vec<&str> = line.splitn(5, '|').map(str::trim).collect();
        let [method, below, body, status, words] = fields[..] else {
            anyhow::bail!("not five fields: {line}");
        };
        let answer = ask(&server, method, &format!("{LIST}{below}"), body)?;
        let told = answer.json()?["detail"].to_string();
        let is_so = answer.status.to_string() == status && told.contains(words);
        ensure!(is_so, "{line}\n{} {told}", answer.status);
        let kind = answer.header("content-type");
        ensure!(kind == Some(b"application/problem+json".as_slice()));
    }
    let good = r#"{"host": "10.0.0.1", "port": 80}"#;
    let tried = ask(&server, "PUT", &format!("{}?dry_run=true", path("x")), good)?;
    ensure!(tried.status == 200 && tried.json()?["dry_run"] == true);
    let listed = server.api_get(LIST)?;
    let count = listed["instances"].as_array().map(Vec::len);
    ensure!(count == Some(1), "{listed}");
    Ok(())
}

#[test]
fn what_is_written_is_audited_and_heartbeats_are_not() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let server = start(dir.path())?;
    let body = r#"{"service": "order-service", "id": "x", "host": "10.0.0.1", "port": 80}"#;
    let made = ask(&server, "POST", LIST, body)?;
    ensure!(made.status == 201 && made.header("location") == Some(path("x").as_bytes()));
    ensure!(beat(&server, "x")? == 204);
    let gone = ask(&server, "DELETE", &path("x"), "")?;
    ensure!(gone.status == 204 && gone.body.is_empty());
    let audit = std::fs::read_to_string(server.state_dir().join("audit.log"))?;
    let lines: Vec<&str> = audit.lines().collect();
    ensure!(lines.len() == 2, "{audit}");
    let last = lines.last().context("nothing is audited")?;
    ensure!(
        last.contains("order-service/x") && last.contains("DELETE"),
        "{audit}"
    );
    Ok(())
}

#[test]
fn who_believes_something_else_of_an_instance_changes_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let server = start(dir.path())?;
    let mut client = Client::new(server.api);
    let mut put = |port: u16, tag: Option<&[u8]>| -> Result<Response> {
        let body = format!(r#"{{"host": "10.0.0.1", "port": {port}, "ttl": "1h"}}"#);
        let headers: Vec<(&str, &[u8])> = tag.iter().map(|tag| ("if-match", *tag)).collect();
        client.request("PUT", &path("x"), &headers, body.as_bytes())
    };
    let tag = |answer: &Response| -> Result<Vec<u8>> {
        Ok(answer.header("etag").context("no tag")?.to_vec())
    };
    ensure!(put(80, Some(b"*"))?.status == 412, "nobody is there");
    let made = put(80, None)?;
    ensure!(made.status == 201);
    let first = tag(&made)?;
    // To say the same again changes nothing, and a heartbeat neither.
    ensure!(tag(&put(80, Some(&first))?)? == first);
    ensure!(beat(&server, "x")? == 204);
    let moved = put(81, Some(&first))?;
    ensure!(moved.status == 200 && tag(&moved)? != first);
    let late = put(82, Some(&first))?;
    ensure!(late.status == 412 && late.json()?["detail"].to_string().contains("If-Match"));
    let shown = ask(&server, "GET", &path("x"), "")?;
    ensure!(shown.json()?["port"] == 81 && tag(&shown)? == tag(&moved)?);
    ensure!(put(83, Some(b"*"))?.status == 200);
    let mut client = Client::new(server.api);
    for (tag, status) in [(first.as_slice(), 412), (b"*", 204)] {
        let gone = client.request("DELETE", &path("x"), &[("if-match", tag)], b"")?;
        ensure!(gone.status == status, "{}", gone.status);
    }
    Ok(())
}
