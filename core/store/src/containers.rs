//! Containers as last observed, and their watch results.
//!
//! Writers lock rows in the order of their ids, and write only rows that change: a listing that
//! shows nothing new leaves no trace.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use plimsoll_domain::{
    container::{ContainerFacts, ContainerState, OperationSummary, RolledBackTarget, WatchResult},
    ids::{ContainerId, IdentityKey, OperationId, WatcherRef},
    operation::{OperationKind, Phase},
    policy::UpdatePolicy,
    security::Report,
};
use tokio_postgres::{Row, types::Json};
use uuid::Uuid;

use crate::{Store, StoreError, Transaction, sightings};

statements! {
    KNOWN = "SELECT id, name, status, facts->>'health', facts->'image'->>'id',
                    facts->'image'->'digest'->'repoDigests'
               FROM containers WHERE agent = $1 AND watcher = $2 AND NOT removed";
    /// A new container of a known identity that runs the same image by the same rules starts with
    /// the result that its predecessor had. The answer tells new and returned containers from
    /// changed ones.
    UPSERT = "WITH observed AS (
                  SELECT * FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::jsonb[])
                      AS t (id, name, identity_key, status, facts)),
              prior AS (SELECT c.id, c.removed FROM containers c JOIN observed USING (id))
              INSERT INTO containers AS c (id, agent, watcher, name, identity_key, status, facts,
                                           result, result_image_id)
              SELECT o.id, $1, $2, o.name, o.identity_key, o.status, o.facts,
                     before.result, before.result_image_id
                FROM observed o
                LEFT JOIN LATERAL (
                     SELECT b.result, b.result_image_id FROM containers b
                      WHERE b.identity_key = o.identity_key AND b.id <> o.id
                        AND b.result_image_id = o.facts->'image'->>'id'
                        AND b.facts->'rules' = o.facts->'rules'
                      ORDER BY b.updated_at DESC LIMIT 1) before ON true
               ORDER BY o.id
              ON CONFLICT (id) DO UPDATE
              SET agent = excluded.agent, watcher = excluded.watcher, name = excluded.name,
                  identity_key = excluded.identity_key, status = excluded.status,
                  facts = excluded.facts, removed = false, updated_at = now()
              WHERE NOT c.forgotten AND (c.removed OR (c.agent, c.watcher, c.name, c.identity_key, c.status, c.facts)
                    IS DISTINCT FROM (excluded.agent, excluded.watcher, excluded.name,
                                      excluded.identity_key, excluded.status, excluded.facts))
              RETURNING c.id, coalesce((SELECT p.removed FROM prior p WHERE p.id = c.id), true)";
    /// On one engine a name belongs to one container: whoever else had it has lost it.
    SUPERSEDED = "SELECT id FROM containers
                   WHERE agent = $1 AND watcher = $2 AND NOT removed
                     AND name = ANY ($3) AND id <> ALL ($4)";
    REMOVE = "WITH locked AS (SELECT id FROM containers
                               WHERE agent = $1 AND watcher = $2 AND id = ANY ($3) AND NOT removed
                               ORDER BY id FOR UPDATE)
              UPDATE containers c SET removed = true, updated_at = now()
                FROM locked WHERE c.id = locked.id
              RETURNING c.id";
    /// Others that write results of the same containers come before or after: what is read next
    /// knows what they wrote.
    LOCK = "SELECT id FROM containers WHERE id = ANY ($1) ORDER BY id FOR UPDATE";
    /// A result is dropped if the container runs another image by now, or if the one that is there
    /// was observed later; by more than an hour, it is a clock that was set back. A failed check
    /// keeps what the last good one found for this image and puts its error beside it; what was
    /// asked before it failed may still come.
    WRITE_RESULTS = "WITH input AS (
                         SELECT *, result ? 'error' AND NOT result ? 'noUpdateReason' AS failed
                           FROM unnest($1::text[], $2::text[], $3::jsonb[], $4::timestamptz[])
                             AS t (id, image_id, result, observed_at)),
                     current AS (
                         SELECT c.id, i.image_id, i.observed_at, i.failed,
                                CASE WHEN i.failed AND c.result_image_id = i.image_id
                                     THEN coalesce(c.result, '{}') || i.result
                                     ELSE i.result END AS result
                           FROM containers c JOIN input i USING (id)
                           LEFT JOIN result_times t
                                  ON t.container_id = c.id AND t.image_id = i.image_id
                          WHERE NOT c.removed AND c.facts->'image'->>'id' = i.image_id
                            AND (t.observed_at - i.observed_at
                                 BETWEEN interval '1 microsecond' AND interval '1 hour')
                                IS NOT TRUE),
                     noted AS (
                         INSERT INTO result_times AS t (container_id, image_id, observed_at)
                         SELECT id, image_id, observed_at FROM current WHERE NOT failed
                         ON CONFLICT (container_id) DO UPDATE
                         SET image_id = excluded.image_id, observed_at = excluded.observed_at
                         WHERE (t.image_id, t.observed_at)
                               IS DISTINCT FROM (excluded.image_id, excluded.observed_at))
                     UPDATE containers c
                        SET result = r.result, result_image_id = r.image_id, updated_at = now()
                       FROM current r
                      WHERE c.id = r.id
                        AND (c.result, c.result_image_id) IS DISTINCT FROM (r.result, r.image_id)
                     RETURNING c.id";
    /// Puts a result in the place of the one that it was made of, and of no other.
    AMEND_RESULTS = "WITH locked AS (
                         SELECT c.id, i.result
                           FROM containers c
                           JOIN unnest($1::text[], $2::text[], $3::jsonb[], $4::jsonb[])
                                AS i (id, image_id, result, before) USING (id)
                          WHERE NOT c.removed AND c.result_image_id = i.image_id
                            AND c.result = i.before
                          ORDER BY c.id FOR UPDATE OF c)
                     UPDATE containers c SET result = l.result, updated_at = now()
                       FROM locked l WHERE c.id = l.id
                     RETURNING c.id";
    /// Without the facts of those whose rows the caller knows as they are: to unpack them costs
    /// more than everything else.
    OF_WATCHER = "SELECT c.id, c.xid::text::bigint, CASE WHEN known.id IS NULL THEN c.facts END
                    FROM containers c
                    LEFT JOIN unnest($4::text[], $5::bigint[]) AS known (id, xid)
                           ON known.id = c.id AND known.xid = c.xid::text::bigint
                   WHERE c.agent = $1 AND c.watcher = $2 AND NOT c.removed
                     AND ($3::text[] IS NULL OR c.status = ANY ($3))";
    /// What may look its versions up in a repository of that name, whatever the registry.
    MAYBE_OF_REPOSITORY = "SELECT facts FROM containers
                            WHERE agent = $1 AND watcher = $2 AND NOT removed
                              AND ($3::text[] IS NULL OR status = ANY ($3))
                              AND (facts->'image'->>'name' = $4 OR facts->'rules' ? 'lookupImage')";
    /// No watch has spoken about the image that they run.
    UNCHECKED = "SELECT facts FROM containers
                  WHERE agent = $1 AND watcher = $2 AND NOT removed
                    AND result_image_id IS DISTINCT FROM facts->'image'->>'id'";
    BY_IDS = "SELECT facts FROM containers
               WHERE agent = $1 AND watcher = $2 AND id = ANY ($3) AND NOT removed";
    STATES = "SELECT c.facts, c.identity_key, c.result, c.result_image_id, c.first_seen_at, p.policy,
                     r.recorded_at, r.target_digest, r.reason, r.last_error,
                     o.id, o.kind, o.phase, o.updated_at, o.from_version, o.to_version,
                     (SELECT jsonb_agg(jsonb_build_object('kind', i.kind, 'report', i.report)
                                       ORDER BY i.at DESC) FROM image_reports i
                       WHERE i.identity_key = c.identity_key
                         AND i.kind IN ('scan', 'signature', 'sbom', 'check'))
                FROM containers c
                LEFT JOIN policies p USING (identity_key)
                LEFT JOIN rolled_back_targets r USING (identity_key)
                LEFT JOIN update_operations o
                       ON o.agent = c.agent AND o.watcher = c.watcher AND o.container_name = c.name
                      AND o.completed_at IS NULL
               WHERE c.id = ANY ($1) ORDER BY c.id";
    /// A forgotten container stays out of sight for as long as this very container exists.
    FORGET = "UPDATE containers SET removed = true, forgotten = true, updated_at = now()
               WHERE id = $1 AND NOT removed";
    FORGET_REMOVED = "DELETE FROM containers
                       WHERE removed AND NOT forgotten AND updated_at < now() - make_interval(secs => $1)";
}

