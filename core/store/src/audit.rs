//! The audit trail (contract/drydock-app-api.md, "Audit trail").

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use uuid::Uuid;

use crate::{Store, StoreError, update_operations::Operation};

statements! {
    APPEND = "INSERT INTO audit (id, action, container_name, container_image, identity_key,
                                 from_version, to_version, trigger_name, status, details, actor,
                                 request_id, operation_id)
              VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
    APPEND_ALL = "INSERT INTO audit (id, action, container_name, container_image, identity_key,
                                     from_version, to_version, trigger_name, status, details, actor,
                                     request_id, operation_id)
                  SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[],
                                       $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
                                       $11::text[], $12::text[], $13::uuid[])";
    LIST = "SELECT id, at, action, container_name, container_image, from_version, to_version,
                   trigger_name, status, details, actor, operation_id, count(*) OVER ()
              FROM audit
             WHERE ($1::text[] IS NULL OR action = ANY ($1))
               AND ($2::text IS NULL OR container_name = $2)
               AND ($3::timestamptz IS NULL OR at >= $3)
               AND ($4::timestamptz IS NULL OR at <= $4)
             ORDER BY at DESC, id DESC LIMIT $5 OFFSET $6";
    COUNT = "SELECT count(*) FROM audit
              WHERE ($1::text[] IS NULL OR action = ANY ($1))
                AND ($2::text IS NULL OR container_name = $2)
                AND ($3::timestamptz IS NULL OR at >= $3)
                AND ($4::timestamptz IS NULL OR at <= $4)";
    EXPIRE = "DELETE FROM audit WHERE at < now() - make_interval(secs => $1)";
    /// The newest update verdict per container name among the last 100 rows.
    RECENT = "SELECT DISTINCT ON (container_name) container_name, action
                FROM (SELECT at, id, container_name, action FROM audit ORDER BY at DESC, id DESC LIMIT 100) last
               WHERE action IN ('update-applied', 'update-available', 'update-failed')
               ORDER BY container_name, at DESC, id DESC";
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditStatus {
    Success,
    Error,
    Info,
}

impl AuditStatus {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Info => "info",
        }
    }
}

/// What is written. `action` is one of the contract's action types, or an addition of ours.
#[derive(Clone, Debug)]
pub struct NewAudit<'a> {
    pub action: &'a str,
    pub container_name: &'a str,
    pub container_image: Option<&'a str>,
    pub identity_key: Option<&'a str>,
    pub from_version: Option<&'a str>,
    pub to_version: Option<&'a str>,
    pub trigger_name: Option<&'a str>,
    pub status: AuditStatus,
    pub details: Option<&'a str>,
    pub actor: Option<&'a str>,
    pub request_id: Option<&'a str>,
    pub operation_id: Option<Uuid>,
}

impl<'a> NewAudit<'a> {
    /// An entry that says only what happened to which container; set the other fields by name.
    pub const fn new(action: &'a str, container_name: &'a str, status: AuditStatus) -> Self {
        Self {
            action,
            container_name,
            container_image: None,
            identity_key: None,
            from_version: None,
            to_version: None,
            trigger_name: None,
            status,
            details: None,
            actor: None,
            request_id: None,
            operation_id: None,
        }
    }

    /// An entry about an operation, by whoever asked for the operation.
    pub fn about(operation: &'a Operation, action: &'a str, status: AuditStatus) -> Self {
        Self {
            container_image: Some(&operation.target_image),
            identity_key: Some(operation.identity.as_str()),
            from_version: operation.from_version.as_deref(),
            to_version: operation.to_version.as_deref(),
            trigger_name: operation.trigger_name.as_deref(),
            actor: Some(&operation.actor),
            request_id: operation.request_id.as_deref(),
            operation_id: Some(operation.id.as_uuid()),
            ..Self::new(action, &operation.container_name, status)
        }
    }
}

