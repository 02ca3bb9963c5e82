//! Revisions of another store, put into a log that holds nothing. The pointer comes last, so whatever ends it in
//! between leaves a log that still holds nothing.

use super::{
    log::{EtcdLog, put},
    messages::{RequestOp, TxnRequest, TxnResponse},
};
use crate::store::{Entry, KEPT, State, StoreError};

impl EtcdLog {
    /// See [`crate::store::Store::seed`].
    pub async fn seed(&self, mut entries: Vec<Entry>) -> Result<(), StoreError> {
        let too_many = entries
            .len()
            .saturating_sub(usize::try_from(KEPT).unwrap_or(usize::MAX));
        entries.drain(..too_many);
        let Some(last) = entries.pop() else {
            return Ok(());
        };
        for Entry {
            revision,
            about,
            changes,
        } in entries
        {
            let mut operations = Vec::new();
            let id = format!("{:016x}", fastrand::u64(..));
            self.write_revision(revision, &id, (&about, &changes), &mut operations)
                .await?;
            self.put_first(operations).await?;
        }
        let (revision, about) = (last.revision, last.about.clone());
        let id = format!("{:016x}", fastrand::u64(..));
        let mut operations = vec![put(self.keys.newest(), revision.to_string().into_bytes())];
        if self.log.is_of_wholes() {
            let content = (&about, &*last.changes);
            self.write_revision(revision, &id, content, &mut operations)
                .await?;
        } else {
            let mut state = State::default();
            state.apply(self.log, &last);
            self.write_state(state, &mut operations).await?;
            // Who made it; what it says is in the snapshot.
            self.write_revision(revision, &id, (&about, &[]), &mut operations)
                .await?;
        }
        self.put_first(operations).await?;
        self.feed.jump(revision);
        Ok(())
    }

    /// While there is no pointer.
    async fn put_first(&self, success: Vec<RequestOp>) -> Result<(), StoreError> {
        let request = TxnRequest {
            compare: vec![self.is_newest(0)],
            success,
            failure: Vec::new(),
        };
        let answer: TxnResponse = self.client.call("/etcdserverpb.KV/Txn", &request).await?;
        if answer.succeeded {
            return Ok(());
        }
        self.look().await?;
        let newest = self.feed.revision();
        Err(StoreError::Moved { newest })
    }
}
