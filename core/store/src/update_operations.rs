//! Operations: the truth about every update and rollback. Requests insert them; the program's
//! fenced writes are in [`crate::journal`].

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use plimsoll_domain::{
    compose::FileUse,
    ids::{BackupId, ContainerId, IdentityKey, OperationGroupId, OperationId, WatcherRef},
    operation::{OperationKind, Phase},
};
use serde_json::Value;
use uuid::Uuid;

use crate::{Store, StoreError};

/// The unique index that allows one active operation per container.
pub const ACTIVE: &str = "update_operations_active";

macro_rules! columns {
    () => {
        "id, kind, agent, watcher, container_id, container_name, identity_key, phase, intent, \
         seq, trigger_name, from_version, to_version, target_image, target_digest, backup_id, \
         old_container_id, old_name, temp_name, new_container_id, old_was_running, snapshot, \
         new_spec, gate, evidence, rollback_reason, last_error, exit_code, last_log, actor, \
         request_id, created_at, updated_at, completed_at, acknowledged_at, group_id, \
         compose_file"
    };
    // Lists never show what only the program needs.
    (summary) => {
        "id, kind, agent, watcher, container_id, container_name, identity_key, phase, intent, \
         seq, trigger_name, from_version, to_version, target_image, target_digest, backup_id, \
         old_container_id, old_name, temp_name, new_container_id, old_was_running, NULL::jsonb, \
         NULL::jsonb, gate, evidence, rollback_reason, last_error, exit_code, last_log, actor, \
         request_id, created_at, updated_at, completed_at, acknowledged_at, group_id, \
         compose_file"
    };
}

pub(crate) use columns;

/// The request that an operation came with: that for several containers at once, or its group's.
macro_rules! together {
    () => {
        "coalesce(batch, (SELECT g.batch FROM operation_groups g WHERE g.id = group_id), group_id) \
         AS together"
    };
}
pub(crate) use together;

