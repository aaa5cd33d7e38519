//! Asking for a rollback to a kept backup (contract/drydock-container-api.md, "Rollback a
//! container").

use plimsoll_domain::{
    access::Scope,
    ids::{BackupId, OperationId},
    operation::OperationKind,
};
use plimsoll_store::backups::Backup;

use crate::{App, AppError, requests::Caller, requests::Request};

impl App {
    /// Accepts a rollback of the container to `backup`, or to its most recent one. The target is
    /// the image that was stored, by digest and local id, so that a mutable tag really goes back.
    ///
    /// # Errors
    /// `NotFound` in the order container, backup, trigger (reference/drydock.md 1.9); `Conflict`
    /// when an operation is active.
    pub async fn request_rollback(
        &self,
        container: &str,
        backup: Option<BackupId>,
        caller: &Caller<'_>,
    ) -> Result<(OperationId, Backup), AppError> {
        caller.authorise(Scope::ContainersRollback)?;
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
        let trigger = self.docker_trigger(state).await?;
        if let Some(operation) = self.replayed(caller).await? {
            return Ok((operation, chosen));
        }
        let target_image = format!("{}:{}", chosen.image_name, chosen.image_tag);
        let operation = self
            .accept(
                Request {
                    kind: OperationKind::Rollback,
                    state,
                    trigger_name: &trigger,
                    from_version: &state.facts.image.tag.value,
                    to_version: &chosen.image_tag,
                    target_image: &target_image,
                    target_digest: chosen.image_digest.as_deref(),
                    backup: Some(chosen.id),
                    audit_action: "rollback",
                },
                caller,
            )
            .await?;
        Ok((operation, chosen))
    }
}
