//! Idempotency keys: scoped to the principal, kept for 24 hours (reliability.md A1-A5). They are
//! written with the operation they belong to (`requests`).

use plimsoll_domain::ids::OperationId;

use crate::{Store, StoreError};

statements! {
    FIND = "SELECT request_hash, operation_id FROM idempotency_keys
             WHERE principal = $1 AND key = $2";
    EXPIRE = "DELETE FROM idempotency_keys WHERE created_at < now() - interval '24 hours'";
}

/// What an earlier request with the same key asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    /// SHA-256 over method, path and body.
    pub request_hash: Vec<u8>,
    pub operation: OperationId,
}

impl Store {
    pub async fn find_idempotency_key(
        &self,
        principal: &str,
        key: &str,
    ) -> Result<Option<KnownKey>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(FIND).await?;
        let row = client.query_opt(&statement, &[&principal, &key]).await?;
        Ok(row.map(|row| KnownKey {
            request_hash: row.get(0),
            operation: OperationId::from_uuid(row.get(1)),
        }))
    }

    /// Forgets keys that are older than 24 hours.
    pub async fn expire_idempotency_keys(&self) -> Result<u64, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(EXPIRE).await?;
        Ok(client.execute(&statement, &[]).await?)
    }
}
