//! Asking for a rollback to a kept backup (contract/drydock-container-api.md, "Rollback a
//! container").

use plimsoll_domain::{
    access::{Principal, Scope},
    ids::{BackupId, OperationId},
    operation::{OperationKind, Status},
};
use plimsoll_store::{backups::Backup, update_operations::Operation};

use crate::{App, AppError, requests::Caller, requests::Request};

impl App {
    /// Accepts a rollback of the container to `backup`, or to its most recent one. The target is
    /// the image that was stored, by digest and local id, so that a mutable tag really goes back.
    ///
    /// # Errors
    /// `Forbidden` when actions are off; `NotFound` in the order container, backup, trigger
    /// (reference/drydock.md 1.9); `Conflict` when an operation is active.
    pub async fn request_rollback(
        &self,
        container: &str,
        backup: Option<BackupId>,
        caller: &Caller<'_>,
    ) -> Result<(OperationId, Backup), AppError> {
        caller.authorise(Scope::ContainersRollback)?;
        self.container_actions_allowed()?;
        // First of all: by the time of a repetition the container may have another id.
        if let Some(repeated) = self.replayed_rollback(caller).await? {
            return Ok(repeated);
        }
        let entry = self.get_container(container).await?;
        let state = &entry.state;
        let backups = self.store().backups_of(&state.identity_key).await?;
        let chosen = match backup {
            Some(id) => backups.into_iter().find(|b| b.id == id).ok_or_else(|| {
                AppError::NotFound("Backup not found for this container".to_owned())
            })?,
            None => backups.into_iter().next().ok_or_else(|| {
                AppError::NotFound("No backups found for this container".to_owned())
            })?,
        };
        let trigger = self.trigger_name(state).await?;
        let target_image = format!("{}:{}", chosen.image_name, chosen.image_tag);
        let operation = self
            .accept(
                Request {
                    kind: OperationKind::Rollback,
                    state,
                    trigger_name: &trigger,
                    from_version: Some(&state.facts.image.tag.value),
                    to_version: Some(&chosen.image_tag),
                    target_image: &target_image,
                    target_digest: chosen.image_digest.as_deref(),
                    backup: Some(chosen.id),
                    compose_file: None,
                    rollback_reason: None,
                    audit_action: "rollback",
                },
                caller,
            )
            .await?;
        Ok((operation, chosen))
    }

    /// Undoes an operation: back to what its container ran before.
    ///
    /// # Errors
    /// `NotFound` operation, its container, or its backup, which is not kept for ever; `Conflict`
    /// for an operation that changed nothing; and those of [`App::request_rollback`].
    pub async fn request_rollback_of(
        &self,
        operation: OperationId,
        caller: &Caller<'_>,
    ) -> Result<(OperationId, Backup), AppError> {
        caller.authorise(Scope::ContainersRollback)?;
        self.container_actions_allowed()?;
        if let Some(repeated) = self.replayed_rollback(caller).await? {
            return Ok(repeated);
        }
        let past = self.get_operation(operation).await?;
        if past.kind.action().is_some() || past.phase.status() != Status::Succeeded {
            return Err(AppError::conflict(format!(
                "The operation is a {} that {}: there is nothing to go back from",
                past.kind,
                match past.phase.status() {
                    Status::InProgress => "has not ended yet",
                    Status::Succeeded => "made no new container",
                    Status::RolledBack | Status::Failed => "changed nothing for good",
                }
            )));
        }
        let snapshot = self.snapshot().await?;
        let entries = snapshot.inventory.entries();
        let entry = entries
            .iter()
            .find(|entry| entry.state.identity_key == past.identity)
            .ok_or_else(|| {
                AppError::NotFound(format!("Container not found: {}", past.container_name))
            })?;
        let backups = self.store().backups_of(&past.identity).await?;
        let backup = backups.iter().find(|backup| backup.operation == past.id);
        let backup = backup.ok_or_else(|| {
            AppError::NotFound("The backup of this operation is not kept any more".to_owned())
        })?;
        self.request_rollback(entry.id(), Some(backup.id), caller)
            .await
    }

    /// Goes back from an update that ended well and did not stay so (reliability.md H7). Its target
    /// is then blocked like one that never stood.
    ///
    /// # Errors
    /// `NotFound` when the container or the way back is gone; `Conflict` when an operation is
    /// active.
    pub async fn roll_back_regression(
        &self,
        update: &Operation,
        reason: &str,
    ) -> Result<OperationId, AppError> {
        let container = update.new_container_id.as_deref().unwrap_or_default();
        let entry = self.get_container(container).await?;
        let state = &entry.state;
        let backups = self.store().backups_of(&state.identity_key).await?;
        let backup = backups
            .into_iter()
            .find(|backup| backup.operation == update.id)
            .ok_or_else(|| AppError::NotFound("The update's backup is gone".to_owned()))?;
        let principal = Principal::plimsoll();
        let caller = Caller {
            principal: &principal,
            request_id: update.request_id.as_deref(),
            idempotency: None,
        };
        self.accept(
            Request {
                kind: OperationKind::Rollback,
                state,
                trigger_name: update.trigger_name.as_deref().unwrap_or_default(),
                from_version: Some(&state.facts.image.tag.value),
                to_version: Some(&backup.image_tag),
                target_image: &format!("{}:{}", backup.image_name, backup.image_tag),
                target_digest: backup.image_digest.as_deref(),
                backup: Some(backup.id),
                compose_file: None,
                rollback_reason: Some(reason),
                audit_action: "auto-rollback",
            },
            &caller,
        )
        .await
    }

    /// The rollback that an earlier request with the same key made, with the backup it went to.
    async fn replayed_rollback(
        &self,
        caller: &Caller<'_>,
    ) -> Result<Option<(OperationId, Backup)>, AppError> {
        let Some(id) = self.replayed(caller).await? else {
            return Ok(None);
        };
        let operation = self.store().operation(id).await?;
        let backup = match operation.and_then(|operation| operation.backup) {
            Some(backup) => self.store().backup(backup).await?,
            None => None,
        };
        // Retention may have let go of it since.
        let backup = backup
            .ok_or_else(|| AppError::NotFound("Backup not found for this container".to_owned()))?;
        Ok(Some((id, backup)))
    }
}
