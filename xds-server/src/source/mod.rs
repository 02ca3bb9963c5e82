//! The mesh as it stands on disk: read, followed, reported. Only content counts: touching a file changes
//! nothing.

#[cfg(test)]
mod calendars;
mod load;
mod metrics;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use policy::reader::Problem;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

pub use load::{Loaded, Loader};
pub use metrics::ConfigMetrics;

use crate::{
    analyze::{Severity, analyze, bounded},
    catalog::{self, Catalog, Kept, Offer, Outcome},
    clock,
    desired::FileContent,
    file_events::{FileEvents, settled},
    loud,
    mesh::{Defaults, Mesh, MeshProblem},
    settings::ConfigPath,
    store::{About, Store, StoreError},
};

/// A mesh, and the tree that says the same in one file.
type Good = (Mesh, String);

/// Content that a freeze or a store keeps waiting is offered again, read already.
type Unkept = Option<Arc<Offer>>;

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
    loud::tell(format_args!(
        "{}: {} problem(s); the last good revision stays in force",
        path.display(),
        problems.len()
    ));
    for problem in problems {
        loud::tell(format_args!("  {problem}"));
        error!(%problem, "mesh file refused");
    }
}

/// Says every problem of files over which the server cannot start.
pub fn report_fatal(path: &Path, problems: &[MeshProblem]) {
    loud::tell(format_args!(
        "{}: {} problem(s)",
        path.display(),
        problems.len()
    ));
    for problem in problems {
        loud::tell(format_args!("  {problem}"));
    }
}

/// What is legal and most likely a mistake: nothing is refused for it.
fn warn_of_findings(mesh: &Mesh) {
    for finding in bounded(&analyze(mesh, clock::now())) {
        if finding.severity <= Severity::Warning {
            warn!(%finding, "mesh file accepted, and most likely not as it was meant");
        }
    }
}

/// Says what is most likely a mistake in the newest content that was read. No content waits for that: it is in
/// force by then, and what is replaced before its turn is passed over.
async fn advise(mut read: mpsc::UnboundedReceiver<Arc<Offer>>) {
    while let Some(mut offer) = read.recv().await {
        while let Ok(newer) = read.try_recv() {
            offer = newer;
        }
        // It fails only when the runtime is going.
        let _ = tokio::task::spawn_blocking(move || warn_of_findings(&offer.mesh)).await;
    }
}

