//! Idempotency keys: scoped to the principal, kept for 24 hours (reliability.md A1-A5). They are
//! written with the operation they belong to (`requests`).

use std::collections::HashMap;

use deadpool_postgres::GenericClient;
use plimsoll_domain::ids::OperationId;
use uuid::Uuid;

use crate::{Store, StoreError};

statements! {
    FIND = "SELECT request_hash, operation_id FROM idempotency_keys
             WHERE principal = $1 AND key = $2";
    FIND_MANY = "SELECT k.key, o.id, o.container_name
                   FROM idempotency_keys k JOIN update_operations o ON o.id = k.operation_id
                  WHERE k.principal = $1 AND k.key = ANY ($2::text[])";
    TAKE_MANY = "INSERT INTO idempotency_keys (principal, key, request_hash, operation_id)
                 SELECT $1, taken.key, $2, taken.operation
                   FROM unnest($3::text[], $4::uuid[]) AS taken (key, operation)";
    EXPIRE = "DELETE FROM idempotency_keys WHERE created_at < now() - interval '24 hours'";
}

/// What an earlier request with the same key asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    /// SHA-256 over method, path and body.
    pub request_hash: Vec<u8>,
    pub operation: OperationId,
}

/// Takes keys for operations of one request.
///
/// # Errors
/// `Constraint` with [`KEY_TAKEN`](crate::requests::KEY_TAKEN) when one of them is taken.
pub async fn take_many(
    client: &impl GenericClient,
    principal: &str,
    request_hash: &[u8],
    taken: &[(String, Uuid)],
) -> Result<(), StoreError> {
    let keys: Vec<&str> = taken.iter().map(|(key, _)| key.as_str()).collect();
    let operations: Vec<Uuid> = taken.iter().map(|(_, operation)| *operation).collect();
    let statement = client.prepare_cached(TAKE_MANY).await?;
    client
        .execute(&statement, &[&principal, &request_hash, &keys, &operations])
        .await?;
    Ok(())
}

impl Store {
    /// The operations of those keys that are taken, each with its container's name.
    pub async fn find_idempotency_keys(
        &self,
        principal: &str,
        keys: &[String],
    ) -> Result<HashMap<String, (OperationId, String)>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(FIND_MANY).await?;
        let rows = client.query(&statement, &[&principal, &keys]).await?;
        Ok(rows
            .iter()
            .map(|row| {
                let operation = OperationId::from_uuid(row.get(1));
                (row.get(0), (operation, row.get(2)))
            })
            .collect())
    }

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
