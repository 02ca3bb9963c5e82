//! Changes as they are told to whoever listens: server-sent events, by curl.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::Artifacts,
    server::{Options, Server},
    xds::{Api, Kind, set_of},
};
use serde_json::{Value, json};

use crate::door1::BOUND;

/// A curl that listens.
struct Curl {
    process: Child,
    lines: mpsc::Receiver<String>,
}

impl Drop for Curl {
    fn drop(&mut self) {
        // It is ours, and may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Curl {
    fn listen(server: &Server) -> Result<Self> {
        let mut process = Command::new("curl")
            .args(["-sN", &format!("http://{}/api/v1/events", server.api)])
            .stdout(Stdio::piped())
            .stderr(File::open("/dev/null")?)
            .spawn()
            .context("curl")?;
        let output = process.stdout.take().context("no output")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { process, lines })
    }

    /// The next event of this name; what comes before it is passed over.
    fn next(&self, name: &str) -> Result<Value> {
        let mut seen = Vec::new();
        let mut is_it = false;
        loop {
            let line = self.lines.recv_timeout(BOUND);
            let line = line.with_context(|| format!("no {name} in {seen:#?}"))?;
            if let Some(event) = line.strip_prefix("event: ") {
                is_it = event == name;
            }
            if let Some(data) = line.strip_prefix("data: ").filter(|_| is_it) {
                return Ok(serde_json::from_str(data)?);
            }
            seen.push(line);
        }
    }
}

#[test]
fn who_listens_is_told_how_everything_stands_and_then_what_changes() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let artifacts = Artifacts::from_env()?;
    let mesh = |name: &str| format!("mesh: {{name: {name}}}\n");
    let server = Server::start(&artifacts, dir.path(), &mesh("one"), &Options::default())?;
    let curl = Curl::listen(&server)?;
    let first = curl.next("revision")?;
    ensure!(first["revision"] == 1 && first["mesh"] == "one", "{first}");
    ensure!(curl.next("refused")?["problems"] == json!([]));
    ensure!(curl.next("resources")?["revision"] == 0);
    ensure!(curl.next("unhealthy")?["services"] == json!({}));
    server.write_mesh(&mesh("two"))?;
    let second = curl.next("revision")?;
    ensure!(
        second["revision"] == 2 && second["mesh"] == "two",
        "{second}"
    );
    server.write_mesh("mesh: {nmae: three}\n")?;
    let refused = curl.next("refused")?;
    ensure!(refused["problems"][0]["path"] == "mesh.nmae", "{refused}");
    Api::new(server.api).apply(&json!({"set": [set_of(Kind::Cluster, "a", "1")]}))?;
    ensure!(curl.next("resources")?["revision"] == 1);
    // Who comes later is told the same.
    let late = Curl::listen(&server)?;
    ensure!(late.next("revision")?["revision"] == 2);
    ensure!(late.next("refused")?["problems"] == refused["problems"]);
    Ok(())
}

#[test]
fn who_listens_is_told_what_becomes_of_instances_and_of_the_alarm() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let artifacts = Artifacts::from_env()?;
    let mesh = "services: {order-service: {sidecar: false}}\n";
    let server = Server::start(&artifacts, dir.path(), mesh, &Options::default())?;
    let curl = Curl::listen(&server)?;
    ensure!(curl.next("alarm")?["vanished"] == json!({}));
    let mut client = harness::http::Client::new(server.api);
    let mut put = |id: &str, port: u16, ttl: &str| -> Result<()> {
        let path = format!("/api/v1/instances/order-service/{id}");
        let body = json!({"host": "127.0.0.1", "port": port, "ttl": ttl}).to_string();
        let answer = client.request("PUT", &path, &[], body.as_bytes())?;
        ensure!(answer.status == 201, "{:?}", answer.json());
        Ok(())
    };
    put("o-1", 7001, "1h")?;
    let told = curl.next("instances")?;
    ensure!(
        told == json!({"revision": 1, "service": "order-service", "became": "registered", "instances": ["o-1"], "left_off": 0}),
        "{told}"
    );
    put("o-2", 7002, "1s")?;
    put("o-3", 7003, "1s")?;
    let alarm = curl.next("alarm")?;
    let expected = json!({"order-service": {"count": 2, "instances": ["o-2", "o-3"]}});
    ensure!(alarm["vanished"] == expected, "{alarm}");
    // Who comes later is told the same.
    let late = Curl::listen(&server)?;
    ensure!(late.next("alarm")?["vanished"] == expected);
    let body = br#"{"service": "order-service"}"#;
    let answer = client.post("/api/v1/instances:release", body)?;
    ensure!(answer.status == 200, "{:?}", answer.json());
    let gone = late.next("instances")?;
    ensure!(
        gone["became"] == "gone" && gone["instances"] == json!(["o-2", "o-3"]),
        "{gone}"
    );
    ensure!(late.next("alarm")?["vanished"] == json!({}));
    Ok(())
}

#[test]
fn listeners_are_bounded_and_leave_room_for_everybody_else() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let server = Server::start(
        &Artifacts::from_env()?,
        dir.path(),
        "{}\n",
        &Options::default(),
    )?;
    let listeners: Vec<Curl> = (0..64)
        .map(|_| Curl::listen(&server))
        .collect::<Result<_>>()?;
    for listener in &listeners {
        listener.next("unhealthy")?;
    }
    let mut client = harness::http::Client::new(server.api);
    let answer = client.get("/api/v1/events", &[])?;
    ensure!(answer.status == 503, "{}", answer.status);
    ensure!(client.get("/readyz", &[])?.status == 200);
    Ok(())
}
