//! Secrets and leases in an etcd.

use std::{sync::Arc, time::Duration};

use super::{
    client::Client,
    messages::{
        Compare, CompareTarget, DeleteRangeRequest, PutRequest, Request, RequestOp, TxnRequest,
        TxnResponse, Wanted,
    },
};
use crate::store::{Secret, StoreError};

const TXN: &str = "/etcdserverpb.KV/Txn";

/// What is kept beside the logs.
pub struct Secrets {
    prefix: String,
    client: Arc<Client>,
}

fn compare(key: &[u8], target: CompareTarget, wanted: Wanted) -> Compare {
    Compare {
        target: target.into(),
        key: key.to_vec(),
        wanted: Some(wanted),
    }
}

impl Secrets {
    pub fn new(prefix: &str, client: Arc<Client>) -> Self {
        Self {
            prefix: prefix.into(),
            client,
        }
    }

    fn secret_key(&self, name: &str) -> Vec<u8> {
        format!("{}secrets/{name}", self.prefix).into_bytes()
    }

    fn lease_key(&self, name: &str) -> Vec<u8> {
        format!("{}leases/{name}", self.prefix).into_bytes()
    }

    /// Its version is how often its key was written.
    pub async fn secret(&self, name: &str) -> Result<Option<Secret>, StoreError> {
        let (found, _) = self.client.get(self.secret_key(name), 0).await?;
        Ok(found.map(|found| Secret {
            version: found.version.cast_unsigned(),
            bytes: found.value.into(),
        }))
    }

    pub async fn keep(&self, name: &str, after: u64, bytes: &[u8]) -> Result<u64, StoreError> {
        let key = self.secret_key(name);
        let put = PutRequest {
            key: key.clone(),
            value: bytes.to_vec(),
            ..PutRequest::default()
        };
        let request = TxnRequest {
            compare: vec![compare(
                &key,
                CompareTarget::Version,
                Wanted::Version(after.cast_signed()),
            )],
            success: vec![Request::Put(put).into()],
            failure: Vec::new(),
        };
        let answered: Result<TxnResponse, _> = self.client.call(TXN, &request).await;
        let full = match answered {
            Ok(answer) if answer.succeeded => return Ok(after + 1),
            Ok(_) => None,
            // So it says of the write as well with which it passes its limit, and carries that one out.
            Err(full @ StoreError::Full { .. }) => Some(full),
            Err(error) => return Err(error),
        };
        // Perhaps by an attempt whose answer was lost.
        match self.secret(name).await? {
            Some(there) if there.version == after + 1 && *there.bytes == bytes => Ok(after + 1),
            there => Err(full.unwrap_or(StoreError::Moved {
                newest: there.map_or(0, |there| there.version),
            })),
        }
    }

    /// The etcd's lease begins after the call does, so it ends after its holder believes.
    pub async fn hold(&self, name: &str, holder: &str, span: Duration) -> Result<bool, StoreError> {
        let key = self.lease_key(name);
        let seconds = span.as_secs() + u64::from(span.subsec_nanos() > 0);
        let lease = self.client.lease(seconds.cast_signed()).await?;
        let mine = PutRequest {
            key: key.clone(),
            value: holder.as_bytes().to_vec(),
            lease,
            ..PutRequest::default()
        };
        let put: RequestOp = Request::Put(mine).into();
        let conditions = [
            compare(&key, CompareTarget::Create, Wanted::CreateRevision(0)),
            compare(
                &key,
                CompareTarget::Value,
                Wanted::Value(holder.as_bytes().to_vec()),
            ),
        ];
        for condition in conditions {
            let request = TxnRequest {
                compare: vec![condition],
                success: vec![put.clone()],
                failure: Vec::new(),
            };
            let answer: TxnResponse = self.client.call(TXN, &request).await?;
            if answer.succeeded {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        let key = self.lease_key(name);
        let is_mine = compare(
            &key,
            CompareTarget::Value,
            Wanted::Value(holder.as_bytes().to_vec()),
        );
        let delete = DeleteRangeRequest {
            key,
            range_end: Vec::new(),
        };
        let request = TxnRequest {
            compare: vec![is_mine],
            success: vec![Request::DeleteRange(delete).into()],
            failure: Vec::new(),
        };
        let _: TxnResponse = self.client.call(TXN, &request).await?;
        Ok(())
    }
}
