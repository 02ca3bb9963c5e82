//! Freezes, on a moved clock.

use std::path::Path;

use anyhow::{Result, ensure};
use harness::{
    artifacts::Artifacts,
    clock::Clock,
    http::Client,
    server::{Options, Server, replace},
    wait::wait_for,
};
use policy::time::parse_instant;
use serde_json::{Value, json};

use super::{done, refused, revisions, run, wait_for_split};
use crate::{command, door1::BOUND, mesh::Mesh, openapi::Judge};

/// Before, within and after the window.
const FOUR: &str = "2026-11-25T16:00+05:30";
const SIX: &str = "2026-11-25T18:00+05:30";
const TEN: &str = "2026-11-25T22:00+05:30";

fn calendar(files: &str) -> String {
    format!(
        "peak_hours: {{evening: {{start: 17, end: 22}}}}\nfreeze: {{during: [peak], files: {files}}}"
    )
}

fn set(clock: &Clock, at: &str) -> Result<()> {
    clock.set_now(parse_instant(at)?.unix_millis())
}

#[test]
fn at_peak_changes_are_refused_unless_somebody_says_why_and_what_helps_always_passes() -> Result<()>
{
    let dir = tempfile::tempdir()?;
    let clock = Clock::new(dir.path())?;
    set(&clock, SIX)?;
    let mesh = Mesh::start_applied(Some(&clock), |file| file.more = calendar("apply"))?;
    wait_for_split(&mesh, 10)?;
    let told = refused(&mesh, &["canary", "set", "order-service", "20"])?;
    for words in [
        "frozen: evening holds until 2026-11-25T22:00:00+05:30",
        "order-service: canary v2 10 % -> 20 %",
        "--force --reason",
    ] {
        ensure!(told.contains(words), "no {words:?}: {told}");
    }
    let (status, answer) = mesh.server.api_post(
        "/api/v1/apply",
        mesh.file
            .text()
            .replace("consecutive_failures: 5", "consecutive_failures: 6")
            .as_bytes(),
    )?;
    ensure!(
        status == 409 && answer["reason"] == "frozen",
        "{status} {answer:#}"
    );
    let raw = json!({"remove_all": true}).to_string();
    let (status, answer) = mesh
        .server
        .api_post("/api/v1/resources:apply", raw.as_bytes())?;
    ensure!(
        status == 409 && answer["reason"] == "frozen",
        "{status} {answer:#}"
    );
    let history = done(&mesh, &["history"])?;
    ensure!(history.contains("frozen: evening holds until"), "{history}");

    // What helps passes.
    done(&mesh, &["canary", "set", "order-service", "5"])?;
    wait_for_split(&mesh, 5)?;
    done(&mesh, &["canary", "abort", "order-service"])?;
    wait_for_split(&mesh, 0)?;
    let told = refused(&mesh, &["canary", "resume", "order-service"])?;
    ensure!(told.contains("frozen"), "{told}");
    done(&mesh, &["rollback", "1"])?;
    wait_for_split(&mesh, 10)?;

    // Who must, says why.
    let (code, ..) = run(&mesh, &["canary", "set", "order-service", "20", "--force"])?;
    ensure!(code == Some(64), "{code:?}");
    let forced = ["--force", "--reason", "INC-42: v1 leaks"];
    done(
        &mesh,
        &[&["canary", "set", "order-service", "20"][..], &forced].concat(),
    )?;
    wait_for_split(&mesh, 20)?;
    let audit = std::fs::read_to_string(mesh.server.state_dir().join("audit.log"))?;
    let last: Value = serde_json::from_str(audit.lines().last().unwrap_or_default())?;
    ensure!(
        last["forced"] == true && last["reason"] == "INC-42: v1 leaks",
        "{last:#}"
    );
    let (status, answer) = mesh.server.api_post(
        "/api/v1/resources:apply?force=true&reason=must",
        raw.as_bytes(),
    )?;
    ensure!(status == 200, "{status} {answer:#}");

    set(&clock, TEN)?;
    done(&mesh, &["canary", "set", "order-service", "30"])?;
    wait_for_split(&mesh, 30)
}

