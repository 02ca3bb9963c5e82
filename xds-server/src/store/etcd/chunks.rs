//! What is longer than a request may be, in parts.

use super::{
    layout::{CHUNK_BYTES, CHUNKS_MAX},
    log::{EtcdLog, put},
    messages::{PutRequest, PutResponse, Request, RequestOp},
};
use crate::store::StoreError;

/// For all chunks of a revision to be written, and its transaction after them.
const LEASE_SECONDS: i64 = 600;
/// The key stays when its lease ends.
fn unlease(key: Vec<u8>) -> RequestOp {
    let put = PutRequest {
        key,
        ignore_value: true,
        ..PutRequest::default()
    };
    Request::Put(put).into()
}

impl EtcdLog {
    /// Gets what is long to the etcd: within the transaction where it is one chunk, else before it. How many
    /// chunks it is.
    pub(super) async fn write_chunks(
        &self,
        content: Vec<u8>,
        key: impl Fn(usize) -> Vec<u8>,
        transaction: &mut Vec<RequestOp>,
    ) -> Result<usize, StoreError> {
        let count = content.len().div_ceil(CHUNK_BYTES);
        if count > CHUNKS_MAX {
            return Err(StoreError::TooLarge(format!(
                "a change of {} bytes is more than an etcd takes at once ({} MiB): make it in several",
                content.len(),
                CHUNKS_MAX * CHUNK_BYTES / (1024 * 1024),
            )));
        }
        if count <= 1 {
            transaction.push(put(key(0), content));
            return Ok(1);
        }
        let lease = self.client.lease(LEASE_SECONDS).await?;
        for (number, chunk) in content.chunks(CHUNK_BYTES).enumerate() {
            let request = PutRequest {
                key: key(number),
                value: chunk.to_vec(),
                lease,
                ..PutRequest::default()
            };
            let written: Result<PutResponse, _> =
                self.client.call("/etcdserverpb.KV/Put", &request).await;
            // Nobody looks at a chunk whose revision is not there.
            written.map_err(|error| match error {
                StoreError::Uncertain { place, why } => StoreError::Broken { place, why },
                other => other,
            })?;
            transaction.push(unlease(key(number)));
        }
        Ok(count)
    }

    pub(super) async fn read_chunks(
        &self,
        count: usize,
        key: impl Fn(usize) -> Vec<u8>,
        at: i64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let mut content = Vec::new();
        for chunk in 0..count {
            let (found, _) = self.client.get(key(chunk), at).await?;
            let Some(found) = found else {
                return Ok(None);
            };
            content.extend(found.value);
        }
        Ok(Some(content))
    }
}
