//! Removals of an engine's objects: what was asked, what was planned, what became of each. And what
//! the database knows that must not be removed.

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use plimsoll_domain::{
    explorer::removal::{ObjectKind, Planned, RemovalRequest},
    ids::{OperationGroupId, RemovalId, WatcherRef},
    operation::Status,
};
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{Store, StoreError, Transaction, jobs::Lease, journal::FencedError};

/// What the snapshot of an operation says of the containers in it: its own, and those that live in
/// its namespaces.
macro_rules! of_snapshot {
    ($path:literal) => {
        concat!(
            "coalesce(jsonb_path_query_array(o.snapshot, 'lax $.container.",
            $path,
            "'), '[]') || coalesce(jsonb_path_query_array(o.snapshot, 'lax $.dependants[*].container.",
            $path,
            "'), '[]')"
        )
    };
}

/// Of a removal `r`, and of the item `i` that its request names, where there is a plan.
macro_rules! past_columns {
    () => {
        "r.id AS removal_id, r.agent AS removal_agent, r.watcher AS removal_watcher, \
         r.actor AS removal_actor, r.batch AS removal_batch, r.created_at AS removal_created_at, \
         r.completed_at AS removal_completed_at, \
         coalesce(r.error, CASE WHEN i.state = 'kept' THEN i.message END) AS removal_error, \
         coalesce(i.object_id, '') AS removal_object, \
         coalesce(i.name, r.container_name, r.request ->> 'reference', '') AS removal_name"
    };
}
pub(crate) use past_columns;

/// Only while the lease holds.
macro_rules! fenced {
    ($job:literal, $owner:literal, $epoch:literal) => {
        concat!(
            " AND EXISTS (SELECT 1 FROM jobs WHERE id = ",
            $job,
            " AND lease_owner = ",
            $owner,
            " AND lease_epoch = ",
            $epoch,
            " AND state = 'running')"
        )
    };
}

