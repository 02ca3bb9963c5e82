//! Stores of which a page is not what was written: each page in turn, overwritten in two ways, after a crash and after a
//! good end.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::Artifacts,
    server::{Options, Server},
    xds::{Api, Kind, set_of},
};
use serde_json::{Value, json};

use crate::command::run;

const PAGE_BYTES: usize = 4096;
/// Of the pages that may be damaged without harm, how many are tried with a server.
const SERVED: usize = 2;

struct Store {
    dir: tempfile::TempDir,
    state_dir: PathBuf,
    file: PathBuf,
}

/// What came of it.
#[derive(Debug, Default)]
struct Seen {
    refused: usize,
    served: usize,
    /// Exports that hold something and lack something.
    saved: usize,
}

impl Store {
    /// Of a server that was killed.
    fn make() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut server =
            Server::start(&Artifacts::from_env()?, dir.path(), "", &Options::NO_CONFIG)?;
        for number in 0..20 {
            let set: Vec<Value> = (0..20)
                .map(|name| set_of(Kind::Cluster, &format!("c{name}"), &number.to_string()))
                .collect();
            Api::new(server.api).apply(&json!({"set": set}))?;
            let mesh = format!("mesh: {{name: mesh-{number}}}\n");
            let (status, answer) = server.api_post("/api/v1/apply", mesh.as_bytes())?;
            ensure!(status == 200, "{answer}");
        }
        server.process().kill()?;
        let state_dir = server.state_dir().to_path_buf();
        let file = state_dir.join("mumbai-mesh.redb");
        Ok(Self {
            dir,
            state_dir,
            file,
        })
    }

    fn command(&self, command: &str) -> Result<(Option<i32>, String, String)> {
        let state_dir = self.state_dir.to_str().context("no text")?;
        let done = run(&["store", command], &["--state-dir", state_dir])?;
        let told = format!("{}{}", done.1, done.2);
        ensure!(!told.contains("panicked"), "{command}: {told}");
        ensure!(matches!(done.0, Some(0 | 65)), "{command}: {done:?}");
        Ok(done)
    }

    fn start(&self) -> Result<Server> {
        Server::start(
            &Artifacts::from_env()?,
            self.dir.path(),
            "",
            &Options::NO_CONFIG,
        )
    }

    /// Each page that holds something, overwritten.
    fn each_page(&self, whole: &[u8], damage: impl Fn(&mut u8)) -> Result<Seen> {
        let mut seen = Seen::default();
        for page in 0..whole.len() / PAGE_BYTES {
            let mut damaged = whole.to_vec();
            let bytes = &mut damaged[page * PAGE_BYTES..(page + 1) * PAGE_BYTES];
            if bytes.iter().all(|byte| *byte == 0) {
                continue;
            }
            bytes.iter_mut().for_each(&damage);
            let tried = self.one(&damaged, &mut seen);
            tried.with_context(|| format!("page {page}"))?;
        }
        fs::write(&self.file, whole)?;
        Ok(seen)
    }

    fn one(&self, damaged: &[u8], seen: &mut Seen) -> Result<()> {
        fs::write(&self.file, damaged)?;
        let (code, stdout, stderr) = self.command("verify")?;
        let told = stdout + &stderr;
        if code == Some(0) {
            if seen.served < SERVED {
                seen.served += 1;
                serves(&self.start()?)?;
            }
            return Ok(());
        }
        // A write that is not whole is what a power cut leaves: it is taken back.
        if told.contains("taken back") {
            return self.start().map(|_| ());
        }
        seen.refused += 1;
        ensure!(told.contains("is damaged"), "{told}");
        let error = match self.start() {
            Ok(_) => anyhow::bail!("it serves what is damaged: {told}"),
            Err(error) => format!("{error:#}"),
        };
        for word in ["is damaged", "store verify", "mumbai-mesh restore"] {
            ensure!(error.contains(word), "{word}: {error}");
        }
        ensure!(!error.contains("panicked"), "{error}");
        ensure!(fs::read(&self.file)? == damaged, "it was touched");
        let (code, stdout, stderr) = self.command("export")?;
        if stdout.is_empty() {
            ensure!(stderr.contains("nothing of it can be read"), "{stderr}");
            ensure!(code == Some(65), "{stderr}");
            return Ok(());
        }
        let exported: Value = serde_json::from_str(&stdout)?;
        let is_whole = !stderr.contains("left out: ");
        ensure!(is_whole == (code == Some(0)), "{code:?}: {stderr}");
        // That there may have been more is told of one that has all there was.
        ensure!(!is_whole || is_all(&exported), "{exported} {stderr}");
        seen.saved += usize::from(!is_whole);
        imported(self.dir.path(), &stdout)
    }
}

/// The 20 kept revisions of the mesh and the 20 resources.
fn is_all(exported: &Value) -> bool {
    let revisions = |log: usize| exported["logs"][log]["revisions"].as_array();
    let resources = revisions(1).and_then(|all| all.first()?["values"].as_array());
    let is_said = |all: Option<&Vec<Value>>| {
        all.into_iter()
            .flatten()
            .all(|one| one["about"]["message"] != "read out of a damaged store")
    };
    revisions(0).map(Vec::len) == Some(20)
        && resources.map(Vec::len) == Some(20)
        && is_said(revisions(0))
        && is_said(revisions(1))
}

fn serves(server: &Server) -> Result<()> {
    let revision = server.api_get("/api/v1/resources")?["revision"].clone();
    ensure!(revision == 20, "{revision}");
    Ok(())
}

fn imported(dir: &Path, text: &str) -> Result<()> {
    let file = dir.join("exported.json");
    fs::write(&file, text)?;
    let target = tempfile::tempdir()?;
    let target = target.path().join("state");
    let [file, target] = [&file, &target].map(|path| path.display().to_string());
    let done = run(&["store", "import", &file], &["--state-dir", &target])?;
    ensure!(done.0 == Some(0), "{done:?}");
    Ok(())
}

#[test]
fn a_damaged_store_is_refused_with_what_to_do_and_never_by_a_crash() -> Result<()> {
    let store = Store::make()?;
    let crashed = fs::read(&store.file)?;
    // Whoever opens it and lets go of it ends it well.
    ensure!(store.command("export")?.0 == Some(0));
    let ended = fs::read(&store.file)?;
    ensure!(crashed != ended);
    let zeroed = |byte: &mut u8| *byte = 0;
    let turned = |byte: &mut u8| *byte ^= 0x5a;
    for (name, seen) in [
        ("crashed, zeroed", store.each_page(&crashed, zeroed)?),
        ("ended, zeroed", store.each_page(&ended, zeroed)?),
        ("ended, turned", store.each_page(&ended, turned)?),
    ] {
        ensure!(seen.refused > 2 && seen.saved > 0, "{name}: {seen:?}");
    }
    serves(&store.start()?)
}
