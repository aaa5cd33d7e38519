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
use plimsoll_trace::TraceContext;
use uuid::Uuid;

use crate::{Store, StoreError, registry_webhooks};

/// How long a lease lasts without renewal.
pub const LEASE_TTL: Duration = Duration::from_secs(10);
/// How often a worker renews.
pub const LEASE_RENEWAL: Duration = Duration::from_millis(2_500);

/// Takes what is `free`.
macro_rules! claim {
    ($owner:literal, $seconds:literal) => {
        concat!(
            " UPDATE jobs j
                SET takeovers = takeovers + (free.state = 'running')::integer,
                    state = 'running', lease_owner = ",
            $owner,
            ", lease_epoch = lease_epoch + 1,
                    lease_expires_at = now() + make_interval(secs => ",
            $seconds,
            ")
               FROM free
              WHERE j.id = free.id
              RETURNING j.id, agent, watcher, spec, operation_id, lease_epoch, takeovers, created_at,
                        traceparent, tracestate, free.state = 'running'"
        )
    };
}

statements! {
    INSERT = "INSERT INTO jobs (id, kind, agent, watcher, spec, slot, operation_id, priority, run_after,
                                traceparent, tracestate)
              VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now() + make_interval(secs => $9), $10, $11)
              ON CONFLICT (slot) DO NOTHING";
    /// A slot that was let pass, told once for all workers.
    SKIP = "INSERT INTO jobs (id, kind, agent, watcher, spec, slot, state, finished_at)
            VALUES ($1, $2, $3, $4, $5, $6, 'done', now())
            ON CONFLICT (slot) DO NOTHING";
    /// Takes the next free jobs of one engine, of each kind as many as there is room for. A lease
    /// that ran out is free, and counts as a takeover. The check of a pushed repository waits for
    /// the one that runs.
    CLAIM_NEXT = concat!("WITH free AS MATERIALIZED (
                SELECT next.id, next.state
                  FROM unnest($3::text[], $6::bigint[]) AS room (kind, places)
                 CROSS JOIN LATERAL (
                SELECT id, state FROM jobs
                 WHERE agent = $1 AND watcher = $2 AND kind = room.kind
                   AND state IN ('queued', 'running')
                   AND ((state = 'queued' AND run_after <= now())
                     OR (state = 'running' AND lease_expires_at < now()))
                   AND (kind <> 'pushed' OR state = 'running' OR NOT EXISTS (
                        SELECT FROM jobs r
                         WHERE r.kind = 'pushed' AND r.state = 'running'
                           AND r.agent = jobs.agent AND r.watcher = jobs.watcher
                           AND r.spec ->> 'repository' = jobs.spec ->> 'repository'))
                 ORDER BY priority, created_at
                 LIMIT room.places
                   FOR UPDATE SKIP LOCKED) AS next)", claim!("$4", "$5"));
    /// Takes the job of one operation, under the same rules.
    CLAIM_ONE = concat!("WITH free AS MATERIALIZED (
                SELECT id, state FROM jobs
                 WHERE operation_id = $1
                   AND ((state = 'queued' AND run_after <= now())
                     OR (state = 'running' AND lease_expires_at < now()))
                   FOR UPDATE SKIP LOCKED)", claim!("$2", "$3"));
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
    /// What waits and what runs. A job that is not due yet does not wait.
    BACKLOG = "SELECT kind,
                      count(*) FILTER (WHERE state = 'queued' AND run_after <= now()),
                      count(*) FILTER (WHERE state = 'running'),
                      coalesce(extract(epoch FROM now() - min(greatest(created_at, run_after))
                          FILTER (WHERE state = 'queued' AND run_after <= now())), 0)::float8
                 FROM jobs WHERE state IN ('queued', 'running') GROUP BY kind";
    WATCHING = "SELECT EXISTS (SELECT 1 FROM jobs
                 WHERE kind = 'watch'
                   AND (state = 'running' OR state = 'queued' AND run_after <= now()))";
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
    /// It ran out on the worker before this one.
    pub taken_over: bool,
    pub created_at: DateTime<Utc>,
    /// The trace in which it was asked for.
    pub trace: Option<TraceContext>,
}