statements! {
    INSERT = "INSERT INTO removals (id, agent, watcher, request, actor, request_id, batch,
                                    container_name)
              SELECT $1, $2, $3, $4::jsonb, $5, $6, $7,
                     CASE WHEN $4 ->> 'kind' = 'container'
                          THEN coalesce((SELECT name FROM containers WHERE id = $4 ->> 'reference'),
                                        ltrim($4 ->> 'reference', '/')) END
              RETURNING container_name";
    GET = "SELECT id, agent, watcher, request, actor, request_id, planned_at, completed_at, error,
                  error_code, created_at, created_at < now() - make_interval(secs => $2)
             FROM removals WHERE id = $1";
    GET_PAST = concat!("SELECT ", past_columns!(), "
             FROM removals r LEFT JOIN removal_items i ON i.removal_id = r.id AND i.place = 0
            WHERE r.id = $1");
    OF_BATCH = concat!("SELECT ", past_columns!(), "
             FROM removals r LEFT JOIN removal_items i ON i.removal_id = r.id AND i.place = 0
            WHERE r.batch = $1 ORDER BY r.created_at, r.id");
    ITEMS = "SELECT place, kind, object_id, name, tag, size, state, reason, message,
                    reserved_at IS NOT NULL
               FROM removal_items WHERE removal_id = $1 ORDER BY place";
    PLAN = concat!("UPDATE removals
                       SET planned_at = now(),
                           container_name = CASE WHEN container_name IS NOT NULL
                                                 THEN coalesce($5, container_name) END
                     WHERE id = $1 AND planned_at IS NULL AND completed_at IS NULL",
                   fenced!("$2", "$3", "$4"));
    ADD = "INSERT INTO removal_items (removal_id, place, kind, object_id, name, tag, size, state, reason, message)
           SELECT $1, * FROM unnest($2::integer[], $3::text[], $4::text[], $5::text[], $6::text[],
                                    $7::bigint[], $8::text[], $9::text[], $10::text[])";
    SETTLE = concat!("UPDATE removal_items SET state = $3, reason = $4, message = $5
                       WHERE removal_id = $1 AND place = $2",
                     fenced!("$6", "$7", "$8"));
    COMPLETE = concat!("UPDATE removals SET completed_at = now(), error = $2, error_code = $3
                         WHERE id = $1 AND completed_at IS NULL",
                       fenced!("$4", "$5", "$6"));
    EXPIRE = "DELETE FROM removals WHERE completed_at < now() - make_interval(secs => $1)";
    /// Of operations that are not over, and of those that kept ways back belong to.
    NEEDED = concat!("SELECT 'operation', o.id, o.target_image,
                    array_remove(array[o.container_id, o.old_container_id, o.new_container_id], NULL),
                    array_remove(array[o.target_image, o.target_digest,
                                       o.snapshot #>> '{container,Image}'], NULL), ",
            of_snapshot!("Mounts[*] ? (@.Type == \"volume\").Name"), ", ",
            of_snapshot!("NetworkSettings.Networks.keyvalue().key"), "
               FROM update_operations o
              WHERE o.agent = $1 AND o.watcher = $2 AND o.completed_at IS NULL
             UNION ALL
             SELECT 'backup', b.operation_id, NULL, array[]::text[], array[b.image_id, b.pinned_as], ",
            of_snapshot!("Mounts[*] ? (@.Type == \"volume\").Name"), ", ",
            of_snapshot!("NetworkSettings.Networks.keyvalue().key"), "
               FROM backups b LEFT JOIN update_operations o ON o.id = b.operation_id
              WHERE b.agent = $1 AND b.watcher = $2");
}

/// A request to be written.
#[derive(Clone, Debug)]
pub struct NewRemoval<'a> {
    pub id: RemovalId,
    pub watcher: &'a WatcherRef,
    pub request: &'a RemovalRequest,
    pub actor: &'a str,
    pub request_id: Option<&'a str>,
    /// The request for several that it came with.
    pub batch: Option<OperationGroupId>,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemState {
    /// It is to go.
    Planned,
    /// Observed: it is gone.
    Removed,
    /// It stays, and the reason says why.
    Kept,
}

impl ItemState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Removed => "removed",
            Self::Kept => "kept",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let all = [Self::Planned, Self::Removed, Self::Kept];
        all.into_iter().find(|state| state.as_str() == text)
    }
}

/// One object of a removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub place: i32,
    pub kind: ObjectKind,
    pub id: String,
    pub name: String,
    pub tag: Option<String>,
    /// Bytes that its removal frees, where the engine says.
    pub size: Option<i64>,
    pub state: ItemState,
    /// An `Obstacle`, or `engine` where the engine refused.
    pub reason: Option<String>,
    pub message: Option<String>,
    /// A container that was reserved for its removal: operations wait until it is settled.
    pub is_reserved: bool,
}

impl Item {
    pub fn planned(&self) -> Planned {
        Planned {
            kind: self.kind,
            id: self.id.clone(),
            name: self.name.clone(),
            tag: self.tag.clone(),
            obstacle: None,
        }
    }
}

/// A removal and what became of it.
#[derive(Clone, Debug)]
pub struct Removal {
    pub id: RemovalId,
    pub watcher: WatcherRef,
    pub request: RemovalRequest,
    pub actor: String,
    pub request_id: Option<String>,
    pub planned_at: Option<DateTime<Utc>>,
    pub completed_at: Option<DateTime<Utc>>,
    pub error: Option<String>,
    pub error_code: Option<String>,
    pub created_at: DateTime<Utc>,
    /// It was asked for longer ago than the caller of [`Store::removal`] said.
    pub is_old: bool,
    pub items: Vec<Item>,
}

/// A removal beside operations: of the one object that it was asked for, or of the first of what
/// nobody uses.
#[derive(Clone, Debug)]
pub struct PastRemoval {
    pub id: RemovalId,
    pub watcher: WatcherRef,
    pub actor: String,
    pub batch: Option<OperationGroupId>,
    pub created_at: DateTime<Utc>,
    pub completed_at: Option<DateTime<Utc>>,
    /// Why nothing was done, or why the object stays.
    pub error: Option<String>,
    /// Empty before there is a plan.
    pub object_id: String,
    /// As it was asked for before there is a plan.
    pub name: String,
}

impl PastRemoval {
    pub fn status(&self) -> Status {
        match (self.completed_at, &self.error) {
            (None, _) => Status::InProgress,
            (Some(_), None) => Status::Succeeded,
            (Some(_), Some(_)) => Status::Failed,
        }
    }
}

/// What an operation or a way back needs on its engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    /// Otherwise a way back.
    pub is_operation: bool,
    pub operation: String,
    /// The reference that an operation goes to.
    pub target_image: Option<String>,
    pub containers: Vec<String>,
    /// Ids, references and digests.
    pub images: Vec<String>,
    pub volumes: Vec<String>,
    pub networks: Vec<String>,
}

