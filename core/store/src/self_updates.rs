//! Operations on containers that Plimsoll's own workers run in (reliability.md U1).

use plimsoll_domain::ids::OperationId;

use crate::{Store, StoreError, jobs::Lease};

statements! {
    /// Marks the operation once, and tells of it with the same breath.
    BEGIN = "WITH begun AS (
                 UPDATE update_operations SET exclusive = true, updated_at = now()
                  WHERE id = $1 AND completed_at IS NULL AND NOT exclusive
                    AND EXISTS (SELECT 1 FROM jobs
                                 WHERE id = $2 AND lease_owner = $3 AND lease_epoch = $4
                                   AND state = 'running')
                 RETURNING id)
             INSERT INTO events (type, payload) SELECT 'dd:self-update', $5 FROM begun";
}

impl Store {
    /// Gives the operation its engine to itself, and tells clients by `event` (the payload of
    /// `dd:self-update`). Only the first call does anything; whether this was it.
    pub async fn begin_self_update(
        &self,
        lease: &Lease,
        operation: OperationId,
        event: &str,
    ) -> Result<bool, StoreError> {
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
                ],
            )
            .await?;
        Ok(told > 0)
    }
}
