//! Asking for an update (contract/drydock-container-api.md, "Update a container").

use chrono::Utc;
use plimsoll_domain::{
    access::Scope,
    container::ContainerState,
    eligibility::{self, AdmissionFacts, Blocker, BlockerReason, UpdateTrigger},
    ids::OperationId,
    operation::OperationKind,
    target::{UpdateTarget, update_target},
    trigger::Threshold,
};

use plimsoll_store::components::ComponentKind;
use serde_json::json;

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
        let trigger = self.find_docker_trigger(state).await?;
        let target = match self.admit_update(state, trigger.as_ref()) {
            Ok(target) => target,
            // What stands in the way may be what the same request made through another replica a
            // moment ago.
            Err(refusal) => return self.replayed(caller).await?.ok_or(refusal),
        };
        let trigger_name = trigger.map(|t| format!("{}.{}", t.kind, t.name));
        let target_image = target.familiar();
        self.accept(
            Request {
                kind: OperationKind::Update,
                state,
                trigger_name: trigger_name.as_deref().unwrap_or_default(),
                from_version: &target.from_version,
                to_version: &target.to_version,
                target_image: &target_image,
                target_digest: None,
                backup: None,
                rollback_reason: None,
                audit_action: origin.audit_action(),
            },
            caller,
        )
        .await
    }

    /// The name of the docker trigger that updates the container.
    pub(crate) async fn docker_trigger(&self, state: &ContainerState) -> Result<String, AppError> {
        match self.find_docker_trigger(state).await? {
            Some(trigger) => Ok(format!("{}.{}", trigger.kind, trigger.name)),
            None => Err(AppError::NotFound(NO_TRIGGER.to_owned())),
        }
    }

    /// The first docker trigger of the container's agent.
    async fn find_docker_trigger(
        &self,
        state: &ContainerState,
    ) -> Result<Option<UpdateTrigger>, AppError> {
        let agent = &state.facts.watcher.agent;
        let triggers = self.store().components(ComponentKind::Trigger).await?;
        let found = triggers
            .into_iter()
            .find(|trigger| trigger.type_ == "docker" && trigger.agent == *agent);
        if let Some(dry) = found.as_ref().filter(|t| t.configuration["dryrun"] == true) {
            return Err(AppError::conflict(format!(
                "The trigger docker.{} is a dry run: no container is changed; ask for a preview \
                 instead",
                dry.name
            )));
        }
        Ok(found.map(|trigger| UpdateTrigger {
            threshold: trigger.configuration["threshold"]
                .as_str()
                .and_then(|text| text.parse().ok())
                .unwrap_or(Threshold::ALL),
            kind: trigger.type_,
            name: trigger.name,
        }))
    }

    /// The update's target, unless something stands in the way: the first hard blocker is the
    /// answer. What only holds back automatic updates (a threshold) does not stop a person; what
    /// makes the update unavailable (snooze, skip, maturity) does, as the contract says.
    fn admit_update(
        &self,
        state: &ContainerState,
        trigger: Option<&UpdateTrigger>,
    ) -> Result<UpdateTarget, AppError> {
        let now = Utc::now();
        let admission = AdmissionFacts {
            actions_enabled: self.settings().container_actions.is_enabled(),
            trigger: trigger.cloned(),
        };
        let target = update_target(state, &self.settings().view_context().maturity, now);
        if let Some(blocker) = eligibility::evaluate(state, &admission, now).first_hard() {
            return Err(refusal(blocker, state));
        }
        target.ok_or_else(|| AppError::Invalid("No update available for this container".to_owned()))
    }
}

const NO_TRIGGER: &str = "No docker trigger found for this container";

fn refusal(blocker: &Blocker, state: &ContainerState) -> AppError {
    let message = blocker.message.to_string();
    match blocker.reason {
        BlockerReason::ActionsDisabled => AppError::Forbidden(message),
        BlockerReason::NoUpdateAvailable => AppError::Invalid(message),
        BlockerReason::NoUpdateTriggerConfigured => AppError::NotFound(message),
        BlockerReason::ActiveOperation => AppError::Conflict {
            message,
            details: state
                .operation
                .as_ref()
                .map(|active| json!({ "operationId": active.id.to_string() })),
        },
        _ => AppError::Conflict {
            message,
            details: Some(json!({ "blockers": [blocker] })),
        },
    }
}
