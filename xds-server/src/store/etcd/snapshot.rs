//! All that holds in a log of changes, written down from time to time: who starts reads that and what came
//! since, at most about twice what there is.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tracing::{debug, warn};

use super::{
    layout::KeptSnapshot,
    log::{EtcdLog, delete, put},
    messages::{Compare, CompareTarget, RequestOp, TxnRequest, TxnResponse, Wanted},
};
use crate::store::{Entry, KEPT, State, StoreError};

/// So much is not worth one.
const BYTES_MIN: usize = 8 * 1024 * 1024;
/// However little they say.
const REVISIONS_MAX: u64 = 256;

/// What came since the newest one, as far as this server saw it.
#[derive(Default)]
pub struct Snapshots {
    bytes_since: AtomicUsize,
    revisions_since: AtomicU64,
    /// Of the newest one.
    bytes: AtomicUsize,
    is_writing: AtomicBool,
}

impl Snapshots {
    /// Nothing came yet.
    pub fn began(&self) {
        self.bytes_since.store(0, Ordering::Relaxed);
        self.revisions_since.store(0, Ordering::Relaxed);
    }

    /// A revision came.
    pub fn saw(&self, entry: &Entry) {
        self.bytes_since.fetch_add(entry.size(), Ordering::Relaxed);
        self.revisions_since.fetch_add(1, Ordering::Relaxed);
    }

    /// The newest one has so many bytes.
    fn is_of(&self, bytes: usize) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    fn is_due(&self) -> bool {
        let enough = self.bytes.load(Ordering::Relaxed).max(BYTES_MIN);
        self.bytes_since.load(Ordering::Relaxed) > enough
            || self.revisions_since.load(Ordering::Relaxed) >= REVISIONS_MAX
    }
}

impl EtcdLog {
    /// What held at the newest snapshot; nothing before the first.
    pub async fn snapshot(&self, at: i64) -> Result<State, StoreError> {
        let (found, _) = self.client.get(self.keys.snapshot(), at).await?;
        let Some(found) = found else {
            return Ok(State::default());
        };
        let foreign = || self.foreign(&self.keys.snapshot());
        let kept: KeptSnapshot = serde_json::from_slice(&found.value).map_err(|_| foreign())?;
        let key = |chunk| self.keys.snapshot_part(kept.revision, &kept.id, chunk);
        let content = self
            .read_chunks(kept.chunks, key, at)
            .await?
            .ok_or_else(foreign)?;
        let values: Vec<(String, String)> =
            serde_json::from_slice(&content).map_err(|_| foreign())?;
        self.snapshots.is_of(kept.bytes);
        let values = values
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()));
        Ok(State {
            revision: kept.revision,
            about: Some(kept.about),
            values: values.collect(),
        })
    }

    /// Writes down all that holds, when enough came since the last time. One at a time; of several servers,
    /// the first one's counts.
    pub async fn snapshot_if_due(&self) {
        let snapshots = &self.snapshots;
        let is_due = !self.log.is_of_wholes() && snapshots.is_due();
        if !is_due || snapshots.is_writing.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Err(error) = self.write_snapshot().await {
            warn!(%error, "no snapshot; the next change tries again");
        }
        snapshots.is_writing.store(false, Ordering::Release);
    }

    async fn write_snapshot(&self) -> Result<(), StoreError> {
        let (before, _) = self.client.get(self.keys.snapshot(), 0).await?;
        let state = self.read_all().await?;
        let (mut success, revision) = (Vec::new(), state.revision);
        let Some(bytes) = self.write_state(state, &mut success).await? else {
            return Ok(());
        };
        success.push(delete(
            self.keys.snapshots_from(0),
            self.keys.snapshots_from(revision),
        ));
        // Who follows may still be reading the newest of those that are in the snapshot now.
        let first_kept = revision.saturating_sub(KEPT - 1);
        success.extend(self.drop_before(first_kept));
        let compare = Compare {
            target: CompareTarget::Mod.into(),
            key: self.keys.snapshot(),
            wanted: Some(Wanted::ModRevision(
                before.map_or(0, |before| before.mod_revision),
            )),
        };
        let request = TxnRequest {
            compare: vec![compare],
            success,
            failure: Vec::new(),
        };
        let answer: TxnResponse = self.client.call("/etcdserverpb.KV/Txn", &request).await?;
        debug!(revision, bytes, written = answer.succeeded, "snapshot");
        // Another server's is as good.
        self.snapshots.is_of(bytes);
        self.snapshots.began();
        Ok(())
    }

    /// Gets a state to the etcd: with the transaction, and before it what is too long for one. How many bytes it
    /// has; none where there is none.
    pub(super) async fn write_state(
        &self,
        state: State,
        transaction: &mut Vec<RequestOp>,
    ) -> Result<Option<usize>, StoreError> {
        let (Some(about), revision) = (state.about, state.revision) else {
            return Ok(None);
        };
        let values: Vec<(&str, &str)> = state
            .values
            .iter()
            .map(|(key, value)| (&**key, &**value))
            .collect();
        let failed = |error: serde_json::Error| self.client.broken(error.to_string());
        let content = serde_json::to_vec(&values).map_err(failed)?;
        let (id, bytes) = (format!("{:016x}", fastrand::u64(..)), content.len());
        let key = |chunk| self.keys.snapshot_part(revision, &id, chunk);
        let chunks = self.write_chunks(content, key, transaction).await?;
        let kept = KeptSnapshot {
            id: id.clone(),
            revision,
            about,
            chunks,
            bytes,
        };
        let kept = serde_json::to_vec(&kept).map_err(failed)?;
        transaction.push(put(self.keys.snapshot(), kept));
        Ok(Some(bytes))
    }
}