statements! {
    ACTIVE_ONE = "SELECT id FROM update_operations
                   WHERE agent = $1 AND watcher = $2 AND container_name = $3
                     AND completed_at IS NULL";
    /// With the database's time, which deadlines are judged by.
    LOAD = concat!("SELECT ", columns!(), ", clock_timestamp() FROM update_operations WHERE id = $1");
    GET = concat!("SELECT ", columns!(summary), " FROM update_operations WHERE id = $1");
    GET_PAST = concat!("SELECT ", columns!(summary), ", ", together!(),
                       " FROM update_operations WHERE id = $1");
    /// Those of a group, of several that one request asked for, or of a request for several
    /// containers at once.
    ASKED_TOGETHER = concat!("SELECT ", columns!(summary), ", ", together!(), "
                      FROM update_operations
                     WHERE group_id = $1 OR batch = $1
                        OR group_id IN (SELECT id FROM operation_groups WHERE batch = $1)
                     ORDER BY created_at, group_id, group_place, id");
    OF_GROUP = concat!("SELECT ", columns!(summary), " FROM update_operations
                     WHERE group_id = $1 ORDER BY group_place");
    PAGE = concat!("SELECT ", columns!(summary), ", count(*) OVER () FROM update_operations
                     WHERE (identity_key = $1
                            OR (agent = $2 AND watcher = $3 AND container_name = $4))
                       AND kind IN ('update', 'rollback')
                     ORDER BY created_at DESC, id DESC LIMIT $5 OFFSET $6");
    COUNT = "SELECT count(*) FROM update_operations
              WHERE (identity_key = $1
                     OR (agent = $2 AND watcher = $3 AND container_name = $4))
                AND kind IN ('update', 'rollback')";
    /// Of all containers, newest first, and how many there are.
    ALL = concat!("SELECT ", columns!(summary), ", count(*) OVER () FROM update_operations
                     WHERE ($1::text IS NULL OR container_name = $1)
                       AND ($2::text[] IS NULL OR kind = ANY ($2))
                       AND ($3::text[] IS NULL OR phase = ANY ($3))
                     ORDER BY created_at DESC, id DESC LIMIT $4 OFFSET $5");
    /// The newest operation of each container that leaves a way back.
    WAYS_BACK = "SELECT DISTINCT ON (identity_key) identity_key, operation_id, image_tag
                   FROM backups ORDER BY identity_key, created_at DESC, id DESC";
    /// Those that ended lately, and how often their jobs were taken over.
    RECENTLY_ENDED = concat!("SELECT ", columns!(), ",
                            coalesce((SELECT takeovers FROM jobs j
                                       WHERE j.operation_id = update_operations.id), 0)
                      FROM update_operations
                     WHERE agent = $1 AND watcher = $2
                       AND completed_at > now() - make_interval(secs => $3)
                     ORDER BY completed_at");
    /// Updates that ended well, whose container turned unhealthy within its window
    /// (`dd.rollback.auto`, `dd.rollback.window`) and was not touched by an operation since.
    REGRESSED = concat!("SELECT ", columns!(summary), " FROM update_operations
                     WHERE agent = $1 AND watcher = $2 AND kind = 'update' AND phase = 'succeeded'
                       AND completed_at > now() - interval '1 day'
                       AND EXISTS (SELECT 1 FROM containers c
                            WHERE c.id = update_operations.new_container_id AND NOT c.removed
                              AND c.facts ->> 'health' = 'unhealthy'
                              AND c.facts #>> '{rules,rollback,auto}' = 'true'
                              AND update_operations.completed_at > now() - make_interval(secs =>
                                  coalesce((c.facts #>> '{rules,rollback,windowMs}')::float8 / 1000, $3)))
                       AND NOT EXISTS (SELECT 1 FROM update_operations later
                            WHERE later.identity_key = update_operations.identity_key
                              AND later.created_at > update_operations.created_at)");
    ACKNOWLEDGE = "UPDATE update_operations
                      SET acknowledged_at = now(), completed_at = now(), updated_at = now()
                    WHERE id = $1 AND phase = 'rollback-failed' AND completed_at IS NULL";
    /// An account that was disabled, or may only look, since it asked.
    ACTOR_BARRED = "SELECT EXISTS (SELECT 1 FROM users
                     WHERE username = $1 AND (disabled OR role = 'viewer'))";
    /// Those of the last day stay however many there are: what looks after ended operations looks
    /// back that far.
    EXPIRE = "DELETE FROM update_operations o
               WHERE (completed_at < now() - make_interval(secs => $1)
                      OR completed_at < now() - interval '1 day' AND id IN (
                          SELECT surplus.id
                            FROM (SELECT identity_key FROM update_operations
                                   GROUP BY identity_key HAVING count(*) > $2) busy
                           CROSS JOIN LATERAL (
                                  SELECT id FROM update_operations
                                   WHERE identity_key = busy.identity_key
                                   ORDER BY created_at DESC OFFSET $2) surplus))
                 AND NOT EXISTS (SELECT 1 FROM backups b WHERE b.operation_id = o.id)";
}

/// An accepted request.
#[derive(Clone, Debug)]
pub struct NewOperation {
    pub id: OperationId,
    pub kind: OperationKind,
    pub watcher: WatcherRef,
    pub container: ContainerId,
    /// Without Docker's leading slash.
    pub container_name: String,
    pub identity: IdentityKey,
    pub trigger_name: Option<String>,
    pub from_version: Option<String>,
    pub to_version: Option<String>,
    /// `repository:tag` as the user reads it, e.g. `ghcr.io/owner/app:1.2.3`.
    pub target_image: String,
    /// The digest the request was admitted for, where it is known; otherwise `prepare` fixes it.
    pub target_digest: Option<String>,
    /// For a rollback: where to go back to.
    pub backup: Option<BackupId>,
    /// Why Plimsoll itself asks for a rollback; nothing where a person does.
    pub rollback_reason: Option<String>,
    /// `None`: what the trigger does, or what the operation did whose backup this goes back to.
    pub compose_file: Option<FileUse>,
    pub actor: String,
    pub request_id: Option<String>,
}

/// One operation as stored. `snapshot` and `new_spec` are `None` in lists.
#[derive(Clone, Debug)]
pub struct Operation {
    pub id: OperationId,
    pub kind: OperationKind,
    pub watcher: WatcherRef,
    pub container_id: String,
    pub container_name: String,
    pub identity: IdentityKey,
    pub phase: Phase,
    pub intent: Option<String>,
    pub seq: i32,
    pub trigger_name: Option<String>,
    pub from_version: Option<String>,
    pub to_version: Option<String>,
    pub target_image: String,
    pub target_digest: Option<String>,
    pub backup: Option<BackupId>,
    pub old_container_id: Option<String>,
    pub old_name: Option<String>,
    pub temp_name: Option<String>,
    pub new_container_id: Option<String>,
    pub old_was_running: Option<bool>,
    pub snapshot: Option<Value>,
    pub new_spec: Option<Value>,
    pub gate: Option<Value>,
    pub evidence: Option<Value>,
    pub rollback_reason: Option<String>,
    pub last_error: Option<String>,
    pub exit_code: Option<i32>,
    pub last_log: Option<String>,
    pub actor: String,
    pub request_id: Option<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub completed_at: Option<DateTime<Utc>>,
    pub acknowledged_at: Option<DateTime<Utc>>,
    /// Of which it is a member (`operation_groups`).
    pub group: Option<OperationGroupId>,
    /// Whatever the trigger does; `None`: what the trigger does.
    pub compose_file: Option<FileUse>,
}

/// Which operations of all containers; everything where a field is absent.
#[derive(Clone, Debug, Default)]
pub struct OperationFilter {
    /// By the name that it had.
    pub container: Option<String>,
    pub kinds: Option<Vec<OperationKind>>,
    pub phases: Option<Vec<Phase>>,
}

/// An operation, and what finds those that were asked for with it.
#[derive(Clone, Debug)]
pub struct PastOperation {
    pub operation: Operation,
    /// Of the request for several, or else of its group.
    pub together: Option<OperationGroupId>,
}

/// The newest way back of a container.
#[derive(Clone, Debug)]
pub struct WayBack {
    pub identity: IdentityKey,
    /// That left it.
    pub operation: OperationId,
    pub image_tag: String,
}

/// An operation that ended lately.
#[derive(Clone, Debug)]
pub struct EndedOperation {
    pub operation: Operation,
    /// How often its lease ran out on a worker.
    pub takeovers: u32,
}

/// An operator takes over an operation whose rollback failed: its container is free again, and a
/// worker that works on it loses its lease. Answers whether there was one.
pub async fn acknowledge(client: &impl GenericClient, id: OperationId) -> Result<bool, StoreError> {
    let statement = client.prepare_cached(ACKNOWLEDGE).await?;
    Ok(client.execute(&statement, &[&id.as_uuid()]).await? > 0)
}

/// The members of a group, in their order.
pub(crate) async fn of_group(
    client: &impl GenericClient,
    group: OperationGroupId,
) -> Result<Vec<Operation>, StoreError> {
    let statement = client.prepare_cached(OF_GROUP).await?;
    let rows = client.query(&statement, &[&group.as_uuid()]).await?;
    rows.iter().map(read).collect()
}

impl Store {
    /// The operation that is active for a container, if any.
    pub async fn active_operation(
        &self,
        watcher: &WatcherRef,
        container_name: &str,
    ) -> Result<Option<OperationId>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(ACTIVE_ONE).await?;
        let row = client
            .query_opt(
                &statement,
                &[&watcher.agent, &watcher.name, &container_name],
            )
            .await?;
        Ok(row.map(|row| OperationId::from_uuid(row.get(0))))
    }

    /// One operation with everything its program needs, and the database's time.
    pub async fn load_operation(
        &self,
        id: OperationId,
    ) -> Result<Option<(Operation, DateTime<Utc>)>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(LOAD).await?;
        let row = client.query_opt(&statement, &[&id.as_uuid()]).await?;
        row.map(|row| Ok((read(&row)?, row.get(37)))).transpose()
    }

    /// One operation without its snapshot and specification.
    pub async fn operation(&self, id: OperationId) -> Result<Option<Operation>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(GET).await?;
        let row = client.query_opt(&statement, &[&id.as_uuid()]).await?;
        row.map(|row| read(&row)).transpose()
    }

    /// Updates and rollbacks of a container across re-creations, newest first, and how many there
    /// are.
    /// `limit` 0 means all.
    pub async fn operations_page(
        &self,
        identity: &IdentityKey,
        watcher: &WatcherRef,
        container_name: &str,
        offset: i64,
        limit: i64,
    ) -> Result<(Vec<Operation>, i64), StoreError> {
        let limit = (limit > 0).then_some(limit);
        let client = self.client().await?;
        let statement = client.prepare_cached(PAGE).await?;
        let rows = client
            .query(
                &statement,
                &[
                    &identity.as_str(),
                    &watcher.agent,
                    &watcher.name,
                    &container_name,
                    &limit,
                    &offset,
                ],
            )
            .await?;
        let total = match rows.first() {
            Some(row) => row.get(37),
            None => {
                let statement = client.prepare_cached(COUNT).await?;
                client
                    .query_one(
                        &statement,
                        &[
                            &identity.as_str(),
                            &watcher.agent,
                            &watcher.name,
                            &container_name,
                        ],
                    )
                    .await?
                    .get(0)
            }
        };
        Ok((rows.iter().map(read).collect::<Result<_, _>>()?, total))
    }

    /// Operations of all containers, newest first, and how many there are.
    pub async fn all_operations(
        &self,
        filter: &OperationFilter,
        offset: i64,
        limit: i64,
    ) -> Result<(Vec<Operation>, i64), StoreError> {
        let kinds = filter.kinds.as_deref().map(kind_words);
        let phases = filter.phases.as_deref().map(phase_words);
        let client = self.client().await?;
        let statement = client.prepare_cached(ALL).await?;
        let rows = client
            .query(
                &statement,
                &[&filter.container, &kinds, &phases, &limit, &offset],
            )
            .await?;
        let total = rows.first().map_or(0, |row| row.get(37));
        Ok((rows.iter().map(read).collect::<Result<_, _>>()?, total))
    }

    /// One operation, with what finds those that were asked for with it.
    pub async fn past_operation(
        &self,
        id: OperationId,
    ) -> Result<Option<PastOperation>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(GET_PAST).await?;
        let row = client.query_opt(&statement, &[&id.as_uuid()]).await?;
        row.map(|row| past(&row)).transpose()
    }

    /// Those that were asked for together, in the order in which they come.
    pub async fn operations_together(
        &self,
        id: OperationGroupId,
    ) -> Result<Vec<PastOperation>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(ASKED_TOGETHER).await?;
        let rows = client.query(&statement, &[&id.as_uuid()]).await?;
        rows.iter().map(past).collect()
    }

    /// The newest way back of each container that has one.
    pub async fn ways_back(&self) -> Result<Vec<WayBack>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(WAYS_BACK).await?;
        let rows = client.query(&statement, &[]).await?;
        let way = |row: &tokio_postgres::Row| WayBack {
            identity: IdentityKey::from_stored(row.get(0)),
            operation: OperationId::from_uuid(row.get(1)),
            image_tag: row.get(2),
        };
        Ok(rows.iter().map(way).collect())
    }

    /// Operations of one engine that ended within the last `seconds`, oldest first.
    pub async fn operations_ended_within(
        &self,
        watcher: &WatcherRef,
        seconds: f64,
    ) -> Result<Vec<EndedOperation>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(RECENTLY_ENDED).await?;
        let rows = client
            .query(&statement, &[&watcher.agent, &watcher.name, &seconds])
            .await?;
        rows.iter()
            .map(|row| {
                Ok(EndedOperation {
                    operation: read(row)?,
                    takeovers: row.get::<_, i32>(37).try_into().unwrap_or(0),
                })
            })
            .collect()
    }

    /// Updates of one engine that ended well and did not stay so, where the container's labels ask
    /// to go back then. `window` is in seconds, for containers that name none.
    pub async fn regressed_operations(
        &self,
        watcher: &WatcherRef,
        window: f64,
    ) -> Result<Vec<Operation>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(REGRESSED).await?;
        let rows = client
            .query(&statement, &[&watcher.agent, &watcher.name, &window])
            .await?;
        rows.iter().map(read).collect()
    }

    /// Whether the account that asked may no longer do so (reliability.md S-18). An actor that is
    /// no account, such as a webhook, is not barred.
    pub async fn actor_is_barred(&self, actor: &str) -> Result<bool, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(ACTOR_BARRED).await?;
        Ok(client.query_one(&statement, &[&actor]).await?.get(0))
    }

    /// Forgets operations that ended more than `seconds` ago, and those of more than a day ago of
    /// which their container has `entries` newer ones. What holds a backup stays.
    pub async fn expire_operations(&self, seconds: f64, entries: i64) -> Result<u64, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(EXPIRE).await?;
        Ok(client.execute(&statement, &[&seconds, &entries]).await?)
    }
}

