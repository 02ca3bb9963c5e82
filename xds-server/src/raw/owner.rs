//! Owner of the raw resources: everything that changes them passes here, one after the other, and is in the
//! store before anybody sees it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tracing::{error, info};

use super::{
    changes::{self, Names, Refusal},
    document,
    files::{FileProblem, Files, Look},
    held::HeldFiles,
    key::{Entry, Key, Source},
    problem::Problem,
    request,
    rows::{self, Row},
    state::{Changes, RawState},
};
use crate::{
    catalog::{IfMatch, Revision},
    clock,
    compile::Encoder,
    loud,
    store::{self, About, Change, Draft, Log, Since, Store, StoreError},
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
    files: Files,
    /// Problems that were told last.
    told: Arc<Vec<FileProblem>>,
}

/// The owner. It never applies what it was asked for: that goes into the store, and what comes back from there
/// is applied, whoever wrote it.
pub struct RawResources {
    store: Arc<dyn Store>,
    writer: Mutex<Writer>,
    states: watch::Sender<Arc<RawState>>,
    problems: watch::Sender<Arc<Vec<FileProblem>>>,
    /// Files that a freeze keeps waiting.
    pub(super) waiting: watch::Sender<Option<Arc<HeldFiles>>>,
    encoder: Arc<Encoder>,
    pub(super) revisions: watch::Receiver<Arc<Revision>>,
    /// Whether files count.
    has_folder: bool,
    /// What the mesh's revision with this number produces.
    pub(super) names: Mutex<Option<(u64, Arc<Names>)>>,
}

/// What this server has just written: its revision, read already.
type Written<'w> = (u64, &'w Changes);