/// What is known of a container, as far as a listing shows it too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownContainer {
    pub id: ContainerId,
    pub name: String,
    pub status: String,
    /// `starting`, `healthy` or `unhealthy`.
    pub health: Option<String>,
    pub image_id: String,
    pub repo_digests: Vec<String>,
}

impl From<&ContainerFacts> for KnownContainer {
    fn from(facts: &ContainerFacts) -> Self {
        Self {
            id: facts.id.clone(),
            name: facts.name.clone(),
            status: facts.status.clone(),
            health: facts.health.map(|health| health.as_str().to_owned()),
            image_id: facts.image.id.clone(),
            repo_digests: facts.image.digest.repo_digests.clone(),
        }
    }
}

/// What writing an observation changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerChange {
    /// New, or back after it had been removed.
    Added,
    Updated,
}

/// A watch result and the local image that it was computed for.
#[derive(Clone, Debug)]
pub struct NewResult<'a> {
    pub id: &'a ContainerId,
    pub image_id: &'a str,
    pub result: &'a WatchResult,
    /// When the first of the questions was asked whose answers it is made of.
    pub observed_at: DateTime<Utc>,
}

/// Writes what an engine showed and answers with what that changed. Each id at most once.
pub async fn upsert(
    client: &impl GenericClient,
    watcher: &WatcherRef,
    observed: &[ContainerFacts],
) -> Result<Vec<(ContainerId, ContainerChange)>, StoreError> {
    if observed.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<&str> = observed.iter().map(|f| f.id.as_str()).collect();
    let names: Vec<&str> = observed.iter().map(|f| f.name.as_str()).collect();
    let identities: Vec<IdentityKey> = observed.iter().map(|f| f.identity_key()).collect();
    let identities: Vec<&str> = identities.iter().map(IdentityKey::as_str).collect();
    let statuses: Vec<&str> = observed.iter().map(|f| f.status.as_str()).collect();
    let facts: Vec<Json<&ContainerFacts>> = observed.iter().map(Json).collect();
    let statement = client.prepare_cached(UPSERT).await?;
    let rows = client
        .query(
            &statement,
            &[
                &watcher.agent,
                &watcher.name,
                &ids,
                &names,
                &identities,
                &statuses,
                &facts,
            ],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let change = match row.get(1) {
                true => ContainerChange::Added,
                false => ContainerChange::Updated,
            };
            Ok((id(row, 0)?, change))
        })
        .collect()
}

