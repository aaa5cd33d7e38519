//! Idempotency keys: scoped to the principal, kept for 24 hours (reliability.md A1-A5).

use deadpool_postgres::GenericClient;
use plimsoll_domain::ids::OperationId;

use crate::{Store, StoreError};

statements! {
    CLAIM = "INSERT INTO idempotency_keys (principal, key, request_hash, operation_id)
             VALUES ($1, $2, $3, $4) ON CONFLICT (principal, key) DO NOTHING";
    FIND = "SELECT request_hash, operation_id FROM idempotency_keys
             WHERE principal = $1 AND key = $2 AND created_at > now() - interval '24 hours'";
    EXPIRE = "DELETE FROM idempotency_keys WHERE created_at < now() - interval '24 hours'";
}

/// What an earlier request with the same key asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    /// SHA-256 over method, path and body.
    pub request_hash: Vec<u8>,
    pub operation: OperationId,
}

/// Binds the key to the operation within the operation's own transaction. `false` means that a
/// concurrent or earlier request holds the key: roll back and [`Store::find_idempotency_key`].
pub async fn claim(
    client: &impl GenericClient,
    principal: &str,
    key: &str,
    request_hash: &[u8],
    operation: OperationId,
) -> Result<bool, StoreError> {
    let statement = client.prepare_cached(CLAIM).await?;
    let rows = client
        .execute(
            &statement,
            &[&principal, &key, &request_hash, &operation.as_uuid()],
        )
        .await?;
    Ok(rows == 1)
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
