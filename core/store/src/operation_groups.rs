//! Operations that were asked for together and come one after another. Each is an ordinary
//! operation with a job of its own; what is here is what they come after.

use chrono::{DateTime, Utc};
use plimsoll_domain::{
    compose::FileUse,
    ids::{JobId, OperationGroupId, OperationId, WatcherRef},
    operation::Phase,
    stack::Condition,
};
use serde::Serialize;
use tokio_postgres::types::Json;
use uuid::Uuid;

use crate::{
    Store, StoreError,
    jobs::trace,
    update_operations::{self, NewOperation, Operation},
};

statements! {
    /// All of the group or nothing: a violation in any part undoes the whole, as with one
    /// operation. Jobs are taken in the order in which the members come.
    ACCEPT = "WITH asked AS (
            SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[],
                                 $6::text[], $7::text[], $8::uuid[], $9::uuid[], $10::text[],
                                 $11::jsonb[], $25::text[], $26::text[], $27::text[], $28::text[])
                WITH ORDINALITY
                AS a (id, kind, container_id, container_name, identity_key, trigger_name,
                      target_image, job, entry, event, waits_for, from_version, to_version,
                      compose_file, action, place)
        ), grouped AS (
            INSERT INTO operation_groups (id, kind, agent, watcher, name, actor, request_id, batch)
            VALUES ($12, $13, $14, $15, $16, $17, $18, $21)
        ), operation AS (
            INSERT INTO update_operations (id, kind, agent, watcher, container_id, container_name,
                                           identity_key, trigger_name, from_version, to_version,
                                           target_image, compose_file, actor, request_id, group_id,
                                           group_place, waits_for)
            SELECT id, kind, $14, $15, container_id, container_name, identity_key, trigger_name,
                   from_version, to_version, target_image, compose_file, $17, $18, $12, place,
                   waits_for
              FROM asked
        ), job AS (
            INSERT INTO jobs (id, kind, agent, watcher, spec, operation_id, traceparent, tracestate,
                              created_at)
            SELECT job, 'operation', $14, $15,
                   jsonb_build_object('kind', 'operation', 'operation', id), id, $19, $20,
                   now() + make_interval(secs => place * 0.000001)
              FROM asked
        ), trail AS (
            INSERT INTO audit (id, action, container_name, container_image, identity_key,
                               from_version, to_version, trigger_name, status, details, actor,
                               request_id, operation_id)
            SELECT entry, action, container_name, target_image, identity_key, from_version,
                   to_version, trigger_name, 'info', $22, $17, $18, id
              FROM asked
        ), event AS (
            INSERT INTO events (type, payload)
            SELECT 'dd:update-operation-changed', event FROM asked ORDER BY place
        )
        INSERT INTO idempotency_keys (principal, key, request_hash, operation_id)
        SELECT $17, $23::text, $24::bytea, coalesce($21, $12) WHERE $23::text IS NOT NULL";
    /// One that stands in the way.
    ACTIVE_AMONG = "SELECT id, container_name FROM update_operations
                     WHERE agent = $1 AND watcher = $2 AND container_name = ANY ($3)
                       AND completed_at IS NULL
                     ORDER BY container_name LIMIT 1";
    GET = "SELECT kind, agent, watcher, name, created_at FROM operation_groups WHERE id = $1";
    OF_BATCH = "SELECT id FROM operation_groups WHERE batch = $1 ORDER BY created_at, id";
    WAITS = "SELECT w.condition, o.phase, coalesce(o.new_container_id, o.container_id), o.container_name,
                    coalesce(extract(epoch FROM clock_timestamp() - o.completed_at), 0)::float8
               FROM update_operations own,
                    jsonb_to_recordset(own.waits_for) AS w (operation uuid, condition text)
               JOIN update_operations o ON o.id = w.operation
              WHERE own.id = $1 AND own.waits_for IS NOT NULL
              ORDER BY o.group_place";
    /// Those that come after the operation may look again at once.
    HURRY = "UPDATE jobs SET run_after = now()
              WHERE state = 'queued' AND run_after > now() AND operation_id IN (
                    SELECT later.id FROM update_operations own
                      JOIN update_operations later ON later.group_id = own.group_id
                     WHERE own.id = $1 AND later.completed_at IS NULL
                       AND later.waits_for @> jsonb_build_array(
                               jsonb_build_object('operation', own.id)))";
    EXPIRE = "DELETE FROM operation_groups g
               WHERE created_at < now() - make_interval(secs => $1)
                 AND NOT EXISTS (SELECT 1 FROM update_operations o WHERE o.group_id = g.id)";
}