#[test]
fn a_file_that_is_edited_then_waits_loudly_until_the_window_ends() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let clock = Clock::new(dir.path())?;
    set(&clock, FOUR)?;
    let mut mesh = Mesh::start_with(crate::mesh::Variant::Delta, Some(&clock), |file| {
        file.more = calendar("hold");
    })?;
    set(&clock, SIX)?;
    mesh.file.weight = "20";
    mesh.server.write_mesh(&mesh.file.text())?;
    let waits = |mesh: &Mesh| {
        wait_for("the file to wait", BOUND, || {
            let answer = revisions(mesh).map_err(|error| error.to_string())?;
            match answer["waiting"].is_null() {
                true => Err(answer.to_string()),
                false => Ok(answer),
            }
        })
    };
    let answer = waits(&mesh)?;
    ensure!(answer["current"]["revision"] == 1, "{answer:#}");
    ensure!(
        answer["waiting"]["until"] == "2026-11-25T22:00:00+05:30",
        "{answer:#}"
    );
    let told = done(&mesh, &["history"])?;
    ensure!(
        told.contains("order-service: canary v2 10 % -> 20 %"),
        "{told}"
    );
    ensure!(
        mesh.server.log().contains("1 change(s) wait"),
        "{}",
        mesh.server.log()
    );
    wait_for_split(&mesh, 10)?;
    mesh.kill_server(Some(&clock), false)?;
    waits(&mesh)?;
    wait_for_split(&mesh, 10)?;
    // Fewer users are no reason to wait.
    mesh.change(|file| file.weight = "7")?;
    ensure!(revisions(&mesh)?["waiting"].is_null());
    wait_for_split(&mesh, 7)?;
    mesh.file.weight = "20";
    mesh.server.write_mesh(&mesh.file.text())?;
    waits(&mesh)?;
    set(&clock, TEN)?;
    wait_for("the file to be in force", BOUND, || {
        let answer = revisions(&mesh).map_err(|error| error.to_string())?;
        match answer["waiting"].is_null() && answer["current"]["revision"] == 3 {
            true => Ok(()),
            false => Err(answer.to_string()),
        }
    })?;
    wait_for_split(&mesh, 20)
}

const LET_IN: &str = "/api/v1/files:apply";

/// A server whose mesh file and folder of resources wait for the end of a freeze.
struct Waiting<'w> {
    dir: &'w Path,
    clock: &'w Clock,
    server: Server,
}

impl<'w> Waiting<'w> {
    fn mesh(timeout: u32) -> String {
        format!(
            "{}\nservices: {{orders: {{timeout: {timeout}s}}}}\n",
            calendar("hold")
        )
    }

    fn start(dir: &'w Path, clock: &'w Clock, timeout: u32) -> Result<Self> {
        let folder = dir.join("resources");
        let options = Options {
            clock: Some(clock),
            resources: Some(&folder),
            ..Options::default()
        };
        let artifacts = Artifacts::from_env()?;
        let server = Server::start(&artifacts, dir, &Self::mesh(timeout), &options)?;
        Ok(Self { dir, clock, server })
    }

    fn again(mut self, timeout: u32) -> Result<Self> {
        self.server.process().kill()?;
        Self::start(self.dir, self.clock, timeout)
    }

    fn write(&self, name: &str, seconds: u32) -> Result<()> {
        write_resource(self.dir, name, seconds)
    }

    /// Until it shows that it waits for both.
    fn waits_for(&self, files: &Value) -> Result<Value> {
        wait_for("files to wait", BOUND, || {
            let answer = self.server.api_get("/api/v1/revisions");
            let answer = answer.map_err(|error| error.to_string())?;
            let is_so =
                answer["waiting"].is_object() && answer["waiting_resources"]["files"] == *files;
            is_so
                .then(|| answer.clone())
                .ok_or_else(|| answer.to_string())
        })
    }

    /// Name and seconds of each resource in force.
    fn resources(&self) -> Result<Vec<(String, String)>> {
        let page = self.server.api_get("/api/v1/resources?full=true")?;
        let all = page["resources"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let one = |one: &Value| {
            (
                text(&one["name"]),
                text(&one["resource"]["connect_timeout"]),
            )
        };
        Ok(all.iter().map(one).collect())
    }

    fn is_let_in(&self, expected: &[(&str, &str)], revision: u32) -> Result<()> {
        wait_for("nothing to wait", BOUND, || {
            let answer = self.server.api_get("/api/v1/revisions");
            let answer = answer.map_err(|error| error.to_string())?;
            let has = self.resources().map_err(|error| error.to_string())?;
            let has: Vec<(&str, &str)> = has.iter().map(|(name, at)| (&**name, &**at)).collect();
            let is_so = answer["waiting"].is_null()
                && answer["waiting_resources"].is_null()
                && answer["current"]["revision"] == revision
                && has == expected;
            is_so
                .then_some(())
                .ok_or_else(|| format!("{has:?} {answer}"))
        })
    }
}

fn write_resource(dir: &Path, name: &str, seconds: u32) -> Result<()> {
    let resource = json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": name, "connect_timeout": format!("{seconds}s"),
    });
    let file = dir.join("resources").join(format!("{name}.json"));
    replace(&file, &resource.to_string())
}

