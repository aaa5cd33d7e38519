//! The maturity clock: when a candidate was first seen for an identity. It starts once and is not
//! restarted by re-creation or by checking again (reference/drydock.md 2.7, row 13).

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use plimsoll_domain::ids::IdentityKey;

use crate::StoreError;

statements! {
    /// Answers with the pairs that are new.
    RECORD = "INSERT INTO candidate_sightings (identity_key, candidate)
              SELECT DISTINCT identity_key, candidate FROM unnest($1::text[], $2::text[]) AS t (identity_key, candidate)
               ORDER BY 1, 2
              ON CONFLICT DO NOTHING
              RETURNING identity_key, candidate";
    FIRST = "SELECT s.identity_key, s.candidate, s.first_seen_at
               FROM unnest($1::text[], $2::text[]) AS t (identity_key, candidate)
               JOIN candidate_sightings s USING (identity_key, candidate)";
}

/// A candidate of an identity: its tag, or `tag@digest` for a digest update.
pub type Sighting<'a> = (&'a IdentityKey, &'a str);

/// Records candidates that are seen now and answers with those that had not been seen before.
pub async fn record(
    client: &impl GenericClient,
    sightings: &[Sighting<'_>],
) -> Result<Vec<(IdentityKey, String)>, StoreError> {
    if sightings.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Vec<&str> = sightings.iter().map(|s| s.0.as_str()).collect();
    let candidates: Vec<&str> = sightings.iter().map(|s| s.1).collect();
    let statement = client.prepare_cached(RECORD).await?;
    let rows = client.query(&statement, &[&keys, &candidates]).await?;
    Ok(rows
        .into_iter()
        .map(|row| (IdentityKey::from_stored(row.get(0)), row.get(1)))
        .collect())
}

/// When each was first seen; those never seen are missing.
pub async fn first_seen(
    client: &impl GenericClient,
    sightings: &[Sighting<'_>],
) -> Result<Vec<(IdentityKey, String, DateTime<Utc>)>, StoreError> {
    let keys: Vec<&str> = sightings.iter().map(|s| s.0.as_str()).collect();
    let candidates: Vec<&str> = sightings.iter().map(|s| s.1).collect();
    let statement = client.prepare_cached(FIRST).await?;
    let rows = client.query(&statement, &[&keys, &candidates]).await?;
    Ok(rows
        .into_iter()
        .map(|row| (IdentityKey::from_stored(row.get(0)), row.get(1), row.get(2)))
        .collect())
}
