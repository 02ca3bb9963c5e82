//! `mumbai-mesh store`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    BadData,
    output::{Output, print, show},
};
use crate::{
    app::Restored,
    archive::{Archive, Lost},
    catalog::{self, Kept},
    clock, private_file, settings,
    store::{Embedded, Integrity, Log, StoreError},
};

/// The store of a state dir, while no server uses it: look whether it is whole, take out what is in it.
#[derive(Debug, Args)]
pub(super) struct StoreCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Verify(Verify),
    Export(Export),
    Import(Import),
}

/// Read all of it, and say what is there and what of it cannot be used.
///
/// Exit codes: 0 all of it can be used, 65 something cannot.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mumbai-mesh store verify --state-dir /var/lib/mumbai-mesh")]
struct Verify {
    #[command(flatten)]
    kept: StateDir,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Write all that can be read of it as one JSON text. It is not sealed and may hold private keys of raw resources; the
/// certificate authority is not in it (it is the folder ca/ of the state dir).
///
/// Of a damaged store it is what can be read, with a line on stderr for all that is left out.
///
/// Exit codes: 0 all of it is written, 65 something cannot be read.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  mumbai-mesh store export --state-dir /var/lib/mumbai-mesh --out store.json\n  mumbai-mesh store import store.json --state-dir ./new"
)]
struct Export {
    #[command(flatten)]
    kept: StateDir,
    /// The file to write, for its owner alone [default: standard output].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Put what `store export` wrote into a state dir that holds nothing.
#[derive(Debug, Args)]
struct Import {
    /// What `store export` wrote.
    file: PathBuf,
    #[command(flatten)]
    kept: StateDir,
}

#[derive(Debug, Args)]
struct StateDir {
    /// The server's state dir.
    #[arg(long, value_name = "DIR", default_value = ".mumbai-mesh")]
    state_dir: PathBuf,
}

impl StoreCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Verify(verify) => verify.run(),
            Command::Export(export) => export.run(),
            Command::Import(import) => import.run(),
        }
    }
}

impl StateDir {
    fn shown(&self) -> String {
        format!("--state-dir {}", self.state_dir.display())
    }

    /// Refuses a folder that has none.
    fn check(&self) -> Result<(), BadData> {
        match Embedded::lost(&self.state_dir) {
            Some(lost) => Err(BadData(lost.to_string())),
            None if Embedded::is_there(&self.state_dir) => Ok(()),
            None => Err(BadData(format!(
                "{} holds no store",
                self.state_dir.display()
            ))),
        }
    }

    /// The store that is there.
    fn open(&self) -> Result<Embedded, BadData> {
        self.check()?;
        Embedded::open(&self.state_dir).map_err(|error| BadData(error.to_string()))
    }
}

impl Verify {
    fn run(self) -> anyhow::Result<()> {
        let mut problems = Vec::new();
        let found = match Embedded::verify(&self.kept.state_dir) {
            Ok(integrity) => {
                if integrity == Integrity::Mended {
                    problems.push("what a crash left half done was taken back".into());
                }
                self.look(&mut problems)?
            }
            Err(error) => {
                problems.push(error.to_string());
                Value::Null
            }
        };
        let answer = json!({"found": found, "problems": problems});
        let dir = self.kept.state_dir.display().to_string();
        show(&answer, self.output, |_| table(&dir, &found, &problems))?;
        match problems.is_empty() {
            true => Ok(()),
            false => Err(BadData(format!("{dir}: not all of it can be used")).into()),
        }
    }

    /// What is there, by log.
    fn look(&self, problems: &mut Vec<String>) -> anyhow::Result<Value> {
        let store = self.kept.open()?;
        let (archive, lost) = match Archive::of(&store, clock::now()) {
            Ok(read) => read,
            Err(error) => {
                problems.push(error.to_string());
                return Ok(Value::Null);
            }
        };
        problems.extend(lost.iter().map(told));
        if let Ok(Kept::Unreadable(revision, all)) = catalog::kept(&store, &settings::defaults()) {
            let all = all
                .iter()
                .map(|one| format!("mesh revision {revision}: {one}"));
            problems.extend(all);
        }
        let of = |log: Log| {
            let kept = archive.kept(log);
            (
                log.name().to_string(),
                json!({"revision": archive.revision(log), "kept": kept}),
            )
        };
        Ok(Value::Object(Log::ALL.map(of).into_iter().collect()))
    }
}

fn told(lost: &Lost) -> String {
    format!(
        "{} revision {}: {}",
        lost.log.name(),
        lost.revision,
        lost.why
    )
}

fn table(dir: &str, found: &Value, problems: &[String]) -> String {
    let mut text = String::new();
    for (log, of) in found.as_object().into_iter().flatten() {
        text += &format!(
            "{dir}: {log} at revision {}, {} kept\n",
            of["revision"], of["kept"]
        );
    }
    for problem in problems {
        text += &format!("{dir}: {problem}\n");
    }
    if problems.is_empty() {
        text += &format!("{dir}: all of it can be used\n");
    }
    text
}

impl Export {
    fn run(self) -> anyhow::Result<()> {
        let (archive, lost) = self.read()?;
        for one in &lost {
            eprintln!("left out: {one}");
        }
        let text = archive.to_text();
        match &self.out {
            None => print(&format!("{}\n", *text))?,
            Some(out) => private_file::replace(out, text.as_bytes())
                .with_context(|| format!("--out {}", out.display()))?,
        }
        match lost.is_empty() {
            true => Ok(()),
            false => Err(BadData(format!(
                "{}: not all of it could be read; what could be is written",
                self.kept.state_dir.display()
            ))
            .into()),
        }
    }

    /// All of it, or of a damaged one what can be read; and what cannot.
    fn read(&self) -> Result<(Archive, Vec<String>), BadData> {
        let bad = |error: StoreError| BadData(error.to_string());
        self.kept.check()?;
        let store = match Embedded::open(&self.kept.state_dir) {
            Ok(store) => store,
            Err(damaged @ StoreError::Damaged { .. }) => {
                let remains = Embedded::remains(&self.kept.state_dir).map_err(bad)?;
                eprintln!("{damaged}");
                let archive = Archive::of_remains(remains.logs, clock::now());
                return Ok((archive, remains.lost));
            }
            Err(error) => return Err(bad(error)),
        };
        let (archive, lost) = Archive::of(&store, clock::now()).map_err(bad)?;
        Ok((archive, lost.iter().map(told).collect()))
    }
}

impl Import {
    fn run(self) -> anyhow::Result<()> {
        let shown = self.file.display();
        let text = read(&self.file)?;
        let archive = Archive::read(&text).map_err(|error| BadData(format!("{shown}: {error}")))?;
        Restored::of(&archive, None, clock::now())
            .place(&self.kept.state_dir)
            .with_context(|| self.kept.shown())?;
        let (mesh, resources) = (
            archive.revision(Log::Mesh),
            archive.revision(Log::Resources),
        );
        let dir = self.kept.state_dir.display();
        print(&format!(
            "{dir}: the mesh at revision {mesh}, resources at {resources}\n"
        ))?;
        Ok(())
    }
}

fn read(file: &Path) -> anyhow::Result<zeroize::Zeroizing<Vec<u8>>> {
    let text = fs::read(file).with_context(|| file.display().to_string())?;
    Ok(zeroize::Zeroizing::new(text))
}