impl RawResources {
    /// What the store kept, and what a first look into the folder of `--resources` finds.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub fn open(
        store: Arc<dyn Store>,
        first_look: Option<Look>,
        encoder: Arc<Encoder>,
        revisions: watch::Receiver<Arc<Revision>>,
    ) -> Result<Self, StoreError> {
        let kept = store.load(Log::Resources)?;
        let resources = Self {
            store,
            writer: Mutex::new(Writer {
                files: Files::default(),
                told: Arc::default(),
            }),
            states: watch::Sender::new(Arc::new(RawState::empty())),
            problems: watch::Sender::default(),
            waiting: watch::Sender::default(),
            encoder,
            revisions,
            has_folder: first_look.is_some(),
            names: Mutex::default(),
        };
        let state = resources.anew(&mut resources.writer(), &kept);
        resources.states.send_replace(Arc::new(state));
        if let Some(look) = first_look {
            resources.take_files(Ok(&look));
        }
        Ok(resources)
    }

    /// Follows revisions.
    pub fn states(&self) -> watch::Receiver<Arc<RawState>> {
        self.states.subscribe()
    }

    /// Kept revisions before `before`, the newest first. Waits for the store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn history(&self, before: u64, limit: usize) -> Result<Vec<(u64, About)>, StoreError> {
        self.store.history(Log::Resources, before, limit)
    }

    /// Follows what is wrong with the files.
    pub fn problems(&self) -> watch::Receiver<Arc<Vec<FileProblem>>> {
        self.problems.subscribe()
    }

    /// Follows files that wait for the end of a freeze.
    pub fn waiting(&self) -> watch::Receiver<Option<Arc<HeldFiles>>> {
        self.waiting.subscribe()
    }

    /// Carries out a call: all of it or nothing. Blocks until the store has it.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub fn apply(&self, body: &[u8], mode: Mode, about: &About) -> Result<Applied, Refusal> {
        self.apply_if(body, mode, about, None)
    }

    /// The same, only while such a revision is in force.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub fn apply_if(
        &self,
        body: &[u8],
        mode: Mode,
        about: &About,
        if_match: Option<&IfMatch>,
    ) -> Result<Applied, Refusal> {
        let invalid = |problem| Refusal::Invalid(vec![problem]);
        let mut writer = self.writer();
        let known = self.store.catch_up(Log::Resources);
        known.map_err(Refusal::Store)?;
        loop {
            self.catch_up(&mut writer, None).map_err(Refusal::Store)?;
            let request = text(body).and_then(|text| request::read(text, &self.encoder));
            let request = request.map_err(invalid)?;
            let state = Arc::clone(&self.states.borrow());
            if if_match.is_some_and(|believed| !believed.fits(state.revision())) {
                return Err(Refusal::Moved(state.revision()));
            }
            let changes = changes::of(request, &state, &self.names(), &self.encoder)?;
            let mut applied = Applied {
                revision: state.revision(),
                changes: changes.len(),
            };
            if mode == Mode::DryRun || changes.is_empty() {
                return Ok(applied);
            }
            let draft = Draft {
                about: about.clone(),
                changes: changes.iter().map(row).collect(),
            };
            match self.store.append(Log::Resources, state.revision(), draft) {
                Ok(revision) => {
                    applied.revision = revision;
                    let caught_up = self.catch_up(&mut writer, Some((revision, &changes)));
                    caught_up.map_err(Refusal::Store)?;
                    self.tell_problems(&mut writer, None);
                    let changes = applied.changes;
                    info!(revision, changes, "resources applied");
                    return Ok(applied);
                }
                // What the call means is decided anew.
                Err(StoreError::Moved { newest }) => info!(newest, "another call came first"),
                Err(error) => return Err(Refusal::Store(error)),
            }
        }
    }

    /// Takes a look into the folder, or why there is none: then everything stays as it is. All that
    /// changed is one revision. False when the store did not take it: then it has to be said again.
    pub fn take_files(&self, look: Result<&Look, String>) -> bool {
        let mut writer = self.writer();
        let look = match look {
            Ok(look) => look,
            Err(error) => {
                let problem = Problem::new(format!("the folder cannot be read: {error}"));
                self.tell_problems(&mut writer, Some(problem));
                return true;
            }
        };
        // Before anything was ever kept there is nothing that a freeze could hold on to.
        let is_new = self.states.borrow().revision() == 0 && !writer.files.has_looked();
        writer.files.look(look, &self.encoder);
        let kept = self.keep_files(&mut writer, is_new.then(of_files).as_ref());
        let problem = kept.as_ref().err().map(|error| {
            Problem::new(format!(
                "changed files are good, but cannot be kept: {error}"
            ))
        });
        self.tell_problems(&mut writer, problem);
        matches!(kept, Ok(Kept::All))
    }

    /// Lets in what a freeze keeps waiting; the newest revision then. Blocks until the store has it.
    ///
    /// # Errors
    /// A store that does not take it.
    pub fn let_in(&self, about: &About) -> Result<u64, StoreError> {
        let mut writer = self.writer();
        self.keep_files(&mut writer, Some(about))?;
        Ok(self.states.borrow().revision())
    }

    /// Keeps what files say that is not kept yet. With `forced` no freeze holds it back.
    fn keep_files(&self, writer: &mut Writer, forced: Option<&About>) -> Result<Kept, StoreError> {
        loop {
            self.catch_up(writer, None)?;
            let row = |(name, text): (&str, Option<&Arc<str>>)| Change {
                key: rows::of_file(name),
                value: text.cloned(),
            };
            let changes: Vec<Change> = writer.files.offers().into_iter().map(row).collect();
            if changes.is_empty() {
                self.stop_waiting();
                return Ok(Kept::All);
            }
            if forced.is_none() && self.must_wait(&writer.files) {
                return Ok(Kept::Waits);
            }
            let draft = Draft {
                about: forced.cloned().unwrap_or_else(of_files),
                changes,
            };
            let after = self.states.borrow().revision();
            match self.store.append(Log::Resources, after, draft) {
                Ok(revision) => info!(revision, "files of --resources taken"),
                Err(StoreError::Moved { newest }) => info!(newest, "another change came first"),
                Err(error) => return Err(error),
            }
        }
    }

    /// Applies what the store yields, for ever; end it by dropping it.
    pub async fn follow(self: Arc<Self>) {
        let resources = Arc::clone(&self);
        let take = move || {
            let mut writer = resources.writer();
            resources.catch_up(&mut writer, None)?;
            let folder = resources.folder_problem(&writer);
            resources.tell_problems(&mut writer, folder);
            Ok(())
        };
        let feed = self.store.feed(Log::Resources);
        feed.follow("resources", take).await;
    }

    /// Takes up what the store has beyond the state in force.
    fn catch_up(
        &self,
        writer: &mut Writer,
        written: Option<Written<'_>>,
    ) -> Result<(), StoreError> {
        let before = Arc::clone(&self.states.borrow());
        let state = match self.store.feed(Log::Resources).since(before.revision()) {
            Since::Entries(entries) if entries.is_empty() => return Ok(()),
            Since::Entries(entries) => {
                let mut state = RawState::clone(&before);
                for entry in entries {
                    state = self.after(writer, &state, &entry, written);
                }
                state
            }
            Since::Unknown => {
                let kept = self.store.load(Log::Resources)?;
                self.anew(writer, &kept)
            }
        };
        self.states.send_replace(Arc::new(state));
        Ok(())
    }

    /// The state after a revision of the store.
    fn after(
        &self,
        writer: &mut Writer,
        state: &RawState,
        entry: &store::Entry,
        written: Option<Written<'_>>,
    ) -> RawState {
        let revision = entry.revision;
        if let Some((_, changes)) = written.filter(|(number, _)| *number == revision) {
            let changes = writer.files.uncovered(changes.clone());
            return state.with(&changes, revision);
        }
        let mut changes = Changes::new();
        let mut has_files = false;
        for Change { key, value } in &entry.changes {
            match rows::read(key) {
                Some(Row::Resource(key)) => match value {
                    None => _ = changes.insert(key, None),
                    Some(value) => {
                        if let Some(entry) = self.entry(value, state.get(&key)) {
                            changes.insert(key, Some(entry));
                        }
                    }
                },
                Some(Row::File(name)) if self.has_folder => {
                    writer.files.keep(&name, value.as_ref(), &self.encoder);
                    has_files = true;
                }
                Some(Row::File(_)) => {}
                None => error!(%key, "a row that is of no known kind is left out"),
            }
        }
        let changes = writer.files.uncovered(changes);
        let mut state = state.with(&changes, revision);
        if has_files {
            state = state.with(&writer.files.changes(&state), revision);
        }
        state
    }

    /// All that the store holds.
    fn anew(&self, writer: &mut Writer, kept: &store::State) -> RawState {
        let before = Arc::clone(&self.states.borrow());
        let mut changes = Changes::new();
        writer.files.forget_kept();
        for (key, value) in &kept.values {
            match rows::read(key) {
                Some(Row::Resource(key)) => {
                    if let Some(entry) = self.entry(value, before.get(&key)) {
                        changes.insert(key, Some(entry));
                    }
                }
                Some(Row::File(name)) if self.has_folder => {
                    writer.files.keep(&name, Some(value), &self.encoder);
                }
                Some(Row::File(_)) => {}
                None => error!(%key, "a row that is of no known kind is left out"),
            }
        }
        writer.files.drop_unkept();
        let state = RawState::empty().with(&changes, kept.revision);
        state.with(&writer.files.changes(&state), kept.revision)
    }

    /// A resource of the store; none when it cannot be read: it was good when it was kept.
    fn entry(&self, value: &str, known: Option<&Arc<Entry>>) -> Option<Arc<Entry>> {
        let Some((overrides, body)) = rows::read_value(value) else {
            error!("a kept resource of no known form is left out");
            return None;
        };
        let offer = request::read_one(body, &self.encoder);
        let entry =
            offer.and_then(|offer| offer.entry(overrides, &Source::Api, known, &self.encoder));
        entry
            .inspect_err(|problem| error!(%problem, "a kept resource is left out"))
            .ok()
    }

    /// What is wrong with the folder itself, as it was told last.
    fn folder_problem(&self, writer: &Writer) -> Option<Problem> {
        let of_folder = writer.told.iter().find(|problem| problem.file.is_none());
        of_folder.map(|problem| problem.problem.clone())
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
            loud::tell(format_args!(
                "--resources: {problem}; what was good stays in force"
            ));
            error!(%problem, "problem in --resources");
        }
        writer.told = Arc::new(problems);
        self.problems.send_replace(Arc::clone(&writer.told));
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of changed files.
enum Kept {
    /// All of them are kept.
    All,
    /// A freeze holds them back.
    Waits,
}

fn of_files() -> About {
    About::of_files(clock::now(), "--resources")
}

fn text(body: &[u8]) -> Result<&str, Problem> {
    str::from_utf8(body).map_err(|error| {
        let good = String::from_utf8_lossy(&body[..error.valid_up_to()]);
        let at = document::position(&good, good.len());
        Problem::new("is not UTF-8").at(at)
    })
}

/// A change as the store keeps it.
fn row((key, entry): (&Key, &Option<Arc<Entry>>)) -> Change {
    Change {
        key: rows::of_resource(key),
        value: entry.as_deref().map(rows::value),
    }
}
