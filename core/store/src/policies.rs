//! Update policies. They belong to the identity, so they survive the container's re-creation.

use deadpool_postgres::GenericClient;
use plimsoll_domain::ids::IdentityKey;

use crate::StoreError;

statements! {
    GET_FOR_UPDATE = "SELECT policy::text FROM policies WHERE identity_key = $1 FOR UPDATE";
    PUT = "INSERT INTO policies (identity_key, policy) VALUES ($1, $2::text::jsonb)
           ON CONFLICT (identity_key) DO UPDATE SET policy = EXCLUDED.policy, updated_at = now()";
}

/// The stored policy as JSON, locked until the transaction ends; `None` where there is none.
pub async fn lock(
    client: &impl GenericClient,
    identity: &IdentityKey,
) -> Result<Option<String>, StoreError> {
    let statement = client.prepare_cached(GET_FOR_UPDATE).await?;
    let row = client.query_opt(&statement, &[&identity.as_str()]).await?;
    Ok(row.and_then(|row| row.get(0)))
}

/// Sets the policy; `None` means none, and stays as a row so that every replica notices.
pub async fn put(
    client: &impl GenericClient,
    identity: &IdentityKey,
    policy: Option<&str>,
) -> Result<(), StoreError> {
    let statement = client.prepare_cached(PUT).await?;
    client
        .execute(&statement, &[&identity.as_str(), &policy])
        .await?;
    Ok(())
}