/// One member of a group that is asked for.
#[derive(Clone, Debug)]
pub struct NewMember {
    pub operation: NewOperation,
    pub audit_action: &'static str,
    pub job: JobId,
    /// JSON of the event that tells clients about the operation.
    pub event: String,
    pub waits_for: Vec<Wait>,
}

/// What a member comes after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Wait {
    pub operation: OperationId,
    pub condition: Condition,
}

/// A group that is asked for; its members come in their order, on one engine.
#[derive(Clone, Debug)]
pub struct NewGroup<'a> {
    pub id: OperationGroupId,
    pub kind: GroupKind,
    pub watcher: &'a WatcherRef,
    pub name: &'a str,
    pub members: &'a [NewMember],
    pub actor: &'a str,
    pub request_id: Option<&'a str>,
    pub audit_details: &'a str,
    /// The request for several groups that it is of.
    pub batch: Option<OperationGroupId>,
    /// Key and SHA-256 of the request, scoped to the actor; it names the batch, or else the group.
    pub idempotency: Option<(&'a str, &'a [u8])>,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKind {
    RestartStack,
    /// And what follows it.
    RestartContainer,
    /// Containers of one stack, or of none.
    UpdateStack,
}

impl GroupKind {
    const ALL: [Self; 3] = [
        Self::RestartStack,
        Self::RestartContainer,
        Self::UpdateStack,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RestartStack => "restart-stack",
            Self::RestartContainer => "restart-container",
            Self::UpdateStack => "update-stack",
        }
    }
}

/// A group with its members, in their order.
#[derive(Clone, Debug)]
pub struct Group {
    pub id: OperationGroupId,
    pub kind: GroupKind,
    pub watcher: WatcherRef,
    /// Of the stack, or of the container; empty for containers outside of any stack.
    pub name: String,
    pub created_at: DateTime<Utc>,
    pub members: Vec<Operation>,
}

/// One of those that a member comes after, as it stands.
#[derive(Clone, Debug)]
pub struct Waited {
    pub condition: Condition,
    pub phase: Phase,
    pub container_id: String,
    pub container_name: String,
    /// Seconds since it was over; 0 before.
    pub since: f64,
}

impl Store {
    /// Makes all of the group durable, with the trace that we are in, or changes nothing.
    ///
    /// # Errors
    /// `Constraint` with [`ACTIVE`](crate::update_operations::ACTIVE) when one of the containers
    /// has an active operation, [`REMOVED`](crate::reservations::REMOVED) when a removal is at work
    /// on one, [`KEY_TAKEN`](crate::requests::KEY_TAKEN) when the idempotency key
    /// is taken.
    pub async fn accept_group(&self, group: &NewGroup<'_>) -> Result<(), StoreError> {
        macro_rules! column {
            ($member:ident => $value:expr) => {
                group
                    .members
                    .iter()
                    .map(|$member| $value)
                    .collect::<Vec<_>>()
            };
        }
        let (traceparent, tracestate) = trace();
        let client = self.client().await?;
        let statement = client.prepare_cached(ACCEPT).await?;
        client
            .execute(
                &statement,
                &[
                    &column!(m => m.operation.id.as_uuid()),
                    &column!(m => m.operation.kind.as_str()),
                    &column!(m => m.operation.container.as_str()),
                    &column!(m => m.operation.container_name.as_str()),
                    &column!(m => m.operation.identity.as_str()),
                    &column!(m => m.operation.trigger_name.as_deref()),
                    &column!(m => m.operation.target_image.as_str()),
                    &column!(m => m.job.as_uuid()),
                    &column!(_m => Uuid::now_v7()),
                    &column!(m => m.event.as_str()),
                    &column!(m => Json(&m.waits_for)),
                    &group.id.as_uuid(),
                    &group.kind.as_str(),
                    &group.watcher.agent,
                    &group.watcher.name,
                    &group.name,
                    &group.actor,
                    &group.request_id,
                    &traceparent,
                    &tracestate,
                    &group.batch.map(|batch| batch.as_uuid()),
                    &group.audit_details,
                    &group.idempotency.map(|(key, _)| key),
                    &group.idempotency.map(|(_, hash)| hash),
                    &column!(m => m.operation.from_version.as_deref()),
                    &column!(m => m.operation.to_version.as_deref()),
                    &column!(m => m.operation.compose_file.map(FileUse::as_str)),
                    &column!(m => m.audit_action),
                ],
            )
            .await?;
        Ok(())
    }

