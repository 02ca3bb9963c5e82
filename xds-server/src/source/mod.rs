//! Follows the mesh file. Only content counts: touching a file changes nothing.

use std::{
    io,
    path::{Path, PathBuf},
};

use policy::reader::Problem;
use tracing::{error, info, warn};

use crate::{
    analyze::{Severity, analyze},
    catalog::{Catalog, Outcome},
    clock,
    file_events::{FileEvents, settled},
    last_good::LastGood,
    mesh::{self, Defaults, Mesh},
    settings::ConfigPath,
};

/// A mesh file larger than this is refused unread.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Reads a mesh file from disk.
///
/// # Errors
/// Every problem of the file, or the one of not being able to read it.
pub fn read_file(path: &Path, defaults: &Defaults) -> Result<(String, Mesh), Vec<Problem>> {
    let text = read_text(path).map_err(|error| vec![unreadable(path, &error)])?;
    let mesh = mesh::read(&text, defaults)?;
    Ok((text, mesh))
}

fn read_text(path: &Path) -> io::Result<String> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::Error::other("a folder is not supported yet"));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(io::Error::other("larger than 16 MiB"));
    }
    std::fs::read_to_string(path)
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    Problem {
        path: path.display().to_string(),
        message: format!("cannot be read: {error}"),
        hint: Some("name a readable YAML file with --config".into()),
    }
}

/// Says every problem, one a line, on stderr and in the log.
pub fn report(path: &Path, problems: &[Problem]) {
    eprintln!(
        "{}: {} problem(s); the last good revision stays in force",
        path.display(),
        problems.len()
    );
    for problem in problems {
        eprintln!("  {problem}");
        error!(file = %path.display(), %problem, "mesh file refused");
    }
}

/// Says every problem of a file over which the server cannot start.
pub fn report_fatal(path: &Path, problems: &[Problem]) {
    eprintln!("{}: {} problem(s)", path.display(), problems.len());
    for problem in problems {
        eprintln!("  {problem}");
    }
}

/// What is legal and most likely a mistake. Errors of `analyze` are as legal: only its words are louder.
fn warn_of_findings(mesh: &Mesh) {
    for finding in analyze(mesh, clock::now()) {
        if finding.severity <= Severity::Warning {
            warn!(%finding, "mesh file accepted, and most likely not as it was meant");
        }
    }
}

/// What is read as the server starts.
pub struct Start {
    /// What to serve.
    pub mesh: Mesh,
    /// Problems of the file, when that is not what is served.
    pub refused: Option<Vec<Problem>>,
}

/// The mesh to start with: the file's; the last good one where the file is wrong; an empty one where
/// the default place holds none.
///
/// # Errors
/// The file's problems, when no earlier good revision is known.
pub fn start(
    config: &ConfigPath,
    defaults: &Defaults,
    last_good: &LastGood,
) -> Result<Start, Vec<Problem>> {
    if let ConfigPath::Default(path) = config
        && !path.exists()
    {
        warn!(path = %path.display(), "no mesh file: starting with an empty mesh");
        let mesh = mesh::empty(defaults)?;
        return Ok(Start {
            mesh,
            refused: None,
        });
    }
    match read_file(config.path(), defaults) {
        Ok((text, mesh)) => {
            last_good.keep(&text);
            warn_of_findings(&mesh);
            Ok(Start {
                mesh,
                refused: None,
            })
        }
        Err(problems) => {
            let Some(kept) = last_good.text() else {
                return Err(problems);
            };
            let Ok(mesh) = mesh::read(&kept, defaults) else {
                return Err(problems);
            };
            report(config.path(), &problems);
            Ok(Start {
                mesh,
                refused: Some(problems),
            })
        }
    }
}

/// The task that owns the catalog and feeds it from the file.
pub struct Follower {
    path: PathBuf,
    defaults: Defaults,
    catalog: Catalog,
    last_good: LastGood,
    last_text: Option<String>,
}

impl Follower {
    /// Follows `path`; `catalog` already holds what [`start`] read.
    pub fn new(path: &Path, defaults: Defaults, catalog: Catalog, last_good: LastGood) -> Self {
        Self {
            path: path.to_path_buf(),
            defaults,
            catalog,
            last_good,
            last_text: read_text(path).ok(),
        }
    }

    /// Runs for ever; end it by dropping it.
    pub async fn run(mut self) {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut events = FileEvents::of_folder(folder);
        loop {
            events.next().await;
            settled(&self.last_text, async || read_text(&self.path).ok()).await;
            self.look();
        }
    }

    /// A trigger carries no data: whatever woke us, the file is read and compared.
    fn look(&mut self) {
        let text = match read_text(&self.path) {
            Ok(text) => text,
            Err(error) => {
                // Absent for a moment while it is replaced, or gone: what was read stays in force.
                if self.last_text.take().is_some() {
                    self.refuse(vec![unreadable(&self.path, &error)]);
                }
                return;
            }
        };
        if self.last_text.as_deref() == Some(&text) {
            return;
        }
        match mesh::read(&text, &self.defaults) {
            Ok(mesh) => {
                self.last_good.keep(&text);
                warn_of_findings(&mesh);
                match self.catalog.offer(Ok(mesh), clock::now()) {
                    Outcome::Accepted(revision) => info!(revision, "mesh file accepted"),
                    Outcome::Unchanged | Outcome::Refused => info!("mesh file says nothing new"),
                }
            }
            Err(problems) => self.refuse(problems),
        }
        self.last_text = Some(text);
    }

    fn refuse(&mut self, problems: Vec<Problem>) {
        report(&self.path, &problems);
        self.catalog.offer(Err(problems), clock::now());
    }
}
