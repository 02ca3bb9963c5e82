//! Owner of the raw resources: everything that changes them passes here, one after the other, and is on
//! disk before anybody sees it.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use tracing::{error, info, warn};

use super::{
    changes::{self, Names, Refusal},
    document,
    files::{FileProblem, Files, Look},
    key::{Entry, Key, Source},
    problem::Problem,
    request,
    state::{Changes, RawState},
    store::{Batch, Kept, Store, StoreError},
};
use crate::{
    catalog::Revision,
    compile::{self, Encoder},
};

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The revision in force.
    pub revision: u64,
    /// Resources set or removed; content that is there already is no change.
    pub changes: usize,
}

/// Whether a call is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is.
    Apply,
    /// Only checked.
    DryRun,
}

struct Writer {
    store: Store,
    files: Files,
    /// Problems that were told last.
    told: Arc<Vec<FileProblem>>,
}

/// The owner.
pub struct RawResources {
    writer: Mutex<Writer>,
    states: watch::Sender<Arc<RawState>>,
    problems: watch::Sender<Arc<Vec<FileProblem>>>,
    encoder: Arc<Encoder>,
    revisions: watch::Receiver<Arc<Revision>>,
    /// What the mesh's revision with this number produces.
    names: Mutex<(u64, Arc<Names>)>,
}

impl RawResources {
    /// What `state_dir` kept, and what a first look into the folder of `--resources` finds.
    ///
    /// # Errors
    /// A store that cannot be opened or read.
    pub fn open(
        state_dir: &Path,
        first_look: Option<Look>,
        encoder: Arc<Encoder>,
        revisions: watch::Receiver<Arc<Revision>>,
    ) -> Result<Self, StoreError> {
        let mut store = Store::open(state_dir)?;
        let kept = store.load()?;
        let mut changes = Changes::new();
        for (key, overrides, body) in &kept.resources {
            let entry = request::read_one(body, &encoder)
                .and_then(|offer| offer.entry(*overrides, &Source::Api, None, &encoder));
            match entry {
                Ok(entry) => _ = changes.insert(key.clone(), Some(entry)),
                Err(problem) => error!(%problem, "a kept resource is left out"),
            }
        }
        let mut state = RawState::empty().with(&changes, kept.revision);
        let mut files = Files::default();
        if first_look.is_some() {
            files.restore(kept.files, &encoder);
            state = state.with(&files.changes(&state), kept.revision);
        }
        let resources = Self {
            writer: Mutex::new(Writer {
                store,
                files,
                told: Arc::default(),
            }),
            states: watch::Sender::new(Arc::new(state)),
            problems: watch::Sender::default(),
            encoder,
            revisions,
            names: Mutex::default(),
        };
        if let Some(look) = first_look {
            resources.take_files(Ok(&look));
        }
        Ok(resources)
    }

    /// Follows revisions.
    pub fn states(&self) -> watch::Receiver<Arc<RawState>> {
        self.states.subscribe()
    }

    /// Follows what is wrong with the files.
    pub fn problems(&self) -> watch::Receiver<Arc<Vec<FileProblem>>> {
        self.problems.subscribe()
    }