/// Writes a request, in the transaction of its job. Answers the name of the container that it is
/// about, as far as it is known; of what else is removed, nothing.
pub async fn insert(
    client: &impl GenericClient,
    new: &NewRemoval<'_>,
) -> Result<Option<String>, StoreError> {
    let request = serde_json::to_value(new.request)
        .map_err(|error| StoreError::corrupt("removal request", error))?;
    let statement = client.prepare_cached(INSERT).await?;
    let row = client
        .query_one(
            &statement,
            &[
                &new.id.as_uuid(),
                &new.watcher.agent,
                &new.watcher.name,
                &request,
                &new.actor,
                &new.request_id,
                &new.batch.map(|batch| batch.as_uuid()),
            ],
        )
        .await?;
    Ok(row.get(0))
}

/// Why nothing, or nothing more, was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For programs.
    pub code: &'static str,
    pub message: String,
}

/// Ends a removal. What was planned and not done stays `planned`: it is not known to be gone.
pub async fn complete(
    tx: &Transaction<'_>,
    lease: &Lease,
    id: RemovalId,
    failure: Option<&Failure>,
) -> Result<(), FencedError> {
    let statement = tx
        .prepare_cached(COMPLETE)
        .await
        .map_err(StoreError::from)?;
    let code = failure.map(|failure| failure.code);
    let message = failure.map(|failure| failure.message.as_str());
    let ended = tx
        .execute(
            &statement,
            &[
                &id.as_uuid(),
                &message,
                &code,
                &lease.job.as_uuid(),
                &lease.owner,
                &lease.epoch,
            ],
        )
        .await
        .map_err(StoreError::from)?;
    held(ended)
}