/// Containers that are still listed under one of `names`, which now belong to `owners`.
pub async fn superseded(
    client: &impl GenericClient,
    watcher: &WatcherRef,
    names: &[&str],
    owners: &[&str],
) -> Result<Vec<ContainerId>, StoreError> {
    let statement = client.prepare_cached(SUPERSEDED).await?;
    let rows = client
        .query(
            &statement,
            &[&watcher.agent, &watcher.name, &names, &owners],
        )
        .await?;
    rows.iter().map(|row| id(row, 0)).collect()
}

/// Marks containers as removed and answers with those that were not yet.
pub async fn remove(
    client: &impl GenericClient,
    watcher: &WatcherRef,
    gone: &[ContainerId],
) -> Result<Vec<ContainerId>, StoreError> {
    if gone.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<&str> = gone.iter().map(ContainerId::as_str).collect();
    let statement = client.prepare_cached(REMOVE).await?;
    let rows = client
        .query(&statement, &[&watcher.agent, &watcher.name, &ids])
        .await?;
    rows.iter().map(|row| id(row, 0)).collect()
}

/// Writes results and answers with the containers whose result that changed. Each id at most once.
pub async fn write_results(
    tx: &Transaction<'_>,
    results: &[NewResult<'_>],
) -> Result<Vec<ContainerId>, StoreError> {
    if results.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<&str> = results.iter().map(|r| r.id.as_str()).collect();
    let images: Vec<&str> = results.iter().map(|r| r.image_id).collect();
    let values: Vec<Json<&WatchResult>> = results.iter().map(|r| Json(r.result)).collect();
    let times: Vec<DateTime<Utc>> = results.iter().map(|r| r.observed_at).collect();
    let statement = tx.prepare_cached(LOCK).await?;
    tx.execute(&statement, &[&ids]).await?;
    let statement = tx.prepare_cached(WRITE_RESULTS).await?;
    let rows = tx
        .query(&statement, &[&ids, &images, &values, &times])
        .await?;
    rows.iter().map(|row| id(row, 0)).collect()
}

/// Writes results that stand for the ones beside them, where those are still there, and answers with
/// the containers whose result that changed. Each id at most once.
pub async fn amend_results(
    client: &impl GenericClient,
    results: &[(NewResult<'_>, &WatchResult)],
) -> Result<Vec<ContainerId>, StoreError> {
    let ids: Vec<&str> = results.iter().map(|r| r.0.id.as_str()).collect();
    let images: Vec<&str> = results.iter().map(|r| r.0.image_id).collect();
    let values: Vec<Json<&WatchResult>> = results.iter().map(|r| Json(r.0.result)).collect();
    let before: Vec<Json<&WatchResult>> = results.iter().map(|r| Json(r.1)).collect();
    let statement = client.prepare_cached(AMEND_RESULTS).await?;
    let rows = client
        .query(&statement, &[&ids, &images, &values, &before])
        .await?;
    rows.iter().map(|row| id(row, 0)).collect()
}

/// Everything known about these containers, removed ones included, in the order of their ids.
pub async fn states(
    client: &impl GenericClient,
    ids: &[&str],
) -> Result<Vec<ContainerState>, StoreError> {
    let statement = client.prepare_cached(STATES).await?;
    let rows = client.query(&statement, &[&ids]).await?;
    let mut states = rows.iter().map(state).collect::<Result<Vec<_>, _>>()?;
    let candidates: Vec<(usize, String)> = states
        .iter()
        .enumerate()
        .filter_map(|(n, state)| {
            let result = state.current_result()?;
            let key = plimsoll_domain::assessment::candidate_key(&state.facts, result)?;
            Some((n, key))
        })
        .collect();
    if !candidates.is_empty() {
        let wanted: Vec<sightings::Sighting<'_>> = candidates
            .iter()
            .map(|(n, candidate)| (&states[*n].identity_key, candidate.as_str()))
            .collect();
        let seen = sightings::first_seen(client, &wanted).await?;
        for (n, candidate) in &candidates {
            states[*n].update_detected_at = seen
                .iter()
                .find(|s| s.0 == states[*n].identity_key && s.1 == *candidate)
                .map(|s| s.2);
        }
    }
    Ok(states)
}

/// Takes a container out of sight on request; the next listing does not bring it back. `false` if
/// it was not there.
pub async fn forget(client: &impl GenericClient, id: &ContainerId) -> Result<bool, StoreError> {
    let statement = client.prepare_cached(FORGET).await?;
    Ok(client.execute(&statement, &[&id.as_str()]).await? == 1)
}

/// Containers' facts as they were read, each with the transaction that last wrote its row.
pub type KnownFacts = HashMap<ContainerId, (i64, Arc<ContainerFacts>)>;

impl Store {
    /// The containers of an engine that are not removed.
    pub async fn known_containers(
        &self,
        watcher: &WatcherRef,
    ) -> Result<Vec<KnownContainer>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(KNOWN).await?;
        let rows = client
            .query(&statement, &[&watcher.agent, &watcher.name])
            .await?;
        rows.iter()
            .map(|row| {
                Ok(KnownContainer {
                    id: id(row, 0)?,
                    name: row.get(1),
                    status: row.get(2),
                    health: row.get(3),
                    image_id: row.get::<_, Option<String>>(4).unwrap_or_default(),
                    repo_digests: row
                        .try_get::<_, Option<Json<Vec<String>>>>(5)
                        .map_err(|e| StoreError::corrupt("container facts", e))?
                        .map(|Json(digests)| digests)
                        .unwrap_or_default(),
                })
            })
            .collect()
    }

    /// The facts of an engine's containers, of all or of those in one of `statuses`. `known` has
    /// been read before; what is still as it was is taken from there.
    pub async fn container_facts(
        &self,
        watcher: &WatcherRef,
        statuses: Option<&[&str]>,
        known: &KnownFacts,
    ) -> Result<KnownFacts, StoreError> {
        let ids: Vec<&str> = known.keys().map(ContainerId::as_str).collect();
        let xids: Vec<i64> = known.values().map(|(xid, _)| *xid).collect();
        let client = self.client().await?;
        let statement = client.prepare_cached(OF_WATCHER).await?;
        let rows = client
            .query(
                &statement,
                &[&watcher.agent, &watcher.name, &statuses, &ids, &xids],
            )
            .await?;
        let mut found = KnownFacts::with_capacity(rows.len());
        for row in &rows {
            let (id, xid) = (id(row, 0)?, row.get(1));
            let known = known.get(&id).filter(|(known, _)| *known == xid);
            let facts = match known {
                Some((_, facts)) => Arc::clone(facts),
                None => Arc::new(json(row, 2)?),
            };
            found.insert(id, (xid, facts));
        }
        Ok(found)
    }

    /// The facts of an engine's containers that look their versions up in this repository
    /// (`ImageRef::registry_key`).
    pub async fn container_facts_of_repository(
        &self,
        watcher: &WatcherRef,
        repository: &str,
        statuses: Option<&[&str]>,
    ) -> Result<Vec<ContainerFacts>, StoreError> {
        let (_, name) = repository.split_once('/').unwrap_or(("", repository));
        let client = self.client().await?;
        let statement = client.prepare_cached(MAYBE_OF_REPOSITORY).await?;
        let rows = client
            .query(
                &statement,
                &[&watcher.agent, &watcher.name, &statuses, &name],
            )
            .await?;
        let mut facts: Vec<ContainerFacts> = rows
            .iter()
            .map(|row| json(row, 0))
            .collect::<Result<_, _>>()?;
        facts.retain(|facts| {
            let checked = facts.checked_repository();
            checked.is_some_and(|image| image.registry_key() == repository)
        });
        Ok(facts)
    }

    /// The facts of the given containers of an engine; unknown ids are left out.
    pub async fn container_facts_by_id(
        &self,
        watcher: &WatcherRef,
        ids: &[ContainerId],
    ) -> Result<Vec<ContainerFacts>, StoreError> {
        let ids: Vec<&str> = ids.iter().map(ContainerId::as_str).collect();
        let client = self.client().await?;
        let statement = client.prepare_cached(BY_IDS).await?;
        let rows = client
            .query(&statement, &[&watcher.agent, &watcher.name, &ids])
            .await?;
        rows.iter().map(|row| json(row, 0)).collect()
    }

    /// The facts of containers whose present image no watch has spoken about yet.
    pub async fn unchecked_containers(
        &self,
        watcher: &WatcherRef,
    ) -> Result<Vec<ContainerFacts>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(UNCHECKED).await?;
        let rows = client
            .query(&statement, &[&watcher.agent, &watcher.name])
            .await?;
        rows.iter().map(|row| json(row, 0)).collect()
    }

    /// Forgets containers that have been gone for `seconds`. Readers that keep a copy must have
    /// looked since, or start over.
    pub async fn forget_removed_containers(&self, seconds: f64) -> Result<u64, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(FORGET_REMOVED).await?;
        Ok(client.execute(&statement, &[&seconds]).await?)
    }
}

