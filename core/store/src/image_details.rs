//! Details of candidate images: fetched once, when a candidate is first seen.

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use serde_json::Value;

use crate::{Store, StoreError};

statements! {
    FIND = "SELECT d.repository, d.reference, d.platform, d.digest, d.created, d.labels
              FROM unnest($1::text[], $2::text[], $3::text[]) AS w (repository, reference, platform)
              JOIN image_details d USING (repository, reference, platform)";
    SAVE = "INSERT INTO image_details (repository, reference, platform, digest, created, labels)
            SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::jsonb[])
             ORDER BY 1, 2, 3
            ON CONFLICT (repository, reference, platform) DO UPDATE
            SET digest = excluded.digest, created = excluded.created, labels = excluded.labels,
                fetched_at = now()";
}

/// Which image: a tag of a repository, for one platform (`os/arch[/variant]`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageKey {
    /// Registry host and repository.
    pub repository: String,
    /// The tag.
    pub reference: String,
    pub platform: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ImageDetails {
    /// What the tag resolved to when it was looked up: an index's digest where there is one.
    pub digest: String,
    pub created: Option<DateTime<Utc>>,
    /// The image's own labels: hostile text (DESIGN.md 3.11).
    pub labels: Option<Value>,
}

/// Writes what was fetched. The same key must not appear twice.
pub async fn save(
    client: &impl GenericClient,
    details: &[(ImageKey, ImageDetails)],
) -> Result<(), StoreError> {
    if details.is_empty() {
        return Ok(());
    }
    let repositories: Vec<&str> = details.iter().map(|d| d.0.repository.as_str()).collect();
    let references: Vec<&str> = details.iter().map(|d| d.0.reference.as_str()).collect();
    let platforms: Vec<&str> = details.iter().map(|d| d.0.platform.as_str()).collect();
    let digests: Vec<&str> = details.iter().map(|d| d.1.digest.as_str()).collect();
    let created: Vec<Option<DateTime<Utc>>> = details.iter().map(|d| d.1.created).collect();
    let labels: Vec<&Option<Value>> = details.iter().map(|d| &d.1.labels).collect();
    let statement = client.prepare_cached(SAVE).await?;
    client
        .execute(
            &statement,
            &[
                &repositories,
                &references,
                &platforms,
                &digests,
                &created,
                &labels,
            ],
        )
        .await?;
    Ok(())
}

impl Store {
    /// What is known of these images; the unknown ones are missing from the answer.
    pub async fn image_details(
        &self,
        keys: &[ImageKey],
    ) -> Result<Vec<(ImageKey, ImageDetails)>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let repositories: Vec<&str> = keys.iter().map(|k| k.repository.as_str()).collect();
        let references: Vec<&str> = keys.iter().map(|k| k.reference.as_str()).collect();
        let platforms: Vec<&str> = keys.iter().map(|k| k.platform.as_str()).collect();
        let client = self.client().await?;
        let statement = client.prepare_cached(FIND).await?;
        let rows = client
            .query(&statement, &[&repositories, &references, &platforms])
            .await?;
        Ok(rows
            .into_iter()
            .map(|row| {
                (
                    ImageKey {
                        repository: row.get(0),
                        reference: row.get(1),
                        platform: row.get(2),
                    },
                    ImageDetails {
                        digest: row.get(3),
                        created: row.get(4),
                        labels: row.get(5),
                    },
                )
            })
            .collect())
    }
}