    /// An operation that is active for one of these containers, and the container's name.
    pub async fn active_among(
        &self,
        watcher: &WatcherRef,
        names: &[&str],
    ) -> Result<Option<(OperationId, String)>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(ACTIVE_AMONG).await?;
        let row = client
            .query_opt(&statement, &[&watcher.agent, &watcher.name, &names])
            .await?;
        Ok(row.map(|row| (OperationId::from_uuid(row.get(0)), row.get(1))))
    }

    pub async fn operation_group(&self, id: OperationGroupId) -> Result<Option<Group>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(GET).await?;
        let Some(row) = client.query_opt(&statement, &[&id.as_uuid()]).await? else {
            return Ok(None);
        };
        let kind: &str = row.get(0);
        Ok(Some(Group {
            id,
            kind: GroupKind::ALL
                .into_iter()
                .find(|known| known.as_str() == kind)
                .ok_or_else(|| StoreError::corrupt("kind of a group", kind))?,
            watcher: WatcherRef {
                agent: row.get(1),
                name: row.get(2),
            },
            name: row.get(3),
            created_at: row.get(4),
            members: update_operations::of_group(&client, id).await?,
        }))
    }

    /// The groups that one request asked for.
    pub async fn groups_of_batch(&self, batch: OperationGroupId) -> Result<Vec<Group>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(OF_BATCH).await?;
        let rows = client.query(&statement, &[&batch.as_uuid()]).await?;
        drop(client);
        let mut groups = Vec::with_capacity(rows.len());
        for row in rows {
            let id = OperationGroupId::from_uuid(row.get(0));
            groups.extend(self.operation_group(id).await?);
        }
        Ok(groups)
    }

    /// What the operation comes after, in its group's order; nothing where it has no group.
    pub async fn waited_for(&self, operation: OperationId) -> Result<Vec<Waited>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(WAITS).await?;
        let rows = client.query(&statement, &[&operation.as_uuid()]).await?;
        rows.iter()
            .map(|row| {
                let (condition, phase): (&str, &str) = (row.get(0), row.get(1));
                Ok(Waited {
                    condition: Condition::ALL
                        .into_iter()
                        .find(|known| known.as_str() == condition)
                        .ok_or_else(|| StoreError::corrupt("condition", condition))?,
                    phase: Phase::parse(phase)
                        .ok_or_else(|| StoreError::corrupt("operation phase", phase))?,
                    container_id: row.get(2),
                    container_name: row.get(3),
                    since: row.get(4),
                })
            })
            .collect()
    }

    /// Lets those that come after the operation look again at once.
    pub async fn hurry_followers(&self, operation: OperationId) -> Result<u64, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(HURRY).await?;
        Ok(client.execute(&statement, &[&operation.as_uuid()]).await?)
    }

    /// Forgets groups of more than `seconds` ago whose members are forgotten.
    pub async fn expire_groups(&self, seconds: f64) -> Result<u64, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(EXPIRE).await?;
        Ok(client.execute(&statement, &[&seconds]).await?)
    }
}
