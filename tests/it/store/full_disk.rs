//! A full disk: every route that writes is refused with 507, and nothing else is.

use anyhow::{Context, Result, bail, ensure};
use harness::{
    artifacts::Artifacts,
    http::{Client, Response},
    server::{Options, Server},
    wait::wait_for,
};
use serde_json::{Value, json};

use crate::{command, door1::BOUND};

const MESH: &str = "\
services:
  order-service:
    sidecar: false
    endpoints: [{id: f-1, host: 10.0.0.1, port: 80, version: v1}, {id: f-2, host: 10.0.0.2, port: 80, version: v2}]
    canary: {version: v2, weight: 10}
  stock-service: {sidecar: false}
  pay-service:
    sidecar: false
    endpoints: [{id: p-1, host: 10.0.0.3, port: 80, version: v1}, {id: p-2, host: 10.0.0.4, port: 80, version: v2}]
";

/// A writing route, a call of it and its body, or why it does not wait for the disk. They are carried out in this order
/// once there is space again.
const ROUTES: &str = r#"
POST   | /api/v1/apply                              | /api/v1/apply | MESH
POST   | /api/v1/canaries/{service}/{verb}          | /api/v1/canaries/order-service/set | {"weight": 30}
POST   | /api/v1/canaries/{service}/{verb}          | /api/v1/canaries/order-service/pause |
POST   | /api/v1/canaries/{service}/{verb}          | /api/v1/canaries/order-service/abort |
POST   | /api/v1/canaries/{service}/{verb}          | /api/v1/canaries/order-service/resume |
POST   | /api/v1/canaries/{service}/{verb}          | /api/v1/canaries/order-service/promote |
POST   | /api/v1/canaries/{service}/{verb}          | /api/v1/canaries/pay-service/start | {"version": "v2", "weight": 5}
POST   | /api/v1/services/{service}/override        | /api/v1/services/stock-service/override | {"kind": "peak", "for": "1h", "reason": "a try"}
POST   | /api/v1/services/{service}/override/end    | /api/v1/services/order-service/override/end |
POST   | /api/v1/revisions/{revision}/rollback      | /api/v1/revisions/1/rollback |
POST   | /api/v1/resources:apply                    | /api/v1/resources:apply | {"set": [{"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "b", "connect_timeout": "2s"}]}
POST   | /api/v1/instances                          | /api/v1/instances | {"service": "order-service", "id": "new", "host": "10.0.1.9", "port": 80}
PUT    | /api/v1/instances/{service}/{id}           | /api/v1/instances/order-service/known | {"host": "10.0.1.2", "port": 80, "ttl": "1h"}
POST   | /api/v1/instances/{service}/{id}/drain     | /api/v1/instances/order-service/known/drain |
DELETE | /api/v1/instances/{service}/{id}           | /api/v1/instances/order-service/known |
POST   | /api/v1/instances:release                  | /api/v1/instances:release | {"service": "stock-service"}
POST   | /api/v1/files:apply                        | - | tried while a file waits, in change/freeze.rs
POST   | /api/v1/backup                             | - | writes to nobody's disk but the caller's
POST   | /api/v1/certificates/{name}/export         | - | issues, and keeps nothing
"#;

struct Call<'c> {
    route: (&'c str, &'c str),
    path: &'c str,
    body: &'c str,
}

fn calls() -> Result<Vec<Call<'static>>> {
    let call = |line: &'static str| {
        let fields: Vec<&str> = line.splitn(4, '|').map(str::trim).collect();
        let [method, route, path, body] = fields[..] else {
            bail!("not four fields: {line}");
        };
        Ok(Call {
            route: (method, route),
            path,
            body: if body == "MESH" { MESH } else { body },
        })
    };
    ROUTES.trim().lines().map(call).collect()
}

impl Call<'_> {
    fn make(&self, client: &mut Client) -> Result<Response> {
        client.request(self.route.0, self.path, &[], self.body.as_bytes())
    }

    fn is_made(&self) -> bool {
        self.path != "-"
    }
}

