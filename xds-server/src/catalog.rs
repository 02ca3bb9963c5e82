//! Owner of the desired mesh: which revision is in force, and what was refused since. It never applies what it
//! was offered: that goes into the store, and what comes back from there is applied, whoever wrote it.

mod change;
mod offer;
mod rows;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use policy::{reader::Problem, time::WallTime};
use tokio::sync::watch;
use tracing::error;

pub use self::change::{Change, ChangeError, Changed, Current, IfMatch};
use crate::{
    clock,
    desired::{Desired, FileContent},
    mesh::{self, Defaults, Document, Frozen, Labels, Mesh, MeshFile, MeshProblem},
    plan::Told,
    store::{About, Log, Since, State, Store, StoreError},
};

/// A mesh that was accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Revision {
    /// Counts up from 1, over restarts too. 0: nothing was accepted yet, and the mesh is empty.
    pub number: u64,
    /// When it was accepted.
    pub accepted_at: WallTime,
    /// What it says.
    pub mesh: Arc<Mesh>,
    /// How that came about.
    pub desired: Arc<Desired>,
}

/// A change that was refused: the revision before it stays in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// When it was read.
    pub at: WallTime,
    /// Every problem found.
    pub problems: Vec<MeshProblem>,
    /// Whose it is.
    pub of: Refused,
}

/// What was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// What this server was offered, by its files.
    Offer,
    /// A revision of the store that this version of the program cannot read.
    Stored,
}

/// What the files say, to be the next revision.
#[derive(Debug, Clone)]
pub struct Offer {
    /// What they say alone.
    pub mesh: Mesh,
    /// The same as it is kept: one document, from which any server reads it.
    pub file: Arc<FileContent>,
    /// When, and which files.
    pub about: About,
}

/// What became of an offered mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is in force as this revision.
    Accepted(u64),
    /// It says what is in force already, or what a rollback holds back.
    Unchanged,
    /// A freeze keeps it waiting.
    Held,
}

/// Files that wait for the end of a freeze.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// Since when.
    pub since: WallTime,
    /// For what.
    pub frozen: Frozen,
    /// What of them is kept out.
    pub changes: Vec<Told>,
    /// Whose content it is.
    mark: String,
}

/// What the store holds as a server starts.
#[derive(Debug)]
pub enum Kept {
    /// No mesh was ever accepted.
    Nothing,
    /// The newest revision.
    Mesh(Revision),
    /// The newest revision, which this version of the program cannot read.
    Unreadable(u64, Vec<MeshProblem>),
}

/// The newest revision of a store.
///
/// # Errors
/// When the store cannot be read.
pub fn kept(store: &dyn Store, defaults: &Defaults) -> Result<Kept, StoreError> {
    let state = store.load(Log::Mesh)?;
    if state.revision == 0 {
        return Ok(Kept::Nothing);
    }
    Ok(match read_state(&state, defaults) {
        Ok(mesh) => Kept::Mesh(revision(&state, Arc::new(mesh), rows::desired(&state))),
        Err(problems) => Kept::Unreadable(state.revision, problems),
    })
}

/// Everyone else watches; whoever offers, offers here.
pub struct Catalog {
    store: Arc<dyn Store>,
    defaults: Defaults,
    /// The newest revision of the store that was looked at. One looks at a time.
    seen: Mutex<u64>,
    revisions: watch::Sender<Arc<Revision>>,
    refusal: watch::Sender<Option<Arc<Refusal>>>,
    /// What this server's files say, where they say what is wanted.
    file: Mutex<Option<Arc<FileContent>>>,
    waiting: watch::Sender<Option<Arc<Waiting>>>,
    /// Their content, to be let in.
    held: Mutex<Option<Offer>>,
    /// Lays instances over a mesh, once they are known.
    instances: OnceLock<Over>,
}

/// Lays instances over a mesh.
pub type Over = Box<dyn Fn(&Mesh) -> Mesh + Send + Sync>;

