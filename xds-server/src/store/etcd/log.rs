//! One log in an etcd. A revision is one transaction behind a pointer that is compared and set; what is too
//! large for one is written before, in chunks under a lease that the transaction takes off them: a writer that
//! ends in between leaves nothing behind.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;
use tracing::warn;

use super::{
    client::Client,
    layout::{INLINE_BYTES_MAX, KeptChange, KeptRevision, Keys},
    messages::{
        Compare, CompareTarget, DeleteRangeRequest, PutRequest, RangeRequest, Request, RequestOp,
        Response, SortOrder, TxnRequest, TxnResponse, Wanted,
    },
    snapshot::Snapshots,
};
use crate::store::{About, Change, Draft, Entry, Feed, KEPT, Log, State, StoreError};

/// Revisions that are read one by one, to catch up; who is further behind reads everything anew.
const CATCH_UP_MAX: u64 = 64;
/// Of one load, while the etcd forgets its past.
const LOADS_MAX: u32 = 5;
/// So long is waited for a watch to tell of what is known to be there.
const WATCH_BEHIND: Duration = Duration::from_millis(100);
/// Revisions of which one page of a range is asked.
const PAGE: i64 = 16;

/// One log.
pub struct EtcdLog {
    pub(super) log: Log,
    pub(super) keys: Keys,
    pub(super) client: Arc<Client>,
    pub feed: Feed,
    /// One looks at a time.
    looking: tokio::sync::Mutex<()>,
    pub(super) snapshots: Snapshots,
}

/// As the pointer holds it.
fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

pub(super) fn put(key: Vec<u8>, value: Vec<u8>) -> RequestOp {
    let put = PutRequest {
        key,
        value,
        ..PutRequest::default()
    };
    Request::Put(put).into()
}

pub(super) fn delete(key: Vec<u8>, range_end: Vec<u8>) -> RequestOp {
    Request::DeleteRange(DeleteRangeRequest { key, range_end }).into()
}

fn get(key: Vec<u8>) -> RequestOp {
    let range = RangeRequest {
        key,
        ..RangeRequest::default()
    };
    Request::Range(range).into()
}

/// The revision that came before a transaction's.
fn came_first(mut answer: TxnResponse) -> Option<Vec<u8>> {
    match answer.responses.pop()?.response {
        Some(Response::Range(mut range)) => Some(range.kvs.pop()?.value),
        _ => None,
    }
}

impl EtcdLog {
    /// Revisions before this one go, with their contents.
    pub(super) fn drop_before(&self, first_kept: u64) -> [RequestOp; 2] {
        let keys = &self.keys;
        [
            delete(keys.revision(0), keys.revision(first_kept)),
            delete(keys.contents_from(0), keys.contents_from(first_kept)),
        ]
    }

    pub fn new(prefix: &str, log: Log, client: Arc<Client>) -> Self {
        Self {
            log,
            keys: Keys::new(prefix, log),
            client,
            feed: Feed::at(0),
            looking: tokio::sync::Mutex::default(),
            snapshots: Snapshots::default(),
        }
    }

    pub fn pointer(&self) -> Vec<u8> {
        self.keys.newest()
    }

    /// From now on what comes is followed; what is there already is read by who wants it.
    pub async fn begin(&self) -> Result<(), StoreError> {
        let (newest, _) = self.newest(0).await?;
        self.feed.jump(newest);
        Ok(())
    }

    /// Takes up what came, by whomever: a trigger carries no data.
    pub async fn look(&self) -> Result<(), StoreError> {
        let _one = self.looking.lock().await;
        let known = self.feed.revision();
        let (newest, _) = self.newest(0).await?;
        if newest < known {
            warn!(
                log = self.log.name(),
                known, newest, "the etcd was set back"
            );
            self.feed.jump(newest);
        }
        if newest > known + CATCH_UP_MAX {
            self.feed.jump(newest);
        }
        for number in self.feed.revision() + 1..=newest {
            match self.entry(number, 0).await? {
                Some(entry) => self.push(entry),
                // It is in a snapshot only.
                None => self.feed.jump(number),
            }
        }
        Ok(())
    }

    /// Who wrote it and who follows may both come with it: it counts once.
    fn push(&self, entry: Entry) {
        let entry = Arc::new(entry);
        if self.feed.push(Arc::clone(&entry)) {
            self.snapshots.saw(&entry);
        }
    }

