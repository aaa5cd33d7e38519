//! Accepting an operation: everything that a 202 promises, in one statement and so in one
//! transaction and one round trip (DESIGN.md 3.5).

use deadpool_postgres::GenericClient;
use plimsoll_domain::{
    compose::FileUse,
    ids::{JobId, OperationId},
};
use tokio_postgres::types::Json;
use uuid::Uuid;

use crate::{
    Store, StoreError, jobs::trace, operation_inputs::OperationInput,
    update_operations::NewOperation,
};

/// The constraint that a taken idempotency key breaks.
pub const KEY_TAKEN: &str = "idempotency_keys_pkey";

statements! {
    /// A violation in any part undoes all of it: `update_operations_active` when the container has
    /// an active operation, `update_operations_removal` when a removal is at work on it,
    /// `idempotency_keys_pkey` when the key is taken.
    ACCEPT = "WITH operation AS (
            INSERT INTO update_operations (id, kind, agent, watcher, container_id, container_name,
                                           identity_key, trigger_name, from_version, to_version,
                                           target_image, target_digest, backup_id, actor, request_id,
                                           rollback_reason, compose_file, batch)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $23,
                    coalesce($26, (SELECT o.compose_file
                                     FROM backups b JOIN update_operations o ON o.id = b.operation_id
                                    WHERE b.id = $13 AND o.compose_file = 'edit')), $30)
        ), job AS (
            INSERT INTO jobs (id, kind, agent, watcher, spec, operation_id, traceparent, tracestate)
            VALUES ($16, 'operation', $3, $4,
                    jsonb_build_object('kind', 'operation', 'operation', $1::uuid), $1, $24, $25)
        ), trail AS (
            INSERT INTO audit (id, action, container_name, container_image, identity_key,
                               from_version, to_version, trigger_name, status, details, actor,
                               request_id, operation_id)
            VALUES ($17, $18, $6, $11, $7, $9, $10, $8, 'info', $19, $14, $15, $1)
        ), event AS (
            INSERT INTO events (type, payload) VALUES ('dd:update-operation-changed', $20)
        ), input AS (
            INSERT INTO operation_inputs (operation_id, script, labels, stop_grace)
            SELECT $1, $27::text, $28::jsonb, $29::integer
             WHERE num_nonnulls($27::text, $28::jsonb, $29::integer) > 0
        )
        INSERT INTO idempotency_keys (principal, key, request_hash, operation_id)
        SELECT $14, $21::text, $22::bytea, $1 WHERE $21::text IS NOT NULL";
    /// Many updates. A container that has an active operation, or that a removal is at work on, is
    /// left out, and the others are not kept from it.
    ACCEPT_MANY = "WITH asked AS (
            SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[],
                                 $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
                                 $11::uuid[], $12::uuid[], $13::text[], $14::text[])
                AS a (id, agent, watcher, container_id, container_name, identity_key,
                      trigger_name, from_version, to_version, target_image, job, entry, action,
                      event)
             WHERE NOT is_being_removed(agent, watcher, container_id, container_name)
        ), operation AS (
            INSERT INTO update_operations (id, kind, agent, watcher, container_id, container_name,
                                           identity_key, trigger_name, from_version, to_version,
                                           target_image, actor, request_id)
            SELECT id, 'update', agent, watcher, container_id, container_name, identity_key,
                   trigger_name, from_version, to_version, target_image, $15, $16
              FROM asked
                ON CONFLICT (agent, watcher, container_name) WHERE completed_at IS NULL DO NOTHING
            RETURNING id
        ), accepted AS (
            SELECT * FROM asked WHERE id IN (SELECT id FROM operation)
        ), job AS (
            INSERT INTO jobs (id, kind, agent, watcher, spec, operation_id, traceparent, tracestate)
            SELECT job, 'operation', agent, watcher,
                   jsonb_build_object('kind', 'operation', 'operation', id), id, $17, $18
              FROM accepted
        ), trail AS (
            INSERT INTO audit (id, action, container_name, container_image, identity_key,
                               from_version, to_version, trigger_name, status, actor, request_id,
                               operation_id)
            SELECT entry, action, container_name, target_image, identity_key, from_version,
                   to_version, trigger_name, 'info', $15, $16, id
              FROM accepted
        ), event AS (
            INSERT INTO events (type, payload)
            SELECT 'dd:update-operation-changed', event FROM accepted
        )
        SELECT id FROM operation";
}

