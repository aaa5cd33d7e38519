//! Counters of the whole installation (`GET /metrics`). They never go back.

use crate::{Store, StoreError};

statements! {
    /// In one order, so that processes that add at the same time do not block each other for good.
    ADD = "INSERT INTO metric_totals (name, labels, value)
           SELECT name, string_to_array(labels, chr(31)), value
             FROM unnest($1::text[], $2::text[], $3::float8[]) AS added (name, labels, value)
            ORDER BY name, labels
               ON CONFLICT (name, labels)
               DO UPDATE SET value = metric_totals.value + excluded.value";
    /// The audit trail's totals, with what came since they were folded.
    ALL = "SELECT name, labels, sum(value)
             FROM (SELECT name, labels, value FROM metric_totals
                   UNION ALL
                   SELECT 'audit', ARRAY[action, status, coalesce(trigger_name, '')], count(*)
                     FROM audit
                    WHERE xid >= (SELECT before FROM metric_folds WHERE source = 'audit')
                    GROUP BY 2) counted
            GROUP BY name, labels";
    ONE = "SELECT labels, value FROM metric_totals WHERE name = $1 ORDER BY labels";
    /// Adds what finished transactions wrote since the last time. Whoever comes second waits for
    /// the row, finds it moved, and adds nothing twice.
    FOLD = "WITH last AS (
                SELECT before FROM metric_folds WHERE source = 'audit' FOR UPDATE
            ), moved AS (
                UPDATE metric_folds
                   SET before = greatest(before, pg_snapshot_xmin(pg_current_snapshot()))
                 WHERE source = 'audit' AND EXISTS (SELECT FROM last)
            )
            INSERT INTO metric_totals (name, labels, value)
            SELECT 'audit', ARRAY[action, status, coalesce(trigger_name, '')], count(*)
              FROM audit, last
             WHERE xid >= last.before AND xid < pg_snapshot_xmin(pg_current_snapshot())
             GROUP BY 2 ORDER BY 2
                ON CONFLICT (name, labels)
                DO UPDATE SET value = metric_totals.value + excluded.value";
}

/// The name of the audit trail's totals; its labels are action, status and trigger.
pub const AUDIT: &str = "audit";

/// One counter, or what is added to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Total {
    pub name: String,
    /// Values, in the order that belongs to the name.
    pub labels: Vec<String>,
    pub value: f64,
}

/// Between labels on their way to the database.
const SEPARATOR: &str = "\u{1f}";

impl Store {
    /// Adds to counters, in one round trip.
    pub async fn add_totals(&self, added: &[Total]) -> Result<(), StoreError> {
        if added.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = added.iter().map(|total| total.name.as_str()).collect();
        let labels: Vec<String> = added.iter().map(|t| t.labels.join(SEPARATOR)).collect();
        let values: Vec<f64> = added.iter().map(|total| total.value).collect();
        let client = self.client().await?;
        let statement = client.prepare_cached(ADD).await?;
        client
            .execute(&statement, &[&names, &labels, &values])
            .await?;
        Ok(())
    }

    /// Every counter. Reads the totals, and of the audit trail what came since the last fold.
    pub async fn totals(&self) -> Result<Vec<Total>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(ALL).await?;
        let rows = client.query(&statement, &[]).await?;
        Ok(rows
            .into_iter()
            .map(|row| Total {
                name: row.get(0),
                labels: row.get(1),
                value: row.get(2),
            })
            .collect())
    }

    /// Labels and value of the counters of one name.
    pub async fn totals_of(&self, name: &str) -> Result<Vec<(Vec<String>, f64)>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(ONE).await?;
        let rows = client.query(&statement, &[&name]).await?;
        Ok(rows.into_iter().map(|r| (r.get(0), r.get(1))).collect())
    }

    /// Moves what the audit trail gained into its totals. Must come before entries are forgotten.
    pub async fn fold_audit_totals(&self) -> Result<(), StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(FOLD).await?;
        client.execute(&statement, &[]).await?;
        Ok(())
    }
}
