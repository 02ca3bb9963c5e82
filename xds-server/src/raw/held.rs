//! Files of `--resources` that a freeze keeps waiting (`freeze: {files: hold}`), as it keeps the mesh file.

use std::sync::Arc;

use policy::time::WallTime;
use tracing::warn;

use super::{RawResources, files::Files};
use crate::{
    clock, loud,
    mesh::{Frozen, FrozenFiles},
};

/// Files that wait for the end of a freeze.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldFiles {
    /// Since when.
    pub since: WallTime,
    /// For what.
    pub frozen: Frozen,
    /// By name, those that are gone too.
    pub files: Vec<String>,
}

impl RawResources {
    /// Whether a freeze of the mesh in force holds changed files back. Said once for the same files.
    pub(super) fn must_wait(&self, files: &Files) -> bool {
        let mesh = Arc::clone(&self.revisions.borrow().mesh);
        if mesh.freeze.files != FrozenFiles::Hold {
            return false;
        }
        let now = clock::now();
        let Some(frozen) = mesh.freeze.at(&mesh.timetable, now) else {
            return false;
        };
        let offers = files.offers();
        let names = offers.iter().map(|(name, _)| (*name).to_string());
        let names: Vec<String> = names.collect();
        let known = self.waiting.borrow().clone();
        if let Some(known) = &known
            && known.frozen == frozen
            && known.files == names
        {
            return true;
        }
        let (said, count) = (frozen.sentence(mesh.timetable.zone()), names.len());
        loud::tell(format_args!(
            "--resources: {count} file(s) wait, since {said} (freeze.files: hold); `mumbai-mesh history` shows them"
        ));
        warn!(files = ?names, "files of --resources are kept waiting: {said}");
        self.waiting.send_replace(Some(Arc::new(HeldFiles {
            since: known.map_or(now, |known| known.since),
            frozen,
            files: names,
        })));
        true
    }

    pub(super) fn stop_waiting(&self) {
        self.waiting
            .send_if_modified(|waiting| waiting.take().is_some());
    }
}
