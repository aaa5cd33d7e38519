//! Bills of materials of containers' images: long documents, compressed with gzip, beside the report
//! that tells of them (`image_reports`).

use chrono::{DateTime, Utc};
use plimsoll_domain::{
    ids::{ContainerId, IdentityKey, JobId},
    security::{SbomFormat, SbomReport},
};

use crate::{
    Store, StoreError, Transaction,
    image_reports::{self, NewReport},
};

/// Broken by a second job for the same document.
pub const ONE_SBOM: &str = "jobs_sbom";
const SBOM: &str = "sbom";

statements! {
    WRITE = "INSERT INTO image_documents (identity_key, subject, format, generator, at, document)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (identity_key, kind, subject, format) DO UPDATE
             SET generator = excluded.generator, at = excluded.at, document = excluded.document";
    /// The report names every format that is there, whenever it was made.
    NAME_FORMATS = "UPDATE image_reports
                       SET report = jsonb_set(report, '{formats}',
                           (SELECT jsonb_agg(d.format ORDER BY d.format DESC)
                              FROM image_documents d
                             WHERE d.identity_key = $1 AND d.subject = $2))
                     WHERE identity_key = $1 AND kind = 'sbom' AND subject = $2";
    FIND = "SELECT d.generator, d.at, d.document, r.report->>'image'
              FROM image_documents d
              JOIN image_reports r USING (identity_key, kind, subject)
             WHERE d.identity_key = $1 AND d.subject = $2 AND d.format = $3";
    FORMATS = "SELECT format FROM image_documents WHERE identity_key = $1 AND subject = $2";
    /// The job that makes the document.
    JOB = "SELECT id FROM jobs
            WHERE kind = 'sbom' AND state IN ('queued', 'running')
              AND spec->>'container' = $1 AND spec->>'format' = $2";
}

/// One document as it is kept.
#[derive(Clone, Debug)]
pub struct ImageDocument {
    pub generator: String,
    pub generated_at: DateTime<Utc>,
    /// As people call it.
    pub image: String,
    /// JSON, compressed with gzip.
    pub document: Vec<u8>,
}

/// Keeps a report, and the documents that it tells of, each compressed with gzip. `false` if
/// something newer or better is known.
pub async fn write_sbom(
    tx: &Transaction<'_>,
    identity: &IdentityKey,
    report: &SbomReport,
    documents: &[(SbomFormat, Vec<u8>)],
) -> Result<bool, StoreError> {
    let subject = report.subject();
    let new = NewReport {
        kind: SBOM,
        subject: subject.key(),
        report,
        content: None,
        at: report.generated_at,
    };
    if !image_reports::write(tx, identity, &new).await? {
        return Ok(false);
    }
    let statement = tx.prepare_cached(WRITE).await?;
    for (format, document) in documents {
        tx.execute(
            &statement,
            &[
                &identity.as_str(),
                &subject.key(),
                &format.as_str(),
                &report.generator,
                &report.generated_at,
                document,
            ],
        )
        .await?;
    }
    if !documents.is_empty() {
        let statement = tx.prepare_cached(NAME_FORMATS).await?;
        tx.execute(&statement, &[&identity.as_str(), &subject.key()])
            .await?;
    }
    Ok(true)
}

impl Store {
    pub async fn sbom(
        &self,
        identity: &IdentityKey,
        subject: &str,
        format: SbomFormat,
    ) -> Result<Option<ImageDocument>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(FIND).await?;
        let row = client
            .query_opt(
                &statement,
                &[&identity.as_str(), &subject, &format.as_str()],
            )
            .await?;
        Ok(row.map(|row| ImageDocument {
            generator: row.get(0),
            generated_at: row.get(1),
            document: row.get(2),
            image: row.get::<_, Option<String>>(3).unwrap_or_default(),
        }))
    }

    /// The formats in which there is one.
    pub async fn sbom_formats(
        &self,
        identity: &IdentityKey,
        subject: &str,
    ) -> Result<Vec<SbomFormat>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(FORMATS).await?;
        let rows = client
            .query(&statement, &[&identity.as_str(), &subject])
            .await?;
        Ok(rows
            .iter()
            .filter_map(|row| SbomFormat::parse(row.get(0)))
            .collect())
    }

    /// The job that is to make it, or makes it.
    pub async fn sbom_job(
        &self,
        container: &ContainerId,
        format: SbomFormat,
    ) -> Result<Option<JobId>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(JOB).await?;
        let row = client
            .query_opt(&statement, &[&container.as_str(), &format.as_str()])
            .await?;
        Ok(row.map(|row| JobId::from_uuid(row.get(0))))
    }
}
