//! Durable jobs and their leases (reliability.md ).
//!
//! A job row is its own outbox: it is written in the transaction that promises it. A worker owns a
//! job by a lease, which only the database's clock judges; each claim raises the lease's epoch, and
//! every write of the work carries that epoch, so that a worker that lost its lease without
//! noticing can change nothing.

use std::time::Duration;

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use plimsoll_domain::{
    ids::{JobId, OperationId, WatcherRef},
    job::JobSpec,
};
use uuid::Uuid;

use crate::{Store, StoreError};

/// How long a lease lasts without renewal.
pub const LEASE_TTL: Duration = Duration::from_secs(10);
/// How often a worker renews.
pub const LEASE_RENEWAL: Duration = Duration::from_millis(2_500);

statements! {
    INSERT = "INSERT INTO jobs (id, kind, agent, watcher, spec, slot, operation_id, priority, run_after)
              VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now() + make_interval(secs => $9))
              ON CONFLICT (slot) DO NOTHING";
    /// Takes the next free jobs of one engine and kind. A lease that ran out is free, and counts
    /// as a takeover.
    CLAIM_NEXT = "UPDATE jobs
                SET takeovers = takeovers + (state = 'running')::integer,
                    state = 'running', lease_owner = $4, lease_epoch = lease_epoch + 1,
                    lease_expires_at = now() + make_interval(secs => $5)
              WHERE id IN (SELECT id FROM jobs
                            WHERE agent = $1 AND watcher = $2 AND kind = $3
                              AND state IN ('queued', 'running')
                              AND ((state = 'queued' AND run_after <= now())
                                OR (state = 'running' AND lease_expires_at < now()))
                            ORDER BY priority, created_at
                            LIMIT $6
                              FOR UPDATE SKIP LOCKED)
              RETURNING id, agent, watcher, spec, operation_id, lease_epoch, takeovers, created_at";
    /// Takes the job of one operation, under the same rules.
    CLAIM_ONE = "UPDATE jobs
                SET takeovers = takeovers + (state = 'running')::integer,
                    state = 'running', lease_owner = $2, lease_epoch = lease_epoch + 1,
                    lease_expires_at = now() + make_interval(secs => $3)
              WHERE id IN (SELECT id FROM jobs
                            WHERE operation_id = $1
                              AND ((state = 'queued' AND run_after <= now())
                                OR (state = 'running' AND lease_expires_at < now()))
                              FOR UPDATE SKIP LOCKED)
              RETURNING id, agent, watcher, spec, operation_id, lease_epoch, takeovers, created_at";
    /// Renews many leases at once; answers which are still held.
    RENEW = "UPDATE jobs j
                SET lease_expires_at = now() + make_interval(secs => $4)
               FROM unnest($1::uuid[], $2::bigint[]) AS held (id, epoch)
              WHERE j.id = held.id AND j.lease_epoch = held.epoch AND j.lease_owner = $3
                AND j.state = 'running'
              RETURNING j.id";
    RELEASE = "UPDATE jobs
                  SET state = 'queued', lease_owner = NULL, lease_expires_at = NULL, error = $4,
                      run_after = now() + make_interval(secs => $5)
                WHERE id = $1 AND lease_owner = $2 AND lease_epoch = $3 AND state = 'running'";
    FINISH = "UPDATE jobs
                 SET state = $4, error = $5, lease_owner = NULL, lease_expires_at = NULL,
                     finished_at = now()
               WHERE id = $1 AND lease_owner = $2 AND lease_epoch = $3 AND state = 'running'";
    EXPIRE = "DELETE FROM jobs
               WHERE state IN ('done', 'failed')
                 AND finished_at < now() - make_interval(secs => $1)";
    /// How a job stands, for those who wait for one.
    STATE = "SELECT state, error FROM jobs WHERE id = $1";
}

/// A job to be written. `operation` ties it to the operation whose program it runs.
#[derive(Clone, Debug)]
pub struct NewJob {
    pub id: JobId,
    pub watcher: WatcherRef,
    pub spec: JobSpec,
    /// A schedule slot: of several jobs for one slot only the first is written.
    pub slot: Option<String>,
    /// Lower runs first; 0 is usual.
    pub priority: i16,
    /// Not before this much later, by the database's clock.
    pub delay: Duration,
}

impl NewJob {
    /// A job that may start at once.
    pub fn now(watcher: WatcherRef, spec: JobSpec) -> Self {
        Self {
            id: JobId::generate(),
            watcher,
            spec,
            slot: None,
            priority: 0,
            delay: Duration::ZERO,
        }
    }
}

/// What became of an insert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    Written,
    /// Another job holds the schedule slot.
    SlotTaken,
}

/// The right to work on a job, until it is lost. Every write of the work carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub job: JobId,
    pub owner: Uuid,
    pub epoch: i64,
}

/// A job that this worker owns now.
#[derive(Clone, Debug)]
pub struct LeasedJob {
    pub lease: Lease,
    pub watcher: WatcherRef,
    pub spec: JobSpec,
    pub operation: Option<OperationId>,
    /// How often its lease ran out on a worker.
    pub takeovers: u32,
    pub created_at: DateTime<Utc>,
}