#[test]
fn files_of_resources_wait_too_and_whoever_says_why_lets_all_in() -> Result<()> {
    let dir = tempfile::tempdir()?;
    std::fs::create_dir(dir.path().join("resources"))?;
    let clock = Clock::new(dir.path())?;
    set(&clock, FOUR)?;
    write_resource(dir.path(), "one", 1)?;
    let waiting = Waiting::start(dir.path(), &clock, 2)?;
    let nobody = waiting
        .server
        .api_post(&format!("{LET_IN}?force=true&reason=x"), b"")?;
    ensure!(
        nobody.0 == 409 && nobody.1["reason"] == "state",
        "{nobody:?}"
    );

    set(&clock, SIX)?;
    waiting.write("one", 5)?;
    waiting.write("two", 5)?;
    waiting.server.write_mesh(&Waiting::mesh(5))?;
    let files = json!(["one.json", "two.json"]);
    let answer = waiting.waits_for(&files)?;
    let until = &answer["waiting_resources"]["until"];
    ensure!(*until == "2026-11-25T22:00:00+05:30", "{answer:#}");
    ensure!(waiting.resources()? == [("one".into(), "1s".into())]);
    let page = waiting.server.api_get("/api/v1/resources")?;
    ensure!(page["waiting"]["files"] == files, "{page:#}");
    ensure!(
        waiting.server.log().contains("2 file(s) wait"),
        "{}",
        waiting.server.log()
    );
    let waiting = waiting.again(5)?;
    waiting.waits_for(&files)?;
    ensure!(waiting.resources()? == [("one".into(), "1s".into())]);

    // Nobody passes without saying so, and why; and nothing passes a full disk.
    let mut waiting = waiting;
    for (query, status) in [
        ("", 409),
        ("?force=true", 400),
        ("?force=true&reason=x&wait=1s", 400),
    ] {
        let (said, answer) = waiting.server.api_post(&format!("{LET_IN}{query}"), b"")?;
        ensure!(said == status, "{query}: {answer:#}");
    }
    waiting.server.process().limit_files(Some(4096))?;
    let (status, answer) = waiting
        .server
        .api_post(&format!("{LET_IN}?force=true&reason=x"), b"")?;
    ensure!(status == 507, "{status} {answer:#}");
    waiting.server.process().limit_files(None)?;
    let tried = format!("{LET_IN}?dry_run=true");
    let mut judge = Judge::new(waiting.server.api_get("/api/v1/openapi.json")?);
    let answer = Client::new(waiting.server.api).post(&tried, b"")?;
    judge.judge("POST", &tried, &answer)?;
    ensure!(answer.json()?["files"] == files, "{:#}", answer.json()?);
    waiting.waits_for(&files)?;

    let server = format!("http://{}", waiting.server.api);
    let forced = [
        "apply",
        "--files",
        "--force",
        "--reason",
        "INC-42: the fix is in them",
    ];
    let (code, told, errors) = command::run(&forced, &["--server", &server])?;
    ensure!(code == Some(0), "{code:?} {told}{errors}");
    ensure!(
        told.contains("one.json, two.json") && told.contains("revision 2"),
        "{told}"
    );
    waiting.is_let_in(&[("one", "5s"), ("two", "5s")], 2)?;
    let audit = std::fs::read_to_string(waiting.server.state_dir().join("audit.log"))?;
    let last: Value = serde_json::from_str(audit.lines().last().unwrap_or_default())?;
    ensure!(last["forced"] == true && last["path"] == LET_IN, "{last:#}");
    for of in ["mesh", "resources"] {
        let page = waiting
            .server
            .api_get(&format!("/api/v1/revisions?of={of}"))?;
        let message = page["revisions"][0]["message"].to_string();
        ensure!(message.contains("INC-42"), "{page:#}");
    }

    // What waits gets in by itself when the freeze ends.
    waiting.write("one", 7)?;
    waiting.server.write_mesh(&Waiting::mesh(7))?;
    waiting.waits_for(&json!(["one.json"]))?;
    set(&clock, TEN)?;
    waiting.is_let_in(&[("one", "7s"), ("two", "5s")], 3)
}
