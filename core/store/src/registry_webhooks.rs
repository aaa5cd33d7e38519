//! Checks that registries ask for by telling of a push: one that runs and one that waits for each
//! engine and repository, at most. The unique index `jobs_pushed` sees to it, and
//! [`Store::claim_next_jobs`] does not begin one while another of the same repository runs.

use std::time::Duration;

use plimsoll_domain::{
    ids::{JobId, WatcherRef},
    job::JobSpec,
};
use uuid::Uuid;

use crate::{Store, StoreError, audit::NewAudit, jobs::trace};

/// Broken by a second check that waits.
pub(crate) const ONE_WAITS: &str = "jobs_pushed";

statements! {
    /// Adds the checks that do not wait already, none sooner than the spacing after the last of its
    /// kind began, and, if there are any, the entry in the audit trail.
    REQUEST = "WITH wanted AS (SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[])
                                       AS w (id, agent, watcher, spec)),
                    written AS (
                    INSERT INTO jobs (id, kind, agent, watcher, spec, traceparent, tracestate,
                                      run_after)
                    SELECT w.id, 'pushed', w.agent, w.watcher, w.spec, $14, $15,
                           greatest(now(),
                                    (SELECT max(j.run_after) FROM jobs j
                                      WHERE j.kind = 'pushed' AND j.agent = w.agent
                                        AND j.watcher = w.watcher
                                        AND j.spec ->> 'repository' = w.spec ->> 'repository')
                                    + make_interval(secs => $5))
                      FROM wanted w
                        ON CONFLICT DO NOTHING
                    RETURNING id, agent, watcher, run_after <= now() AS due),
                    told AS (
                    INSERT INTO audit (id, action, container_name, container_image, status, details,
                                       actor, request_id)
                    SELECT $6, $7, $8, $9, $10, $11, $12, $13
                     WHERE EXISTS (SELECT FROM written))
               SELECT id, agent, watcher FROM written WHERE due";
}

/// One check, of what an engine runs of a repository (`ImageRef::registry_key`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PushedCheck {
    pub watcher: WatcherRef,
    pub repository: String,
}

impl Store {
    /// Makes sure that each of these checks begins after this call, and not less than `spacing`
    /// after the last of the same began. Of `audit` only the fields are kept that belong to no
    /// container. Answers the jobs that may begin now: wake their workers.
    pub async fn request_pushed_checks(
        &self,
        checks: &[PushedCheck],
        spacing: Duration,
        audit: &NewAudit<'_>,
    ) -> Result<Vec<(JobId, WatcherRef)>, StoreError> {
        let ids: Vec<Uuid> = checks.iter().map(|_| JobId::generate().as_uuid()).collect();
        let agents: Vec<&str> = checks.iter().map(|c| c.watcher.agent.as_str()).collect();
        let watchers: Vec<&str> = checks.iter().map(|c| c.watcher.name.as_str()).collect();
        let specs = checks
            .iter()
            .map(|check| {
                serde_json::to_value(JobSpec::Pushed {
                    repository: check.repository.clone(),
                })
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| StoreError::corrupt("job specification", e))?;
        let (traceparent, tracestate) = trace();
        let client = self.client().await?;
        let statement = client.prepare_cached(REQUEST).await?;
        let rows = client
            .query(
                &statement,
                &[
                    &ids,
                    &agents,
                    &watchers,
                    &specs,
                    &spacing.as_secs_f64(),
                    &Uuid::now_v7(),
                    &audit.action,
                    &audit.container_name,
                    &audit.container_image,
                    &audit.status.as_str(),
                    &audit.details,
                    &audit.actor,
                    &audit.request_id,
                    &traceparent,
                    &tracestate,
                ],
            )
            .await?;
        let due = rows.iter().map(|row| {
            let watcher = WatcherRef {
                agent: row.get(1),
                name: row.get(2),
            };
            (JobId::from_uuid(row.get(0)), watcher)
        });
        Ok(due.collect())
    }
}
