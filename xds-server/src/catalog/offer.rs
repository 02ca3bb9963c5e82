//! What files say: put in force, or kept waiting by a freeze.

use std::sync::{Arc, MutexGuard, PoisonError};

use tracing::{info, warn};

use super::{
    Catalog, ChangeError, Changed, IfMatch, Offer, Outcome, Refused, Revision, Waiting, rows,
};
use crate::{
    clock,
    desired::Desired,
    loud,
    mesh::{FrozenFiles, Mesh},
    plan::kept_out,
    store::{About, Draft, Log, StoreError},
};

impl Catalog {
    /// Puts what the files say in the place of what is in force, unless they say that already, or said it when a
    /// rollback put something else there. Waits for the store.
    ///
    /// # Errors
    /// When the store does not take it: nothing was changed.
    pub fn offer(&self, offer: &Offer) -> Result<Outcome, StoreError> {
        let mut seen = self.seen();
        let outcome = self.put(&mut seen, offer, false)?;
        let held = (outcome == Outcome::Held).then(|| offer.clone());
        *self.held() = held;
        Ok(outcome)
    }

    /// Puts files that a freeze keeps waiting in force before it ends. None where none wait.
    ///
    /// # Errors
    /// Another revision is in force than the caller believes; the store does not take it.
    pub fn let_in(
        &self,
        about: &About,
        if_match: Option<&IfMatch>,
        dry_run: bool,
    ) -> Result<Option<Changed>, ChangeError> {
        let mut seen = self.seen();
        let Some(held) = self.held().clone() else {
            return Ok(None);
        };
        self.store.catch_up(Log::Mesh)?;
        self.take(&mut seen, None)?;
        let before = Arc::clone(&self.revisions.borrow());
        if if_match.is_some_and(|believed| !believed.fits(before.number)) {
            return Err(ChangeError::Moved(before.number));
        }
        if dry_run {
            let (_, mesh) = self.with_files(&held, &before);
            return Ok(Some(Changed {
                number: before.number,
                mesh: Arc::new(mesh),
                before,
                is_new: false,
            }));
        }
        let offer = Offer {
            about: about.clone(),
            ..held
        };
        let outcome = self.put(&mut seen, &offer, true)?;
        *self.held() = None;
        let now = Arc::clone(&self.revisions.borrow());
        Ok(Some(Changed {
            before,
            mesh: Arc::clone(&now.mesh),
            number: now.number,
            is_new: matches!(outcome, Outcome::Accepted(_)),
        }))
    }

    fn held(&self) -> MutexGuard<'_, Option<Offer>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// With `forced` no freeze keeps it waiting.
    fn put(&self, seen: &mut u64, offer: &Offer, forced: bool) -> Result<Outcome, StoreError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        *file = Some(Arc::clone(&offer.file));
        drop(file);
        loop {
            self.take(seen, None)?;
            let current = Arc::clone(&self.revisions.borrow());
            // A newest revision that nobody here can read is replaced, whatever is in force.
            let is_read = current.number > 0 && current.number == *seen;
            if is_read && current.desired.layers().file.as_deref() == Some(offer.file.mark()) {
                return Ok(self.said_already());
            }
            let (desired, mesh) = self.with_files(offer, &current);
            let is_pinned = current.desired.layers().pinned.is_some();
            let keeps = desired.layers().over_files() == current.desired.layers().over_files();
            if is_read && !is_pinned && keeps && *current.mesh == mesh {
                return Ok(self.said_already());
            }
            if is_read && !forced && self.must_wait(offer, &current.mesh, &mesh) {
                self.clear(Refused::Offer);
                return Ok(Outcome::Held);
            }
            let draft = Draft {
                about: offer.about.clone(),
                changes: rows::changes(&desired),
            };
            match self.store.append(Log::Mesh, *seen, draft) {
                Ok(number) => {
                    self.take(seen, Some((&desired, &mesh)))?;
                    self.said_already();
                    return Ok(Outcome::Accepted(number));
                }
                Err(StoreError::Moved { newest }) => info!(newest, "another mesh came first"),
                Err(error) => return Err(error),
            }
        }
    }

    /// Nothing is outstanding.
    fn said_already(&self) -> Outcome {
        self.clear(Refused::Offer);
        self.stop_waiting();
        Outcome::Unchanged
    }

    /// What is wanted once the files say this. Files are never refused for what was written beside them: that goes.
    fn with_files(&self, offer: &Offer, current: &Revision) -> (Desired, Mesh) {
        let desired = current.desired.after_files(&offer.file);
        if Arc::ptr_eq(desired.document(), offer.file.document()) {
            return (desired, offer.mesh.clone());
        }
        let read = self.read(&desired, "the files, and what the API wrote beside them");
        let read = read.and_then(|mesh| match self.versions_lost(&current.mesh, &mesh) {
            lost if lost.is_empty() => Ok(mesh),
            lost => Err(lost),
        });
        match read {
            Ok(mesh) => (desired, mesh),
            Err(problems) => {
                for problem in &problems {
                    warn!(%problem, "what the API wrote beside the files does not fit them any more and is dropped");
                }
                (Desired::of_files(&offer.file), offer.mesh.clone())
            }
        }
    }

    /// Whether a freeze of the mesh in force holds changed files back.
    fn must_wait(&self, offer: &Offer, before: &Mesh, after: &Mesh) -> bool {
        if before.freeze.files != FrozenFiles::Hold {
            return false;
        }
        let now = clock::now();
        let Some(frozen) = before.freeze.at(&before.timetable, now) else {
            return false;
        };
        let mark = offer.file.mark();
        let known = self.waiting.borrow().clone();
        let known = known.filter(|known| known.mark == mark);
        if known.as_ref().is_some_and(|known| known.frozen == frozen) {
            return true;
        }
        let changes = kept_out(before, after, now);
        if changes.is_empty() {
            return false;
        }
        let said = frozen.sentence(before.timetable.zone());
        let (path, count) = (offer.file.path(), changes.len());
        loud::tell(format_args!(
            "{path}: {count} change(s) wait, since {said} (freeze.files: hold); `mumbai-mesh history` shows them"
        ));
        warn!(
            path,
            changes = count,
            "the mesh file is kept waiting: {said}"
        );
        self.waiting.send_replace(Some(Arc::new(Waiting {
            since: known.map_or(now, |known| known.since),
            frozen,
            changes,
            mark: mark.to_string(),
        })));
        true
    }

    pub(super) fn stop_waiting(&self) {
        *self.held() = None;
        self.waiting
            .send_if_modified(|waiting| waiting.take().is_some());
    }
}