/// An accepted operation and what is written with it.
#[derive(Clone, Debug)]
pub struct NewRequest<'a> {
    pub operation: &'a NewOperation,
    pub job: JobId,
    pub audit_action: &'a str,
    pub audit_details: Option<&'a str>,
    /// JSON of the event that tells clients about the new operation.
    pub event: &'a str,
    /// Key and SHA-256 of the request, scoped to the operation's actor.
    pub idempotency: Option<(&'a str, &'a [u8])>,
    pub input: OperationInput<'a>,
}

/// Makes many updates by one caller durable, in one round trip, and answers which were accepted.
/// The others have an active operation, or are being removed.
pub async fn accept_many(
    client: &impl GenericClient,
    requests: &[NewRequest<'_>],
) -> Result<Vec<OperationId>, StoreError> {
    let Some(first) = requests.first() else {
        return Ok(Vec::new());
    };
    macro_rules! column {
        ($request:ident => $value:expr) => {
            requests.iter().map(|$request| $value).collect::<Vec<_>>()
        };
    }
    let (traceparent, tracestate) = trace();
    let statement = client.prepare_cached(ACCEPT_MANY).await?;
    let rows = client
        .query(
            &statement,
            &[
                &column!(r => r.operation.id.as_uuid()),
                &column!(r => r.operation.watcher.agent.as_str()),
                &column!(r => r.operation.watcher.name.as_str()),
                &column!(r => r.operation.container.as_str()),
                &column!(r => r.operation.container_name.as_str()),
                &column!(r => r.operation.identity.as_str()),
                &column!(r => r.operation.trigger_name.as_deref()),
                &column!(r => r.operation.from_version.as_deref()),
                &column!(r => r.operation.to_version.as_deref()),
                &column!(r => r.operation.target_image.as_str()),
                &column!(r => r.job.as_uuid()),
                &column!(_r => Uuid::now_v7()),
                &column!(r => r.audit_action),
                &column!(r => r.event),
                &first.operation.actor,
                &first.operation.request_id,
                &traceparent,
                &tracestate,
            ],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| OperationId::from_uuid(row.get(0)))
        .collect())
}

impl Store {
    /// Makes the request durable, with the trace that we are in, or changes nothing.
    ///
    /// # Errors
    /// `Constraint` with [`update_operations::ACTIVE`](crate::update_operations::ACTIVE) when the
    /// container has an active operation, [`REMOVED`](crate::reservations::REMOVED) when a removal
    /// is at work on it, [`KEY_TAKEN`] when the idempotency key is taken.
    pub async fn accept_operation(&self, request: &NewRequest<'_>) -> Result<(), StoreError> {
        let client = self.client().await?;
        let (traceparent, tracestate) = trace();
        let statement = client.prepare_cached(ACCEPT).await?;
        let operation = request.operation;
        client
            .execute(
                &statement,
                &[
                    &operation.id.as_uuid(),
                    &operation.kind.as_str(),
                    &operation.watcher.agent,
                    &operation.watcher.name,
                    &operation.container.as_str(),
                    &operation.container_name,
                    &operation.identity.as_str(),
                    &operation.trigger_name,
                    &operation.from_version,
                    &operation.to_version,
                    &operation.target_image,
                    &operation.target_digest,
                    &operation.backup.map(|b| b.as_uuid()),
                    &operation.actor,
                    &operation.request_id,
                    &request.job.as_uuid(),
                    &Uuid::now_v7(),
                    &request.audit_action,
                    &request.audit_details,
                    &request.event,
                    &request.idempotency.map(|(key, _)| key),
                    &request.idempotency.map(|(_, hash)| hash),
                    &operation.rollback_reason,
                    &traceparent,
                    &tracestate,
                    &operation.compose_file.map(FileUse::as_str),
                    &request.input.script,
                    &request.input.labels.map(Json),
                    &request
                        .input
                        .stop_grace
                        .map(|grace| i32::from(grace.seconds())),
                    &request.input.batch.map(|batch| batch.as_uuid()),
                ],
            )
            .await?;
        Ok(())
    }
}
