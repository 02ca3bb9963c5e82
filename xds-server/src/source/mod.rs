//! The mesh as it stands on disk: read, followed, reported. Only content counts: touching a file changes
//! nothing.

#[cfg(test)]
mod calendars;
mod load;
mod metrics;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use tracing::{error, info, warn};

pub use load::{Loaded, Loader};
pub use metrics::ConfigMetrics;

use crate::{
    analyze::{Severity, analyze},
    catalog::{Catalog, Outcome},
    clock,
    file_events::{FileEvents, settled},
    last_good::LastGood,
    mesh::{self, Defaults, Document, Mesh, MeshFile, MeshProblem},
    settings::ConfigPath,
};

/// A mesh, and the tree that says the same in one file.
type Good = (Mesh, String);

/// Reads a mesh file, or a folder of them, with all that they include.
///
/// # Errors
/// Every problem of every file, and of not being able to read one.
pub fn read_path(path: &Path, defaults: &Defaults) -> Result<Mesh, Vec<MeshProblem>> {
    read(&Loader::new(path).look(), defaults).map(|(mesh, _)| mesh)
}

fn read(loaded: &Loaded, defaults: &Defaults) -> Result<Good, Vec<MeshProblem>> {
    let document = loaded.document();
    let mesh = document.mesh(defaults)?;
    Ok((mesh, document.tree().to_string()))
}

/// Says every problem, one a line, on stderr and in the log.
pub fn report(path: &Path, problems: &[MeshProblem]) {
    eprintln!(
        "{}: {} problem(s); the last good revision stays in force",
        path.display(),
        problems.len()
    );
    for problem in problems {
        eprintln!("  {problem}");
        error!(%problem, "mesh file refused");
    }
}

/// Says every problem of files over which the server cannot start.
pub fn report_fatal(path: &Path, problems: &[MeshProblem]) {
    eprintln!("{}: {} problem(s)", path.display(), problems.len());
    for problem in problems {
        eprintln!("  {problem}");
    }
}

/// What is legal and most likely a mistake: nothing is refused for it.
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
    /// Problems of the files, when that is not what is served.
    pub refused: Option<Vec<MeshProblem>>,
    loader: Loader,
    loaded: Loaded,
}

/// The mesh to start with: the files'; the last good one where they are wrong; an empty one where the
/// default place holds none.
///
/// # Errors
/// The files' problems, when no earlier good revision is known.
pub fn start(
    config: &ConfigPath,
    defaults: &Defaults,
    last_good: &LastGood,
) -> Result<Start, Vec<MeshProblem>> {
    let mut loader = Loader::new(config.path());
    let loaded = loader.look();
    let started = |mesh, refused| Start {
        mesh,
        refused,
        loader,
        loaded: loaded.clone(),
    };
    if let ConfigPath::Default(path) = config
        && is_nothing(path)
    {
        warn!(path = %path.display(), "no mesh file: starting with an empty mesh");
        let problems = |problems: Vec<_>| problems.into_iter().map(Into::into).collect::<Vec<_>>();
        return Ok(started(mesh::empty(defaults).map_err(problems)?, None));
    }
    match read(&loaded, defaults) {
        Ok((mesh, text)) => {
            last_good.keep(&text);
            warn_of_findings(&mesh);
            Ok(started(mesh, None))
        }
        Err(problems) => {
            let kept = last_good.text().and_then(|text| read_kept(&text, defaults));
            let Some(mesh) = kept else {
                return Err(problems);
            };
            report(config.path(), &problems);
            Ok(started(mesh, Some(problems)))
        }
    }
}

/// Nobody has put anything there yet.
fn is_nothing(path: &Path) -> bool {
    let is_empty = || std::fs::read_dir(path).is_ok_and(|mut files| files.next().is_none());
    !path.exists() || is_empty()
}

fn read_kept(text: &str, defaults: &Defaults) -> Option<Mesh> {
    let file = MeshFile {
        name: "the last good mesh".into(),
        text: text.into(),
    };
    Document::new(&[file], &[]).mesh(defaults).ok()
}

/// The task that owns the catalog and feeds it from the files.
pub struct Follower {
    path: PathBuf,
    defaults: Defaults,
    catalog: Catalog,
    last_good: LastGood,
    metrics: ConfigMetrics,
    loader: Option<Loader>,
    known: Loaded,
}

impl Follower {
    /// Follows `path`; `catalog` already holds what [`start`] read.
    pub fn new(
        path: &Path,
        defaults: Defaults,
        catalog: Catalog,
        last_good: LastGood,
        metrics: ConfigMetrics,
        start: Start,
    ) -> Self {
        metrics.set(start.refused.as_ref().map_or(0, Vec::len));
        Self {
            path: path.to_path_buf(),
            defaults,
            catalog,
            last_good,
            metrics,
            loader: Some(start.loader),
            known: start.loaded,
        }
    }

    /// Runs for ever; end it by dropping it.
    pub async fn run(mut self) {
        let mut events = FileEvents::new();
        events.watch(&self.known.folders);
        loop {
            events.next().await;
            let (path, loader) = (&self.path, &mut self.loader);
            let found = settled(&self.known, async || look(path, loader).await).await;
            // A trigger carries no data: whatever woke us, the files were read and are compared.
            if found == self.known {
                continue;
            }
            events.watch(&found.folders);
            self.known = found;
            self.take().await;
        }
    }

    /// Offers what is known now. Reading a large mesh takes long, so it is done away from the threads that
    /// serve.
    async fn take(&mut self) {
        let (known, defaults) = (self.known.clone(), self.defaults.clone());
        let reading = tokio::task::spawn_blocking(move || read(&known, &defaults));
        let Ok(found) = reading.await else {
            return;
        };
        let now = clock::now();
        let offered = match found {
            Ok((mesh, text)) => {
                self.last_good.keep(&text);
                warn_of_findings(&mesh);
                Ok(mesh)
            }
            Err(problems) => {
                report(&self.path, &problems);
                Err(problems)
            }
        };
        self.metrics.set(offered.as_ref().err().map_or(0, Vec::len));
        match self.catalog.offer(offered, now) {
            Outcome::Accepted(revision) => info!(revision, "mesh file accepted"),
            Outcome::Unchanged => info!("mesh file says nothing new"),
            Outcome::Refused => {}
        }
    }
}

/// What is on disk, read away from the threads that serve.
async fn look(path: &Path, loader: &mut Option<Loader>) -> Loaded {
    let mut taken = loader.take().unwrap_or_else(|| Loader::new(path));
    let looking = tokio::task::spawn_blocking(move || {
        let loaded = taken.look();
        (taken, loaded)
    });
    match looking.await {
        Ok((kept, loaded)) => {
            *loader = Some(kept);
            loaded
        }
        // The runtime is going.
        Err(_) => std::future::pending().await,
    }
}
