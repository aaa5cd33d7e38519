//! The program's writes: fenced by the lease's epoch, journalled without gaps, announced as events
//! (reliability.md, I-6, I-9).
//!
//! What was done and what is about to be done are one write, because the second follows from the
//! first: half the commits, and no moment in between.

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use plimsoll_domain::{
    ids::{ContainerId, OperationId},
    operation::Phase,
};
use serde_json::{Value, json};

use crate::{MaybeRetry, Store, StoreError, events, jobs::Lease, update_operations::Operation};

/// The SSE event of every transition.
pub const EVENT: &str = "dd:update-operation-changed";

macro_rules! fenced {
    ($set:literal) => {
        concat!(
            "WITH lease AS (
                SELECT 1 FROM jobs
                 WHERE id = $2 AND lease_owner = $3 AND lease_epoch = $4 AND state = 'running'
                   FOR SHARE),
             written AS (
                UPDATE update_operations
                   SET seq = seq + cardinality($5::text[]), intent = $8, updated_at = now(),
                       target_digest = coalesce($9, target_digest),
                       old_container_id = coalesce($10, old_container_id),
                       old_name = coalesce($11, old_name),
                       temp_name = coalesce($12, temp_name),
                       new_container_id = coalesce($13, new_container_id),
                       old_was_running = coalesce($14, old_was_running),
                       snapshot = coalesce($15, snapshot),
                       new_spec = coalesce($16, new_spec),
                       gate = coalesce($17, gate),
                       evidence = coalesce($18, evidence),
                       rollback_reason = coalesce($19, rollback_reason),
                       last_error = coalesce($20, last_error),
                       exit_code = coalesce($21, exit_code),
                       last_log = coalesce($22, last_log)",
            $set,
            " WHERE id = $1 AND seq = $23 AND completed_at IS NULL AND EXISTS (SELECT 1 FROM lease)
              RETURNING seq)
             INSERT INTO operation_journal (operation_id, seq, phase, entry, epoch, worker, note)
             SELECT $1, w.seq - cardinality($5) + e.n, e.phase, e.entry, $4, $3::uuid::text, e.note
               FROM written w,
                    unnest($5::text[], $6::text[], $7::jsonb[]) WITH ORDINALITY
                      AS e (phase, entry, note, n)"
        )
    };
}

statements! {
    /// An intent alone: the phase stays, and nothing that shows the phase is touched.
    INTEND = fenced!("");
    ADVANCE = fenced!(", phase = $24, completed_at = CASE WHEN $25 THEN now() ELSE completed_at END");
    COUNT_PHASE = "SELECT count(*) FROM operation_journal
                    WHERE operation_id = $1 AND phase = $2 AND entry = 'done'";
    /// The last phase that was reached on the way forward.
    TURNED_AT = "SELECT phase FROM operation_journal
                  WHERE operation_id = $1 AND entry = 'done'
                    AND seq < (SELECT min(seq) FROM operation_journal
                                WHERE operation_id = $1 AND entry = 'done'
                                  AND phase = 'rollback-started')
                  ORDER BY seq DESC LIMIT 1";
    /// How long an operation was in each phase. `queued` is the time before the first step.
    SPENT = "WITH marks AS (
                SELECT 0 AS n, 'queued' AS phase, created_at AS at
                  FROM update_operations WHERE id = $1
                 UNION ALL
                SELECT 1, 'prepare', min(at) FROM operation_journal WHERE operation_id = $1
                 UNION ALL
                SELECT seq + 2, phase, at FROM operation_journal
                 WHERE operation_id = $1 AND entry = 'done'),
             spent AS (
                SELECT n, phase, extract(epoch FROM lead(at) OVER (ORDER BY n) - at)::float8 AS seconds
                  FROM marks)
             SELECT phase, seconds FROM spent WHERE seconds IS NOT NULL ORDER BY n";
    COUNT_INTENT = "SELECT count(*) FROM operation_journal
                     WHERE operation_id = $1 AND entry = 'intent' AND note ->> 'step' = $2";
    JOURNAL = "SELECT seq, phase, entry, epoch, worker, at, note FROM operation_journal
                WHERE operation_id = $1 ORDER BY seq";
}

/// Why a fenced write did not happen.
#[derive(Debug, thiserror::Error)]
pub enum FencedError {
    /// Another worker owns the job now, or the operation has ended. Abort at once.
    #[error("the lease is lost: another worker owns this operation")]
    LeaseLost,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MaybeRetry for FencedError {
    fn is_retry(&self) -> bool {
        matches!(self, Self::Store(StoreError::Retry))
    }
}

/// Fields to set; `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub target_digest: Option<String>,
    pub old_container: Option<ContainerId>,
    pub old_name: Option<String>,
    pub temp_name: Option<String>,
    pub new_container: Option<ContainerId>,
    pub old_was_running: Option<bool>,
    pub snapshot: Option<Value>,
    pub new_spec: Option<Value>,
    pub gate: Option<Value>,
    pub evidence: Option<Value>,
    pub rollback_reason: Option<String>,
    pub last_error: Option<String>,
    pub exit_code: Option<i32>,
    pub last_log: Option<String>,
}

/// Whether a write ends the operation. A failed rollback does not, unless somebody else's container
/// has taken its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    Open,
    Completed,
}