/// What there is before the disk is full.
fn prepared(client: &mut Client) -> Result<()> {
    let mut done = |method: &str, path: &str, body: &str| -> Result<()> {
        let answer = client.request(method, path, &[], body.as_bytes())?;
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        ensure!(
            answer.status < 300,
            "{method} {path}: {} {said}",
            answer.status
        );
        Ok(())
    };
    // The first one is what is rolled back to.
    for weight in ["weight: 8", "weight: 9"] {
        let mesh = MESH.replace("weight: 10", weight);
        done("POST", "/api/v1/apply", &mesh)?;
    }
    let set = json!({"set": [{"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "a",
        "connect_timeout": "1s"}]});
    done("POST", "/api/v1/resources:apply", &set.to_string())?;
    let said = r#"{"kind": "observe", "for": "1h", "reason": "a try"}"#;
    done("POST", "/api/v1/services/order-service/override", said)?;
    let known = r#"{"host": "10.0.1.1", "port": 80, "ttl": "1h"}"#;
    done("PUT", "/api/v1/instances/order-service/known", known)?;
    for number in 1..=4 {
        let path = format!("/api/v1/instances/stock-service/s-{number}");
        let silent = format!(r#"{{"host": "10.0.2.{number}", "port": 80, "ttl": "1s"}}"#);
        done("PUT", &path, &silent)?;
    }
    Ok(())
}

/// All that calls change.
fn state(server: &Server) -> Result<Vec<Value>> {
    let pages = [
        "revisions",
        "resources",
        "instances",
        "canaries",
        "overrides",
    ];
    let page = |name: &&str| {
        let mut page = server.api_get(&format!("/api/v1/{name}"))?;
        // They go on by themselves.
        for one in page["instances"].as_array_mut().into_iter().flatten() {
            one["last_heartbeat"] = Value::Null;
        }
        Ok(page)
    };
    pages.iter().map(page).collect()
}

fn wait_vanished(server: &Server) -> Result<()> {
    wait_for("all to have vanished", BOUND, || {
        let page = server.api_get("/api/v1/instances?service=stock-service&state=vanished");
        let page = page.map_err(|error| format!("{error:#}"))?;
        match page["instances"].as_array().map(Vec::len) {
            Some(4) => Ok(()),
            _ => Err(page.to_string()),
        }
    })
}

#[test]
fn a_full_disk_refuses_every_route_that_writes_and_nothing_else() -> Result<()> {
    let (_, told, _) = command::run(&["token", "roles", "-o", "json"], &[])?;
    let told: Value = serde_json::from_str(&told)?;
    let calls = calls()?;
    for route in told["routes"].as_array().context("no routes")? {
        let text = |field: &str| route[field].as_str().unwrap_or_default();
        let named = (text("method"), text("path"));
        let is_tried = calls.iter().any(|call| call.route == named);
        ensure!(
            is_tried || route["writes"] == false,
            "{named:?} is not tried"
        );
    }
    let dir = tempfile::tempdir()?;
    let mut server = Server::start(&Artifacts::from_env()?, dir.path(), "", &Options::NO_CONFIG)?;
    let mut client = Client::new(server.api);
    prepared(&mut client)?;
    wait_vanished(&server)?;
    let before = state(&server)?;
    server.process().limit_files(Some(4096))?;
    for call in calls.iter().filter(|call| call.is_made()) {
        let answer = call.make(&mut client)?;
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        let is_told = said.contains("make space") && said.contains("nothing was applied");
        let what = format!("{:?} {}: {said}", call.route, answer.status);
        ensure!(answer.status == 507 && is_told, "{what}");
        ensure!(
            answer.header("content-type") == Some(b"application/problem+json"),
            "{what}"
        );
    }
    // Reads go on, and nothing is otherwise.
    ensure!(
        state(&server)? == before,
        "{:#?}\n{before:#?}",
        state(&server)?
    );
    server.process().limit_files(None)?;
    for call in calls.iter().filter(|call| call.is_made()) {
        let answer = call.make(&mut client)?;
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        ensure!(
            answer.status < 300,
            "{:?} {}: {said}",
            call.route,
            answer.status
        );
    }
    Ok(())
}

#[test]
fn with_space_again_the_store_serves_before_anybody_writes() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut server = Server::start(&Artifacts::from_env()?, dir.path(), "", &Options::NO_CONFIG)?;
    let mut client = Client::new(server.api);
    let serves = |server: &Server, wanted: &str| {
        let mut client = Client::new(server.api);
        wait_for(&format!("mumbai_mesh_store_serves {wanted}"), BOUND, || {
            let page = client.get("/metrics", &[]);
            let page = page.map_err(|error| format!("{error:#}"))?;
            let text = String::from_utf8_lossy(&page.body).into_owned();
            let line = text
                .lines()
                .find(|line| line.starts_with("mumbai_mesh_store_serves"));
            match line.and_then(|line| line.split(' ').nth(1)) {
                Some(value) if value == wanted => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
    };
    serves(&server, "1")?;
    server.process().limit_files(Some(4096))?;
    let answer = client.request("POST", "/api/v1/apply", &[], MESH.as_bytes())?;
    ensure!(answer.status == 507, "{}", answer.status);
    serves(&server, "0")?;
    server.process().limit_files(None)?;
    serves(&server, "1")?;
    let revision = server.api_get("/api/v1/revisions")?;
    ensure!(revision["current"]["revision"] == 0, "{revision}");
    Ok(())
}