#[derive(Clone, Debug)]
pub struct AuditEntry {
    pub id: Uuid,
    pub at: DateTime<Utc>,
    pub action: String,
    pub container_name: String,
    pub container_image: Option<String>,
    pub from_version: Option<String>,
    pub to_version: Option<String>,
    pub trigger_name: Option<String>,
    pub status: String,
    pub details: Option<String>,
    pub actor: Option<String>,
    pub operation_id: Option<Uuid>,
}

#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Any of these actions; `None` for all.
    pub actions: Option<Vec<String>>,
    pub container: Option<String>,
    pub from: Option<DateTime<Utc>>,
    pub to: Option<DateTime<Utc>>,
}

/// Adds an entry to the transaction of what it tells of.
pub async fn append(client: &impl GenericClient, entry: &NewAudit<'_>) -> Result<(), StoreError> {
    let statement = client.prepare_cached(APPEND).await?;
    client
        .execute(
            &statement,
            &[
                &Uuid::now_v7(),
                &entry.action,
                &entry.container_name,
                &entry.container_image,
                &entry.identity_key,
                &entry.from_version,
                &entry.to_version,
                &entry.trigger_name,
                &entry.status.as_str(),
                &entry.details,
                &entry.actor,
                &entry.request_id,
                &entry.operation_id,
            ],
        )
        .await?;
    Ok(())
}

/// Adds many entries in one round trip.
pub async fn append_all(
    client: &impl GenericClient,
    entries: &[NewAudit<'_>],
) -> Result<(), StoreError> {
    if entries.is_empty() {
        return Ok(());
    }
    macro_rules! column {
        ($field:ident) => {
            entries.iter().map(|e| e.$field).collect::<Vec<_>>()
        };
    }
    let ids: Vec<Uuid> = entries.iter().map(|_| Uuid::now_v7()).collect();
    let statuses: Vec<&str> = entries.iter().map(|e| e.status.as_str()).collect();
    let statement = client.prepare_cached(APPEND_ALL).await?;
    client
        .execute(
            &statement,
            &[
                &ids,
                &column!(action),
                &column!(container_name),
                &column!(container_image),
                &column!(identity_key),
                &column!(from_version),
                &column!(to_version),
                &column!(trigger_name),
                &statuses,
                &column!(details),
                &column!(actor),
                &column!(request_id),
                &column!(operation_id),
            ],
        )
        .await?;
    Ok(())
}

impl Store {
    /// One page, newest first, and the number of all matching entries.
    pub async fn audit_page(
        &self,
        filter: &AuditFilter,
        offset: i64,
        limit: i64,
    ) -> Result<(Vec<AuditEntry>, i64), StoreError> {
        let client = self.client().await?;
        let AuditFilter {
            actions,
            container,
            from,
            to,
        } = filter;
        let statement = client.prepare_cached(LIST).await?;
        let rows = client
            .query(&statement, &[actions, container, from, to, &limit, &offset])
            .await?;
        let total = match rows.first() {
            Some(row) => row.get(12),
            // A page past the end has no row to carry the count.
            None => {
                let statement = client.prepare_cached(COUNT).await?;
                client
                    .query_one(&statement, &[actions, container, from, to])
                    .await?
                    .get(0)
            }
        };
        let entries = rows
            .into_iter()
            .map(|row| AuditEntry {
                id: row.get(0),
                at: row.get(1),
                action: row.get(2),
                container_name: row.get(3),
                container_image: row.get(4),
                from_version: row.get(5),
                to_version: row.get(6),
                trigger_name: row.get(7),
                status: row.get(8),
                details: row.get(9),
                actor: row.get(10),
                operation_id: row.get(11),
            })
            .collect();
        Ok((entries, total))
    }

    /// Forgets entries older than `seconds`.
    pub async fn expire_audit(&self, seconds: f64) -> Result<u64, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(EXPIRE).await?;
        Ok(client.execute(&statement, &[&seconds]).await?)
    }

    /// Container name and action of its newest update verdict among the last 100 audit rows.
    pub async fn recent_update_verdicts(&self) -> Result<Vec<(String, String)>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(RECENT).await?;
        let rows = client.query(&statement, &[]).await?;
        Ok(rows.into_iter().map(|r| (r.get(0), r.get(1))).collect())
    }
}
