//! Starting, stopping and restarting containers (contract/drydock-container-api.md).

use plimsoll_domain::{
    access::Scope, action::ContainerAction, ids::OperationId, operation::OperationKind,
    target::is_rollback_name,
};

use crate::{
    App, AppError,
    requests::{Caller, Request},
};

impl App {
    /// Accepts an action on the container. It is an operation like an update: durable, and the
    /// only one that works on the container.
    ///
    /// # Errors
    /// In this order (reference/drydock.md 1.9): `Forbidden` when actions are off, `NotFound`
    /// container, `NotFound` trigger; then `Conflict` for a temporary rollback container and while
    /// another operation is active.
    pub async fn request_action(
        &self,
        container: &str,
        action: ContainerAction,
        caller: &Caller<'_>,
    ) -> Result<OperationId, AppError> {
        caller.authorise(Scope::ContainersActions)?;
        if !self.settings().container_actions.is_enabled() {
            return Err(AppError::Forbidden(
                "Container actions are disabled".to_owned(),
            ));
        }
        if let Some(operation) = self.replayed(caller).await? {
            return Ok(operation);
        }
        let entry = self.get_container(container).await?;
        let state = &entry.state;
        let trigger = self.trigger_name(state).await?;
        if is_rollback_name(&state.facts.name) {
            return Err(AppError::conflict(format!(
                "Cannot {} temporary rollback container renamed with -old-{{timestamp}}",
                action.as_str()
            )));
        }
        let image = &state.facts.image;
        let shown = match image.repository() {
            Some(repository) => format!("{}:{}", repository.familiar_name(), image.tag.value),
            None => format!("{}:{}", image.name, image.tag.value),
        };
        self.accept(
            Request {
                kind: OperationKind::from(action),
                state,
                trigger_name: &trigger,
                from_version: None,
                to_version: None,
                target_image: &shown,
                target_digest: None,
                backup: None,
                rollback_reason: None,
                audit_action: action.audit_action(),
            },
            caller,
        )
        .await
    }
}