impl Catalog {
    /// Over a store that holds this.
    ///
    /// # Errors
    /// Defaults of the environment that no mesh can be made of.
    pub fn new(
        store: Arc<dyn Store>,
        defaults: &Defaults,
        kept: Kept,
    ) -> Result<Self, Vec<MeshProblem>> {
        let empty = |number| -> Result<Revision, Vec<MeshProblem>> {
            let mesh = mesh::empty(defaults);
            let mesh =
                mesh.map_err(|all| all.into_iter().map(MeshProblem::from).collect::<Vec<_>>())?;
            Ok(Revision {
                number,
                accepted_at: clock::now(),
                mesh: Arc::new(mesh),
                desired: Arc::new(Desired::of("{}".into())),
            })
        };
        let (first, seen) = match kept {
            Kept::Nothing => (empty(0)?, 0),
            Kept::Mesh(revision) => {
                let number = revision.number;
                (revision, number)
            }
            Kept::Unreadable(number, _) => (empty(0)?, number),
        };
        Ok(Self {
            store,
            defaults: defaults.clone(),
            seen: Mutex::new(seen),
            revisions: watch::Sender::new(Arc::new(first)),
            refusal: watch::Sender::default(),
            file: Mutex::default(),
            waiting: watch::Sender::default(),
            held: Mutex::default(),
            instances: OnceLock::new(),
        })
    }

    /// From now on it is known who registered.
    pub fn know_instances(&self, over: Over) {
        // There is one registry.
        let _ = self.instances.set(over);
    }

    /// Versions that lose their last endpoint, or never had one, by a change from one mesh to another. What lacked
    /// them before is nobody's fault now, and while nobody knows who registered nothing is said.
    fn versions_lost(&self, before: &Mesh, after: &Mesh) -> Vec<MeshProblem> {
        let Some(over) = self.instances.get() else {
            return Vec::new();
        };
        let lacking = |mesh: &Mesh| mesh::versions_without_endpoints(&over(mesh));
        let mut lost = lacking(after);
        if !lost.is_empty() {
            let known = lacking(before);
            lost.retain(|problem| !known.contains(problem));
        }
        lost.into_iter().map(MeshProblem::from).collect()
    }

    /// Follows revisions.
    pub fn revisions(&self) -> watch::Receiver<Arc<Revision>> {
        self.revisions.subscribe()
    }

    /// Follows the refusal that is outstanding, if one is.
    pub fn refusal(&self) -> watch::Receiver<Option<Arc<Refusal>>> {
        self.refusal.subscribe()
    }

    /// Follows files that wait for the end of a freeze.
    pub fn waiting(&self) -> watch::Receiver<Option<Arc<Waiting>>> {
        self.waiting.subscribe()
    }

