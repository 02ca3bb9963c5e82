//! Changes by call: decided by what is in force, and decided anew when another one came first.

use std::sync::Arc;

use tracing::info;

use super::{Catalog, Revision, rows};
use crate::{
    desired::{Desired, FileContent, Refusal},
    mesh::{Mesh, MeshProblem},
    store::{About, Draft, Log, StoreError},
};

/// Which revision a caller believes to be in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMatch {
    /// Any, as long as there is one.
    Any,
    /// One of these.
    OneOf(Vec<u64>),
}

impl IfMatch {
    /// Whether it is this one.
    pub fn fits(&self, number: u64) -> bool {
        match self {
            Self::Any => number > 0,
            Self::OneOf(numbers) => numbers.contains(&number),
        }
    }
}

/// What a change begins with.
pub struct Current<'c> {
    /// What is in force.
    pub revision: &'c Revision,
    /// What this server's files say, where they say what is wanted.
    pub file: Option<&'c FileContent>,
}

/// What becomes of what is wanted.
pub type Edit<'c> = &'c dyn Fn(&Current<'_>) -> Result<Desired, Refusal>;

/// A change that somebody asks for.
pub struct Change<'c> {
    /// Who, when and why.
    pub about: About,
    /// Only then.
    pub if_match: Option<&'c IfMatch>,
    /// Whether it is only tried.
    pub dry_run: bool,
    /// What becomes of what is wanted. Asked again when another change came first.
    pub edit: Edit<'c>,
    /// Whether one mesh may become the other now.
    pub judge: &'c dyn Fn(&Mesh, &Mesh) -> Result<(), Refusal>,
}

/// A change that was made, or would be.
#[derive(Debug, Clone)]
pub struct Changed {
    /// What was in force.
    pub before: Arc<Revision>,
    /// What is.
    pub mesh: Arc<Mesh>,
    /// The revision in force.
    pub number: u64,
    /// Whether that is a new one.
    pub is_new: bool,
}

/// Why nothing was changed.
#[derive(Debug)]
pub enum ChangeError {
    /// It may not be.
    Refused(Refusal),
    /// The mesh that would be is none.
    Mesh(Vec<MeshProblem>),
    /// Another revision is in force than the caller believes: this one.
    Moved(u64),
    /// The store does not take it.
    Store(StoreError),
}

impl From<StoreError> for ChangeError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Catalog {
    /// Makes a change the next revision. Waits for the store.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub fn change(&self, change: &Change<'_>) -> Result<Changed, ChangeError> {
        let mut seen = self.seen();
        let file = self.file();
        self.store.catch_up(Log::Mesh)?;
        loop {
            self.take(&mut seen, None)?;
            let before = Arc::clone(&self.revisions.borrow());
            if change
                .if_match
                .is_some_and(|believed| !believed.fits(before.number))
            {
                return Err(ChangeError::Moved(before.number));
            }
            let current = Current {
                revision: &before,
                file: file.as_deref(),
            };
            let desired = (change.edit)(&current).map_err(ChangeError::Refused)?;
            let is_same = desired == *before.desired;
            let mesh = match desired.document() == before.desired.document() {
                true => Arc::clone(&before.mesh),
                false => {
                    let mesh = self.read(&desired, "mesh").map_err(ChangeError::Mesh)?;
                    let lost = self.versions_lost(&before.mesh, &mesh);
                    if !lost.is_empty() {
                        return Err(ChangeError::Mesh(lost));
                    }
                    (change.judge)(&before.mesh, &mesh).map_err(ChangeError::Refused)?;
                    Arc::new(mesh)
                }
            };
            let changed = |number, is_new| Changed {
                before: Arc::clone(&before),
                mesh: Arc::clone(&mesh),
                number,
                is_new,
            };
            // A newest revision that nobody here can read is replaced, whatever is in force.
            if change.dry_run || (is_same && before.number == *seen && before.number > 0) {
                return Ok(changed(before.number, false));
            }
            let draft = Draft {
                about: change.about.clone(),
                changes: rows::changes(&desired),
            };
            match self.store.append(Log::Mesh, *seen, draft) {
                Ok(number) => {
                    self.take(&mut seen, Some((&desired, &mesh)))?;
                    return Ok(changed(number, true));
                }
                Err(StoreError::Moved { newest }) => info!(newest, "another change came first"),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