/// What is read as the server starts.
pub struct Start {
    /// The mesh to serve is in force there.
    pub catalog: Arc<Catalog>,
    /// Problems of the files, when that is not what is served.
    refused: usize,
    loader: Loader,
    known: Loaded,
    /// What the files say and is not in force yet, though it is good.
    unkept: Unkept,
    /// What they say, where it is good.
    read: Option<Arc<Offer>>,
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The files' problems, when no earlier good revision is known.
    #[error("the mesh files are refused and no earlier good revision is known")]
    Mesh(Vec<MeshProblem>),
    /// No store, no start.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The mesh to start with: the files', which becomes the newest revision of the store; where they are wrong,
/// or the default place holds none, that which is the newest there; where there is none either, an empty one.
///
/// # Errors
/// Why there is none.
pub fn start(
    config: &ConfigPath,
    defaults: &Defaults,
    store: &Arc<dyn Store>,
) -> Result<Start, StartError> {
    let mut loader = Loader::new(config.path());
    let known = loader.look();
    let kept = catalog::kept(&**store, defaults)?;
    let has_good = matches!(kept, Kept::Mesh(_));
    let open = |kept| {
        let catalog = Catalog::new(Arc::clone(store), defaults, kept);
        catalog.map(Arc::new).map_err(StartError::Mesh)
    };
    let started = |catalog: Arc<Catalog>, refused, unkept| Start {
        catalog,
        refused,
        loader,
        known: known.clone(),
        unkept,
        read: None,
    };
    if let ConfigPath::Default(path) = config
        && is_nothing(path)
    {
        match kept {
            Kept::Nothing => {
                warn!(path = %path.display(), "no mesh file: starting with an empty mesh");
            }
            Kept::Mesh(ref kept) => {
                info!(path = %path.display(), revision = kept.number, "no mesh file: the store says what is served");
            }
            Kept::Unreadable(_, problems) => return Err(StartError::Mesh(problems)),
        }
        return Ok(started(open(kept)?, 0, None));
    }
    let (mesh, document) = match read(&known, defaults) {
        Ok(good) => good,
        Err(problems) if !has_good => return Err(StartError::Mesh(problems)),
        Err(problems) => {
            report(config.path(), &problems);
            let catalog = open(kept)?;
            let count = problems.len();
            catalog.has_files(&config.path().display().to_string());
            catalog.refuse(problems, clock::now());
            return Ok(started(catalog, count, None));
        }
    };
    let catalog = open(kept)?;
    let offer = Arc::new(offer(config.path(), &known, mesh, document));
    let (refused, unkept) = match catalog.offer(&offer) {
        Ok(Outcome::Held) => (0, Some(Arc::clone(&offer))),
        Ok(_) => (0, None),
        Err(error) if has_good => {
            refuse_unkept(config.path(), &catalog, &error);
            (1, Some(Arc::clone(&offer)))
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Start {
        read: Some(offer),
        ..started(catalog, refused, unkept)
    })
}

/// Nobody has put anything there yet.
fn is_nothing(path: &Path) -> bool {
    let is_empty = || std::fs::read_dir(path).is_ok_and(|mut files| files.next().is_none());
    !path.exists() || is_empty()
}

fn offer(path: &Path, loaded: &Loaded, mesh: Mesh, document: String) -> Offer {
    let files = loaded.files.clone();
    let content = FileContent::new(path.display().to_string(), document.into(), files);
    Offer {
        mesh,
        file: Arc::new(content),
        about: About::of_files(clock::now(), path.display().to_string()),
    }
}

/// Nothing is served that a restart would not find again: a good mesh that cannot be kept waits.
fn refuse_unkept(path: &Path, catalog: &Catalog, error: &StoreError) {
    let problem = Problem {
        path: path.display().to_string(),
        message: format!("is good, but cannot be kept: {error}"),
        hint: Some("it is tried again every 2 s".into()),
    };
    let problems = vec![problem.into()];
    let known = catalog.refusal().borrow().clone();
    if known.is_none_or(|known| known.problems != problems) {
        report(path, &problems);
    }
    catalog.refuse(problems, clock::now());
}

/// The task that feeds the catalog from the files.
pub struct Follower {
    path: PathBuf,
    defaults: Defaults,
    catalog: Arc<Catalog>,
    metrics: ConfigMetrics,
    loader: Option<Loader>,
    known: Loaded,
    unkept: Unkept,
    /// What is to be looked at for what is most likely a mistake.
    read: Option<Arc<Offer>>,
}

impl Follower {
    /// Follows `path`; the catalog already holds what [`start`] read.
    pub fn new(path: &Path, defaults: Defaults, metrics: ConfigMetrics, start: Start) -> Self {
        metrics.set(start.refused);
        Self {
            path: path.to_path_buf(),
            defaults,
            catalog: start.catalog,
            metrics,
            loader: Some(start.loader),
            known: start.known,
            unkept: start.unkept,
            read: start.read,
        }
    }

    /// Runs for ever; end it by dropping it.
    pub async fn run(self) {
        let (read, to_look_at) = mpsc::unbounded_channel();
        tokio::join!(self.follow(read), advise(to_look_at));
    }

    async fn follow(mut self, read: mpsc::UnboundedSender<Arc<Offer>>) {
        let mut events = FileEvents::new();
        events.watch(&self.known.folders);
        loop {
            if let Some(offer) = self.read.take() {
                // Who looks at it goes with this one.
                let _ = read.send(offer);
            }
            events.next().await;
            let (path, loader) = (&self.path, &mut self.loader);
            let found = settled(&self.known, async || look(path, loader).await).await;
            // A trigger carries no data: whatever woke us, the files were read and are compared.
            if found != self.known {
                events.watch(&found.folders);
                self.known = found;
                self.unkept = None;
            } else if self.unkept.is_none() {
                continue;
            }
            self.take().await;
        }
    }

    /// Offers what is known now. Reading a large mesh takes long, and the store waits for its disk, so it is
    /// done away from the threads that serve.
    async fn take(&mut self) {
        let (known, defaults) = (self.known.clone(), self.defaults.clone());
        let (path, catalog) = (self.path.clone(), Arc::clone(&self.catalog));
        let unkept = self.unkept.clone();
        let taking = tokio::task::spawn_blocking(move || match unkept {
            Some(offer) => put(&path, offer, &catalog),
            None => take(&path, &known, &defaults, &catalog),
        });
        // It fails only when the runtime is going.
        if let Ok(taken) = taking.await {
            self.metrics.set(taken.problems);
            self.unkept = taken.unkept;
            self.read = taken.read;
        }
    }
}

struct Taken {
    problems: usize,
    unkept: Unkept,
    /// What was read just now, where it is good.
    read: Option<Arc<Offer>>,
}

fn take(path: &Path, known: &Loaded, defaults: &Defaults, catalog: &Catalog) -> Taken {
    match read(known, defaults) {
        Ok((mesh, document)) => {
            let offer = Arc::new(offer(path, known, mesh, document));
            Taken {
                read: Some(Arc::clone(&offer)),
                ..put(path, offer, catalog)
            }
        }
        Err(problems) => {
            report(path, &problems);
            let count = problems.len();
            catalog.refuse(problems, clock::now());
            Taken {
                problems: count,
                unkept: None,
                read: None,
            }
        }
    }
}

fn put(path: &Path, offer: Arc<Offer>, catalog: &Catalog) -> Taken {
    let outcome = catalog.offer(&offer);
    let problems = usize::from(outcome.is_err());
    let waits = matches!(outcome, Ok(Outcome::Held) | Err(_));
    match outcome {
        Ok(Outcome::Accepted(revision)) => info!(revision, "mesh file accepted"),
        Ok(Outcome::Unchanged) => info!("mesh file says nothing new"),
        // Said when it began.
        Ok(Outcome::Held) => {}
        Err(error) => refuse_unkept(path, catalog, &error),
    }
    Taken {
        problems,
        unkept: waits.then_some(offer),
        read: None,
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