    /// The pointer, and the etcd's own revision that was read.
    pub(super) async fn newest(&self, at: i64) -> Result<(u64, i64), StoreError> {
        let (found, revision) = self.client.get(self.keys.newest(), at).await?;
        let Some(found) = found else {
            return Ok((0, revision));
        };
        let newest = number(&found.value);
        let newest = newest.ok_or_else(|| self.foreign(&self.keys.newest()))?;
        Ok((newest, revision))
    }

    /// Has the feed know of all that was written before now. The watch is as far already, or a moment behind; where it
    /// is not, everything is read anew.
    pub async fn catch_up(&self) -> Result<(), StoreError> {
        let (newest, _) = self.newest(0).await?;
        let mut known = self.feed.newest();
        let told = known.wait_for(|known| *known >= newest);
        if timeout(WATCH_BEHIND, told).await.is_err() {
            self.feed.is_at_least(newest);
        }
        Ok(())
    }

    pub(super) fn foreign(&self, key: &[u8]) -> StoreError {
        let key = String::from_utf8_lossy(key);
        self.client
            .broken(format!("{key} holds what this version does not know"))
    }

    /// Appends, unless another came first.
    pub async fn append(&self, after: u64, draft: Draft) -> Result<u64, StoreError> {
        let revision = after + 1;
        let id = format!("{:016x}", fastrand::u64(..));
        let mut success = vec![put(self.keys.newest(), revision.to_string().into_bytes())];
        self.write_revision(revision, &id, (&draft.about, &draft.changes), &mut success)
            .await?;
        if self.log.is_of_wholes() && revision > KEPT {
            let first_kept = revision - KEPT + 1;
            success.extend(self.drop_before(first_kept));
        }
        let request = TxnRequest {
            compare: vec![self.is_newest(after)],
            success,
            failure: vec![get(self.keys.newest()), get(self.keys.revision(revision))],
        };
        let answered: Result<TxnResponse, _> =
            self.client.call("/etcdserverpb.KV/Txn", &request).await;
        let is_written = match answered {
            Ok(answer) => {
                answer.succeeded || KeptRevision::is_of(came_first(answer).as_deref(), &id)
            }
            Err(full @ StoreError::Full { .. }) => match self.is_there(revision, &id).await? {
                true => true,
                false => return Err(full),
            },
            Err(error) => return Err(error),
        };
        if !is_written {
            self.look().await?;
            let newest = self.feed.revision();
            return Err(StoreError::Moved { newest });
        }
        let Draft { about, changes } = draft;
        if self.feed.revision() == after {
            self.push(Entry {
                revision,
                about,
                changes,
            });
        } else if let Err(error) = self.look().await {
            return Err(StoreError::Uncertain {
                place: self.client.place().into(),
                why: error.to_string(),
            });
        }
        Ok(revision)
    }

    /// Gets a revision to the etcd: with the transaction, and before it what is too long for one.
    pub(super) async fn write_revision(
        &self,
        revision: u64,
        id: &str,
        (about, changes): (&About, &[Change]),
        transaction: &mut Vec<RequestOp>,
    ) -> Result<(), StoreError> {
        let failed = |error: serde_json::Error| self.client.broken(error.to_string());
        let changes: Vec<KeptChange> = changes.iter().map(Into::into).collect();
        let content = serde_json::to_vec(&changes).map_err(failed)?;
        let is_inline = content.len() <= INLINE_BYTES_MAX;
        let mut kept = KeptRevision {
            id: id.into(),
            about: about.clone(),
            changes: is_inline.then_some(changes),
            chunks: 0,
        };
        if !is_inline {
            let key = |chunk| self.keys.content(revision, id, chunk);
            kept.chunks = self.write_chunks(content, key, transaction).await?;
        }
        let kept = serde_json::to_vec(&kept).map_err(failed)?;
        transaction.push(put(self.keys.revision(revision), kept));
        Ok(())
    }

    pub(super) fn is_newest(&self, revision: u64) -> Compare {
        let (target, wanted) = match revision {
            0 => (CompareTarget::Create, Wanted::CreateRevision(0)),
            _ => (
                CompareTarget::Value,
                Wanted::Value(revision.to_string().into_bytes()),
            ),
        };
        Compare {
            target: target.into(),
            key: self.keys.newest(),
            wanted: Some(wanted),
        }
    }

    /// Whether a revision is the writer's of this id, although the etcd said that it is full: it says so of the
    /// transaction as well with which it passes its limit, and carries that one out.
    async fn is_there(&self, revision: u64, id: &str) -> Result<bool, StoreError> {
        let found = self.client.get(self.keys.revision(revision), 0).await;
        let (found, _) = found.map_err(|error| StoreError::Uncertain {
            place: self.client.place().into(),
            why: error.to_string(),
        })?;
        let kept = found.as_ref().map(|found| &*found.value);
        Ok(KeptRevision::is_of(kept, id))
    }