    /// What this server's files say, where they say what is wanted.
    pub fn file(&self) -> Option<Arc<FileContent>> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.clone()
    }

    /// Files say what is wanted, though they cannot be read: what is in force is what they said last.
    pub fn has_files(&self, path: &str) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.is_none() {
            let current = Arc::clone(&self.revisions.borrow());
            let content = FileContent::last_good(path.into(), &current.desired);
            *file = Some(Arc::new(content));
        }
    }

    /// Why the store did not take the newest write; none when it did.
    pub fn store_problem(&self) -> Option<String> {
        self.store.problem()
    }

    /// Kept revisions before `before`, the newest first. Waits for the store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn history(&self, before: u64, limit: usize) -> Result<Vec<(u64, About)>, StoreError> {
        self.store.history(Log::Mesh, before, limit)
    }

    /// A kept revision: who, when and why, and what was wanted. None when it is not kept. Waits for the store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn kept(&self, revision: u64) -> Result<Option<(About, Desired)>, StoreError> {
        let kept = self.store.kept(Log::Mesh, revision)?;
        Ok(kept.and_then(|state| {
            let desired = rows::desired(&state)?;
            Some((state.about?, desired))
        }))
    }

    /// The mesh of something that was wanted once.
    ///
    /// # Errors
    /// Where this version of the program cannot read it.
    pub fn read(&self, desired: &Desired, name: &str) -> Result<Mesh, Vec<MeshProblem>> {
        read_document(desired.document(), name, &self.defaults)
    }

    /// What was read is wrong: that is told until something good is read.
    pub fn refuse(&self, problems: Vec<MeshProblem>, at: WallTime) {
        let of = Refused::Offer;
        let refusal = Refusal { at, problems, of };
        self.refusal.send_replace(Some(Arc::new(refusal)));
        self.stop_waiting();
    }

    /// Applies what the store yields, for ever; end it by dropping it.
    pub async fn follow(self: Arc<Self>) {
        let catalog = Arc::clone(&self);
        let take = move || catalog.take(&mut catalog.seen(), None);
        self.store.feed(Log::Mesh).follow("mesh", take).await;
    }

    /// Takes up what the store has beyond what was seen. `offered` need not be read again.
    fn take(&self, seen: &mut u64, offered: Option<(&Desired, &Mesh)>) -> Result<(), StoreError> {
        let state = match self.store.feed(Log::Mesh).since(*seen) {
            Since::Entries(entries) => {
                // Each says everything.
                let Some(entry) = entries.last() else {
                    return Ok(());
                };
                let mut state = State::default();
                state.apply(Log::Mesh, entry);
                state
            }
            Since::Unknown => self.store.load(Log::Mesh)?,
        };
        *seen = state.revision;
        let desired = rows::desired(&state);
        let is_offered = |(offered, _): &(&Desired, &Mesh)| {
            let document = desired.as_ref().map(Desired::document);
            document == Some(offered.document())
        };
        let mesh = match offered.filter(is_offered) {
            Some((_, mesh)) => Ok(mesh.clone()),
            None => read_state(&state, &self.defaults),
        };
        match mesh {
            Ok(mesh) => {
                self.clear(Refused::Stored);
                let revision = revision(&state, Arc::new(mesh), desired);
                self.revisions.send_replace(Arc::new(revision));
            }
            Err(problems) => {
                for problem in &problems {
                    error!(revision = state.revision, %problem, "a revision of the store cannot be used");
                }
                let (at, of) = (clock::now(), Refused::Stored);
                let refusal = Refusal { at, problems, of };
                self.refusal.send_replace(Some(Arc::new(refusal)));
            }
        }
        Ok(())
    }

    fn clear(&self, of: Refused) {
        self.refusal.send_if_modified(|refusal| {
            let is_it = refusal.as_ref().is_some_and(|refusal| refusal.of == of);
            is_it && refusal.take().is_some()
        });
    }

    fn seen(&self) -> MutexGuard<'_, u64> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn revision(state: &State, mesh: Arc<Mesh>, desired: Option<Desired>) -> Revision {
    Revision {
        number: state.revision,
        accepted_at: state
            .about
            .as_ref()
            .map_or_else(clock::now, |about| about.at),
        mesh,
        // A revision whose mesh was read has a document.
        desired: Arc::new(desired.unwrap_or_else(|| Desired::of("{}".into()))),
    }
}

fn read_state(state: &State, defaults: &Defaults) -> Result<Mesh, Vec<MeshProblem>> {
    let name = format!("revision {} of the store", state.revision);
    let Some(text) = rows::document(state) else {
        let problem = Problem {
            path: name,
            message: "holds no mesh".into(),
            hint: None,
        };
        return Err(vec![problem.into()]);
    };
    read_document(text, &name, defaults)
}

fn read_document(
    text: &Arc<str>,
    name: &str,
    defaults: &Defaults,
) -> Result<Mesh, Vec<MeshProblem>> {
    let file = MeshFile {
        name: name.into(),
        text: Arc::clone(text),
    };
    // It was checked before it was kept, or is when it is offered.
    Document::new(&[file], &[]).mesh_with(defaults, Labels::Any)
}
