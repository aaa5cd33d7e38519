//! Operations on containers that Plimsoll's own workers run in (reliability.md U1), and the clients
//! that acknowledge them (contract/drydock-app-api.md, "Self-update acknowledgment").

use std::time::Duration;

use chrono::{DateTime, Utc};
use plimsoll_domain::{
    ids::{ClientId, OperationId},
    operation::Phase,
};
use uuid::Uuid;

use crate::{Store, StoreError, jobs::Lease};

statements! {
    /// Marks the operation once, binds the clients to it, and tells of it, with the same breath.
    BEGIN = "WITH begun AS (
                 UPDATE update_operations SET exclusive = true, updated_at = now()
                  WHERE id = $1 AND completed_at IS NULL AND NOT exclusive
                    AND EXISTS (SELECT 1 FROM jobs
                                 WHERE id = $2 AND lease_owner = $3 AND lease_epoch = $4
                                   AND state = 'running')
                 RETURNING id),
             bound AS (
                 INSERT INTO self_update_acks (operation_id, client_id, proof, expires_at)
                 SELECT begun.id, client.id, client.proof, now() + make_interval(secs => $8)
                   FROM begun, unnest($6::uuid[], $7::bytea[]) AS client (id, proof)
                     ON CONFLICT DO NOTHING)
             INSERT INTO events (type, payload) SELECT 'dd:self-update', $5 FROM begun";
    /// Whether somebody's answer is still to come.
    AWAITED = "SELECT EXISTS (SELECT 1 FROM self_update_acks
                               WHERE operation_id = $1 AND acked_at IS NULL AND expires_at > now())";
    ACKNOWLEDGE = "WITH acked AS (
                       UPDATE self_update_acks SET acked_at = coalesce(acked_at, now())
                        WHERE operation_id = $1 AND client_id = $2 AND proof = $3
                          AND expires_at > now()
                       RETURNING 1)
                   SELECT EXISTS (SELECT 1 FROM acked),
                          EXISTS (SELECT 1 FROM self_update_acks
                                   WHERE operation_id = $1 AND expires_at > now())";
    GET = "SELECT phase, completed_at FROM update_operations WHERE id = $1 AND exclusive";
}

/// One who follows the events, and may acknowledge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    pub id: ClientId,
    /// What its token and its credential hash to.
    pub proof: [u8; 32],
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledgment {
    Accepted,
    /// Nobody waits for one: the operation is unknown or has gone on.
    Ignored,
    /// It is not that client's, or that client is not asked.
    Rejected,
}

/// How an operation on Plimsoll's own container stands.
#[derive(Clone, Copy, Debug)]
pub struct SelfUpdate {
    pub phase: Phase,
    pub completed_at: Option<DateTime<Utc>>,
}

impl Store {
    /// Gives the operation its engine to itself, and tells clients by `event` (the payload of
    /// `dd:self-update`), of whom `asked` have `within` to answer. Only the first call does
    /// anything; whether this was it.
    pub async fn begin_self_update(
        &self,
        lease: &Lease,
        operation: OperationId,
        event: &str,
        asked: &[Client],
        within: Duration,
    ) -> Result<bool, StoreError> {
        let ids: Vec<Uuid> = asked.iter().map(|client| client.id.as_uuid()).collect();
        let proofs: Vec<&[u8]> = asked.iter().map(|client| &client.proof[..]).collect();
        let client = self.client().await?;
        let statement = client.prepare_cached(BEGIN).await?;
        let told = client
            .execute(
                &statement,
                &[
                    &operation.as_uuid(),
                    &lease.job.as_uuid(),
                    &lease.owner,
                    &lease.epoch,
                    &event,
                    &ids,
                    &proofs,
                    &within.as_secs_f64(),
                ],
            )
            .await?;
        Ok(told > 0)
    }

    /// Whether a client that was asked has still time to answer and has not.
    pub async fn awaits_acknowledgment(&self, operation: OperationId) -> Result<bool, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(AWAITED).await?;
        let row = client
            .query_one(&statement, &[&operation.as_uuid()])
            .await?;
        Ok(row.get(0))
    }

    /// Writes the answer of a client. Repeating it changes nothing.
    pub async fn acknowledge_self_update(
        &self,
        operation: OperationId,
        by: &Client,
    ) -> Result<Acknowledgment, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(ACKNOWLEDGE).await?;
        let proof: &[u8] = &by.proof;
        let row = client
            .query_one(
                &statement,
                &[&operation.as_uuid(), &by.id.as_uuid(), &proof],
            )
            .await?;
        Ok(match (row.get(0), row.get(1)) {
            (true, _) => Acknowledgment::Accepted,
            (false, true) => Acknowledgment::Rejected,
            (false, false) => Acknowledgment::Ignored,
        })
    }

    /// An operation that has its engine to itself; `None` where it is another kind, or unknown.
    pub async fn self_update(
        &self,
        operation: OperationId,
    ) -> Result<Option<SelfUpdate>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(GET).await?;
        let row = client
            .query_opt(&statement, &[&operation.as_uuid()])
            .await?;
        row.map(|row| {
            let phase: &str = row.get(0);
            Ok(SelfUpdate {
                phase: Phase::parse(phase)
                    .ok_or_else(|| StoreError::corrupt("operation phase", phase))?,
                completed_at: row.get(1),
            })
        })
        .transpose()
    }
}
