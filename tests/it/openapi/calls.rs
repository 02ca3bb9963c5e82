//! Calls of every route of a real server with a real Envoy, good ones and such as are refused.

use anyhow::{Context, Result, ensure};
use harness::http::{Client, Response};
use serde_json::Value;

use super::judge::Judge;

/// Method, path, the body that is sent, and the status. In this order: some need what others did.
const CALLS: &str = r#"
GET    | /healthz | | 200
GET    | /readyz | | 200
GET    | /api/v1/openapi.json | | 200
GET    | /api/openapi.json | | 200
GET    | /filter/mumbai_mesh.wasm | | 200
GET    | /metrics | | 200
GET    | /api/v1/check | | 200
GET    | /services | | 200
GET    | /api/v1/services?service=order-service&limit=1 | | 200
GET    | /api/v1/services?limit=0 | | 400
GET    | /api/v1/services?wrong=1 | | 400
GET    | /api/v1/revisions | | 200
GET    | /api/v1/revisions?of=resources&limit=1 | | 200
GET    | /api/v1/revisions?of=instances | | 200
GET    | /api/v1/revisions?of=nothing | | 400
GET    | /api/v1/revisions/1 | | 200
GET    | /api/v1/revisions/1?of=resources | | 400
GET    | /api/v1/revisions/99 | | 404
GET    | /api/v1/revisions/x | | 400
GET    | /api/v1/revisions/1/diff | | 200
GET    | /api/v1/revisions/1/diff?to=99 | | 404
GET    | /api/v1/canaries | | 200
GET    | /api/v1/canaries/order-service | | 200
GET    | /api/v1/canaries/nobody | | 404
GET    | /api/v1/overrides | | 200
GET    | /api/v1/explain?gateway=edge&path=/orders&header=x-user-id:user-42 | | 200
GET    | /api/v1/explain?service=nobody | | 400
GET    | /api/metrics | | 200
GET    | /api/v1/traffic-state | | 200
GET    | /api/v1/traffic-state?at=x | | 400
GET    | /api/v1/traffic-state?service=nobody | | 404
POST   | /api/v1/select | {"service": "order-service"} | 200
POST   | /api/v1/select | {"service": "nobody"} | 404
POST   | /api/v1/select | {"service": "order-service", "service": "stock-service"} | 400
POST   | /api/v1/select?dry_run=true | {"service": "order-service"} | 400
POST   | /api/v1/results | {"results": []} | 400
POST   | /api/v1/results | {"service": "order-service", "status": 200, "status": 500} | 400
POST   | /api/v1/results?dry_run=true | {"service": "order-service", "status": 200} | 400
POST   | /api/v1/results | {"service": "order-service", "status": 200} | 200
GET    | /api/v1/calendar | | 200
GET    | /api/v1/calendar?count=2 | | 200
GET    | /api/v1/calendar?month=2026-11 | | 400
GET    | /api/v1/calendar/next?count=2 | | 200
GET    | /api/v1/calendar/next?count=0 | | 400
GET    | /api/v1/calendar/month?month=2026-11 | | 200
GET    | /api/v1/calendar/month?month=x | | 400
GET    | /api/v1/proxies | | 200
GET    | /api/v1/proxies/edge/config | | 200
GET    | /api/v1/proxies/edge/config?type=XDS | | 400
GET    | /api/v1/proxies/nobody/config | | 404
GET    | /api/v1/loads | | 200
GET    | /api/v1/bootstrap/edge | | 200
GET    | /api/v1/bootstrap/nobody | | 404
GET    | /api/v1/certificates | | 200
POST   | /api/v1/certificates/edge/export | {"node_id": "edge-2"} | 200
POST   | /api/v1/certificates/nobody/export | | 404
POST   | /api/v1/certificates/edge/export | {"node": "x"} | 400
POST   | /api/v1/backup | {"key": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="} | 200
POST   | /api/v1/backup | {"key": "AAAA"} | 400
POST   | /api/v1/plan | {"files": [{"name": "mesh.yaml", "text": "mesh: {name: other}\nservices: {}\n"}]} | 200
POST   | /api/v1/plan | {"files": [{"name": "mesh.yaml", "text": "wrong: 1\n"}]} | 400
POST   | /api/v1/plan?at=x | {"files": []} | 400
POST   | /api/v1/canaries/order-service/set?dry_run=true | {"weight": 20} | 200
POST   | /api/v1/canaries/order-service/set?wait=30s | {"weight": 20, "reason": "a try"} | 200
POST   | /api/v1/canaries/order-service/pause | | 200
POST   | /api/v1/canaries/order-service/resume | {"reason": "go on"} | 200
POST   | /api/v1/canaries/order-service/set | {"weight": 200} | 400
POST   | /api/v1/canaries/order-service/start | {"version": "v9", "weight": 5} | 409
POST   | /api/v1/canaries/order-service/fly | | 404
POST   | /api/v1/canaries/order-service/set?force=true | {"weight": 20} | 400
POST   | /api/v1/services/order-service/override?dry_run=true | {"kind": "peak", "for": "30m", "reason": "a try"} | 200
POST   | /api/v1/services/order-service/override | {"kind": "peak", "for": "30m", "reason": "a try"} | 200
POST   | /api/v1/services/order-service/override | {"kind": "peak", "for": "30m"} | 400
GET    | /api/v1/overrides?limit=1 | | 200
GET    | /api/v1/services | | 200
GET    | /api/v1/canaries/order-service | | 200
POST   | /api/v1/services/order-service/override/end | {"reason": "enough"} | 200
POST   | /api/v1/services/order-service/override/end | | 404
POST   | /api/v1/revisions/1/rollback | | 200
POST   | /api/v1/revisions/99/rollback | | 404
POST   | /api/v1/resources:apply?dry_run=true | {"set": [{"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "partner", "connect_timeout": "1s"}]} | 200
POST   | /api/v1/resources:apply | {"set": [{"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "partner", "connect_timeout": "1s"}], "nodes": {"cluster": "edge"}} | 200
POST   | /api/v1/resources:apply | {"set": [{"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "partner", "connect_timeot": "1s"}]} | 400
POST   | /api/v1/resources:apply?wait=5s | {} | 400
GET    | /api/v1/resources?name=partner&limit=1 | | 200
GET    | /api/v1/resources?after=x | | 400
GET    | /api/v1/resources?type=x | | 400
POST   | /api/v1/files:apply?force=true&reason=must | | 409
POST   | /api/v1/files:apply?force=true&reason=must&wait=5s | | 400
POST   | /api/v1/apply?dry_run=true | {"files": [{"name": "mesh.yaml", "text": "services: {}\n"}]} | 200
POST   | /api/v1/apply | {"files": [{"name": "mesh.yaml", "text": "services: {a: {endpoints: 5}}\n"}]} | 400
POST   | /api/v1/instances | {"service": "order-service", "id": "o-7", "host": "127.0.0.1", "port": 7007, "ttl": "1h"} | 201
POST   | /api/v1/instances | {"id": "o-7"} | 400
POST   | /api/v1/instances | {"service": "nobody", "host": "127.0.0.1", "port": 7} | 404
GET    | /api/v1/instances?service=order-service | | 200
GET    | /api/v1/instances/order-service/o-7 | | 200
GET    | /api/v1/instances/order-service/nobody | | 404
PUT    | /api/v1/instances/order-service/o-7 | {"host": "127.0.0.1", "port": 7008, "ttl": "1h"} | 200
PUT    | /api/v1/instances/order-service/o-8 | {"host": "127.0.0.1", "port": 7009, "ttl": "1h"} | 201
PUT    | /api/v1/instances/order-service/o-8?dry_run=true | {"host": "127.0.0.1", "port": 7010} | 200
PUT    | /api/v1/instances/order-service/o-9 | {"host": "127.0.0.1", "port": 80, "port": 81} | 400
POST   | /api/v1/instances/order-service/o-7/heartbeat?dry_run=true | | 400
POST   | /api/v1/instances/order-service/o-7/heartbeat | | 204
POST   | /api/v1/instances/order-service/nobody/heartbeat | | 404
POST   | /api/v1/instances/order-service/o-7/drain | | 200
POST   | /api/v1/instances:release | {"service": "order-service"} | 409
GET    | /api/v1/revisions?of=instances | | 200
DELETE | /api/v1/instances/order-service/o-7 | | 204
DELETE | /api/v1/instances/order-service/o-7 | | 404
"#;

/// Header, method, path, body and status of calls that say something by their headers.
const WITH_HEADERS: &str = r#"
content-type: text/html | POST | /api/v1/canaries/order-service/set | {"weight": 20} | 415
content-encoding: gzip | POST | /api/v1/resources:apply | {} | 415
if-match: "99" | POST | /api/v1/canaries/order-service/set | {"weight": 20} | 412
if-match: "99" | POST | /api/v1/resources:apply | {"remove_all": true} | 412
if-match: "x" | PUT | /api/v1/instances/order-service/o-8 | {"host": "127.0.0.1", "port": 7011} | 412
if-match: "x" | DELETE | /api/v1/instances/order-service/o-8 | | 412
origin: http://evil.example | GET | /api/v1/revisions | | 403
authorization: Bearer mmt_wrong | GET | /api/v1/revisions | | 401
"#;

fn call(
    judge: &mut Judge,
    client: &mut Client,
    line: &str,
    headers: &[(&str, &[u8])],
) -> Result<Response> {
    let fields: Vec<&str> = line.splitn(4, " | ").map(str::trim).collect();
    let fields: Vec<&str> = match fields[..] {
        // Without a body.
        [method, path, rest] => vec![method, path, "", rest.trim_start_matches('|').trim()],
        _ => fields,
    };
    let [method, path, body, status] = fields[..] else {
        anyhow::bail!("not four fields: {line}");
    };
    let answer = client.request(method, path, headers, body.as_bytes())?;
    let said = String::from_utf8_lossy(&answer.body).into_owned();
    ensure!(
        answer.status.to_string() == status,
        "{line}\n{}: {said}",
        answer.status
    );
    judge
        .judge(method, path, &answer)
        .context(line.to_string())?;
    if answer.status < 300 && !body.is_empty() {
        let sent: Value = serde_json::from_str(body)?;
        judge
            .judge_sent(method, path, &sent)
            .context(line.to_string())?;
    }
    Ok(answer)
}

/// All of them.
pub fn all(judge: &mut Judge, client: &mut Client) -> Result<()> {
    for line in CALLS.trim().lines() {
        call(judge, client, line, &[])?;
    }
    for line in WITH_HEADERS.trim().lines() {
        let (header, rest) = line.split_once(" | ").context("no header")?;
        let (name, value) = header.split_once(": ").context("no value")?;
        call(judge, client, rest, &[(name, value.as_bytes())])?;
    }
    whole_files(judge, client)?;
    vanished(judge, client)?;
    let long = format!("{{\"host\": \"{}\"}}", "x".repeat(100_000));
    let path = "/api/v1/instances/order-service/o-9";
    let answer = client.request("PUT", path, &[], long.as_bytes())?;
    ensure!(answer.status == 413, "{}", answer.status);
    judge.judge("PUT", path, &answer)?;
    // Server-sent events have no end: their head is enough.
    let head = client.send("HEAD", "/api/v1/events", &[])?;
    judge.judge("GET", "/api/v1/events", &head)
}

/// A mesh file as it stands, and the same with a tag.
fn whole_files(judge: &mut Judge, client: &mut Client) -> Result<()> {
    let kept = client.get("/api/v1/revisions/1", &[])?.json()?;
    let mesh = kept["document"].to_string();
    let applied = client.post("/api/v1/apply?message=again", mesh.as_bytes())?;
    judge.judge("POST", "/api/v1/apply", &applied)?;
    ensure!(applied.status == 200, "{}", applied.status);
    let tag = applied.header("etag").context("no tag")?.to_vec();
    let again = client.request(
        "POST",
        "/api/v1/apply",
        &[("if-match", &tag)],
        mesh.as_bytes(),
    )?;
    ensure!(again.status == 200, "{:?}", again.json());
    judge.judge("POST", "/api/v1/apply", &again)
}

/// Instances that fell silent together are released.
fn vanished(judge: &mut Judge, client: &mut Client) -> Result<()> {
    for number in 0..4 {
        let path = format!("/api/v1/instances/order-service/v-{number}");
        let body = format!(
            "{{\"host\": \"127.0.0.1\", \"port\": {}, \"ttl\": \"1s\"}}",
            7100 + number
        );
        let made = client.request("PUT", &path, &[], body.as_bytes())?;
        ensure!(made.status == 201, "{:?}", made.json());
    }
    let path = "/api/v1/instances?state=vanished";
    harness::wait::wait_for("instances to vanish", crate::door1::BOUND, || {
        let listed = client.get(path, &[]).and_then(|answer| answer.json());
        let listed = listed.map_err(|error| format!("{error:#}"))?;
        match listed["instances"].as_array().map(Vec::len) {
            Some(1..) => Ok(()),
            _ => Err(listed.to_string()),
        }
    })?;
    let listed = client.get(path, &[])?;
    judge.judge("GET", path, &listed)?;
    let services = client.get("/services", &[])?;
    judge.judge("GET", "/services", &services)?;
    let body = br#"{"service": "order-service"}"#;
    let released = client.post("/api/v1/instances:release", body)?;
    ensure!(released.status == 200, "{:?}", released.json());
    judge.judge("POST", "/api/v1/instances:release", &released)
}
