//! What scanners and the like say about the images of containers. The reports themselves are small
//! and part of the container's view; the lists behind them are read on request, as are documents
//! (`image_documents`).

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use plimsoll_domain::{
    ids::IdentityKey,
    security::{ScanReport, SignatureReport, Vulnerability},
    update_check::CheckReport,
};
use serde::Serialize;
use tokio_postgres::types::Json;

use crate::{Store, StoreError};

/// Broken by a second scan job of an engine.
pub const ONE_SCAN: &str = "jobs_scan";
const SCAN: &str = "scan";
const SIGNATURE: &str = "signature";
const CHECK: &str = "check";

statements! {
    /// Never over a newer report, and a failure never over a result.
    WRITE = "INSERT INTO image_reports AS r (identity_key, kind, subject, report, content, at)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (identity_key, kind, subject) DO UPDATE
             SET report = excluded.report, content = excluded.content, at = excluded.at
             WHERE r.at <= excluded.at
               AND (excluded.report->>'status' <> 'error' OR r.report->>'status' = 'error')";
    /// The image that runs, the candidate, and those before them.
    TRIM = "DELETE FROM image_reports
             WHERE identity_key = $1 AND kind = $2
               AND subject NOT IN (SELECT subject FROM image_reports
                                    WHERE identity_key = $1 AND kind = $2
                                    ORDER BY at DESC LIMIT 4)";
    CONTENTS = "SELECT r.identity_key, r.subject, r.content
                  FROM unnest($1::text[], $2::text[]) AS w (identity_key, subject)
                  JOIN image_reports r ON r.identity_key = w.identity_key AND r.subject = w.subject
                                      AND r.kind = $3";
    FIND = "SELECT report FROM image_reports
             WHERE identity_key = $1 AND kind = $2 AND subject = $3";
    /// Of containers that nobody has seen for long.
    EXPIRE = "DELETE FROM image_reports r
               WHERE at < now() - make_interval(secs => $1)
                 AND NOT EXISTS (SELECT 1 FROM containers c
                                  WHERE c.identity_key = r.identity_key AND NOT c.removed)";
}

/// Keeps a scan of an image of the container. `false` if something newer or better is known.
pub async fn write_scan(
    client: &impl GenericClient,
    identity: &IdentityKey,
    report: &ScanReport,
    found: &[Vulnerability],
) -> Result<bool, StoreError> {
    let subject = report.subject();
    let content =
        serde_json::to_string(found).map_err(|e| StoreError::corrupt("vulnerabilities", e))?;
    let new = NewReport {
        kind: SCAN,
        subject: subject.key(),
        report,
        content: Some(&content),
        at: report.scanned_at,
    };
    write(client, identity, &new).await
}

/// Keeps what is known of the signatures of an image of the container. `false` if something newer
/// or better is known.
pub async fn write_signature(
    client: &impl GenericClient,
    identity: &IdentityKey,
    report: &SignatureReport,
) -> Result<bool, StoreError> {
    let subject = report.subject();
    let new = NewReport {
        kind: SIGNATURE,
        subject: subject.key(),
        report,
        content: None,
        at: report.verified_at,
    };
    write(client, identity, &new).await
}

/// Keeps what the container's own check said of an update.
pub async fn write_check(
    client: &impl GenericClient,
    identity: &IdentityKey,
    report: &CheckReport,
) -> Result<bool, StoreError> {
    let new = NewReport {
        kind: CHECK,
        subject: &report.image_digest,
        report,
        content: None,
        at: report.checked_at,
    };
    write(client, identity, &new).await
}

pub(crate) struct NewReport<'a, R> {
    pub(crate) kind: &'static str,
    pub(crate) subject: &'a str,
    pub(crate) report: &'a R,
    pub(crate) content: Option<&'a str>,
    pub(crate) at: DateTime<Utc>,
}

/// `false` where a newer or better one stays.
pub(crate) async fn write<R: Serialize + Sync + std::fmt::Debug>(
    client: &impl GenericClient,
    identity: &IdentityKey,
    new: &NewReport<'_, R>,
) -> Result<bool, StoreError> {
    let statement = client.prepare_cached(WRITE).await?;
    let written = client
        .execute(
            &statement,
            &[
                &identity.as_str(),
                &new.kind,
                &new.subject,
                &Json(new.report),
                &new.content,
                &new.at,
            ],
        )
        .await?;
    if written > 0 {
        let statement = client.prepare_cached(TRIM).await?;
        client
            .execute(&statement, &[&identity.as_str(), &new.kind])
            .await?;
    }
    Ok(written > 0)
}

/// The lists of these scans as they are stored: JSON arrays.
#[derive(Clone, Debug)]
pub struct ScanContent {
    pub identity: String,
    pub subject: String,
    pub vulnerabilities: String,
}

impl Store {
    /// The vulnerabilities that these scans (identity and subject) found; what is not there is left
    /// out.
    pub async fn scan_contents(
        &self,
        wanted: &[(&str, &str)],
    ) -> Result<Vec<ScanContent>, StoreError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let (identities, subjects): (Vec<&str>, Vec<&str>) = wanted.iter().copied().unzip();
        let client = self.client().await?;
        let statement = client.prepare_cached(CONTENTS).await?;
        let rows = client
            .query(&statement, &[&identities, &subjects, &SCAN])
            .await?;
        Ok(rows
            .into_iter()
            .map(|row| ScanContent {
                identity: row.get(0),
                subject: row.get(1),
                vulnerabilities: row
                    .get::<_, Option<String>>(2)
                    .unwrap_or_else(|| "[]".to_owned()),
            })
            .collect())
    }

    /// The scan of that subject, made at `since` or later.
    pub async fn scan_since(
        &self,
        identity: &IdentityKey,
        subject: &str,
        since: DateTime<Utc>,
    ) -> Result<Option<ScanReport>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(FIND).await?;
        let row = client
            .query_opt(&statement, &[&identity.as_str(), &SCAN, &subject])
            .await?;
        let report: Option<Json<ScanReport>> = match row {
            Some(row) => row.try_get(0).map_err(|e| StoreError::corrupt("scan", e))?,
            None => None,
        };
        Ok(report
            .map(|Json(report)| report)
            .filter(|report| report.scanned_at >= since))
    }

    /// Forgets reports of containers that are gone, after `seconds`.
    pub async fn expire_image_reports(&self, seconds: f64) -> Result<u64, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(EXPIRE).await?;
        Ok(client.execute(&statement, &[&seconds]).await?)
    }
}
