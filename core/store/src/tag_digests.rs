//! What tags that stand still pointed at when somebody looked.

use chrono::{DateTime, Utc};

use crate::{Store, StoreError};

statements! {
    FIND = "SELECT d.repository, d.tag, d.digest, d.looked_at
              FROM unnest($1::text[], $2::text[]) AS w (repository, tag)
              JOIN tag_digests d USING (repository, tag)";
    SAVE = "INSERT INTO tag_digests (repository, tag, digest)
            SELECT DISTINCT ON (1, 2) * FROM unnest($1::text[], $2::text[], $3::text[])
             ORDER BY 1, 2
            ON CONFLICT (repository, tag) DO UPDATE
            SET digest = excluded.digest, looked_at = now()";
    EXPIRE = "DELETE FROM tag_digests WHERE looked_at < now() - interval '30 days'";
}

/// A tag of a repository (`ImageRef::repository_key`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TagKey {
    pub repository: String,
    pub tag: String,
}

/// What it pointed at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagDigest {
    /// `None`: there was no such tag.
    pub digest: Option<String>,
    pub looked_at: DateTime<Utc>,
}

impl Store {
    /// What is known of these tags; the unknown ones are missing from the answer.
    pub async fn tag_digests(
        &self,
        keys: &[TagKey],
    ) -> Result<Vec<(TagKey, TagDigest)>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let repositories: Vec<&str> = keys.iter().map(|k| k.repository.as_str()).collect();
        let tags: Vec<&str> = keys.iter().map(|k| k.tag.as_str()).collect();
        let client = self.client().await?;
        let statement = client.prepare_cached(FIND).await?;
        let rows = client.query(&statement, &[&repositories, &tags]).await?;
        Ok(rows
            .into_iter()
            .map(|row| {
                let key = TagKey {
                    repository: row.get(0),
                    tag: row.get(1),
                };
                let found = TagDigest {
                    digest: row.get(2),
                    looked_at: row.get(3),
                };
                (key, found)
            })
            .collect())
    }

    /// Writes what was looked at just now.
    pub async fn save_tag_digests(
        &self,
        found: &[(TagKey, Option<String>)],
    ) -> Result<(), StoreError> {
        if found.is_empty() {
            return Ok(());
        }
        let repositories: Vec<&str> = found.iter().map(|f| f.0.repository.as_str()).collect();
        let tags: Vec<&str> = found.iter().map(|f| f.0.tag.as_str()).collect();
        let digests: Vec<Option<&str>> = found.iter().map(|f| f.1.as_deref()).collect();
        let client = self.client().await?;
        let statement = client.prepare_cached(SAVE).await?;
        client
            .execute(&statement, &[&repositories, &tags, &digests])
            .await?;
        Ok(())
    }

    /// Forgets tags that nobody has asked about for a month.
    pub async fn expire_tag_digests(&self) -> Result<(), StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(EXPIRE).await?;
        client.execute(&statement, &[]).await?;
        Ok(())
    }
}