fn id(row: &Row, column: usize) -> Result<ContainerId, StoreError> {
    let text: &str = row.get(column);
    ContainerId::parse(text).ok_or_else(|| StoreError::corrupt("container id", text))
}

fn json<T: for<'de> serde::Deserialize<'de>>(row: &Row, column: usize) -> Result<T, StoreError> {
    row.try_get::<_, Json<T>>(column)
        .map(|Json(value)| value)
        .map_err(|e| StoreError::corrupt("container", cause(&e)))
}

fn state(row: &Row) -> Result<ContainerState, StoreError> {
    let optional = |e: tokio_postgres::Error| StoreError::corrupt("container", cause(&e));
    let result: Option<Json<WatchResult>> = row.try_get(2).map_err(optional)?;
    let policy: Option<Json<UpdatePolicy>> = row.try_get(5).map_err(optional)?;
    let reports: Option<Json<Vec<Report>>> = row.try_get(16).map_err(optional)?;
    let rolled_back = row
        .get::<_, Option<DateTime<Utc>>>(6)
        .map(|recorded_at| RolledBackTarget {
            recorded_at,
            target_digest: row.get(7),
            reason: row.get(8),
            last_error: row.get(9),
        });
    let operation = match row.get::<_, Option<Uuid>>(10) {
        None => None,
        Some(id) => {
            let (kind, phase): (&str, &str) = (row.get(11), row.get(12));
            let phase =
                Phase::parse(phase).ok_or_else(|| StoreError::corrupt("operation phase", phase))?;
            Some(OperationSummary {
                id: OperationId::from_uuid(id),
                kind: OperationKind::parse(kind)
                    .ok_or_else(|| StoreError::corrupt("operation kind", kind))?,
                status: phase.status(),
                phase,
                updated_at: row.get(13),
                from_version: row.get(14),
                to_version: row.get(15),
            })
        }
    };
    Ok(ContainerState {
        facts: json(row, 0)?,
        identity_key: IdentityKey::from_stored(row.get(1)),
        result: result.map(|Json(value)| value),
        result_image_id: row.get(3),
        policy: policy.map(|Json(value)| value),
        first_seen_at: row.get(4),
        update_detected_at: None,
        rolled_back,
        operation,
        reports: reports
            .map(|Json(value)| value)
            .unwrap_or_default()
            .into_iter()
            .collect(),
    })
}

/// tokio_postgres keeps the reason in the source.
fn cause(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