/// One write of the program: phases that are done now, in order, and the step that comes next.
#[derive(Clone, Debug)]
pub struct Progress<'a> {
    pub done: &'a [Phase],
    pub intent: Option<&'a str>,
    pub changes: &'a Changes,
    pub completion: Completion,
}

/// One entry of the journal.
#[derive(Clone, Debug)]
pub struct JournalEntry {
    pub seq: i32,
    /// The phase that was done, or in which the step was about to be taken.
    pub phase: String,
    /// `intent` or `done`.
    pub entry: String,
    pub epoch: i64,
    pub worker: String,
    pub at: DateTime<Utc>,
    pub note: Option<Value>,
}

/// Writes progress under the lease, with one event per phase. `operation` is as the caller knows
/// it, before `progress`; if the stored row has gone on since, that is a lost lease too.
pub async fn record(
    client: &impl GenericClient,
    lease: &Lease,
    operation: &Operation,
    progress: &Progress<'_>,
) -> Result<(), FencedError> {
    let Progress {
        done,
        intent,
        changes,
        completion,
    } = progress;
    let last = done.last().copied().unwrap_or(operation.phase);
    let mut phases: Vec<&str> = done.iter().map(|phase| phase.as_str()).collect();
    let mut entries = vec!["done"; done.len()];
    let mut notes: Vec<Option<Value>> = vec![None; done.len()];
    if let Some(step) = intent {
        phases.push(last.as_str());
        entries.push("intent");
        notes.push(Some(json!({ "step": step })));
    }
    let id = operation.id.as_uuid();
    let job = lease.job.as_uuid();
    let old = changes.old_container.as_ref().map(ContainerId::as_str);
    let new = changes.new_container.as_ref().map(ContainerId::as_str);
    let phase = last.as_str();
    let completed = *completion == Completion::Completed;
    let mut values: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = vec![
        &id,
        &job,
        &lease.owner,
        &lease.epoch,
        &phases,
        &entries,
        &notes,
        intent,
        &changes.target_digest,
        &old,
        &changes.old_name,
        &changes.temp_name,
        &new,
        &changes.old_was_running,
        &changes.snapshot,
        &changes.new_spec,
        &changes.gate,
        &changes.evidence,
        &changes.rollback_reason,
        &changes.last_error,
        &changes.exit_code,
        &changes.last_log,
        &operation.seq,
    ];
    let sql = if done.is_empty() {
        INTEND
    } else {
        values.push(&phase);
        values.push(&completed);
        ADVANCE
    };
    let statement = client.prepare_cached(sql).await.map_err(StoreError::from)?;
    let written = client
        .execute(&statement, &values)
        .await
        .map_err(StoreError::from)?;
    if written == 0 {
        return Err(FencedError::LeaseLost);
    }
    for phase in *done {
        events::append(client, EVENT, &event(operation, *phase, changes)).await?;
    }
    Ok(())
}

/// The payload of [`EVENT`] (reference/drydock.md 1.8).
pub fn event(operation: &Operation, phase: Phase, changes: &Changes) -> String {
    let new = changes.new_container.as_ref().map(ContainerId::as_str);
    json!({
        "operationId": operation.id,
        "kind": operation.kind,
        "containerName": operation.container_name,
        "containerId": operation.container_id,
        "newContainerId": new.or(operation.new_container_id.as_deref()),
        "status": phase.status(),
        "phase": phase,
        "lastError": changes.last_error.as_ref().or(operation.last_error.as_ref()),
        "rollbackReason":
            changes.rollback_reason.as_ref().or(operation.rollback_reason.as_ref()),
    })
    .to_string()
}

impl Store {
    /// How often an operation has reached a phase.
    pub async fn count_phase(
        &self,
        operation: OperationId,
        phase: Phase,
    ) -> Result<i64, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(COUNT_PHASE).await?;
        let row = client
            .query_one(&statement, &[&operation.as_uuid(), &phase.as_str()])
            .await?;
        Ok(row.get(0))
    }

    /// The phase in which an operation turned round, if it did.
    pub async fn turned_at(&self, operation: OperationId) -> Result<Option<Phase>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(TURNED_AT).await?;
        let row = client
            .query_opt(&statement, &[&operation.as_uuid()])
            .await?;
        Ok(row.and_then(|row| Phase::parse(row.get(0))))
    }

    /// Seconds that an operation was in each phase, in order. A phase that it was in twice is there
    /// twice.
    pub async fn seconds_spent(
        &self,
        operation: OperationId,
    ) -> Result<Vec<(String, f64)>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(SPENT).await?;
        let rows = client.query(&statement, &[&operation.as_uuid()]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// How often a step was about to be taken.
    pub async fn count_intents(
        &self,
        operation: OperationId,
        step: &str,
    ) -> Result<i64, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(COUNT_INTENT).await?;
        let row = client
            .query_one(&statement, &[&operation.as_uuid(), &step])
            .await?;
        Ok(row.get(0))
    }

    /// The journal of an operation, oldest first.
    pub async fn operation_journal(
        &self,
        operation: OperationId,
    ) -> Result<Vec<JournalEntry>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(JOURNAL).await?;
        let rows = client.query(&statement, &[&operation.as_uuid()]).await?;
        Ok(rows
            .into_iter()
            .map(|row| JournalEntry {
                seq: row.get(0),
                phase: row.get(1),
                entry: row.get(2),
                epoch: row.get(3),
                worker: row.get(4),
                at: row.get(5),
                note: row.get(6),
            })
            .collect())
    }
}
