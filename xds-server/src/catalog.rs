//! Owner of the desired mesh: which revision is in force, and what was refused since. It never applies what it
//! was offered: that goes into the store, and what comes back from there is applied, whoever wrote it.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use policy::{reader::Problem, time::WallTime};
use tokio::sync::watch;
use tracing::{error, info};

use crate::{
    clock,
    mesh::{self, Defaults, Document, Mesh, MeshFile, MeshProblem},
    store::{About, Change, Draft, Log, MESH_KEY, Since, State, Store, StoreError},
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

/// A mesh that is to be the next revision.
#[derive(Debug, Clone)]
pub struct Offer {
    /// What it says.
    pub mesh: Mesh,
    /// The same as it is kept: one document, from which any server reads it.
    pub document: Arc<str>,
    /// Who, when and why.
    pub about: About,
}

/// What became of an offered mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is in force as this revision.
    Accepted(u64),
    /// It says what is in force already.
    Unchanged,
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
        Ok(mesh) => Kept::Mesh(revision(&state, Arc::new(mesh))),
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
}

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
        })
    }

    /// Follows revisions.
    pub fn revisions(&self) -> watch::Receiver<Arc<Revision>> {
        self.revisions.subscribe()
    }

    /// Follows the refusal that is outstanding, if one is.
    pub fn refusal(&self) -> watch::Receiver<Option<Arc<Refusal>>> {
        self.refusal.subscribe()
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

    /// A kept revision: who, when and why, and the document. None when it is not kept. Waits for the store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn kept(&self, revision: u64) -> Result<Option<(About, Arc<str>)>, StoreError> {
        let kept = self.store.kept(Log::Mesh, revision)?;
        Ok(kept.and_then(|mut state| {
            let document = state.values.remove(MESH_KEY)?;
            Some((state.about?, document))
        }))
    }

    /// What was read is wrong: that is told until something good is read.
    pub fn refuse(&self, problems: Vec<MeshProblem>, at: WallTime) {
        let of = Refused::Offer;
        let refusal = Refusal { at, problems, of };
        self.refusal.send_replace(Some(Arc::new(refusal)));
    }

    /// Makes a mesh the next revision, unless it says what is in force already. Waits for the store.
    ///
    /// # Errors
    /// When the store does not take it: nothing was changed.
    pub fn offer(&self, offer: &Offer) -> Result<Outcome, StoreError> {
        let mut seen = self.seen();
        loop {
            self.take(&mut seen, None)?;
            let current = Arc::clone(&self.revisions.borrow());
            // A newest revision that nobody here can read is replaced, whatever is in force.
            if current.number > 0 && current.number == *seen && *current.mesh == offer.mesh {
                self.clear(Refused::Offer);
                return Ok(Outcome::Unchanged);
            }
            let draft = Draft {
                about: offer.about.clone(),
                changes: vec![Change {
                    key: MESH_KEY.into(),
                    value: Some(Arc::clone(&offer.document)),
                }],
            };
            match self.store.append(Log::Mesh, *seen, draft) {
                Ok(number) => {
                    self.take(&mut seen, Some(offer))?;
                    self.clear(Refused::Offer);
                    return Ok(Outcome::Accepted(number));
                }
                Err(StoreError::Moved { newest }) => info!(newest, "another mesh came first"),
                Err(error) => return Err(error),
            }
        }
    }

    /// Applies what the store yields, for ever; end it by dropping it.
    pub async fn follow(self: Arc<Self>) {
        let catalog = Arc::clone(&self);
        let take = move || catalog.take(&mut catalog.seen(), None);
        self.store.feed(Log::Mesh).follow("mesh", take).await;
    }

    /// Takes up what the store has beyond what was seen. `offered` need not be read again.
    fn take(&self, seen: &mut u64, offered: Option<&Offer>) -> Result<(), StoreError> {
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
        let is_offered = |offer: &&Offer| state.values.get(MESH_KEY) == Some(&offer.document);
        let mesh = match offered.filter(is_offered) {
            Some(offer) => Ok(offer.mesh.clone()),
            None => read_state(&state, &self.defaults),
        };
        match mesh {
            Ok(mesh) => {
                self.clear(Refused::Stored);
                let revision = revision(&state, Arc::new(mesh));
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

fn revision(state: &State, mesh: Arc<Mesh>) -> Revision {
    Revision {
        number: state.revision,
        accepted_at: state
            .about
            .as_ref()
            .map_or_else(clock::now, |about| about.at),
        mesh,
    }
}

fn read_state(state: &State, defaults: &Defaults) -> Result<Mesh, Vec<MeshProblem>> {
    let name = format!("revision {} of the store", state.revision);
    let Some(text) = state.values.get(MESH_KEY) else {
        let problem = Problem {
            path: name,
            message: "holds no mesh".into(),
            hint: None,
        };
        return Err(vec![problem.into()]);
    };
    let file = MeshFile {
        name,
        text: Arc::clone(text),
    };
    Document::new(&[file], &[]).mesh(defaults)
}