impl Store {
    /// One removal with its items. `old`: seconds after which it counts as old.
    pub async fn removal(&self, id: RemovalId, old: f64) -> Result<Option<Removal>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(GET).await?;
        let Some(row) = client.query_opt(&statement, &[&id.as_uuid(), &old]).await? else {
            return Ok(None);
        };
        let statement = client.prepare_cached(ITEMS).await?;
        let items = client.query(&statement, &[&id.as_uuid()]).await?;
        let items: Result<Vec<Item>, StoreError> = items.iter().map(item).collect();
        Ok(Some(Removal {
            id: RemovalId::from_uuid(row.get(0)),
            watcher: WatcherRef {
                agent: row.get(1),
                name: row.get(2),
            },
            request: serde_json::from_value(row.get(3))
                .map_err(|error| StoreError::corrupt("removal request", error))?,
            actor: row.get(4),
            request_id: row.get(5),
            planned_at: row.get(6),
            completed_at: row.get(7),
            error: row.get(8),
            error_code: row.get(9),
            created_at: row.get(10),
            is_old: row.get(11),
            items: items?,
        }))
    }

    /// One removal as it stands beside operations.
    pub async fn past_removal(&self, id: RemovalId) -> Result<Option<PastRemoval>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(GET_PAST).await?;
        let row = client.query_opt(&statement, &[&id.as_uuid()]).await?;
        Ok(row.as_ref().map(past))
    }

    /// The removals that one request asked for.
    pub async fn removals_of_batch(
        &self,
        batch: OperationGroupId,
    ) -> Result<Vec<PastRemoval>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(OF_BATCH).await?;
        let rows = client.query(&statement, &[&batch.as_uuid()]).await?;
        Ok(rows.iter().map(past).collect())
    }

    /// Writes down what is to go, before any of it does.
    ///
    /// # Errors
    /// `LeaseLost` also when there is a plan already.
    pub async fn plan_removal(
        &self,
        lease: &Lease,
        id: RemovalId,
        items: &[Item],
    ) -> Result<(), FencedError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(StoreError::from)?;
        let statement = tx.prepare_cached(PLAN).await.map_err(StoreError::from)?;
        let planned = tx
            .execute(
                &statement,
                &[
                    &id.as_uuid(),
                    &lease.job.as_uuid(),
                    &lease.owner,
                    &lease.epoch,
                    &items.first().map(|item| item.name.as_str()),
                ],
            )
            .await
            .map_err(StoreError::from)?;
        held(planned)?;
        macro_rules! column {
            ($field:expr) => {
                items.iter().map($field).collect::<Vec<_>>()
            };
        }
        let statement = tx.prepare_cached(ADD).await.map_err(StoreError::from)?;
        tx.execute(
            &statement,
            &[
                &id.as_uuid(),
                &column!(|item| item.place),
                &column!(|item| item.kind.as_str()),
                &column!(|item| item.id.as_str()),
                &column!(|item| item.name.as_str()),
                &column!(|item| item.tag.as_deref()),
                &column!(|item| item.size),
                &column!(|item| item.state.as_str()),
                &column!(|item| item.reason.as_deref()),
                &column!(|item| item.message.as_deref()),
            ],
        )
        .await
        .map_err(StoreError::from)?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(())
    }

    /// Writes down what became of one object.
    pub async fn settle_removal(
        &self,
        lease: &Lease,
        id: RemovalId,
        item: &Item,
    ) -> Result<(), FencedError> {
        let client = self.client().await?;
        let statement = client
            .prepare_cached(SETTLE)
            .await
            .map_err(StoreError::from)?;
        let settled = client
            .execute(
                &statement,
                &[
                    &id.as_uuid(),
                    &item.place,
                    &item.state.as_str(),
                    &item.reason,
                    &item.message,
                    &lease.job.as_uuid(),
                    &lease.owner,
                    &lease.epoch,
                ],
            )
            .await
            .map_err(StoreError::from)?;
        held(settled)
    }

    /// What operations that are not over and kept ways back need on this engine.
    pub async fn needed(&self, watcher: &WatcherRef) -> Result<Vec<Needed>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(NEEDED).await?;
        let rows = client
            .query(&statement, &[&watcher.agent, &watcher.name])
            .await?;
        Ok(rows
            .iter()
            .map(|row| Needed {
                is_operation: row.get::<_, &str>(0) == "operation",
                operation: row.get::<_, uuid::Uuid>(1).to_string(),
                target_image: row.get(2),
                containers: row.get(3),
                images: row.get(4),
                volumes: texts(&row.get(5)),
                networks: texts(&row.get(6)),
            })
            .collect())
    }

    /// Forgets removals that ended more than `seconds` ago.
    pub async fn expire_removals(&self, seconds: f64) -> Result<u64, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(EXPIRE).await?;
        Ok(client.execute(&statement, &[&seconds]).await?)
    }
}

fn held(rows: u64) -> Result<(), FencedError> {
    match rows {
        0 => Err(FencedError::LeaseLost),
        _ => Ok(()),
    }
}

fn texts(value: &Value) -> Vec<String> {
    let all = value.as_array().into_iter().flatten();
    all.filter_map(Value::as_str).map(str::to_owned).collect()
}

pub(crate) fn past(row: &Row) -> PastRemoval {
    let batch: Option<Uuid> = row.get("removal_batch");
    PastRemoval {
        id: RemovalId::from_uuid(row.get("removal_id")),
        watcher: WatcherRef {
            agent: row.get("removal_agent"),
            name: row.get("removal_watcher"),
        },
        actor: row.get("removal_actor"),
        batch: batch.map(OperationGroupId::from_uuid),
        created_at: row.get("removal_created_at"),
        completed_at: row.get("removal_completed_at"),
        error: row.get("removal_error"),
        object_id: row.get("removal_object"),
        name: row.get("removal_name"),
    }
}

fn item(row: &Row) -> Result<Item, StoreError> {
    let word = |text: &str| StoreError::corrupt("removal item", text);
    let (kind, state): (&str, &str) = (row.get(1), row.get(6));
    Ok(Item {
        place: row.get(0),
        kind: ObjectKind::parse(kind).ok_or_else(|| word(kind))?,
        id: row.get(2),
        name: row.get(3),
        tag: row.get(4),
        size: row.get(5),
        state: ItemState::parse(state).ok_or_else(|| word(state))?,
        reason: row.get(7),
        message: row.get(8),
        is_reserved: row.get(9),
    })
}