pub(crate) fn kind_words(kinds: &[OperationKind]) -> Vec<&'static str> {
    kinds.iter().map(|kind| kind.as_str()).collect()
}

pub(crate) fn phase_words(phases: &[Phase]) -> Vec<&'static str> {
    phases.iter().map(|phase| phase.as_str()).collect()
}

pub(crate) fn past(row: &tokio_postgres::Row) -> Result<PastOperation, StoreError> {
    let together: Option<Uuid> = row.get("together");
    Ok(PastOperation {
        operation: read(row)?,
        together: together.map(OperationGroupId::from_uuid),
    })
}

fn read(row: &tokio_postgres::Row) -> Result<Operation, StoreError> {
    let kind: &str = row.get(1);
    let phase: &str = row.get(7);
    Ok(Operation {
        id: OperationId::from_uuid(row.get(0)),
        kind: OperationKind::parse(kind)
            .ok_or_else(|| StoreError::corrupt("operation kind", kind))?,
        watcher: WatcherRef {
            agent: row.get(2),
            name: row.get(3),
        },
        container_id: row.get(4),
        container_name: row.get(5),
        identity: IdentityKey::from_stored(row.get(6)),
        phase: Phase::parse(phase).ok_or_else(|| StoreError::corrupt("operation phase", phase))?,
        intent: row.get(8),
        seq: row.get(9),
        trigger_name: row.get(10),
        from_version: row.get(11),
        to_version: row.get(12),
        target_image: row.get(13),
        target_digest: row.get(14),
        backup: row.get::<_, Option<Uuid>>(15).map(BackupId::from_uuid),
        old_container_id: row.get(16),
        old_name: row.get(17),
        temp_name: row.get(18),
        new_container_id: row.get(19),
        old_was_running: row.get(20),
        snapshot: row.get(21),
        new_spec: row.get(22),
        gate: row.get(23),
        evidence: row.get(24),
        rollback_reason: row.get(25),
        last_error: row.get(26),
        exit_code: row.get(27),
        last_log: row.get(28),
        actor: row.get(29),
        request_id: row.get(30),
        created_at: row.get(31),
        updated_at: row.get(32),
        completed_at: row.get(33),
        acknowledged_at: row.get(34),
        group: row
            .get::<_, Option<Uuid>>(35)
            .map(OperationGroupId::from_uuid),
        compose_file: match row.get::<_, Option<&str>>(36) {
            None => None,
            Some(text) => Some(
                FileUse::parse(text)
                    .ok_or_else(|| StoreError::corrupt("use of a Compose file", text))?,
            ),
        },
    })
}