/// The jobs of one kind that are not over.
#[derive(Clone, Debug, PartialEq)]
pub struct Backlog {
    pub kind: String,
    /// Those that any worker could take.
    pub waiting: i64,
    pub running: i64,
    /// How long the first of those has waited, in seconds.
    pub oldest: f64,
}

/// Adds a job to the transaction that promises it, and to the trace that we are in. Wake the workers after the commit.
pub async fn insert(client: &impl GenericClient, job: &NewJob) -> Result<Inserted, StoreError> {
    let statement = client.prepare_cached(INSERT).await?;
    let spec =
        serde_json::to_value(&job.spec).map_err(|e| StoreError::corrupt("job specification", e))?;
    let operation = match &job.spec {
        JobSpec::Operation { operation } => Some(operation.as_uuid()),
        _ => None,
    };
    let (traceparent, tracestate) = trace();
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
                &traceparent,
                &tracestate,
            ],
        )
        .await?;
    Ok(match rows {
        0 => Inserted::SlotTaken,
        _ => Inserted::Written,
    })
}

/// Marks the job's slot as passed, without anything to do. Answers whether this was the first to
/// do so.
pub async fn skip(client: &impl GenericClient, job: &NewJob) -> Result<Inserted, StoreError> {
    let statement = client.prepare_cached(SKIP).await?;
    let spec =
        serde_json::to_value(&job.spec).map_err(|e| StoreError::corrupt("job specification", e))?;
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
            ],
        )
        .await?;
    Ok(match rows {
        0 => Inserted::SlotTaken,
        _ => Inserted::Written,
    })
}

impl Store {
    /// Takes free jobs of one engine in fair order, of each kind at most as many as `room` says.
    pub async fn claim_next_jobs(
        &self,
        watcher: &WatcherRef,
        room: &[(&str, i64)],
        owner: Uuid,
    ) -> Result<Vec<LeasedJob>, StoreError> {
        let (kinds, places): (Vec<&str>, Vec<i64>) = room.iter().copied().unzip();
        let client = self.client().await?;
        let statement = client.prepare_cached(CLAIM_NEXT).await?;
        let rows = client
            .query(
                &statement,
                &[
                    &watcher.agent,
                    &watcher.name,
                    &kinds,
                    &owner,
                    &LEASE_TTL.as_secs_f64(),
                    &places,
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
        let released = client
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
            .await
            .map_err(StoreError::from);
        drop(client);
        match released {
            // Another check of the repository waits, and will see what this one would have.
            Err(error) if error.is_constraint(registry_webhooks::ONE_WAITS) => {
                self.finish_job(lease, Ok(())).await
            }
            released => released.map(drop),
        }
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

    /// What waits and what runs, by kind. Reads the jobs that are not over.
    pub async fn backlog(&self) -> Result<Vec<Backlog>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(BACKLOG).await?;
        let rows = client.query(&statement, &[]).await?;
        Ok(rows
            .iter()
            .map(|row| Backlog {
                kind: row.get(0),
                waiting: row.get(1),
                running: row.get(2),
                oldest: row.get(3),
            })
            .collect())
    }

    /// Whether a watch of any engine runs, or is about to.
    pub async fn is_watching(&self) -> Result<bool, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(WATCHING).await?;
        Ok(client.query_one(&statement, &[]).await?.get(0))
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
        trace: row.get::<_, Option<String>>(8).map(|parent| TraceContext {
            traceparent: parent,
            tracestate: row.get(9),
        }),
        taken_over: row.get(10),
    })
}

/// The columns of the trace that we are in.
pub(crate) fn trace() -> (Option<String>, Option<String>) {
    match plimsoll_trace::current() {
        Some(context) => (Some(context.traceparent), context.tracestate),
        None => (None, None),
    }
}
