//! Starting, stopping and restarting containers (contract/drydock-container-api.md).

use plimsoll_domain::{
    access::Scope,
    action::{ContainerAction, StopGrace},
    container::ContainerState,
    ids::{OperationGroupId, OperationId},
    operation::OperationKind,
    target::is_rollback_name,
};
use plimsoll_store::{operation_inputs::OperationInput, update_operations::NewOperation};

use crate::{
    App, AppError,
    requests::{Caller, Request},
    settings::Feature,
};

/// What is wanted of an action beyond the action itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WantedAction {
    /// Of a stop or restart; `None`: what the container was made with.
    pub stop_grace: Option<StopGrace>,
    /// The request for several containers at once, by which all of them are found.
    pub batch: Option<OperationGroupId>,
}

impl App {
    /// # Errors
    /// `Forbidden` where the operator has switched off what changes containers through the API.
    pub(crate) fn container_actions_allowed(&self) -> Result<(), AppError> {
        match self.settings().container_actions {
            Feature::Enabled => Ok(()),
            Feature::Disabled => Err(AppError::Forbidden(
                "Container actions are disabled".to_owned(),
            )),
        }
    }

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
        wanted: WantedAction,
        caller: &Caller<'_>,
    ) -> Result<OperationId, AppError> {
        caller.authorise(Scope::ContainersActions)?;
        self.container_actions_allowed()?;
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
        let image = shown_image(state);
        let request = request(state, action, &trigger, &image);
        let input = OperationInput {
            stop_grace: wanted.stop_grace,
            batch: wanted.batch,
            ..OperationInput::default()
        };
        self.accept_with(request, input, caller).await
    }
}

/// Name and tag, as a person reads them.
pub(crate) fn shown_image(state: &ContainerState) -> String {
    let image = &state.facts.image;
    match image.repository() {
        Some(repository) => format!("{}:{}", repository.familiar_name(), image.tag.value),
        None => format!("{}:{}", image.name, image.tag.value),
    }
}

pub(crate) fn request<'a>(
    state: &'a ContainerState,
    action: ContainerAction,
    trigger: &'a str,
    image: &'a str,
) -> Request<'a> {
    Request {
        kind: OperationKind::from(action),
        state,
        trigger_name: trigger,
        from_version: None,
        to_version: None,
        target_image: image,
        target_digest: None,
        backup: None,
        compose_file: None,
        rollback_reason: None,
        audit_action: action.audit_action(),
    }
}

/// An action that is written together with others.
pub(crate) fn action_request(
    state: &ContainerState,
    action: ContainerAction,
    trigger: &str,
    caller: &Caller<'_>,
) -> NewOperation {
    request(state, action, trigger, &shown_image(state)).operation(caller)
}
