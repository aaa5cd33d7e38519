//! Targets that were rolled back: not tried again until a newer one appears.

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use plimsoll_domain::ids::{BackupId, IdentityKey, OperationId};

use crate::{Store, StoreError};

statements! {
    UPSERT = "INSERT INTO rolled_back_targets
                (identity_key, target, target_digest, operation_id, reason, last_error)
              VALUES ($1, $2, $3, $4, $5, $6)
              ON CONFLICT (identity_key) DO UPDATE
                SET target = excluded.target, target_digest = excluded.target_digest,
                    operation_id = excluded.operation_id, reason = excluded.reason,
                    last_error = excluded.last_error, recorded_at = now()";
    /// The target of the update that left this backup.
    REMEMBER = "INSERT INTO rolled_back_targets
                  (identity_key, target, target_digest, operation_id, reason)
                SELECT u.identity_key, u.target_image, coalesce(u.target_digest, ''), u.id, $2
                  FROM backups b JOIN update_operations u ON u.id = b.operation_id
                 WHERE b.id = $1";
    CLEAR = "DELETE FROM rolled_back_targets WHERE identity_key = $1";
    GET = "SELECT target, target_digest, reason, last_error, recorded_at
             FROM rolled_back_targets WHERE identity_key = $1";
}

/// A target that did not stand, and why.
#[derive(Clone, Debug)]
pub struct RolledBackTarget {
    /// `repository:tag`.
    pub target: String,
    pub target_digest: String,
    pub reason: String,
    pub last_error: Option<String>,
    pub recorded_at: DateTime<Utc>,
}

/// Remembers a bad target, in the transaction that ends its operation.
pub async fn remember(
    client: &impl GenericClient,
    identity: &IdentityKey,
    operation: OperationId,
    bad: &RolledBackTarget,
) -> Result<(), StoreError> {
    let statement = client.prepare_cached(UPSERT).await?;
    client
        .execute(
            &statement,
            &[
                &identity.as_str(),
                &bad.target,
                &bad.target_digest,
                &operation.as_uuid(),
                &bad.reason,
                &bad.last_error,
            ],
        )
        .await?;
    Ok(())
}

/// Remembers the target that came after `backup` and did not stand, in the transaction that ends
/// the way back. No target of the container may be remembered at this moment.
pub async fn remember_what_followed(
    client: &impl GenericClient,
    backup: BackupId,
    reason: &str,
) -> Result<(), StoreError> {
    let statement = client.prepare_cached(REMEMBER).await?;
    client
        .execute(&statement, &[&backup.as_uuid(), &reason])
        .await?;
    Ok(())
}

/// Forgets it: another target stands.
pub async fn forget(client: &impl GenericClient, identity: &IdentityKey) -> Result<(), StoreError> {
    let statement = client.prepare_cached(CLEAR).await?;
    client.execute(&statement, &[&identity.as_str()]).await?;
    Ok(())
}

impl Store {
    pub async fn rolled_back_target(
        &self,
        identity: &IdentityKey,
    ) -> Result<Option<RolledBackTarget>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(GET).await?;
        let row = client.query_opt(&statement, &[&identity.as_str()]).await?;
        Ok(row.map(|row| RolledBackTarget {
            target: row.get(0),
            target_digest: row.get(1),
            reason: row.get(2),
            last_error: row.get(3),
            recorded_at: row.get(4),
        }))
    }
}