    /// A revision; none when it is not kept.
    async fn entry(&self, revision: u64, at: i64) -> Result<Option<Entry>, StoreError> {
        let (found, _) = self.client.get(self.keys.revision(revision), at).await?;
        match found {
            Some(found) => self.read(revision, &found.value, at).await,
            None => Ok(None),
        }
    }

    async fn read(&self, revision: u64, kept: &[u8], at: i64) -> Result<Option<Entry>, StoreError> {
        let foreign = || self.foreign(&self.keys.revision(revision));
        let kept: KeptRevision = serde_json::from_slice(kept).map_err(|_| foreign())?;
        let changes = match kept.changes {
            Some(changes) => changes,
            None => {
                let key = |chunk| self.keys.content(revision, &kept.id, chunk);
                let Some(content) = self.read_chunks(kept.chunks, key, at).await? else {
                    return Ok(None);
                };
                serde_json::from_slice(&content).map_err(|_| foreign())?
            }
        };
        Ok(Some(Entry {
            revision,
            about: kept.about,
            changes: changes.into_iter().map(Change::from).collect(),
        }))
    }

    /// All that holds at the newest revision. The feed goes on from there.
    pub async fn load(&self) -> Result<State, StoreError> {
        let state = self.read_all().await?;
        self.feed.is_at_least(state.revision);
        Ok(state)
    }

    /// All that holds at the newest revision.
    pub(super) async fn read_all(&self) -> Result<State, StoreError> {
        let mut attempts = 1;
        loop {
            match self.read_once().await {
                // The etcd forgot the moment at which we read: it is read as of a later one.
                Err(StoreError::Broken { why, .. })
                    if why.contains("compacted") && attempts < LOADS_MAX =>
                {
                    attempts += 1;
                }
                loaded => return loaded,
            }
        }
    }

    /// Every key as of the same moment.
    async fn read_once(&self) -> Result<State, StoreError> {
        let (newest, at) = self.newest(0).await?;
        if newest == 0 {
            return Ok(State::default());
        }
        let mut state = match self.log.is_of_wholes() {
            true => State {
                revision: newest - 1,
                ..State::default()
            },
            false => self.snapshot(at).await?,
        };
        self.snapshots.began();
        while state.revision < newest {
            let request = RangeRequest {
                key: self.keys.revision(state.revision + 1),
                range_end: self.keys.revision(newest + 1),
                limit: PAGE,
                revision: at,
                sort_order: SortOrder::Ascend.into(),
            };
            let page = self.client.range(&request).await?;
            for found in &page.kvs {
                let revision = state.revision + 1;
                let is_next = self.keys.number(&found.key) == Some(revision);
                let entry = match is_next {
                    true => self.read(revision, &found.value, at).await?,
                    false => None,
                };
                let entry = entry.ok_or_else(|| self.foreign(&self.keys.revision(revision)))?;
                self.snapshots.saw(&entry);
                state.apply(self.log, &entry);
            }
            if page.kvs.is_empty() {
                return Err(self.foreign(&self.keys.revision(state.revision + 1)));
            }
        }
        Ok(state)
    }

    /// A kept revision of a log of wholes.
    pub async fn kept(&self, revision: u64) -> Result<Option<State>, StoreError> {
        if !self.log.is_of_wholes() {
            return Ok(None);
        }
        let entry = self.entry(revision, 0).await?;
        Ok(entry.map(|entry| {
            let mut state = State::default();
            state.apply(self.log, &entry);
            state
        }))
    }

    /// Kept revisions before one, the newest first.
    pub async fn history(
        &self,
        before: u64,
        limit: usize,
    ) -> Result<Vec<(u64, About)>, StoreError> {
        let (newest, at) = self.newest(0).await?;
        let end = before.min(newest + 1);
        let first = (newest + 1).saturating_sub(KEPT);
        if end <= first || limit == 0 {
            return Ok(Vec::new());
        }
        let request = RangeRequest {
            key: self.keys.revision(first),
            range_end: self.keys.revision(end),
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
            revision: at,
            sort_order: SortOrder::Descend.into(),
        };
        let mut history = Vec::new();
        for found in self.client.range(&request).await?.kvs {
            let kept = serde_json::from_slice::<KeptRevision>(&found.value).ok();
            let number = self.keys.number(&found.key);
            let (Some(kept), Some(number)) = (kept, number) else {
                return Err(self.foreign(&found.key));
            };
            history.push((number, kept.about));
        }
        Ok(history)
    }
}