    /// Carries out a call: all of it or nothing. Blocks until the disk has it.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub fn apply(&self, body: &[u8], mode: Mode) -> Result<Applied, Refusal> {
        let invalid = |problem| Refusal::Invalid(vec![problem]);
        let mut writer = self.writer();
        let request = text(body).and_then(|text| request::read(text, &self.encoder));
        let request = request.map_err(invalid)?;
        let state = Arc::clone(&self.states.borrow());
        let changes = changes::of(request, &state, &self.names(), &self.encoder)?;
        let mut applied = Applied {
            revision: state.revision(),
            changes: changes.len(),
        };
        if mode == Mode::DryRun || changes.is_empty() {
            return Ok(applied);
        }
        applied.revision += 1;
        let batch = Batch {
            revision: applied.revision,
            resources: changes
                .iter()
                .map(|(key, entry)| (key, entry.as_deref()))
                .collect(),
            files: Vec::new(),
        };
        let Writer { store, files, .. } = &mut *writer;
        store
            .commit(&batch, state.revision(), || everything(&state, files))
            .map_err(Refusal::Store)?;
        let changes = files.uncovered(changes);
        self.states
            .send_replace(Arc::new(state.with(&changes, applied.revision)));
        self.tell_problems(&mut writer, None);
        info!(
            revision = applied.revision,
            changes = applied.changes,
            "resources applied"
        );
        Ok(applied)
    }

    /// Takes a look into the folder, or why there is none: then everything stays as it is. All that
    /// changed is one revision.
    pub fn take_files(&self, look: Result<&Look, String>) {
        let mut writer = self.writer();
        let look = match look {
            Ok(look) => look,
            Err(error) => {
                let problem = Problem::new(format!("the folder cannot be read: {error}"));
                return self.tell_problems(&mut writer, Some(problem));
            }
        };
        let state = Arc::clone(&self.states.borrow());
        let changes = match writer.files.take(look, &self.encoder) {
            true => writer.files.changes(&state),
            false => Changes::new(),
        };
        let revision = state.revision() + u64::from(!changes.is_empty());
        let Writer { store, files, .. } = &mut *writer;
        let unsaved = files.unsaved();
        if revision > state.revision() || !unsaved.is_empty() {
            let batch = Batch {
                revision,
                resources: Vec::new(),
                files: unsaved,
            };
            // The folder itself has them; what is missing is their last good text, should a file be
            // broken when the server starts again. The next look tries again.
            match store.commit(&batch, state.revision(), || everything(&state, files)) {
                Ok(()) => files.saved(),
                Err(error) => warn!(%error, "the files of --resources could not be kept"),
            }
        }
        if !changes.is_empty() {
            info!(
                revision,
                changes = changes.len(),
                "files of --resources taken"
            );
            self.states
                .send_replace(Arc::new(state.with(&changes, revision)));
        }
        self.tell_problems(&mut writer, None);
    }

    /// Problems become state; each is said once, on stderr and in the log.
    fn tell_problems(&self, writer: &mut Writer, folder: Option<Problem>) {
        let mut problems = writer.files.problems();
        problems.extend(folder.map(|problem| FileProblem {
            file: None,
            problem,
        }));
        if *writer.told == problems {
            return;
        }
        for problem in problems.iter().filter(|one| !writer.told.contains(one)) {
            eprintln!("--resources: {problem}; what was good stays in force");
            error!(%problem, "problem in --resources");
        }
        writer.told = Arc::new(problems);
        self.problems.send_replace(Arc::clone(&writer.told));
    }

    /// Everything that the mesh in force produces.
    fn names(&self) -> Arc<Names> {
        let revision = Arc::clone(&self.revisions.borrow());
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        // Revisions count from 1.
        if names.0 != revision.number {
            *names = (revision.number, Arc::new(compile::names(&revision.mesh)));
        }
        Arc::clone(&names.1)
    }

    /// Resources of a revision that are not in force, since the mesh came to produce one of their name.
    pub fn hidden_by_the_mesh(&self, state: &RawState) -> Vec<FileProblem> {
        let names = self.names();
        let is_hidden = |(key, entry): &(&Key, &Arc<Entry>)| {
            !entry.overrides && names.contains(&(key.kind, key.name.to_string()))
        };
        let problem = |(key, entry): (&Key, &Arc<Entry>)| FileProblem {
            file: match &entry.source {
                Source::Api => None,
                Source::File(file) => Some(file.to_string()),
            },
            problem: Problem {
                kind: Some(key.kind.url().into()),
                name: Some((&*key.name).into()),
                ..Problem::new(format!(
                    "not in force for {} where the mesh produces a resource of this name; say \
                     \"override\": true to replace it",
                    key.nodes
                ))
            },
        };
        state.iter().filter(is_hidden).map(problem).collect()
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn text(body: &[u8]) -> Result<&str, Problem> {
    str::from_utf8(body).map_err(|error| {
        let good = String::from_utf8_lossy(&body[..error.valid_up_to()]);
        let at = document::position(&good, good.len());
        Problem::new("is not UTF-8").at(at)
    })
}

/// All that the store has to hold.
fn everything(state: &RawState, files: &Files) -> Kept {
    let of_the_api = state
        .iter()
        .filter(|(_, entry)| entry.source == Source::Api)
        .map(|(key, entry)| (key.clone(), entry.overrides, entry.body.to_string()));
    Kept {
        revision: state.revision(),
        resources: of_the_api.collect(),
        files: files.all_good(),
    }
}
