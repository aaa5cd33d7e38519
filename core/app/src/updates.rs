//! Asking for an update (contract/drydock-container-api.md, "Update a container").

use chrono::Utc;
use plimsoll_domain::{
    access::Scope,
    container::ContainerState,
    ids::OperationId,
    operation::OperationKind,
    target::{UpdateTarget, is_rollback_name, update_target},
};

use plimsoll_store::components::ComponentKind;

use crate::{App, AppError, requests::Caller, requests::Request};

/// Who asked on the user's behalf: decides what is checked and what the audit trail says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateOrigin {
    /// `POST /containers/{id}/update`
    Container,
    /// `POST /webhook/update/{name}`
    Webhook,
}

impl UpdateOrigin {
    const fn audit_action(self) -> &'static str {
        match self {
            Self::Container => "container-update",
            Self::Webhook => "webhook-update",
        }
    }
}

impl App {
    /// Accepts an update of the container to the candidate that the last watch found. Returns the
    /// operation, which is durable and will run whatever happens to this process.
    ///
    /// # Errors
    /// In this order (reference/drydock.md 1.9): `Forbidden` when actions are off, `NotFound`,
    /// `Invalid` without an available update, `Conflict` for a temporary rollback container, a
    /// target that was rolled back or an active operation, `NotFound` without a docker trigger.
    pub async fn request_update(
        &self,
        container: &str,
        origin: UpdateOrigin,
        caller: &Caller<'_>,
    ) -> Result<OperationId, AppError> {
        caller.authorise(Scope::ContainersUpdate)?;
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
        let target = self.admit_update(state)?;
        let trigger = self.docker_trigger(state).await?;
        let target_image = target.familiar();
        self.accept(
            Request {
                kind: OperationKind::Update,
                state,
                trigger_name: &trigger,
                from_version: &target.from_version,
                to_version: &target.to_version,
                target_image: &target_image,
                target_digest: None,
                backup: None,
                audit_action: origin.audit_action(),
            },
            caller,
        )
        .await
    }

    /// The docker trigger that updates the container: the first one of its agent.
    pub(crate) async fn docker_trigger(&self, state: &ContainerState) -> Result<String, AppError> {
        let agent = &state.facts.watcher.agent;
        self.store()
            .components(ComponentKind::Trigger)
            .await?
            .into_iter()
            .find(|trigger| trigger.type_ == "docker" && trigger.agent == *agent)
            .map(|trigger| format!("docker.{}", trigger.name))
            .ok_or_else(|| {
                AppError::NotFound("No docker trigger found for this container".to_owned())
            })
    }

    fn admit_update(&self, state: &ContainerState) -> Result<UpdateTarget, AppError> {
        let target = update_target(state, &self.settings().view_context().maturity, Utc::now())
            .ok_or_else(|| {
                AppError::Invalid("No update available for this container".to_owned())
            })?;
        if is_rollback_name(&state.facts.name) {
            return Err(AppError::conflict(
                "Cannot update temporary rollback container renamed with -old-{timestamp}",
            ));
        }
        Ok(target)
    }
}
