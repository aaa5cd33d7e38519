//! Which candidates were updated to automatically, so that none is tried again and again.

use std::collections::HashSet;

use deadpool_postgres::GenericClient;
use plimsoll_domain::ids::{IdentityKey, OperationId};

use crate::StoreError;

statements! {
    TRIED = "SELECT identity_key, candidate
               FROM unnest($1::text[], $2::text[], $3::text[])
                    AS t (identity_key, trigger_name, candidate)
               JOIN automatic_updates USING (identity_key, trigger_name, candidate)";
    REMEMBER = "INSERT INTO automatic_updates (identity_key, trigger_name, candidate, operation_id)
                SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[])
                ON CONFLICT (identity_key, trigger_name, candidate)
                   DO UPDATE SET operation_id = excluded.operation_id, requested_at = now()";
}

/// A candidate of a container, and the trigger that updates to it.
#[derive(Clone, Debug)]
pub struct Attempt<'a> {
    pub identity: &'a IdentityKey,
    pub trigger_name: &'a str,
    pub candidate: &'a str,
}

/// Of these, the identities and candidates that were tried before.
pub async fn tried(
    client: &impl GenericClient,
    attempts: &[Attempt<'_>],
) -> Result<HashSet<(IdentityKey, String)>, StoreError> {
    let (identities, triggers, candidates) = columns(attempts);
    let statement = client.prepare_cached(TRIED).await?;
    let rows = client
        .query(&statement, &[&identities, &triggers, &candidates])
        .await?;
    Ok(rows
        .iter()
        .map(|row| (IdentityKey::from_stored(row.get(0)), row.get(1)))
        .collect())
}

/// Remembers them in the transaction that asks for their operations.
pub async fn remember(
    client: &impl GenericClient,
    attempts: &[Attempt<'_>],
    operations: &[OperationId],
) -> Result<(), StoreError> {
    let (identities, triggers, candidates) = columns(attempts);
    let operations: Vec<_> = operations.iter().map(OperationId::as_uuid).collect();
    let statement = client.prepare_cached(REMEMBER).await?;
    client
        .execute(
            &statement,
            &[&identities, &triggers, &candidates, &operations],
        )
        .await?;
    Ok(())
}

fn columns<'a>(attempts: &[Attempt<'a>]) -> (Vec<&'a str>, Vec<&'a str>, Vec<&'a str>) {
    let identities = attempts.iter().map(|one| one.identity.as_str()).collect();
    let triggers = attempts.iter().map(|one| one.trigger_name).collect();
    let candidates = attempts.iter().map(|one| one.candidate).collect();
    (identities, triggers, candidates)
}