/// Adds a job to the transaction that promises it. Wake the workers after the commit.
pub async fn insert(client: &impl GenericClient, job: &NewJob) -> Result<Inserted, StoreError> {
    let statement = client.prepare_cached(INSERT).await?;
    let spec =
        serde_json::to_value(&job.spec).map_err(|e| StoreError::corrupt("job specification", e))?;
    let operation = match &job.spec {
        JobSpec::Operation { operation } => Some(operation.as_uuid()),
        _ => None,
    };
    let rows = client
        .execute(
            &statement,
            &[
                &job.id.as_uuid(),
                &job.spec.kind(),
                &job.watcher.agent,
                &job.watcher.name,
                &spec,
                &job.slot,
                &operation,
                &job.priority,
                &job.delay.as_secs_f64(),
            ],
        )
        .await?;
    Ok(match rows {
        0 => Inserted::SlotTaken,
        _ => Inserted::Written,
    })
}

impl Store {
    /// Takes at most `limit` free jobs of one engine and kind, in fair order.
    pub async fn claim_next_jobs(
        &self,
        watcher: &WatcherRef,
        kind: &str,
        owner: Uuid,
        limit: i64,
    ) -> Result<Vec<LeasedJob>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(CLAIM_NEXT).await?;
        let rows = client
            .query(
                &statement,
                &[
                    &watcher.agent,
                    &watcher.name,
                    &kind,
                    &owner,
                    &LEASE_TTL.as_secs_f64(),
                    &limit,
                ],
            )
            .await?;
        let mut jobs = rows
            .iter()
            .map(|row| leased(row, owner))
            .collect::<Result<Vec<_>, _>>()?;
        jobs.sort_by_key(|job| job.created_at);
        Ok(jobs)
    }

    /// Takes the job of one operation, if it is free.
    pub async fn claim_operation_job(
        &self,
        operation: OperationId,
        owner: Uuid,
    ) -> Result<Option<LeasedJob>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(CLAIM_ONE).await?;
        let row = client
            .query_opt(
                &statement,
                &[&operation.as_uuid(), &owner, &LEASE_TTL.as_secs_f64()],
            )
            .await?;
        row.map(|row| leased(&row, owner)).transpose()
    }

    /// Renews leases of one owner over a reserved connection and answers those still held.
    pub async fn renew_leases(
        &self,
        owner: Uuid,
        leases: &[Lease],
    ) -> Result<Vec<JobId>, StoreError> {
        let jobs: Vec<Uuid> = leases.iter().map(|l| l.job.as_uuid()).collect();
        let epochs: Vec<i64> = leases.iter().map(|l| l.epoch).collect();
        let client = self.reserved_client().await?;
        let statement = client.prepare_cached(RENEW).await?;
        let rows = client
            .query(
                &statement,
                &[&jobs, &epochs, &owner, &LEASE_TTL.as_secs_f64()],
            )
            .await?;
        Ok(rows.iter().map(|r| JobId::from_uuid(r.get(0))).collect())
    }

    /// Gives a job back: it may be taken again after `delay`. Not a takeover.
    pub async fn release_job(
        &self,
        lease: &Lease,
        delay: Duration,
        why: Option<&str>,
    ) -> Result<(), StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(RELEASE).await?;
        client
            .execute(
                &statement,
                &[
                    &lease.job.as_uuid(),
                    &lease.owner,
                    &lease.epoch,
                    &why,
                    &delay.as_secs_f64(),
                ],
            )
            .await?;
        Ok(())
    }

    /// Ends a job. A lease that was lost changes nothing.
    pub async fn finish_job(
        &self,
        lease: &Lease,
        result: Result<(), &str>,
    ) -> Result<(), StoreError> {
        let (state, error) = match result {
            Ok(()) => ("done", None),
            Err(why) => ("failed", Some(why)),
        };
        let client = self.client().await?;
        let statement = client.prepare_cached(FINISH).await?;
        client
            .execute(
                &statement,
                &[
                    &lease.job.as_uuid(),
                    &lease.owner,
                    &lease.epoch,
                    &state,
                    &error,
                ],
            )
            .await?;
        Ok(())
    }

    /// State (`queued`, `running`, `done`, `failed`) and error text of a job; `None` if it expired.
    pub async fn job_state(
        &self,
        job: JobId,
    ) -> Result<Option<(String, Option<String>)>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(STATE).await?;
        let row = client.query_opt(&statement, &[&job.as_uuid()]).await?;
        Ok(row.map(|row| (row.get(0), row.get(1))))
    }

    /// Forgets jobs that ended more than `age` ago.
    pub async fn expire_jobs(&self, age: Duration) -> Result<u64, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(EXPIRE).await?;
        Ok(client.execute(&statement, &[&age.as_secs_f64()]).await?)
    }
}

fn leased(row: &tokio_postgres::Row, owner: Uuid) -> Result<LeasedJob, StoreError> {
    Ok(LeasedJob {
        lease: Lease {
            job: JobId::from_uuid(row.get(0)),
            owner,
            epoch: row.get(5),
        },
        watcher: WatcherRef {
            agent: row.get(1),
            name: row.get(2),
        },
        spec: serde_json::from_value(row.get(3))
            .map_err(|e| StoreError::corrupt("job specification", e))?,
        operation: row.get::<_, Option<Uuid>>(4).map(OperationId::from_uuid),
        takeovers: row.get::<_, i32>(6).try_into().unwrap_or(0),
        created_at: row.get(7),
    })
}
